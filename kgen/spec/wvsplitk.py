"""wvsplitk: a dense skinny GEMM for 1 to 8 activation rows.

    out[N, M] = act[N, K] @ weight[M, K].T + bias

M counts output features (weight rows), N activation rows, K the reduction; torch's linear names them the other way. A wave streams YTILE
weight rows and its lanes split K, so every weight byte is read once and the activations are the only reuse: they come from LDS (whole or a
window of K) or straight from the cache. Accumulation is fp32, one rounding to dtype at the end; every output is summed in an order that only
the spec decides, so results are the same bits on every run.

On CDNA the 4x4x4 matrix instruction multiplies four weight rows with four activation rows in every group of four lanes, so a wave's lanes
hold four rows side by side (`lane_rows`); elsewhere each lane works on one row at a time with 2-element dot products. With MATRIX16 (CDNA and
NVIDIA) 2 to 16 rows lie side by side, the lanes of each split K, and activation rows are columns of the matrix instruction with 16 rows: the
time hardly grows with N. Where M is too small to make enough waves, K_WAVES waves share the K of their rows,
and on sm_90 those of K_GROUPS work-groups, so that a group needs only its share of the activations. Small problems are mostly beginnings
and ends: EARLY lets those of one kernel and the next overlap.
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from kgen.errors import Problem
from kgen.spec.arch import ArchFacts
from kgen.spec.base import LAYER_LDS, Launch, Param, early_problem, rule
from kgen.spec.linear import PIECE, LinearSpec
from kgen.spec.problem import GemmShape, ceil_div

Staging = Literal["lds", "window", "global"]

_CHAINS = 4  # matrix instructions of a wave that need not wait for each other, where a trip has as many

_WINDOW_BYTES = 16 * 1024  # LDS of a window: small enough that four groups share a CU's 64 KiB


class WvSplitKSpec(LinearSpec):
    """Parameters of one wvsplitk kernel; see the module's docstring for the mathematics and docs/wvsplitk.md for layouts."""

    family: ClassVar[str] = "wvsplitk"
    template: ClassVar[str] = "wvsplitk.hip.jinja"

    N: int = Param(1, ge=1, le=8, doc="activation rows; each adds YTILE accumulators per lane")
    THRDS: int = Param(32, among=(32, 64), doc="lanes of a wave, which split K between them")
    YTILE: int = Param(
        1, among=(1, 2, 3, 4, 5, 6, 7, 8, 16, 32), doc="weight rows one wave works on at once; 16 and 32 with MATRIX16"
    )
    WvPrGrp: int = Param(16, ge=1, le=32, doc="waves per work-group; they share the staged activations")
    K_WAVES: int = Param(
        1,
        among=(1, 2, 4, 8, 16, 32),
        named=False,
        doc="waves of a group that share the K of their rows; the others have rows of their own",
    )
    K_GROUPS: int = Param(
        1, among=(1, 2, 4, 8), named=False, doc="work-groups of a cluster, whose waves share the K of their rows; sm_90"
    )
    A_CHUNK: int = Param(8, among=(8, 16, 32), doc="consecutive K elements one lane loads of a row, 2 bytes each")
    UNRL: int = Param(2, among=(1, 2, 4, 8), doc="slabs of THRDS lanes x A_CHUNK in flight per weight row")
    STAGING: Staging = Param(
        "lds", among=get_args(Staging), doc="activations: whole in LDS, a window of K in LDS, or from global memory"
    )
    MATRIX16: bool = Param(
        False, doc="multiply by the matrix instruction that takes 16 weight rows at once; CDNA and NVIDIA"
    )
    EARLY: bool = Param(
        False,
        doc="starts while the kernel before it ends, asks for its first weights to be brought to L2, and only then waits; sm_90",
    )
    K: int | None = Param(
        None, ge=PIECE, le=1 << 20, doc="reduction length fixed at compile time; trip counts and LDS become constants"
    )

    # ---- derived

    @property
    def lane_rows(self) -> int:
        """Weight rows side by side in a wave; with MATRIX16 16 on CDNA, and 8 on NVIDIA or as few as a wave has, 4 or 2."""
        if not self.MATRIX16:
            return super().lane_rows
        if self.facts.vendor == "nvidia":
            return 8 if self.YTILE >= 8 else 4 if self.YTILE >= 4 else 2
        return 16

    @property
    def k_lanes(self) -> int:
        """Lanes that share a row and split K."""
        return self.THRDS // self.lane_rows

    @property
    def products(self) -> int:
        """Matrix instructions of MATRIX16 for a piece and all activation rows; see templates/prelude/nvidia_rows.h.jinja."""
        if self.facts.vendor == "nvidia":
            return ceil_div(self.N, self.lane_rows // 2)
        return 1 if self.facts.matrix == "mfma_16x16x32" else 2

    @property
    def act_pieces(self) -> int:
        """Pieces of activations that MATRIX16 multiplies with one of weights."""
        return self.products if self.facts.vendor == "nvidia" else 1

    @property
    def slab(self) -> int:
        """K elements that the lanes of a row cover with one chunk each."""
        return self.k_lanes * self.A_CHUNK

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
    def sums_per_tile(self) -> int:
        """Registers per lane for one accumulator tile."""
        return 4 * self.act_pieces if self.MATRIX16 else self.lane_rows

    @property
    def partials(self) -> int:
        """Independent sums per output, where a lane would otherwise wait for its own last multiplication."""
        if self.MATRIX16:
            return min(self.UNRL, max(1, _CHAINS // max(1, self.row_tiles * self.act_pieces)))
        return 2 if self.lane_rows == 1 and self.N * self.YTILE == 1 else 1

    @property
    def rows_per_wave(self) -> int:
        return self.YTILE

    @property
    def rows_per_group(self) -> int:
        """Output features of one work-group's tile."""
        return self.WvPrGrp // self.K_WAVES * self.YTILE

    @property
    def fixed_k(self) -> int | None:
        return self.K

    @property
    def window_k(self) -> int:
        """K elements of a window: as many whole steps of all waves that share K as _WINDOW_BYTES hold for N rows, at least one."""
        trip = self.step * self.K_WAVES
        return max(1, _WINDOW_BYTES // (2 * self.N * trip)) * trip

    @property
    def window(self) -> int | None:
        return self.window_k if self.STAGING == "window" else None

    @property
    def k_sharers(self) -> int:
        """Waves that share the K of their rows, of all work-groups that do."""
        return self.K_WAVES * self.K_GROUPS

    @property
    def shared_step(self) -> int | None:
        return self.step * self.k_sharers if self.k_sharers > 1 else None

    @property
    def one_trip(self) -> bool:
        """Whether K is fixed and each wave has one whole trip at most: then there is no loop, and no code for what is left."""
        whole = self.K is not None and self.K % self.step == 0 and self.K <= self.step * self.k_sharers
        return whole and self.STAGING != "window"

    @property
    def weight_vgprs(self) -> int:
        """Registers per lane for the weights of one trip; two 16-bit elements share one."""
        return self.row_tiles * self.UNRL * self.A_CHUNK // 2

    @property
    def exchange_bytes(self) -> int:
        """LDS in which the sums of waves that share K meet, twice, and those of a group where groups share it too."""
        if self.k_sharers == 1:
            return 0
        whole = self.rows_per_group * self.N if self.K_GROUPS > 1 else 0
        return 4 * (2 * self.WvPrGrp * self.YTILE * self.N + whole)

    @property
    def static_lds(self) -> int:
        """LDS bytes known at compile time."""
        staged = self.window_k if self.STAGING == "window" else self.K if self.STAGING == "lds" and self.K else 0
        return 2 * self.N * staged + self.exchange_bytes

    # ---- rules

    @rule
    def matrix_where_it_is(self, arch: ArchFacts) -> Problem | None:
        if not self.MATRIX16 or not arch.matrix.startswith("wmma"):
            return None
        found = f"true: on {arch.name} the lanes of the matrix instruction do not split K"
        return Problem(("MATRIX16",), found, "false; CDNA and NVIDIA have it", "leave MATRIX16 out")

    @rule
    def matrix_takes_pieces(self, arch: ArchFacts) -> Problem | None:
        if not self.MATRIX16 or self.A_CHUNK == PIECE:
            return None
        allowed = f"{PIECE} with MATRIX16: the lanes of a row read {2 * self.k_lanes * PIECE} bytes side by side"
        return Problem(("A_CHUNK", "MATRIX16"), str(self.A_CHUNK), allowed, f"A_CHUNK = {PIECE}, and a larger UNRL")

    @rule
    def many_rows_need_the_matrix(self, arch: ArchFacts) -> Problem | None:
        if self.YTILE <= 8 or self.MATRIX16:
            return None
        return Problem(("YTILE", "MATRIX16"), f"{self.YTILE} without MATRIX16", "at most 8", "YTILE = 8, or MATRIX16")

    @rule
    def waves_divide_evenly(self, arch: ArchFacts) -> Problem | None:
        if self.WvPrGrp % self.K_WAVES == 0:
            return None
        found = f"{self.K_WAVES} of {self.WvPrGrp} waves"
        return Problem(("K_WAVES", "WvPrGrp"), found, "a divisor of WvPrGrp", "K_WAVES = 1")

    @rule
    def groups_can_meet(self, arch: ArchFacts) -> Problem | None:
        if self.K_GROUPS == 1 or arch.clusters:
            return None
        found = f"{self.K_GROUPS}: work-groups on {arch.name} do not read each other's LDS"
        return Problem(("K_GROUPS",), found, "1; sm_90 has clusters", "K_WAVES")

    @rule
    def groups_share_one_tile(self, arch: ArchFacts) -> Problem | None:
        if self.K_GROUPS == 1 or self.STAGING == "global":
            return None
        found = f"{self.K_GROUPS} with {self.STAGING}: a group needs its share of K alone"
        return Problem(("K_GROUPS", "STAGING"), found, "STAGING = global", "STAGING = global")

    @rule
    def kernels_can_overlap(self, arch: ArchFacts) -> Problem | None:
        return early_problem(arch) if self.EARLY else None

    @rule
    def rows_fill_the_matrix(self, arch: ArchFacts) -> Problem | None:
        if self.YTILE % self.lane_rows == 0 or self.matrix_where_it_is(arch):
            return None
        if self.MATRIX16:
            sizes = "2, 4, 8, 16 or 32" if arch.vendor == "nvidia" else "16 or 32"
            return Problem(
                ("YTILE", "MATRIX16"), str(self.YTILE), f"{sizes} with MATRIX16 on {arch.name}", "YTILE = 16"
            )
        allowed = f"a multiple of {self.lane_rows} on {arch.name}, whose matrix instruction takes {self.lane_rows} rows at once"
        return Problem(("YTILE",), str(self.YTILE), allowed, f"YTILE = {self.lane_rows}")

    @rule
    def weights_fit_registers(self, arch: ArchFacts) -> Problem | None:
        lanes = arch.simds_per_cu * arch.wave
        share = arch.vgpr_file * lanes // max(self.threads, lanes)  # of each wave of the group
        budget = min(arch.max_vgprs, share // arch.vgpr_granule * arch.vgpr_granule)
        act = 4 * (self.act_pieces * self.UNRL if self.MATRIX16 else self.act_tiles * self.pieces)
        sums = (1 if self.MATRIX16 else self.act_tiles) * self.row_tiles * self.partials * self.sums_per_tile
        used = self.weight_vgprs + act + sums
        kept = 16 + (2 * self.row_tiles if self.MATRIX16 else 0) + (8 if self.k_sharers > 1 else 0)
        limit = budget - kept  # loop state, addresses of each lane, what finds the sums of other waves
        if used <= limit:
            return None
        found = f"{self.weight_vgprs} weight + {act} activation + {sums} accumulator registers per lane = {used}"
        allowed = f"at most {limit} on {arch.name} with {self.threads} work-items"
        return Problem(
            ("YTILE", "UNRL", "A_CHUNK", "N"), found, allowed, "lower UNRL first; it costs the least bandwidth"
        )

    @rule
    def static_lds_fits(self, arch: ArchFacts) -> Problem | None:
        if self.static_lds <= arch.static_lds:
            return None
        if self.STAGING == "global":
            what = f"{self.exchange_bytes} bytes of LDS for the sums of {self.WvPrGrp} waves"
            return Problem(
                ("WvPrGrp", "YTILE", "N"), what, f"at most {arch.static_lds} on {arch.name}", "lower WvPrGrp"
            )
        what = f"{self.N} rows of {self.K if self.STAGING == 'lds' else self.window_k} elements = {self.static_lds} bytes of LDS"
        if self.k_sharers > 1:
            what += f", {self.exchange_bytes} of them for sums"
        hint = "STAGING = window" if self.STAGING == "lds" else "lower UNRL or A_CHUNK"
        return Problem(("STAGING", "K", "N"), what, f"at most {arch.static_lds} on {arch.name}", hint)

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
    def persistent(self) -> bool:
        """Whether groups walk over several tiles, so that staging the activations once pays."""
        return self.STAGING != "global"

    @property
    def lds_expr(self) -> str:
        """Bytes of dynamic LDS as an expression of M, N and K."""
        return "2 * N * K" if self.STAGING == "lds" and self.K is None else "0"

    def dynamic_lds(self, shape: GemmShape) -> int:
        return 2 * shape.N * shape.K if self.STAGING == "lds" and self.K is None else 0

    def lds_bytes(self, shape: GemmShape) -> int:
        return self.static_lds + self.dynamic_lds(shape)

    @property
    def grid_rule(self) -> str:
        return (
            f"clusters of {self.K_GROUPS}, one per {self.rows_per_group} output features"
            if self.K_GROUPS > 1
            else super().grid_rule
        )

    @property
    def grid_expr(self) -> str:
        return super().grid_expr if self.K_GROUPS == 1 else f"{self.K_GROUPS} * {super().grid_expr}"

    def launch(self, shape: GemmShape, cu: int) -> Launch:
        launch = super().launch(shape, cu)
        groups = launch.grid[0] * self.K_GROUPS
        # A router starts beside the experts that it is for, and asks for their split of a CU's memory.
        return Launch((groups, 1, 1), launch.block, launch.lds_bytes, self.EARLY, LAYER_LDS)

    def slabs_of_wave(self, shape: GemmShape) -> int:
        """The most slabs that one wave adds up: every k_sharers-th trip, and of what is left every k_sharers-th slab."""
        slabs = ceil_div(shape.K, self.slab)
        if self.k_sharers == 1:
            return slabs
        if self.MATRIX16:  # what is left is a trip like the others
            return min(slabs, self.wave_trips(shape) * self.UNRL)
        left = ceil_div(shape.K % self.step, self.slab)
        return ceil_div(shape.K // self.step, self.k_sharers) * self.UNRL + ceil_div(left, self.k_sharers)

    def additions(self, shape: GemmShape) -> int:
        # Of a lane; the matrix instruction adds the products of four lanes to one sum, on NVIDIA of half their pieces.
        halves = 2 if self.facts.vendor == "nvidia" else 1
        chain = self.slabs_of_wave(shape) * (4 * PIECE // halves if self.MATRIX16 else self.A_CHUNK)
        apart = self.k_lanes // 4 * halves if self.MATRIX16 else self.k_lanes  # sums of a row
        lanes = (apart - 1).bit_length()
        return chain + (self.partials - 1) + lanes + (self.K_WAVES - 1) + (self.K_GROUPS - 1) + 1

    # ---- what the machine code should show

    @property
    def macs_per_step(self) -> int:
        """Useful multiply-adds of one lane in one trip of the main loop."""
        return self.A_CHUNK * self.UNRL * self.YTILE * self.N // self.lane_rows

    @property
    def multiply_pattern(self) -> str:
        if self.MATRIX16:
            return "HMMA" if self.facts.vendor == "nvidia" else r"v_mfma_f32_16x16x(16|32)"
        return super().multiply_pattern

    @property
    def multiplies_per_step(self) -> int:
        """How many of those one trip holds."""
        if self.MATRIX16:
            return self.row_tiles * self.UNRL * self.products
        if self.lane_rows == 4:  # K of 4 per instruction
            return self.act_tiles * self.row_tiles * self.UNRL * self.A_CHUNK // 4
        per_mac = 1 if self.facts.vendor == "nvidia" else 2
        return self.macs_per_step // per_mac
