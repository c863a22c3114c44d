"""What the families share that multiply 4-bit integer weights by matrix tiles: one work-group's block, how it is staged, and what that takes.

A weight becomes a 16-bit number, (q - z) * scale rounded once, and tiles of 16 x 16 are multiplied with fp32 sums. Letters: M counts output
features (weight rows), N activation rows, K the reduction. A block is BLOCK_N activation rows by BLOCK_M features; its waves stand WAVES_N along
N and WvPrGrp / WAVES_N along M; it walks over K in steps of BLOCK_K.

With PreDequantToLDS the group dequantises a step's weights once, into LDS, and both operands of the multiplication come from there. Without, codes
reach each wave in registers and become fragments there, as often as WAVES_N waves share them; K is then permuted inside a step, alike for both
operands, so that the codes of a lane lie in a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from kgen.errors import Problem
from kgen.spec.arch import ArchFacts
from kgen.spec.base import KernelSpec, rule
from kgen.spec.problem import GemmShape, W4Shape, ceil_div
from kgen.spec.tile import BLOCK_K, COUNT, TILE, multiplies_of_block, multiply_pattern
from kgen.spec.w4 import GROUP_SIZES

Subtract = Literal["integer", "float"]
PIECE = 8  # elements of 16 bytes
CHUNK = 4  # words of codes that a lane loads at once at most: 16 bytes, 32 elements of K, which a group never cuts
_MEETING = 64  # registers per lane for sums where shards meet
# Of one 16 x 32 fragment: registers of a lane; rows that a lane holds; pieces of each row that it holds.
_FRAGMENT = {
    "wmma_gfx11": (16, 1, 4),
    "wmma_gfx12": (8, 1, 2),
    "mfma_16x16x16": (4, 1, 1),
    "mfma_16x16x32": (4, 1, 1),
    "mma_m16n8k16": (8, 2, 1),
}


class W4TileSpec(KernelSpec):
    """What such families derive from their parameters; each declares the fields named here in the place that they have in its names."""

    shape: ClassVar[type[GemmShape]] = W4Shape
    traits: ClassVar[Mapping[str, tuple[int | bool, ...]]] = {"GROUP_SIZE": GROUP_SIZES, "HAS_ZP": (False, True)}

    trait_fields: ClassVar[Mapping[str, str]] = {"GROUP_SIZE": "ScaleBlockK"}

    if TYPE_CHECKING:
        BLOCK_N: int
        BLOCK_M: int
        BLOCK_K: int
        WAVES_N: int
        ScaleBlockK: int
        HAS_ZP: bool
        SUBTRACT: Subtract
        TruncateBf16Round: bool
        PreDequantToLDS: bool
        DoubleBuffer: bool
        K_SPLIT: int

    # ---- the block and its waves

    @property
    def GROUP_SIZE(self) -> int:
        """K elements that share a scale, as problems and tables call it."""
        return self.ScaleBlockK

    @property
    def waves_m(self) -> int:
        """Waves along M."""
        return self.WvPrGrp // self.WAVES_N

    @property
    def n_tiles(self) -> int:
        """Tiles along N that a wave multiplies."""
        return self.BLOCK_N // TILE // self.WAVES_N

    @property
    def m_tiles(self) -> int:
        """Tiles along M that a wave multiplies."""
        return max(1, self.BLOCK_M // TILE // max(1, self.waves_m))

    @property
    def buffers(self) -> int:
        """Steps that LDS holds."""
        return 2 if self.DoubleBuffer else 1

    @property
    def whole_steps(self) -> bool:
        """Whether K, which is whole groups, is always whole steps."""
        return self.ScaleBlockK % self.BLOCK_K == 0

    @property
    def step(self) -> int:
        """K elements of one trip of the main loop."""
        return self.BLOCK_K

    @property
    def pieces(self) -> int:
        """Pieces of 8 elements of a row in a step."""
        return self.BLOCK_K // PIECE

    @property
    def act_fetches(self) -> int:
        """Pieces of activations that a lane stages in a step; some lanes none, where the step has fewer."""
        return ceil_div(self.BLOCK_N * self.pieces, self.threads)

    # ---- how codes reach lanes

    @property
    def fragment_registers(self) -> int:
        """Registers of a lane's share of 16 rows by 32 elements."""
        return _FRAGMENT[self.facts.matrix][0]

    @property
    def fragment_rows(self) -> int:
        """Rows of a fragment that a lane holds."""
        return _FRAGMENT[self.facts.matrix][1]

    @property
    def fragment_pieces(self) -> int:
        """Pieces of each of those rows."""
        return _FRAGMENT[self.facts.matrix][2]

    @property
    def k_parts(self) -> int:
        """Parts of a row's step, each with lanes of its own, where codes go straight to fragments."""
        return 4 // self.fragment_pieces

    @property
    def row_words(self) -> int:
        """Words of codes that a lane needs of each row of a step: all of it where it dequantises for LDS, else its part."""
        return self.pieces if self.PreDequantToLDS else self.pieces // self.k_parts

    @property
    def chunk_words(self) -> int:
        """Words that a lane loads at once: neighbours, of one group."""
        if not self.PreDequantToLDS:
            return min(CHUNK, self.row_words)
        return max(1, min(CHUNK, self.pieces, self.BLOCK_M * self.pieces // self.threads))

    @property
    def chunks(self) -> int:
        """Such loads of a lane in a step: for LDS over all its rows, else of one row."""
        if self.PreDequantToLDS:
            return ceil_div(self.BLOCK_M * self.pieces, self.chunk_words * self.threads)
        return self.row_words // self.chunk_words

    @property
    def zero_bias(self) -> int:
        """What SUBTRACT integer adds to q - z so that it is never negative."""
        return 16

    @property
    def packed(self) -> bool:
        """Whether weights are scaled two at a time in the element type: where it has packed arithmetic, which rounds to nearest."""
        return self.dtype == "fp16" or (self.facts.vendor == "nvidia" and not self.TruncateBf16Round)

    @property
    def past_registers(self) -> bool:
        """Whether activations reach LDS without passing registers: by DMA, or NVIDIA's asynchronous copies."""
        return self.facts.lds_dma16 or self.facts.vendor == "nvidia"

    @property
    def gathered(self) -> bool:
        """Whether the rows of a block come from anywhere, and some not at all."""
        return False

    # ---- LDS and registers

    @property
    def act_pieces(self) -> int:
        """16-byte pieces of a step's activations in LDS."""
        return self.BLOCK_N * self.pieces

    @property
    def weight_pieces(self) -> int:
        """16-byte pieces of a step's weights in LDS."""
        return self.BLOCK_M * self.pieces if self.PreDequantToLDS else 0

    @property
    def tile_lds(self) -> int:
        """LDS bytes of what is staged."""
        return 16 * (self.act_pieces + self.weight_pieces) * self.buffers

    @property
    def count_lds(self) -> int:
        """LDS bytes in which a shard's arrival is told."""
        return COUNT if self.K_SPLIT > 1 else 0

    @property
    def lds_at_launch(self) -> bool:
        """Whether the launch asks for the LDS: where it is more than a kernel may declare."""
        return self.tile_lds + self.count_lds > self.facts.static_lds

    @property
    def static_lds(self) -> int:
        """LDS bytes that the kernel declares."""
        return self.count_lds + (0 if self.lds_at_launch else self.tile_lds)

    @property
    def lds_expr(self) -> str:
        """Bytes of dynamic LDS: all that is staged, where it is more than a kernel may declare."""
        return str(self.tile_lds) if self.lds_at_launch else "0"

    def dynamic_lds(self, shape: Any) -> int:
        """Bytes of LDS that a launch asks for on top of what the code object reserves; equals `lds_expr`."""
        return self.tile_lds if self.lds_at_launch else 0

    @property
    def sum_registers(self) -> int:
        """Registers of a lane for sums."""
        return self.n_tiles * self.m_tiles * TILE * TILE // self.THRDS

    @property
    def working_registers(self) -> int:
        """Registers of a lane for fragments at hand, for what is in flight, and for dequantising: an estimate on the large side."""
        fragments = (self.m_tiles + 2) * self.fragment_registers
        staged = 0 if self.past_registers else 4 * self.act_fetches
        rows = 1 if self.PreDequantToLDS else self.m_tiles * self.fragment_rows
        codes = rows * self.chunks * (self.chunk_words + 2) * (1 if self.PreDequantToLDS else 2)
        return fragments + staged + codes + self.act_fetches + 16

    # ---- rules

    @rule
    def waves_share_the_block(self, arch: ArchFacts) -> Problem | None:
        along = self.WvPrGrp // self.WAVES_N if self.WvPrGrp % self.WAVES_N == 0 else 0
        if along and self.BLOCK_N % (TILE * self.WAVES_N) == 0 and self.BLOCK_M % (TILE * along) == 0:
            return None
        found = f"{self.WAVES_N} of {self.WvPrGrp} waves along {self.BLOCK_N} rows, the others along {self.BLOCK_M} features"
        return Problem(
            ("WAVES_N", "WvPrGrp", "BLOCK_N", "BLOCK_M"), found, f"whole tiles of {TILE} for each wave", "WAVES_N = 1"
        )

    @rule
    def lanes_stage_whole_rows(self, arch: ArchFacts) -> Problem | None:
        """Eight lanes bring one piece of eight rows; the group's lanes cover the pieces of a row a whole number of times."""
        if self.threads % (8 * self.pieces) == 0:
            return None
        found = f"{self.threads} work-items for {self.pieces} pieces of 8 rows"
        return Problem(("WvPrGrp", "BLOCK_K"), found, f"a multiple of {8 * self.pieces} work-items", "lower BLOCK_K")

    @rule
    def lanes_have_codes(self, arch: ArchFacts) -> Problem | None:
        """Every lane has the same number of chunks of codes."""
        if not self.PreDequantToLDS:
            return None
        per_step = self.BLOCK_M * self.pieces
        if per_step % (self.chunk_words * self.threads) == 0:
            return None
        found = f"{per_step} words of codes for {self.threads} work-items"
        return Problem(("BLOCK_M", "BLOCK_K", "WvPrGrp"), found, "at least one each", "raise BLOCK_M or BLOCK_K")

    @rule
    def truncation_is_of_bf16(self, arch: ArchFacts) -> Problem | None:
        if self.dtype == "bf16" or not self.TruncateBf16Round:
            return None
        return Problem(("TruncateBf16Round",), f"true with {self.dtype}", "bf16 alone", "TruncateBf16Round = false")

    @rule
    def block_fits_lds(self, arch: ArchFacts) -> Problem | None:
        used = self.tile_lds + self.count_lds
        if used <= arch.lds_per_group:
            return None
        found = f"{used} bytes of LDS for {self.buffers} steps of {self.BLOCK_K}"
        return Problem(
            ("BLOCK_N", "BLOCK_M", "BLOCK_K"), found, f"at most {arch.lds_per_group} on {arch.name}", "lower BLOCK_K"
        )

    @rule
    def block_fits_registers(self, arch: ArchFacts) -> Problem | None:
        """An estimate that errs on the large side; machine code is checked for spills in the tests."""
        limit = min(arch.max_vgprs, arch.vgpr_file // ceil_div(self.WvPrGrp, arch.simds_per_cu))
        used = self.sum_registers + self.working_registers
        if used <= limit:
            return None
        found = f"{self.sum_registers} registers per lane for sums and {self.working_registers} beside"
        allowed = f"at most {limit} on {arch.name} with {self.threads} work-items"
        return Problem(("BLOCK_N", "BLOCK_M", "WvPrGrp"), found, allowed, "lower BLOCK_N or BLOCK_M, or raise WvPrGrp")

    @rule
    def sums_meet_in_registers(self, arch: ArchFacts) -> Problem | None:
        """The last shard holds its sums twice: those of all shards so far, and one shard's on its way."""
        if self.K_SPLIT == 1 or self.sum_registers <= _MEETING:
            return None
        found = f"{self.sum_registers} registers per lane for sums of {self.K_SPLIT} shards"
        return Problem(("K_SPLIT", "BLOCK_N", "BLOCK_M"), found, f"at most {_MEETING}", "K_SPLIT = 1, or lower BLOCK_M")

    # ---- what the machine code should show

    @property
    def multiply_pattern(self) -> str:
        """Mnemonics (regular expression) that multiply weights with activations."""
        return multiply_pattern(self.facts)

    @property
    def macs_per_step(self) -> int:
        """Multiply-adds of one lane in one step: the wave's, spread over its lanes."""
        return self.BLOCK_K * self.n_tiles * self.m_tiles * TILE * TILE // self.THRDS

    @property
    def multiplies_per_step(self) -> int:
        """How many multiplying instructions one step holds."""
        return self.BLOCK_K // BLOCK_K * self.n_tiles * self.m_tiles * multiplies_of_block(self.facts)
