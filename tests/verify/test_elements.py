"""Element types as bit patterns: what every pattern stands for, and which pattern a value is rounded to, against ml_dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from kgen.verify.elements import NAN_FP8, POISON, POISON_FP32, from_bits, nan_of, pattern_type, to_bits

FP8 = {"e4m3fn": ml_dtypes.float8_e4m3fn, "e4m3fnuz": ml_dtypes.float8_e4m3fnuz}
LARGEST = {"e4m3fn": 448.0, "e4m3fnuz": 240.0}
ALL = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("element", FP8)
def test_all_256_patterns_of_fp8_mean_what_ml_dtypes_says(element):
    assert np.array_equal(from_bits(ALL, element), ALL.view(FP8[element]).astype(np.float64), equal_nan=True)


@pytest.mark.parametrize("element", FP8)
def test_every_number_of_fp8_comes_back_as_its_pattern(element):
    values = from_bits(ALL, element)
    numbers = ~np.isnan(values) & ~((values == 0) & (ALL > 0))  # there is one zero: a negative one is not written
    assert np.array_equal(to_bits(values[numbers], element), ALL[numbers])
    assert to_bits(np.array([-0.0]), element) == 0


@pytest.mark.parametrize("element", FP8)
def test_rounding_to_fp8_is_that_of_ml_dtypes(element):
    """Random values of every size, all halfway points between neighbours, and the fp32 numbers next to those."""
    rng = np.random.default_rng(1)
    spread = (rng.standard_normal(200_000) * 2.0 ** rng.uniform(-14, 8, 200_000)).astype(np.float32)
    numbers = np.unique(from_bits(ALL, element)[~np.isnan(from_bits(ALL, element))])
    half = ((numbers[1:] + numbers[:-1]) / 2).astype(np.float32)
    values = np.concatenate([spread, half, np.nextafter(half, np.float32(-1e9)), np.nextafter(half, np.float32(1e9))])
    values = values[np.abs(values) <= LARGEST[element]]
    theirs = values.astype(FP8[element]).view(np.uint8)
    ours = to_bits(values, element)
    zero = from_bits(theirs, element) == 0
    assert np.array_equal(ours[~zero], theirs[~zero])
    assert not ours[zero].any()


@pytest.mark.parametrize("element", FP8)
def test_fp8_is_clamped_to_its_largest_number_and_keeps_nan(element):
    beyond = np.array([1e3, np.inf, -1e30, -np.inf, np.nan])
    top = LARGEST[element]
    assert np.array_equal(from_bits(to_bits(beyond, element), element), [top, top, -top, -top, np.nan], equal_nan=True)
    assert to_bits(np.array([np.nan]), element) == NAN_FP8[element]


@pytest.mark.parametrize(("element", "their"), [("bf16", ml_dtypes.bfloat16), ("fp16", np.float16)])
def test_rounding_to_16_bits_is_that_of_ml_dtypes_and_numpy(element, their):
    rng = np.random.default_rng(2)
    values = (rng.standard_normal(100_000) * 2.0 ** rng.uniform(-24, 14, 100_000)).astype(np.float32)
    bits = to_bits(values, element)
    assert np.array_equal(bits, values.astype(their).view(np.uint16))
    assert np.array_equal(from_bits(bits, element), values.astype(their).astype(np.float64))


@pytest.mark.parametrize("element", ["bf16", "fp16", *FP8])
def test_the_filling_of_paddings_is_nan_in_every_type(element):
    assert np.isnan(from_bits(np.array([nan_of(element)], np.uint8 if element in FP8 else np.uint16), element)).all()
    assert nan_of("bf16") == POISON


def test_fp32_patterns_are_those_of_fp32():
    values = np.array([0.0, 1.5, -(2.0**-140), 3.0e38, np.inf])
    bits = to_bits(values, "fp32")
    assert bits.dtype == pattern_type("fp32") == np.uint32
    assert np.array_equal(bits, values.astype(np.float32).view(np.uint32))
    assert np.array_equal(from_bits(bits, "fp32"), values.astype(np.float32).astype(np.float64))
    assert nan_of("fp32") == POISON_FP32
    assert np.isnan(from_bits(np.array([POISON_FP32], np.uint32), "fp32")).all()
    assert (pattern_type("bf16"), pattern_type("e4m3fn")) == (np.uint16, np.uint8)
