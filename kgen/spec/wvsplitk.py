"""wvsplitk: a dense skinny GEMM for 1 to 8 activation rows.

    out[N, M] = act[N, K] @ weight[M, K].T + bias

M counts output features (weight rows), N activation rows, K the reduction; torch's linear names them the other way. A wave streams YTILE
weight rows and its lanes split K, so every weight byte is read once and the activations are the only reuse: they come from LDS (whole or a
window of K) or straight from the cache. Accumulation is fp32, one rounding to dtype at the end; every output is summed in an order that only
the spec decides, so results are the same bits on every run.

On CDNA the 4x4x4 matrix instruction multiplies four weight rows with four activation rows in every group of four lanes, so a wave's lanes
hold four rows side by side (`lane_rows`); elsewhere each lane works on one row at a time with 2-element dot products.
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from kgen.errors import Problem
from kgen.spec.arch import ArchFacts
from kgen.spec.base import Arg, KernelSpec, Launch, Param, layout_args, rule
from kgen.spec.problem import GemmShape, ceil_div

Staging = Literal["lds", "window", "global"]

PIECE = 8  # elements of 16 bits in one 16-byte load; K and the row strides must be multiples of it
_WINDOW_BYTES = 16 * 1024  # LDS of a window: small enough that four groups share a CU's 64 KiB
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


class WvSplitKSpec(KernelSpec):
    """Parameters of one wvsplitk kernel; see the module's docstring for the mathematics and docs/wvsplitk.md for layouts."""

    family: ClassVar[str] = "wvsplitk"
    template: ClassVar[str] = "wvsplitk.hip.jinja"

    N: int = Param(1, ge=1, le=8, doc="activation rows; each adds YTILE accumulators per lane")
    THRDS: int = Param(32, among=(32, 64), doc="lanes of a wave, which split K between them")
    YTILE: int = Param(1, ge=1, le=8, doc="weight rows one wave works on at once")
    WvPrGrp: int = Param(16, ge=1, le=32, doc="waves per work-group; they share the staged activations")
    A_CHUNK: int = Param(8, among=(8, 16, 32), doc="consecutive K elements one lane loads of a row, 2 bytes each")
    UNRL: int = Param(2, among=(1, 2, 4, 8), doc="slabs of THRDS lanes x A_CHUNK in flight per weight row")
    STAGING: Staging = Param(
        "lds", among=get_args(Staging), doc="activations: whole in LDS, a window of K in LDS, or from global memory"
    )
    K: int | None = Param(
        None, ge=PIECE, le=1 << 20, doc="reduction length fixed at compile time; trip counts and LDS become constants"
    )

    # ---- derived

    @property
    def lane_rows(self) -> int:
        """Weight rows (and activation rows) side by side in a wave: 4 where the 4x4x4 matrix instruction multiplies, else 1."""
        return 4 if self.facts.mfma_4x4x4 else 1

    @property
    def threads(self) -> int:
        """Work-items of a group."""
        return self.THRDS * self.WvPrGrp

    @property
    def slab(self) -> int:
        """K elements that the lanes of a wave cover with one chunk each."""
        return self.THRDS // self.lane_rows * self.A_CHUNK

    @property
    def step(self) -> int:
        """K elements of one trip of the main loop."""
        return self.slab * self.UNRL

    @property
    def pieces(self) -> int:
        """16-byte loads of a chunk."""
        return self.A_CHUNK // PIECE

    @property
    def row_tiles(self) -> int:
        """Accumulator tiles along M, each `lane_rows` rows."""
        return self.YTILE // self.lane_rows

    @property
    def act_tiles(self) -> int:
        """Accumulator tiles along N, each `lane_rows` activation rows; rows beyond N repeat the last and are not stored."""
        return ceil_div(self.N, self.lane_rows)

    @property
    def partials(self) -> int:
        """Independent sums per output: two where a lane would otherwise wait for its own single accumulator."""
        return 2 if self.lane_rows == 1 and self.N * self.YTILE == 1 else 1

    @property
    def rows_per_group(self) -> int:
        """Output features of one work-group's tile."""
        return self.WvPrGrp * self.YTILE

    @property
    def window(self) -> int:
        """K elements of a window: as many whole steps as _WINDOW_BYTES hold for N rows, at least one."""
        return max(1, _WINDOW_BYTES // (2 * self.N * self.step)) * self.step

    @property
    def weight_vgprs(self) -> int:
        """Registers per lane for the weights of one trip; two 16-bit elements share one."""
        return self.row_tiles * self.UNRL * self.A_CHUNK // 2

    @property
    def static_lds(self) -> int:
        """LDS bytes known at compile time."""
        if self.STAGING == "window":
            return 2 * self.N * self.window
        return 2 * self.N * self.K if self.STAGING == "lds" and self.K else 0

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

    @rule
    def rows_fill_the_matrix(self, arch: ArchFacts) -> Problem | None:
        if self.YTILE % self.lane_rows == 0:
            return None
        allowed = f"a multiple of {self.lane_rows} on {arch.name}, whose matrix instruction takes {self.lane_rows} rows at once"
        return Problem(("YTILE",), str(self.YTILE), allowed, f"YTILE = {self.lane_rows}")

    @rule
    def weights_fit_registers(self, arch: ArchFacts) -> Problem | None:
        budget = min(
            arch.max_vgprs,
            arch.vgpr_file * arch.simds_per_cu * arch.wave // max(self.threads, arch.simds_per_cu * arch.wave),
        )
        act = self.act_tiles * self.pieces * 4
        sums = self.act_tiles * self.row_tiles * self.partials * self.lane_rows
        used = self.weight_vgprs + act + sums
        limit = budget - 16  # addresses and loop state
        if used <= limit:
            return None
        found = f"{self.weight_vgprs} weight + {act} activation + {sums} accumulator registers per lane = {used}"
        allowed = f"at most {limit} on {arch.name} with {self.threads} work-items"
        return Problem(
            ("YTILE", "UNRL", "A_CHUNK", "N"), found, allowed, "lower UNRL first; it costs the least bandwidth"
        )

    @rule
    def static_lds_fits(self, arch: ArchFacts) -> Problem | None:
        if self.static_lds <= arch.lds_per_group:
            return None
        what = f"{self.N} rows of {self.K if self.STAGING == 'lds' else self.window} elements = {self.static_lds} bytes of LDS"
        hint = "STAGING = window" if self.STAGING == "lds" else "lower UNRL or A_CHUNK"
        return Problem(("STAGING", "K", "N"), what, f"at most {arch.lds_per_group} on {arch.name}", hint)

    @rule
    def fixed_k_is_whole_pieces(self, arch: ArchFacts) -> Problem | None:
        if self.K is None or self.K % PIECE == 0:
            return None
        return Problem(
            ("K",),
            str(self.K),
            f"a multiple of {PIECE}: rows are read 16 bytes at a time",
            f"K = {self.K // PIECE * PIECE}",
        )

    # ---- launch

    @property
    def args(self) -> tuple[Arg, ...]:
        """Kernel arguments in launch order; strides in elements, bias null for none, bias_stride 0 for a bias of [M]."""
        return _ARGS

    @property
    def block(self) -> tuple[int, int, int]:
        """Work-items of a group per dimension."""
        return (self.threads, 1, 1)

    @property
    def persistent(self) -> bool:
        """Whether groups walk over several tiles, so that staging the activations once pays."""
        return self.STAGING != "global"

    @property
    def groups_per_cu(self) -> int:
        """Groups per CU of a persistent launch: together 16 waves, four for each SIMD."""
        return max(1, 16 // self.WvPrGrp)

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
        return "2 * N * K" if self.STAGING == "lds" and self.K is None else "0"

    def launch(self, shape: GemmShape, cu: int) -> Launch:
        """Geometry for a shape that fits, on a device of `cu` CUs."""
        groups = ceil_div(shape.M, self.rows_per_group)
        if self.persistent:
            groups = ceil_div(groups, ceil_div(groups, cu * self.groups_per_cu))
        dynamic = 2 * shape.N * shape.K if self.STAGING == "lds" and self.K is None else 0
        return Launch((groups, 1, 1), self.block, dynamic)

    def fits(self, shape: GemmShape) -> Problem | None:
        """Why this kernel cannot do this shape, or None. The one place that decides: table, op, sweep and tests all ask here."""
        if shape.N != self.N:
            return Problem(("N",), str(shape.N), f"{self.N}, fixed in {self.name}")
        if shape.K % PIECE or shape.K < PIECE:
            return Problem(
                ("K",), str(shape.K), f"a multiple of {PIECE}: rows are read 16 bytes at a time", "pad K, or use torch"
            )
        if self.K is not None and shape.K != self.K:
            return Problem(("K",), str(shape.K), f"{self.K}, fixed in {self.name}")
        if shape.M < 1 or shape.M >= 1 << 31:
            return Problem(("M",), str(shape.M), "1 to 2^31 - 1")
        lds = max(self.static_lds, 2 * shape.N * shape.K if self.STAGING == "lds" else 0)
        if lds > self.facts.lds_per_group:
            found = f"{shape.N} rows of {shape.K} = {lds} bytes of LDS"
            return Problem(
                ("N", "K"),
                found,
                f"at most {self.facts.lds_per_group} on {self.arch}",
                "a kernel with STAGING window or global",
            )
        return None

    # ---- what the machine code should show

    @property
    def macs_per_step(self) -> int:
        """Useful multiply-adds of one lane in one trip of the main loop."""
        return self.A_CHUNK * self.UNRL * self.YTILE * self.N // self.lane_rows

    @property
    def multiply_pattern(self) -> str:
        """Mnemonics (regular expression) that multiply weights with activations."""
        if self.lane_rows == 4:
            return r"v_mfma_f32_4x4x4"
        if self.facts.vendor == "nvidia":
            return r"FFMA|HFMA2(?!\.MMA)"  # HFMA2.MMA only loads constants
        return r"v_(dual_)?dot2(acc|c)?_f32_(f16|bf16)"

    @property
    def multiplies_per_step(self) -> int:
        """How many of those one trip holds."""
        if self.lane_rows == 4:  # K of 4 per instruction
            return self.act_tiles * self.row_tiles * self.UNRL * self.A_CHUNK // 4
        per_mac = 1 if self.facts.vendor == "nvidia" else 2
        return self.macs_per_step // per_mac
