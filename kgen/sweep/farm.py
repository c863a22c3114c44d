"""Where kernels are built, checked and timed: on this machine by ninja and worker processes, or on a Ray cluster (ray_farm.py)."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kgen.build.make import build
from kgen.build.manifest import KernelEntry
from kgen.settings import cache_dir
from kgen.spec.base import KernelSpec
from kgen.sweep.records import Built
from kgen.sweep.worker import Lanes, Worker, WorkerPlan

DEADLINE = 120.0  # seconds that a check or a batch of times may take before its worker is killed


@dataclass(frozen=True)
class Batch:
    """What a build of some specs gave: kernels, and the entries of those that failed."""

    built: tuple[Built, ...]
    failed: tuple[KernelEntry, ...]
    compiled: int
    seconds: float
    compiler: str


class Farm(Protocol):
    """Builds in the background, and runs a measurer's methods on workers; both answer futures."""

    @property
    def lanes(self) -> int:
        """Workers side by side."""

    def build(self, specs: Sequence[KernelSpec]) -> Future[Batch]:
        """Compile kernels, or find them compiled."""

    def call(self, method: str, *args: Any, quiet: bool = False) -> Future[Any]:
        """`measurer.method(*args)` on some worker; `quiet`: with nothing else on that device. Fails with WorkerLost."""

    def stop(self) -> None:
        """End all workers."""


class LocalFarm:
    """This machine: ninja over `jobs` processors, and one worker process per plan.

    folder    build folder of the sweep's kernels; what is there and current is not compiled again
    plans     one per worker: one for each GPU, or one for each processor where the emulator runs
    deadline  seconds for one call
    """

    def __init__(
        self,
        arch: str,
        folder: Path,
        plans: Sequence[WorkerPlan],
        jobs: int | None = None,
        deadline: float = DEADLINE,
        waiting: Callable[[str], None] | None = None,
    ):
        self.arch, self.folder, self._jobs, self._deadline, self._waiting = arch, folder, jobs, deadline, waiting
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="kgen-build")
        self._lanes = Lanes(list(plans))

    @property
    def lanes(self) -> int:
        return len(self._lanes)

    @property
    def processes_started(self) -> int:
        """Worker processes so far, those that were lost included."""
        return sum(worker.started for worker in self._lanes.workers)

    def build(self, specs: Sequence[KernelSpec]) -> Future[Batch]:
        return self._builder.submit(build_batch, list(specs), self.arch, self.folder, self._jobs, self._waiting)

    def call(self, method: str, *args: Any, quiet: bool = False) -> Future[Any]:
        def job(worker: Worker) -> Any:
            if not quiet:
                return worker.call(method, *args, deadline=self._deadline)
            with device_lock(worker.name):
                return worker.call(method, *args, deadline=self._deadline)

        return self._lanes.submit(job)

    def stop(self) -> None:
        self._builder.shutdown(wait=True, cancel_futures=True)
        self._lanes.stop()


def build_batch(
    specs: Sequence[KernelSpec],
    arch: str,
    folder: Path,
    jobs: int | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Batch:
    """Build specs (with the twins that their ops may take) in a folder and read the code objects back."""
    wanted = {spec.name: spec for asked in specs for spec in (asked, *asked.twins())}
    result = build(wanted.values(), arch=arch, folder=folder, jobs=jobs, waiting=waiting)
    compiler = f"{result.manifest.compiler.version} {result.manifest.compiler.identity[:12]}"
    built, failed = [], []
    for name in wanted:
        entry = result.manifest.entries[name]
        if entry.built:
            built.append(Built(entry, entry.image(folder), compiler))
        else:
            failed.append(entry)
    return Batch(tuple(built), tuple(failed), result.compiled, result.seconds, compiler)


@contextlib.contextmanager
def device_lock(name: str) -> Iterator[None]:
    """Hold a device against other sweeps of this machine while times are taken; the kernel drops the lock with the process."""
    folder = cache_dir() / "sweep"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
