"""llmm1: one activation row, a few output features per work-group, K split over all its lanes.

    out[1, M] = act[1, K] @ weight[M, K].T + bias

M counts output features (weight rows), K the reduction. Where wvsplitk gives a wave whole rows, llmm1 gives a work-group ROWS_PER_BLOCK rows
and every lane of it a share of K: M / ROWS_PER_BLOCK groups of WvPrGrp waves have loads in flight even when M is small and K is long
(routers, down projections). Accumulation is fp32 with one rounding at the end, unlike vLLM's LLMM1, which adds four products in 16 bits.
The order of additions depends on the spec alone, so results are the same bits on every run.
"""

from __future__ import annotations

from typing import ClassVar

from kgen.errors import Problem
from kgen.spec.arch import ArchFacts
from kgen.spec.base import Param, rule
from kgen.spec.linear import PIECE, LinearSpec
from kgen.spec.problem import GemmShape, ceil_div


class Llmm1Spec(LinearSpec):
    """Parameters of one llmm1 kernel; see the module's docstring for the mathematics and docs/llmm1.md for layouts."""

    family: ClassVar[str] = "llmm1"
    template: ClassVar[str] = "llmm1.hip.jinja"
    N: ClassVar[int] = 1  # type: ignore[misc]  # a field in the other families

    THRDS: int = Param(32, among=(32, 64), doc="lanes of a wave")
    ROWS_PER_BLOCK: int = Param(4, among=(1, 2, 4, 8, 16), doc="output features of a work-group; vLLM's rows_per_block")
    WvPrGrp: int = Param(4, ge=1, le=32, doc="waves per work-group; their lanes split K between them")
    UNRL: int = Param(2, among=(1, 2, 4), doc="16-byte loads in flight per row and lane")

    @classmethod
    def row_counts(cls) -> range:
        return range(1, 2)

    # ---- derived

    @property
    def rows_per_group(self) -> int:
        return self.ROWS_PER_BLOCK

    @property
    def row_tiles(self) -> int:
        """Accumulator tiles along M, each `lane_rows` rows."""
        return self.ROWS_PER_BLOCK // self.lane_rows

    @property
    def slab(self) -> int:
        return self.threads // self.lane_rows * PIECE

    @property
    def step(self) -> int:
        return self.slab * self.UNRL

    @property
    def static_lds(self) -> int:
        """LDS bytes: one fp32 sum per wave and row."""
        return 4 * self.WvPrGrp * self.ROWS_PER_BLOCK

    # ---- rules

    @rule
    def rows_fill_the_matrix(self, arch: ArchFacts) -> Problem | None:
        if self.ROWS_PER_BLOCK % self.lane_rows == 0:
            return None
        allowed = f"a multiple of {self.lane_rows} on {arch.name}, whose matrix instruction takes {self.lane_rows} rows at once"
        return Problem(("ROWS_PER_BLOCK",), str(self.ROWS_PER_BLOCK), allowed, f"ROWS_PER_BLOCK = {self.lane_rows}")

    @rule
    def weights_fit_registers(self, arch: ArchFacts) -> Problem | None:
        weights = self.row_tiles * self.UNRL * PIECE // 2
        lanes = arch.simds_per_cu * arch.wave
        limit = min(arch.max_vgprs, arch.vgpr_file * lanes // max(self.threads, lanes)) - 16  # addresses and loop state
        used = weights + self.UNRL * PIECE // 2 + self.ROWS_PER_BLOCK
        if used <= limit:
            return None
        found = f"{self.ROWS_PER_BLOCK} rows x {self.UNRL} loads = {used} registers per lane"
        allowed = f"at most {limit} on {arch.name} with {self.threads} work-items"
        return Problem(("ROWS_PER_BLOCK", "UNRL", "WvPrGrp"), found, allowed, "lower UNRL first")

    # ---- launch

    def lds_bytes(self, shape: GemmShape) -> int:
        return self.static_lds

    def additions(self, shape: GemmShape) -> int:
        chain = ceil_div(shape.K, self.slab) * PIECE  # a lane's own
        lanes = (self.THRDS // self.lane_rows - 1).bit_length()
        return chain + lanes + (self.WvPrGrp - 1) + 1

    # ---- what the machine code should show

    @property
    def macs_per_step(self) -> int:
        """Useful multiply-adds of one lane in one trip of the main loop."""
        return PIECE * self.UNRL * self.ROWS_PER_BLOCK // self.lane_rows

    @property
    def multiplies_per_step(self) -> int:
        """How many multiplying instructions one trip holds."""
        if self.lane_rows == 4:  # K of 4 per instruction
            return self.row_tiles * self.UNRL * PIECE // 4
        per_mac = 1 if self.facts.vendor == "nvidia" else 2
        return self.macs_per_step // per_mac
