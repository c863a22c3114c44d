"""Data of a case for kernels on bitsandbytes' 4-bit codes: bytes of two codes, absmax plain or nested, in numpy.

The reference multiplies what the kernel promises to multiply: the numbers of its table (kgen.spec.codes4.table_numbers) and absmax, exactly.
Weights cannot be padded in this layout; a case's `weight_pad` says nothing. The blocksize is GROUP_SIZE times a power of two that follows from
the case's seed, so that blocks lie within a row, are a row, or cross rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kgen.spec.codes4 import table_numbers
from kgen.spec.gemm_4bit import BLOCKSIZES, NESTED_BLOCK, Gemm4BitSpec
from kgen.spec.problem import ceil_div
from kgen.verify.cases import Case
from kgen.verify.dense import Operands, bias_bits, exact_bits, padded, shaped
from kgen.verify.elements import from_bits, largest_of_parts, to_bits


@dataclass(frozen=True)
class Absmax:
    """absmax per block, fp64 and exact, and what a kernel is given of it. `size`: |product| + |offset|, of which its rounding errors are parts."""

    values: Any
    size: Any
    arrays: dict[str, Any]


@dataclass(frozen=True)
class Code4Operands(Operands):
    """`weight` holds bytes of two codes each; block_shift is log2(blocksize / GROUP_SIZE)."""

    absmax: Absmax | None = None
    block_shift: int = 0

    def arrays(self) -> dict[str, Any]:
        """By argument name, None for a null pointer."""
        assert self.absmax is not None
        return {"codes": self.weight, "act": self.act, "bias": self.bias, **self.absmax.arrays}

    def sizes(self) -> dict[str, int]:
        """Shift and strides by argument name."""
        return {"block_shift": self.block_shift, "act_stride": self.act_stride, "bias_stride": self.bias_stride}


def random_absmax(rng: np.random.Generator, blocks: int, nested: bool) -> Absmax:
    """absmax around 0.05 for so many blocks. Nested: a table of 256 sorted numbers in [-1, 1], which is what bitsandbytes' is."""
    if not nested:
        values = (0.05 * (0.5 + rng.random(blocks))).astype(np.float32)
        arrays: dict[str, Any] = {"absmax": values, "absmax_codes": None, "absmax_table": None, "absmax_offset": None}
        return Absmax(values.astype(np.float64), np.abs(values.astype(np.float64)), arrays)
    codes = rng.integers(0, 256, blocks).astype(np.uint8)
    table = np.sort(rng.uniform(-1, 1, 256)).astype(np.float32)
    second = (0.03 * (0.5 + rng.random(ceil_div(blocks, NESTED_BLOCK)))).astype(np.float32)
    offset = np.array([0.05], np.float32)
    product = table[codes].astype(np.float64) * second.astype(np.float64)[np.arange(blocks) // NESTED_BLOCK]
    arrays = {"absmax": second, "absmax_codes": codes, "absmax_table": table, "absmax_offset": offset}
    return Absmax(product + offset[0].astype(np.float64), np.abs(product) + abs(float(offset[0])), arrays)


def blocksize_of(spec: Gemm4BitSpec, case: Case) -> int:
    """The blocksize of a case: GROUP_SIZE, twice, four times, ... as the seed goes on; GROUP_SIZE alone with ABSMAX."""
    if spec.ABSMAX:
        return spec.GROUP_SIZE
    allowed = [size for size in BLOCKSIZES if size >= spec.GROUP_SIZE]
    return allowed[(case.seed - 1) % len(allowed)]


def code4_operands(spec: Gemm4BitSpec, case: Case) -> Code4Operands:
    """The data of a case; paddings do not change any value."""
    shape, dtype, block = case.shape, spec.dtype, blocksize_of(spec, case)
    rng = np.random.default_rng([case.seed, shape.M, shape.N, shape.K, block])
    codes = rng.integers(0, 16, (shape.M, shape.K))
    absmax = random_absmax(rng, ceil_div(codes.size, block), spec.NESTED)
    bias = bias_bits(case, rng, dtype)
    act_bits = to_bits(shaped(case, rng, rng.standard_normal((shape.N, shape.K), np.float32)), dtype)
    act = from_bits(act_bits, dtype)
    numbers = np.array(table_numbers(spec.code, dtype))[codes]
    added = 0.0 if bias is None else from_bits(bias, dtype)
    return Code4Operands(
        weight=pack_bytes(codes),
        act=padded(act_bits, case.act_pad, dtype),
        bias=None if bias is None else padded(bias, case.bias_pad, dtype),
        weight_stride=shape.K // 2,
        act_stride=shape.K + case.act_pad,
        bias_stride=shape.M + case.bias_pad if case.bias == "NM" else 0,
        reference=act @ (numbers * per_element(absmax.values, block, codes.shape)).T + added,
        magnitude=act_sizes(spec, act) @ (np.abs(numbers) * per_element(absmax.size, block, codes.shape)).T
        + np.abs(added),
        expected=exact_bits(case, bias, dtype),
        absmax=absmax,
        block_shift=(block // spec.GROUP_SIZE).bit_length() - 1,
    )


def act_sizes(spec: Gemm4BitSpec, act: Any) -> Any:
    """|act|, and with TERMS what stands for the terms' error where activations of a slab are far smaller than its largest [N, K].

    It is 2^-39 of that at most. Under `depth` additions of unit 2^-23, more than one, an addend of 2^-16 of the largest allows for it.
    """
    sizes = np.abs(act)
    return sizes + 2.0**-16 * largest_of_parts(sizes, spec.slab) if spec.TERMS else sizes


def pack_bytes(codes: Any) -> Any:
    """Codes of any even number as bytes, the even element in the high bits, flat."""
    flat = codes.reshape(-1).astype(np.uint8)
    return flat[0::2] << 4 | flat[1::2]


def per_element(per_block: Any, block: int, shape: tuple[int, int]) -> Any:
    """What each block of the flattened weight has, for each of its elements, [M, K]."""
    return np.repeat(per_block, block)[: shape[0] * shape[1]].reshape(shape)
