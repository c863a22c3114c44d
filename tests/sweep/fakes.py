"""A measurer that needs no device: times from a formula, faults on demand. Lives in tests only."""

from __future__ import annotations

import json
import os
import signal
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from kgen.sweep.records import Checked, DeviceState, Timed

DEVICE = "double"


@dataclass(frozen=True)
class FakePlan:
    """Makes a FakeMeasurer in a worker.

    log     file that gets a line for every kernel checked and every (kernel, problem, rounds) timed
    extra   part of a kernel's name -> factor on its time; cliff_k: a K at which every kernel is slow
    hang, crash, wrong   parts of names of kernels that do so when they are checked (crash_timed: when they are timed)
    """

    log: str = ""
    hang: str = ""
    crash: str = ""
    crash_timed: str = ""
    wrong: str = ""
    pause: float = 0.0
    torch_us: float = 0.0
    extra: dict[str, float] = field(default_factory=dict)
    cliff_k: int = 0
    kind: str = "measured"

    def __call__(self) -> FakeMeasurer:
        return FakeMeasurer(self)


class FakeMeasurer:
    def __init__(self, plan: FakePlan):
        self.plan, self.kind = plan, plan.kind

    def device(self) -> DeviceState:
        return DeviceState(DEVICE, 20, "1000 MHz")

    def check(self, kernel, workloads):
        if self.plan.hang and self.plan.hang in kernel.name:
            time.sleep(3600)
        if self.plan.crash and self.plan.crash in kernel.name:
            os.kill(os.getpid(), signal.SIGSEGV)
        self._note("check", kernel.name)
        if self.plan.wrong and self.plan.wrong in kernel.name:
            return [Checked("", False, "element 3 is off by 7")]
        return [Checked("", True), *(Checked(w.key, True, "", 1e-3, 1e-2) for w in workloads)]

    def time(self, workload, kernels, pick, rounds):
        time.sleep(self.plan.pause)
        us = {}
        for kernel in kernels:
            if self.plan.crash_timed and self.plan.crash_timed in kernel.name:
                os.kill(os.getpid(), signal.SIGKILL)
            us[kernel.name] = tuple(self.us(kernel.name, workload) * wobble(i, kernel.name) for i in range(rounds))
            self._note("time", kernel.name, workload.key, rounds, os.getppid())
        if self.plan.torch_us:
            us["torch"] = tuple(self.plan.torch_us * wobble(i, "torch") for i in range(rounds))
        floor = 0.9 * (1.0 + workload.shape.M * workload.shape.K / 1e6)
        return Timed(workload.key, self.kind, self.device(), us, floor)

    def us(self, name: str, workload) -> float:
        """Deterministic: a base by size, more for names that `extra` knows a part of."""
        base = 1.0 + workload.shape.M * workload.shape.K / 1e6
        base *= 1.6 if workload.shape.K == self.plan.cliff_k else 1.0
        for part, factor in self.plan.extra.items():
            if part in name:
                base *= factor
        return base

    def _note(self, *words) -> None:
        if self.plan.log:
            with Path(self.plan.log).open("a", encoding="utf-8") as file:
                file.write(json.dumps(words) + "\n")  # one write of less than a page: whole or not at all


def wobble(i: int, name: str) -> float:
    """A little noise that is the same on every run."""
    return 1.0 + 1e-3 * ((zlib.crc32(f"{name}{i}".encode()) % 100) - 50) / 50
