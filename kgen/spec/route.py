"""Ops that several families answer: which family takes a problem is data too, a table whose rows name a family or torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kgen.spec.gemm_w4a16 import MAX_ROWS, GemmW4A16Spec
from kgen.spec.moe_gemm_w4a16 import BLOCK_SIZES, MoeGemmW4A16Spec
from kgen.spec.moe_wvsplitk_int4 import MoeWvSplitKInt4Spec
from kgen.spec.problem import GemmShape, MoeGemmShape, MoeUpShape, W4Shape, ceil_div
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

    def answer(self, use: str, shape: GemmShape) -> tuple[str, GemmShape]:
        """The family that a row means, and the problem as that family's own table is asked."""
        return use, shape


EXPERTS = 16
"""A mixture's table counts slots for so many experts: N / 16 is what one expert gets on average."""


class MoeRoute(Route):
    """The layer of a mixture: M gates of an expert, K its input, and N slots for every 16 experts, rounded up.

    A slot is a token at one of its experts. What decides is how many rows share an expert's weights, so that number is the table's N, in sixteenths;
    rows that name moe_gemm_w4a16 say with which blocks.
    """

    @staticmethod
    def rows(slots: int, experts: int) -> int:
        """The N of `slots` slots spread over `experts` experts."""
        return ceil_div(EXPERTS * slots, experts)

    def answer(self, use: str, shape: GemmShape) -> tuple[str, GemmShape]:
        """As for a first GEMM that ends in silu: on blocks of the size that the row names, or on single slots whose experts are ranked."""
        family, _, block = use.partition(" N=")
        group, zeros = shape.traits["GROUP_SIZE"], bool(shape.traits["HAS_ZP"])
        if block:
            return family, MoeGemmShape(shape.M, int(block), shape.K, group, zeros, True)
        return family, MoeUpShape(shape.M, 1, shape.K, group, zeros, True, True)


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
        MoeRoute(
            "moe_w4a16",
            (MoeWvSplitKInt4Spec.family, *(f"{MoeGemmW4A16Spec.family} N={size}" for size in BLOCK_SIZES)),
            W4Shape,
            GemmW4A16Spec.traits,
            "the experts of a mixture on int4 weights for any number of tokens",
        ),
    )
}
