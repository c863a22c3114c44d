"""What a launch under test is given, whatever the family: arrays and sizes by argument name, and what must come out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from kgen.verify.elements import Bits, Doubles

OTHER_ORDER = "random:1"  # the emulator's schedule for a launch whose waves run in another order


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
    def out_shape(self) -> tuple[int, int]:
        """Rows and columns of the output."""

    def arrays(self) -> dict[str, Any]:
        """Arrays by argument name, but for the output and the workspace; None for a null pointer."""

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
