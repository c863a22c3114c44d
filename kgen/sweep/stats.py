"""Paired ratios: a median with an interval that assumes nothing about their distribution."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
MIN_PAIRS = 10  # fewer pairs promote nothing


@dataclass(frozen=True)
class Interval:
    """A ratio: median, lower and upper end, and how many pairs it rests on."""

    median: float
    low: float
    high: float
    pairs: int

    @property
    def gain(self) -> float:
        """Share of the time that is saved: 1 - ratio."""
        return 1.0 - self.median

    @property
    def faster(self) -> bool:
        """Whether the whole interval is below 1."""
        return self.high < 1.0

    @property
    def slower(self) -> bool:
        """Whether the whole interval is above 1."""
        return self.low > 1.0

    def words(self) -> str:
        """As dispatch rows write it: time saved, with its interval."""
        return f"{100 * self.gain:+.1f} % [{100 * (1 - self.high):+.1f}, {100 * (1 - self.low):+.1f}]"


def interval(ratios: Sequence[float]) -> Interval:
    """The median of ratios with its sign-test interval: the order statistics that hold the true median with at least 95 %.

    With 10 pairs these are the second and the ninth, with 11 the second and the tenth. Below 6 pairs no interval is that sure: it is then all
    of them, and nothing is promoted on it.
    """
    ordered = sorted(ratios)
    count = len(ordered)
    rank = 0  # how many values are cut off at each end
    while 2 * _tail(count, rank + 1) <= 1 - CONFIDENCE:
        rank += 1
    return Interval(statistics.median(ordered), ordered[rank], ordered[count - 1 - rank], count)


def _tail(count: int, cut: int) -> float:
    """Probability that the true median lies beyond the value that is left when `cut` are cut off at one end: at most `cut` heads of fair coins."""
    return float(sum(math.comb(count, heads) for heads in range(cut + 1)) / 2**count)


def pooled(each: Sequence[Sequence[float]]) -> Interval:
    """Over several problems: the geometric mean of their ratios, round by round, then the interval of those means."""
    rounds = min(len(ratios) for ratios in each)
    means = [math.exp(sum(math.log(ratios[i]) for ratios in each) / len(each)) for i in range(rounds)]
    return interval(means)


def spread(values: Sequence[float]) -> float:
    """Relative spread of positive values: 1.4826 times the median absolute deviation of their logarithms, a robust standard deviation."""
    logs = [math.log(value) for value in values]
    middle = statistics.median(logs)
    return 1.4826 * statistics.median(abs(log - middle) for log in logs)
