"""gemm_4bit: a GEMM of a few activation rows with weights in bitsandbytes' 4-bit formats, NF4 and FP4.

    out[N, M] = act[N, K] @ (number[q[M, K]] * absmax[block]).T + bias

M counts output features (weight rows), N activation rows, K the reduction; bitsandbytes swaps M and N. Weights lie as bitsandbytes packs them:
rows of K / 2 bytes without padding, the even k of a byte in its high bits. absmax serves `blocksize` consecutive elements of the flattened
weight, plain (fp32) or nested (8-bit codes of a 256-entry table, times an absmax per 256 blocks, plus an offset).

What is computed: table[q] is the code's number times SCALE, rounded to dtype (kgen.spec.codes4). A lane sums table[q] * act over at most
GROUP_SIZE elements in fp32, multiplies that sum by the block's absmax in fp32, adds groups, lanes and waves in fp32, divides by SCALE, adds the
bias, and rounds once to dtype. The order of additions depends on the spec and the row alone. Against the fp64 result on the dequantised weights
the table adds at most table_error * sum |act * w|. With TERMS fp32 numbers are sums of two in fp16, three of whose four products are made: what
that loses is among the additions (kgen.spec.codes4_wave.Codes4Spec.group_additions), and infinite activations make NaN of their row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal, get_args

from kgen.errors import Problem
from kgen.spec.arch import ArchFacts
from kgen.spec.base import Arg, Dtype, Launch, Param, layout_args, rule
from kgen.spec.codes4_wave import PART_LANES, TERMS, Codes4Spec, Table
from kgen.spec.linear import LinearSpec
from kgen.spec.problem import Code4Shape, GemmShape, ceil_div
from kgen.spec.w4 import GROUP_SIZES

Staging = Literal["lds", "window", "global", "wave", "columns"]

BLOCKSIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)  # what bitsandbytes quantises in
NESTED_BLOCK = 256  # blocks that share a second absmax
ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 24, 32, 48, 64)
_SIMT_ROWS = 8  # most rows whose sums a lane keeps where it makes all of them
_ARGS = layout_args(
    ("const u32*", "codes"),
    ("const f32*", "absmax"),
    ("const u8*", "absmax_codes"),
    ("const f32*", "absmax_table"),
    ("const f32*", "absmax_offset"),
    ("u32", "block_shift"),
    ("const T*", "act"),
    ("const T*", "bias"),
    ("T*", "out"),
    ("u32", "M"),
    ("u32", "K"),
    ("u32", "rows"),
    ("u32", "act_stride"),
    ("u32", "bias_stride"),
    ("u32", "groups"),
)


class Gemm4BitSpec(Codes4Spec, LinearSpec):
    """Parameters of one gemm_4bit kernel; see the module's docstring for the mathematics and docs/gemm_4bit.md for layouts."""

    family: ClassVar[str] = "gemm_4bit"
    template: ClassVar[str] = "gemm_4bit.hip.jinja"
    shape: ClassVar[type[GemmShape]] = Code4Shape
    traits: ClassVar[Mapping[str, tuple[int | bool, ...]]] = {
        "GROUP_SIZE": GROUP_SIZES,
        "FP4": (False, True),
        "NESTED": (False, True),
    }

    dtype: Dtype = Param(doc="element type of activations, bias and output", among=get_args(Dtype))
    N: int = Param(
        1, among=ROWS, doc="activation rows of one pass; a launch may bring fewer, or more for several passes"
    )
    THRDS: int = Param(32, among=(32, 64), doc="lanes of a wave, which split K between them")
    YTILE: int = Param(2, among=(1, 2, 3, 4, 6, 8, 16, 32), doc="weight rows one wave works on at once")
    WvPrGrp: int = Param(16, ge=1, le=32, doc="waves per work-group; they share the staged activations and the table")
    K_WAVES: int = Param(1, among=(1, 2, 4, 8, 16, 32), doc="waves of a group that share the K of their rows")
    A_CHUNK: int = Param(32, among=(8, 16, 32), doc="consecutive K elements one lane loads of a row, half a byte each")
    UNRL: int = Param(2, among=(1, 2, 4, 8), doc="chunks in flight per weight row and lane")
    GrpsPerCU: int = Param(
        1,
        among=(1, 2, 3, 4, 6, 8),
        doc="work-groups that a CU is to hold at once; bounds the registers, and sizes a persistent launch",
    )
    GROUP_SIZE: int = Param(
        64, among=GROUP_SIZES, doc="most K elements that are summed before absmax multiplies; divides the blocksize"
    )
    FP4: bool = Param(False, doc="codes are FP4; else NF4")
    NESTED: bool = Param(False, doc="absmax is itself quantised to 8 bits")
    TABLE: Table = Param(
        "perm",
        among=get_args(Table),
        doc="codes become elements by byte permutes of registers, or byte by byte from a table of pairs in LDS; "
        "pages: each entry at a multiple of 256 bytes, so that one permute makes its address",
    )
    COPIES: int | None = Param(
        None,
        among=(None, 1, 2, 4, 8, 16, 32),
        doc="copies of the table in LDS, each for its own lanes: fewer bank conflicts",
    )
    ABSMAX: int | None = Param(
        None,
        among=(None, 1, 2, 4),
        doc="absmax of a row that are loaded at once, where GROUP_SIZE is the blocksize and K holds a multiple; "
        "none: one by one, of blocks of any length",
    )
    STAGING: Staging = Param(
        "lds",
        among=get_args(Staging),
        doc="activations: whole in LDS, a window of K, from memory, or from LDS of each wave's own; columns: from memory, "
        "several words by one load, side by side in the columns of the matrix instruction that rows do not need",
    )
    SKEW: int | None = Param(
        None,
        ge=1,
        le=64,
        doc="trips by which each tile begins its walk over K later than the tile before it, against camping on memory channels",
    )
    K_PARTS: int | None = Param(
        None,
        among=(None, 8),
        doc="parts of a weight row's K that lie side by side in the rows of the matrix instruction, each with its activations in a column "
        "of its own, so that a load of a wave is one piece of memory; none: those rows are weight rows",
    )
    AHEAD: bool = Param(False, doc="a trip's loads are on their way while the one before is multiplied")
    TERMS: int | None = Param(
        None,
        among=(None, TERMS),
        doc="fp16 numbers whose sum stands for an fp32 number, which the matrix instruction multiplies: three products of the four; activations of "
        "a slab share an exponent; none: multiply-adds in fp32",
    )

    # ---- derived

    @classmethod
    def row_counts(cls) -> range:
        """1 to 64, in passes of N."""
        return range(1, ROWS[-1] + 1)

    @property
    def some_rows(self) -> bool:
        """Whether a pass may have fewer rows than N."""
        return True

    @property
    def piece(self) -> int:
        """K comes in whole groups, as many as have their absmax loaded at once."""
        return self.k_unit * (self.ABSMAX or 1)

    @property
    def piece_reason(self) -> str:
        return "parts of a row are whole slabs together" if self.K_PARTS else super().piece_reason

    @property
    def rows_tried(self) -> tuple[int, ...]:
        """A whole pass, less than one, one row, and three passes."""
        counts = (self.N, max(1, self.N - 1), 1, 2 * self.N + 1)
        return tuple(dict.fromkeys(count for count in counts if count in self.row_counts()))

    # ---- rules

    @rule
    def lanes_keep_few_rows(self, arch: ArchFacts) -> Problem | None:
        if self.matrix or self.N <= _SIMT_ROWS:
            return None
        found = f"{self.N} rows of {self.dtype} on {arch.name}, where each lane keeps the sums of all"
        return Problem(("N",), found, f"at most {_SIMT_ROWS}", f"N = {_SIMT_ROWS}, in passes")

    @rule
    def table_is_placed(self, arch: ArchFacts) -> Problem | None:
        if self.TABLE == "pages" and arch.vendor != "nvidia":
            return Problem(("TABLE",), f"pages on {arch.name}", "lds: 64 KiB leave no LDS for others", "TABLE = lds")
        if self.TABLE == "pages":
            allowed = None if self.COPIES in (16, 32) else "16 or 32 copies: a page of 256 bytes is there for them"
        elif self.TABLE == "lds":
            allowed = "a number of copies" if self.COPIES is None else None
        elif self.dtype == "fp32":
            return Problem(("TABLE",), "perm with fp32", "lds: permutes would take four planes of bytes", "TABLE = lds")
        else:
            allowed = None if self.COPIES is None else "none: registers hold the table"
        if allowed is None:
            return None
        found = f"{self.COPIES} with TABLE {self.TABLE}"
        return Problem(("COPIES", "TABLE"), found, allowed, "COPIES = 1 with TABLE lds, 32 with pages")

    @rule
    def pages_fit_as_often_as_asked(self, arch: ArchFacts) -> Problem | None:
        if self.TABLE != "pages" or self.GrpsPerCU <= self._groups_that_fit:
            return None
        allowed = f"at most {self._groups_that_fit} with {self.paged_bytes} bytes each on {arch.name}"
        return Problem(("GrpsPerCU", "TABLE"), f"{self.GrpsPerCU} groups with pages", allowed, "TABLE = lds")

    @rule
    def absmax_lie_side_by_side(self, arch: ArchFacts) -> Problem | None:
        """What a lane needs of a row in a trip is whole vectors; codes of nested absmax come as words."""
        if self.ABSMAX is None:
            return None
        if not self.matrix:
            found = f"{self.ABSMAX}, where every lane multiplies a group of its own in {self.dtype} on {arch.name}"
            return Problem(("ABSMAX",), found, "none", "ABSMAX = none")
        if self.GROUP_SIZE == GROUP_SIZES[-1]:
            found = f"{self.ABSMAX} with GROUP_SIZE {self.GROUP_SIZE}, which longer blocks have too"
            return Problem(("ABSMAX", "GROUP_SIZE"), found, "GROUP_SIZE 32 or 64", "ABSMAX = none")
        if self.slab % self.GROUP_SIZE:
            found = f"{self.ABSMAX}, where a slab of {self.slab} is a part of a group of {self.GROUP_SIZE}"
            return Problem(("ABSMAX", "A_CHUNK", "GROUP_SIZE"), found, "whole groups to a slab", "ABSMAX = none")
        if self.ABSMAX == 1:
            if self.STAGING == "columns" and self.words * self.UNRL >= self.words_side_by_side and not self.NESTED:
                return None
            found = f"1 with STAGING {self.STAGING}, {self.words * self.UNRL} words to a trip{', nested' if self.NESTED else ''}"
            allowed = "1 with STAGING columns, a word to every column, not nested"
            return Problem(("ABSMAX", "STAGING", "UNRL", "NESTED"), found, allowed, "ABSMAX = none")
        if self.words_side_by_side > self.words:
            found = f"{self.ABSMAX} with {self.words_side_by_side} words of {self.words} to a chunk side by side"
            return Problem(("ABSMAX", "STAGING", "N"), found, "1: the slabs of a lane's sums are apart", "ABSMAX = 1")
        of_row = 1 if self.groups_of_slab == 1 else min(self.groups_of_slab, 4 // self.rows_of_lane)
        together = self.UNRL * of_row if self.groups_of_slab == of_row else of_row
        if self.STAGING == "columns":
            together = self.UNRL * self.groups_of_slab
        if together % self.ABSMAX == 0 and not (self.NESTED and self.ABSMAX != 4):
            return None
        found = f"{self.ABSMAX} of {together} in a row{', whose codes are bytes' if self.NESTED else ''}"
        allowed = "4" if self.NESTED else "a divisor of what a lane needs of a row in a trip"
        return Problem(("ABSMAX", "UNRL", "A_CHUNK", "NESTED"), found, allowed, "ABSMAX = none, or a larger UNRL")

    @rule
    def walk_is_whole(self, arch: ArchFacts) -> Problem | None:
        if self.SKEW is None or self.STAGING != "window":
            return None
        return Problem(
            ("SKEW", "STAGING"), f"SKEW {self.SKEW} with a window", "a walk over all of K at once", "STAGING = lds"
        )

    @rule
    def lanes_share_activations(self, arch: ArchFacts) -> Problem | None:
        if self.STAGING != "wave" or self.matrix:
            return None
        found = f"wave, where every lane multiplies a part of K of its own in {self.dtype} on {arch.name}"
        return Problem(("STAGING",), found, "lds, window or global", "STAGING = global")

    @rule
    def words_fill_the_columns(self, arch: ArchFacts) -> Problem | None:
        """Columns divide over rows, groups and words; the two words of a lane's columns are of one group, whose absmax it takes."""
        if self.STAGING != "columns":
            return None
        if not self.matrix or arch.vendor != "nvidia":
            found = f"columns in {self.dtype} on {arch.name}"
            return Problem(("STAGING",), found, "columns in 16-bit types on sm_90", "STAGING = global")
        if self.N in (1, 2, 4) and self.words_side_by_side >= 2 and self.words >= 2:
            return None
        found = f"{self.N} rows of {self.groups_of_slab} groups, {self.words} words to a chunk"
        allowed = f"1, 2 or 4 rows, with two words or more for each group in {self.columns} columns and in a chunk"
        return Problem(("STAGING", "N", "A_CHUNK", "GROUP_SIZE"), found, allowed, "STAGING = global")

    @rule
    def parts_fill_the_matrix(self, arch: ArchFacts) -> Problem | None:
        """Eight parts of a row meet eight columns of the activations' row; a part has one absmax; rows come in pairs."""
        if self.K_PARTS is None:
            return None
        if self.dtype == "fp32" or arch.vendor != "nvidia":
            found = f"{self.K_PARTS} in {self.dtype} on {arch.name}"
            return Problem(("K_PARTS",), found, "16-bit types on sm_90", "K_PARTS = none")
        if self.N > 1:
            return Problem(("K_PARTS", "N"), f"{self.N} rows", "1: every column is for a part of it", "K_PARTS = none")
        if self.YTILE not in (2, 4, 8):
            return Problem(("K_PARTS", "YTILE"), f"YTILE {self.YTILE}", "2, 4 or 8 rows", "YTILE = 8")
        if self.STAGING != "global":
            found = f"STAGING {self.STAGING}, where each lane multiplies other activations"
            return Problem(("K_PARTS", "STAGING"), found, "global", "STAGING = global")
        if self.GROUP_SIZE % (part := PART_LANES * self.A_CHUNK):
            found = f"{self.GROUP_SIZE} with parts of {part} elements"
            allowed = f"a multiple of {part}: a part has one absmax"
            return Problem(
                ("GROUP_SIZE", "A_CHUNK", "K_PARTS"), found, allowed, f"A_CHUNK = {self.GROUP_SIZE // PART_LANES}"
            )
        return None

    @rule
    def terms_meet_in_the_matrix(self, arch: ArchFacts) -> Problem | None:
        """A lane splits the activations that it brings for its own columns, and no other lane of the wave brings them."""
        if self.TERMS is None:
            return None
        if self.dtype != "fp32":
            found = f"{self.TERMS} in {self.dtype}, which is one term"
            return Problem(("TERMS", "dtype"), found, "fp32", "TERMS = none")
        if not self.matrix:
            found = f"{self.TERMS} on {arch.name}, whose lanes work on one row at a time"
            return Problem(("TERMS",), found, "CDNA and sm_90", "TERMS = none")
        if self.STAGING != "global":
            found = f"{self.TERMS} with STAGING {self.STAGING}"
            return Problem(("TERMS", "STAGING"), found, "global: lanes split what they bring", "STAGING = global")
        return None

    @rule
    def next_trip_is_one_row_to_a_wave(self, arch: ArchFacts) -> Problem | None:
        """The loads that go out ahead are those of a row over the whole wave."""
        if not self.AHEAD:
            return None
        if arch.vendor != "nvidia":
            return Problem(("AHEAD",), f"AHEAD on {arch.name}", "sm_90", "AHEAD = false")
        if self.matrix:
            found = f"AHEAD in {self.dtype}, where a wave has {self.lane_rows} weight rows side by side"
            return Problem(("AHEAD", "K_PARTS"), found, "fp32, or K_PARTS", "K_PARTS = 8")
        if self.STAGING not in ("global", "lds"):
            return Problem(("AHEAD", "STAGING"), f"AHEAD with STAGING {self.STAGING}", "global or lds", "STAGING = lds")
        return None

    @rule
    def static_lds_fits(self, arch: ArchFacts) -> Problem | None:
        least = self.lds_bytes(GemmShape(1, self.N, self.GROUP_SIZE))
        if self.static_lds <= arch.static_lds and least <= arch.lds_per_group:
            return None
        what = f"{self.static_lds} bytes of LDS, {self.exchange_bytes} for sums; {self.table_bytes} for tables in all"
        return Problem(
            ("COPIES", "N", "WvPrGrp", "YTILE"),
            what,
            f"at most {arch.static_lds} on {arch.name}, {arch.lds_per_group} with activations",
            "lower COPIES or WvPrGrp",
        )

    # ---- launch

    @property
    def args(self) -> tuple[Arg, ...]:
        """Kernel arguments in launch order.

        absmax is that of the blocks, or with NESTED that of 256 blocks each; block_shift is log2(blocksize / GROUP_SIZE); act_stride and
        bias_stride in elements, bias_stride 0 for a bias of [M].
        """
        return _ARGS

    @property
    def persistent(self) -> bool:
        """Whether groups walk over several tiles: where they stage activations or fill a table first."""
        return self.STAGING == "lds" or self.TABLE != "perm"

    @property
    def _groups_that_fit(self) -> int:
        """Groups with a paged table that the LDS of a CU holds; activations of the least K."""
        least = self.lds_bytes(GemmShape(1, self.N, self.GROUP_SIZE))
        return max(1, self.facts.lds_per_cu // (least + self.facts.lds_reserved_per_group))

    @property
    def groups_per_cu(self) -> int:
        """As many as the registers and waves allow, with a paged table no more than LDS holds."""
        wanted = super().groups_per_cu
        return min(wanted, self._groups_that_fit) if self.TABLE == "pages" else wanted

    @property
    def grid_rule(self) -> str:
        return f"{super().grid_rule}; as often as {self.N} activation rows go into all, rounded up"

    @property
    def grid_expr(self) -> str:
        return f"{super().grid_expr} * ceil_div(N, {self.N})"

    def launch(self, shape: GemmShape, cu: int) -> Launch:
        one = super().launch(shape, cu)
        return replace(one, grid=(one.grid[0] * ceil_div(shape.N, self.N), 1, 1))

    @property
    def lds_expr(self) -> str:
        """Bytes of dynamic LDS as an expression of M, N and K."""
        if self.STAGING != "lds":
            return str(self.paged_bytes + self._staged_bytes)
        return (f"{self.paged_bytes} + " if self.paged_bytes else "") + f"ceil_div(K, {self.slab}) * {self.slab_bytes}"

    def dynamic_lds(self, shape: GemmShape) -> int:
        slabs = ceil_div(shape.K, self.slab)
        return self.paged_bytes + (slabs * self.slab_bytes if self.STAGING == "lds" else self._staged_bytes)

    @property
    def _staged_bytes(self) -> int:
        """Dynamic LDS that does not depend on K: a window, or a trip of each wave."""
        if self.window is not None:
            return self.window // self.slab * self.slab_bytes
        return self.WvPrGrp * self.UNRL * self.slab_bytes if self.STAGING == "wave" else 0

    def lds_bytes(self, shape: GemmShape) -> int:
        return self.static_lds + self.dynamic_lds(shape)

    def fits(self, shape: GemmShape) -> Problem | None:
        """Why this kernel cannot do this shape, or None."""
        if self.ABSMAX and isinstance(shape, Code4Shape) and shape.GROUP_SIZE != self.GROUP_SIZE:
            found = f"blocks of {shape.GROUP_SIZE}"
            return Problem(("GROUP_SIZE",), found, f"{self.GROUP_SIZE}, with ABSMAX", "a kernel without ABSMAX")
        if shape.M * shape.K // self.GROUP_SIZE >= 1 << 30:
            return Problem(("M", "K"), f"{shape.M} x {shape.K}", f"fewer than 2^30 groups of {self.GROUP_SIZE}")
        return super().fits(shape)

    def rows_problem(self, shape: GemmShape) -> Problem | None:
        """Any number in passes of N, up to the most."""
        return None if shape.N in self.row_counts() else Problem(("N",), str(shape.N), f"1 to {ROWS[-1]}")

    def trait_problem(self, shape: GemmShape) -> Problem | None:
        """Absmax is multiplied as often as GROUP_SIZE asks; longer blocks are several groups. A plain GemmShape has what the kernel is for."""
        if not isinstance(shape, Code4Shape):
            return None
        if shape.GROUP_SIZE % self.GROUP_SIZE:
            allowed = f"a multiple of {self.GROUP_SIZE}, fixed in {self.name}"
            return Problem(("GROUP_SIZE",), str(shape.GROUP_SIZE), allowed)
        return super().trait_problem(shape)

    def serves(self, trait: str, value: int | bool | None) -> bool:
        return trait == "GROUP_SIZE" or super().serves(trait, value)

    @property
    def k_sharers(self) -> int:
        return self.K_WAVES

    def additions(self, shape: GemmShape) -> int:
        slabs = ceil_div(ceil_div(shape.K, self.slab), self.K_WAVES)
        factors = 4  # absmax (nested: product and offset), its product with the sum, 1 / SCALE and the product with it
        chain = self.group_additions + factors + slabs + self.lane_additions
        return chain + self.K_WAVES * self.groups_of_slab + 1

    # ---- what the machine code should show

    @property
    def digits(self) -> bool:
        """False: activations stay floats."""
        return False

    @property
    def multiply_pattern(self) -> str:
        """Mnemonics (regular expression) that multiply weights with activations."""
        if self.dtype == "fp32" and not self.matrix:
            return r"FFMA" if self.facts.vendor == "nvidia" else r"v_(dual_|pk_)?(fma|fmac)_f32"
        if self.facts.vendor == "nvidia":
            return r"HMMA"
        return r"v_mfma_f32_16x16x(16|32)" if self.matrix else r"v_(dual_)?dot2(acc|c)?_f32_(f16|bf16)"

    @property
    def multiplies_per_step(self) -> int:
        """How many multiplying instructions one trip holds."""
        if self.K_PARTS:  # two for a word of two rows
            return self.words * self.UNRL * self.YTILE
        if self.matrix:  # words of a row tile: 16 elements of K per instruction over 4 lanes, 32 on gfx950
            per_word = 1 if self.facts.matrix == "mfma_16x16x32" else 2
            return self.words * self.UNRL * self.row_tiles * self.column_tiles * per_word * self.products_of_terms
        if self.dtype == "fp32":  # and the products with absmax, which are fp32 too
            return self.macs_per_step + self.UNRL * self.YTILE * self.N
        return self.macs_per_step // 2
