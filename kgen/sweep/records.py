"""What a sweep finds out, as frozen rows: the words that workers, store, promotion and report exchange."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kgen.build.manifest import KernelEntry
from kgen.spec.base import KernelSpec
from kgen.spec.registry import family_class

Kind = Literal["measured", "model"]
Stage = Literal["explore", "final"]
State = Literal["planned", "pruned", "twin", "failed", "wrong", "built", "right", "timed", "promoted"]
RANK: Mapping[str, int] = {
    "planned": 0,
    "built": 1,
    "right": 2,
    "pruned": 3,
    "twin": 3,
    "timed": 4,
    "failed": 5,
    "wrong": 5,
    "promoted": 6,
}
"""A row only moves forward. A kernel that fails in its last rounds has failed, whatever came before."""
TORCH = "torch"


@dataclass(frozen=True)
class Origin:
    """What a result rests on besides the kernel's name: digest of the rendered source, and the compiler with its version."""

    source: str = ""
    compiler: str = ""


@dataclass(frozen=True)
class DeviceState:
    """Where a number comes from: the device's name, its CU count, and its clocks as they were found."""

    name: str
    cu: int
    clock: str = "unknown"


@dataclass(frozen=True)
class Built:
    """A kernel that was built: its manifest entry, the code object, and what it was made by."""

    entry: KernelEntry
    image: bytes = field(repr=False)
    compiler: str

    @property
    def name(self) -> str:
        """The kernel's name."""
        return self.entry.name

    @property
    def origin(self) -> Origin:
        """Source and compiler."""
        return Origin(self.entry.source_digest, self.compiler)

    @property
    def spec(self) -> KernelSpec:
        """The spec it was made from."""
        return family_class(self.entry.family).checked(self.entry.spec, where=self.name)


@dataclass(frozen=True)
class Checked:
    """Whether a kernel is right on one problem, or over its odd shapes (workload ""); errors are absolute."""

    workload: str
    ok: bool
    why: str = ""
    max_err: float | None = None
    tolerance: float | None = None


@dataclass(frozen=True)
class Timed:
    """Contenders on one problem, taken in turn: microseconds per call, round by round, in the order of the rounds.

    us        name -> rounds; "torch" is torch. Round i of all of them belongs together
    floor_us  the device reads the same cold bytes in this time; for the model, at its peak bandwidth
    details   name -> what the number is made of (the model's terms)
    """

    workload: str
    kind: Kind
    device: DeviceState
    us: Mapping[str, tuple[float, ...]]
    floor_us: float | None = None
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Time:
    """One contender's times on one problem, as the store gives them back.

    us, low, high   median, smallest and largest round
    rounds          all of them
    over_pick, over_torch   this time over the pick's and over torch's, round by round; empty where there was none
    pick            what was the present pick then; batch: times of one batch were taken side by side
    """

    name: str
    workload: str
    stage: Stage
    kind: Kind
    device: str
    clock: str
    rounds: tuple[float, ...]
    over_pick: tuple[float, ...] = ()
    over_torch: tuple[float, ...] = ()
    floor_us: float | None = None
    pick: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    batch: float = 0.0

    @property
    def us(self) -> float:
        """The median round."""
        return statistics.median(self.rounds)

    @property
    def score(self) -> float:
        """Median ratio to the present pick, below 1 is faster; to torch or to the floor where there is no pick to compare with."""
        if self.over_pick or self.over_torch:
            return statistics.median(self.over_pick or self.over_torch)
        return self.us / self.floor_us if self.floor_us else self.us


def ratios(a: Sequence[float], b: Sequence[float]) -> tuple[float, ...]:
    """a over b, round by round."""
    return tuple(x / y for x, y in zip(a, b, strict=True))


def rebased(times: Sequence[Time], picks: Mapping[str, str]) -> list[Time]:
    """Times with their ratios formed over the present picks (workload key -> name), where the pick was another one when they were taken.

    Exact where the present pick was timed side by side with them; for explored times else by way of the pick that both were compared with.
    A time that has nothing in common with the present pick keeps its old one: it must be taken again.
    """
    known = {(time.workload, time.stage, time.name): time for time in times}
    out = []
    for time in times:
        name = picks.get(time.workload, time.pick)
        base = known.get((time.workload, time.stage, name))
        if time.pick == name:
            out.append(time)
        elif name == TORCH and time.over_torch:
            out.append(replace(time, pick=name, over_pick=time.over_torch))
        elif base is not None and base.batch == time.batch:
            out.append(replace(time, pick=name, over_pick=ratios(time.rounds, base.rounds)))
        elif base is not None and time.stage == "explore" and base.pick == time.pick and base.over_pick:
            share = statistics.median(base.over_pick)
            out.append(replace(time, pick=name, over_pick=tuple(ratio / share for ratio in time.over_pick)))
        else:
            out.append(time)
    return out
