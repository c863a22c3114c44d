"""What the families share that multiply by 4-bit integer weights: groups, zero points, how codes become numbers, the layout of a lane's work.

weight value = (q - z) * scale, q in 0..15; a scale and a zero point serve GROUP_SIZE consecutive K of one row; without zero points z is 8. The
layout is in docs/wvsplitk_int4.md; kgen.ops.pack makes it from checkpoints.

On RDNA all lanes of a wave work on one row at a time and split K (`lane_rows` 1). Where the matrix instruction multiplies 16 weight rows at
once (CDNA, NVIDIA), 16 rows lie side by side in a wave, four lanes of each row split K, and the columns of the tile that activation rows do not
need serve to keep the groups of a slab apart: column n * GROUPS + g sums group g of activation row n. With DEQUANT digits they hold the bytes of
activations too: DIGIT_COLUMNS for each activation row and group, all in one tile or half of them in the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from kgen.errors import Problem
from kgen.spec.arch import ArchFacts
from kgen.spec.base import KernelSpec, rule
from kgen.spec.problem import GemmShape, W4Shape, ceil_div

Dequant = Literal["scalar", "magic", "finite", "truncate", "actsum", "digits"]
GROUP_SIZES = (32, 64, 128)
WORD = 8  # codes of one 32-bit word
_SGPRS = 31
_UNROLLED = 2048
MATRIX_ROWS = 16  # weight rows of one matrix instruction
# Added to a code by the exponent trick: the first number of the binade in which codes are neighbours.
OFFSET = {"bf16": 128, "fp16": 64}


class W4Spec(KernelSpec):
    """What int4 families derive from their parameters; each declares the fields named here in the place that they have in its names."""

    shape: ClassVar[type[GemmShape]] = W4Shape
    traits: ClassVar[Mapping[str, tuple[int | bool, ...]]] = {"GROUP_SIZE": GROUP_SIZES, "HAS_ZP": (False, True)}
    DIGITS: ClassVar[int] = 3  # bytes of an activation that DEQUANT digits multiplies as whole numbers
    DIGIT_COLUMNS: ClassVar[int] = 4  # columns of the matrix instruction that they take, in each group of a slab
    DIGIT_WORDS: ClassVar[int] = 4  # words of a chunk, as digits lie in LDS

    if TYPE_CHECKING:
        N: int
        THRDS: int
        YTILE: int
        WvPrGrp: int
        K_WAVES: int
        A_CHUNK: int
        UNRL: int
        GrpsPerCU: int
        GROUP_SIZE: int
        HAS_ZP: bool
        DEQUANT: str
        STAGING: str

    # ---- how a wave is laid over rows and K

    @property
    def matrix(self) -> bool:
        """Whether the matrix instruction multiplies."""
        return not self.facts.matrix.startswith("wmma")

    @property
    def digits(self) -> bool:
        """Whether activations are whole numbers in three bytes, in LDS, which the integer matrix instruction multiplies with the codes."""
        return self.DEQUANT == "digits"

    @property
    def lane_digits(self) -> bool:
        """Whether they are whole numbers in two bytes, which each lane makes for itself; of families that derive from kgen.spec.w4_lanes."""
        return False

    @property
    def whole_numbers(self) -> bool:
        """Whether activations are whole numbers of either kind."""
        return self.digits or self.lane_digits

    @property
    def rows_per_wave(self) -> int:
        """Output features that one wave works on."""
        return self.YTILE

    @property
    def rows_per_group(self) -> int:
        """Output features of one work-group's tile."""
        return self.WvPrGrp // self.K_WAVES * self.rows_per_wave

    @property
    def groups_per_cu(self) -> int:
        """Groups per CU of a launch whose groups walk over tiles: together at least 16 waves, four for each SIMD."""
        return max(self.GrpsPerCU, 16 // self.WvPrGrp)

    @property
    def exchanged(self) -> bool:
        """Whether sums meet in LDS: where waves share K, and where a lane's sums are not yet whole outputs."""
        return self.K_WAVES > 1 or self.matrix

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
    def part(self) -> int:
        """K elements that k_lanes lanes cover with one chunk each; of activations that are whole numbers, those that share an exponent."""
        return self.k_lanes * self.A_CHUNK

    @property
    def slab(self) -> int:
        """K elements that the lanes of a row cover with one chunk each."""
        return self.part

    @property
    def step(self) -> int:
        """K elements of one trip of the main loop, of one wave."""
        return self.slab * self.UNRL

    @property
    def k_unit(self) -> int:
        """K comes in whole ones of so many elements: groups."""
        return self.GROUP_SIZE

    @property
    def whole_slabs(self) -> bool:
        """Whether K is always whole slabs."""
        return self.k_unit % self.slab == 0

    @property
    def strided(self) -> bool:
        """Whether the slabs of a trip lie K_WAVES apart, so that waves which share K read it side by side; else they follow each other."""
        return False

    @property
    def counted(self) -> bool:
        """Whether a strided trip may have fewer slabs than UNRL."""
        whole = self.STAGING == "own" or (self.fixed_k is not None and self.fixed_k % (self.step * self.K_WAVES) == 0)
        return self.strided and self.UNRL > 1 and not whole

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
        if not self.matrix:
            return self.N
        return ceil_div(self.N * self.groups_of_slab * (self.DIGIT_COLUMNS if self.digits else 1), self.columns)

    @property
    def digit_tiles(self) -> int:
        """Accumulator tiles along N between which the digits of an activation row are divided: two where its groups take more than one."""
        return max(1, self.groups_of_slab * self.DIGIT_COLUMNS // self.columns) if self.digits else 1

    @property
    def addends(self) -> int:
        """Sums of an output that a wave brings to LDS: of each group of a slab; those of digits come together in the wave."""
        return 1 if self.whole_numbers else self.groups_of_slab

    @property
    def zeros_of_sums(self) -> bool:
        """Whether a lane has the zero points of the sums that it gets, else those of the codes that it loads; in one group they are the same."""
        return self.DEQUANT == "actsum" or (self.digits and self.groups_of_slab > 1)

    @property
    def words(self) -> int:
        """32-bit words of a chunk."""
        return self.A_CHUNK // WORD

    @property
    def some_rows(self) -> bool:
        """Whether a launch may bring fewer activation rows than N."""
        return False

    @property
    def offset(self) -> int:
        """What the exponent trick adds to a code."""
        return OFFSET[self.dtype]

    @property
    def slab_bytes(self) -> int:
        """LDS bytes of a staged slab: the activations, and the sum of each chunk or what a column of digits is worth where DEQUANT needs it."""
        if self.digits:
            return self.N * self.DIGITS * self.slab + 16 * ceil_div(self.N * self.DIGITS, 4)
        return self.N * (2 * self.slab + (4 * self.k_lanes if self.DEQUANT == "actsum" else 0))

    @property
    def exchange_bytes(self) -> int:
        """LDS in which the waves' sums meet, twice."""
        return 2 * 4 * self.WvPrGrp * self.YTILE * self.N * self.addends if self.exchanged else 0

    @property
    def fixed_k(self) -> int | None:
        """The K that a kernel is compiled for, None for any."""
        return None

    # ---- how deep sums are

    @property
    def group_additions(self) -> int:
        """Products that one sum takes before it meets its scale."""
        if self.digits:
            return self.DIGIT_COLUMNS  # whole numbers add without error; then a product's digits come together
        return self.A_CHUNK * (self.k_lanes // self.groups_of_slab if self.matrix else 1)

    @property
    def lane_additions(self) -> int:
        """Additions over the lanes of a row; the matrix instruction's are among the products."""
        return 0 if self.matrix else (self.THRDS - 1).bit_length()

    def additions_of_slabs(self, slabs: int) -> int:
        """The most fp32 additions that a product passes through in `slabs` slabs of one wave, and over its lanes."""
        correction = self.A_CHUNK * (self.k_lanes if self.matrix else 1) + 2 if self.DEQUANT == "actsum" else 0
        together = slabs + (self.groups_of_slab - 1 if self.digits else 0)
        return self.group_additions + correction + 1 + together + self.lane_additions

    # ---- registers of a lane

    @property
    def from_memory(self) -> bool:
        """Whether a lane loads activations from memory beside the weights."""
        return self.STAGING in ("global", "prefix")

    @property
    def addresses_of_row(self) -> int:
        """Scalar registers for a row's addresses, where lanes work on one row: two for codes, two for scales, three with zero points."""
        return 7 if self.HAS_ZP else 4

    @property
    def act_vgprs(self) -> int:
        """Registers for activations: of a trip where they come from memory, else of a word or two."""
        if self.digits:
            return 2 * self.words * self.column_tiles
        if self.from_memory:
            return 4 * self.words * self.column_tiles * self.UNRL
        return 8 * self.column_tiles if self.matrix else 4 * self.N

    @property
    def scale_vgprs(self) -> int:
        """Registers for scales and zero points of a trip."""
        kept = min(4, self.rows_of_lane * self.groups_of_slab) if self.matrix else 1
        return self.UNRL * self.row_tiles * kept * (2 if self.HAS_ZP else 1)

    @property
    def decode_vgprs(self) -> int:
        """Registers for decoded pairs and what making them takes; bf16 has no packed arithmetic on AMD."""
        if self.digits:
            return 2 * self.rows_of_lane
        ways = {"actsum": 4, "magic": 8, "truncate": 8, "finite": 8, "scalar": 8}
        emulated = self.facts.vendor == "amd" and self.dtype == "bf16" and self.DEQUANT in ("magic", "scalar")
        return ways[self.DEQUANT] * (2 if emulated else 1) * self.rows_of_lane * self.row_tiles

    @property
    def weight_vgprs(self) -> int:
        """Registers for the codes of one trip; on RDNA the next ones are already being fetched into others."""
        return self.row_tiles * self.rows_of_lane * self.UNRL * self.words * (1 if self.matrix else 2)

    @property
    def sum_vgprs(self) -> int:
        """Registers for sums: of the group at hand and of the row."""
        if self.digits:
            return (4 + self.rows_of_lane * self.row_tiles) * self.column_tiles
        per_tile = 4 if self.matrix else 1
        return 2 * per_tile * self.row_tiles * self.column_tiles

    # ---- rules

    @rule
    def waves_divide_evenly(self, arch: ArchFacts) -> Problem | None:
        if self.WvPrGrp % self.K_WAVES == 0:
            return None
        return Problem(
            ("K_WAVES", "WvPrGrp"), f"{self.K_WAVES} of {self.WvPrGrp} waves", "a divisor of WvPrGrp", "K_WAVES = 1"
        )

    @rule
    def rows_fill_the_matrix(self, arch: ArchFacts) -> Problem | None:
        if self.YTILE % self.lane_rows == 0:
            return None
        allowed = f"a multiple of {self.lane_rows} on {arch.name}: as many rows fill a wave's matrix instructions"
        return Problem(("YTILE",), str(self.YTILE), allowed, f"YTILE = {self.lane_rows}")

    @rule
    def digits_fit_the_matrix(self, arch: ArchFacts) -> Problem | None:
        """Whole groups to a slab of whole words, and an integer matrix instruction in the prelude."""
        if not self.whole_numbers:
            return None
        if not self.matrix:
            found = f"{self.DEQUANT} on {arch.name}, whose lanes work on one row at a time"
            return Problem(("DEQUANT",), found, "digits on CDNA and sm_90", "DEQUANT = actsum")
        if self.words != self.DIGIT_WORDS:
            found = f"{self.DEQUANT} with {self.A_CHUNK} codes to a lane"
            chunk = WORD * self.DIGIT_WORDS
            return Problem(("DEQUANT", "A_CHUNK"), found, str(chunk), f"A_CHUNK = {chunk}")
        if self.STAGING not in ("wave", "own"):
            found = f"{self.DEQUANT} with {self.STAGING}"
            who = "lanes keep them" if self.lane_digits else "each wave makes its own digits"
            return Problem(("DEQUANT", "STAGING"), found, f"wave or own: {who}", "STAGING = wave")
        return None

    @rule
    def trip_fits_registers(self, arch: ArchFacts) -> Problem | None:
        """An estimate that errs on the large side; machine code is checked for spills in the tests."""
        waves = ceil_div(self.WvPrGrp * self.GrpsPerCU, arch.simds_per_cu)  # of one SIMD
        limit = min(arch.max_vgprs, arch.vgpr_file // waves) - 24  # addresses and loop state
        used = self.weight_vgprs + self.scale_vgprs + self.act_vgprs + self.decode_vgprs + self.sum_vgprs
        if used <= limit:
            return None
        found = (
            f"{self.weight_vgprs} code + {self.scale_vgprs} scale + {self.act_vgprs} activation + {self.decode_vgprs} decoded + "
            f"{self.sum_vgprs} sum registers per lane = {used}"
        )
        allowed = f"at most {limit} on {arch.name} with {self.THRDS * self.WvPrGrp * self.GrpsPerCU} work-items on a CU"
        return Problem(
            ("YTILE", "UNRL", "A_CHUNK", "N"), found, allowed, "lower UNRL first; it costs the least bandwidth"
        )

    @rule
    def addresses_fit_scalars(self, arch: ArchFacts) -> Problem | None:
        """Where lanes work on one row, each row's addresses are scalar registers."""
        if self.matrix:
            return None
        used = self.YTILE * self.addresses_of_row + (2 * self.N if self.from_memory else 0)
        if used <= _SGPRS:
            return None
        found = f"{used} scalar registers for the addresses of {self.YTILE} rows"
        fields = tuple(name for name in ("YTILE", "HAS_ZP", "N") if name in type(self).model_fields)
        return Problem(fields, found, f"at most {_SGPRS} on {arch.name}", "lower YTILE")

    @rule
    def trip_is_unrolled(self, arch: ArchFacts) -> Problem | None:
        """Above this the compiler stops unrolling a trip, and its arrays move to memory."""
        macs = self.A_CHUNK * self.UNRL * self.YTILE // self.lane_rows * (self.column_tiles if self.matrix else self.N)
        if macs <= _UNROLLED:
            return None
        return Problem(
            ("A_CHUNK", "UNRL", "YTILE", "N"), f"{macs} multiply-adds in a trip", f"at most {_UNROLLED}", "lower UNRL"
        )

    @rule
    def fixed_k_is_whole_groups(self, arch: ArchFacts) -> Problem | None:
        if self.fixed_k is None or self.fixed_k % self.k_unit == 0:
            return None
        return Problem(
            ("K", "GROUP_SIZE"),
            str(self.fixed_k),
            f"a multiple of {self.k_unit}",
            f"K = {ceil_div(self.fixed_k, self.k_unit) * self.k_unit}",
        )

    # ---- what the machine code should show

    @property
    def multiply_pattern(self) -> str:
        """Mnemonics (regular expression) that multiply weights with activations."""
        if self.facts.vendor == "nvidia":
            return r"IMMA" if self.whole_numbers else r"HMMA"
        if self.matrix:
            return r"v_mfma_i32_16x16x32_i8" if self.digits else r"v_mfma_f32_16x16x(16|32)"
        if self.DEQUANT == "scalar":
            return r"v_(dual_)?(fma|fmac|fmaak|fmamk|fma_mix)_f32"
        return r"v_(dual_)?dot2(acc|c)?_f32_(f16|bf16)"

    @property
    def macs_per_step(self) -> int:
        """Useful multiply-adds of one lane in one trip of the main loop."""
        return self.A_CHUNK * self.UNRL * self.YTILE * self.N // self.lane_rows * self.rows_of_lane

    @property
    def multiplies_per_step(self) -> int:
        """How many multiplying instructions one trip holds."""
        if self.matrix:  # words of a row tile: 16 elements of K per instruction over 4 lanes, 32 on gfx950 and of bytes
            per_word = 1 if self.digits or self.facts.matrix == "mfma_16x16x32" else 2
            tiles = self.row_tiles + (1 if self.digits and self.HAS_ZP else 0)  # and the digits' own sums
            return self.words * self.UNRL * tiles * self.column_tiles * per_word
        if self.DEQUANT == "scalar":  # and one for each sum that meets its scale
            return self.macs_per_step + self.UNRL * self.YTILE * self.N
        return self.macs_per_step // 2
