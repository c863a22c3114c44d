"""Data of a case for kernels on 4-bit weights: codes, scales and zero points in the layout of kgen.ops.pack, in numpy.

The reference multiplies the dequantised weights (q - z) * scale, which are exact in fp64; for gemm_w4a16, whose weights are 16-bit
numbers, those rounded to the type or cut off as the kernel says. The magnitude, on which the error bound rests, is
that of the sums which the kernel really makes: with DEQUANT actsum those of the offset codes and of the correction that is taken off, with
digits or digits2 those of activations that are off by a part of the largest of 128 (`act_sizes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kgen.spec.base import Dtype
from kgen.spec.problem import ceil_div
from kgen.spec.w4 import OFFSET, WORD, W4Spec
from kgen.spec.w4_tile import W4TileSpec
from kgen.spec.wvsplitk_int4 import WvSplitKInt4Spec
from kgen.verify.cases import Case
from kgen.verify.dense import Operands, bias_bits, exact_bits, padded, shaped
from kgen.verify.elements import POISON, Bits, Doubles, from_bits, largest_of_parts, to_bits

ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # which of eight consecutive codes each nibble of a word holds, from the lowest bits
SYMMETRIC_ZERO = 8
_SCALE = 0.05


@dataclass(frozen=True)
class Int4Operands(Operands):
    """`weight` holds words of codes; scales [M, K / GROUP_SIZE] patterns, zeros None or [ceil(M / 8), K / GROUP_SIZE] words."""

    scales: Bits | None = None
    zeros: Any = None
    scale_stride: int = 0
    zero_stride: int = 0

    def arrays(self) -> dict[str, Any]:
        """By argument name, None for a null pointer."""
        return {"codes": self.weight, "scales": self.scales, "zeros": self.zeros, "act": self.act, "bias": self.bias}

    def sizes(self) -> dict[str, int]:
        """Strides by argument name."""
        return {
            "code_stride": self.weight_stride,
            "scale_stride": self.scale_stride,
            "zero_stride": self.zero_stride,
            "act_stride": self.act_stride,
            "bias_stride": self.bias_stride,
        }


@dataclass(frozen=True)
class Int4Weights:
    """Codes [M, K], zero points and scales [M, K / group] (zeros None: all 8), and the patterns of the scales."""

    codes: Any
    zeros: Any
    scale_bits: Bits
    scales: Any

    def values(self) -> Any:
        """(q - z) * scale in fp64, [M, K]."""
        return (self.codes - self._per_element(self.zero_points())) * self._per_element(self.scales)

    def sizes(self, offset: int) -> Any:
        """|scale| * (offset + q) and what is taken off it, added: the magnitude of a weight under DEQUANT actsum."""
        parts = 2 * offset + self.codes + self._per_element(self.zero_points())
        return parts * self._per_element(np.abs(self.scales))

    def zero_points(self) -> Any:
        """[M, K / group]."""
        return np.full(self.scales.shape, SYMMETRIC_ZERO) if self.zeros is None else self.zeros

    def _per_element(self, per_group: Any) -> Any:
        return np.repeat(per_group, self.codes.shape[1] // per_group.shape[1], axis=1)


def int4_weights(rng: np.random.Generator, M: int, K: int, group: int, zero_points: bool, dtype: Any) -> Int4Weights:
    """Random weights: every code as likely as every other, scales of both signs around 0.05."""
    codes = rng.integers(0, 16, (M, K))
    scale_bits = to_bits(
        (_SCALE * (0.5 + rng.random((M, K // group))) * rng.choice((1, 1, 1, -1), (M, K // group))).astype(np.float32),
        dtype,
    )
    zeros = rng.integers(0, 16, (M, K // group)) if zero_points else None
    return Int4Weights(codes, zeros, scale_bits, from_bits(scale_bits, dtype))


def pack_codes(codes: Any) -> Any:
    """Codes [..., K] as words [..., K / 8]."""
    eight = codes.reshape(*codes.shape[:-1], -1, WORD)[..., ORDER].astype(np.uint32)
    return np.bitwise_or.reduce(eight << np.arange(0, 32, 4, dtype=np.uint32), axis=-1)


def pack_zeros(zeros: Any) -> Any:
    """Zero points [M, G] as words [ceil(M / 8), G]; rows beyond M are 0."""
    M, groups = zeros.shape
    rows = np.zeros((ceil_div(M, 8) * 8, groups), np.uint32)
    rows[:M] = zeros
    shifted = rows.reshape(-1, 8, groups) << np.arange(0, 32, 4, dtype=np.uint32)[:, None]
    return np.bitwise_or.reduce(shifted, axis=1)


def tile_values(values: Any, dtype: Dtype, truncate: bool) -> Any:
    """Weights as the matrix tiles take them: rounded once to the type, to nearest even or, for bf16, toward zero."""
    if not truncate:
        return from_bits(to_bits(values, dtype), dtype)
    return (values.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def act_sizes(spec: W4Spec | W4TileSpec, act: Doubles) -> Any:
    """|act|, and with DEQUANT digits or digits2 what stands for the rounding of activations [N, K] (or [K]) to whole numbers.

    128 numbers that share an exponent are rounded to steps of 2^-20 of their largest or finer, with digits2 of 2^-14, so each is off by 2^-21 or
    2^-15 of that at most. Under `depth` additions of unit 2^-23, at least four of them, an addend of the largest itself allows for
    4 * 2^-23 = 2^-21, one of 64 times the largest for 2^-15.
    """
    sizes = np.abs(act)
    if not (isinstance(spec, W4Spec) and spec.whole_numbers):
        return sizes
    return sizes + (64 if spec.lane_digits else 1) * largest_of_parts(sizes, spec.part)


def int4_operands(spec: WvSplitKInt4Spec | W4TileSpec, case: Case) -> Int4Operands:
    """The data of a case; paddings do not change any value. `weight_pad` is in elements, a multiple of GROUP_SIZE."""
    shape, dtype = case.shape, spec.dtype
    rng = np.random.default_rng([case.seed, shape.M, shape.N, shape.K, spec.GROUP_SIZE])
    weights = int4_weights(rng, shape.M, shape.K, spec.GROUP_SIZE, spec.HAS_ZP, dtype)
    bias = bias_bits(case, rng, dtype)
    act_bits = to_bits(shaped(case, rng, rng.standard_normal((shape.N, shape.K), np.float32)), dtype)
    act, values = from_bits(act_bits, dtype), weights.values()
    if isinstance(spec, W4TileSpec):
        values = tile_values(values, dtype, spec.TruncateBf16Round)
    added = 0.0 if bias is None else from_bits(bias, dtype)
    offset_codes = isinstance(spec, WvSplitKInt4Spec) and spec.DEQUANT == "actsum"
    sizes = weights.sizes(OFFSET[dtype]) if offset_codes else np.abs(values)
    groups, pad = shape.K // spec.GROUP_SIZE, case.weight_pad // spec.GROUP_SIZE
    zeros = None if weights.zeros is None else pack_zeros(weights.zeros)
    return Int4Operands(
        weight=pad_words(pack_codes(weights.codes), case.weight_pad // WORD),
        act=padded(act_bits, case.act_pad, dtype),
        bias=None if bias is None else padded(bias, case.bias_pad, dtype),
        weight_stride=(shape.K + case.weight_pad) // WORD,
        act_stride=shape.K + case.act_pad,
        bias_stride=shape.M + case.bias_pad if case.bias == "NM" else 0,
        reference=act @ values.T + added,
        magnitude=act_sizes(spec, act) @ sizes.T + np.abs(added),
        expected=exact_bits(case, bias, dtype),
        scales=padded(weights.scale_bits, pad, dtype),
        zeros=None if zeros is None else pad_words(zeros, pad),
        scale_stride=groups + pad,
        zero_stride=groups + pad,
    )


def pad_words(rows: Any, extra: int) -> Any:
    """Rows of words with `extra` words of poison between them, flat; none after the last."""
    out = np.full((rows.shape[0], rows.shape[1] + extra), POISON << 16 | POISON, np.uint32)
    out[:, : rows.shape[1]] = rows
    flat = out.reshape(-1)
    return flat[: flat.size - extra].copy()
