"""wvsplitkrc: a dense GEMM for 9 to 128 activation rows whose output has too few tiles to fill the chip.

    out[N, M] = act[N, K] @ weight[M, K].T + bias

M counts output features (weight rows), N activation rows, K the reduction. Matrix instructions multiply 16x16 tiles; K is cut into shards, one
work-group each, and the shards of a tile meet at an arrival counter: the last one to arrive adds up, rounds once and stores. With
DETERMINISTIC each shard stores its fp32 sums in a slice of its own and they are added in the order of the shards, so the bits do not depend on
who came when; without it all add into one slice with atomics. No group ever waits for another one, so any number of them may be launched.

The field N is the tile: the kernel takes any number of rows up to it and masks the rest, which it computes from the last row.
"""

from __future__ import annotations

from typing import ClassVar

from kgen.errors import Problem
from kgen.spec.arch import ArchFacts
from kgen.spec.base import Arg, Launch, Param, layout_args, rule
from kgen.spec.linear import PIECE, LinearSpec
from kgen.spec.problem import GemmShape, Workspace, ceil_div
from kgen.spec.tile import BLOCK_K, COUNT, additions_over, multiplies_of_block, multiply_pattern

MIN_ROWS, MAX_ROWS = (
    9,
    128,
)  # activation rows that the family is for; below, wvsplitk reads the weights as often and needs no workspace
_FETCHES = 12  # 16-byte pieces per lane in flight where they pass registers
_STATIC_LDS = {"nvidia": 48 * 1024}  # what a kernel may declare, where it is less than a group may take
_ARGS = layout_args(
    ("const T*", "weight"),
    ("const T*", "act"),
    ("const T*", "bias"),
    ("T*", "out"),
    ("f32*", "partial"),
    ("u32*", "counter"),
    ("u32", "M"),
    ("u32", "K"),
    ("u32", "weight_stride"),
    ("u32", "act_stride"),
    ("u32", "bias_stride"),
    ("u32", "rows"),
    ("u32", "shards"),
    ("u32", "groups"),
)


class WvSplitKrcSpec(LinearSpec):
    """Parameters of one wvsplitkrc kernel; see the module's docstring for the mathematics and docs/wvsplitkrc.md for layouts."""

    family: ClassVar[str] = "wvsplitkrc"
    template: ClassVar[str] = "wvsplitkrc.hip.jinja"

    N: int = Param(16, among=(16, 32, 64, 128), doc="activation rows at most; fewer are masked")
    THRDS: int = Param(32, among=(32, 64), doc="lanes of a wave")
    YTILE: int = Param(16, among=(16,), doc="weight rows of a wave: one matrix tile")
    WvPrGrp: int = Param(4, among=(2, 4, 8), doc="waves per work-group; they share what is staged in LDS")
    GrpsShrB: int = Param(
        1, among=(1, 2, 4, 8), doc="waves that share 16 weight rows, each with another slice of N; the peer's G"
    )
    CHUNKK: int = Param(1, among=(1, 2), doc="K elements of a shard: 512 / CHUNKK")
    DETERMINISTIC: bool = Param(
        False, doc="shards store their sums and the last arrival adds in their order; else atomic additions"
    )

    @classmethod
    def row_counts(cls) -> range:
        return range(MIN_ROWS, MAX_ROWS + 1)

    # ---- derived

    @property
    def shard(self) -> int:
        """K elements of a shard."""
        return 512 // self.CHUNKK

    @property
    def rows_per_group(self) -> int:
        return self.YTILE * self.WvPrGrp // self.GrpsShrB

    @property
    def staged_rows(self) -> int:
        """Rows that a group stages in LDS: weights and activations."""
        return self.rows_per_group + self.N

    @property
    def step(self) -> int:
        """K elements in LDS at a time: the whole shard where DMA brings them, else what registers and static LDS can hold."""
        step = self.shard
        while step > self.least_step and not self._holds(step):
            step //= 2
        return step

    def _holds(self, step: int) -> bool:
        in_flight = self.staged_rows * step // PIECE
        fetches = self.facts.lds_dma16 or in_flight <= _FETCHES * self.threads
        return fetches and 2 * self.staged_rows * step + COUNT <= self._lds_limit

    @property
    def _lds_limit(self) -> int:
        return _STATIC_LDS.get(self.facts.vendor, self.facts.lds_per_group)

    @property
    def least_step(self) -> int:
        """K elements that the group's waves stage of a tile with one 16-byte piece per lane."""
        return max(BLOCK_K, self.threads * PIECE // 16)

    @property
    def slab(self) -> int:
        """K elements of one block."""
        return BLOCK_K

    @property
    def wave_tiles(self) -> int:
        """16x16 tiles that a wave accumulates."""
        return max(1, self.N // 16 // self.GrpsShrB)

    @property
    def tile_registers(self) -> int:
        """Registers per lane of a 16x16 tile of fp32 sums."""
        return 256 // self.THRDS

    @property
    def batch(self) -> int:
        """Shards whose sums are loaded together when the last arrival adds them: 32 registers' worth."""
        return max(1, 32 // (self.wave_tiles * self.tile_registers))

    @property
    def static_lds(self) -> int:
        """LDS bytes: weights and activations of a step, and the count that the first lane tells the others."""
        return 2 * self.staged_rows * self.step + COUNT

    @property
    def same_bits(self) -> bool:
        return self.DETERMINISTIC

    @property
    def rows_tried(self) -> tuple[int, ...]:
        return (self.N, self.N // 2 + 1, self.N - 3)

    def workspace(self, shape: GemmShape) -> Workspace:
        """Scratch memory of a launch. The one function that says so: `fits`, the op and the tests ask here."""
        tiles = ceil_div(shape.M, self.rows_per_group)
        slices = tiles * (self.shards(shape) if self.DETERMINISTIC else 1)
        return Workspace(4 * slices * self.rows_per_group * self.N, 4 * tiles)

    def lds_bytes(self, shape: GemmShape) -> int:
        return self.static_lds

    def twins(self) -> tuple[WvSplitKrcSpec, ...]:
        """The kernel of the other order of addition, which the op may choose at run time."""
        return (self.model_copy(update={"DETERMINISTIC": not self.DETERMINISTIC}),)

    # ---- rules

    @rule
    def waves_share_evenly(self, arch: ArchFacts) -> Problem | None:
        if self.WvPrGrp % self.GrpsShrB == 0 and self.N // 16 % self.GrpsShrB == 0:
            return None
        found = (
            f"{self.GrpsShrB} waves to a weight tile, of {self.WvPrGrp} waves and {self.N // 16} tiles of activations"
        )
        return Problem(("GrpsShrB", "WvPrGrp", "N"), found, "a divisor of both", f"GrpsShrB = {min(self.N // 16, 4)}")

    @rule
    def sums_fit_registers(self, arch: ArchFacts) -> Problem | None:
        used, limit = self.wave_tiles * self.tile_registers, 64
        if used <= limit:
            return None
        found = f"{self.wave_tiles} tiles of {self.tile_registers} = {used} registers per lane for sums"
        return Problem(("N", "GrpsShrB"), found, f"at most {limit} on {arch.name}", "raise GrpsShrB")

    @rule
    def step_fits(self, arch: ArchFacts) -> Problem | None:
        if self.step <= self.shard and self._holds(self.step):
            return None
        found = f"{self.staged_rows} rows of {self.step}: {self.static_lds} bytes of LDS, {self.threads} work-items"
        allowed = f"at most {self._lds_limit} bytes on {arch.name} and {_FETCHES} loads per lane"
        return Problem(("N", "WvPrGrp", "GrpsShrB"), found, allowed, "lower N, or raise GrpsShrB")

    # ---- launch

    @property
    def args(self) -> tuple[Arg, ...]:
        """Kernel arguments in launch order. `rows` is the problem's N; `partial` and `counter` are the workspace."""
        return _ARGS

    @property
    def grid_rule(self) -> str:
        return f"one work-group per {self.rows_per_group} output features and {self.shard} elements of K"

    @property
    def grid_expr(self) -> str:
        return f"ceil_div(M, {self.rows_per_group}) * ceil_div(K, {self.shard})"

    def launch(self, shape: GemmShape, cu: int) -> Launch:
        groups = ceil_div(shape.M, self.rows_per_group) * self.shards(shape)
        return Launch((groups, 1, 1), self.block, 0)

    def fits(self, shape: GemmShape) -> Problem | None:
        if problem := super().fits(shape):
            return problem
        return self.workspace(shape).beyond_slot(
            ("M", "N", "K"), "torch: an output this large has tiles enough without shards"
        )

    def rows_problem(self, shape: GemmShape) -> Problem | None:
        return None if 1 <= shape.N <= self.N else Problem(("N",), str(shape.N), f"1 to {self.N} in {self.name}")

    def additions(self, shape: GemmShape) -> int:
        return additions_over(self.facts, self.shard) + self.shards(shape) + 1

    # ---- what the machine code should show

    @property
    def multiply_pattern(self) -> str:
        return multiply_pattern(self.facts)

    @property
    def macs_per_step(self) -> int:
        """Multiply-adds of one lane in one step: the wave's, spread over its lanes."""
        return self.step * self.wave_tiles * 256 // self.THRDS

    @property
    def multiplies_per_step(self) -> int:
        """How many multiplying instructions one step holds."""
        return self.step // BLOCK_K * self.wave_tiles * multiplies_of_block(self.facts)
