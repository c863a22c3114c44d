"""Deterministic cases: sizes that go wrong, and kinds of data that show it.

A case is a few numbers; its data (`kgen.verify.dense`, `kgen.verify.int4`) is the same bytes anywhere.
Every kernel gets sizes from its own tile, slab and window, so
that each loop runs not at all, once, several times and with a remainder. What a kernel can take is asked of `spec.fits`, nowhere else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from kgen.spec.base import KernelSpec
from kgen.spec.linear import LinearSpec
from kgen.spec.problem import GemmShape, ceil_div
from kgen.verify.accuracy import Accumulation, fp32_accumulation

Level = Literal["quick", "full"]
Bias = Literal["none", "M", "NM"]
Values = Literal["normal", "hot", "sparse", "zeros", "nan"]


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
    while k > spec.piece and spec.fits(spec.shape_of(1, spec.N, k)):
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
            spec.shape_of(_walk_m(spec), n, remainder),
            bias="M",
            weight_pad=spec.piece,
            act_pad=3 * spec.piece,
            cu=1,
            seed=1,
        ),
        Case("one row", spec.shape_of(1, n, whole), "hot", bias="NM", act_pad=spec.piece, bias_pad=3, seed=2),
        Case(
            "short K",
            spec.shape_of(rows + 1, n, short),
            "sparse",
            bias="NM",
            weight_pad=2 * spec.piece,
            bias_pad=1,
            seed=3,
        ),
        Case("many", spec.shape_of(ceil_div(520, n), n, _largest_k(spec, spec.slab + spec.piece)), cu=1, seed=4),
        Case("zeros", spec.shape_of(rows + rows // 2 + 1, n, short), "zeros", bias="M", seed=5),
        Case("NaN", spec.shape_of(max(1, spec.rows_per_wave - 1), n, remainder), "nan", seed=6),
    ]
    if spec.shard is not None:
        split = _largest_k(spec, 2 * spec.shard + spec.slab + spec.piece)
        shape = spec.shape_of(rows + 1, n, split)
        out.insert(0, Case("shards", shape, bias="M", weight_pad=spec.piece, act_pad=3 * spec.piece, seed=8))
    if spec.shared_step is not None:  # some waves make a trip more than others
        shared = _largest_k(spec, spec.shared_step + spec.step + spec.slab + spec.piece)
        out.append(Case("shared K", spec.shape_of(rows + 1, n, shared), bias="NM", weight_pad=spec.piece, seed=8))
    if spec.window is not None:
        crossing = _largest_k(spec, spec.window + spec.step + spec.piece)
        out.append(
            Case(
                "window",
                spec.shape_of(spec.rows_per_wave + 1, n, crossing),
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
    if spec.shared_step is not None:
        ks += [spec.shared_step, 2 * spec.shared_step + step + slab + spec.piece]
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
        case = Case("size", spec.shape_of(m, n, k), values, bias, next(pads), next(pads), cu=1, seed=100 + number)
        out.append(replace(case, act_pad=next(pads), bias_pad=5 if bias == "NM" else 0))
    return out
