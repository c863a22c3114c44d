"""Ops that several families answer: which family takes a problem is data too, a table whose rows name a family or torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kgen.spec.gemm_w4a16 import MAX_ROWS, GemmW4A16Spec
from kgen.spec.problem import GemmShape, W4Shape
from kgen.spec.wvsplitk_int4 import WvSplitKInt4Spec


@dataclass(frozen=True)
class Route:
    """An op with a table of its own; to the tables it looks like a family.

    family    the op's name
    families  those that its rows may name
    shape, traits, any_rows   as of a spec's class
    """

    family: str
    families: tuple[str, ...]
    shape: type[GemmShape]
    traits: Mapping[str, tuple[int | bool, ...]]
    doc: str
    any_rows: bool = True

    def dtypes(self) -> tuple[str, ...]:
        """The element types that the op takes."""
        return GemmW4A16Spec.dtypes()

    def row_counts(self) -> range:
        """The numbers of activation rows that the op takes."""
        return range(1, MAX_ROWS + 1)


ROUTES: dict[str, Route] = {
    route.family: route
    for route in (
        Route(
            "w4a16_linear",
            (WvSplitKInt4Spec.family, GemmW4A16Spec.family),
            W4Shape,
            GemmW4A16Spec.traits,
            "a linear layer on int4 weights for any number of activation rows",
        ),
    )
}
