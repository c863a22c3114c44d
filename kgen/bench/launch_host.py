"""Host microseconds of a launch through the hip driver, over the emulated HIP runtime with the execution of kernels switched off.

The runtime still looks up handles and checks geometry and arguments, which a real one does too; what a real one does beyond that
(writing a packet, ringing a doorbell) is the same for every caller. So the difference to a bare call of hip-python is kgen's own share.
"""

from __future__ import annotations

import importlib.metadata
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from kgen import settings
from kgen.errors import MissingPieceError
from kgen.spec.problem import GemmShape

SHAPE = GemmShape(M=128, N=1, K=2048)


@dataclass(frozen=True)
class HostCosts:
    """Medians in microseconds a call.

    bare    hip-python's hipModuleLaunchKernel, arguments packed beforehand
    driver  the driver's launch call: packs ten arguments and launches
    plan    the op below torch's dispatcher: checks addresses, allocates the output, launches, counts
    op      torch.ops.kgen.wvsplitk
    empty   torch.empty of the output, which every op pays
    """

    hip_python: str
    bare: float
    driver: float
    plan: float
    op: float
    empty: float
    BAR_US: ClassVar[float] = 6.0

    def rows(self) -> list[dict[str, Any]]:
        """Rows of a table."""
        named = {
            "hip-python's hipModuleLaunchKernel": self.bare,
            "kgen's hip driver: pack and launch": self.driver,
            "the op below torch's dispatcher": self.plan,
            "torch.ops.kgen.wvsplitk": self.op,
            "torch.empty of the output, alone": self.empty,
        }
        return [
            {
                "us per call": f"{value:.2f}",
                "beyond hip-python": "" if value in (self.bare, self.empty) else f"{value - self.bare:+.2f}",
                "what": what,
            }
            for what, value in named.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """For scripts; `launch_us` is the driver's own share, which the bar is for."""
        costs = {name: getattr(self, name) for name in ("bare", "driver", "plan", "op", "empty")}
        return {"hip_python": self.hip_python, "us": costs, "launch_us": self.driver - self.bare, "bar_us": self.BAR_US}


def measure_host(arch: str | None = None, calls: int = 2000, repeats: int = 9) -> HostCosts:
    """Measure with the built kernels of a target. Raises MissingPieceError when nothing is built or hip-python is missing."""
    import torch

    import kgen.ops  # noqa: F401 - registers the op
    from kgen.ops import linear as op_module
    from kgen.ops.check import check_linear
    from kgen.runtime import session, standin
    from kgen.runtime.arguments import ArgumentBuffer
    from kgen.runtime.hip import HIP_END, HipDriver
    from kgen.runtime.library import Library

    target = arch or settings.ARCH.value or standin.targets()[0]
    folder = settings.build_dir(target)
    if not (folder / "manifest.json").is_file():
        raise MissingPieceError(f"nothing is built in {folder}\n  try: `kgen build --arch {target}`")
    runtime = standin.install([target], beside_gpu=True)
    driver = HipDriver(runtime.arches.index(target), tensors="cpu")  # without what the emulator adds for CPU tensors
    runtime_device = driver.device.ordinal
    hip = driver._hip
    hip.hipSetDevice(runtime_device)
    library = session.adopt(Library(folder, driver))
    act = torch.zeros(SHAPE.N, SHAPE.K, dtype=torch.bfloat16)
    weight = torch.zeros(SHAPE.M, SHAPE.K, dtype=torch.bfloat16)
    before = runtime.execute(False)
    try:
        kernel = library.pick("wvsplitk", SHAPE, "bf16")
        if kernel is None:
            raise MissingPieceError(f"{target}: the table answers torch for {SHAPE}; nothing to launch")
        geometry = kernel.spec.launch(SHAPE, driver.device.cu)
        out = torch.empty(SHAPE.N, SHAPE.M, dtype=torch.bfloat16)
        sizes = (SHAPE.M, SHAPE.K, SHAPE.K, SHAPE.K, 0, geometry.grid[0])
        values = (weight.data_ptr(), act.data_ptr(), 0, out.data_ptr())
        tensors = (weight, act, None, out)
        launch, mine = kernel.bind(geometry, sizes), ArgumentBuffer(kernel.layout, sizes, HIP_END, lambda: None)
        extra = mine.both[1]
        bare, function = hip.hipModuleLaunchKernel, kernel.function
        (gx, gy, gz), (bx, by, bz), lds = geometry.grid, geometry.block, geometry.lds_bytes
        plan = op_module._kernel_plan("wvsplitk", library, kernel, check_linear("wvsplitk", act, weight, None), act)
        op = torch.ops.kgen.wvsplitk
        times = _medians(
            {
                "bare": lambda: bare(function, gx, gy, gz, bx, by, bz, lds, 0, None, extra),
                "driver": lambda: launch(0, values, tensors),
                "plan": lambda: plan(act, weight, None),
                "op": lambda: op(act, weight),
                "empty": lambda: torch.empty((1, 128), dtype=torch.bfloat16),
            },
            calls,
            repeats,
        )
    finally:
        runtime.execute(before)
        session.unload()
    return HostCosts(hip_python=importlib.metadata.version("hip-python"), **times)


def _medians(contenders: dict[str, Callable[[], Any]], calls: int, repeats: int) -> dict[str, float]:
    """Median microseconds of each, run in turn."""
    import torch

    times: dict[str, list[float]] = {name: [] for name in contenders}
    with torch.inference_mode():
        for _ in range(repeats + 1):
            for name, call in contenders.items():
                start = time.perf_counter()
                for _ in range(calls):
                    call()
                times[name].append((time.perf_counter() - start) / calls * 1e6)
    return {name: statistics.median(found[1:]) for name, found in times.items()}  # the first round warms up
