"""gemm_w4a16: a GEMM on 4-bit integer weights with 16-bit activations by matrix tiles, for any number of activation rows.

    out[N, M] = act[N, K] @ w[M, K].T + bias        w = (q[M, K] - z[M, K / ScaleBlockK]) * scale[M, K / ScaleBlockK], rounded once to dtype

M counts output features (weight rows), N activation rows, K the reduction. The weights are those of wvsplitk_int4, in the layout of kgen.ops.pack:
one copy serves both. Each work-group makes BLOCK_N x BLOCK_M outputs; with K_SPLIT more than one of them share the K of a block, leave their fp32
sums in a workspace and the last one to arrive adds them in the order of K, so the bits do not depend on who came when.

Rows beyond N and features beyond M are read from the last one and not stored. See kgen.spec.w4_tile for the block and its waves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, get_args

from kgen.errors import Problem
from kgen.spec.base import Arg, Launch, Param, layout_args
from kgen.spec.linear import LinearSpec
from kgen.spec.problem import GemmShape, Workspace, ceil_div
from kgen.spec.tile import BLOCK_K, additions_over
from kgen.spec.w4 import GROUP_SIZES
from kgen.spec.w4_tile import Subtract, W4TileSpec

MAX_ROWS = 1 << 20  # activation rows of a launch
BAND = (
    8  # blocks along N that go together over M: what they read of the activations stays in the L2 while weights pass by
)
_SHARED = (("f32*", "partial"), ("u32*", "counter"))


def _args(*shared: tuple[str, str]) -> tuple[Arg, ...]:
    return layout_args(
        ("const u32*", "codes"),
        ("const T*", "scales"),
        ("const u32*", "zeros"),
        ("const T*", "act"),
        ("const T*", "bias"),
        ("T*", "out"),
        *shared,
        ("u32", "M"),
        ("u32", "K"),
        ("u32", "code_stride"),
        ("u32", "scale_stride"),
        ("u32", "zero_stride"),
        ("u32", "act_stride"),
        ("u32", "bias_stride"),
        ("u32", "rows"),
        ("u32", "groups"),
    )


_ARGS, _SPLIT_ARGS = _args(), _args(*_SHARED)


class GemmW4A16Spec(W4TileSpec, LinearSpec):
    """Parameters of one gemm_w4a16 kernel; see the module's docstring for the mathematics and docs/gemm_w4a16.md for layouts."""

    family: ClassVar[str] = "gemm_w4a16"
    template: ClassVar[str] = "gemm_w4a16.hip.jinja"
    any_rows: ClassVar[bool] = True

    BLOCK_N: int = Param(
        64, among=(16, 32, 64, 128, 256), doc="activation rows of a block; those that are not there are masked"
    )
    BLOCK_M: int = Param(64, among=(16, 32, 64, 128, 256), doc="output features of a block")
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
    K_SPLIT: int = Param(1, among=(1, 2, 4, 8), doc="work-groups that share the K of a block, added in order")

    @classmethod
    def row_counts(cls) -> range:
        return range(1, MAX_ROWS + 1)

    # ---- derived

    if not TYPE_CHECKING:  # a field of the other linear families, derived here

        @property
        def N(self) -> int:
            """Activation rows of a block; a launch has any number of blocks."""
            return self.BLOCK_N

    @property
    def piece(self) -> int:
        """K comes in whole groups."""
        return self.ScaleBlockK

    @property
    def rows_per_group(self) -> int:
        return self.BLOCK_M

    @property
    def slab(self) -> int:
        return BLOCK_K

    @property
    def shard(self) -> int | None:
        """K elements of a shard where each has one step; see `shards`."""
        return self.BLOCK_K if self.K_SPLIT > 1 else None

    @property
    def band(self) -> int:
        """Blocks along N that go together over M."""
        return BAND

    @property
    def batch(self) -> int:
        """Shards whose sums are loaded together when the last arrival adds them: 32 registers' worth."""
        return min(self.K_SPLIT, max(1, 32 // self.sum_registers))

    @property
    def rows_tried(self) -> tuple[int, ...]:
        """A part of a block, a whole one and some more, more blocks than a band, one row."""
        n = self.BLOCK_N
        return (n - 3, n + n // 2 + 1, n, 1)

    def shards(self, shape: GemmShape) -> int:
        """Work-groups that share the K of a block; those beyond its steps have nothing to add."""
        return self.K_SPLIT

    def blocks(self, shape: GemmShape) -> int:
        """Blocks of the output."""
        return ceil_div(shape.N, self.BLOCK_N) * ceil_div(shape.M, self.BLOCK_M)

    def tiles(self, shape: GemmShape) -> int:
        return self.blocks(shape)

    def workspace(self, shape: GemmShape) -> Workspace | None:
        """Scratch memory of a launch, None for one shard. The one function that says so: `fits`, the op and the tests ask here."""
        if self.K_SPLIT == 1:
            return None
        blocks = self.blocks(shape)
        return Workspace(4 * blocks * self.K_SPLIT * self.BLOCK_N * self.BLOCK_M, 4 * blocks)

    def lds_bytes(self, shape: GemmShape) -> int:
        return self.tile_lds + self.count_lds

    # ---- launch

    @property
    def args(self) -> tuple[Arg, ...]:
        """Kernel arguments in launch order; strides in elements of each array (codes and zeros: words), bias_stride 0 for a bias of [M].

        `rows` is the problem's N; `partial` and `counter`, the workspace, are there where K is split.
        """
        return _SPLIT_ARGS if self.K_SPLIT > 1 else _ARGS

    @property
    def grid_rule(self) -> str:
        shards = f", {self.K_SPLIT} times" if self.K_SPLIT > 1 else ""
        return f"one work-group per {self.BLOCK_N} activation rows and {self.BLOCK_M} output features{shards}"

    @property
    def grid_expr(self) -> str:
        shards = f" * {self.K_SPLIT}" if self.K_SPLIT > 1 else ""
        return f"ceil_div(N, {self.BLOCK_N}) * ceil_div(M, {self.BLOCK_M}){shards}"

    def launch(self, shape: GemmShape, cu: int) -> Launch:
        return Launch((self.blocks(shape) * self.K_SPLIT, 1, 1), self.block, self.dynamic_lds(shape))

    def fits(self, shape: GemmShape) -> Problem | None:
        if problem := super().fits(shape):
            return problem
        if self.blocks(shape) * self.K_SPLIT >= 1 << 31:
            return Problem(
                ("M", "N"), f"{self.blocks(shape)} blocks", "fewer than 2^31 work-groups", "split the problem"
            )
        need = self.workspace(shape)
        if need is None:
            return None
        return need.beyond_slot(("M", "N", "K_SPLIT"), "K_SPLIT = 1: an output this large has blocks enough")

    def rows_problem(self, shape: GemmShape) -> Problem | None:
        return None if 1 <= shape.N <= MAX_ROWS else Problem(("N",), str(shape.N), f"1 to {MAX_ROWS}")

    def additions(self, shape: GemmShape) -> int:
        return additions_over(self.facts, shape.K) + self.K_SPLIT + 1
