"""How long work tells what it does; the terminal's bar is one way to show it."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class Progress(Protocol):
    """What `install` reports to. Calls come from several threads."""

    def stage(self, words: str) -> None:
        """A new part of the work begins."""

    def total(self, count: int) -> None:
        """So many bytes will come altogether."""

    def advance(self, count: int) -> None:
        """So many more bytes have come; negative when some turned out to be worthless."""


class Quiet:
    """Shows nothing."""

    def stage(self, words: str) -> None:
        """Shows nothing."""

    def total(self, count: int) -> None:
        """Shows nothing."""

    def advance(self, count: int) -> None:
        """Shows nothing."""


class TerminalProgress:
    """A bar with bytes, speed and time left on stderr; plain lines where stderr is no terminal. Use as a context manager."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stage(self, words: str) -> None:
        """A new part of the work begins."""
        if self._console.is_terminal:
            self._bar.update(self._task, description=words)
        else:
            self._console.print(words, highlight=False)

    def total(self, count: int) -> None:
        """So many bytes will come altogether."""
        self._bar.update(self._task, total=count, completed=0)

    def advance(self, count: int) -> None:
        """So many more bytes have come."""
        self._bar.advance(self._task, count)
