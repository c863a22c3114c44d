"""bf16 and fp16 elements as 16-bit patterns, fp32 ones as 32-bit patterns in numpy, so that the emulator's path needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kgen.spec.problem import ceil_div

Bits = NDArray[np.uint16]
Doubles = NDArray[np.float64]

Element = Literal["bf16", "fp16", "fp32", "e4m3fn", "e4m3fnuz"]

POISON = 0x7FE1  # a NaN in bf16 and in fp16: what padding and unwritten outputs hold
POISON_FP32 = POISON << 16 | POISON


@dataclass(frozen=True)
class Format:
    """Spacing of an element type. eps: from 1 to the next number; min_normal: below it the spacing stays eps * min_normal."""

    eps: float
    min_normal: float


FORMATS: dict[str, Format] = {
    "bf16": Format(2.0**-7, 2.0**-126),
    "fp16": Format(2.0**-10, 2.0**-14),
    "fp32": Format(2.0**-23, 2.0**-126),
}


def largest_of_parts(sizes: Doubles, part: int) -> Doubles:
    """Of each number the largest of the `part` in a row along the last axis that it is among; the last ones may be fewer."""
    k = sizes.shape[-1]
    padded = np.zeros((*sizes.shape[:-1], ceil_div(k, part) * part))
    padded[..., :k] = sizes
    largest = padded.reshape(*sizes.shape[:-1], -1, part).max(axis=-1)
    return np.repeat(largest, part, axis=-1)[..., :k]


NAN_FP8 = {"e4m3fn": 0x7F, "e4m3fnuz": 0x80}  # FNUZ has no negative zero: its pattern is the only NaN


def nan_of(element: Element) -> int:
    """A NaN pattern of the element type."""
    return NAN_FP8.get(element, POISON_FP32 if element == "fp32" else POISON)


def pattern_type(element: Element) -> Any:
    """The unsigned integers that hold patterns of the element type."""
    return np.uint8 if element in NAN_FP8 else np.uint32 if element == "fp32" else np.uint16


@cache
def _fp8_values(element: Element) -> Doubles:
    """What the 256 patterns of an 8-bit type stand for: sign, four bits of exponent, three of mantissa."""
    code = np.arange(256)
    exponent, mantissa = code >> 3 & 15, code & 7
    bias = 7 if element == "e4m3fn" else 8
    size = np.where(exponent > 0, (8 + mantissa) * 2.0 ** (exponent - bias - 3), mantissa * 2.0 ** (1 - bias - 3))
    values = np.where(code >> 7, -size, size)
    values[[0x7F, 0xFF] if element == "e4m3fn" else [0x80]] = np.nan
    return values


def _to_fp8(values: NDArray[Any], element: Element) -> NDArray[np.uint8]:
    """Nearest representable value, the even pattern of two equally near; clamped to the largest; NaN stays NaN."""
    single = np.ascontiguousarray(values, np.float32)
    bias = 7 if element == "e4m3fn" else 8
    largest = 448 if element == "e4m3fn" else 240
    size = np.minimum(np.abs(single), np.float32(largest))
    bits = size.view(np.uint32)
    normal = (bits + 0x7FFFF + (bits >> 20 & 1) >> 20) - ((127 - bias) << 3)  # 20 bits of fp32's mantissa go
    small = size < np.float32(2.0 ** (1 - bias))
    code = np.where(small, np.rint(size * np.float32(2.0 ** (bias + 2))), normal).astype(np.uint8)
    code |= np.where((single < 0) & (code > 0), np.uint8(0x80), np.uint8(0))
    code[np.isnan(single)] = NAN_FP8[element]
    return code


def to_bits(values: NDArray[Any], dtype: Element) -> Any:
    """Values rounded to nearest even, as patterns. fp64 input is rounded to fp32 first, which is exact for what cases hold."""
    if dtype in NAN_FP8:
        return _to_fp8(values, dtype)
    if dtype == "fp16":
        return values.astype(np.float16).view(np.uint16)
    single = np.ascontiguousarray(values, np.float32)
    if dtype == "fp32":
        return single.view(np.uint32)
    wide = single.view(np.uint32).astype(np.uint64)
    rounded = ((wide + 0x7FFF + (wide >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(single), np.uint16(0x7FC0), rounded)


def from_bits(bits: Any, dtype: Element) -> Doubles:
    """Patterns as fp64 values, exact."""
    if dtype in NAN_FP8:
        return _fp8_values(dtype)[bits]
    if dtype == "fp16":
        return bits.view(np.float16).astype(np.float64)
    if dtype == "fp32":
        return bits.view(np.float32).astype(np.float64)
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
