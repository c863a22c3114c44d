"""The 16 numbers that a 4-bit code of bitsandbytes stands for, and how kernels keep them.

NF4: quantiles of the normal distribution, scaled to [-1, 1]; FP4: sign and eight magnitudes over 12. Both as bitsandbytes 0.50.2 has them in fp32
(kgen.ops.quantise_4bit holds what follows for quantising).

16-bit kernels multiply table[q] = round(SCALE * number[q]) and take SCALE off the sum at the end, in fp32. SCALE is what makes rounding the
table cost least: FP4 times 12 is exact in both types; for NF4 it is the multiple of 2^-16 in [1, 2) with the least rms relative error of the 15
numbers that are not zero (bf16: 0.00085 rms and 0.00175 at most, where the numbers themselves would round to 0.00143 and 0.0031; fp16: 0.92e-4
and 2.0e-4 for 1.79e-4 and 3.3e-4).
fp32 kernels multiply the numbers as they are; with TERMS they multiply two terms in fp16 of 2^TERMS_SCALE_LOG2 times the number, which are
off by 2^-23 of it at most.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Literal

Code = Literal["nf4", "fp4"]

NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip
FP4_TWELFTHS = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)  # of codes 0 to 7; bit 3 of a code is the sign
NUMBERS: dict[Code, tuple[float, ...]] = {
    "nf4": NF4,
    "fp4": tuple(sign * twelfths / 12 or 0.0 for sign in (1.0, -1.0) for twelfths in FP4_TWELFTHS),  # no negative zero
}
SCALES: dict[tuple[Code, str], float] = {
    ("nf4", "bf16"): 94159 / 65536,
    ("nf4", "fp16"): 89533 / 65536,
    ("nf4", "fp32"): 1.0,
    ("fp4", "bf16"): 12.0,
    ("fp4", "fp16"): 12.0,
    ("fp4", "fp32"): 1.0,
}

# Numbers are multiplied by that power of two where terms in fp16 stand for them: so that the second terms keep their eleven bits.
TERMS_SCALE_LOG2 = 12


def fp32_bits(value: float) -> int:
    """The pattern of a number rounded to fp32."""
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


def element_bits(value: float, dtype: str) -> int:
    """The pattern of a number rounded to the nearest element, the even one of two: 16 bits, 32 for fp32."""
    if dtype == "fp32":
        return fp32_bits(value)
    if dtype == "fp16":
        return int(struct.unpack("<H", struct.pack("<e", value))[0])
    bits = fp32_bits(value)
    return bits + 0x7FFF + (bits >> 16 & 1) >> 16


def element_value(bits: int, dtype: str) -> float:
    """The number of a pattern."""
    if dtype == "fp16":
        return float(struct.unpack("<e", struct.pack("<H", bits))[0])
    return float(struct.unpack("<f", struct.pack("<I", bits if dtype == "fp32" else bits << 16))[0])


@cache
def table_bits(code: Code, dtype: str) -> tuple[int, ...]:
    """What a kernel multiplies by for each code, as patterns of its element type."""
    scale = SCALES[code, dtype]
    return tuple(element_bits(scale * number, dtype) for number in NUMBERS[code])


def terms_bits(code: Code) -> tuple[int, ...]:
    """The numbers times 2^TERMS_SCALE_LOG2 as fp32 patterns, which kernels with TERMS split."""
    return tuple(fp32_bits(2.0**TERMS_SCALE_LOG2 * number) for number in NUMBERS[code])


def table_numbers(code: Code, dtype: str) -> tuple[float, ...]:
    """The same as numbers, SCALE taken off: what a weight of absmax 1 is to a kernel."""
    return tuple(element_value(bits, dtype) / SCALES[code, dtype] for bits in table_bits(code, dtype))


def table_error(code: Code, dtype: str) -> float:
    """The largest relative error of `table_numbers` against the exact numbers."""
    pairs = zip(table_numbers(code, dtype), NUMBERS[code], strict=True)
    return max(abs(kept / exact - 1) for kept, exact in pairs if exact)


@cache
def plain_planes(code: Code, dtype: str) -> tuple[tuple[int, int, int, int], ...]:
    """The low and the high bytes of the table as they are: of codes 0 to 7, then of codes 8 to 15, two words each."""
    planes = ([bits >> shift & 0xFF for bits in table_bits(code, dtype)] for shift in (0, 8))
    return tuple((*_words(plane[:8]), *_words(plane[8:])) for plane in planes)


def _words(octet: list[int]) -> tuple[int, int]:
    """Eight bytes as two 32-bit words, the first byte lowest."""
    low, high = (sum(byte << 8 * i for i, byte in enumerate(octet[at : at + 4])) for at in (0, 4))
    return low, high


@cache
def xor_planes(code: Code, dtype: str) -> tuple[tuple[int, int, int, int], ...]:
    """Tables for looking 16-bit elements up with AMD's byte permute, for the low and for the high byte: (A low, A high, B low, B high) words each.

    v_perm takes the bytes 0 to 7 of two registers by selectors 0 to 7; selectors 8 to 11 answer the sign of byte 1, 3, 5, 7, spread over eight
    bits, 12 answers 0x00 and 13 to 15 answer 0xff. So with a code as the selector of A and the code with bit 3 turned as that of B, the one whose
    half of the table the code is not in answers a byte that is known. A and B hold the table with that byte taken off, and A[q] ^ B[q ^ 8] is the
    element's byte.
    """
    return tuple(_xor_plane([bits >> shift & 0xFF for bits in table_bits(code, dtype)]) for shift in (0, 8))


def _xor_plane(wanted: list[int]) -> tuple[int, int, int, int]:
    first, second = list(wanted[:8]), list(wanted[8:])
    # Selectors 12 to 15 first: with them the signs of bytes 5 and 7 are settled, with those that of byte 3, with that the one of byte 1.
    for half in (first, second):
        for i in (5, 6, 7):
            half[i] ^= 0xFF
    for i in (3, 1, 2, 0):
        sign = 2 * i + 1
        spread = [0xFF if half[sign] & 0x80 else 0 for half in (first, second)]
        first[i], second[i] = wanted[i] ^ spread[1], wanted[8 + i] ^ spread[0]
    return (*_words(first), *_words(second))
