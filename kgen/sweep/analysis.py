"""What the times of a sweep say: per problem, per axis, over sizes, against torch. Pure; the report draws it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kgen.sweep.plan import SweepPlan
from kgen.sweep.records import TORCH, Time
from kgen.sweep.stats import spread
from kgen.sweep.traffic import bytes_moved
from kgen.sweep.workload import Workload

CLIFF = 0.15  # a problem that reaches this much less of its floor than both neighbours in size


@dataclass(frozen=True)
class Standing:
    """One problem: times in microseconds of the pick, torch and the best kernel, and of reading the bytes alone (the roofline).

    gbs    bytes moved over the best time, 1e9 bytes/s
    reach  floor over best time: the share of the roofline
    """

    workload: Workload
    pick: str
    pick_us: float | None
    torch_us: float | None
    best: str
    best_us: float
    floor_us: float | None
    gbs: float
    noise: float

    @property
    def reach(self) -> float | None:
        """Share of the roofline that the best kernel reaches."""
        return self.floor_us / self.best_us if self.floor_us else None


@dataclass(frozen=True)
class AxisValue:
    """One value of an axis: problems whose best kernel has it, and what is lost at most problems if the axis is fixed at it.

    mean, worst  of (best time with the value) / (best time) - 1 over the problems that some kernel with the value answers
    """

    axis: str
    value: Any
    wins: int
    problems: int
    mean: float
    worst: float
    worst_at: str


@dataclass(frozen=True)
class Cliff:
    """A problem that falls out of its neighbourhood in size."""

    workload: Workload
    reach: float
    neighbours: float


def latest(times: Sequence[Time]) -> dict[str, dict[str, Time]]:
    """Workload key -> name -> its time; paired rounds count before explored ones."""
    out: dict[str, dict[str, Time]] = {}
    for time in sorted(times, key=lambda t: t.stage == "final"):
        out.setdefault(time.workload, {})[time.name] = time
    return out


def standings(plan: SweepPlan, times: Sequence[Time], picks: Mapping[str, str]) -> list[Standing]:
    """Every problem that was timed, in the order of the plan. Times are set against the pick's of their own batch, which the ratios are."""
    found = latest(times)
    out = []
    for workload in plan.workloads:
        here = found.get(workload.key, {})
        kernels = {name: time for name, time in here.items() if name != TORCH}
        if not kernels:
            continue
        best = min(kernels.values(), key=lambda t: (t.score, t.us))
        pick, torch = here.get(picks.get(workload.key, "")), here.get(TORCH)
        gbs = bytes_moved(plan.space.family, plan.space.arch, workload) / best.us / 1e3
        noise = spread(best.rounds) if len(best.rounds) > 1 else 0.0
        out.append(
            Standing(
                workload,
                picks.get(workload.key, TORCH),
                pick.us if pick else None,
                torch.us if torch else None,
                best.name,
                best.us,
                best.floor_us,
                gbs,
                noise,
            )
        )
    return out


def axis_worth(plan: SweepPlan, times: Sequence[Time], twins: Mapping[str, str]) -> list[AxisValue]:
    """Each value of each axis: wins, and the loss if the axis is fixed at it. Twins count with the times of what they are twins of."""
    scores = _scores(plan, times, twins)
    specs = {point.name: point.spec for point in plan.points}
    best = {key: min(found.values()) for key, found in scores.items()}
    out = []
    for axis in plan.choices:
        for value in plan.space.axes[axis]:
            losses: dict[str, float] = {}
            for key, found in scores.items():
                having = [score for name, score in found.items() if getattr(specs[name], axis) == value]
                if having:
                    losses[key] = min(having) / best[key] - 1
            if losses:
                worst = max(losses, key=losses.__getitem__)
                wins = sum(1 for loss in losses.values() if loss == 0)
                mean = sum(losses.values()) / len(losses)
                out.append(AxisValue(axis, value, wins, len(losses), mean, losses[worst], _named(plan, worst)))
    return out


def idle_axes(plan: SweepPlan, points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Axes that changed nothing: all kernels that differ by the axis alone are twins, in machine code and launch.

    points  as `Store.points` gives them
    """
    owner = {p["name"]: p["twin_of"] or p["name"] for p in points if p["resources"].get("code_digest")}
    out = []
    for axis in plan.choices:
        groups: dict[Any, list[str]] = {}
        for point in plan.points:
            if point.name in owner:
                others = tuple(getattr(point.spec, name) for name in plan.space.axes if name != axis)
                groups.setdefault(others, []).append(owner[point.name])
        compared = [owners for owners in groups.values() if len(owners) > 1]
        if compared and all(len(set(owners)) == 1 for owners in compared):
            out.append(axis)
    return out


def cliffs(plan: SweepPlan, found: Sequence[Standing]) -> list[Cliff]:
    """Problems that reach clearly less of the roofline than both neighbours: M next to M at one K, or K next to K at one M."""
    out = {}
    for fixed, walked in (("M", "K"), ("K", "M")):
        lines: dict[Any, list[Standing]] = {}
        for standing in found:
            sizes = standing.workload.sizes
            lines.setdefault((sizes[fixed], *standing.workload.kind), []).append(standing)
        for line in lines.values():
            line.sort(key=lambda s: s.workload.sizes[walked])
            for before, here, after in zip(line, line[1:], line[2:], strict=False):
                reaches = [s.reach for s in (before, here, after)]
                if None not in reaches and reaches[1] < (1 - CLIFF) * min(reaches[0], reaches[2]):  # type: ignore[operator,type-var]
                    out[here.workload.key] = Cliff(here.workload, float(reaches[1]), float(min(reaches[0], reaches[2])))  # type: ignore[arg-type,type-var]
    return list(out.values())


def crossover(plan: SweepPlan, found: Sequence[Standing]) -> list[tuple[str, list[tuple[int, float]], int | None]]:
    """Per layer with several numbers of rows: (layer and type, (rows, best over torch), first rows at which torch is faster or None)."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for standing in found:
        sizes = standing.workload.sizes
        if standing.torch_us and "N" in sizes:
            name = " ".join([f"{sizes['M']}x{sizes['K']}", *standing.workload.words])
            lines.setdefault(name, []).append((sizes["N"], standing.best_us / standing.torch_us))
    out = []
    for name, points in lines.items():
        if len(points) > 1:
            points.sort()
            out.append((name, points, next((n for n, ratio in points if ratio > 1), None)))
    return out


def _scores(plan: SweepPlan, times: Sequence[Time], twins: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Workload key -> name -> time over the pick's (of the explored rounds, in which all took part), twins included."""
    known = {point.name for point in plan.points}
    out: dict[str, dict[str, float]] = {}
    for time in times:
        if time.stage == "explore" and time.name in known and math.isfinite(time.score):
            out.setdefault(time.workload, {})[time.name] = time.score
    takes = {point.name: {w.key for w in point.takes} for point in plan.points}
    for twin, owner in twins.items():
        for key, found in out.items():
            if owner in found and key in takes.get(twin, ()):
                found[twin] = found[owner]
    return out


def _named(plan: SweepPlan, key: str) -> str:
    return next(str(workload) for workload in plan.workloads if workload.key == key)
