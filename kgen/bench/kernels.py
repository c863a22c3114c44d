"""What a family's picks cost on the GPU that is here, beside what a user would call instead, and beside the floor.

For every shape: the op (through its dispatch table), torch's linear, and the time in which the device reads the same cold bytes; all
in one process, in turn (`kgen.bench.timing`). Results are checked against fp64 before anything is timed. Also the host's cost of one
eager call.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from kgen.bench.ceilings import ReadFloor
from kgen.bench.timing import ROUNDS, Call, compare, weight_sets
from kgen.errors import KgenError, MissingPieceError
from kgen.spec.base import Dtype
from kgen.spec.problem import GemmShape

_SEED = 20
_REFERENCE_ELEMENTS = 1 << 27  # weights widened to fp64 at a time: 1 GiB


@dataclass(frozen=True)
class Peer:
    """Something a user would call instead: its median time, and ours over its, round by round (median, smallest, largest)."""

    us: float
    ratio: tuple[float, float, float]


@dataclass(frozen=True)
class BenchCase:
    """One shape on one device.

    us, low, high   microseconds per call of the op: median, smallest and largest round
    floor_us        the device reads the same cold bytes in this time
    ratio           us / floor_us
    gbs             (weights + activations + output) bytes / us, in 1e9 bytes/s
    peers           by name
    """

    family: str
    dtype: str
    M: int
    N: int
    K: int
    kernel: str
    us: float
    low: float
    high: float
    floor_us: float
    ratio: float
    gbs: float
    peers: dict[str, Peer] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def bench_wvsplitk(
    shapes: Iterable[GemmShape],
    dtypes: Sequence[Dtype] = ("bf16",),
    *,
    kernel: str | None = None,
    rounds: int = ROUNDS,
    progress: Callable[[GemmShape, str], None] | None = None,
) -> Iterator[BenchCase]:
    """Time torch.ops.kgen.wvsplitk, or one kernel by name in place of the table's pick, on the current library's GPU.

    Raises MissingPieceError if the loaded library is not on a GPU, KgenError if a result is wrong (nothing wrong is ever timed).
    """
    from kgen.runtime import session

    library = session.current()
    if library.driver.device.tensors != "cuda":
        raise MissingPieceError(
            f"times need a GPU; the library is on {library.driver.device}\n  try: `kgen check` for the emulator"
        )
    floor = ReadFloor(library.driver)
    floors: dict[tuple[int, int], float] = {}
    for shape in shapes:
        for dtype in dtypes:
            if progress:
                progress(shape, dtype)
            yield _bench_case(library, floor, floors, shape, dtype, kernel, rounds)


def _bench_case(
    library: Any,
    floor: ReadFloor,
    floors: dict[tuple[int, int], float],
    shape: GemmShape,
    dtype: Dtype,
    name: str | None,
    rounds: int,
) -> BenchCase:
    import torch
    from torch.nn.functional import linear

    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    device = torch.device(library.driver.device.torch_name)
    generator = torch.Generator(device).manual_seed(_SEED)
    nbytes = 2 * shape.M * shape.K
    count = weight_sets(nbytes)
    pool = torch.empty(count, shape.M, shape.K, dtype=kind, device=device).normal_(generator=generator)
    act = torch.empty(shape.N, shape.K, dtype=kind, device=device).normal_(generator=generator)
    picked = library.kernel(name) if name else library.pick("wvsplitk", shape, dtype)
    ours = _direct(picked, shape, act, library.driver) if name else lambda w: torch.ops.kgen.wvsplitk(act, w)
    _verify(ours(pool[0]), act, pool[0], picked, dtype)
    if (shape.M, shape.K) not in floors:
        floors[shape.M, shape.K] = floor.microseconds(list(pool))
    calls: dict[str, Sequence[Call]] = {
        "kgen": [partial(ours, weight) for weight in pool],
        "torch linear": [partial(linear, act, weight) for weight in pool],
    }
    times = compare(calls, rounds)
    us, floor_us = times["kgen"].us, floors[shape.M, shape.K]
    moved = nbytes + 2 * shape.N * (shape.K + shape.M)
    peers = {peer: Peer(timing.us, times["kgen"].over(timing)) for peer, timing in times.items() if peer != "kgen"}
    return BenchCase(
        "wvsplitk",
        dtype,
        shape.M,
        shape.N,
        shape.K,
        picked.name if picked else "torch",
        us,
        times["kgen"].low,
        times["kgen"].high,
        floor_us,
        us / floor_us,
        moved / us / 1e3,
        peers,
    )


def _direct(kernel: Any, shape: GemmShape, act: Any, driver: Any) -> Callable[[Any], Any]:
    """A kernel called by name, past the table."""
    import torch

    geometry = kernel.spec.launch(shape, driver.device.cu)
    launch = kernel.bind(geometry)

    def call(weight: Any) -> Any:
        out = torch.empty(shape.N, shape.M, dtype=act.dtype, device=act.device)
        sizes = (shape.M, shape.K, weight.stride(0), act.stride(0), 0, geometry.grid[0])
        launch(
            driver.stream(), (weight.data_ptr(), act.data_ptr(), 0, out.data_ptr(), *sizes), (weight, act, None, out)
        )
        return out

    return call


def _verify(out: Any, act: Any, weight: Any, kernel: Any, dtype: Dtype) -> None:
    """Judge one result by the accuracy rules before it is timed; the reference is summed in fp64 on the device, block by block."""
    import torch

    from kgen.verify.accuracy import fp32_accumulation, judge
    from kgen.verify.cases import accumulation

    shape = GemmShape(M=weight.shape[0], N=act.shape[0], K=act.shape[1])
    wide = act.double()
    reference, magnitude = [], []
    for rows in weight.split(max(1, _REFERENCE_ELEMENTS // shape.K)):
        block = rows.double().T
        reference.append((wide @ block).cpu())
        magnitude.append((wide.abs() @ block.abs()).cpu())
    model = accumulation(kernel.spec, shape) if kernel else fp32_accumulation(shape.K)  # torch: in any order
    bits = out.contiguous().view(torch.uint16).cpu().numpy()
    verdict = judge(bits, torch.cat(reference, 1).numpy(), torch.cat(magnitude, 1).numpy(), dtype, model)
    if not verdict.ok:
        raise KgenError(f"{kernel.name if kernel else 'torch'} at {shape}: wrong result, not timed: {verdict.words}")


def bench_launch(calls: int = 3000, repeats: int = 7) -> dict[str, float]:
    """Host microseconds of one eager call, output allocated, current stream: the op beside torch's linear, in turn; medians."""
    import torch
    from torch.nn.functional import linear

    from kgen.runtime import session

    device = torch.device(session.current().driver.device.torch_name)
    act = torch.randn(1, 2048, dtype=torch.bfloat16, device=device)
    weight = torch.randn(128, 2048, dtype=torch.bfloat16, device=device)
    one = torch.zeros(1, device=device)
    op = torch.ops.kgen.wvsplitk
    contenders: dict[str, Callable[[], Any]] = {
        "torch.ops.kgen.wvsplitk": lambda: op(act, weight),
        "torch.nn.functional.linear": lambda: linear(act, weight),
        "torch add_(1), one element": lambda: one.add_(1),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    with torch.no_grad():
        for call in contenders.values():
            for _ in range(200):
                call()
        for _ in range(repeats):
            for name, call in contenders.items():
                torch.cuda.synchronize()
                start = time.perf_counter()
                for _ in range(calls):
                    call()
                times[name].append((time.perf_counter() - start) / calls * 1e6)
                torch.cuda.synchronize()
    return {name: statistics.median(t) for name, t in times.items()}
