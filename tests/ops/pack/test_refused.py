"""Checkpoints that cannot be packed: configurations, files and tensors, each with an error that says what and where."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from kgen.errors import MissingPieceError, PackError
from kgen.ops.pack.checkpoint import pack_checkpoint
from kgen.ops.pack.config import read_quantisation
from kgen.ops.pack.files import TensorFiles
from kgen.ops.pack.plan import Options
from tests.ops.pack.checkpoints import CONFIGS, NAMES, SCHEME, dense_model, write, write_kind

AWQ, GPTQ, COMPRESSED = CONFIGS["awq"], CONFIGS["gptq"], CONFIGS["compressed-tensors"]


def scheme(**weights: object) -> dict:
    return {**COMPRESSED, "config_groups": {"group_0": {**SCHEME, "weights": {**SCHEME["weights"], **weights}}}}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**AWQ, "bits": 8}, "bits  8\n.*allowed: 4"),
        ({**AWQ, "group_size": -1}, "group_size  -1\n.*32, 64 or 128"),
        ({**AWQ, "group_size": 256}, "group_size  256"),
        ({**AWQ, "version": "gemv"}, "version  gemv"),
        ({**AWQ, "version": "gemv_fast"}, "version  gemv_fast"),
        ({**GPTQ, "bits": 3}, "bits  3"),
        ({**GPTQ, "checkpoint_format": "marlin"}, "checkpoint_format  marlin"),
        ({**GPTQ, "is_marlin_format": True}, "checkpoint_format  marlin"),
        ({"quant_method": "gptq"}, "bits  None"),
        (
            {"quant_method": "bitsandbytes", "load_in_8bit": True},
            r"load_in_8bit: LLM.int8\(\)\n.*allowed: load_in_4bit",
        ),
        ({"quant_method": "bitsandbytes"}, "no load_in_4bit"),
        ({"quant_method": "quanto", "bits": 4}, "quant_method  quanto\n.*awq, gptq, compressed-tensors, bitsandbytes"),
        ({"quant_method": "auto-round", "bits": 4}, "quant_method  auto-round"),
        ({**COMPRESSED, "format": "nvfp4-pack-quantized"}, "format  nvfp4-pack-quantized"),
        ({**COMPRESSED, "config_groups": None}, "format  pack-quantized"),
        (scheme(num_bits=8), "group_0, weights  8 bits"),
        (scheme(type="float"), "float"),
        (scheme(strategy="channel", group_size=None), "strategy channel"),
        (scheme(group_size=16), "group_size 16"),
        (
            {**COMPRESSED, "config_groups": {"g": {**SCHEME, "input_activations": {"num_bits": 8}}}},
            "g, input_activations  quantised",
        ),
        ({**COMPRESSED, "transform_config": {"config_groups": {"R1": {}}}}, "transform_config  present"),
        ({**COMPRESSED, "sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config  present"),
    ],
)
def test_configurations_that_the_kernels_cannot_follow(tmp_path: Path, config: dict, words: str):
    write(tmp_path / "in", {"x": torch.ones(1)}, config)
    with pytest.raises(PackError, match=words):
        read_quantisation(tmp_path / "in")


@pytest.mark.parametrize(
    "config",
    [
        {**COMPRESSED, "transform_config": {}},
        {**COMPRESSED, "sparsity_config": {"format": "dense", "ignore": []}},
        {**COMPRESSED, "format": "mixed-precision", "config_groups": {"a": {**SCHEME, "format": "pack-quantized"}}},
        {**GPTQ, "quant_method": None, "method": "GPTQ"},
        {**AWQ, "version": None, "checkpoint_format": "gemm"},
    ],
)
def test_configurations_that_say_the_same_in_other_words(tmp_path: Path, config: dict):
    write(tmp_path / "in", {"x": torch.ones(1)}, config)
    assert read_quantisation(tmp_path / "in").groups == (128,)


def test_a_model_that_is_not_quantised(tmp_path: Path):
    source = write(tmp_path / "in", {"x": torch.ones(1)}, None)
    with pytest.raises(PackError, match=r"(?s)is not quantised.*quantize_config.json, quant_config.json"):
        pack_checkpoint(source, tmp_path / "out")
    source = write(tmp_path / "named", {"x": torch.ones(1)}, AWQ)
    with pytest.raises(PackError, match=r"no tensor is called \*\.qweight, though config.json says awq"):
        pack_checkpoint(source, tmp_path / "out")


@pytest.mark.parametrize("text", ["", "{", "[]", "\ud800"])
def test_a_configuration_that_is_no_json_object(tmp_path: Path, text: str):
    source = write_kind(tmp_path / "in", "awq")
    (source / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(PackError, match=r"config\.json cannot be read"):
        pack_checkpoint(source, tmp_path / "out")


def test_folders_without_a_model(tmp_path: Path):
    with pytest.raises(PackError, match=r"(?s)none is no checkpoint.*nothing.*a folder"):
        pack_checkpoint(tmp_path / "none", tmp_path / "out")
    with pytest.raises(PackError, match="no such folder"):
        TensorFiles(tmp_path / "none")
    source = write_kind(tmp_path / "in", "awq")
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(PackError, match=r"(?s)none; pytorch_model.bin.*a checkpoint in safetensors"):
        pack_checkpoint(source, tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 0.5, -1])
def test_a_truncated_file_is_named(tmp_path: Path, keep: float):
    source = write_kind(tmp_path / "in", "awq", shards=2)
    path = source / "model-00002-of-00002.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if 0 < keep < 1 else keep])
    with pytest.raises(PackError, match=r"model-00002-of-00002.safetensors cannot be read"):
        pack_checkpoint(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_of_something_else(tmp_path: Path):
    source = write_kind(tmp_path / "in", "awq")
    (source / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(PackError, match="a whole safetensors file"):
        pack_checkpoint(source, tmp_path / "out")


def test_an_index_that_does_not_agree_with_the_files(tmp_path: Path):
    source = write_kind(tmp_path / "in", "awq", shards=2)
    path = source / "model.safetensors.index.json"
    index = json.loads(path.read_text())

    def packing(weight_map: object, words: str) -> None:
        path.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(PackError, match=words):
            pack_checkpoint(source, tmp_path / "out")

    first = index["weight_map"]
    packing({**first, "ghost": "model-00001-of-00002.safetensors"}, "ghost  in no file")
    packing({**first, NAMES[0] + ".qweight": "model-00009-of-00002.safetensors"}, "named by the index, and missing")
    packing({**first, "x": "../secret.safetensors"}, "names no files of this folder")
    packing(None, "weight_map  missing")
    (source / "model-00002-of-00002.safetensors").unlink()
    packing(first, r"model-00002-of-00002.safetensors cannot be read")


def test_one_tensor_in_two_files(tmp_path: Path):
    source = write_kind(tmp_path / "in", "awq")
    (source / "model-copy.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    with pytest.raises(PackError, match=r"is in model-copy.safetensors and in model.safetensors"):
        pack_checkpoint(source, tmp_path / "out")


@pytest.mark.parametrize(("kind", "key"), [
    ("awq", "qzeros"), ("awq", "scales"), ("gptq", "qzeros"), ("compressed-tensors", "weight_scale"),
])  # fmt: skip
def test_a_layer_that_lacks_a_tensor(tmp_path: Path, kind: str, key: str):
    tensors = dense_model(kind)
    del tensors[f"{NAMES[1]}.{key}"]
    with pytest.raises(PackError, match=rf"{NAMES[1]}  no {key}"):
        pack_checkpoint(write(tmp_path / "in", tensors, CONFIGS[kind]), tmp_path / "out")


@pytest.mark.parametrize(("kind", "key", "tensor", "words"), [
    ("awq", "qzeros", torch.zeros(8, 1, dtype=torch.int32), r"qzeros  int32 \[8, 1\]"),
    ("awq", "scales", torch.zeros(4, 16, dtype=torch.float16), "4 scales per row: group 256.*config.json says 128"),
    ("awq", "scales", torch.zeros(16, 16, dtype=torch.float16), "group 64"),  # config.json says 128
    ("awq", "scales", torch.zeros(8, 16), r"scales  float32 \[8, 16\]"),
    ("awq", "qweight", torch.zeros(1024, 2), "qweight F32"),
    ("gptq", "qweight", torch.zeros(256, 16, dtype=torch.int32), "K = 2048 at 4 bits, 8 scales per row: group 256"),
    ("compressed-tensors", "weight_shape", torch.tensor([16, 512]), r"weight_shape  \[16, 512\]"),
    ("compressed-tensors", "weight_packed", torch.zeros(16, 512, dtype=torch.uint8), "weight_packed U8"),
    ("compressed-tensors", "weight_zero_point", torch.zeros(16, 8, dtype=torch.int8), "weight_zero_point  int8"),
])  # fmt: skip
def test_a_layer_of_wrong_shapes_is_named(tmp_path: Path, kind: str, key: str, tensor: torch.Tensor, words: str):
    tensors = {**dense_model(kind), f"{NAMES[2]}.{key}": tensor}
    with pytest.raises(PackError, match=f"(?s){NAMES[2]}.*{words}"):
        pack_checkpoint(write(tmp_path / "in", tensors, CONFIGS[kind]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_modules_with_settings_of_their_own_may_have_another_group(tmp_path: Path):
    tensors = {**dense_model("gptq"), f"{NAMES[2]}.scales": torch.ones(16, 16, dtype=torch.float16)}
    tensors[f"{NAMES[2]}.qzeros"] = torch.full((16, 2), 0x77777777, dtype=torch.int32)
    tensors[f"{NAMES[2]}.g_idx"] = torch.arange(1024, dtype=torch.int32) // 64
    config = {**GPTQ, "dynamic": {"+:.*q_proj": {"group_size": 64}}}
    done = pack_checkpoint(write(tmp_path / "in", tensors, config), tmp_path / "out")
    assert [done.layers[name]["group"] for name in NAMES] == [128, 128, 64]


def test_activation_order_without_its_index_is_refused(tmp_path: Path):
    tensors = {name: tensor for name, tensor in dense_model("gptq").items() if not name.endswith("g_idx")}
    source = write(tmp_path / "in", tensors, {**GPTQ, "desc_act": True})
    with pytest.raises(PackError, match="no g_idx, though desc_act is set"):
        pack_checkpoint(source, tmp_path / "out")


def test_desc_act_with_an_index_in_order_is_no_activation_order(tmp_path: Path):
    source = write(tmp_path / "in", dense_model("gptq"), {**GPTQ, "desc_act": True})
    assert len(pack_checkpoint(source, tmp_path / "out").layers) == 3


def test_a_stored_15_is_refused_and_may_be_explained(tmp_path: Path):
    tensors = dense_model("gptq")
    tensors[f"{NAMES[0]}.qzeros"][3, 1] = 0x777777F7
    source = write(tmp_path / "in", tensors, GPTQ)
    with pytest.raises(PackError, match=f"(?s){NAMES[0]}.*stored as 15"):
        pack_checkpoint(source, tmp_path / "out")
    pack_checkpoint(source, tmp_path / "out", Options(wrap="word"))
    with pytest.raises(PackError, match="wrap  other"):
        Options(wrap="other")  # type: ignore[arg-type]


def test_many_problems_are_counted_and_some_are_shown(tmp_path: Path):
    tensors = {f"layer.{i}.qweight": torch.zeros(128, 2, dtype=torch.int32) for i in range(30)}
    with pytest.raises(PackError, match="18 more like these") as caught:
        pack_checkpoint(write(tmp_path / "in", tensors, AWQ), tmp_path / "out")
    assert len(caught.value.problems) == 12


def test_names_that_would_meet_are_refused(tmp_path: Path):
    tensors = {**dense_model("awq"), f"{NAMES[0]}.w4_weight": torch.ones(1)}
    with pytest.raises(PackError, match="names that meet"):
        pack_checkpoint(write(tmp_path / "in", tensors, AWQ), tmp_path / "out")


def test_without_safetensors_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = write_kind(tmp_path / "in", "awq")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingPieceError, match=r'pip install "kgen\[pack\]"'):
        pack_checkpoint(source, tmp_path / "out")
