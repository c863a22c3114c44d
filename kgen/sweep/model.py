"""The measurer without a GPU: a kernel's time from its machine code, counted in the emulator, and the target's rates. Says `model`.

The emulator executes the real code object on a few tiles, twice: work per tile is the same for every tile, so two sizes give the counts of any
size exactly. Five limits are formed from them, and one start:

    memory  bytes of weights, activations and output at the peak bandwidth
    issue   vector instructions of the busiest CU, one after another on each of its SIMDs
    lds     LDS cycles of the busiest CU: every access, and every bank conflict
    lines   cache lines that its loads touch, at the rate of its vector caches; a load that uses half a line costs the whole one
    serial  what one wave waits for: its trips through the loop, each a memory latency
    start   a launch, and one latency more where activations are staged first

The time is (memory^4 + issue^4 + ...)^(1/4) + start: the largest limit rules, one close to it adds to it. Nothing is fitted. What it is worth
against published times is in docs/sweep.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from kgen.binary.isa import category
from kgen.errors import KgenError, SpecError
from kgen.spec.arch import arch_facts
from kgen.spec.base import KernelSpec
from kgen.spec.problem import ceil_div
from kgen.sweep.measure import check_odd
from kgen.sweep.prune import waves_per_simd
from kgen.sweep.records import TORCH, Built, Checked, DeviceState, Timed
from kgen.sweep.traffic import bytes_moved
from kgen.sweep.workload import Workload
from kgen.verify.devices import CheckOptions, EmulatedDevice
from kgen.verify.kinds import kind_of
from kgen.verify.run import check_kernel

SHARPNESS = 4  # how sharply limits meet: 1 would add them, infinity would take the largest
LATENCY_US = 0.8  # of a load that misses every cache, in a busy chip; assumed for all targets
LAUNCH_US = 2.0  # the same for every kernel, so of no weight in a ranking
_PROBE_M = 64  # output features of a probe where a spec does not say what a round is
ALIGNMENT = 256  # bytes; GPU allocators give at least this


@dataclass(frozen=True)
class Rates:
    """What a target does in time. CU is what HIP counts: two compute units on RDNA.

    ghz         boost clock of the part in kgen.spec.arch, vendor's product page
    valu        cycles of a vector instruction on its SIMD: 1 for a wave of 32 on RDNA, 4 for one of 64 on CDNA [isa]
    matrix      cycles of the target's matrix instruction: its multiply-adds over the vendor's peak rate per SIMD and cycle
    line_bytes  bytes a cycle from the vector caches of a CU [isa]
    lds_pools   LDS arrays of a CU that work at once
    """

    ghz: float
    valu: int
    matrix: int
    line_bytes: int
    lds_pools: int


RATES = {
    "gfx1151": Rates(2.9, 1, 32, 128, 2),
    "gfx1100": Rates(2.5, 1, 32, 128, 2),
    "gfx1201": Rates(2.92, 1, 16, 128, 2),
    "gfx942": Rates(2.1, 4, 16, 64, 1),
    "gfx950": Rates(2.4, 4, 16, 64, 1),
}


@dataclass(frozen=True)
class Counts:
    """What one CU's share of a launch does: wave instructions by kind, bytes, lines and LDS cycles. Fractions come from scaling."""

    kinds: dict[str, float]
    bytes_loaded: float
    lines64: float
    lds_passes: float
    lds_conflicts: float

    def combined(self, other: Counts, a: float, b: float) -> Counts:
        """a * self + b * other."""
        kinds = {
            k: a * self.kinds.get(k, 0) + b * other.kinds.get(k, 0) for k in self.kinds.keys() | other.kinds.keys()
        }
        names = ("bytes_loaded", "lines64", "lds_passes", "lds_conflicts")
        return Counts(kinds, *(a * getattr(self, name) + b * getattr(other, name) for name in names))

    def of(self, *beginnings: str) -> float:
        """Instructions of the kinds that begin so."""
        return sum(count for kind, count in self.kinds.items() if kind.startswith(beginnings))


@dataclass(frozen=True)
class Terms:
    """The limits in microseconds, and the waves that the launch puts on a SIMD."""

    memory: float
    issue: float
    lds: float
    lines: float
    serial: float
    start: float
    waves: float

    @property
    def us(self) -> float:
        """The model's time."""
        limits = (self.memory, self.issue, self.lds, self.lines, self.serial)
        return float(sum(limit**SHARPNESS for limit in limits) ** (1 / SHARPNESS) + self.start)

    def as_dict(self) -> dict[str, float]:
        """For the store."""
        return {
            name: round(getattr(self, name), 4)
            for name in ("memory", "issue", "lds", "lines", "serial", "start", "waves")
        }


@dataclass(frozen=True)
class ModelPlan:
    """Makes a ModelMeasurer in a worker."""

    arch: str

    def __call__(self) -> ModelMeasurer:
        return ModelMeasurer(self.arch)


class ModelMeasurer:
    """Ranks kernels of an AMD target; every number it gives is of kind `model`. Raises SpecError for a target that is not emulated."""

    kind: Literal["model"] = "model"

    def __init__(self, arch: str):
        if arch not in RATES:
            known = ", ".join(RATES)
            raise SpecError(
                f"no model of {arch}: it needs emulated machine code\n  try: --arch one of {known}, or a GPU"
            )
        self.facts = arch_facts(arch)
        self._device = _Counting(arch)
        self._counts: dict[tuple[str, str], tuple[Counts, Counts, int]] = {}

    def device(self) -> DeviceState:
        """Not a device: its name says so."""
        return DeviceState(
            f"model of {self.facts.part} ({self.facts.name})",
            self.facts.cu,
            f"{RATES[self.facts.name].ghz} GHz assumed",
        )

    def check(self, kernel: Built, workloads: Sequence[Workload]) -> list[Checked]:
        """Odd sizes in the emulator; every loop of the kernel runs there, so that real sizes have nothing new to show."""
        try:
            odd = check_odd(kernel, self._device)
        except KgenError as error:
            odd = Checked("", False, str(error).splitlines()[0])
        return [odd, *(Checked(w.key, odd.ok, "by its odd sizes") for w in workloads if odd.ok)]

    def time(self, workload: Workload, kernels: Sequence[Built], pick: str, rounds: int) -> Timed:
        """The model's time of each kernel; torch has none."""
        us, details = {}, {}
        for kernel in kernels:
            terms = self.terms(kernel, workload)
            us[kernel.name], details[kernel.name] = (terms.us,), terms.as_dict()
        us.pop(TORCH, None)
        floor = bytes_moved(kernels[0].entry.family, self.facts.name, workload) / self.facts.bandwidth_gbs / 1e3
        return Timed(workload.key, "model", self.device(), us, floor, details)

    def terms(self, kernel: Built, workload: Workload) -> Terms:
        """The limits of one kernel on one problem."""
        spec: Any = kernel.spec
        facts, rates, shape = self.facts, RATES[self.facts.name], workload.shape
        tiles = spec.tiles(shape)
        layers = tiles / ceil_div(shape.M, spec.rows_per_group)  # that M is walked: once, or for every block or token
        share = self.counts(kernel, workload, ceil_div(tiles, facts.cu) / layers * spec.rows_per_group)
        waves = max(1, spec.threads // facts.wave)
        groups = max(1, int(waves_per_simd(kernel.entry, spec, facts.cu, workload) * facts.simds_per_cu // waves))
        resident = min(groups, spec.groups_per_cu) if spec.persistent else groups
        rounds = ceil_div(tiles, facts.cu * resident)
        trips = rounds * spec.wave_trips(shape)
        cycle_us = 1e-3 / rates.ghz
        matrix, vector = share.of("matrix"), share.of("vector", "multiply")
        issue = (rates.valu * vector + rates.matrix * matrix) / facts.simds_per_cu
        lds = (share.lds_passes + share.lds_conflicts) / rates.lds_pools
        return Terms(
            memory=bytes_moved(spec.family, facts.name, workload) / facts.bandwidth_gbs / 1e3,
            issue=issue * cycle_us,
            lds=lds * cycle_us,
            lines=share.lines64 * 64 / rates.line_bytes * cycle_us,
            serial=trips * LATENCY_US,
            start=LAUNCH_US + (LATENCY_US if share.of("barrier") else 0.0),
            waves=resident * waves / facts.simds_per_cu,
        )

    def counts(self, kernel: Built, workload: Workload, rows: float) -> Counts:
        """What a CU does that makes `rows` output features of the problem, of each block or token if it has several."""
        spec: Any = kernel.spec
        key = (kernel.name, replace(workload, shape=replace(workload.shape, M=1)).key)
        if key not in self._counts:
            unit = spec.rows_per_group * (spec.groups_per_cu if spec.persistent else 1)
            one, two = (self._run(kernel, replace(workload.shape, M=m)) for m in (unit, 2 * unit))
            self._counts[key] = one, two, unit
        one, two, unit = self._counts[key]
        more = rows / unit - 1  # units beyond the first; below zero for less than one
        return one.combined(two, 1 - more, more)

    def _run(self, kernel: Built, shape: Any) -> Counts:
        case = kind_of(kernel.spec).probe(kernel.spec, shape)
        (result,) = check_kernel(
            kernel.spec, kernel.image, self._device, [case], CheckOptions(races=False, counts=True, bits=False)
        )
        if not result.ok or result.traffic is None:
            raise KgenError(f"{kernel.name} at {shape}: {result.why}")
        kinds: Counter[str] = Counter()
        for mnemonic, count in self._device.ops.items():
            kinds[category(mnemonic.lower())] += count
        traffic = result.traffic
        return Counts(
            dict(kinds),
            traffic["bytes_loaded"],
            traffic["lines64"],
            traffic["lds_passes"],
            traffic["lds_conflict_cycles"],
        )


class _Counting(EmulatedDevice):
    """The emulated device of kgen.verify, which also keeps the mnemonics of the last launch."""

    def __init__(self, arch: str):
        super().__init__(arch)
        self.ops: Counter[str] = Counter()

    def load(self, spec: KernelSpec, image: bytes) -> Any:
        loaded_spec, module = super().load(spec, image)
        return loaded_spec, _CountingModule(module, self)


class _CountingModule:
    """A module of the emulator whose launches count mnemonics, on buffers that begin where a GPU's allocations do."""

    def __init__(self, module: Any, device: _Counting):
        self._module, self._device = module, device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def run(self, kernel: str, grid: Any, block: Any, args: Any, lds: int, options: Any) -> Any:
        placed = [_aligned(arg) if isinstance(arg, np.ndarray) else arg for arg in args]
        counting = replace(options, count_ops=options.count_memory)
        stats = self._module.run(kernel, grid, block, placed, lds, counting)
        for arg, copy in zip(args, placed, strict=True):
            if copy is not arg and arg.flags.writeable:
                arg[...] = copy
        self._device.ops = stats.ops
        return stats


def _aligned(array: Any) -> Any:
    """A copy at a multiple of ALIGNMENT bytes: where a row begins in a cache line decides how many lines it touches."""
    space = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -space.ctypes.data % ALIGNMENT
    copy = space[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    copy.flags.writeable = array.flags.writeable
    return copy
