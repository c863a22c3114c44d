"""What a sweep asks of a device. Three answer: the GPU that is here (gpu.py), the model (model.py), and doubles in tests.

A measurer lives in a worker process (worker.py): it may hang or die without harm, and everything that goes in or out is pickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kgen.sweep.records import Built, Checked, DeviceState, Kind, Timed
from kgen.sweep.workload import Workload

EXPLORE_ROUNDS = 3
FINAL_ROUNDS = 11
ODD_SHAPES = ""  # the workload key of a check over the odd sizes of kgen.verify


class Measurer(Protocol):
    """Checks and times kernels of one target."""

    kind: Kind

    def device(self) -> DeviceState:
        """Where the numbers come from."""

    def check(self, kernel: Built, workloads: Sequence[Workload]) -> list[Checked]:
        """Whether a kernel is right: over odd sizes first, then on each problem. A kernel that is stopped is wrong, not an exception."""

    def time(self, workload: Workload, kernels: Sequence[Built], pick: str, rounds: int) -> Timed:
        """Time kernels on a problem, in turn with the present pick (a name among `kernels`, or "torch") and with torch."""


def check_odd(kernel: Built, device: object) -> Checked:
    """A kernel over the quick cases of kgen.verify, as one result with the first failure's words."""
    from kgen.verify.devices import CheckDevice
    from kgen.verify.run import check_kernel

    target: CheckDevice = device  # type: ignore[assignment]
    results = check_kernel(kernel.spec, kernel.image, target)
    bad = [result for result in results if not result.ok]
    worst = max(
        (r.max_abs_err / r.tolerance for r in results if r.max_abs_err is not None and r.tolerance), default=None
    )
    if bad:
        return Checked(ODD_SHAPES, False, f"{bad[0].words}: {bad[0].why}", bad[0].max_abs_err, bad[0].tolerance)
    return Checked(ODD_SHAPES, True, f"{len(results)} cases", worst, 1.0 if worst is not None else None)
