"""What the families share that multiply by the int4 weights of a mixture's experts: work-groups, waves, trips, sums, LDS.

Weights are stacked: codes [E, M, K / 8] words, scales [E, M, K / GROUP_SIZE], zeros [E, ceil(M / 8), K / GROUP_SIZE] words, in the layout of
kgen.spec.w4. Which expert a work-group multiplies by is read on the device. K is staged in whole trips, zeros beyond its end, so that one loop
serves all of it: these kernels are short because a decode step runs each of them once, from a cold instruction cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from kgen.errors import Problem
from kgen.spec.arch import ArchFacts
from kgen.spec.base import LAYER_LDS, Launch, rule
from kgen.spec.linear import LinearSpec
from kgen.spec.problem import MoeShape, ceil_div
from kgen.spec.w4 import W4Spec

Staging = Literal["lds", "wave"]
UNROLLS = (1, 2, 3, 4, 6, 8)  # 3 and 6: K of 768 in whole trips
YTILES = (1, 2, 4, 6, 16, 32)
GROUPS_PER_CU = (1, 2, 3, 4, 6, 8)
K_SHARERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_MOST_BLOCKS = 65535  # of the grid's second dimension


class MoeSpec(W4Spec):
    """Base of the expert families; each declares the fields named here in the place that they have in its names."""

    if TYPE_CHECKING:
        shape: ClassVar[type[MoeShape]]
        K: int | None

    # ---- derived

    @property
    def fixed_k(self) -> int | None:
        return self.K

    @property
    def whole_slabs(self) -> bool:
        """Whether no trip ends behind K."""
        return self.K is not None and self.K % self.step == 0

    @property
    def paired(self) -> bool:
        """Whether weight rows i and M + i are multiplied together."""
        return False

    @property
    def sent(self) -> bool:
        """Whether codes come by LDS."""
        return False

    @property
    def rows_per_wave(self) -> int:
        """Output features that one wave works on."""
        return self.YTILE // 2 if self.paired else self.YTILE

    def tiles(self, shape: MoeShape) -> int:
        """Tiles of the output, of `rows_per_group` features each, of every block or token."""
        raise NotImplementedError

    def wave_trips(self, shape: MoeShape) -> int:
        """Trips of the main loop that one wave makes for a tile."""
        raise NotImplementedError

    def trips(self, K: int) -> int:
        """Trips over a row of K, the last one filled up."""
        return ceil_div(K, self.step)

    def staged_bytes(self, K: int) -> int:
        """LDS of N rows of activations."""
        return self.trips(K) * self.UNRL * self.slab_bytes

    def additions_of_trip(self, trips: int) -> int:
        """The most fp32 additions that a product passes through in `trips` trips of one wave, and over its lanes."""
        return self.additions_of_slabs(trips * self.UNRL)

    @property
    def wave_bytes(self) -> int:
        """LDS in which each wave lands the activations of its trip."""
        return self.WvPrGrp * self.UNRL * self.slab_bytes if self.STAGING == "wave" else 0

    # ---- rules

    @rule
    def a_wave_lands_one_row(self, arch: ArchFacts) -> Problem | None:
        if self.STAGING != "wave" or (self.matrix and self.N == 1 and self.DEQUANT != "actsum"):
            return None
        found = f"wave with N {self.N}, DEQUANT {self.DEQUANT} on {arch.name}"
        allowed = "N = 1 and no sums of activations, where the matrix instruction multiplies"
        return Problem(("STAGING", "N", "DEQUANT"), found, allowed, "STAGING = lds")

    lanes_are_a_wave = LinearSpec.lanes_are_a_wave
    group_fits = LinearSpec.group_fits

    @rule
    def static_lds_fits(self, arch: ArchFacts) -> Problem | None:
        if self.static_lds <= arch.static_lds:
            return None
        what = f"{self.static_lds} bytes of LDS, {self.exchange_bytes} of them for sums"
        return Problem(("K", "N", "WvPrGrp"), what, f"at most {arch.static_lds} on {arch.name}", "lower WvPrGrp or N")

    # ---- launch

    @property
    def static_lds(self) -> int:
        """LDS bytes known at compile time."""
        raise NotImplementedError

    def dynamic_lds(self, shape: MoeShape) -> int:
        """Bytes of LDS that a launch asks for on top of what the code object reserves; equals `lds_expr`."""
        raise NotImplementedError

    def grid(self, shape: MoeShape, cu: int) -> tuple[int, int, int]:
        """Work-groups per dimension."""
        raise NotImplementedError

    def launch(self, shape: MoeShape, cu: int) -> Launch:
        """Geometry for a shape that fits, on a device of `cu` CUs."""
        early = self.facts.vendor == "nvidia"
        return Launch(self.grid(shape, cu), self.block, self.dynamic_lds(shape), early, LAYER_LDS)

    def fits(self, shape: MoeShape) -> Problem | None:
        """Why this kernel cannot do this shape, or None. The one place that decides: table, op and tests all ask here."""
        if shape.N != self.N:
            return Problem(("N",), str(shape.N), f"{self.N}, fixed in {self.name}")
        if wrong := self.trait_problem(shape):
            return wrong
        if shape.K % self.GROUP_SIZE or shape.K < self.GROUP_SIZE:
            return Problem(
                ("K",), str(shape.K), f"a multiple of GROUP_SIZE = {self.GROUP_SIZE}", "pad K to whole groups"
            )
        if self.K is not None and shape.K != self.K:
            return Problem(("K",), str(shape.K), f"{self.K}, fixed in {self.name}")
        if not 1 <= shape.M < 1 << 31:
            return Problem(("M",), str(shape.M), "1 to 2^31 - 1")
        if shape.blocks > _MOST_BLOCKS or shape.tokens > _MOST_BLOCKS:
            return Problem(
                ("blocks", "tokens"),
                f"{shape.blocks}, {shape.tokens}",
                f"at most {_MOST_BLOCKS}",
                "split the tokens into several calls",
            )
        if (lds := self.static_lds + self.dynamic_lds(shape)) > self.facts.lds_per_group:
            found = f"K = {shape.K}: {lds} bytes of LDS"
            return Problem(
                ("K",),
                found,
                f"at most {self.facts.lds_per_group} on {self.arch}",
                "a kernel with a smaller N or fewer waves",
            )
        return None
