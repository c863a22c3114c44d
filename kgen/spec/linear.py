"""What the families that compute act @ weight.T on 16-bit elements share: arguments, sizes that fit, how deep they add.

    out[N, M] = act[N, K] @ weight[M, K].T + bias

M counts output features (weight rows), N activation rows, K the reduction. A family adds its own parameters and says how its lanes cover
a row (`slab`, `step`), which output features a work-group makes (`rows_per_group`), and in which order it adds (`additions`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kgen.errors import Problem
from kgen.spec.arch import ArchFacts
from kgen.spec.base import Arg, KernelSpec, Launch, layout_args, rule
from kgen.spec.problem import GemmShape, ceil_div

PIECE = 8  # elements of 16 bits in one 16-byte load; K and the row strides must be multiples of it
_ARGS = layout_args(
    ("const T*", "weight"),
    ("const T*", "act"),
    ("const T*", "bias"),
    ("T*", "out"),
    ("u32", "M"),
    ("u32", "K"),
    ("u32", "weight_stride"),
    ("u32", "act_stride"),
    ("u32", "bias_stride"),
    ("u32", "groups"),
)


class LinearSpec(KernelSpec):
    """Base of the dense 16-bit families; each declares N, THRDS and WvPrGrp in the place that they have in its names."""

    if TYPE_CHECKING:
        N: int

    @classmethod
    def row_counts(cls) -> range:
        """The numbers of activation rows that kernels of the family exist for: the limits of the field N."""
        limits = cls.model_fields["N"].metadata
        low = next(limit.ge for limit in limits if hasattr(limit, "ge"))
        return range(low, next(limit.le for limit in limits if hasattr(limit, "le")) + 1)

    # ---- derived; each family states those that raise here

    @property
    def element(self) -> Literal["bf16", "fp16", "fp32", "e4m3fn", "e4m3fnuz"]:
        """Element type of weight and act; out and bias are of `dtype`."""
        return self.dtype

    @property
    def piece(self) -> int:
        """Elements of one 16-byte load; K and the row strides must be multiples of it."""
        return PIECE

    @property
    def piece_reason(self) -> str:
        """Why K must be a multiple of `piece`, for the error."""
        return "rows are read 16 bytes at a time"

    @property
    def piece_cure(self) -> str:
        """What to do about a K that is no multiple of `piece`, for the error."""
        return "pad K, or use torch"

    @property
    def fixed_k(self) -> int | None:
        """The reduction length that the kernel was compiled for, None for any."""
        return None

    @property
    def rows_per_group(self) -> int:
        """Output features of one work-group's tile."""
        raise NotImplementedError

    @property
    def rows_per_wave(self) -> int:
        """Output features that one wave works on."""
        return max(1, self.rows_per_group // self.WvPrGrp)

    @property
    def slab(self) -> int:
        """K elements that the lanes sharing a row cover with one chunk each."""
        raise NotImplementedError

    @property
    def step(self) -> int:
        """K elements of one trip of the main loop."""
        raise NotImplementedError

    @property
    def window(self) -> int | None:
        """K elements that LDS holds at a time, None where K is not walked in windows."""
        return None

    @property
    def shared_step(self) -> int | None:
        """K elements of one trip of all waves that share the K of their rows, None where each wave takes all of it."""
        return None

    def shards(self, shape: GemmShape) -> int:
        """Work-groups that share the K of one tile."""
        return 1 if self.shard is None else ceil_div(shape.K, self.shard)

    def tiles(self, shape: GemmShape) -> int:
        """Tiles of the output, of `rows_per_group` features each."""
        return ceil_div(shape.M, self.rows_per_group)

    @property
    def k_sharers(self) -> int:
        """Waves that share the K of a tile, in trips of their own."""
        return 1

    def wave_trips(self, shape: GemmShape) -> int:
        """Trips of the main loop that one wave makes for a tile."""
        return ceil_div(ceil_div(ceil_div(shape.K, self.shards(shape)), self.step), self.k_sharers)

    @property
    def rows_tried(self) -> tuple[int, ...]:
        """Numbers of activation rows that a check should bring."""
        return (self.N,)

    @property
    def lane_rows(self) -> int:
        """Weight rows (and activation rows) side by side in a wave: 4 where the 4x4x4 matrix instruction multiplies, else 1."""
        return 4 if self.facts.mfma_4x4x4 else 1

    @property
    def groups_per_cu(self) -> int:
        """Groups per CU of a persistent launch: together 16 waves, four for each SIMD."""
        return max(1, 16 // self.WvPrGrp)

    def additions(self, shape: GemmShape) -> int:
        """The most fp32 additions that one product passes through on its way into an output, bias included."""
        raise NotImplementedError

    def lds_bytes(self, shape: GemmShape) -> int:
        """LDS of a launch, static and dynamic together."""
        return 0

    # ---- rules

    @rule
    def lanes_are_a_wave(self, arch: ArchFacts) -> Problem | None:
        if self.THRDS == arch.wave:
            return None
        return Problem(("THRDS",), str(self.THRDS), f"{arch.wave}, the wave of {arch.name}", f"THRDS = {arch.wave}")

    @rule
    def group_fits(self, arch: ArchFacts) -> Problem | None:
        if self.threads <= arch.max_threads:
            return None
        found = f"{self.THRDS} x {self.WvPrGrp} = {self.threads} work-items"
        return Problem(("THRDS", "WvPrGrp"), found, f"at most {arch.max_threads} on {arch.name}", "lower WvPrGrp")

    # ---- launch

    @property
    def args(self) -> tuple[Arg, ...]:
        """Kernel arguments in launch order; strides in elements, bias null for none, bias_stride 0 for a bias of [M]."""
        return _ARGS

    @property
    def grid_rule(self) -> str:
        """The grid in words."""
        tiles = f"one work-group per {self.rows_per_group} output features"
        if not self.persistent:
            return tiles
        return f"{tiles}, at most {self.groups_per_cu} per CU; more are walked by the same groups in equal rounds"

    @property
    def grid_expr(self) -> str:
        """Number of work-groups as an expression of M, N, K and CU, with ceil_div, min and max."""
        tiles = f"ceil_div(M, {self.rows_per_group})"
        return f"ceil_div({tiles}, ceil_div({tiles}, CU * {self.groups_per_cu}))" if self.persistent else tiles

    @property
    def lds_expr(self) -> str:
        """Bytes of dynamic LDS as an expression of M, N and K."""
        return "0"

    def launch(self, shape: GemmShape, cu: int) -> Launch:
        """Geometry for a shape that fits, on a device of `cu` CUs."""
        groups = ceil_div(shape.M, self.rows_per_group)
        if self.persistent:
            groups = ceil_div(groups, ceil_div(groups, cu * self.groups_per_cu))
        return Launch((groups, 1, 1), self.block, self.dynamic_lds(shape))

    def dynamic_lds(self, shape: GemmShape) -> int:
        """Bytes of LDS that a launch asks for on top of what the code object reserves; equals `lds_expr`."""
        return 0

    def fits(self, shape: GemmShape) -> Problem | None:
        """Why this kernel cannot do this shape, or None. The one place that decides: table, op, sweep and tests all ask here."""
        if wrong := self.rows_problem(shape) or self.trait_problem(shape):
            return wrong
        if shape.K % self.piece or shape.K < self.piece:
            return Problem(
                ("K",),
                str(shape.K),
                f"a multiple of {self.piece}: {self.piece_reason}",
                self.piece_cure,
            )
        if self.fixed_k is not None and shape.K != self.fixed_k:
            return Problem(("K",), str(shape.K), f"{self.fixed_k}, fixed in {self.name}")
        if shape.M < 1 or shape.M >= 1 << 31:
            return Problem(("M",), str(shape.M), "1 to 2^31 - 1")
        if (lds := self.lds_bytes(shape)) > self.facts.lds_per_group:
            found = f"{shape.N} rows of {shape.K}: {lds} bytes of LDS"
            return Problem(
                ("N", "K"), found, f"at most {self.facts.lds_per_group} on {self.arch}", "a kernel that stages less"
            )
        return None

    def rows_problem(self, shape: GemmShape) -> Problem | None:
        """Why this kernel is none for the problem's number of activation rows, or None."""
        return None if shape.N == self.N else Problem(("N",), str(shape.N), f"{self.N}, fixed in {self.name}")

    # ---- what the machine code should show

    @property
    def multiply_pattern(self) -> str:
        """Mnemonics (regular expression) that multiply weights with activations."""
        if self.lane_rows == 4:
            return r"v_mfma_f32_4x4x4"
        if self.facts.vendor == "nvidia":
            return r"FFMA|HFMA2(?!\.MMA)"  # HFMA2.MMA only loads constants
        return r"v_(dual_)?dot2(acc|c)?_f32_(f16|bf16)"
