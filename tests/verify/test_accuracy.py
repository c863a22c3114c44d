"""The accuracy rules let a rightly rounded sum through and nothing that is wrong in a way kernels are."""

from __future__ import annotations

import numpy as np
import pytest

from kgen.verify.accuracy import (
    FP8_MOST,
    FP8_RMS,
    fp8_noise,
    fp32_accumulation,
    half_accumulation,
    judge,
    judge_exact,
    tolerance,
)
from kgen.verify.elements import FORMATS, POISON, from_bits, to_bits

DTYPES = ("bf16", "fp16")
K, N, M = 1024, 4, 1000


@pytest.fixture(scope="module", params=DTYPES)
def problem(request):
    """(dtype, act, weight, reference, magnitude) of a GEMM with K products per element; act and weight exact in fp64."""
    dtype, rng = request.param, np.random.default_rng(7)
    act = from_bits(to_bits(rng.standard_normal((N, K)), dtype), dtype)
    weight = from_bits(to_bits(rng.standard_normal((M, K)), dtype), dtype)
    return dtype, act, weight, act @ weight.T, np.abs(act) @ np.abs(weight).T


MODEL = fp32_accumulation(K // 32 + 6)  # 32 lanes, each a chain of K / 32, then five steps over the lanes and the bias


def lane_sums(act, weight, cast):
    """The sum as a wave of 32 lanes makes it, every partial sum through `cast`."""
    products = (act[:, None, :] * weight[None, :, :]).reshape(N, M, K // 256, 32, 8)
    lanes = np.zeros((N, M, 32))
    for trip in range(K // 256):
        for element in range(8):
            lanes = cast(lanes + products[:, :, trip, :, element])
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = cast(lanes[..., :half] + lanes[..., half:])
    return lanes[..., 0]


def truncated(values, dtype):
    """Toward zero instead of to nearest."""
    bits = to_bits(values, dtype)
    too_large = np.abs(from_bits(bits, dtype)) > np.abs(values)
    return (bits - too_large).astype(np.uint16)


def test_a_correctly_rounded_fp32_sum_passes_well_inside(problem):
    dtype, act, weight, reference, magnitude = problem
    out = to_bits(lane_sums(act, weight, lambda x: x.astype(np.float32).astype(np.float64)), dtype)
    verdict = judge(out, reference, magnitude, dtype, MODEL)
    assert verdict.ok, verdict.words
    error = np.abs(from_bits(out, dtype) - reference)
    # Half a unit in the last place for the rounding; the derived part covers the accumulation.
    bound = tolerance(reference, magnitude, dtype, MODEL) - FORMATS[dtype].eps / 2 * np.abs(reference)
    assert (error <= bound).all()


def test_truncating_instead_of_rounding_fails_by_the_mean(problem):
    dtype, _, _, reference, magnitude = problem
    verdict = judge(truncated(reference, dtype), reference, magnitude, dtype, MODEL)
    assert not verdict.ok
    assert "mean error" in verdict.words


def test_sums_kept_in_16_bits_fail_the_fp32_rule_and_pass_their_own(problem):
    dtype, act, weight, reference, magnitude = problem
    out = to_bits(lane_sums(act, weight, lambda x: from_bits(to_bits(x, dtype), dtype)), dtype)
    assert not judge(out, reference, magnitude, dtype, MODEL).ok
    assert judge(out, reference, magnitude, dtype, half_accumulation(MODEL.depth, dtype)).ok


def test_one_element_beyond_three_tolerances_fails(problem):
    dtype, _, _, reference, magnitude = problem
    wrong = reference.copy()
    wrong[1, 7] += 4 * tolerance(reference, magnitude, dtype, MODEL)[1, 7]
    verdict = judge(to_bits(wrong, dtype), reference, magnitude, dtype, MODEL)
    assert not verdict.ok
    assert "(1, 7)" in verdict.words


def test_a_lost_product_fails(problem):
    dtype, act, weight, reference, magnitude = problem
    lost = reference - np.outer(act[:, -1], weight[:, -1])  # the last element of K left out, as a wrong remainder does
    assert not judge(to_bits(lost, dtype), reference, magnitude, dtype, MODEL).ok


@pytest.mark.parametrize(("outside", "ok"), [(1, True), (3, False)])
def test_one_element_in_a_hundred_thousand_may_lie_outside(outside, ok):
    reference = np.random.default_rng(1).uniform(1, 2, (2, 100_000))
    wrong = reference.copy()
    wrong[0, :outside] += 2 * tolerance(reference, reference, "bf16", MODEL)[0, :outside]
    assert judge(to_bits(wrong, "bf16"), reference, reference, "bf16", MODEL).ok is ok


def test_an_element_that_was_not_written_fails(problem):
    dtype, _, _, reference, magnitude = problem
    out = to_bits(reference, dtype)
    out[3, 999] = POISON
    verdict = judge(out, reference, magnitude, dtype, MODEL)
    assert not verdict.ok
    assert "never written" in verdict.words


def test_nan_must_appear_where_it_belongs_and_nowhere_else(problem):
    dtype, _, _, reference, magnitude = problem
    poisoned = reference.copy()
    poisoned[2] = np.nan
    assert judge(to_bits(poisoned, dtype), poisoned, magnitude, dtype, MODEL).ok
    assert not judge(to_bits(reference, dtype), poisoned, magnitude, dtype, MODEL).ok
    assert not judge(to_bits(poisoned, dtype), reference, magnitude, dtype, MODEL).ok


def test_infinity_is_wrong(problem):
    dtype, _, _, reference, magnitude = problem
    wrong = reference.copy()
    wrong[0, 0] = np.inf
    assert not judge(to_bits(wrong, dtype), reference, magnitude, dtype, MODEL).ok


def test_exact_means_bits_but_for_the_sign_of_zero():
    zero, minus_zero, one = np.array([0], np.uint16), np.array([0x8000], np.uint16), to_bits(np.array([1.0]), "bf16")
    assert judge_exact(minus_zero, zero, "bf16").ok
    assert not judge_exact(one + 1, one, "bf16").ok
    assert not judge_exact(np.array([POISON], np.uint16), zero, "bf16").ok


def e4m3(values):
    """Values that went through e4m3fn with a scale that maps the largest of each tensor to 448."""
    scale = np.abs(values).max() / 448
    return scale * from_bits(to_bits(values / scale, "e4m3fn"), "e4m3fn")


@pytest.fixture(scope="module", params=["normal", "hot", "sparse"])
def quantised(request):
    """(reference, magnitude, energy, exact result of the quantised operands) of unquantised fp32 operands."""
    rng = np.random.default_rng(11)
    act, weight = rng.standard_normal((N, K)), rng.standard_normal((M, K))
    if request.param == "hot":
        act *= np.where(rng.random(K) < 0.1, 30.0, 1.0)
    if request.param == "sparse":
        act = np.maximum(act, 0)
    return act @ weight.T, np.abs(act) @ np.abs(weight).T, np.sqrt(act**2 @ (weight**2).T), e4m3(act) @ e4m3(weight).T


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_fp8_layer_is_within_the_noise_of_quantisation(quantised, dtype):
    reference, magnitude, energy, out = quantised
    model = fp8_noise(K // 32 + 6)
    verdict = judge(to_bits(out, dtype), reference, magnitude, dtype, model, energy)
    assert verdict.ok, verdict.words
    assert not judge(to_bits(out, dtype), reference, magnitude, dtype, MODEL).ok  # it is noise, and more than rounding


def test_the_noise_of_fp8_is_what_was_derived_and_grows_as_the_root_of_k(quantised):
    reference, _, energy, out = quantised
    rms = np.sqrt(np.mean(((out - reference) / energy) ** 2))
    assert FP8_RMS / 1.2 < rms < 1.2 * FP8_RMS  # real significands are not quite even in their logarithm


def test_twice_the_noise_of_fp8_fails(quantised):
    """As fp8 with one bit of mantissa less, a scale that wastes the range, or every 16th product lost."""
    reference, magnitude, energy, out = quantised
    worse = reference + 2 * (out - reference)
    assert not judge(to_bits(worse, "bf16"), reference, magnitude, "bf16", fp8_noise(38), energy).ok


def test_the_noise_is_capped_by_what_rounding_both_factors_can_do():
    one = np.ones((1, 1))
    model = fp8_noise(1)
    assert tolerance(one, one, "fp16", model, one)[0, 0] < 1.01 * FP8_MOST
    many = tolerance(one, 1024 * one, "fp16", model, 32 * one)[0, 0]  # 1024 products of 1
    assert many < 32 * 4.6 * FP8_RMS < 1024 * FP8_MOST


@pytest.mark.parametrize("dtype", DTYPES)
def test_patterns_are_what_torch_makes_of_the_same_values(dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    values = (rng.standard_normal(100_000) * 10.0 ** rng.integers(-9, 5, 100_000)).astype(np.float32)
    halfway = np.array(
        [1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 0.0, -0.0, np.inf, -np.inf], np.float32
    )
    values = np.concatenate((values, halfway))
    wanted = torch.from_numpy(values).to({"bf16": torch.bfloat16, "fp16": torch.float16}[dtype])
    bits = to_bits(values, dtype)
    assert (bits == wanted.view(torch.int16).numpy().view(np.uint16)).all()
    assert (from_bits(bits, dtype) == wanted.double().numpy()).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_stays_nan(dtype):
    assert np.isnan(from_bits(to_bits(np.array([np.nan]), dtype), dtype)).all()
    assert np.isnan(from_bits(np.array([POISON], np.uint16), dtype)).all()
