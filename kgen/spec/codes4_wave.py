"""How gemm_4bit lays a wave over rows and K, and what that takes: LDS of tables and activations, registers, additions.

On RDNA, and for fp32 without TERMS everywhere, all lanes of a wave work on one weight row and split K. With matrix instructions 16 rows lie side
by side, and the columns that activation rows do not need keep the groups of a slab apart (kgen.spec.w4), or bring other words of the same row
(STAGING columns). With K_PARTS a row's K lies over the whole wave again: eight parts of it are rows of the matrix instruction, each with its
activations in a column of its own, and two weight rows go through it at once. With TERMS an fp32 number is the sum of two in fp16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kgen.spec.codes4 import SCALES, TERMS_SCALE_LOG2, Code, fp32_bits, plain_planes, table_bits, terms_bits, xor_planes
from kgen.spec.problem import ceil_div
from kgen.spec.w4 import W4Spec

Table = Literal["perm", "lds", "pages"]

TERMS = 2  # fp16 numbers whose sum stands for an fp32 number: what the first one rounds off, the second one has
PART_LANES = 4  # lanes of the matrix instruction that have a part of a row's K
# LDS of a window for up to 8 rows of 16 bits: small enough that four groups share a CU's 64 KiB.
_WINDOW_BYTES = 16 * 1024
_ABSMAX_CODES = 256  # numbers that nested absmax is made of
_PAGE = 256  # bytes from one entry of a paged table to the next: the entry's number is a byte of its address


class Codes4Spec(W4Spec):
    """What gemm_4bit derives from its parameters, which it declares itself."""

    if TYPE_CHECKING:
        FP4: bool
        NESTED: bool
        TABLE: Table
        COPIES: int | None
        ABSMAX: int | None
        K_PARTS: int | None
        AHEAD: bool
        TERMS: int | None

    # ---- how a wave is laid over rows and K

    @property
    def matrix(self) -> bool:
        """Whether the matrix instruction's rows are weight rows: on 16-bit elements, where its tile takes more columns than 8."""
        of_16_bits = self.dtype != "fp32" or self.TERMS is not None
        return of_16_bits and not self.facts.matrix.startswith("wmma") and self.K_PARTS is None

    @property
    def k_unit(self) -> int:
        """K comes in whole ones of so many elements: groups, with K_PARTS slabs, which hold all parts."""
        return self.slab if self.K_PARTS else super().k_unit

    @property
    def act_bytes(self) -> int:
        """Bytes of an activation."""
        return 4 if self.dtype == "fp32" else 2

    @property
    def products_of_terms(self) -> int:
        """Products that are made for one of fp32 numbers: of their terms all but that of the two second ones."""
        return TERMS * TERMS - 1 if self.TERMS else 1

    @property
    def slab_bytes(self) -> int:
        """LDS bytes of a staged slab."""
        return self.N * self.act_bytes * self.slab

    @property
    def window(self) -> int | None:
        """K elements of a window: whole trips of all waves that share K, two at least where half of LDS holds them, else one."""
        if self.STAGING != "window":
            return None
        trip = self.UNRL * self.K_WAVES
        wanted = max(_WINDOW_BYTES * ceil_div(self.N * self.act_bytes, 16), 2 * trip * self.slab_bytes)
        wanted = min(wanted, self.facts.lds_per_group // 2)
        return max(1, wanted // (self.slab_bytes * trip)) * trip * self.slab

    @property
    def paged_bytes(self) -> int:
        """LDS of a paged table: more than a kernel may declare on NVIDIA, so the launch gives it."""
        return 256 * _PAGE if self.TABLE == "pages" else 0

    @property
    def entry_bytes(self) -> int:
        """LDS from one entry of the table of pairs to the next; the copies of an entry lie side by side at its beginning."""
        return _PAGE if self.TABLE == "pages" else 2 * self.act_bytes * (self.COPIES or 0)

    @property
    def table_bytes(self) -> int:
        """LDS of the table of pairs and of the table of nested absmax."""
        pairs = 256 * self.entry_bytes
        pairs += 0 if self.COPIES is None or self.fills_by_permute else 4 * 16  # and the 16 numbers
        return pairs + (4 * _ABSMAX_CODES if self.NESTED else 0)

    @property
    def fills_by_permute(self) -> bool:
        """Whether permutes make the table of pairs in LDS: where they give elements in order, and an entry's copies are whole vectors."""
        return self.COPIES is not None and self.COPIES >= 4 and self.dtype != "fp32" and self.facts.vendor == "nvidia"

    @property
    def words_side_by_side(self) -> int:
        """Words of activations that one load of a wave brings for each row: with STAGING columns as many as its groups have columns for."""
        return max(1, self.columns // (self.N * self.groups_of_slab)) if self.STAGING == "columns" else 1

    @property
    def late_tables(self) -> bool:
        """Whether tables in LDS are filled while the first weights are on their way: where nothing else is staged before them."""
        return self.table_bytes > 0 and self.STAGING in ("global", "wave", "columns")

    @property
    def static_lds(self) -> int:
        """LDS bytes known at compile time."""
        return self.exchange_bytes + self.table_bytes - self.paged_bytes

    # ---- registers of a lane: estimates on the large side

    @property
    def from_memory(self) -> bool:
        """Whether a lane loads activations from memory beside the weights."""
        return self.STAGING in ("global", "columns")

    @property
    def act_vgprs(self) -> int:
        """Registers for activations: of a trip where they come from memory, else of a word and the next one, and a lane's share of a wave's own."""
        word = 2 * self.act_bytes * self.column_tiles
        split = 4 * TERMS if self.TERMS else 0  # of the word at hand
        fetched = self.UNRL * self.words * self.N * self.k_lanes if self.STAGING == "wave" else 0
        if self.from_memory:
            return word * ceil_div(self.words * self.UNRL, self.words_side_by_side) * self.trips_at_once + split
        return word * 2 + 4 * ceil_div(fetched, self.facts.wave)

    @property
    def scale_vgprs(self) -> int:
        """Registers for absmax of a trip, and for finding it."""
        numbers = 2 if self.NESTED else 1
        if self.K_PARTS:  # that of the row whose sum a lane has, of two
            return self.YTILE // 2 * self.UNRL * self.trips_at_once * numbers
        kept = self.UNRL * (min(4, self.rows_of_lane * self.groups_of_slab) if self.matrix else 2)
        if self.ABSMAX in (None, 1) and self.STAGING == "columns":  # one of each row for a load of activations
            kept = ceil_div(self.words * self.UNRL, self.words_side_by_side) * self.rows_of_lane
        if self.AHEAD:
            kept = self.UNRL * self.trips_at_once
        return self.row_tiles * kept * numbers

    @property
    def trips_at_once(self) -> int:
        """Trips whose operands a lane has: the one that is multiplied, and with AHEAD the next."""
        return 2 if self.AHEAD else 1

    @property
    def weight_vgprs(self) -> int:
        """Registers for the codes of one trip, or of two."""
        if self.K_PARTS or self.AHEAD:
            return self.row_tiles * self.UNRL * self.words * self.trips_at_once
        return super().weight_vgprs

    @property
    def sum_vgprs(self) -> int:
        """Registers for sums: of the row, and of the group at hand; of each word that came beside the first the two that may be looked at."""
        if self.K_PARTS:
            return self.YTILE // 2 + 4  # of a row of two; a tile of the matrix instruction
        if self.TERMS:  # of the products of larger terms, of the others, and of the row; what a column's are worth
            return super().sum_vgprs * 3 // 2 + 2 * self.column_tiles
        beside = min(self.words_side_by_side, self.words * self.UNRL) - 1
        return super().sum_vgprs + (2 * self.row_tiles * beside if self.STAGING == "columns" else 0)

    @property
    def lane_additions(self) -> int:
        """Additions over the lanes of a row, and over the columns that words lie side by side in."""
        return super().lane_additions + self.words_side_by_side.bit_length() - 1

    @property
    def decode_vgprs(self) -> int:
        """Registers for decoded pairs and what making them takes."""
        rows = 2 if self.K_PARTS else self.rows_of_lane * self.row_tiles
        return (4 * TERMS if self.TERMS else 4 * self.act_bytes + 4) * rows

    @property
    def group_additions(self) -> int:
        """Additions that a product passes through before its sum meets absmax: with K_PARTS those of a part.

        With TERMS, in units of 2^-23 of the products' magnitudes. Two terms of eleven bits are off by one unit of a number at most, or by 2^-39 of
        the largest of its slab (kgen.verify.codes4 allows for that), and the product of two second terms, which is left out, is below two: four
        with both numbers'. The products of a first and a second term, below 2^-10 together, have a sum of their own with two additions for each
        of at most 128: a fourth. That sum is added once.
        """
        if self.K_PARTS:
            return self.A_CHUNK * PART_LANES
        return super().group_additions + (6 if self.TERMS else 0)

    @property
    def addresses_of_row(self) -> int:
        """Scalar registers for a row's addresses, where lanes work on one row."""
        return 3

    # ---- the table, for the template

    @property
    def code(self) -> Code:
        """What the codes stand for."""
        return "fp4" if self.FP4 else "nf4"

    @property
    def table(self) -> tuple[int, ...]:
        """What the 16 codes stand for, as patterns of dtype."""
        return terms_bits(self.code) if self.TERMS else table_bits(self.code, self.dtype)

    @property
    def planes(self) -> tuple[tuple[int, int, int, int], ...]:
        """The same as tables of the low and the high byte for the target's byte permute, four words each."""
        planes = (
            plain_planes if self.facts.vendor == "nvidia" or self.code == "fp4" else xor_planes
        )  # fp4: bit 3 is the sign
        return planes(self.code, self.dtype)

    @property
    def terms_scale_log2(self) -> int:
        """log2 of what the numbers are multiplied by where terms in fp16 stand for them."""
        return TERMS_SCALE_LOG2

    @property
    def descale(self) -> int:
        """1 / SCALE as a pattern of fp32."""
        return fp32_bits(1 / SCALES[self.code, self.dtype])
