"""wvsplitk_int4: a skinny GEMM on 4-bit integer weights with 16-bit activations (W4A16), for 1 to 8 activation rows.

    out[N, M] = act[N, K] @ ((q[M, K] - z[M, K / GROUP_SIZE]) * scale[M, K / GROUP_SIZE]).T + bias

M counts output features (weight rows), N activation rows, K the reduction. Codes are read once, 4 to 16 bytes a lane; activations come from
LDS. Each wave multiplies exact codes (DEQUANT says how they become numbers) with fp32 sums over at most a group, applies the group's scale
to the sum, and adds groups in fp32; one rounding to dtype at the end. The order of additions depends on the spec alone. With DEQUANT digits
activations become whole numbers too, off by 2^-21 of the largest of their slab (templates/w4/digits.h.jinja), and groups are summed without
error; with digits2 they are off by 2^-15 of the largest of 128 (templates/w4/lanes.h.jinja).

Layouts are those of kgen.ops.pack: eight codes of consecutive K in a word, in the order 0 2 4 6 1 3 5 7; zero points eight rows to a word.
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from kgen.errors import Problem
from kgen.spec.arch import ArchFacts
from kgen.spec.base import Arg, Param, layout_args, rule
from kgen.spec.linear import LinearSpec
from kgen.spec.problem import GemmShape, ceil_div
from kgen.spec.w4 import GROUP_SIZES
from kgen.spec.w4_lanes import LanesDequant, W4LanesSpec

Staging = Literal["lds", "window", "prefix", "global", "wave", "own"]

_WINDOW_BYTES = 16 * 1024  # LDS of a window: small enough that four groups share a CU's 64 KiB
_PREFIX_BYTES = 32 * 1024
_ARGS = layout_args(
    ("const u32*", "codes"),
    ("const T*", "scales"),
    ("const u32*", "zeros"),
    ("const T*", "act"),
    ("const T*", "bias"),
    ("T*", "out"),
    ("u32", "M"),
    ("u32", "K"),
    ("u32", "code_stride"),
    ("u32", "scale_stride"),
    ("u32", "zero_stride"),
    ("u32", "act_stride"),
    ("u32", "bias_stride"),
    ("u32", "groups"),
)


class WvSplitKInt4Spec(W4LanesSpec, LinearSpec):
    """Parameters of one wvsplitk_int4 kernel; see the module's docstring for the mathematics and docs/wvsplitk_int4.md for layouts."""

    family: ClassVar[str] = "wvsplitk_int4"
    template: ClassVar[str] = "wvsplitk_int4.hip.jinja"

    N: int = Param(1, ge=1, le=8, doc="activation rows")
    THRDS: int = Param(32, among=(32, 64), doc="lanes of a wave, which split K between them")
    YTILE: int = Param(2, among=(1, 2, 3, 4, 6, 8, 16, 32), doc="weight rows one wave works on at once")
    WvPrGrp: int = Param(16, ge=1, le=32, doc="waves per work-group; they share the staged activations")
    K_WAVES: int = Param(
        1,
        among=(1, 2, 4, 8, 16, 32),
        doc="waves of a group that share the K of their rows; the others have rows of their own",
    )
    A_CHUNK: int = Param(32, among=(8, 16, 32), doc="consecutive K elements one lane loads of a row, half a byte each")
    UNRL: int = Param(2, among=(1, 2, 4, 8), doc="chunks in flight per weight row and lane")
    GrpsPerCU: int = Param(
        1,
        among=(1, 2, 3, 4, 6, 8),
        doc="work-groups that a CU is to hold at once; bounds the registers, and sizes a persistent launch",
    )
    GROUP_SIZE: int = Param(128, among=GROUP_SIZES, doc="consecutive K elements that share a scale and a zero point")
    HAS_ZP: bool = Param(False, doc="zero points are given; else they are 8")
    DEQUANT: LanesDequant = Param(
        "magic",
        among=get_args(LanesDequant),
        doc="how codes become what is multiplied: 16-bit elements, exactly; digits, digits2: whole numbers, as activations do, off by 2^-21 or "
        "2^-15 of the largest of 128",
    )
    STAGING: Staging = Param(
        "lds",
        among=get_args(Staging),
        doc="activations: whole in LDS, a window of K, the first part of K and the rest from memory, all "
        "from memory, from LDS of each wave's own, or the same and kept for the group's next tiles",
    )
    K: int | None = Param(
        None, ge=32, le=1 << 20, doc="reduction length fixed at compile time; trip counts and LDS become constants"
    )

    # ---- derived

    @property
    def piece(self) -> int:
        """K comes in whole ones of these, and a padded row in whole 16 bytes of codes; both are multiples of this. With STAGING own: whole trips."""
        return self.step * self.K_WAVES if self.whole_trips else self.k_unit

    @property
    def piece_reason(self) -> str:
        if self.whole_trips:
            return f"each of {self.K_WAVES} waves makes whole trips of {self.step}"
        return "digits are made of whole slabs" if self.whole_numbers else super().piece_reason

    @property
    def piece_cure(self) -> str:
        if self.whole_trips:
            return "a kernel with STAGING wave"
        return "a kernel with DEQUANT magic" if self.whole_numbers else super().piece_cure

    @property
    def whole_trips(self) -> bool:
        """Whether K is whole trips of all waves: their digits lie in LDS, trip by trip."""
        return self.STAGING == "own" and self.digits

    @property
    def k_unit(self) -> int:
        """K comes in whole groups; with digits in whole slabs, whose elements share an exponent."""
        return self.slab if self.whole_numbers else super().k_unit

    @property
    def fixed_k(self) -> int | None:
        return self.K

    @property
    def strided(self) -> bool:
        return self.STAGING in ("wave", "own") and self.whole_slabs

    @property
    def window(self) -> int | None:
        """K elements of a window: whole trips of all waves that share K, as many as fit, at least one."""
        if self.STAGING != "window":
            return None
        trip = self.UNRL * self.K_WAVES
        return max(1, _WINDOW_BYTES // (self.slab_bytes * trip)) * trip * self.slab

    @property
    def prefix(self) -> int | None:
        """K elements that LDS holds with STAGING prefix."""
        trip = self.UNRL * self.K_WAVES
        return (
            max(1, _PREFIX_BYTES // (self.slab_bytes * trip)) * trip * self.slab if self.STAGING == "prefix" else None
        )

    @property
    def static_lds(self) -> int:
        """LDS bytes known at compile time."""
        if self.STAGING == "wave" or self.lane_digits:  # which stages nothing, whatever STAGING says
            return self.exchange_bytes + self.WvPrGrp * self.UNRL * self.slab_bytes
        staged = 0 if self.STAGING == "global" else self.window or self.prefix or self.K or 0
        return self.exchange_bytes + ceil_div(staged, self.slab) * self.slab_bytes

    # ---- rules

    @rule
    def sums_are_staged(self, arch: ArchFacts) -> Problem | None:
        if self.STAGING in ("lds", "window") or self.DEQUANT != "actsum" or not self.matrix:
            return None
        return Problem(
            ("STAGING", "DEQUANT"),
            f"{self.STAGING} with actsum",
            f"sums of all activations in LDS on {arch.name}",
            "DEQUANT = magic, or STAGING = window",
        )

    @rule
    def lanes_share_activations(self, arch: ArchFacts) -> Problem | None:
        if self.STAGING not in ("wave", "own") or self.matrix:
            return None
        found = f"every lane on {arch.name} multiplies a part of K of its own"
        return Problem(("STAGING",), f"{self.STAGING}: {found}", "lds, window, prefix or global", "STAGING = global")

    @rule
    def digits_are_kept(self, arch: ArchFacts) -> Problem | None:
        if self.STAGING != "own" or self.lane_digits or (self.digits and self.K_WAVES == self.WvPrGrp):
            return None
        found = f"own with DEQUANT {self.DEQUANT} and {self.K_WAVES} of {self.WvPrGrp} waves to a K"
        return Problem(("STAGING", "DEQUANT", "K_WAVES"), found, "digits, and all waves sharing K", "STAGING = wave")

    @rule
    def static_lds_fits(self, arch: ArchFacts) -> Problem | None:
        if self.static_lds <= arch.static_lds:
            return None
        what = f"{self.static_lds} bytes of LDS, {self.exchange_bytes} of them for sums"
        return Problem(
            ("STAGING", "K", "N", "WvPrGrp"),
            what,
            f"at most {arch.static_lds} on {arch.name}",
            "STAGING = window, or lower WvPrGrp",
        )

    def fits(self, shape: GemmShape) -> Problem | None:
        return super().fits(shape) or self.lanes_problem(shape)

    # ---- launch

    @property
    def args(self) -> tuple[Arg, ...]:
        """Kernel arguments in launch order; strides in elements of each array (codes and zeros: words), bias_stride 0 for a bias of [M]."""
        return _ARGS

    @property
    def persistent(self) -> bool:
        return self.STAGING in ("lds", "prefix", "own")

    @property
    def lds_expr(self) -> str:
        """Bytes of dynamic LDS as an expression of M, N and K."""
        whole = self.STAGING in ("lds", "own") and self.K is None and self.slab_bytes > 0
        return f"ceil_div(K, {self.slab}) * {self.slab_bytes}" if whole else "0"

    def dynamic_lds(self, shape: GemmShape) -> int:
        return ceil_div(shape.K, self.slab) * self.slab_bytes if self.lds_expr != "0" else 0

    def lds_bytes(self, shape: GemmShape) -> int:
        return self.static_lds + self.dynamic_lds(shape)

    @property
    def k_sharers(self) -> int:
        return self.K_WAVES

    def additions(self, shape: GemmShape) -> int:
        slabs = ceil_div(ceil_div(shape.K, self.slab), self.K_WAVES)
        return self.additions_of_slabs(slabs) + self.K_WAVES * self.addends + 1
