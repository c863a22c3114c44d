"""The loop: build, drop twins, check, time, and time the best again. What is finished is in the store and is not done again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, field
from typing import Any

from kgen.build.entry import likeness
from kgen.dispatch import DispatchTable, pick
from kgen.errors import KgenError
from kgen.spec.base import KernelSpec
from kgen.sweep import prune
from kgen.sweep.farm import Batch, Farm
from kgen.sweep.finals import finalists
from kgen.sweep.measure import EXPLORE_ROUNDS, FINAL_ROUNDS
from kgen.sweep.plan import Point, SweepPlan
from kgen.sweep.records import TORCH, Built, Checked, DeviceState, Kind, Stage, Time, Timed, rebased
from kgen.sweep.search import Mode, Search
from kgen.sweep.store import Store
from kgen.sweep.workload import Workload

Progress = Callable[[int, int, str, float], None]
"""(points done, points in all, what, seconds left)."""

FINALS_SHARE = 0.25  # of the budget is kept for the paired rounds of the best
_FIRST, _FEWEST = 24, 16  # points of the first batch under a budget, and of any
_POLL = 0.2  # seconds between looks at points that another sweep holds


@dataclass(frozen=True)
class SweepOptions:
    """How a sweep goes about it.

    budget     seconds; None: until everything is done
    mode       "auto": all points if they fit the budget, else Optuna
    batch      points that are built at once while the batch before is measured
    side       kernels that are timed side by side with the pick and torch
    best       kernels per problem, and of a group of problems, that are timed again in paired rounds
    min_waves  static pruning: fewest resident waves per SIMD
    """

    budget: float | None = None
    mode: Mode = "auto"
    batch: int = 64
    side: int = 8
    best: int = 3
    explore_rounds: int = EXPLORE_ROUNDS
    final_rounds: int = FINAL_ROUNDS
    min_waves: float = prune.MIN_WAVES


@dataclass
class Tally:
    """What this run of the command did itself, beside what it found done."""

    compiled: int = 0
    build_seconds: float = 0.0
    checks: int = 0
    timings: int = 0
    finals: int = 0
    lost_workers: int = 0
    seconds: float = 0.0
    out_of_budget: bool = False
    remarks: list[str] = field(default_factory=list)


class Sweep:
    """One family on one target and one device.

    table   the present table, None where there is none: then torch is the pick
    device  as the measurer says it; kind: whether it measures or models
    """

    def __init__(
        self,
        plan: SweepPlan,
        table: DispatchTable | None,
        farm: Farm,
        store: Store,
        device: DeviceState,
        kind: Kind,
        options: SweepOptions | None = None,
        progress: Progress | None = None,
    ):
        self.plan, self.table, self.farm, self.store = plan, table, farm, store
        self.device, self.kind, self.options = device, kind, options or SweepOptions()
        self.tally = Tally()
        self._progress = progress
        self._start = time.monotonic()
        self._built: dict[str, Built] = {}
        self._others: list[Point] = []
        self._pace = 0.0  # seconds per point of the last batch
        self._takes: dict[str, tuple[Workload, ...]] = {}
        self.picks = {workload.key: self._pick(workload) for workload in plan.workloads}

    def run(self) -> Tally:
        """Explore, then the finals. May be killed at any moment and started again."""
        self._note_plan()
        self._bring_picks()
        self._explore()
        self._finals()
        self._note_timed(self._built[name] for name in set(self.picks.values()) if name != TORCH)
        self.tally.seconds = time.monotonic() - self._start
        return self.tally

    # ---- before anything runs

    def _pick(self, workload: Workload) -> str:
        if self.table is None:
            return TORCH
        return pick(self.table, workload.shape, workload.dtype, self.device.cu).kernel or TORCH

    def _note_plan(self) -> None:
        """Pruned and planned points go into the store first, so that a report of any moment has all of them."""
        family = self.plan.space.family
        self.store.put_points(
            (family, p.name, p.spec.model_dump(mode="json"), "pruned" if p.pruned else "planned", p.pruned)
            for p in self.plan.points
        )

    def _bring_picks(self) -> None:
        """Build the kernels that the table answers with; one that cannot be built or is wrong leaves torch to compare with."""
        names = {name for name in self.picks.values() if name != TORCH}
        specs = [self.table.specs[name] for name in names] if self.table else []
        if not specs:
            return
        fits = {spec.name: tuple(w for w in self.plan.workloads if self._does(spec, w)) for spec in specs}
        batch = self.farm.build(specs).result()
        self._enter(batch, fits)
        good = {kernel.name for kernel in self._check_all([k for k in batch.built if k.name in names])}
        for key, name in self.picks.items():
            if name != TORCH and name not in good:
                self.tally.remarks.append(
                    f"{name}, the present pick, is not right or not built here: compared with torch instead"
                )
                self.picks[key] = TORCH

    @staticmethod
    def _does(spec: KernelSpec, workload: Workload) -> bool:
        return spec.dtype == workload.dtype and spec.fits(workload.shape) is None  # type: ignore[attr-defined]

    # ---- exploring

    def _explore(self) -> None:
        search = Search(self.plan.alive, self.plan.choices, self.options.mode)
        total = len(self.plan.alive)
        ahead = self._next_build(search)
        done = 0
        while ahead is not None:
            points, future = ahead
            begun = time.monotonic()
            batch = future.result()
            ahead = None if self._left(1 - FINALS_SHARE) <= 0 else self._next_build(search)
            scores = self._do_batch(points, batch)
            for point in points:
                search.told(point, scores.get(point.name, math.inf))
            self.store.release(point.name for point in points)
            done += len(points)
            self._pace = (time.monotonic() - begun) / len(points)
            search.settle(self._pace, self._left(1 - FINALS_SHARE))
            self._say(done, total, f"{len(points)} points", self._pace * (total - done))
        if search.remaining:
            self.tally.out_of_budget = True
            if search.blind:
                self.tally.remarks.append(
                    "Optuna is not installed, so points came in random order: pip install 'kgen[sweep]'"
                )
        self._wait_for_others()

    def _next_build(self, search: Search) -> tuple[list[Point], Future[Batch]] | None:
        """Take the next points that no other sweep holds, and start to build them; None when there are none left."""
        points = search.next(self._batch_size())
        if not points:
            return None
        mine = self.store.claim(point.name for point in points)
        self._others += [point for point in points if point.name not in mine]
        kept = [point for point in points if point.name in mine]
        if not kept:
            return self._next_build(search)
        return kept, self.farm.build([point.spec for point in kept])

    def _batch_size(self) -> int:
        """Points of the next batch: with a budget a twentieth of it, so that it ends in time and a sampler hears of results often."""
        if self.options.budget is None:
            return self.options.batch
        fits = self.options.budget / 20 / self._pace if self._pace else _FIRST
        return max(_FEWEST, min(self.options.batch, int(fits)))

    def _wait_for_others(self) -> None:
        """Points that another sweep was at: take those over that it left, wait for the rest."""
        waiting, self._others = self._others, []
        while waiting and self._left(1 - FINALS_SHARE) > 0:
            mine = self.store.claim(point.name for point in waiting)
            points = [point for point in waiting if point.name in mine]
            if points:
                self._do_batch(points, self.farm.build([point.spec for point in points]).result())
                self.store.release(mine)
            waiting = [point for point in waiting if point.name not in mine]
            if waiting:
                time.sleep(_POLL)

    def _do_batch(self, points: Sequence[Point], batch: Batch) -> dict[str, float]:
        """Prune, check and time a batch; all scores known after it."""
        takes = {point.name: point.takes for point in points}
        alive = self._enter(batch, takes)
        right = self._check_all(alive)
        self._time_all(right, "explore", self.options.explore_rounds)
        return self._note_timed(right)

    def _note_timed(self, kernels: Iterable[Built]) -> dict[str, float]:
        """Mark kernels that have times; all scores."""
        scores = self._scores()
        for kernel in kernels:
            if kernel.name in scores:
                self.store.advance(kernel.name, kernel.origin, "timed")
        return scores

    def _enter(self, batch: Batch, takes: dict[str, tuple[Workload, ...]]) -> list[Built]:
        """Note what was built; answer the kernels that are worth running: no spills, enough waves, nobody's twin."""
        self.tally.compiled += batch.compiled
        self.tally.build_seconds += batch.seconds
        family = self.plan.space.family
        for entry in batch.failed:
            built = Built(entry, b"", batch.compiler)
            self.store.put_built(family, entry.name, built.origin, entry.spec, {}, "")
            self.store.advance(entry.name, built.origin, "failed", entry.error or "")
        alive = []
        for kernel in batch.built:
            self._built[kernel.name] = kernel
            if kernel.name in takes:
                entry = kernel.entry
                self.store.put_built(
                    family, kernel.name, kernel.origin, entry.spec, _resources(kernel), _digest(kernel)
                )
                if self._worth_running(kernel, takes[kernel.name]):
                    alive.append(kernel)
        return alive

    def _worth_running(self, kernel: Built, takes: tuple[Workload, ...]) -> bool:
        words = prune.against(kernel.entry, self.options.min_waves)
        if not words:
            kept, words = prune.runnable(kernel.entry, kernel.spec, self.device.cu, takes, self.options.min_waves)
            self._takes[kernel.name] = tuple(kept)
            words = "" if kept else words
        if words and kernel.name not in self.picks.values():
            self.store.advance(kernel.name, kernel.origin, "pruned", words)
            return False
        if words:  # the table's own kernel is measured all the same: it is what the others are compared with
            self._takes[kernel.name] = takes
        owner = self.store.owner_of(_digest(kernel), kernel.name, kernel.compiler)
        if (
            owner is not None
            and kernel.name not in self.picks.values()
            and self.store.state(kernel.name, kernel.origin)[0] != "timed"
        ):
            self.store.advance(kernel.name, kernel.origin, "twin", f"same machine code as {owner}", owner)
            return False
        return True

    # ---- checking

    def _check_all(self, kernels: Sequence[Built]) -> list[Built]:
        """Check every kernel on odd shapes and on every problem that it takes; answer those that are right everywhere."""
        running: dict[Future[Any], Built] = {}
        right = []
        for kernel in kernels:
            known = self.store.checked(kernel.name, kernel.origin, self.device.name)
            if not all(known.values()) or self.store.state(kernel.name, kernel.origin)[0] == "failed":
                continue  # wrong, or it has cost a process already
            todo = [w for w in self._takes[kernel.name] if w.key not in known]
            if known and not todo:
                right.append(kernel)
                continue
            running[self.farm.call("check", kernel, todo)] = kernel
        for future in as_completed(running):
            kernel = running[future]
            if self._take_check(kernel, future):
                right.append(kernel)
        return sorted(right, key=lambda kernel: kernel.name)

    def _take_check(self, kernel: Built, future: Future[Any]) -> bool:
        try:
            results: list[Checked] = future.result()
        except KgenError as error:
            self.tally.lost_workers += 1
            self.store.advance(kernel.name, kernel.origin, "failed", f"{error} (while it was checked)")
            return False
        self.tally.checks += len(results)
        self.store.put_checked(kernel.name, kernel.origin, self.device.name, results)
        bad = next((result for result in results if not result.ok), None)
        if bad is not None:
            self.store.advance(kernel.name, kernel.origin, "wrong", bad.why)
            return False
        self.store.advance(kernel.name, kernel.origin, "right")
        return True

    # ---- timing

    def _time_all(
        self, kernels: Iterable[Built], stage: Stage, rounds: int, only: dict[str, set[str]] | None = None
    ) -> None:
        """Time kernels on the problems they take (or on those in `only`: workload key -> names), in groups beside the pick and torch."""
        kernels = list(kernels)
        done = {(t.name, t.workload) for t in self._times(stage) if t.pick == self.picks.get(t.workload)}
        groups: list[tuple[Workload, list[Built]]] = []
        for workload in self.plan.workloads:
            todo = [
                kernel
                for kernel in kernels
                if (workload in self._takes[kernel.name] if only is None else kernel.name in only.get(workload.key, ()))
                and (kernel.name, workload.key) not in done
                and self.store.state(kernel.name, kernel.origin)[0] != "failed"
            ]
            side = self.options.side
            groups += [(workload, todo[at : at + side]) for at in range(0, len(todo), side)]
        self._time_groups(groups, stage, rounds)

    def _time_groups(self, groups: Sequence[tuple[Workload, list[Built]]], stage: Stage, rounds: int) -> None:
        """Keep every worker busy with the next group, until none is left or the budget is over."""
        share = 1 - FINALS_SHARE if stage == "explore" else 1.0
        waiting = list(reversed(groups))
        running: dict[Future[Timed], tuple[Workload, list[Built]]] = {}
        while waiting or running:
            if waiting and self._left(share) <= 0:
                self.tally.out_of_budget = True
                waiting = []
            while waiting and len(running) < 2 * self.farm.lanes:
                workload, group = waiting.pop()
                running[self._submit_times(workload, group, rounds)] = workload, group
            if running:
                future = next(as_completed(running))
                self._take_times(*running.pop(future), future, stage, rounds)

    def _submit_times(self, workload: Workload, group: Sequence[Built], rounds: int) -> Future[Timed]:
        base = self.picks[workload.key]
        members = {kernel.name: kernel for kernel in group}
        if base != TORCH:
            members.setdefault(base, self._built[base])
        return self.farm.call("time", workload, list(members.values()), base, rounds, quiet=self.kind == "measured")

    def _take_times(
        self, workload: Workload, group: list[Built], future: Future[Timed], stage: Stage, rounds: int
    ) -> None:
        """Store a group's times; where the worker was lost, one kernel of the group is to blame, and each is tried alone."""
        base = self.picks[workload.key]
        try:
            found = future.result()
        except KgenError as error:
            self.tally.lost_workers += 1
            if len(group) == 1:
                self.store.advance(
                    group[0].name, group[0].origin, "failed", f"{error} (while it was timed on {workload})"
                )
                return
            for kernel in group:
                alone = self._submit_times(workload, [kernel], rounds)
                self._take_times(workload, [kernel], alone, stage, rounds)
            return
        self.tally.timings += 1
        self.tally.finals += stage == "final"
        origins = {name: self._built[name].origin for name in found.us if name != TORCH}
        self.store.put_timed(stage, found, base, origins)

    def _finals(self) -> None:
        """Paired rounds for the best of each problem and of each group of problems."""
        if self.kind == "model":
            return  # the model's times have no spread that rounds could show
        times = self._times("explore")
        wanted = finalists(times, self.plan.workloads, self.picks, self.options.best)
        self._bring({name for names in wanted.values() for name in names})
        kernels = [kernel for name, kernel in sorted(self._built.items()) if any(name in n for n in wanted.values())]
        self._time_all(kernels, "final", self.options.final_rounds, wanted)

    def _bring(self, names: set[str]) -> None:
        """Build what an earlier run explored and this one has not come to: it is compiled already."""
        points = {
            point.name: point for point in self.plan.alive if point.name in names and point.name not in self._built
        }
        if points:
            for kernel in self.farm.build([point.spec for point in points.values()]).result().built:
                self._built[kernel.name], self._takes[kernel.name] = kernel, points[kernel.name].takes

    # ---- scores, time

    def _scores(self) -> dict[str, float]:
        """Name -> mean log ratio to the present picks over the problems that a kernel was timed on."""
        found: dict[str, list[float]] = {}
        for each in self._times("explore"):
            found.setdefault(each.name, []).append(math.log(each.score))
        return {name: sum(logs) / len(logs) for name, logs in found.items()}

    def _times(self, stage: Stage) -> list[Time]:
        return rebased(self.store.times(self.device.name, stage), self.picks)

    def _left(self, share: float = 1.0) -> float:
        if self.options.budget is None:
            return math.inf
        return self.options.budget * share - (time.monotonic() - self._start)

    def _say(self, done: int, total: int, what: str, left: float) -> None:
        if self._progress is not None:
            self._progress(done, total, what, min(left, max(0.0, self._left())))


def _digest(kernel: Built) -> str:
    return repr(likeness(kernel.entry))


def _resources(kernel: Built) -> dict[str, Any]:
    entry = kernel.entry
    names = ("vgpr", "agpr", "sgpr", "lds_bytes", "occupancy", "limited_by", "code_bytes", "code_digest")
    return {name: getattr(entry, name) for name in names}
