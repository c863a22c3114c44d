"""wvsplitkq: fp8 weights times fp8 activations for 1 to 8 activation rows, per-tensor scales.

    out[N, M] = weight_scale * act_scale * (act[N, K] @ weight[M, K].T) + bias

M counts output features (weight rows), N activation rows, K the reduction. weight and act are 8-bit e4m3 floats of the target's own kind
(OCP, or FNUZ on gfx94x); scales are fp32 and lie in device memory; out and bias are of `dtype`. A work-group makes YTILE output features
and its waves split K, so few output features still keep many loads in flight. Sums are fp32; the scales and the bias are applied to the
whole sum, which is rounded once. The order of additions depends on the spec alone: the same bits on every run.

On CDNA the lanes of a wave hold MFMA-many weight rows side by side and the matrix instruction adds up K across lanes: every multiply of
a row that exists is wanted (the common way, each lane bringing its own slice of one row, wants the diagonal of the result only: 1 of 16),
one instruction serves all activation rows, and no lane exchange is left at the end.
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from kgen.errors import Problem
from kgen.spec.arch import ArchFacts
from kgen.spec.base import Arg, Param, layout_args, rule
from kgen.spec.linear import LinearSpec
from kgen.spec.problem import GemmShape, ceil_div

Mfma = Literal["16x16x32", "32x32x16"]

PIECE = 16  # elements of 8 bits in one 16-byte load; K and the row strides must be multiples of it
_ARGS = layout_args(
    ("const u8*", "weight"),
    ("const u8*", "act"),
    ("const T*", "bias"),
    ("T*", "out"),
    ("const f32*", "weight_scale"),
    ("const f32*", "act_scale"),
    ("u32", "M"),
    ("u32", "K"),
    ("u32", "weight_stride"),
    ("u32", "act_stride"),
    ("u32", "bias_stride"),
    ("u32", "groups"),
)


class WvSplitKQSpec(LinearSpec):
    """Parameters of one wvsplitkq kernel; see the module's docstring for the mathematics and docs/wvsplitkq.md for layouts."""

    family: ClassVar[str] = "wvsplitkq"
    template: ClassVar[str] = "wvsplitkq.hip.jinja"

    N: int = Param(1, ge=1, le=8, doc="activation rows")
    THRDS: int = Param(32, among=(32, 64), doc="lanes of a wave")
    YTILE: int = Param(2, among=(1, 2, 4, 8, 16, 32), doc="output features of a work-group")
    WvPrGrp: int = Param(4, ge=1, le=16, doc="waves per work-group; they split K between them")
    A_CHUNK: int = Param(16, among=(16, 32), doc="consecutive K elements one lane loads of a row, 1 byte each")
    UNRL: int = Param(2, among=(1, 2, 4), doc="chunks in flight per weight row and lane")
    MFMA: Mfma | None = Param(
        None, among=(None, *get_args(Mfma)), doc="shape of the fp8 matrix instruction; CDNA only, and needed there"
    )

    # ---- derived

    @property
    def lane_rows(self) -> int:
        """Rows side by side in a wave: as many as the matrix instruction takes, else 1."""
        return int(self.MFMA.split("x")[0]) if self.MFMA else 1

    @property
    def element(self) -> Literal["bf16", "fp16", "fp32", "e4m3fn", "e4m3fnuz"]:
        return "e4m3fnuz" if self.facts.fp8 == "fnuz" else "e4m3fn"

    @property
    def piece(self) -> int:
        return PIECE

    @property
    def row_tiles(self) -> int:
        """Accumulator tiles along M, each `lane_rows` rows."""
        return max(1, self.YTILE // self.lane_rows)

    @property
    def pieces(self) -> int:
        """16-byte loads of a chunk."""
        return self.A_CHUNK // PIECE

    @property
    def rows_per_group(self) -> int:
        return self.YTILE

    @property
    def slab(self) -> int:
        return self.threads // self.lane_rows * self.A_CHUNK

    @property
    def step(self) -> int:
        return self.slab * self.UNRL

    @property
    def static_lds(self) -> int:
        """LDS bytes: one fp32 sum per wave and output."""
        return 4 * self.WvPrGrp * self.N * self.YTILE

    # ---- rules

    @rule
    def fp8_exists(self, arch: ArchFacts) -> Problem | None:
        if arch.fp8:
            return None
        return Problem(
            ("arch",),
            f"{arch.name} has no fp8 instructions",
            "gfx942, gfx950, gfx1201, sm_90",
            "wvsplitk on bf16 weights",
        )

    @rule
    def matrix_where_it_is(self, arch: ArchFacts) -> Problem | None:
        if (self.MFMA is not None) == arch.mfma_fp8:
            return None
        if arch.mfma_fp8:
            return Problem(("MFMA",), "not given", f"{' or '.join(get_args(Mfma))} on {arch.name}", "MFMA = 16x16x32")
        return Problem(("MFMA",), str(self.MFMA), f"nothing: {arch.name} has no fp8 MFMA", "leave MFMA out")

    @rule
    def rows_fill_the_matrix(self, arch: ArchFacts) -> Problem | None:
        if self.YTILE % self.lane_rows == 0:
            return None
        allowed = f"a multiple of {self.lane_rows}, the rows that MFMA {self.MFMA} takes at once"
        return Problem(("YTILE", "MFMA"), str(self.YTILE), allowed, f"YTILE = {self.lane_rows}")

    @rule
    def weights_fit_registers(self, arch: ArchFacts) -> Problem | None:
        rows = self.row_tiles if self.MFMA else self.YTILE
        acts = 1 if self.MFMA else self.N
        weights = rows * self.UNRL * self.A_CHUNK // 4
        sums = self.lane_rows**2 // arch.wave * rows if self.MFMA else self.N * self.YTILE
        lanes = arch.simds_per_cu * arch.wave
        limit = min(arch.max_vgprs, arch.vgpr_file * lanes // max(self.threads, lanes)) - 16  # addresses and loop state
        widened = PIECE * self.N if arch.vendor == "nvidia" else 0  # a piece of every activation row in fp32
        used = weights + acts * self.A_CHUNK // 4 + sums + widened
        if used <= limit:
            return None
        found = (
            f"{weights} weight + {acts * self.A_CHUNK // 4} activation + {sums} accumulator registers per lane = {used}"
        )
        allowed = f"at most {limit} on {arch.name} with {self.threads} work-items"
        return Problem(("YTILE", "UNRL", "A_CHUNK", "N"), found, allowed, "lower UNRL first")

    # ---- launch

    @property
    def args(self) -> tuple[Arg, ...]:
        """Kernel arguments in launch order; strides in elements, scales as addresses of one fp32 each."""
        return _ARGS

    def lds_bytes(self, shape: GemmShape) -> int:
        return self.static_lds

    def additions(self, shape: GemmShape) -> int:
        chain = ceil_div(shape.K, self.slab) * self.A_CHUNK * (self.THRDS // self.lane_rows if self.MFMA else 1)
        lanes = 0 if self.MFMA else (self.THRDS - 1).bit_length()
        return chain + lanes + (self.WvPrGrp - 1) + 1 + 2  # waves, bias, two scales

    # ---- what the machine code should show

    @property
    def multiply_pattern(self) -> str:
        """Mnemonics (regular expression) that multiply weights with activations."""
        if self.MFMA:
            return rf"v_mfma_f32_{self.MFMA}_fp8_fp8"
        if self.facts.vendor == "nvidia":
            return r"FFMA|HFMA2(?!\.MMA)"
        return r"v_dot4_f32_fp8_fp8"

    @property
    def macs_per_step(self) -> int:
        """Useful multiply-adds of one lane in one trip of the main loop."""
        return self.A_CHUNK * self.UNRL * self.YTILE * self.N // self.lane_rows

    @property
    def multiplies_per_step(self) -> int:
        """How many multiplying instructions one trip holds."""
        if self.MFMA:  # 8 elements of K per lane and instruction
            return self.row_tiles * self.UNRL * self.A_CHUNK // 8
        return self.macs_per_step // (1 if self.facts.vendor == "nvidia" else 4)
