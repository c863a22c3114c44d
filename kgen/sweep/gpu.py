"""The measurer of the GPU that is here: kgen.verify for odd sizes, kgen.bench for operands, contenders, verdicts and times.

Candidates are timed through the family's own op, with everything that the op does around a kernel: a library that answers the one
kernel it was told, whatever the table says, stands behind the op while a graph is captured.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kgen.build.manifest import Compiler, Manifest
from kgen.errors import KgenError, MissingPieceError
from kgen.spec.arch import arch_facts
from kgen.sweep.clocks import clock_state
from kgen.sweep.measure import check_odd
from kgen.sweep.records import TORCH, Built, Checked, DeviceState, Timed
from kgen.sweep.traffic import weight_bytes
from kgen.sweep.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kgen.bench.contest import Contest
    from kgen.runtime.driver import Driver

_FLOOR_REPLAYS = 5
CLOCK_SECONDS = 5.0


def no_gpu(arch: str) -> MissingPieceError:
    """What a sweep that measures lacks here."""
    return MissingPieceError(
        f"times need a GPU of target {arch}, and torch sees none here\n  try: --model, which ranks AMD kernels without one"
    )


@dataclass(frozen=True)
class GpuPlan:
    """Makes a GpuMeasurer in a worker: the target it must be, and the device's number there."""

    arch: str
    ordinal: int = 0

    def __call__(self) -> GpuMeasurer:
        from kgen.runtime import session

        driver = session.driver_for(self.arch)
        if driver.device.tensors != "cuda":
            raise no_gpu(self.arch)
        if driver.device.arch != self.arch:
            raise KgenError(
                f"the GPU that is here is {driver.device}, the sweep is for {self.arch}\n  try: --arch {driver.device.arch}"
            )
        return GpuMeasurer(driver, self.ordinal)


class GpuMeasurer:
    """Checks and times on the device behind a driver. One problem's operands are kept from call to call."""

    kind: Literal["measured"] = "measured"

    def __init__(self, driver: Driver, ordinal: int = 0):
        import kgen.ops  # noqa: F401 - registers the ops

        self.driver, self._ordinal = driver, ordinal
        self._floors: dict[int, float] = {}
        self._floor: Any = None
        self._clock: tuple[float, str] | None = None
        self._run: tuple[Workload, Contest] | None = None
        self._capturable: dict[Any, bool] = {}

    def device(self) -> DeviceState:
        """The device, with its clocks as they are now; asked at most every few seconds, since asking can take as long as a batch of times."""
        device, now = self.driver.device, time.monotonic()
        if self._clock is None or now - self._clock[0] > CLOCK_SECONDS:
            self._clock = now, clock_state(arch_facts(device.arch).vendor, self._ordinal)
        return DeviceState(device.name, device.cu, self._clock[1])

    def check(self, kernel: Built, workloads: Sequence[Workload]) -> list[Checked]:
        """Odd sizes between guards first; then each problem at its real size through the op, against fp64."""
        out = [self._guarded_check("", lambda: check_odd(kernel, self._check_device()))]
        if out[0].ok:
            with self._library([kernel], kernel.entry.family) as answer:
                out += [
                    self._guarded_check(w.key, lambda w=w: _judged(answer, w, kernel))  # type: ignore[misc]
                    for w in workloads
                ]
        return out

    def time(self, workload: Workload, kernels: Sequence[Built], pick: str, rounds: int) -> Timed:
        """Interleaved rounds of captured graphs over cold weights (kgen.bench.timing). torch is the op with a torch row's answer behind it."""
        from kgen.bench.timing import compare

        before = self.device()
        with self._library(kernels, kernels[0].entry.family) as answer:
            run = self._cold_contest(answer, workload)
            calls: dict[str, Sequence[Callable[[], Any]]] = {
                kernel.name: answer.calls(run, kernel.name) for kernel in kernels
            }
            if self._captures(answer, run, workload):
                calls[TORCH] = answer.calls(run, "")
            if run.weight_bytes not in self._floors:
                self._floors[run.weight_bytes] = self._read_floor(run)
            times = compare(calls, rounds)
        after = self.device()
        clock = before.clock if before.clock == after.clock else f"{before.clock} -> {after.clock}"
        us = {name: timing.rounds for name, timing in times.items()}
        return Timed(workload.key, "measured", replace(after, clock=clock), us, self._floors[run.weight_bytes])

    # ---- parts

    def _check_device(self) -> Any:
        from kgen.verify.devices import GpuDevice

        return GpuDevice(self.driver)

    def _guarded_check(self, key: str, check: Callable[[], Checked]) -> Checked:
        """A check whose kernel may be refused or stopped by the driver. Raises KgenError when the device took harm: the process must end."""
        try:
            return check()
        except KgenError as error:
            self._require_healthy(error)
            return Checked(key, False, str(error).splitlines()[0])

    def _require_healthy(self, error: KgenError) -> None:
        """After a fault a device answers nothing but errors, to every later kernel too."""
        if self.driver.device.tensors == "cuda":
            import torch

            try:
                torch.cuda.synchronize()
            except RuntimeError as fault:
                words = str(fault).splitlines()[0]
                raise KgenError(f"{str(error).splitlines()[0]}; then the device: {words}") from fault

    def _cold_contest(self, answer: _Answering, workload: Workload) -> Contest:
        """The problem's operands; those of the problem before are given up. The ops find the library that is adopted when they are called."""
        if self._run is None or self._run[0] != workload:
            self._run = None
            self._give_memory_back()
            self._run = workload, _contest(answer, workload, cold=True)
        return self._run[1]

    def _give_memory_back(self) -> None:
        """Operands of another size do not fit the holes that these leave."""
        if self.driver.device.tensors == "cuda":
            import torch

            torch.cuda.empty_cache()

    def _captures(self, answer: _Answering, run: Contest, workload: Workload) -> bool:
        """Whether torch's answer can be captured at all: one that looks at its data on the host cannot, and is not timed."""
        from kgen.bench.timing import Graph

        kind = (answer.family, *workload.kind)
        if kind not in self._capturable:
            try:
                Graph(answer.calls(run, "")[:1])
                self._capturable[kind] = True
            except RuntimeError:
                self._capturable[kind] = False
        return self._capturable[kind]

    def _read_floor(self, run: Contest) -> float:
        if self._floor is None:
            from kgen.bench.ceilings import ReadFloor

            self._floor = ReadFloor(self.driver)
        return float(self._floor.microseconds(run.cold, _FLOOR_REPLAYS))

    @contextmanager
    def _library(self, kernels: Sequence[Built], family: str) -> Iterator[_Answering]:
        """The kernels as a library on the device, adopted by the ops until the block ends."""
        from kgen.runtime import session

        with tempfile.TemporaryDirectory(prefix="kgen-sweep-") as folder:
            _lay_out(Path(folder), kernels)
            answer = _Answering(Path(folder), self.driver, family)
            try:
                yield answer
            finally:
                session.unload()


def _judged(answer: _Answering, workload: Workload, kernel: Built) -> Checked:
    """One problem at its real size: the op's output with this kernel behind it, judged by the accuracy rules."""
    run = _contest(answer, workload, cold=False)
    answer.with_kernel(kernel.name)
    verdict = replace(run, kernel=answer.library.kernel(kernel.name)).verdict()
    return Checked(workload.key, verdict.ok, verdict.words, verdict.max_abs_err, verdict.tolerance)


def _contest(answer: _Answering, workload: Workload, cold: bool) -> Contest:
    """The bench's contest for a problem, with enough weights that each is cold, or with one."""
    from kgen.bench.contest import contest
    from kgen.bench.timing import weight_sets

    sets = weight_sets(weight_bytes(answer.family, answer.library.arch, workload)) if cold else 1
    return contest(answer.library, answer.family, workload.shape, workload.dtype, sets)


class _Answering:
    """A library that answers the kernel it was told for every problem of its family; the ops' plans are forgotten when that changes."""

    def __init__(self, folder: Path, driver: Driver, family: str):
        from kgen.runtime import session
        from kgen.runtime.library import Library

        outer = self

        class Answers(Library):
            def pick(self, family: str, shape: Any, dtype: str) -> Any:
                return self.kernel(outer.now) if family == outer.family and outer.now else None

        self.family, self.now = family, ""
        self._session = session
        self.library = session.adopt(Answers(folder, driver))

    def with_kernel(self, name: str) -> None:
        """From now on this kernel answers."""
        if name != self.now:
            self.now = name
            self._session.adopt(self.library)  # drops the ops' plans

    def calls(self, run: Contest, name: str) -> list[Callable[[], Any]]:
        """The op's calls with this kernel behind it (torch's own answer for ""), one per set of weights.

        Told so while they are captured, not while they are replayed.
        """

        def first_told(call: Callable[[], Any]) -> Callable[[], Any]:
            def told() -> Any:
                self.with_kernel(name)
                return call()

            return told

        return [first_told(call) for call in run.calls("kgen")]


def _lay_out(folder: Path, kernels: Sequence[Built]) -> None:
    """A build folder that holds these kernels."""
    unique = {kernel.name: kernel for kernel in kernels}
    for kernel in unique.values():
        assert kernel.entry.path is not None, kernel.name
        (folder / kernel.entry.path).write_bytes(kernel.image)
    arch = kernels[0].entry.arch
    compiler = Compiler(flavour="sweep", version=kernels[0].compiler, identity=kernels[0].compiler, flags=())
    entries = tuple(unique[name].entry for name in sorted(unique))
    manifest = Manifest(schema=1, arch=arch, compiler=compiler, kernels=entries)
    (folder / "manifest.json").write_bytes(manifest.dump())
