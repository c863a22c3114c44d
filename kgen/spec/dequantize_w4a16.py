"""dequantize_w4a16: 4-bit integer weights written out as 16-bit numbers, for a GEMM that reads those.

    out[M, K] = (q[M, K] - z[M, K / GROUP_SIZE]) * scale[M, K / GROUP_SIZE], rounded once to dtype

M counts output features (weight rows), K the reduction; there are no activations, so a problem's N says nothing, and is 1. The weights are those
of wvsplitk_int4, in the layout of kgen.ops.pack. Bytes are what it is made of: half a one read and two written for each weight.

A lane loads 16 bytes of codes; the four lanes of a quad exchange words, so that each of their stores is 64 bytes in a row. Quads go over the rows
one after the other, wherever a row ends: no lane idles for the sake of a K that is no multiple of what a wave covers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from kgen.errors import Problem
from kgen.spec.base import Arg, KernelSpec, Launch, Param, layout_args
from kgen.spec.linear import LinearSpec
from kgen.spec.problem import DequantizeShape, GemmShape, ceil_div
from kgen.spec.w4 import GROUP_SIZES

CHUNK = 32  # codes of a lane's load: 16 bytes
QUAD = 4  # lanes that exchange words
QUAD_K = QUAD * CHUNK
_ARGS = layout_args(
    ("const u32*", "codes"),
    ("const T*", "scales"),
    ("const u32*", "zeros"),
    ("T*", "out"),
    ("u32", "M"),
    ("u32", "K"),
    ("u32", "code_stride"),
    ("u32", "scale_stride"),
    ("u32", "zero_stride"),
)


class DequantizeW4A16Spec(KernelSpec):
    """Parameters of one dequantize_w4a16 kernel; see the module's docstring for the mathematics and docs/dequantize_w4a16.md for layouts."""

    family: ClassVar[str] = "dequantize_w4a16"
    template: ClassVar[str] = "dequantize_w4a16.hip.jinja"
    shape: ClassVar[type[GemmShape]] = DequantizeShape
    traits: ClassVar[Mapping[str, tuple[int | bool, ...]]] = {"GROUP_SIZE": GROUP_SIZES, "HAS_ZP": (False, True)}
    any_rows: ClassVar[bool] = True
    # What w4/weight.h.jinja asks: weights as gemm_w4a16 makes them without TruncateBf16Round.
    SUBTRACT: ClassVar[str] = "float"
    TruncateBf16Round: ClassVar[bool] = False

    THRDS: int = Param(32, among=(32, 64), doc="lanes of a wave")
    WvPrGrp: int = Param(4, among=(1, 2, 4, 8, 16), doc="waves per work-group")
    UNRL: int = Param(2, among=(1, 2, 4, 8), doc="loads of 16 bytes of codes in flight per lane")
    GROUP_SIZE: int = Param(128, among=GROUP_SIZES, doc="consecutive K elements that share a scale and a zero point")
    HAS_ZP: bool = Param(False, doc="zero points are given; else they are 8")

    @classmethod
    def row_counts(cls) -> range:
        """A problem has no activations; tables and checks count one row."""
        return range(1, 2)

    # ---- derived

    @property
    def packed(self) -> bool:
        """Whether weights are scaled two at a time in the element type: where it has packed arithmetic."""
        return self.dtype == "fp16" or self.facts.vendor == "nvidia"

    @property
    def groups_of_quad(self) -> int:
        """Scales of the codes of a quad."""
        return QUAD_K // self.GROUP_SIZE

    @property
    def quads(self) -> int:
        """Pieces of 128 codes of a row, at most, that a work-group writes out."""
        return self.threads // QUAD * self.UNRL

    @property
    def rows_per_group(self) -> int:
        """Rows whose pieces fill whole work-groups, whatever K is: what the model counts by."""
        return self.quads

    @property
    def static_lds(self) -> int:
        """LDS bytes that the kernel declares."""
        return 0

    def pieces(self, shape: GemmShape) -> int:
        """Pieces of 128 codes that a problem has; the last one of a row may be shorter."""
        return shape.M * ceil_div(shape.K, QUAD_K)

    def tiles(self, shape: GemmShape) -> int:
        """Work-groups of a launch."""
        return ceil_div(self.pieces(shape), self.quads)

    def wave_trips(self, shape: GemmShape) -> int:
        """A wave makes one trip: there is no loop."""
        return 1

    # ---- rules

    lanes_are_a_wave = LinearSpec.lanes_are_a_wave
    group_fits = LinearSpec.group_fits

    # ---- launch

    @property
    def args(self) -> tuple[Arg, ...]:
        """Kernel arguments in launch order; strides in elements of each array (codes and zeros: words)."""
        return _ARGS

    @property
    def grid_rule(self) -> str:
        """The grid in words."""
        return f"one work-group per {self.quads} pieces of {QUAD_K} codes, row after row"

    @property
    def grid_expr(self) -> str:
        """Number of work-groups as an expression of M and K."""
        return f"ceil_div(M * ceil_div(K, {QUAD_K}), {self.quads})"

    @property
    def lds_expr(self) -> str:
        """No LDS."""
        return "0"

    def launch(self, shape: GemmShape, cu: int) -> Launch:
        """Geometry for a shape that fits."""
        return Launch((self.tiles(shape), 1, 1), self.block, 0)

    def fits(self, shape: GemmShape) -> Problem | None:
        """Why this kernel cannot do this shape, or None. The one place that decides: table, op and tests all ask here."""
        if wrong := self.trait_problem(shape):
            return wrong
        if shape.K % self.GROUP_SIZE or shape.K < self.GROUP_SIZE:
            return Problem(
                ("K",), str(shape.K), f"a multiple of GROUP_SIZE = {self.GROUP_SIZE}", "pad K to whole groups"
            )
        if shape.M < 1 or self.pieces(shape) >= 1 << 31:
            found = f"{self.pieces(shape)} pieces of {QUAD_K} codes"
            return Problem(("M", "K"), found, "1 to 2^31 - 1: 32-bit numbers", "split the rows")
        return None

    # ---- what the machine code should show

    @property
    def multiply_pattern(self) -> str:
        """Mnemonics (regular expression) that multiply weights with their scale."""
        if self.facts.vendor == "nvidia":
            return r"HMUL2|HFMA2"
        return r"v_pk_mul_f16" if self.packed else r"v_(dual_|pk_)?mul_f32"

    @property
    def macs_per_step(self) -> int:
        """Weights of a lane."""
        return CHUNK * self.UNRL

    @property
    def multiplies_per_step(self) -> int:
        """How many instructions multiply those."""
        return self.macs_per_step // (2 if self.packed else 1)
