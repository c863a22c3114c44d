"""What a family's picks cost on the GPU that is here, beside what a user would call instead, and beside the floor.

For every shape: the op (through its dispatch table), its peers (`kgen.bench.contest`), and the time in which the device reads the same cold
bytes; all in one process, in turn (`kgen.bench.timing`). Results are checked against fp64 before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from kgen.bench.ceilings import ReadFloor
from kgen.bench.contest import Contest, contest
from kgen.bench.timing import ROUNDS, compare, weight_sets
from kgen.errors import KgenError, MissingPieceError
from kgen.spec.base import Dtype
from kgen.spec.problem import GemmShape

if TYPE_CHECKING:
    from kgen.runtime.library import Library


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
    traits          what else the weights are, such as GROUP_SIZE
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
    traits: dict[str, int | bool] = field(default_factory=dict)
    peers: dict[str, Peer] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def bench_family(
    family: str,
    shapes: Iterable[GemmShape],
    dtypes: Sequence[Dtype] = ("bf16",),
    *,
    kernel: str | None = None,
    rounds: int = ROUNDS,
    peers: bool = True,
    progress: Callable[[GemmShape, str], None] | None = None,
) -> Iterator[BenchCase]:
    """Time a family's op, or one kernel by name in place of the table's pick, on the current library's GPU; `peers` beside it or not.

    Raises MissingPieceError if the loaded library is not on a GPU, KgenError if a result is wrong (nothing wrong is ever timed).
    """
    library = library_on_gpu()
    floor = ReadFloor(library.driver)
    floors: dict[int, float] = {}
    for shape in shapes:
        for dtype in dtypes:
            if progress:
                progress(shape, dtype)
            yield _bench_case(library, floor, floors, family, shape, dtype, kernel, rounds, peers)


def library_on_gpu() -> Library:
    """The current library; raises MissingPieceError if it is not on a GPU."""
    from kgen.runtime import session

    library = session.current()
    if library.driver.device.tensors != "cuda":
        raise MissingPieceError(
            f"times need a GPU; the library is on {library.driver.device}\n  try: `kgen check` for the emulator"
        )
    return library


def _bench_case(
    library: Any,
    floor: ReadFloor,
    floors: dict[int, float],
    family: str,
    shape: GemmShape,
    dtype: Dtype,
    name: str | None,
    rounds: int,
    compared: bool,
) -> BenchCase:
    sets = weight_sets(_bits(family) * shape.M * shape.K // 8)
    run = contest(library, family, shape, dtype, sets, name)
    _require_right(run)
    size = run.weight_bytes
    if size not in floors:
        floors[size] = floor.microseconds(run.cold)
    times = compare({name: run.calls(name) for name in (run.answers if compared else ("kgen",))}, rounds)
    us, floor_us = times["kgen"].us, floors[size]
    moved = size + shape.N * (run.act.element_size() * shape.K + (4 if dtype == "fp32" else 2) * shape.M)
    peers = {peer: Peer(timing.us, times["kgen"].over(timing)) for peer, timing in times.items() if peer != "kgen"}
    return BenchCase(
        family,
        dtype,
        shape.M,
        shape.N,
        shape.K,
        run.kernel.name if run.kernel else "torch",
        us,
        times["kgen"].low,
        times["kgen"].high,
        floor_us,
        us / floor_us,
        moved / us / 1e3,
        shape.traits,
        peers,
    )


def _bits(family: str) -> int:
    """Of a weight, without its scales."""
    return {"wvsplitkq": 8, "wvsplitk_int4": 4, "gemm_w4a16": 4, "w4a16_linear": 4, "gemm_4bit": 4}.get(family, 16)


def _require_right(run: Contest) -> None:
    """Raise KgenError if the op's answer is wrong."""
    verdict = run.verdict()
    if not verdict.ok:
        name = run.kernel.name if run.kernel else "torch"
        raise KgenError(f"{name} at {run.shape}: wrong result, not timed: {verdict.words}")
