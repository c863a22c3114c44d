"""Folders: what is packed, copied and written, from every format, in one file and in several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kgen.errors import MissingPieceError, PackError
from kgen.ops.pack import dequantise
from kgen.ops.pack.checkpoint import pack_checkpoint, plan_pack
from kgen.ops.pack.load import KEY, PackedFolder, load_packed, packed_layers
from kgen.ops.pack.plan import Options
from kgen.ops.pack.verify import check_packed
from tests.ops.pack import naive
from tests.ops.pack.checkpoints import (
    CONFIGS,
    NAMES,
    PLAIN,
    dense_model,
    make_layer,
    moe_config,
    moe_model,
    write,
    write_kind,
)
from tests.ops.pack.layers import Sizes

KINDS = sorted(CONFIGS)


def numbers(kind: str, tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """A layer as its format defines it, in fp64."""
    layer = {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
    if kind == "awq":
        return naive.awq(layer["qweight"], layer["qzeros"], layer["scales"])
    if kind == "compressed-tensors":
        return naive.compressed_tensors(layer["weight_packed"], layer["weight_scale"], layer.get("weight_zero_point"))
    zeros, more = layer["qzeros"].tolist(), 1 if kind == "gptq" else 0
    return naive.gptq(layer["qweight"], layer["scales"], lambda g, m: naive.nibble(zeros[g][m // 8], m % 8) + more)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_packed_exactly_and_the_rest_is_copied(tmp_path: Path, kind: str, shards: int):
    source, out = write_kind(tmp_path / "in", kind, shards), tmp_path / "out"
    done = pack_checkpoint(source, out)
    tensors = dense_model(kind)
    found = dict(packed_layers(out))
    assert sorted(found) == sorted(NAMES) == sorted(done.layers)
    for name, packed in found.items():
        assert torch.equal(dequantise(packed, torch.float64), numbers(kind, tensors, name))
        assert packed.row_stride == 160
    assert [found[name].symmetric for name in NAMES] == [False, True, False]
    written = {name: tensor for path in out.glob("*.safetensors") for name, tensor in load_file(path).items()}
    others = {name: tensor for name, tensor in written.items() if ".w4_" not in name}
    assert others.keys() == PLAIN.keys()
    assert all(torch.equal(bits(others[name]), bits(tensor)) for name, tensor in PLAIN.items())
    assert check_packed(source, out) == (3, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_says_what_it_holds(tmp_path: Path, kind: str):
    source, out = write_kind(tmp_path / "in", kind), tmp_path / "out"
    pack_checkpoint(source, out)
    config = json.loads((out / "config.json").read_text())
    assert config["hidden_size"] == 64
    said = config["quantization_config"]
    assert (said["quant_method"], said["version"], said["bits"]) == ("kgen-w4", 1, 4)
    assert said["source"] == CONFIGS[kind]
    assert (out / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    index = json.loads((out / "model.safetensors.index.json").read_text())
    for name, file in index["weight_map"].items():
        with safe_open(out / file, framework="pt") as handle:
            assert name in handle.keys()  # noqa: SIM118
            described = json.loads(handle.metadata()[KEY])
    assert described["version"] == 1
    assert described["source"] == kind.removesuffix("_v2")
    entry = {"M": 16, "K": 1024, "group": 128, "row_stride": 160, "symmetric": True, "E": None}
    assert described["layers"][NAMES[1]] == entry
    assert f"{NAMES[1]}.w4_zeros" not in index["weight_map"]


def test_rows_stay_dense_where_no_padding_is_wanted(tmp_path: Path):
    source, out = write_kind(tmp_path / "in", "awq"), tmp_path / "out"
    pack_checkpoint(source, out, Options(pad=False))
    assert load_packed(out, NAMES[0]).row_stride == 128
    assert check_packed(source, out) == (3, 4)


def test_files_are_cut_at_the_size_that_is_asked_for(tmp_path: Path):
    source, out = write_kind(tmp_path / "in", "gptq"), tmp_path / "out"
    done = pack_checkpoint(source, out, Options(shard_bytes=15_000))
    files = sorted(path.name for path in out.glob("*.safetensors"))
    assert files == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert len(dict(packed_layers(out))) == 3
    assert done.bytes == sum(t.nbytes for path in out.glob("*.safetensors") for t in load_file(path).values())
    assert check_packed(source, out) == (3, 4)


def test_files_are_as_readable_as_any_that_are_made(tmp_path: Path):
    out = tmp_path / "out"
    pack_checkpoint(write_kind(tmp_path / "in", "awq"), out)
    assert len({path.stat().st_mode for path in out.iterdir()}) == 1


def test_progress_counts_bytes_to_the_end(tmp_path: Path):
    steps: list[tuple[int, int, str]] = []
    pack_checkpoint(write_kind(tmp_path / "in", "awq"), tmp_path / "out", progress=lambda *step: steps.append(step))
    assert [step[0] for step in steps] == sorted(step[0] for step in steps)
    assert steps[-1][0] == steps[-1][1]
    assert {name for _, _, name in steps} == {*NAMES, *PLAIN}


@pytest.mark.parametrize(("file", "config"), [
    ("quantize_config.json", {"bits": 4, "group_size": 128, "desc_act": False, "sym": True}),
    ("quant_config.json", {"w_bit": 4, "q_group_size": 128, "zero_point": True, "version": "GEMM"}),
])  # fmt: skip
def test_configurations_of_older_versions_are_read_and_not_passed_on(tmp_path: Path, file: str, config: dict):
    kind = "gptq" if file == "quantize_config.json" else "awq"
    source, out = write(tmp_path / "in", dense_model(kind), None), tmp_path / "out"
    (source / file).write_text(json.dumps(config))
    (source / "model.safetensors").rename(source / "gptq_model-4bit-128g.safetensors")
    pack_checkpoint(source, out)
    assert not (out / file).exists()
    assert json.loads((out / "config.json").read_text())["quantization_config"]["source"] == config
    assert check_packed(source, out) == (3, 4)


def test_a_configuration_inside_text_config_is_read_and_taken_out(tmp_path: Path):
    source, out = write(tmp_path / "in", dense_model("awq"), None), tmp_path / "out"
    config = {"text_config": {"hidden_size": 1, "quantization_config": CONFIGS["awq"]}}
    (source / "config.json").write_text(json.dumps(config))
    pack_checkpoint(source, out)
    assert json.loads((out / "config.json").read_text())["text_config"] == {"hidden_size": 1}


def test_layers_of_another_scheme_are_copied(tmp_path: Path):
    tensors = dense_model("compressed-tensors")
    tensors |= {"lm_head.weight": torch.ones(8, 8, dtype=torch.int8), "lm_head.weight_scale": torch.ones(8, 1)}
    other = {"format": "int-quantized", "weights": {"num_bits": 8}, "input_activations": {"num_bits": 8}}
    config = CONFIGS["compressed-tensors"]
    config = {**config, "config_groups": {**config["config_groups"], "group_1": other}}
    source, out = write(tmp_path / "in", tensors, config), tmp_path / "out"
    pack_checkpoint(source, out)
    assert check_packed(source, out) == (3, 6)


# experts


@pytest.mark.parametrize("names", [("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2")])
@pytest.mark.parametrize("kind", KINDS)
def test_experts_are_stacked_with_the_gates_rows_first(tmp_path: Path, kind: str, names: tuple[str, str, str]):
    tensors = moe_model(kind, names=names)
    source, out = write(tmp_path / "in", tensors, moe_config(kind), shards=4), tmp_path / "out"
    pack_checkpoint(source, out, Options(stack_experts=True))
    found = dict(packed_layers(out))
    fused = "gate_up_proj" if names[0] == "gate_proj" else "w13"
    stems = [f"model.layers.{depth}.mlp.experts" for depth in range(2)]
    assert sorted(found) == sorted(f"{stem}.{name}" for stem in stems for name in (fused, names[2]))
    for depth, stem in enumerate(stems):
        both, down = found[f"{stem}.{fused}"], found[f"{stem}.{names[2]}"]
        assert (both.E, both.M, both.K, down.M) == (3, 32, 64, 64)
        assert both.symmetric == (depth == 1)
        for expert in range(3):
            parts = [numbers(kind, tensors, f"{stem}.{expert}.{name}") for name in names]
            assert torch.equal(dequantise(both, torch.float64)[expert], torch.cat(parts[:2]))
            assert torch.equal(dequantise(down, torch.float64)[expert], parts[2])
    assert check_packed(source, out) == (18, 1)


def test_rows_that_are_not_in_eights_are_fused_too(tmp_path: Path):
    kind, rows = "compressed-tensors", 12
    tensors = moe_model(kind, rows=rows)
    source, out = write(tmp_path / "in", tensors, moe_config(kind)), tmp_path / "out"
    pack_checkpoint(source, out, Options(stack_experts=True))
    both = load_packed(out, "model.layers.0.mlp.experts.gate_up_proj")
    assert both.zeros is not None
    assert both.zeros.shape == (3, 3, 2)
    stem = "model.layers.0.mlp.experts.2"
    parts = [numbers(kind, tensors, f"{stem}.{name}") for name in ("gate_proj", "up_proj")]
    assert torch.equal(dequantise(both.expert(2), torch.float64), torch.cat(parts))
    assert check_packed(source, out) == (18, 1)


def test_gate_and_up_may_stay_apart_and_experts_unstacked(tmp_path: Path):
    source = write(tmp_path / "in", moe_model("awq"), moe_config("awq"))
    pack_checkpoint(source, tmp_path / "apart", Options(stack_experts=True, fuse_gate_up=False))
    assert load_packed(tmp_path / "apart", "model.layers.1.mlp.experts.up_proj").weight.shape == (3, 16, 8)
    pack_checkpoint(source, tmp_path / "single")
    assert load_packed(tmp_path / "single", "model.layers.1.mlp.experts.2.up_proj").weight.shape == (16, 8)
    assert check_packed(source, tmp_path / "apart") == check_packed(source, tmp_path / "single") == (18, 1)


def test_experts_with_gaps_or_of_different_sizes_are_refused(tmp_path: Path):
    tensors = moe_model("awq")
    gone = {name: tensor for name, tensor in tensors.items() if "layers.1.mlp.experts.1.up_proj" not in name}
    source = write(tmp_path / "gap", gone, moe_config("awq"))
    with pytest.raises(PackError, match=r"experts\.\*\.up_proj  no expert 1 of 3"):
        pack_checkpoint(source, tmp_path / "out", Options(stack_experts=True))
    larger = make_layer("awq", Sizes(32, 2, 32, 0, torch.bfloat16))
    tensors |= {f"model.layers.0.mlp.experts.2.up_proj.{key}": tensor for key, tensor in larger.items()}
    source = write(tmp_path / "unlike", tensors, moe_config("awq"))
    with pytest.raises(PackError, match=r"layers\.0\.mlp\.experts\.gate_up_proj  \(M, K, group, scales\)"):
        pack_checkpoint(source, tmp_path / "out", Options(stack_experts=True))
    tensors = moe_model("awq")
    name = "model.layers.1.mlp.experts.2.down_proj.scales"
    source = write(tmp_path / "types", {**tensors, name: tensors[name].half()}, moe_config("awq"))
    with pytest.raises(PackError, match=r"(?s)experts\.down_proj.*BF16.*F16"):
        pack_checkpoint(source, tmp_path / "out", Options(stack_experts=True))
    with pytest.raises(PackError, match="no layer is called"):
        pack_checkpoint(write_kind(tmp_path / "dense", "awq"), tmp_path / "out", Options(stack_experts=True))
    assert not (tmp_path / "out").exists()


# the output folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def broken_late(tmp_path: Path) -> Path:
    """A checkpoint whose last layer turns out to be in activation order when its contents are read."""
    tensors = dense_model("gptq")
    tensors[f"{NAMES[2]}.g_idx"] = tensors[f"{NAMES[2]}.g_idx"].flip(0)
    return write(tmp_path / "in", tensors, CONFIGS["gptq"])


def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path, broken_late: Path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(PackError, match=rf"(?s){NAMES[2]}.*g_idx  int32 \[1024\], not k // 128"):
        pack_checkpoint(broken_late, tmp_path / "out", Options(shard_bytes=10_000))
    assert sorted(tmp_path.iterdir()) == before


def test_a_failure_leaves_what_was_to_be_replaced(tmp_path: Path, broken_late: Path):
    out = tmp_path / "out"
    pack_checkpoint(write_kind(tmp_path / "good", "awq"), out)
    before = tree(tmp_path)
    with pytest.raises(PackError):
        pack_checkpoint(broken_late, out, force=True)
    assert tree(tmp_path) == before


def test_a_process_that_dies_leaves_no_output(tmp_path: Path):
    source, out = write_kind(tmp_path / "in", "awq"), tmp_path / "out"
    code = f"""
import os
from pathlib import Path
from kgen.ops.pack.checkpoint import pack_checkpoint
from kgen.ops.pack.plan import Options
def progress(done, total, name):
    if done > total // 2:
        os._exit(9)
pack_checkpoint(Path({str(source)!r}), Path({str(out)!r}), Options(shard_bytes=1), progress=progress)
"""
    root = Path(__file__).resolve().parents[3]
    ended = subprocess.run([sys.executable, "-c", code], cwd=root, check=False)
    assert ended.returncode == 9
    assert not out.exists()
    pack_checkpoint(source, out)  # and what it left does not stand in the way
    assert check_packed(source, out) == (3, 4)


def test_a_folder_with_something_in_it_is_replaced_only_when_told(tmp_path: Path):
    source, out = write_kind(tmp_path / "in", "awq"), tmp_path / "out"
    out.mkdir()
    pack_checkpoint(source, out)
    (out / "mine").write_text("x")
    with pytest.raises(PackError, match=r"(?s)is not empty.*--force replaces"):
        pack_checkpoint(source, out)
    assert (out / "mine").exists()
    pack_checkpoint(source, out, force=True)
    assert not (out / "mine").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_that_fills_up_meanwhile_is_not_touched(tmp_path: Path):
    source, out = write_kind(tmp_path / "in", "awq"), tmp_path / "out"

    def intrude(done: int, total: int, name: str) -> None:
        out.mkdir(exist_ok=True)
        (out / "theirs").write_text("x")

    with pytest.raises(PackError, match="was filled while we packed"):
        pack_checkpoint(source, out, progress=intrude)
    assert [path.name for path in out.iterdir()] == ["theirs"]


@pytest.mark.parametrize("where", ["in", "in/packed", "."])
def test_output_and_checkpoint_stay_apart(tmp_path: Path, where: str):
    source = write_kind(tmp_path / "in", "awq")
    before = tree(tmp_path)
    for force in (False, True):
        with pytest.raises(PackError, match="contain each other"):
            pack_checkpoint(source, tmp_path / where, force=force)
    assert tree(tmp_path) == before


def test_a_file_is_no_folder_to_write_to(tmp_path: Path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(PackError, match="is a file"):
        pack_checkpoint(write_kind(tmp_path / "in", "awq"), tmp_path / "out", force=True)


def test_a_full_disk_is_found_out_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    full = os.statvfs_result((4096, 4096, 1000, 10, 10, 100, 100, 100, 0, 255))
    monkeypatch.setattr("os.statvfs", lambda path: full)
    with pytest.raises(MissingPieceError, match=r"0\.0 GiB are free"):
        pack_checkpoint(write_kind(tmp_path / "in", "awq"), tmp_path / "out")


def test_planning_writes_nothing(tmp_path: Path):
    source = write_kind(tmp_path / "in", "awq")
    plan = plan_pack(source, tmp_path / "out", Options())
    assert {(target.name, target.M, target.K) for target in plan.targets} == {(name, 16, 1024) for name in NAMES}
    assert sorted(plan.copies) == sorted(PLAIN)
    assert not (tmp_path / "out").exists()


# loading and checking


def rewrite(out: Path, tensor: str, change: Callable[[torch.Tensor], object]) -> None:
    """Change a tensor of a packed folder of one file in place."""
    (path,) = out.glob("*.safetensors")
    with safe_open(path, framework="pt") as handle:
        metadata = handle.metadata()
    tensors = load_file(path)
    change(tensors[tensor])
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(("tensor", "named"), [
    (f"{NAMES[0]}.w4_weight", f"{NAMES[0]}.qweight"),
    (f"{NAMES[2]}.w4_zeros", f"{NAMES[2]}.qzeros"),
    (f"{NAMES[1]}.w4_scales", f"{NAMES[1]}.scales"),
    ("model.embed_tokens.weight", "model.embed_tokens.weight"),
])  # fmt: skip
def test_one_bit_that_differs_is_found_and_named(tmp_path: Path, tensor: str, named: str):
    source, out = write_kind(tmp_path / "in", "gptq_v2"), tmp_path / "out"
    pack_checkpoint(source, out)
    rewrite(out, tensor, lambda values: values.view(torch.uint8).reshape(-1)[5].bitwise_xor_(64))
    with pytest.raises(PackError) as caught:
        check_packed(source, out)
    assert [problem.fields for problem in caught.value.problems] == [(named,)]


def test_zero_points_that_the_source_has_no_place_for_are_found(tmp_path: Path):
    first, second = tmp_path / "gptq", tmp_path / "compressed-tensors"
    pack_checkpoint(write_kind(tmp_path / "a", "gptq"), first)
    rewrite(first, f"{NAMES[0]}.w4_zeros", lambda zeros: zeros.zero_())
    with pytest.raises(PackError, match=rf"(?s){NAMES[0]}.*a zero point of 0"):
        check_packed(tmp_path / "a", first)
    source = write(tmp_path / "b", moe_model("compressed-tensors"), moe_config("compressed-tensors"))
    pack_checkpoint(source, second, Options(stack_experts=True))
    stem = "model.layers.0.mlp.experts"
    rewrite(second, f"{stem}.gate_up_proj.w4_zeros", lambda zeros: zeros[1, 0].bitwise_xor_(1))
    with pytest.raises(PackError) as caught:
        check_packed(source, second)
    assert [problem.fields for problem in caught.value.problems] == [(f"{stem}.1.gate_proj.weight_zero_point",)]


def test_another_checkpoint_is_told_apart(tmp_path: Path):
    out = tmp_path / "out"
    pack_checkpoint(write_kind(tmp_path / "in", "gptq_v2"), out)
    fewer = {name: tensor for name, tensor in dense_model("gptq_v2").items() if NAMES[0] not in name}
    other = {**fewer, "more": torch.ones(1)}
    other |= {
        f"extra.{key}": tensor for key, tensor in make_layer("gptq_v2", Sizes(8, 1, 128, 0, torch.float16)).items()
    }
    with pytest.raises(PackError) as caught:
        check_packed(write(tmp_path / "other", other, CONFIGS["gptq_v2"]), out)
    assert {problem.fields[0]: problem.found for problem in caught.value.problems} == {
        "more": "missing",
        "extra": "missing",
    }


def test_loading_says_what_is_wrong_with_a_folder(tmp_path: Path):
    source, out = write_kind(tmp_path / "in", "awq"), tmp_path / "out"
    with pytest.raises(PackError, match="quant_method awq"):
        PackedFolder(source)
    with pytest.raises(PackError, match="no quantization_config"):
        PackedFolder(tmp_path)
    pack_checkpoint(source, out)
    with pytest.raises(PackError, match=r"lm_head  no packed layer of that name"):
        load_packed(out, "lm_head")
    with pytest.raises(PackError, match="already packed"):
        pack_checkpoint(out, tmp_path / "twice")
    config = json.loads((out / "config.json").read_text())
    config["quantization_config"]["version"] = 2
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(PackError, match="version 2"):
        PackedFolder(out)


@pytest.mark.parametrize(("change", "words"), [
    (lambda tensors, entry: tensors.pop(f"{NAMES[0]}.w4_zeros"), "no w4_zeros"),
    (lambda tensors, entry: entry.update(row_stride=128), r"rows of \[160\] words"),
    (lambda tensors, entry: entry.update(M=17), r"weight  int32 \[16, 128\]"),
    (lambda tensors, entry: entry.update(K=2048), r"weight  int32 \[16, 160\]"),
    (lambda tensors, entry: entry.update(colour=1), "metadata kgen.w4"),
])  # fmt: skip
def test_loading_a_damaged_layer_is_an_error(tmp_path: Path, change, words: str):
    out = tmp_path / "out"
    pack_checkpoint(write_kind(tmp_path / "in", "awq"), out)
    (path,) = out.glob("*.safetensors")
    with safe_open(path, framework="pt") as handle:
        metadata = handle.metadata()
    tensors, described = load_file(path), json.loads(metadata[KEY])
    change(tensors, described["layers"][NAMES[0]])
    save_file(tensors, path, {**metadata, KEY: json.dumps(described)})
    (out / "model.safetensors.index.json").unlink()
    with pytest.raises(PackError, match=words):
        load_packed(out, NAMES[0])
