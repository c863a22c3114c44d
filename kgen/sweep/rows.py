"""From paired times to rows: who wins where, over which ranges the data supports it, and what it refuses to say.

For each element type, number of rows and set of traits (GROUP_SIZE, HAS_ZP):

1. A kernel wins a problem when its time there is below the present pick's by the asked gain, its whole interval is below 1, and no other does
   better.
2. Its wins are joined to a range of M and K if, on every measured problem inside, the kernel was timed and is not slower than the pick, and
   the gain over all of them together is large enough. K stays a multiple of what divides every K measured: kernels walk K in steps, and a
   remainder costs what whole steps do not show. If the whole range fails, each K is tried by itself, then each problem.
3. A problem inside a range that another kernel wins clearly gets a row of its own before it.

Nothing is said about sizes beyond the measured ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kgen.spec.base import HALVES
from kgen.sweep.records import TORCH
from kgen.sweep.stats import MIN_PAIRS, Interval, interval, pooled
from kgen.sweep.workload import Workload

MAX_MODULUS = 2048  # K elements; no family's step is longer than this on the shapes of real models
_PIECE = 8

Ratios = Mapping[str, Mapping[str, tuple[float, ...]]]
"""Workload key -> kernel name (or torch) -> time over the present pick's, round by round."""


@dataclass(frozen=True)
class Draft:
    """A row that the data supports: its range, its kernel, and the paired ratios behind it.

    dtype   None: for both types
    ms, ks  smallest and largest M and K; modulus: what divides every K
    over    what it was compared with
    """

    kernel: str
    dtype: str | None
    N: int
    ms: tuple[int, int]
    ks: tuple[int, int]
    modulus: int
    gain: Interval
    each: tuple[Interval, ...]
    over: tuple[str, ...]
    problems: tuple[Workload, ...]

    @property
    def exact(self) -> bool:
        """Whether it is for one problem."""
        return self.ms[0] == self.ms[1] and self.ks[0] == self.ks[1]

    @property
    def when(self) -> str:
        """The condition."""
        words = [f"N == {self.N}"]
        if self.dtype is not None:
            words.append(f'dtype == "{self.dtype}"')
        words += [_equals(name, value) for name, value in self.problems[0].shape.traits.items()]
        words += [_between("M", self.ms), _between("K", self.ks)]
        if self.ks[0] != self.ks[1]:
            words.append(f"K % {self.modulus} == 0")
        return " and ".join(words)

    @property
    def use(self) -> str:
        """The kernel, `{dtype}` where it stands for both types."""
        if self.dtype is not None or self.kernel == TORCH:
            return self.kernel
        return self.kernel.replace(f"_{self.problems[0].dtype}_", "_{dtype}_", 1)


@dataclass(frozen=True)
class Drafts:
    """Rows in the order in which they must stand, and what was refused, in words."""

    rows: tuple[Draft, ...]
    refused: tuple[str, ...]


def draft_rows(
    workloads: Sequence[Workload],
    ratios: Ratios,
    picks: Mapping[str, str],
    gain: float,
    min_pairs: int = MIN_PAIRS,
    protected: Mapping[str, str] | None = None,
) -> Drafts:
    """The rows that paired times support.

    gain       least share of time saved, such as 0.02
    protected  workload key -> why its present answer stays, whatever the times say
    """
    groups: dict[tuple[object, ...], list[Workload]] = {}
    for workload in workloads:
        if workload.key in ratios:
            groups.setdefault(workload.kind, []).append(workload)
    rows: list[Draft] = []
    refused: list[str] = []
    for members in groups.values():
        group = _Group(members, ratios, picks, gain, min_pairs, protected or {})
        rows += group.rows()
        refused += group.refused
    merged = _merge_types(rows)
    merged.sort(key=lambda row: (not row.exact, row.N, row.ms, row.ks))
    return Drafts(tuple(merged), tuple(refused))


class _Group:
    """The problems of one element type, number of rows and set of traits."""

    def __init__(
        self,
        members: Sequence[Workload],
        ratios: Ratios,
        picks: Mapping[str, str],
        gain: float,
        min_pairs: int,
        protected: Mapping[str, str],
    ):
        self.members, self.ratios, self.picks, self.gain, self.protected = members, ratios, picks, gain, protected
        self.refused: list[str] = []
        self.found = {
            w.key: {
                name: interval(r) for name, r in ratios[w.key].items() if len(r) >= min_pairs and name != picks[w.key]
            }
            for w in members
        }
        self.winner = {w.key: self._winner(w) for w in members}

    def _winner(self, workload: Workload) -> str | None:
        """Who takes the problem from the present pick, None if nobody does."""
        found = self.found[workload.key]
        good = [name for name, ratio in found.items() if ratio.faster and ratio.gain >= self.gain]
        if good and workload.key in self.protected:
            best = min(good, key=lambda name: found[name].median)
            self.refused.append(f"{workload}: {best}: {self.protected[workload.key]}")
            return None
        if good:
            return min(good, key=lambda name: found[name].median)
        close = [name for name, ratio in found.items() if ratio.gain >= self.gain]
        if close:
            best = min(close, key=lambda name: found[name].median)
            self.refused.append(f"{workload}: {best} saves {found[best].words()}, not sure enough")
        return None

    def rows(self) -> list[Draft]:
        """Ranges first by how much they win, then single problems; sorted into table order by the caller."""
        out: list[Draft] = []
        settled: set[str] = set()  # problems whose winner has a row
        names = [name for name in self.winner.values() if name is not None]
        for name in sorted(set(names), key=lambda n: (-names.count(n), n)):
            wins = [w for w in self.members if self.winner[w.key] == name and w.key not in settled]
            for part in self._ranges(name, wins):
                out.append(part)
                settled |= {w.key for w in part.problems if self._content(w, name)}
        for workload in self.members:
            name_ = self.winner[workload.key]
            if name_ is not None and workload.key not in settled:
                out.append(self._draft(name_, [workload]))
        return out

    def _content(self, workload: Workload, name: str) -> bool:
        """Whether a range's kernel is as good there as the winner, as far as the intervals can tell."""
        winner = self.winner[workload.key]
        if winner is None or winner == name:
            return True
        found = self.found[workload.key]
        return name in found and found[name].low <= found[winner].high

    def _ranges(self, name: str, wins: Sequence[Workload]) -> list[Draft]:
        """The wins of a kernel as few ranges of more than one problem as the data supports."""
        if len(wins) < 2:
            return []
        whole = self._range(name, wins)
        if whole is not None:
            return [whole]
        out = []
        for k in sorted({w.sizes["K"] for w in wins}):
            part = [w for w in wins if w.sizes["K"] == k]
            if 1 < len(part) < len(wins) and (row := self._range(name, part)) is not None:
                out.append(row)
        return out

    def _range(self, name: str, wins: Sequence[Workload]) -> Draft | None:
        """The smallest range around some wins, or None with the reason noted."""
        ms = _span(w.sizes["M"] for w in wins)
        ks = _span(w.sizes["K"] for w in wins)
        modulus = _modulus(w.sizes["K"] for w in wins)
        inside = [
            w
            for w in self.members
            if ms[0] <= w.sizes["M"] <= ms[1] and ks[0] <= w.sizes["K"] <= ks[1] and w.sizes["K"] % modulus == 0
        ]
        words = f"{name} for N {wins[0].sizes['N']} {wins[0].dtype}, M {ms[0]} to {ms[1]}, K {ks[0]} to {ks[1]}"
        for workload in inside:
            if self.picks[workload.key] == name:
                continue
            if workload.key in self.protected:
                self.refused.append(f"{words}: {workload} stays: {self.protected[workload.key]}")
                return None
            ratio = self.found[workload.key].get(name)
            if ratio is None:
                self.refused.append(f"{words}: not timed in pairs at {workload}")
                return None
            if ratio.slower:
                self.refused.append(f"{words}: {-100 * ratio.gain:.1f} % slower than the present pick at {workload}")
                return None
        row = self._draft(name, [w for w in inside if self.picks[w.key] != name])
        if row.gain.gain < self.gain or not row.gain.faster:
            self.refused.append(f"{words}: over all {len(inside)} problems inside it saves {row.gain.words()}")
            return None
        return row

    def _draft(self, name: str, problems: Sequence[Workload]) -> Draft:
        each = [self.ratios[w.key][name] for w in problems]
        ms, ks = _span(w.sizes["M"] for w in problems), _span(w.sizes["K"] for w in problems)
        return Draft(
            name,
            problems[0].dtype,
            problems[0].sizes["N"],
            ms,
            ks,
            _modulus(w.sizes["K"] for w in problems),
            pooled(each),
            tuple(interval(ratios) for ratios in each),
            tuple(dict.fromkeys(self.picks[w.key] for w in problems)),
            tuple(problems),
        )


def _merge_types(rows: Sequence[Draft]) -> list[Draft]:
    """Two rows that differ by the element type alone become one for both types."""
    out: dict[tuple[object, ...], Draft] = {}
    for row in rows:
        plain = row.kernel.replace(f"_{row.dtype}_", "_", 1)
        key = (plain, row.N, row.problems[0].traits, row.ms, row.ks, row.modulus)
        other = out.get(key)
        if other is None or other.dtype is None:
            out[key if other is None else (*key, row.dtype)] = row
            continue
        if {other.dtype, row.dtype} != set(HALVES):
            out[(*key, row.dtype)] = row
            continue
        gains = (other.gain, row.gain)
        both = Interval(
            (gains[0].median * gains[1].median) ** 0.5,
            min(g.low for g in gains),
            max(g.high for g in gains),
            min(g.pairs for g in gains),
        )
        over = tuple(dict.fromkeys([*other.over, *row.over]))
        place = (other.N, other.ms, other.ks, other.modulus)
        out[key] = Draft(
            other.kernel, None, *place, both, (*other.each, *row.each), over, (*other.problems, *row.problems)
        )
    return list(out.values())


def _span(values: Iterable[int]) -> tuple[int, int]:
    found = list(values)
    return min(found), max(found)


def _modulus(values: Iterable[int]) -> int:
    """The largest power of two, up to MAX_MODULUS, that divides all values."""
    found, modulus = list(values), MAX_MODULUS
    while modulus > _PIECE and any(value % modulus for value in found):
        modulus //= 2
    return modulus


def _equals(name: str, value: int | bool) -> str:
    """A trait as a condition; one that is true or false is a condition itself."""
    if isinstance(value, bool):
        return name if value else f"not {name}"
    return f"{name} == {value}"


def _between(name: str, span: tuple[int, int]) -> str:
    low, high = span
    return f"{name} == {low}" if low == high else f"{low} <= {name} <= {high}"
