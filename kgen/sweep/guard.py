"""Whether promoted rows still hold: a sample of them is timed again and held against what was written down.

The tolerance comes from the spread of the rounds, then and now: a median that has moved by more than three of them is not noise. What is held is
a ratio of two times taken in turn, so that clocks and temperature are on both sides of it.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kgen.dispatch import DispatchTable, Row, pick
from kgen.dispatch.because import Measured
from kgen.dispatch.table import ANY_N, Key
from kgen.sweep.farm import Farm
from kgen.sweep.records import TORCH, Built, Timed, ratios
from kgen.sweep.stats import Interval, interval, spread
from kgen.sweep.store import Store
from kgen.sweep.workload import Workload

SPREADS = 3.0  # robust standard deviations of a round, then and now together
LEAST = 0.01  # tolerance at least: what differs between two sessions does not show inside one
_GAIN = re.compile(r"([-+]?[\d.]+) % \[([-+]?[\d.]+), ([-+]?[\d.]+)\]")


@dataclass(frozen=True)
class Held:
    """One problem of one promoted row, timed again.

    expected   time over `over` that the evidence promises at most; of the store's rounds of this very problem, else the row's own interval
    now        the same ratio now
    tolerance  share by which `now` may exceed `expected`
    """

    row: int
    workload: Workload
    kernel: str
    over: str
    expected: float
    now: Interval | None
    tolerance: float
    words: str = ""

    @property
    def ok(self) -> bool:
        """Whether the row still holds here: not surely slower than promised."""
        return self.now is not None and self.now.low <= self.expected * (1 + self.tolerance)


def sample_rows(
    table: DispatchTable, problems: Sequence[Workload], count: int, seed: int
) -> tuple[list[tuple[Row, Workload]], list[str]]:
    """Up to `count` (row, problem) pairs of measured rows, rows in turn so that each has its share; and what cannot be held, in words."""
    by_row: dict[int, list[tuple[Row, Workload]]] = {}
    remarks: dict[int, str] = {}
    for workload in problems:
        answer = pick(table, workload.shape, workload.dtype)
        because = answer.row.because
        if not isinstance(because, Measured) or answer.kernel is None:
            continue
        if because.over != TORCH and not because.over.startswith(f"{table.family}_"):
            remarks[answer.row.number] = (
                f"row {answer.row.number}: compared with {because.over}, which is not one thing to time"
            )
            continue
        by_row.setdefault(answer.row.number, []).append((answer.row, workload))
    rng = random.Random(seed)
    for found in by_row.values():
        rng.shuffle(found)
    out: list[tuple[Row, Workload]] = []
    while len(out) < count and any(by_row.values()):
        for found in by_row.values():
            if found and len(out) < count:
                out.append(found.pop())
    return out, list(remarks.values())


def hold(
    table: DispatchTable, pairs: Sequence[tuple[Row, Workload]], farm: Farm, store: Store | None, rounds: int
) -> list[Held]:
    """Time every pair again, in turn with what its evidence was formed over."""
    from kgen.spec.registry import spec_from_name

    names = {table_kernel(row, workload) for row, workload in pairs}
    names |= {row.because.over for row, _ in pairs if isinstance(row.because, Measured) and row.because.over != TORCH}
    built = {k.name: k for k in farm.build([spec_from_name(name, table.arch) for name in sorted(names)]).result().built}
    device = farm.call("device").result().name
    return [_held(row, workload, built, farm, store, device, rounds) for row, workload in pairs]


def table_kernel(row: Row, workload: Workload) -> str:
    """The kernel that a row names for a problem."""
    key: Key = (workload.dtype, workload.shape.N, *workload.traits)
    return row.kernels.get(key) or row.kernels[(workload.dtype, ANY_N, *workload.traits)]


def _held(
    row: Row, workload: Workload, built: Mapping[str, Built], farm: Farm, store: Store | None, device: str, rounds: int
) -> Held:
    because, name = row.because, table_kernel(row, workload)
    assert isinstance(because, Measured)
    missing = [each for each in (name, because.over) if each != TORCH and each not in built]
    if missing:
        return Held(row.number, workload, name, because.over, math.nan, None, 0.0, f"not built: {missing[0]}")
    kernels = [built[each] for each in dict.fromkeys((name, because.over)) if each != TORCH]
    found: Timed = farm.call("time", workload, kernels, because.over, rounds, quiet=True).result()
    if because.over not in found.us:
        return Held(row.number, workload, name, because.over, math.nan, None, 0.0, f"{because.over} was not timed here")
    now = ratios(found.us[name], found.us[because.over])
    before = _before(store, device, name, because.over, workload) if store is not None else ()
    expected = interval(before).median if before else 1 - promised(because.gain) / 100
    return Held(row.number, workload, name, because.over, expected, interval(now), tolerance(now, before))


def tolerance(now: Sequence[float], before: Sequence[float]) -> float:
    """The share by which a median may move: three robust deviations of a round, of both times together."""
    both = spread(now) ** 2 + (spread(before) ** 2 if before else spread(now) ** 2)
    return max(LEAST, SPREADS * math.sqrt(both))


def promised(gain: str) -> float:
    """The least gain in percent that a row's evidence states: the lower end of its interval, which holds for every shape of the row."""
    match = _GAIN.search(gain)
    return float(match[2]) if match else 0.0


def _before(store: Store, device: str, name: str, over: str, workload: Workload) -> tuple[float, ...]:
    """The ratio's rounds of the sweep that promoted the row, if the store has them."""
    for time in store.times(device, "final", name):
        if time.workload == workload.key and (
            found := time.over_torch if over == TORCH else time.over_pick if time.pick == over else ()
        ):
            return found
    return ()
