"""moe_gemm_w4a16: either GEMM of a mixture's experts by matrix tiles, on blocks of sorted slots; the tile loop of gemm_w4a16.

    out[slot, M] = act[row of slot, K] @ w[expert of block, M, K].T        w = (q - z) * scale, rounded once to dtype
    out[slot, M] = silu(act @ w[expert, i].T) * (act @ w[expert, M + i].T)    SILU: weight [E, 2 M, K], gates first
    out[slot, M] = topk_weights[slot] * (...)                                 where weights of slots are given

M counts output features of one expert, N slots of a block, K the reduction. A slot is a token at one of its top_k experts, a block is BLOCK_N slots
of one expert (vLLM's block_size_m), which both GEMMs of a layer share; sorted_ids lists the slots block by block, expert_ids the expert of each
block, as kgen.ops.moe_route.align makes them on the device. A work-group makes one block's outputs of BLOCK_M weight rows: with SILU half of them
are gates, and 16 gates lie beside the 16 rows that they gate, in one wave, so that silu and the product need no exchange.

Blocks of expert -1 are skipped; where weights of slots are given, their slots are stored as zeros, because whoever sums a token's rows reads all
of them. Padding slots are not stored, and where activations pass no registers not read either; elsewhere their block's first row stands in for
them: were it one row for all blocks, they all would wait for the same lines. No atomics, no K split: the bits depend on the spec alone. See
docs/moe.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, get_args

from kgen.errors import Problem
from kgen.spec.arch import ArchFacts
from kgen.spec.base import Arg, Launch, Param, layout_args, rule
from kgen.spec.linear import LinearSpec
from kgen.spec.problem import MoeGemmShape, MoeShape, ceil_div
from kgen.spec.tile import TILE, additions_over
from kgen.spec.w4 import GROUP_SIZES
from kgen.spec.w4_tile import Subtract, W4TileSpec

BLOCK_SIZES = (16, 32, 64, 128)
"""Slots of a block that kernels exist for."""
BAND = 8  # blocks that go together over M: of one expert they read the same weights, of several what they read of the activations stays in the L2
MOST_WEIGHTS = (
    1 << 31
)  # of an expert, gates alone where there are gates: with padding, and what is gated, bytes of codes fit 32 bits
MOST_BYTES = 1 << 32  # of activations
_ARGS = layout_args(
    ("const u32*", "codes"),
    ("const T*", "scales"),
    ("const u32*", "zeros"),
    ("const T*", "act"),
    ("const i32*", "expert_ids"),
    ("const i32*", "sorted_ids"),
    ("const i32*", "padded_slots"),
    ("const f32*", "topk_weights"),
    ("T*", "out"),
    *(
        ("u32", name)
        for name in (
            *("M", "K", "code_stride", "scale_stride", "zero_stride", "act_stride"),
            *("code_expert", "scale_expert", "zero_expert", "slots", "top_k", "blocks"),
        )
    ),
)


class MoeGemmW4A16Spec(W4TileSpec):
    """Parameters of one moe_gemm_w4a16 kernel; see the module's docstring for the mathematics and docs/moe.md for layouts."""

    family: ClassVar[str] = "moe_gemm_w4a16"
    template: ClassVar[str] = "moe_gemm_w4a16.hip.jinja"
    shape: ClassVar[type[MoeShape]] = MoeGemmShape
    traits: ClassVar[Mapping[str, tuple[int | bool, ...]]] = {**W4TileSpec.traits, "SILU": (False, True)}
    K_SPLIT: ClassVar[int] = 1  # type: ignore[misc]  # blocks are many; a parameter of gemm_w4a16

    BLOCK_N: int = Param(64, among=BLOCK_SIZES, doc="slots of a block, all of one expert (block_size_m)")
    BLOCK_M: int = Param(
        64, among=(16, 32, 64, 128, 256), doc="weight rows of a work-group; with SILU half of them are gates"
    )
    BLOCK_K: int = Param(32, among=(32, 64, 128), doc="K elements of a step")
    THRDS: int = Param(32, among=(32, 64), doc="lanes of a wave")
    WvPrGrp: int = Param(4, among=(2, 4, 8, 16), doc="waves per work-group")
    WAVES_N: int = Param(1, among=(1, 2, 4, 8), doc="waves along N; the others stand along M")
    ScaleBlockK: int = Param(128, among=GROUP_SIZES, doc="consecutive K elements that share a scale and a zero point")
    HAS_ZP: bool = Param(False, doc="zero points are given; else they are 8")
    SUBTRACT: Subtract = Param(
        "float",
        among=get_args(Subtract),
        doc="whether the zero point is taken off codes or off numbers; both are exact",
    )
    TruncateBf16Round: bool = Param(False, doc="weights are cut off to bf16 instead of rounded to nearest even")
    PreDequantToLDS: bool = Param(
        False, doc="weights become numbers once per group, in LDS; else in the registers of each wave"
    )
    DoubleBuffer: bool = Param(
        False, doc="LDS holds two steps: the next one is on its way while this one is multiplied"
    )
    SILU: bool = Param(False, doc="weights are gates and what they gate; silu of the first times the second is stored")

    @classmethod
    def row_counts(cls) -> range:
        """The block sizes that kernels exist for lie in here."""
        return range(BLOCK_SIZES[0], BLOCK_SIZES[-1] + 1, BLOCK_SIZES[0])

    # ---- derived

    @property
    def N(self) -> int:
        """Slots of a block."""
        return self.BLOCK_N

    @property
    def paired(self) -> bool:
        """Whether weight rows i and M + i are multiplied together."""
        return self.SILU

    @property
    def gathered(self) -> bool:
        return True

    @property
    def rows_per_group(self) -> int:
        """Output features of one work-group."""
        return self.BLOCK_M // 2 if self.paired else self.BLOCK_M

    @property
    def groups_per_cu(self) -> int:
        """One work-group for each tile, however many a CU holds."""
        return 1

    @property
    def band(self) -> int:
        """Blocks that go together over M."""
        return BAND

    def tiles(self, shape: MoeShape) -> int:
        """Work-groups of a launch."""
        return ceil_div(shape.M, self.rows_per_group) * shape.blocks

    def wave_trips(self, shape: MoeShape) -> int:
        """Steps of a wave's loop."""
        return ceil_div(shape.K, self.BLOCK_K)

    def additions(self, shape: MoeShape) -> int:
        """The most fp32 additions and multiplications that one product passes through. With SILU 6 more: see docs/moe.md."""
        return additions_over(self.facts, shape.K) + 2 + (6 if self.paired else 0)

    # ---- rules

    lanes_are_a_wave = LinearSpec.lanes_are_a_wave
    group_fits = LinearSpec.group_fits

    @rule
    def gates_lie_beside_what_they_gate(self, arch: ArchFacts) -> Problem | None:
        if not self.paired or (self.m_tiles % 2 == 0 and self.BLOCK_M >= 2 * TILE):
            return None
        found = f"{self.m_tiles} tiles of {TILE} weight rows for each wave"
        return Problem(
            ("SILU", "BLOCK_M", "WvPrGrp", "WAVES_N"), found, "an even number with SILU", "raise BLOCK_M or WAVES_N"
        )

    # ---- launch

    @property
    def args(self) -> tuple[Arg, ...]:
        """Kernel arguments in launch order; strides of rows and experts in elements of each array (codes and zeros: words).

        sorted_ids null: slot i of block b is b * BLOCK_N + i. padded_slots null: all blocks count. topk_weights null: 1, and blocks of expert -1
        store nothing. See docs/moe.md.
        """
        return _ARGS

    @property
    def grid_rule(self) -> str:
        """The grid in words."""
        return f"one work-group per block and {self.rows_per_group} output features, {self.band} blocks side by side"

    @property
    def grid_expr(self) -> str:
        """Number of work-groups as an expression of M and blocks."""
        return f"ceil_div(M, {self.rows_per_group}) * blocks"

    def launch(self, shape: MoeShape, cu: int) -> Launch:
        """Geometry for a shape that fits. On NVIDIA the kernel waits for its predecessor itself, as the decode kernels do."""
        early = self.facts.vendor == "nvidia"
        return Launch((self.tiles(shape), 1, 1), self.block, self.dynamic_lds(shape), early)

    def fits(self, shape: MoeShape) -> Problem | None:
        """Why this kernel cannot do this shape, or None. The one place that decides: table, op and tests all ask here."""
        if shape.N != self.BLOCK_N:
            return Problem(("N",), str(shape.N), f"{self.BLOCK_N}, fixed in {self.name}")
        if wrong := self.trait_problem(shape):
            return wrong
        if shape.K % self.GROUP_SIZE or shape.K < self.GROUP_SIZE:
            allowed = f"a multiple of ScaleBlockK = {self.GROUP_SIZE}"
            return Problem(("K",), str(shape.K), allowed, "pad K to whole groups")
        if shape.M < 1 or shape.M * shape.K >= MOST_WEIGHTS:
            found = f"{shape.M} x {shape.K}"
            return Problem(
                ("M", "K"), found, f"fewer than {MOST_WEIGHTS} weights of an expert: 32-bit offsets", "torch"
            )
        if self.tiles(shape) >= 1 << 31 or 2 * shape.tokens * shape.K >= MOST_BYTES:
            found = f"{self.tiles(shape)} work-groups, {2 * shape.tokens * shape.K} bytes of activations"
            allowed = f"fewer than 2^31, and than {MOST_BYTES}: 32-bit offsets"
            return Problem(("M", "blocks", "tokens"), found, allowed, "split the tokens into several calls")
        return None
