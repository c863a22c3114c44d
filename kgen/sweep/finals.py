"""Which kernels deserve paired rounds: the best of each problem, and those that are good over all problems of their kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kgen.sweep.records import TORCH, Time
from kgen.sweep.workload import Workload


def finalists(
    times: Sequence[Time], workloads: Sequence[Workload], picks: Mapping[str, str], best: int
) -> dict[str, set[str]]:
    """Workload key -> names to time again. `times` are the explored ones; the pick and torch take part anyway.

    Generalists (the lowest mean log ratio over all problems of one type and number of rows) are timed on every problem of the group, since a
    row for a range of shapes needs one kernel's times on all of them.
    """
    scores: dict[str, dict[str, float]] = {}
    for time in times:
        if time.name != TORCH and time.name != picks.get(time.workload) and time.pick == picks.get(time.workload):
            scores.setdefault(time.workload, {})[time.name] = time.score
    out: dict[str, set[str]] = {key: set(sorted(found, key=found.__getitem__)[:best]) for key, found in scores.items()}
    for group in _groups(workloads):
        keys = [key for key in group if key in scores]
        everywhere = set.intersection(*(set(scores[key]) for key in keys)) if keys else set()
        means = {name: sum(math.log(scores[key][name]) for key in keys) for name in everywhere}
        for name in sorted(means, key=means.__getitem__)[:best]:
            for key in keys:
                out[key].add(name)
    return out


def _groups(workloads: Sequence[Workload]) -> list[list[str]]:
    """Workload keys by kind: one element type, number of rows and set of traits."""
    out: dict[object, list[str]] = {}
    for workload in workloads:
        out.setdefault(workload.kind, []).append(workload.key)
    return list(out.values())
