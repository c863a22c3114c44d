"""What one eager call of each op costs the host: output allocated, current stream, from Python. Times are the host's; kernels are short.

Every op of a linear family that the library has kernels for, on a layer of 128 features and 2048 inputs, beside torch's linear on the same rows
and an in-place addition of one element, in turn. A call is enqueued while earlier ones run. The device begins every batch idle, and a batch is
shorter than a stream's queue: where a kernel takes longer than its call, a full queue would make the host wait, and the figure would be the kernel's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from kgen.bench.contest import contest, contested_families
from kgen.errors import MissingPieceError, NoRowError
from kgen.spec.registry import tabled
from kgen.spec.route import ROUTES

if TYPE_CHECKING:
    from kgen.runtime.library import Library

FEATURES, INPUTS = 128, 2048
ROWS = {"wvsplitkrc": 16, "gemm_w4a16": 16}  # activation rows; 1 for the others
_WARM = 200


def bench_launch(library: Library, calls: int = 500, repeats: int = 40) -> dict[str, float]:
    """Host microseconds of a call by what is called: the median of `repeats` means of `calls`."""
    import torch
    from torch.nn.functional import linear

    device = torch.device(library.driver.device.torch_name)
    act = torch.randn(1, INPUTS, dtype=torch.bfloat16, device=device)
    weight = torch.randn(FEATURES, INPUTS, dtype=torch.bfloat16, device=device)
    one = torch.zeros(1, device=device)
    contenders = op_calls(library)
    contenders["torch.nn.functional.linear"] = lambda: linear(act, weight)
    contenders["torch add_(1), one element"] = lambda: one.add_(1)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    times: dict[str, list[float]] = {name: [] for name in contenders}
    with torch.no_grad():
        for call in contenders.values():
            for _ in range(min(_WARM, calls)):
                call()
        for _ in range(repeats):
            for name, call in contenders.items():
                wait()
                start = time.perf_counter()
                for _ in range(calls):
                    call()
                times[name].append((time.perf_counter() - start) / calls * 1e6)
                wait()
    return {name: statistics.median(found) for name, found in times.items()}


def op_calls(library: Library) -> dict[str, Callable[[], Any]]:
    """One call of each op by its name, of those that a kernel answers and not torch."""
    found: dict[str, Callable[[], Any]] = {}
    for family in [*contested_families(), *ROUTES]:
        shape = tabled(family).shape(FEATURES, ROWS.get(family, 1), INPUTS)
        try:
            run = contest(library, family, shape, "bf16", sets=1)
        except (MissingPieceError, NoRowError):  # none of its kernels are built for this shape, or no row speaks of it
            continue
        if run.kernel is not None:
            found[f"torch.ops.kgen.{family}"] = partial(run.answers["kgen"], run.weights[0])
    return found
