"""The accuracy rules, for every family: how far an output may lie from the exact result, and what counts as passed.

The reference is exact: products of 16-bit elements are exact in fp64 and their fp64 sum is off by 2^-53 of its magnitude.

Tolerance of one element whose exact value is r, with S = sum |a_i b_i| + |bias| (`magnitude`):

    tolerance = eps * max(|r|, min_normal)  +  depth * unit * S

* First term, the one rounding to the output type: one unit in the last place (eps = 2^-7 bf16, 2^-10 fp16), never below the spacing of
  subnormal numbers. Rounding to nearest takes at most half of it.
* Second term, the accumulation: each product passes through at most `depth` additions, each off by at most `unit` of a partial sum that
  is at most S. unit is 2^-23 for fp32: twice the rounding error of a correctly rounded addition, so that adders that truncate (dot
  products, matrix cores) are covered. `depth` follows from the order that the kernel promises, so it is small: for a wave that splits
  K it is K / lanes and not K.

Comparisons with a reference that was not quantised (fp8 kernels against the layer they stand for) add a third term, the noise of
quantisation; see `fp8_noise`. Against the exact result of the quantised values an fp8 kernel is judged like any other.

An output that is correctly rounded from such a sum is within tolerance in every case. The other two limits see what one bound cannot:

* none beyond 3 x tolerance: what is allowed to the 0.001 % is still no wrong result;
* mean error below a quarter of the mean tolerance: the error of rounding to nearest is spread evenly over half a unit at each binade's
  lower end, that is 0.25 * eps * 2^exponent on average, while the tolerance averages 1/ln 2 = 1.44 * eps * 2^exponent over a binade: a
  ratio of 0.17. Truncating instead of rounding, or rounding twice, doubles it and fails. Below MEAN_FROM elements chance could fail it
  (Hoeffding: errors span half a tolerance, so a mean of n exceeds 0.17 by 0.0765 with a probability below exp(-2 n (0.0765 / 0.5)^2),
  4e-11 for 512), so it is applied from there on.

NaN is never an error that can be tolerated: an output is NaN exactly where the reference is NaN. Outputs are filled with NaN before the
launch, so an element that was not written fails.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kgen.spec.base import Dtype
from kgen.verify.elements import FORMATS, Bits, Doubles, from_bits

SHARE_WITHIN = 0.99999
BEYOND = 3.0
MEAN_SHARE = 0.25
MEAN_FROM = 512


# Rounding to e4m3 (three bits of mantissa, eps = 2^-3). A significand m in [1, 2) is off by a uniform error of 2^-3 / sqrt(12) rms; over m spread
# evenly in its logarithm the mean of 1 / m^2 is 3 / (8 ln 2), so a value is off by 0.0265 of itself, a product of two by sqrt(2) times that.
FP8_RMS = 2**0.5 * 2.0**-3 / 12**0.5 * (3 / (8 * math.log(2))) ** 0.5
FP8_MOST = (1 + 2.0**-4) ** 2 - 1  # both factors off by half a unit
SIGMAS = (
    4.5  # 7 of a million errors of a normal distribution lie beyond; the mean of |error| is 0.8 sigma, 0.18 of this
)


@dataclass(frozen=True)
class Accumulation:
    """How a kernel adds. depth: most additions that one product passes through; unit: relative error of one addition.

    noise, cap: error of the operands themselves, see `fp8_noise` and `rounded_operand`; none where both are 0.
    """

    name: str
    depth: int
    unit: float
    noise: float = 0.0
    cap: float = 0.0


def fp32_accumulation(depth: int) -> Accumulation:
    """fp32 sums; an addition is off by at most 2^-23 of its result even where the adder truncates."""
    return Accumulation(f"fp32, {depth} additions deep", depth, 2.0**-23)


def half_accumulation(depth: int, dtype: Dtype) -> Accumulation:
    """Sums kept in the 16-bit element type; each addition is rounded to nearest."""
    return Accumulation(f"{dtype}, {depth} additions deep", depth, FORMATS[dtype].eps / 2)


def fp8_noise(depth: int) -> Accumulation:
    """An fp8 kernel judged against operands that were never quantised: fp32 sums, and noise that grows as sqrt(K) * eps.

    The K products of an element are off independently of each other, by FP8_RMS of their size each, so their sum is off by FP8_RMS * E rms
    with E = sqrt(sum (a_i b_i)^2): sqrt(K) times a product's rms, while the sum of absolute values S grows as K. Allowed: SIGMAS times that,
    and never more than FP8_MOST * S, which both factors of every product off by half a unit would give (the cap; it binds where one product
    outweighs all others). Scales per tensor must map the largest value to the type's largest; what then falls below the smallest normal number is
    2^-14.8 of the largest or smaller and adds nothing that counts.
    """
    return Accumulation(f"fp8 against unquantised, {depth} additions deep", depth, 2.0**-23, SIGMAS * FP8_RMS, FP8_MOST)


def rounded_operand(depth: int, dtype: Dtype) -> Accumulation:
    """A second GEMM on what a first one made and rounded to `dtype`, judged against a layer in which nothing is rounded between the two.

    Each operand is off by its own rounding: up to half a unit in the last place (the cap, half of eps), rms eps / sqrt(12) at a significand of 1
    and 1/m of that at m, so by eps * 0.212 of itself over significands spread evenly in their logarithm (as in `FP8_RMS`). The roundings are
    independent, so their sum is off by 0.212 * eps * E rms with E = sqrt(sum (a_i b_i)^2): allowed are SIGMAS of that. `magnitude` must also hold
    the first GEMM's sums of absolute products as the second one multiplies them, which carries its fp32 errors through.
    """
    eps = FORMATS[dtype].eps
    rms = eps / 12**0.5 * (3 / (8 * math.log(2))) ** 0.5
    return Accumulation(
        f"fp32, {depth} additions deep, an operand rounded to {dtype}", depth, 2.0**-23, SIGMAS * rms, eps / 2
    )


@dataclass(frozen=True)
class Verdict:
    """What the rules say of one output. Errors and tolerance are absolute; tolerance is that of the worst element."""

    ok: bool
    max_abs_err: float
    mean_abs_err: float
    tolerance: float
    words: str


def tolerance(
    reference: Doubles, magnitude: Doubles, dtype: Dtype, model: Accumulation, energy: Doubles | None = None
) -> Doubles:
    """Per element, by the module's formula. energy: sqrt(sum (a_i b_i)^2), asked for by models with noise."""
    form = FORMATS[dtype]
    out = form.eps * np.maximum(np.abs(reference), form.min_normal) + model.depth * model.unit * magnitude
    if model.noise:
        assert energy is not None, f"{model.name}: needs the energy of the products"
        out = out + np.minimum(model.noise * energy, model.cap * magnitude)
    return out


@np.errstate(invalid="ignore", over="ignore")  # outputs may hold anything
def judge(
    out: Bits,
    reference: Doubles,
    magnitude: Doubles,
    dtype: Dtype,
    model: Accumulation,
    energy: Doubles | None = None,
) -> Verdict:
    """Apply the rules to an output (16-bit patterns) against the exact values; all arrays have one shape. energy: see `tolerance`."""
    values = from_bits(out, dtype)
    expected_nan, is_nan = np.isnan(reference), np.isnan(values)
    wrong_nan = expected_nan != is_nan
    finite = ~(expected_nan | is_nan)
    if not finite.any():
        return _nan_verdict(wrong_nan, reference, 0.0, 0.0, 0.0) or Verdict(True, 0.0, 0.0, 0.0, "NaN where it must be")
    error = np.where(finite, np.abs(values - np.where(finite, reference, 0.0)), 0.0)
    error[finite & np.isinf(values)] = np.inf
    exact, size = np.where(finite, reference, 0.0), np.where(finite, magnitude, 0.0)
    bound = tolerance(exact, size, dtype, model, None if energy is None else np.where(finite, energy, 0.0))
    ratio = error / bound
    worst = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    count = int(finite.sum())
    mean, mean_bound = float(error[finite].mean()), float(bound[finite].mean())
    numbers = float(error.max()), mean, float(bound[worst])
    if bad := _nan_verdict(wrong_nan, reference, *numbers):
        return bad
    place = f"at {tuple(map(int, worst))}: {values[worst]:.6g}, exact {reference[worst]:.6g}"
    if ratio[worst] > BEYOND:
        return Verdict(False, *numbers, f"{ratio[worst]:.3g} x the tolerance {place}")
    within = float((ratio[finite] <= 1).mean())
    if within < SHARE_WITHIN:
        outside = int((ratio[finite] > 1).sum())
        return Verdict(
            False, *numbers, f"{outside} of {count} outside the tolerance; worst {ratio[worst]:.3g} x {place}"
        )
    if count >= MEAN_FROM and not mean < MEAN_SHARE * mean_bound:
        words = f"mean error {mean:.3g} is {mean / mean_bound:.2f} of the mean tolerance, allowed {MEAN_SHARE}: not rounded to nearest?"
        return Verdict(False, *numbers, words)
    return Verdict(True, *numbers, f"worst {ratio[worst]:.2f} of the tolerance")


@np.errstate(invalid="ignore", over="ignore")
def judge_exact(out: Bits, expected: Bits, dtype: Dtype) -> Verdict:
    """Bits must be equal, but for the sign of zero: what zero inputs and repeated runs must give."""
    values, wanted = from_bits(out, dtype), from_bits(expected, dtype)
    same = (out == expected) | ((values == 0) & (wanted == 0))
    error = np.abs(np.nan_to_num(values, nan=np.inf) - np.nan_to_num(wanted, nan=np.inf))
    error = np.nan_to_num(error, nan=0.0)
    if same.all():
        return Verdict(True, 0.0, 0.0, 0.0, "exact")
    place = np.unravel_index(int(np.argmin(same)), same.shape)
    words = f"{int((~same).sum())} of {same.size} differ; first at {tuple(map(int, place))}: {values[place]:.6g}, must be {wanted[place]:.6g}"
    return Verdict(False, float(error.max()), float(error.mean()), 0.0, words)


def _nan_verdict(
    wrong: np.ndarray, reference: Doubles, max_err: float, mean_err: float, bound: float
) -> Verdict | None:
    if not wrong.any():
        return None
    place = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    what = "a number where NaN must be" if np.isnan(reference[place]) else "NaN or never written"
    words = f"{int(wrong.sum())} of {wrong.size} elements are {what}; first at {tuple(map(int, place))}"
    return Verdict(False, max_err, mean_err, bound, words)
