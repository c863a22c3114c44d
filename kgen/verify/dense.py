"""Data of a case for kernels on weights that are numbers as they are: 16-bit floats, and 8-bit floats with a scale per tensor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from kgen.spec.base import Dtype
from kgen.verify.cases import Case
from kgen.verify.data import Extra
from kgen.verify.elements import Bits, Doubles, Element, from_bits, nan_of, pattern_type, to_bits

D = TypeVar("D", bound="Operands")
HOT_SHARE, HOT_SCALE = 0.1, 30.0  # mixed scale: a tenth of the channels is 30 times as loud


@dataclass(frozen=True)
class Operands:
    """What a launch needs, as bit patterns. Buffers end with the last element of their last row: no byte too many is mapped.

    weight [M, K] and act [N, K] with row strides in elements; bias None, [M] (bias_stride 0) or [N, M]; padding columns hold NaN.
    reference and magnitude: [N, M] exact result and sum of absolute products, see kgen.verify.accuracy. `expected`: the exact bits,
    where zero inputs leave no room.
    """

    weight: Any
    act: Any
    bias: Bits | None
    weight_stride: int
    act_stride: int
    bias_stride: int
    reference: Doubles
    magnitude: Doubles
    expected: Bits | None
    weight_scale: float = 1.0
    act_scale: float = 1.0

    @property
    def extras(self) -> dict[str, Extra]:
        """None: the output is all that is written."""
        return {}

    @property
    def out_shape(self) -> tuple[int, int]:
        """[N, M]."""
        return self.reference.shape[0], self.reference.shape[1]

    def arrays(self) -> dict[str, Any]:
        """By argument name, None for a null pointer."""
        scales = {"weight_scale": self.weight_scale, "act_scale": self.act_scale}
        return {"weight": self.weight, "act": self.act, "bias": self.bias} | {
            name: np.array([value], np.float32) for name, value in scales.items()
        }

    def sizes(self) -> dict[str, int]:
        """Strides by argument name."""
        return {
            "weight_stride": self.weight_stride,
            "act_stride": self.act_stride,
            "bias_stride": self.bias_stride,
        }


def operands(case: Case, dtype: Dtype, element: Element | None = None) -> Operands:
    """The data of a case: the same for the same case and types; paddings and CU count do not change any value.

    dtype of out and bias; element of weight and act (default: dtype), with a scale each where it has 8 bits.
    """
    element = element or dtype
    shape = case.shape
    rng = np.random.default_rng([case.seed, shape.M, shape.N, shape.K])
    act = rng.standard_normal((shape.N, shape.K), np.float32)
    weight = rng.standard_normal((shape.M, shape.K), np.float32)
    bias = bias_bits(case, rng, dtype)
    act = shaped(case, rng, act)
    act_bits, weight_bits = to_bits(act, element), to_bits(weight, element)
    scales = (1.0, 1.0) if element == dtype else (0.0625 * 1.25, 0.75)  # exact in fp32, and so is their product
    product, size = _exact(act_bits, weight_bits, element)
    added = 0.0 if bias is None else from_bits(bias, dtype)
    reference = product * (scales[0] * scales[1]) + added
    magnitude = size * (scales[0] * scales[1]) + np.abs(added)
    return Operands(
        weight=padded(weight_bits, case.weight_pad, element),
        act=padded(act_bits, case.act_pad, element),
        bias=None if bias is None else padded(bias, case.bias_pad, dtype),
        weight_stride=shape.K + case.weight_pad,
        act_stride=shape.K + case.act_pad,
        bias_stride=shape.M + case.bias_pad if case.bias == "NM" else 0,
        reference=reference,
        magnitude=magnitude,
        expected=exact_bits(case, bias, dtype),
        weight_scale=scales[0],
        act_scale=scales[1],
    )


def bias_bits(case: Case, rng: np.random.Generator, dtype: Dtype) -> Bits | None:
    """The case's bias, [1, M] or [N, M]."""
    rows = {"none": None, "M": 1, "NM": case.shape.N}[case.bias]
    return None if rows is None else to_bits(4 * rng.standard_normal((rows, case.shape.M), np.float32), dtype)


def shaped(case: Case, rng: np.random.Generator, act: Any) -> Any:
    """Normal activations [N, K] made into what the case wants of them."""
    K = case.shape.K
    if case.values == "hot":
        act = act * np.where(rng.random(K) < HOT_SHARE, HOT_SCALE, 1.0).astype(np.float32)
    elif case.values == "sparse":
        act = np.maximum(act, 0)
    elif case.values == "zeros":
        act = np.zeros_like(act)
    if (row := case.nan_row) is not None:
        act[row, int(rng.integers(K))] = np.nan
    return act


def exact_bits(case: Case, bias: Bits | None, dtype: Dtype) -> Bits | None:
    """The output's bits where zero activations leave no room: zeros, or the bias."""
    if case.values != "zeros":
        return None
    out = (case.shape.N, case.shape.M)
    return np.zeros(out, pattern_type(dtype)) if bias is None else np.broadcast_to(bias, out)


def other_rows(case: Case, data: D) -> D:
    """The same problem with the last activation row moved to the front and all others replaced.

    Where no row's result depends on its place or on its neighbours, the first output row must be the old last one, bit for bit; the case's
    bias must be the same for all rows. `reference` and `magnitude` are the old ones.
    """
    assert case.bias != "NM", "the bias would move too"
    shape, stride = case.shape, data.act_stride
    rng = np.random.default_rng(case.seed + 1)
    # Any finite patterns do: as bf16 those of fp16 are of mixed size, and FNUZ knows those of e4m3fn.
    elements: dict[int, Element] = {1: "e4m3fn", 2: "fp16", 4: "fp32"}
    element = elements[data.act.itemsize]
    rows = np.full((shape.N, stride), 0 if element == "e4m3fn" else nan_of(element), data.act.dtype)
    noise = HOT_SCALE * rng.standard_normal((shape.N, shape.K), np.float32)
    rows[:, : shape.K] = to_bits(noise, element)
    rows[0, : shape.K] = data.act[(shape.N - 1) * stride :]
    return replace(data, act=rows.reshape(-1)[: data.act.size].copy())


def _exact(act: Any, weight: Any, element: Element) -> tuple[Doubles, Doubles]:
    a, w = from_bits(act, element), from_bits(weight, element)
    return a @ w.T, np.abs(a) @ np.abs(w).T


def padded(rows: Any, extra: int, element: Element) -> Any:
    """Rows with `extra` NaN elements between them, flat; none after the last."""
    out = np.full((rows.shape[0], rows.shape[1] + extra), nan_of(element), rows.dtype)
    out[:, : rows.shape[1]] = rows
    flat = out.reshape(-1)
    return flat[: flat.size - extra].copy()
