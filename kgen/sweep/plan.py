"""From a space to points: which kernels can be, which are pruned and in whose words, and which problems each can take. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kgen.errors import Problem
from kgen.spec.base import KernelSpec
from kgen.spec.registry import family_class
from kgen.sweep.space import Space
from kgen.sweep.workload import Workload


@dataclass(frozen=True)
class Point:
    """One kernel of the space.

    pruned  the sentence of the rule that speaks against it, empty if it may be built
    takes   the problems that it can take, as `spec.fits` says
    """

    spec: KernelSpec
    pruned: str = ""
    takes: tuple[Workload, ...] = ()

    @property
    def name(self) -> str:
        """The kernel's name."""
        return self.spec.name

    def values(self, axes: Sequence[str]) -> dict[str, Any]:
        """Its parameters by axis."""
        return {axis: getattr(self.spec, axis) for axis in axes}


@dataclass(frozen=True)
class SweepPlan:
    """All points of a space for some problems; `axes` are the parameters that vary."""

    space: Space
    workloads: tuple[Workload, ...]
    points: tuple[Point, ...]

    @property
    def alive(self) -> tuple[Point, ...]:
        """Points that no rule speaks against."""
        return tuple(point for point in self.points if not point.pruned)

    @property
    def pruned(self) -> tuple[Point, ...]:
        """Points that are not built, with the reason."""
        return tuple(point for point in self.points if point.pruned)

    @property
    def axes(self) -> tuple[str, ...]:
        """Parameters with more than one value, those that the problem decides included."""
        return tuple(name for name, values in self.space.axes.items() if len(values) > 1)

    @property
    def choices(self) -> tuple[str, ...]:
        """Parameters with more than one value that are the kernel's own: neither type nor rows nor traits."""
        fields = family_class(self.space.family).trait_fields
        given = {"dtype", "N", *(fields.get(name, name) for name in self.space.traits)}
        return tuple(name for name in self.axes if name not in given)


def plan(space: Space, problems: Sequence[Workload]) -> SweepPlan:
    """Every point of the space, asked of the spec's own rules first and then of what the problems need."""
    cls = family_class(space.family)
    points = []
    for values in space.points():
        spec, against = cls.tried(values)
        assert spec is not None, f"values of {values} were checked by space_of: {against}"
        points.append(_point(spec, against, problems))
    return SweepPlan(space, tuple(problems), tuple(points))


def _point(spec: KernelSpec, against: Sequence[Problem], problems: Sequence[Workload]) -> Point:
    if against:
        return Point(spec, sentence(against[0]))
    takes, refusal = [], None
    for workload in problems:
        if workload.dtype != spec.dtype:
            continue
        problem: Problem | None = spec.fits(workload.shape)  # type: ignore[attr-defined]
        if problem is None:
            takes.append(workload)
        else:
            refusal = refusal or problem
    if takes:
        return Point(spec, "", tuple(takes))
    return Point(spec, sentence(refusal) if refusal else f"no problem of type {spec.dtype}")


def sentence(problem: Problem) -> str:
    """A problem in one line."""
    words = f"{', '.join(problem.fields)}: {problem.found}"
    return f"{words}; allowed: {problem.allowed}" if problem.allowed else words
