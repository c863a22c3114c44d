"""What a launch under test is given, whatever the family: arrays and sizes by argument name, and what must come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from kgen.verify.elements import Bits, Doubles

OTHER_ORDER = "random:1"  # the emulator's schedule for a launch whose waves run in another order


@dataclass(frozen=True)
class Extra:
    """What a kernel writes beside its output: the values that must come out, and by how much of themselves they may be off."""

    values: Any
    share: float = 0.0

    def fresh(self) -> Any:
        """Memory for it before the launch: no value that could come out."""
        return np.full(self.values.shape, np.nan if self.values.dtype.kind == "f" else -1, self.values.dtype)

    def problem(self, found: Any) -> str | None:
        """What is wrong with what came out."""
        close = np.abs(found - self.values) <= self.share * np.abs(self.values)
        if close.all():
            return None
        at = np.unravel_index(int(np.argmin(close)), close.shape)
        return f"{int((~close).sum())} of {close.size} differ; first at {tuple(map(int, at))}: {found[at]}, must be {self.values[at]}"


class Data(Protocol):
    """One problem's memory. reference, magnitude: exact result and sum of absolute products, see kgen.verify.accuracy; `expected`: the exact
    bits, where zero inputs leave no room.
    """

    @property
    def reference(self) -> Doubles:
        """Exact result, of out_shape."""

    @property
    def magnitude(self) -> Doubles:
        """Sum of absolute products, of out_shape."""

    @property
    def expected(self) -> Bits | None:
        """Exact bits, or None."""

    @property
    def extras(self) -> Mapping[str, Extra]:
        """By argument name: arrays beside the output that the kernel writes."""

    @property
    def out_shape(self) -> tuple[int, int]:
        """Rows and columns of the output."""

    def arrays(self) -> dict[str, Any]:
        """Arrays by argument name, but for what the kernel writes and the workspace; None for a null pointer."""

    def sizes(self) -> dict[str, int]:
        """Scalars by argument name that do not follow from the shape and the launch."""


@dataclass(frozen=True)
class Variant:
    """A launch that must give the same bits: its data and wave order, and which rows of its output are which of the first one's."""

    words: str
    data: Data
    order: str = "linear"
    ours: slice = field(default_factory=lambda: slice(None))
    theirs: slice = field(default_factory=lambda: slice(None))
