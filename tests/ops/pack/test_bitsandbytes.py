"""bitsandbytes' 4-bit layers: packed without a change, back bit for bit, and refused where they are something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from kgen.errors import PackError
from kgen.ops.pack import pack_bitsandbytes, unpack_bitsandbytes
from kgen.ops.pack.checkpoint import pack_checkpoint, plan_pack
from kgen.ops.pack.load import KEY_CODES4, PackedFolder, codes4_layers, load_codes4, load_packed, packed_layers
from kgen.ops.pack.plan import Options
from kgen.ops.pack.verify import check_packed
from kgen.ops.quantise_4bit import dequantise_4bit, dynamic_map
from kgen.spec.codes4 import NUMBERS
from kgen.spec.gemm_4bit import BLOCKSIZES
from tests.ops.pack.checkpoints import NAMES, PLAIN, write
from tests.ops.pack.layers import same_bits

CONFIG = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "load_in_8bit": False,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_quant_storage": "uint8",
}
STORAGES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
STATE = "quant_state.bitsandbytes__"


def layer(
    M: int, K: int, blocksize: int = 64, code: str = "nf4", nested: bool = False, storage=torch.uint8, seed: int = 0
) -> dict[str, Tensor]:
    """Random codes and scales with the tensors, by what follows the weight's name, and the JSON that bitsandbytes saves."""
    draw = torch.Generator().manual_seed(seed)
    count, blocks = -(-M * K // 2), -(-M * K // blocksize)
    codes = torch.randint(0, 256, (count,), generator=draw, dtype=torch.uint8)
    said = {"quant_type": code, "blocksize": blocksize, "dtype": "bfloat16", "shape": [M, K]}
    out = {"": codes.view(storage).unsqueeze(1), "quant_map": torch.tensor(NUMBERS[code])}
    if nested:
        offset = float(torch.rand((), generator=draw))
        said |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": offset}
        out["absmax"] = torch.randint(0, 256, (blocks,), generator=draw, dtype=torch.uint8)
        out["nested_absmax"] = torch.rand(-(-blocks // 256), generator=draw)
        out["nested_quant_map"] = dynamic_map().clone()
    else:
        out["absmax"] = torch.rand(blocks, generator=draw)
    return {**out, f"{STATE}{code}": state(said)}


def state(said: dict) -> Tensor:
    return torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)


def arguments(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by the packer's names."""
    names = {"": "weight"} | {f"{STATE}{code}": "quant_state" for code in NUMBERS}
    return {names.get(key, key): tensor for key, tensor in tensors.items()}


def named(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.weight.{key}" if key else f"{name}.weight": tensor for key, tensor in tensors.items()}


def model() -> dict[str, Tensor]:
    """Three layers of different kinds, the last in bf16 storage, between tensors that are not quantised."""
    return {
        **PLAIN,
        **named(NAMES[0], layer(16, 1024, nested=True, seed=1)),
        **named(NAMES[1], layer(24, 256, 128, "fp4", seed=2)),
        **named(NAMES[2], layer(16, 1024, nested=True, storage=torch.bfloat16, seed=3)),
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "in", model(), CONFIG)


@settings(deadline=None, max_examples=60)
@given(
    M=st.integers(1, 40),
    K=st.integers(1, 40).map(lambda n: 8 * n),
    blocksize=st.sampled_from(BLOCKSIZES),
    code=st.sampled_from(list(NUMBERS)),
    nested=st.booleans(),
    storage=st.sampled_from(STORAGES),
    seed=st.integers(0, 10**6),
)
def test_a_layer_comes_back_bit_for_bit(M, K, blocksize, code, nested, storage, seed):
    tensors = arguments(layer(M, K, blocksize, code, nested, storage, seed))
    packed = pack_bitsandbytes(**tensors)
    assert same_bits(unpack_bitsandbytes(packed), tensors)
    w = packed.weight
    assert (w.shape, w.blocksize, w.code, w.nested, w.packed.dtype) == ((M, K), blocksize, code, nested, torch.uint8)


def test_an_odd_number_of_elements_comes_back_too():
    tensors = arguments(layer(3, 7, 32))
    assert same_bits(unpack_bitsandbytes(pack_bitsandbytes(**tensors)), tensors)


def test_the_state_keeps_its_spelling():
    tensors = arguments(layer(8, 64))
    spelled = b'{ "shape" : [8, 64], "blocksize":64,"quant_type": "nf4", "dtype":"float16", "more": "\xc3\xa9" }'
    tensors["quant_state"] = torch.tensor(list(spelled), dtype=torch.uint8)
    assert same_bits(unpack_bitsandbytes(pack_bitsandbytes(**tensors)), tensors)


def number(tensors: dict[str, Tensor], code: str, at: int, blocksize: int) -> float:
    """One element of a layer as bitsandbytes defines it, in Python's numbers, absmax plain."""
    byte = int(tensors[""].reshape(-1)[at // 2])
    return NUMBERS[code][byte & 15 if at % 2 else byte >> 4] * float(tensors["absmax"][at // blocksize])


@pytest.mark.parametrize("shards", [1, 3])
def test_a_checkpoint_is_packed_and_the_rest_is_copied(tmp_path: Path, shards: int):
    source, out = write(tmp_path / "in", model(), CONFIG, shards), tmp_path / "out"
    done = pack_checkpoint(source, out)
    found = dict(codes4_layers(out))
    assert sorted(found) == sorted(NAMES) == sorted(done.layers)
    assert [found[name].nested for name in NAMES] == [True, False, True]
    tensors = layer(24, 256, 128, "fp4", seed=2)
    numbers = dequantise_4bit(found[NAMES[1]]).reshape(-1)
    for at in range(0, numbers.numel(), 37):
        assert float(numbers[at]) == pytest.approx(number(tensors, "fp4", at, 128), rel=1e-6)
    written = {name: tensor for path in out.glob("*.safetensors") for name, tensor in load_file(path).items()}
    assert {name for name in written if ".codes4_" not in name} == PLAIN.keys()
    assert check_packed(source, out) == (3, 4)
    assert list(packed_layers(out)) == []


def test_the_folder_says_what_it_holds(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    pack_checkpoint(source, out)
    said = json.loads((out / "config.json").read_text())["quantization_config"]
    assert (said["quant_method"], said["source_format"], said["source"]) == ("kgen-w4", "bitsandbytes", CONFIG)
    (file,) = out.glob("*.safetensors")
    with safe_open(file, framework="pt") as handle:
        entries = json.loads(handle.metadata()[KEY_CODES4])["layers"]
    assert (entries[NAMES[2]]["storage"], entries[NAMES[2]]["sizes"]) == ("bfloat16", [4096, 1])
    assert entries[NAMES[1]]["code"] == "fp4"
    with pytest.raises(PackError, match=r"no packed layer of that name(?s:.*)codes4_layers"):
        load_packed(out, NAMES[0])
    with pytest.raises(PackError, match="no layer of 4-bit codes of that name"):
        load_codes4(out, "lm_head")


def test_parameters_that_are_no_linear_layer_keep_their_name(tmp_path: Path):
    tensors = {f"lookup.{key}" if key else "lookup": tensor for key, tensor in layer(8, 64).items()}
    pack_checkpoint(write(tmp_path / "in", tensors, CONFIG), tmp_path / "out")
    assert load_codes4(tmp_path / "out", "lookup").shape == (8, 64)
    assert check_packed(tmp_path / "in", tmp_path / "out") == (1, 0)


# what is refused


def said_of(tensors: dict[str, Tensor]) -> dict:
    return json.loads(bytes(next(t for k, t in tensors.items() if k.startswith(STATE)).tolist()))


def restated(**changed: object) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.update({f"{STATE}nf4": state({**said_of(tensors), **changed})})


def moved(table: Tensor) -> Tensor:
    """A table whose last number is off by its last bit."""
    bits = table.clone().view(torch.int32)
    bits[14] += 1
    return bits.view(torch.float32)


@pytest.mark.parametrize(("change", "words"), [
    (lambda t: t.update(quant_map=moved(t["quant_map"])), r"quant_map  .*another table\n.*nf4's own 16 numbers"),
    (lambda t: t.update(quant_map=torch.tensor(NUMBERS["fp4"])), "quant_map"),
    (lambda t: t.update(quant_map=t["quant_map"].double()), "quant_map  float64"),
    (lambda t: t.update({"": t[""][:-1]}), r"weight  uint8 \[8191, 1\], 8191 bytes\n.*8192 bytes for \[16, 1024\]"),
    (lambda t: t.update(absmax=t["absmax"].float()), r"absmax  float32 \[256\]\n.*uint8 \[256\]"),
    (lambda t: t.update(nested_absmax=t["nested_absmax"][:0]), r"nested_absmax  float32 \[0\]"),
    (lambda t: t.pop("nested_quant_map"), r"no .*\.nested_quant_map"),
    (lambda t: t.update({f"{STATE}nf4": torch.zeros(4, dtype=torch.uint8)}), "a JSON object in UTF-8"),
    (restated(quant_type="int4"), "quant_type  int4\n.*nf4 or fp4"),
    (restated(quant_type="fp4"), "quant_state  fp4 in "),
    (restated(blocksize=48), "blocksize  48"),
    (restated(nested_blocksize=128), "nested_blocksize  128"),
    (restated(nested_offset="much"), "nested_offset  'much'"),
    (restated(shape=[4, 16, 256]), r"shape  \[4, 16, 256\]\n.*\[M, K\]"),
    (lambda t: t.update(SCB=torch.ones(16)), r"int8 \(LLM.int8\(\)\)"),
])  # fmt: skip
def test_layers_that_are_something_else_are_named(tmp_path: Path, change, words: str):
    tensors = layer(16, 1024, nested=True)
    change(tensors)
    source = write(tmp_path / "in", {**PLAIN, **named("model.odd", tensors)}, CONFIG)
    with pytest.raises(PackError, match=rf"model\.odd(?s:.*){words}"):
        pack_checkpoint(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_checkpoint_without_such_layers_and_stacks_of_experts_are_refused(tmp_path: Path, source: Path):
    with pytest.raises(PackError, match=r"no tensor is called .*bitsandbytes__nf4 or fp4"):
        pack_checkpoint(write(tmp_path / "plain", PLAIN, CONFIG), tmp_path / "out")
    with pytest.raises(PackError, match="--stack-experts  bitsandbytes' 4-bit codes"):
        plan_pack(source, tmp_path / "out", Options(stack_experts=True))


@pytest.mark.parametrize(("tensor", "named_as"), [
    (f"{NAMES[0]}.codes4_weight", f"{NAMES[0]}.weight"),
    (f"{NAMES[2]}.codes4_absmax_8bit", f"{NAMES[2]}.weight.absmax"),
    (f"{NAMES[1]}.codes4_absmax", f"{NAMES[1]}.weight.absmax"),
    (f"{NAMES[0]}.codes4_absmax_code", f"{NAMES[0]}.weight.nested_quant_map"),
    (f"{NAMES[0]}.codes4_absmax_offset", f"{NAMES[0]}.codes4_absmax_offset"),
])  # fmt: skip
def test_one_bit_that_differs_is_found_and_named(tmp_path: Path, source: Path, tensor: str, named_as: str):
    out = tmp_path / "out"
    pack_checkpoint(source, out)
    (path,) = out.glob("*.safetensors")
    with safe_open(path, framework="pt") as handle:
        metadata = handle.metadata()
    tensors = load_file(path)
    tensors[tensor].view(-1).view(torch.uint8)[0] ^= 64
    save_file(tensors, path, metadata)
    with pytest.raises(PackError) as caught:
        check_packed(source, out)
    assert [problem.fields for problem in caught.value.problems] == [(named_as,)]


@pytest.mark.parametrize(("change", "words"), [
    (lambda tensors, entry: tensors.pop(f"{NAMES[0]}.codes4_absmax_code"), "no codes4_absmax_code"),
    (lambda tensors, entry: entry.update(M=17), r"codes4_weight  8192 elements\n.*8704"),
    (lambda tensors, entry: entry.update(colour=1), "metadata kgen.codes4"),
])  # fmt: skip
def test_loading_a_damaged_layer_is_an_error(tmp_path: Path, source: Path, change, words: str):
    out = tmp_path / "out"
    pack_checkpoint(source, out)
    (path,) = out.glob("*.safetensors")
    with safe_open(path, framework="pt") as handle:
        metadata = handle.metadata()
    tensors, described = load_file(path), json.loads(metadata[KEY_CODES4])
    change(tensors, described["layers"][NAMES[0]])
    save_file(tensors, path, {**metadata, KEY_CODES4: json.dumps(described)})
    (out / "model.safetensors.index.json").unlink()
    with pytest.raises(PackError, match=words):
        load_codes4(out, NAMES[0])


def test_a_folder_says_which_layers_it_has(source: Path, tmp_path: Path):
    pack_checkpoint(source, tmp_path / "out")
    with PackedFolder(tmp_path / "out") as packed:
        assert list(packed) == []
        assert sorted(packed.codes4_entries) == sorted(NAMES)
        assert packed.codes4(NAMES[2]).storage == torch.bfloat16
