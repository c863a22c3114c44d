"""Deterministic cases: sizes that go wrong, and data that shows it.

A case is a few numbers; `operands` makes the same bytes from it anywhere. Every kernel gets sizes from its own tile, slab and window, so
that each loop runs not at all, once, several times and with a remainder. What a kernel can take is asked of `spec.fits`, nowhere else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from kgen.spec.base import Dtype, KernelSpec
from kgen.spec.linear import LinearSpec
from kgen.spec.problem import GemmShape, ceil_div
from kgen.verify.accuracy import Accumulation, fp32_accumulation
from kgen.verify.elements import POISON, Bits, Doubles, Element, from_bits, nan_of, to_bits

Level = Literal["quick", "full"]
Bias = Literal["none", "M", "NM"]
Values = Literal["normal", "hot", "sparse", "zeros", "nan"]

HOT_SHARE, HOT_SCALE = 0.1, 30.0  # mixed scale: a tenth of the channels is 30 times as loud


@dataclass(frozen=True)
class Case:
    """One problem for a kernel. Paddings are extra elements per row; cu 0 stands for the device's own count."""

    words: str
    shape: GemmShape
    values: Values = "normal"
    bias: Bias = "none"
    weight_pad: int = 0
    act_pad: int = 0
    bias_pad: int = 0
    cu: int = 0
    seed: int = 0

    @property
    def nan_row(self) -> int | None:
        """The activation row that holds a NaN."""
        return self.seed % self.shape.N if self.values == "nan" else None

    def title(self) -> str:
        """The case in one line."""
        pads = [f"{n} +{p}" for n, p in (("weight", self.weight_pad), ("act", self.act_pad)) if p]
        parts = [f"M{self.shape.M} N{self.shape.N} K{self.shape.K}", self.values, f"bias {self.bias}", *pads]
        return f"{self.words}: " + ", ".join(parts)


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


def operands(case: Case, dtype: Dtype, element: Element | None = None) -> Operands:
    """The data of a case: the same for the same case and types; paddings and CU count do not change any value.

    dtype of out and bias; element of weight and act (default: dtype), with a scale each where it has 8 bits.
    """
    element = element or dtype
    shape = case.shape
    rng = np.random.default_rng([case.seed, shape.M, shape.N, shape.K])
    act = rng.standard_normal((shape.N, shape.K), np.float32)
    weight = rng.standard_normal((shape.M, shape.K), np.float32)
    bias_rows = {"none": None, "M": 1, "NM": shape.N}[case.bias]
    bias = None if bias_rows is None else to_bits(4 * rng.standard_normal((bias_rows, shape.M), np.float32), dtype)
    if case.values == "hot":
        act *= np.where(rng.random(shape.K) < HOT_SHARE, HOT_SCALE, 1.0).astype(np.float32)
    elif case.values == "sparse":
        act = np.maximum(act, 0)
    elif case.values == "zeros":
        act[:] = 0
    if (row := case.nan_row) is not None:
        act[row, int(rng.integers(shape.K))] = np.nan
    act_bits, weight_bits = to_bits(act, element), to_bits(weight, element)
    scales = (1.0, 1.0) if element == dtype else (0.0625 * 1.25, 0.75)  # exact in fp32, and so is their product
    product, size = _exact(act_bits, weight_bits, element)
    added = 0.0 if bias is None else from_bits(bias, dtype)
    reference = product * (scales[0] * scales[1]) + added
    magnitude = size * (scales[0] * scales[1]) + np.abs(added)
    expected = None
    if case.values == "zeros":
        expected = (
            np.zeros((shape.N, shape.M), np.uint16) if bias is None else np.broadcast_to(bias, (shape.N, shape.M))
        )
    return Operands(
        weight=_pad(weight_bits, case.weight_pad, element),
        act=_pad(act_bits, case.act_pad, element),
        bias=None if bias is None else _pad(bias, case.bias_pad, dtype),
        weight_stride=shape.K + case.weight_pad,
        act_stride=shape.K + case.act_pad,
        bias_stride=shape.M + case.bias_pad if case.bias == "NM" else 0,
        reference=reference,
        magnitude=magnitude,
        expected=expected,
        weight_scale=scales[0],
        act_scale=scales[1],
    )


def other_rows(case: Case, data: Operands) -> Operands:
    """The same problem with the last activation row moved to the front and all others replaced.

    Where no row's result depends on its place or on its neighbours, the first output row must be the old last one, bit for bit; the case's
    bias must be the same for all rows. `reference` and `magnitude` are the old ones.
    """
    assert case.bias != "NM", "the bias would move too"
    shape, stride = case.shape, data.act_stride
    rng = np.random.default_rng(case.seed + 1)
    wide = data.act.dtype == np.uint16
    rows = np.full((shape.N, stride), POISON if wide else 0, data.act.dtype)
    noise = HOT_SCALE * rng.standard_normal((shape.N, shape.K), np.float32)
    # Any finite patterns do: as bf16 those of fp16 are of mixed size, and FNUZ knows those of e4m3fn.
    rows[:, : shape.K] = to_bits(noise, "fp16" if wide else "e4m3fn")
    rows[0, : shape.K] = data.act[(shape.N - 1) * stride :]
    return replace(data, act=rows.reshape(-1)[: data.act.size].copy())


def _exact(act: Any, weight: Any, element: Element) -> tuple[Doubles, Doubles]:
    a, w = from_bits(act, element), from_bits(weight, element)
    return a @ w.T, np.abs(a) @ np.abs(w).T


def _pad(rows: Any, extra: int, element: Element) -> Any:
    """Rows with `extra` NaN elements between them, flat; none after the last."""
    out = np.full((rows.shape[0], rows.shape[1] + extra), nan_of(element), rows.dtype)
    out[:, : rows.shape[1]] = rows
    flat = out.reshape(-1)
    return flat[: flat.size - extra].copy()


def accumulation(spec: KernelSpec, shape: GemmShape) -> Accumulation:
    """The order in which a kernel adds, as its spec promises it."""
    assert isinstance(spec, LinearSpec), spec.family
    return fp32_accumulation(spec.additions(shape))


def cases(spec: KernelSpec, level: Level = "quick") -> list[Case]:
    """The cases of a kernel, each of which it can take; `full` holds `quick`."""
    assert isinstance(spec, LinearSpec), spec.family
    found = _quick(spec) if level == "quick" else [*_quick(spec), *_full(spec)]
    rows = itertools.cycle(spec.rows_tried)
    found = [replace(case, shape=replace(case.shape, N=next(rows))) for case in found]
    return list(dict.fromkeys(case for case in found if spec.fits(case.shape) is None))


def _largest_k(spec: LinearSpec, wanted: int) -> int:
    """`wanted`, or the largest K at or below it that the kernel takes (a fixed K is that one)."""
    if spec.fixed_k is not None:
        return spec.fixed_k
    k = max(spec.piece, wanted // spec.piece * spec.piece)
    while k > spec.piece and spec.fits(GemmShape(1, spec.N, k)):
        k -= spec.piece
    return k


def _walk_m(spec: LinearSpec) -> int:
    """Output features for more tiles than one CU's grid has groups, the last one ragged."""
    groups, rows = spec.groups_per_cu if spec.persistent else 1, spec.rows_per_group
    return rows * (groups + 1) + rows // 2 + (rows > 2)


def _quick(spec: LinearSpec) -> list[Case]:
    n, rows = spec.N, spec.rows_per_group
    remainder = _largest_k(
        spec, spec.step + spec.slab + spec.slab // 2 + spec.piece
    )  # main loop, a whole slab, part of one
    whole = _largest_k(spec, 2 * spec.step)  # nothing left over
    short = _largest_k(spec, min(3 * spec.piece, spec.slab - spec.piece))  # less than a slab: most lanes have nothing
    out = [
        Case(
            "walk",
            GemmShape(_walk_m(spec), n, remainder),
            bias="M",
            weight_pad=spec.piece,
            act_pad=3 * spec.piece,
            cu=1,
            seed=1,
        ),
        Case("one row", GemmShape(1, n, whole), "hot", bias="NM", act_pad=spec.piece, bias_pad=3, seed=2),
        Case(
            "short K", GemmShape(rows + 1, n, short), "sparse", bias="NM", weight_pad=2 * spec.piece, bias_pad=1, seed=3
        ),
        Case("many", GemmShape(ceil_div(520, n), n, _largest_k(spec, spec.slab + spec.piece)), cu=1, seed=4),
        Case("zeros", GemmShape(rows + rows // 2 + 1, n, short), "zeros", bias="M", seed=5),
        Case("NaN", GemmShape(max(1, spec.rows_per_wave - 1), n, remainder), "nan", seed=6),
    ]
    if spec.shard is not None:
        split = _largest_k(spec, 2 * spec.shard + spec.slab + spec.piece)
        out.insert(0, Case("shards", GemmShape(rows + 1, n, split), bias="M", weight_pad=8, act_pad=24, seed=8))
    if spec.window is not None:
        crossing = _largest_k(spec, spec.window + spec.step + spec.piece)
        out.append(
            Case(
                "window",
                GemmShape(spec.rows_per_wave + 1, n, crossing),
                weight_pad=spec.piece,
                act_pad=spec.piece,
                cu=1,
                seed=7,
            )
        )
    return out


def _full(spec: LinearSpec) -> list[Case]:
    n, rows, slab, step = spec.N, spec.rows_per_group, spec.slab, spec.step
    ks = [
        spec.piece,
        slab - spec.piece,
        slab,
        slab + spec.piece,
        step - spec.piece,
        step,
        step + spec.piece,
        3 * step + slab + 40,
        1048,
        4096,
    ]
    if spec.window is not None:
        ks += [spec.window - spec.piece, spec.window, spec.window + spec.piece, 2 * spec.window + step]
    ks = sorted({_largest_k(spec, k) for k in ks})
    ms = sorted({1, spec.rows_per_wave, max(1, rows - 1), rows, rows + 1, _walk_m(spec)})
    forms: Iterable[tuple[Values, Bias]] = itertools.cycle(
        itertools.product(("normal", "hot", "sparse", "zeros", "nan"), ("none", "M", "NM"))
    )
    pads = itertools.cycle((0, spec.piece, 3 * spec.piece, 128))
    out = []
    for number, ((k, m), (values, bias)) in enumerate(zip(itertools.product(ks, ms), forms, strict=False)):
        case = Case("size", GemmShape(m, n, k), values, bias, next(pads), next(pads), cu=1, seed=100 + number)
        out.append(replace(case, act_pad=next(pads), bias_pad=5 if bias == "NM" else 0))
    return out
