"""bf16 and fp16 elements as 16-bit patterns in numpy, so that the emulator's path needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kgen.spec.base import Dtype

Bits = NDArray[np.uint16]
Doubles = NDArray[np.float64]

POISON = 0x7FE1  # a NaN in bf16 and in fp16: what padding and unwritten outputs hold


@dataclass(frozen=True)
class Format:
    """Spacing of an element type. eps: from 1 to the next number; min_normal: below it the spacing stays eps * min_normal."""

    eps: float
    min_normal: float


FORMATS: dict[str, Format] = {"bf16": Format(2.0**-7, 2.0**-126), "fp16": Format(2.0**-10, 2.0**-14)}


def to_bits(values: NDArray[Any], dtype: Dtype) -> Bits:
    """Values rounded to nearest even, as patterns. fp64 input is rounded to fp32 first, which is exact for what cases hold."""
    if dtype == "fp16":
        return values.astype(np.float16).view(np.uint16)
    single = np.ascontiguousarray(values, np.float32)
    wide = single.view(np.uint32).astype(np.uint64)
    rounded = ((wide + 0x7FFF + (wide >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(single), np.uint16(0x7FC0), rounded)


def from_bits(bits: Bits, dtype: Dtype) -> Doubles:
    """Patterns as fp64 values, exact."""
    if dtype == "fp16":
        return bits.view(np.float16).astype(np.float64)
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
