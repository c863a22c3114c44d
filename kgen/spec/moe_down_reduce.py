"""moe_down_reduce: the second GEMM of a mixture and the weighted sum over a token's experts, in one launch.

    out[token, M] = sum over slots s of topk_weights[token, s] * (a[token, s, K] @ weight[topk_ids[token, s], M, K].T)
    a = act[token * top_k + s, K]                              FUSE_SILU false
    a = silu(act[..., :K]) * act[..., K:], rounded to dtype    FUSE_SILU true: act [tokens * top_k, 2 K], gates first

A work-group owns a stripe of output features; activations of all slots lie in LDS, or each wave lands those of its trip. Its waves share the
trips of all slots, one after the other; sums stay in registers, scaled by the slot's weight, and meet in LDS once. No partial sum is written to
memory, no atomics, one order of addition. Slots of expert -1 add nothing. See docs/moe.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, get_args

from kgen.errors import Problem
from kgen.spec.arch import ArchFacts
from kgen.spec.base import LAYER_LDS, Arg, Launch, Param, early_problem, layout_args, rule
from kgen.spec.moe import GROUPS_PER_CU, K_SHARERS, UNROLLS, YTILES, MoeSpec, Staging
from kgen.spec.problem import MoeDownShape, MoeShape, ceil_div
from kgen.spec.w4 import GROUP_SIZES, Dequant, W4Spec

MOST_SLOTS = 32  # of a token: lane s of each wave holds the expert and weight of slot s
_ARGS = layout_args(
    ("const u32*", "codes"),
    ("const T*", "scales"),
    ("const u32*", "zeros"),
    ("const T*", "act"),
    ("const i32*", "topk_ids"),
    ("const f32*", "topk_weights"),
    ("T*", "out"),
    *(
        ("u32", name)
        for name in (
            *("M", "K", "code_stride", "scale_stride", "zero_stride", "act_stride"),
            *("code_expert", "scale_expert", "zero_expert", "top_k", "groups"),
        )
    ),
)


class MoeDownReduceSpec(MoeSpec):
    """Parameters of one moe_down_reduce kernel; see the module's docstring for the mathematics and docs/moe.md for layouts."""

    family: ClassVar[str] = "moe_down_reduce"
    template: ClassVar[str] = "moe_down_reduce.hip.jinja"
    shape: ClassVar[type[MoeShape]] = MoeDownShape
    traits: ClassVar[Mapping[str, tuple[int | bool, ...]]] = {**W4Spec.traits, "FUSE_SILU": (False, True)}
    N: ClassVar[int] = 1  # type: ignore[misc]  # a slot is one row; a parameter of other families

    THRDS: int = Param(32, among=(32, 64), doc="lanes of a wave, which split K between them")
    YTILE: int = Param(4, among=YTILES, doc="weight rows one wave works on at once")
    WvPrGrp: int = Param(16, ge=1, le=32, doc="waves per work-group; they share the staged activations")
    K_WAVES: int = Param(
        16,
        among=K_SHARERS,
        doc="waves of a group that share the trips of their rows over all slots; the others have rows of their own",
    )
    A_CHUNK: int = Param(32, among=(8, 16, 32), doc="consecutive K elements one lane loads of a row, half a byte each")
    UNRL: int = Param(1, among=UNROLLS, doc="chunks in flight per weight row and lane")
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
    FUSE_SILU: bool = Param(
        False, doc="activations are gates and what they gate; silu and product are made while staging"
    )
    EARLY: bool = Param(
        False,
        doc="in a layer, weights come to LDS while the first GEMM, which has stored the experts, still runs: sm_90",
    )
    K: int | None = Param(
        None, ge=32, le=1 << 20, doc="reduction length fixed at compile time; trip counts become constants"
    )

    @classmethod
    def row_counts(cls) -> range:
        """One row per slot."""
        return range(1, 2)

    # ---- derived

    @property
    def persistent(self) -> bool:
        return not self.EARLY

    def tiles(self, shape: MoeShape) -> int:
        return ceil_div(shape.M, self.rows_per_group) * shape.tokens

    def wave_trips(self, shape: MoeShape) -> int:
        return ceil_div(self.trips(shape.K) * shape.top_k, self.K_WAVES)

    @property
    def sent(self) -> bool:
        return self.EARLY

    @property
    def weight_vgprs(self) -> int:
        """Where codes come by LDS, one slab at a time is in registers."""
        return super().weight_vgprs // (self.UNRL if self.sent else 1)

    @property
    def scale_vgprs(self) -> int:
        """Likewise."""
        return super().scale_vgprs // (self.UNRL if self.sent else 1)

    @property
    def sent_bytes(self) -> int:
        """With EARLY: LDS for the codes and scales of each wave's trip, and so much more that a CU has room for one group only.

        Groups come as those of the first GEMM go, and not all CUs have room at the same time: the first would take two, and the last none.
        """
        window = (2 * self.UNRL + 2) // 4 + 1  # words that hold a row's scales, which may begin in the middle of one
        half = LAYER_LDS // 2 - self.facts.lds_reserved_per_group + 16
        return max(self.WvPrGrp * self.YTILE * (self.step // 2 + 4 * window), half - self.static_lds)

    @property
    def static_lds(self) -> int:
        return self.exchange_bytes + self.wave_bytes

    def additions(self, shape: MoeShape) -> int:
        """The most fp32 additions that one product passes through on its way into an output."""
        return self.additions_of_trip(1) + 2 * self.wave_trips(shape) + self.K_WAVES * self.addends + 1

    # ---- rules

    @rule
    def a_wave_lands_what_is_there(self, arch: ArchFacts) -> Problem | None:
        if self.STAGING != "wave" or not self.FUSE_SILU:
            return None
        return Problem(("STAGING", "FUSE_SILU"), "wave with FUSE_SILU", "activations as they are", "STAGING = lds")

    @rule
    def early_is_whole(self, arch: ArchFacts) -> Problem | None:
        if not self.EARLY:
            return None
        if wrong := early_problem(arch):
            return wrong
        pieces = self.A_CHUNK == 32 and self.GROUP_SIZE == self.slab and not self.HAS_ZP
        if pieces and self.STAGING == "wave" and self.whole_slabs:
            return None
        zeros = ", zero points" if self.HAS_ZP else ""
        found = f"A_CHUNK {self.A_CHUNK}, GROUP_SIZE {self.GROUP_SIZE}{zeros}, STAGING {self.STAGING}, K {self.K}"
        allowed = f"A_CHUNK 32, groups of 128, no zero points, STAGING wave and a fixed K of whole trips, {self.step} long here"
        fields = ("EARLY", "A_CHUNK", "GROUP_SIZE", "HAS_ZP", "STAGING", "K")
        return Problem(fields, found, allowed, "leave EARLY out")

    # ---- launch

    @property
    def args(self) -> tuple[Arg, ...]:
        """Kernel arguments in launch order; strides of rows and experts in elements of each array (codes and zeros: words)."""
        return _ARGS

    @property
    def grid_rule(self) -> str:
        if not self.persistent:
            return f"one work-group per {self.rows_per_group} output features; second dimension: tokens"
        tiles = f"one work-group per {self.rows_per_group} output features, at most {self.groups_per_cu} per CU; more are walked by the same groups"
        return f"{tiles} in equal rounds; second dimension: tokens"

    @property
    def grid_expr(self) -> str:
        """Number of work-groups in the first dimension as an expression of M and CU."""
        tiles = f"ceil_div(M, {self.rows_per_group})"
        return f"ceil_div({tiles}, ceil_div({tiles}, CU * {self.groups_per_cu}))" if self.persistent else tiles

    @property
    def lds_expr(self) -> str:
        """Bytes of dynamic LDS as an expression of K and top_k."""
        if self.sent:
            return str(self.sent_bytes)
        return "0" if self.STAGING == "wave" else f"top_k * ceil_div(K, {self.step}) * {self.UNRL * self.slab_bytes}"

    def dynamic_lds(self, shape: MoeShape) -> int:
        if self.sent:
            return self.sent_bytes
        return 0 if self.lds_expr == "0" else shape.top_k * self.staged_bytes(shape.K)

    def grid(self, shape: MoeShape, cu: int) -> tuple[int, int, int]:
        tiles = ceil_div(shape.M, self.rows_per_group)
        if not self.persistent:
            return tiles, shape.tokens, 1
        return ceil_div(tiles, ceil_div(tiles, cu * self.groups_per_cu)), shape.tokens, 1

    def launch(self, shape: MoeShape, cu: int) -> Launch:
        """Behind any kernel: with EARLY the device starts this one when that has ended, since it may have made the experts."""
        geometry = super().launch(shape, cu)
        return replace(geometry, early=geometry.early and not self.EARLY)

    def layer_launch(self, shape: MoeShape, cu: int) -> Launch:
        """Behind the first GEMM of a layer, which stores the experts before it lets this kernel start."""
        return super().launch(shape, cu)

    def fits(self, shape: MoeShape) -> Problem | None:
        if not 1 <= shape.top_k <= MOST_SLOTS:
            return Problem(("top_k",), str(shape.top_k), f"1 to {MOST_SLOTS}")
        return super().fits(shape)
