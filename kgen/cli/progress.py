"""Bars with time left on stderr; where stderr is no terminal, nothing but a line at the end of each tenth of the work."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

STEPS = 10


class Counting:
    """Progress over a known number of pieces; a context manager. Its methods may be handed out as callbacks.

    title  what is being done, in a few words
    """

    def __init__(self, title: str):
        self.title = title
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None
        self._said = 0
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, done: int, total: int, what: str = "", seconds_left: float | None = None) -> None:
        """`done` of `total` pieces are done, `what` the last of them; the time left is reckoned from the pace so far unless it is given."""
        if seconds_left is None and done:
            seconds_left = (time.monotonic() - self._begun) / done * (total - done)
        if self._terminal:
            self._draw(done, total, what)
        elif total and done * STEPS // total > self._said:
            self._said = done * STEPS // total
            left = f", {seconds_left:.0f} s left" if seconds_left and done < total else ""
            print(f"{self.title}: {done} of {total}{left}", file=sys.stderr, flush=True)

    def say(self, words: str) -> None:
        """A remark beside the bar."""
        if self._bar is not None:
            self._bar.console.print(words, highlight=False)
        else:
            print(words, file=sys.stderr, flush=True)

    def _draw(self, done: int, total: int, what: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn(self.title),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total, description=what)
