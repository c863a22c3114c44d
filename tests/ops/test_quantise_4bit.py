"""NF4 and FP4 in bitsandbytes' layout: its bits, its checkpoints, and what cannot be taken."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kgen.errors import OpError
from kgen.ops.quantise_4bit import (
    Quantised4Bit,
    absmax_of,
    dequantise_4bit,
    dynamic_map,
    from_state,
    nest_absmax,
    quantise_4bit,
)
from kgen.spec.codes4 import NUMBERS
from kgen.spec.gemm_4bit import BLOCKSIZES

SHAPES = [(24, 4096), (5, 333), (64, 576)]  # whole blocks, odd sizes, blocks that cross rows
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
GOLDEN = Path(__file__).parent / "golden_4bit.csv"


def weight(M: int, K: int, dtype: torch.dtype) -> Tensor:
    """Bell-shaped values by integer arithmetic, the same anywhere; with zeros, among them a whole block."""
    count = torch.arange(M * K, dtype=torch.int64)
    uniform = (count * 2654435761 % 65536 - 32768).double() / 32768
    out = (uniform**3).float().reshape(M, K)
    out[0, :100], out[1, ::7] = 0, 0
    return out.to(dtype)


def digest(*tensors: Tensor | None) -> str:
    """Of the bytes of tensors, in 16 hex digits."""
    whole = b"".join(
        b"" if x is None else x.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for x in tensors
    )
    return hashlib.sha256(whole).hexdigest()[:16]


def all_of(q: Quantised4Bit) -> tuple[Tensor | None, ...]:
    return q.packed, q.absmax, q.absmax_8bit, q.absmax_code, q.absmax_offset


def cases() -> list[dict[str, str]]:
    return list(csv.DictReader(line for line in GOLDEN.read_text().splitlines() if not line.startswith("#")))


@pytest.mark.parametrize("row", cases(), ids=lambda row: "-".join(list(row.values())[:6]))
def test_bits_are_those_that_bitsandbytes_has_given(row):
    dense = weight(int(row["M"]), int(row["K"]), TYPES[row["dtype"]])
    q = quantise_4bit(dense, row["code"], int(row["blocksize"]), row["nested"] == "yes")
    assert digest(*all_of(q)) == row["quantised"]
    assert digest(dequantise_4bit(q, dense.dtype)) == row["dequantised"]


def test_golden_bits_cover_everything():
    seen = {(row["code"], int(row["blocksize"]), row["nested"]) for row in cases()}
    assert seen == set(product(("nf4", "fp4"), BLOCKSIZES, ("yes", "no")))
    assert {row["dtype"] for row in cases()} == set(TYPES)


if importlib.util.find_spec("bitsandbytes"):  # elsewhere its bits are in golden_4bit.csv

    @pytest.mark.parametrize("dtype", list(TYPES))
    @pytest.mark.parametrize(("M", "K"), SHAPES)
    def test_bits_are_those_of_bitsandbytes_itself(M, K, dtype):
        for code, blocksize, nested in product(("nf4", "fp4"), BLOCKSIZES, (False, True)):
            dense = weight(M, K, TYPES[dtype])
            q = quantise_4bit(dense, code, blocksize, nested)
            theirs = theirs_of(dense, code, blocksize, nested)
            assert digest(*all_of(q)) == digest(*theirs[:-1]), (code, blocksize, nested)
            if K % 2 == 0:
                assert torch.equal(dequantise_4bit(q, dense.dtype), theirs[-1])


def theirs_of(dense: Tensor, code: str, blocksize: int, nested: bool) -> tuple[Tensor | None, ...]:
    """What bitsandbytes' reference backend gives: packed, absmax, absmax_8bit, absmax_code, absmax_offset, and the weight again.

    On the CPU its own kernels answer instead for nested absmax and for dequantising, and differ from what its GPU kernels do (blocks that cross
    rows).
    """
    import bitsandbytes.functional as functional

    def default(name: str, *args: object) -> object:
        op = getattr(torch.ops.bitsandbytes, name).default
        return op.redispatch(torch._C.DispatchKeySet(torch._C.DispatchKey.CompositeExplicitAutograd), *args)

    packed, absmax = default("quantize_4bit", dense, blocksize, code, torch.uint8)
    second: tuple[Tensor | None, ...] = (absmax, None, None, None)
    if nested:
        offset, numbers = absmax.mean(), functional.create_dynamic_map()
        codes, outer = default("quantize_blockwise", absmax - offset, numbers, 256)
        second = outer, codes, numbers, offset
        absmax = default("dequantize_blockwise", codes, outer, numbers, 256, torch.float32) + offset
    again = default("dequantize_4bit", packed, absmax, blocksize, code, tuple(dense.shape), dense.dtype)
    return packed, *second, again


def test_the_dynamic_map_has_256_sorted_numbers():
    numbers = dynamic_map()
    assert numbers.shape == (256,)
    assert bool((numbers[1:] > numbers[:-1]).all())
    assert numbers[-1] == 1
    assert numbers[127] == 0


@pytest.mark.parametrize("code", list(NUMBERS))
@pytest.mark.parametrize("blocksize", [32, 64, 4096])
def test_every_element_is_the_nearest_number_of_its_block(code, blocksize):
    dense = weight(16, 512, torch.float32)
    q = quantise_4bit(dense, code, blocksize)
    absmax = q.absmax.repeat_interleave(blocksize)[: dense.numel()].reshape(dense.shape).double()
    numbers = torch.tensor(NUMBERS[code], dtype=torch.float64)
    distance = (dense.double().unsqueeze(-1) - absmax.unsqueeze(-1) * numbers).abs()
    chosen = (dequantise_4bit(q).double() - dense.double()).abs()
    assert bool((chosen <= distance.min(dim=-1).values + 1e-7 * absmax).all())


def test_quantising_what_was_dequantised_changes_nothing():
    q = quantise_4bit(weight(16, 512, torch.float32))
    again = quantise_4bit(dequantise_4bit(q))
    assert torch.equal(again.packed, q.packed)
    assert torch.equal(again.absmax, q.absmax)


def test_nested_absmax_is_near_the_plain_one():
    plain = quantise_4bit(weight(64, 4096, torch.float32))
    nested = nest_absmax(plain)
    spread = (plain.absmax - plain.absmax.mean()).abs().max()
    assert float((absmax_of(nested) - plain.absmax).abs().max()) <= 0.07 * float(spread)


def saved(q: Quantised4Bit) -> dict[str, Tensor]:
    """The tensors that bitsandbytes saves beside a weight."""
    said = {"quant_type": q.code, "blocksize": q.blocksize, "dtype": "bfloat16", "shape": list(q.shape)}
    out = {"absmax": q.absmax, "quant_map": torch.tensor(NUMBERS[q.code])}
    if q.absmax_8bit is not None:
        said |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": float(q.absmax_offset)}
        out = {"absmax": q.absmax_8bit, "nested_absmax": q.absmax, "nested_quant_map": q.absmax_code} | {
            "quant_map": out["quant_map"]
        }
    return out | {
        f"quant_state.bitsandbytes__{q.code}": torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
    }


@pytest.mark.parametrize("code", list(NUMBERS))
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("stored", [torch.uint8, torch.bfloat16, torch.float32])
def test_checkpoints_load(code, nested, stored):
    q = quantise_4bit(weight(8, 512, torch.float32), code, 64, nested)
    found = from_state(q.packed.reshape(-1).view(stored).unsqueeze(1), saved(q))
    assert (found.shape, found.blocksize, found.code, found.nested) == (q.shape, 64, code, nested)
    for one, other in zip(all_of(found), all_of(q), strict=True):
        assert one is other is None or torch.equal(one, other)


def test_what_cannot_be_taken_is_refused():
    q = quantise_4bit(weight(8, 512, torch.float32), nested=True)
    state = saved(q)
    with pytest.raises(OpError, match="quant_map"):
        from_state(q.packed, state | {"quant_map": torch.linspace(-1, 1, 16)})
    with pytest.raises(OpError, match="absmax, quant_map"):
        from_state(q.packed, {"absmax": q.absmax})
    with pytest.raises(OpError, match="blocksize"):
        quantise_4bit(weight(8, 512, torch.float32), blocksize=48)
    with pytest.raises(OpError, match="quant_type"):
        quantise_4bit(weight(8, 512, torch.float32), "int4")  # type: ignore[arg-type]


def test_tables_made_under_a_fake_mode_are_not_kept():
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    from kgen.ops.quantise_4bit import _pairs

    device = torch.device("cpu", 0)  # that nothing else asks for
    with FakeTensorMode():
        assert isinstance(_pairs("nf4", device), FakeTensor)
    assert type(_pairs("nf4", device)) is torch.Tensor
