"""moe_wvsplitk_int4: a skinny GEMM per expert on int4 weights; which expert, and for which rows, is read on the device.

    out[slot, M] = act[row of slot, K] @ weight[expert of block, M, K].T
    out[slot, M] = silu(act @ weight[expert, i].T) * (act @ weight[expert, M + i].T)    SILU: weight [E, 2 M, K], gates first

N slots of one expert are a block (vLLM's block_size_m). A slot is a token at one of its top_k experts; a row belongs to slot / top_k in
"scattered" mode, where sorted_token_ids lists the slots block by block, and to the slot itself in "contiguous" mode, where rows are permuted.
RANK needs no lists: every work-group ranks the router's logits itself, and the first one of a token writes its top-k for the next
kernel. See docs/moe.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

from kgen.errors import Problem
from kgen.spec.arch import ArchFacts
from kgen.spec.base import Arg, Param, layout_args, rule
from kgen.spec.moe import GROUPS_PER_CU, K_SHARERS, UNROLLS, YTILES, MoeSpec, Staging
from kgen.spec.problem import MoeShape, MoeUpShape, ceil_div
from kgen.spec.w4 import GROUP_SIZES, Dequant, W4Spec

Rows = Literal["scattered", "contiguous"]
Grid = Literal["blocks", "persistent"]
Ranking = Literal["group", "wave"]

MOST_EXPERTS = 256  # whose logits fit the LDS set aside for ranking
MOST_TOP_K = 32
_WEIGHTS = (("const u32*", "codes"), ("const T*", "scales"), ("const u32*", "zeros"), ("const T*", "act"))
_IDS = (("const i32*", "expert_ids"), ("const i32*", "sorted_ids"), ("const i32*", "padded_slots"))
_LOGITS = (("const T*", "logits"), ("i32*", "topk_ids"), ("f32*", "topk_weights"))
_SIZES = tuple(
    ("u32", name)
    for name in (
        *("M", "K", "code_stride", "scale_stride", "zero_stride", "act_stride"),
        *("code_expert", "scale_expert", "zero_expert", "slots", "top_k"),
    )
)
_ARGS = {
    False: layout_args(*_WEIGHTS, *_IDS, ("T*", "out"), *_SIZES, ("u32", "blocks"), ("u32", "groups")),
    True: layout_args(*_WEIGHTS, *_LOGITS, ("T*", "out"), *_SIZES, ("u32", "experts"), ("u32", "renormalize")),
}


class MoeWvSplitKInt4Spec(MoeSpec):
    """Parameters of one moe_wvsplitk_int4 kernel; see the module's docstring for the mathematics and docs/moe.md for layouts."""

    family: ClassVar[str] = "moe_wvsplitk_int4"
    template: ClassVar[str] = "moe_wvsplitk_int4.hip.jinja"
    shape: ClassVar[type[MoeShape]] = MoeUpShape
    traits: ClassVar[Mapping[str, tuple[int | bool, ...]]] = {
        **W4Spec.traits,
        "SILU": (False, True),
        "RANK": (False, True),
    }

    N: int = Param(1, among=(1, 2, 4), doc="slots of a block, all of one expert (block_size_m)")
    THRDS: int = Param(32, among=(32, 64), doc="lanes of a wave, which split K between them")
    YTILE: int = Param(4, among=YTILES, doc="weight rows one wave works on at once; with SILU half of them are gates")
    WvPrGrp: int = Param(4, ge=1, le=32, doc="waves per work-group; they share the staged activations")
    K_WAVES: int = Param(
        1, among=K_SHARERS, doc="waves of a group that share the K of their rows; the others have rows of their own"
    )
    A_CHUNK: int = Param(16, among=(8, 16, 32), doc="consecutive K elements one lane loads of a row, half a byte each")
    UNRL: int = Param(4, among=UNROLLS, doc="chunks in flight per weight row and lane")
    GrpsPerCU: int = Param(
        1,
        among=GROUPS_PER_CU,
        doc="work-groups that a CU is to hold at once; bounds the registers, and sizes a persistent launch",
    )
    GROUP_SIZE: int = Param(128, among=GROUP_SIZES, doc="consecutive K elements that share a scale and a zero point")
    HAS_ZP: bool = Param(False, doc="zero points are given; else they are 8")
    DEQUANT: Dequant = Param(
        "magic",
        among=get_args(Dequant),
        doc="how codes become what is multiplied: 16-bit elements, exactly; digits: whole numbers, as activations do, off by 2^-21 of the "
        "largest of their slab",
    )
    STAGING: Staging = Param(
        "lds",
        among=get_args(Staging),
        doc="activations: whole in LDS by the group, or of each trip by the wave that needs them",
    )
    ROWS: Rows = Param(
        "scattered",
        among=get_args(Rows),
        doc="rows of the tokens, found by slot / top_k, or rows permuted block by block",
    )
    GRID: Grid = Param(
        "blocks",
        among=get_args(Grid),
        doc="a work-group per tile and block, or few that walk over all pairs and keep their rows",
    )
    SILU: bool = Param(False, doc="weights are gates and what they gate; silu of the first times the second is stored")
    RANK: bool = Param(False, doc="experts are ranked here from the router's logits, instead of coming as lists")
    RANKING: Ranking = Param(
        "group",
        among=get_args(Ranking),
        named=False,
        doc="who ranks: all of a work-group, in LDS, or its first wave, in registers; wave: sm_90",
    )
    K: int | None = Param(
        None, ge=32, le=1 << 20, doc="reduction length fixed at compile time; trip counts and LDS become constants"
    )

    @classmethod
    def row_counts(cls) -> range:
        """The block sizes that kernels exist for lie in here."""
        return range(1, 5)

    # ---- derived

    @property
    def most_experts(self) -> int:
        """Experts whose logits the ranking has room for."""
        return MOST_EXPERTS

    @property
    def most_top_k(self) -> int:
        """Experts of a token that the ranking has room for."""
        return MOST_TOP_K

    @property
    def paired(self) -> bool:
        return self.SILU

    @property
    def persistent(self) -> bool:
        return self.GRID == "persistent"

    def tiles(self, shape: MoeShape) -> int:
        return ceil_div(shape.M, self.rows_per_group) * shape.blocks

    def wave_trips(self, shape: MoeShape) -> int:
        return ceil_div(self.trips(shape.K), self.K_WAVES)

    @property
    def one_trip(self) -> bool:
        """Whether K is known, and one trip of each wave."""
        return self.K is not None and self.trips(self.K) <= self.K_WAVES

    @property
    def ranks_ahead(self) -> bool:
        """Whether activations, which are older than the router's logits, are in place before those are waited for."""
        return self.RANK and self.STAGING == "wave" and self.one_trip

    @property
    def route_bytes(self) -> int:
        """LDS for ranking: a key per expert, an addend of the softmax for each, and the chosen ones; where a wave ranks, the one it found."""
        if not self.RANK:
            return 0
        return 4 * (2 * MOST_EXPERTS + MOST_TOP_K) if self.RANKING == "group" else 4

    @property
    def static_lds(self) -> int:
        whole = self.staged_bytes(self.K) if self.K and self.STAGING == "lds" else 0
        return self.exchange_bytes + self.route_bytes + self.wave_bytes + whole

    def additions(self, shape: MoeShape) -> int:
        """The most fp32 additions that one product passes through. With SILU 6 more: see docs/moe.md."""
        return (
            self.additions_of_trip(self.wave_trips(shape)) + self.K_WAVES * self.addends + 1 + (6 if self.paired else 0)
        )

    # ---- rules

    @rule
    def gates_fill_half(self, arch: ArchFacts) -> Problem | None:
        half = max(2, self.lane_rows)  # a tile of 16 rows holds eight of each
        if not self.paired or self.YTILE % half == 0:
            return None
        allowed = f"a multiple of {half} with SILU on {arch.name}: as many rows of gates as of what they gate"
        return Problem(("YTILE", "SILU"), str(self.YTILE), allowed, f"YTILE = {half}")

    @rule
    def ranking_has_one_slot(self, arch: ArchFacts) -> Problem | None:
        found = {"N": self.N, "ROWS": self.ROWS, "GRID": self.GRID}
        wanted = {"N": 1, "ROWS": "scattered", "GRID": "blocks"}
        if not self.RANK or found == wanted:
            return None
        fields = tuple(name for name in found if found[name] != wanted[name])
        return Problem(("RANK", *fields), f"RANK with {found}", str(wanted), "RANK = false")

    @rule
    def a_wave_can_rank(self, arch: ArchFacts) -> Problem | None:
        if self.RANKING == "group" or (self.RANK and arch.vendor == "nvidia"):
            return None
        if not self.RANK:
            return Problem(("RANKING", "RANK"), "wave without RANK", "group where nothing is ranked", "RANK = true")
        found = f"wave: {arch.name} has no instruction that finds the largest of a wave"
        return Problem(("RANKING",), found, "group; sm_90 has one", "RANKING = group")

    # ---- launch

    @property
    def args(self) -> tuple[Arg, ...]:
        """Kernel arguments in launch order; strides of rows and experts in elements of each array (codes and zeros: words).

        sorted_ids null: slot i of block b is b * N + i. padded_slots null: all blocks count. See docs/moe.md.
        """
        return _ARGS[self.RANK]

    @property
    def grid_rule(self) -> str:
        tiles = f"one work-group per {self.rows_per_group} output features"
        if self.persistent:
            return f"{tiles} and block, at most {self.groups_per_cu} per CU; more are walked by the same groups"
        if self.RANKING == "wave":
            return f"{tiles}; second dimension: top_k; third: tokens"
        return f"{tiles}; second dimension: blocks"

    @property
    def grid_expr(self) -> str:
        """Number of work-groups in the first dimension as an expression of M, blocks and CU."""
        tiles = f"ceil_div(M, {self.rows_per_group})"
        return f"min({tiles} * blocks, CU * {self.groups_per_cu})" if self.persistent else tiles

    @property
    def lds_expr(self) -> str:
        """Bytes of dynamic LDS as an expression of K."""
        return "0" if self.K or self.STAGING == "wave" else f"ceil_div(K, {self.step}) * {self.UNRL * self.slab_bytes}"

    def dynamic_lds(self, shape: MoeShape) -> int:
        return 0 if self.lds_expr == "0" else self.staged_bytes(shape.K)

    def grid(self, shape: MoeShape, cu: int) -> tuple[int, int, int]:
        if self.persistent:
            return min(self.tiles(shape), cu * self.groups_per_cu), 1, 1
        if self.RANKING == "wave":  # no division finds the token of a slot
            return ceil_div(shape.M, self.rows_per_group), shape.top_k, shape.tokens
        return ceil_div(shape.M, self.rows_per_group), shape.blocks, 1

    def fits(self, shape: MoeShape) -> Problem | None:
        if self.RANK:
            if not 1 <= shape.experts <= MOST_EXPERTS:
                return Problem(("experts",), str(shape.experts), f"1 to {MOST_EXPERTS}, ranked in LDS", "RANK = false")
            if not 1 <= shape.top_k <= min(MOST_TOP_K, shape.experts):
                return Problem(("top_k",), str(shape.top_k), f"1 to {min(MOST_TOP_K, shape.experts)}", "RANK = false")
            if shape.blocks != shape.slots:
                return Problem(("blocks",), str(shape.blocks), f"{shape.slots}: one per slot")
        if self.persistent and (pairs := self.tiles(shape)) >= 1 << 31:
            return Problem(("M", "blocks"), f"{pairs} pairs of a tile and a block", "below 2^31", "GRID = blocks")
        return super().fits(shape)
