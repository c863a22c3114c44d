"""DEQUANT digits2: how a wave lies over rows and K where each lane makes the digits that it multiplies with, and what that takes.

An activation is a whole number in two signed bytes, and those are columns of the integer matrix instruction, in pairs: one for each activation row
and group of a part of K. Columns that are left over let other parts of K be rows of it: of one weight row in groups of 128 four parts, side by side
in memory, at one activation row, two at two. A part is 128 elements of an activation row, which share an exponent. Digits stay in registers: nothing
of the activations goes through LDS.
"""

from __future__ import annotations

from typing import Literal

from kgen.errors import Problem
from kgen.spec.arch import ArchFacts
from kgen.spec.base import rule
from kgen.spec.problem import GemmShape, ceil_div
from kgen.spec.w4 import MATRIX_ROWS, Dequant, W4Spec

LanesDequant = Literal[Dequant, "digits2"]
_PAIRS = 4  # of columns in a tile of the matrix instruction: the two digits of an activation
_LOAD_ROWS = 8  # of the matrix instruction that one load of a wave brings
_SUM_BYTES = 4


class W4LanesSpec(W4Spec):
    """What DEQUANT digits2 changes of what W4Spec derives."""

    # ---- how a wave is laid over rows and K

    @property
    def lane_digits(self) -> bool:
        return self.DEQUANT == "digits2"

    @property
    def groups_of_part(self) -> int:
        """Groups of a part, each with a pair of columns for every activation row."""
        return max(1, self.part // self.GROUP_SIZE)

    @property
    def k_parts(self) -> int:
        """Parts of K of a weight row that are rows of the matrix instruction: as many as its columns have pairs for."""
        return {1: 4, 2: 2}.get(self.N * self.groups_of_part, 1)

    @property
    def idle_pairs(self) -> bool:
        """Whether the last tile has pairs of columns that no activation row is in."""
        return self.k_parts == 1 and self.N * self.groups_of_part % _PAIRS > 0

    @property
    def lane_rows(self) -> int:
        """Weight rows that a wave's tile comes in: eights, whose loads fill matrix instructions two by two; with one part of K sixteens."""
        return max(_LOAD_ROWS, MATRIX_ROWS // self.k_parts) if self.lane_digits else super().lane_rows

    @property
    def octets(self) -> int:
        """Eights of weight rows: a lane has one sum of each."""
        return self.YTILE // _LOAD_ROWS

    @property
    def loads(self) -> int:
        """Loads of a wave for a slab."""
        return self.octets * self.k_parts

    @property
    def slab(self) -> int:
        return self.part * self.k_parts if self.lane_digits else super().slab

    @property
    def column_tiles(self) -> int:
        if not self.lane_digits:
            return super().column_tiles
        return ceil_div(self.N * self.groups_of_part * self.k_parts, _PAIRS)

    @property
    def groups_per_cu(self) -> int:
        return self.GrpsPerCU if self.lane_digits else super().groups_per_cu

    @property
    def slab_bytes(self) -> int:
        return 0 if self.lane_digits else super().slab_bytes

    @property
    def exchange_bytes(self) -> int:
        """The sums of a row's pairs lie side by side; two buffers where a group has several tiles."""
        if not self.lane_digits:
            return super().exchange_bytes
        buffers = 2 if self.STAGING == "own" else 1
        return buffers * _SUM_BYTES * _PAIRS * self.WvPrGrp * self.column_tiles * self.YTILE

    # ---- how deep sums are

    @property
    def group_additions(self) -> int:
        """Whole numbers add without error, all products of a part and group in one; four are allowed for rounding activations (kgen.verify.int4)."""
        return 4 if self.lane_digits else super().group_additions

    def additions_of_slabs(self, slabs: int) -> int:
        """The product with its scale, and the sums of `slabs` slabs, of all parts and of all groups."""
        if not self.lane_digits:
            return super().additions_of_slabs(slabs)
        return self.group_additions + 1 + slabs + _PAIRS * self.column_tiles

    # ---- registers of a lane

    @property
    def act_vgprs(self) -> int:
        if not self.lane_digits:
            return super().act_vgprs
        of_slab = 2 * self.words + 1 + (1 if self.HAS_ZP else 0)
        return self.UNRL * self.column_tiles * of_slab

    @property
    def scale_vgprs(self) -> int:
        if not self.lane_digits:
            return super().scale_vgprs
        return self.UNRL * self.octets * (2 if self.HAS_ZP else 1)

    @property
    def decode_vgprs(self) -> int:
        return 4 if self.lane_digits else super().decode_vgprs

    @property
    def weight_vgprs(self) -> int:
        if not self.lane_digits:
            return super().weight_vgprs
        return self.UNRL * self.loads * self.words

    @property
    def sum_vgprs(self) -> int:
        """Those of two loads, the ones that count, and totals."""
        if not self.lane_digits:
            return super().sum_vgprs
        return (4 + 2 * self.octets) * self.column_tiles

    # ---- rules

    @rule
    def digits_fit_the_matrix(self, arch: ArchFacts) -> Problem | None:
        if self.lane_digits and arch.vendor != "nvidia":
            found = f"digits2 on {arch.name}, whose matrix instruction has no prelude for it"
            return Problem(("DEQUANT",), found, "digits2 on sm_90", "DEQUANT = actsum")
        return super().digits_fit_the_matrix(arch)

    @rule
    def sharers_fill_waves(self, arch: ArchFacts) -> Problem | None:
        """K_WAVES lanes add up a row of the group's tile, by exchanges that whole waves take part in."""
        if not self.lane_digits or self.K_WAVES == 1 or self.WvPrGrp * self.YTILE % arch.wave == 0:
            return None
        found = f"{self.WvPrGrp * self.YTILE} sums of rows, by {self.WvPrGrp} waves of {self.YTILE} rows"
        return Problem(("WvPrGrp", "YTILE"), found, f"a multiple of {arch.wave}", "YTILE = 16")

    def lanes_problem(self, shape: GemmShape) -> Problem | None:
        """Why lanes cannot make and keep the digits of a shape whose K is whole slabs, or None."""
        if not self.lane_digits:
            return None
        kept = self.step * self.K_WAVES
        if self.STAGING == "own" and shape.K > kept:
            allowed = f"at most {kept}: lanes keep the digits of all of K"
            return Problem(("K",), str(shape.K), allowed, "a kernel with STAGING wave")
        if shape.M < self.YTILE:
            return Problem(("M",), str(shape.M), f"at least YTILE = {self.YTILE}", "a kernel with DEQUANT digits")
        return None

    # ---- what the machine code should show

    @property
    def macs_per_step(self) -> int:
        if not self.lane_digits:
            return super().macs_per_step
        return self.A_CHUNK * self.UNRL * self.loads * self.N

    @property
    def multiplies_per_step(self) -> int:
        if not self.lane_digits:
            return super().multiplies_per_step
        return self.words * self.UNRL * self.loads // 2 * self.column_tiles
