"""Times on a GPU that can be compared: cold weights, captured graphs, contenders in turn.

One number is the median over rounds of one graph replay divided by the calls in the graph. A graph calls the operation once per weight
set, and the sets together exceed the last-level cache several times, so that weights come from memory as they do in a decode step.
Contenders take turns inside a round, so that a change of the chip's clock meets all of them; ratios are formed round by round.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

COLD_BYTES = (
    256 << 20
)  # of weights between two uses of the same set: four times the largest last-level cache of the targets
MAX_SETS = 512
ROUNDS = 11

Call = Callable[[], Any]


@dataclass(frozen=True)
class Timing:
    """Microseconds per call: the median over rounds, the smallest and the largest round, and all rounds in order."""

    us: float
    low: float
    high: float
    rounds: tuple[float, ...]

    def over(self, other: Timing) -> tuple[float, float, float]:
        """This time over the other's, round by round: median, smallest, largest."""
        ratios = sorted(a / b for a, b in zip(self.rounds, other.rounds, strict=True))
        return statistics.median(ratios), ratios[0], ratios[-1]


def weight_sets(nbytes: int) -> int:
    """How many weight sets a graph walks over so that each is cold when its turn comes."""
    return max(2, min(MAX_SETS, -(-COLD_BYTES // max(1, nbytes))))


@cache
def _capture_stream(device: int) -> Any:
    """One for all graphs: workspaces of captured kernels belong to the capturing stream, and graphs here are replayed one by one."""
    import torch

    return torch.cuda.Stream(device)


class Graph:
    """Calls captured once, replayed as a whole."""

    def __init__(self, calls: Sequence[Call]):
        import torch

        self.calls = len(calls)
        self._graph = torch.cuda.CUDAGraph()
        stream = _capture_stream(torch.cuda.current_device())
        with torch.cuda.stream(stream):
            for call in calls[:2]:
                call()
        stream.synchronize()
        with torch.cuda.graph(self._graph, stream=stream):
            for call in calls:
                call()
        self.replay_us()

    def replay_us(self) -> float:
        """One replay, in microseconds per call, by device events."""
        import torch

        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        self._graph.replay()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e3 / self.calls


def compare(contenders: dict[str, Sequence[Call]], rounds: int = ROUNDS) -> dict[str, Timing]:
    """Time all contenders in turn; each is a list of calls, one per weight set."""
    graphs = {name: Graph(calls) for name, calls in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for number in range(rounds):
        order = list(graphs) if number % 2 == 0 else list(reversed(graphs))
        for name in order:
            times[name].append(graphs[name].replay_us())
    return {name: Timing(statistics.median(t), min(t), max(t), tuple(t)) for name, t in times.items()}
