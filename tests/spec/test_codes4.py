"""The numbers of NF4 and FP4, how they are rounded, and the tables for byte permutes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from kgen.spec.codes4 import (
    NUMBERS,
    SCALES,
    element_bits,
    element_value,
    plain_planes,
    table_bits,
    table_error,
    table_numbers,
    xor_planes,
)

HALVES = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16}
KEPT = {("nf4", "bf16"): 0.00175, ("nf4", "fp16"): 2.01e-4, ("fp4", "bf16"): 0.0, ("fp4", "fp16"): 0.0}
AS_THEY_ARE = {"bf16": 0.0031, "fp16": 3.2e-4}  # NF4's largest error without SCALE


def v_perm(high: int, low: int, by: int) -> int:
    """AMD's byte permute as its instruction set document has it."""
    both, out = high << 32 | low, 0
    for i in range(4):
        c = by >> 8 * i & 0xFF
        if c >= 13:
            byte = 0xFF
        elif c == 12:
            byte = 0
        elif c >= 8:
            byte = 0xFF if both >> (16 * (c - 8) + 15) & 1 else 0
        else:
            byte = both >> 8 * c & 0xFF
        out |= byte << 8 * i
    return out


def prmt(high: int, low: int, by: int) -> int:
    """NVIDIA's byte permute as the PTX document has it."""
    both, out = high << 32 | low, 0
    for i in range(4):
        nibble = by >> 4 * i & 15
        byte = both >> 8 * (nibble & 7) & 0xFF
        out |= (0xFF if byte & 0x80 and nibble & 8 else 0 if nibble & 8 else byte) << 8 * i
    return out


@pytest.mark.parametrize(("code", "dtype"), list(KEPT))
def test_tables_are_the_numbers_times_scale_rounded_to_nearest(code, dtype):
    wanted = (SCALES[code, dtype] * np.array(NUMBERS[code])).astype(np.float32).astype(HALVES[dtype]).view(np.uint16)
    assert table_bits(code, dtype) == tuple(map(int, wanted))
    assert table_error(code, dtype) <= KEPT[code, dtype]
    exact = np.array(table_numbers(code, dtype)) * SCALES[code, dtype]
    np.testing.assert_allclose(exact, wanted.view(HALVES[dtype]).astype(np.float64), rtol=2.0**-51)


@pytest.mark.parametrize("code", list(NUMBERS))
def test_fp32_keeps_the_numbers(code):
    assert table_numbers(code, "fp32") == tuple(map(float, np.array(NUMBERS[code], np.float32)))


@pytest.mark.parametrize("dtype", list(HALVES))
def test_no_multiple_of_two_to_the_minus_16_rounds_nf4_better(dtype):
    numbers = np.array([x for x in NUMBERS["nf4"] if x])
    digits = {"bf16": 8, "fp16": 11}[dtype]
    scaled = (np.arange(1 << 16, 1 << 17) / 2.0**16)[:, None] * numbers
    mantissa, exponent = np.frexp(scaled)
    rounded = np.ldexp(np.rint(mantissa * 2.0**digits) / 2.0**digits, exponent)
    rms = np.sqrt(((rounded / scaled - 1) ** 2).mean(axis=1))
    assert (rms.argmin() + (1 << 16)) / 2.0**16 == SCALES["nf4", dtype]
    assert np.abs(rounded[0] / scaled[0] - 1).max() > AS_THEY_ARE[dtype]


@pytest.mark.parametrize("dtype", list(HALVES))
def test_two_permutes_and_an_exclusive_or_look_up_every_code_on_amd(dtype):
    planes = xor_planes("nf4", dtype)
    for code in range(16):
        by = code * 0x01010101
        found = [
            v_perm(first_high, first_low, by) ^ v_perm(second_high, second_low, by ^ 0x08080808)
            for first_low, first_high, second_low, second_high in planes
        ]
        assert [byte & 0xFF for byte in found] == [table_bits("nf4", dtype)[code] >> 8 * i & 0xFF for i in (0, 1)]


@pytest.mark.parametrize("dtype", list(HALVES))
@pytest.mark.parametrize("code", list(NUMBERS))
def test_permutes_by_nibbles_look_up_words_on_nvidia(code, dtype):
    """The steps of templates/prelude/nvidia_codes4.h.jinja, for every pair of codes in every place."""
    low, high = plain_planes(code, dtype)
    table = table_bits(code, dtype)
    for byte in range(256):
        word = byte * 0x01010101
        for half in (word, word >> 16):
            clear, second = half & 0x77777777, 0xFFFFFFFF ^ (3 * prmt(0x55555555, 0x55555555, half) & 0xFFFFFFFF)
            first, other = ([prmt(plane[i + 1], plane[i], clear) for plane in (low, high)] for i in (0, 2))
            lows, highs = (a & ~second | b & second for a, b in zip(first, other, strict=True))
            assert prmt(highs, lows, 0x4051) == prmt(highs, lows, 0x6273) == table[byte >> 4] | table[byte & 15] << 16


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_patterns_and_numbers_go_both_ways(dtype):
    for bits in (0, 0x3C00, 0xBF80, 0x3D77):
        wide = bits << 16 if dtype == "fp32" else bits
        assert element_bits(element_value(wide, dtype), dtype) == wide
