"""What the families share that multiply by 4-bit integer weights: groups, zero points, how codes become numbers, the layout of a lane's work.

weight value = (q - z) * scale, q in 0..15; a scale and a zero point serve GROUP_SIZE consecutive K of one row; without zero points z is 8. The
layout is in docs/wvsplitk_int4.md; kgen.ops.pack makes it from checkpoints.

On RDNA all lanes of a wave work on one row at a time and split K (`lane_rows` 1). Where the matrix instruction multiplies 16 weight rows at
once (CDNA, NVIDIA), 16 rows lie side by side in a wave, four lanes of each row split K, and the columns of the tile that activation rows do not
need serve to keep the groups of a slab apart: column n * GROUPS + g sums group g of activation row n.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from kgen.errors import Problem
from kgen.spec.arch import ArchFacts
from kgen.spec.base import KernelSpec, rule
from kgen.spec.problem import ceil_div

Dequant = Literal["scalar", "magic", "finite", "truncate", "actsum"]
GROUP_SIZES = (32, 64, 128)
WORD = 8  # codes of one 32-bit word
MATRIX_ROWS = 16  # weight rows of one matrix instruction
# Added to a code by the exponent trick: the first number of the binade in which codes are neighbours.
OFFSET = {"bf16": 128, "fp16": 64}


class W4Spec(KernelSpec):
    """What int4 families derive from their parameters; each declares the fields named here in the place that they have in its names."""

    traits: ClassVar[dict[str, tuple[int | bool, ...]]] = {"GROUP_SIZE": GROUP_SIZES, "HAS_ZP": (False, True)}

    if TYPE_CHECKING:
        N: int
        THRDS: int
        YTILE: int
        WvPrGrp: int
        A_CHUNK: int
        UNRL: int
        GROUP_SIZE: int
        HAS_ZP: bool
        DEQUANT: Dequant

    # ---- how a wave is laid over rows and K

    @property
    def matrix(self) -> bool:
        """Whether the matrix instruction multiplies."""
        return not self.facts.matrix.startswith("wmma")

    @property
    def lane_rows(self) -> int:
        """Weight rows side by side in a wave."""
        return MATRIX_ROWS if self.matrix else 1

    @property
    def rows_of_lane(self) -> int:
        """Rows of those that one lane holds: 2 where a warp of 32 lanes brings 16 rows with 4 lanes each."""
        return max(1, self.lane_rows * self.k_lanes // self.facts.wave)

    @property
    def k_lanes(self) -> int:
        """Lanes that share a row and split K."""
        return 4 if self.matrix else self.facts.wave

    @property
    def columns(self) -> int:
        """Columns of a tile of sums."""
        return 1 if not self.matrix else 8 if self.facts.vendor == "nvidia" else 16

    @property
    def slab(self) -> int:
        """K elements that the lanes of a row cover with one chunk each."""
        return self.k_lanes * self.A_CHUNK

    @property
    def step(self) -> int:
        """K elements of one trip of the main loop, of one wave."""
        return self.slab * self.UNRL

    @property
    def groups_of_slab(self) -> int:
        """Groups that meet in one matrix instruction."""
        return max(1, self.slab // self.GROUP_SIZE) if self.matrix else 1

    @property
    def row_tiles(self) -> int:
        """Accumulator tiles along M, each `lane_rows` rows."""
        return self.YTILE // self.lane_rows

    @property
    def column_tiles(self) -> int:
        """Accumulator tiles along N."""
        return ceil_div(self.N * self.groups_of_slab, self.columns) if self.matrix else self.N

    @property
    def words(self) -> int:
        """32-bit words of a chunk."""
        return self.A_CHUNK // WORD

    @property
    def some_rows(self) -> bool:
        """Whether a launch may bring fewer activation rows than N."""
        return False

    # ---- registers of a lane

    @property
    def weight_vgprs(self) -> int:
        """Registers for the codes of one trip."""
        return self.row_tiles * self.rows_of_lane * self.UNRL * self.words

    @property
    def sum_vgprs(self) -> int:
        """Registers for sums: of the group at hand and of the row."""
        per_tile = 4 if self.matrix else 1
        return 2 * per_tile * self.row_tiles * self.column_tiles

    # ---- rules

    @rule
    def rows_fill_the_matrix(self, arch: ArchFacts) -> Problem | None:
        if self.YTILE % self.lane_rows == 0:
            return None
        allowed = f"a multiple of {self.lane_rows} on {arch.name}, whose matrix instruction takes {self.lane_rows} rows at once"
        return Problem(("YTILE",), str(self.YTILE), allowed, f"YTILE = {self.lane_rows}")

    @rule
    def codes_fit_registers(self, arch: ArchFacts) -> Problem | None:
        lanes = arch.simds_per_cu * arch.wave
        limit = min(arch.max_vgprs, arch.vgpr_file * lanes // max(self.THRDS * self.WvPrGrp, lanes)) - 24
        act = 4 * self.words * (self.column_tiles if self.matrix else self.N)
        decoded = 4 * self.rows_of_lane * self.row_tiles
        used = self.weight_vgprs + act + decoded + self.sum_vgprs
        if used <= limit:
            return None
        found = f"{self.weight_vgprs} code + {act} activation + {decoded} decoded + {self.sum_vgprs} sum registers per lane = {used}"
        allowed = f"at most {limit} on {arch.name} with {self.THRDS * self.WvPrGrp} work-items"
        return Problem(
            ("YTILE", "UNRL", "A_CHUNK", "N"), found, allowed, "lower UNRL first; it costs the least bandwidth"
        )
