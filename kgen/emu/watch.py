"""What emulated launches are watched for, set around the calls; the log of what they did.

with emulation(Options(races=True, count_ops=True)) as log:
    torch.ops.kgen.wvsplitk(x, weight)
print(log.instructions, log.ops.most_common(5))
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from kgen.emu.options import Options, Stats


@dataclass
class EmulationLog:
    """What the launches inside an `emulation` did: one `Stats` per launch in order, and their sums."""

    launches: list[Stats] = field(default_factory=list)

    @property
    def instructions(self) -> int:
        """Wave instructions of all launches."""
        return sum(stats.instructions for stats in self.launches)

    @property
    def seconds(self) -> float:
        """Host time inside the emulator."""
        return sum(stats.seconds for stats in self.launches)

    @property
    def ops(self) -> Counter[str]:
        """Executed wave instructions by mnemonic; empty unless the options count them."""
        return sum((stats.ops for stats in self.launches), Counter())

    @property
    def kernels(self) -> Counter[str]:
        """Launches by kernel name."""
        return Counter(stats.kernel for stats in self.launches)


_PLAIN = Options()
_lock = threading.Lock()
_watching: list[tuple[Options, EmulationLog]] = []


@contextlib.contextmanager
def emulation(options: Options | None = None) -> Iterator[EmulationLog]:
    """Run emulated launches with `options` and log them, in every thread of the process until the block ends.

    Blocks nest: the innermost options hold, every log gets the launch.
    """
    entry = (options or Options(), EmulationLog())
    with _lock:
        _watching.append(entry)
    try:
        yield entry[1]
    finally:
        with _lock:
            _watching[:] = [other for other in _watching if other[1] is not entry[1]]


def present_options() -> Options:
    """What the next launch runs with."""
    with _lock:
        return _watching[-1][0] if _watching else _PLAIN


def record(stats: Stats) -> None:
    """Enter a launch into every log."""
    with _lock:
        for _, log in _watching:
            log.launches.append(stats)
