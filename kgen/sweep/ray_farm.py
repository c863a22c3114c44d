"""A farm of several machines, on a Ray cluster: kernels are compiled where processors are, and measured where the target's GPU is.

Ray places the tasks, moves code objects and repeats what was lost with a worker or a machine. A measurer still lives in a process of its own
below its Ray worker, so that a kernel that hangs or crashes is told from a machine that went away: the first is the kernel's fault and is
reported, the second is repeated.

A node with the GPU of a target offers the resource `kgen_TARGET`, one per GPU (`ray start --resources '{"kgen_gfx1151": 1}'`). Without any
such node Ray's own GPUs are taken, and processors for the model. Every node has kgen installed, and a compiler where it has processors.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kgen.errors import KgenError, MissingPieceError
from kgen.spec.base import KernelSpec
from kgen.sweep.farm import Batch, build_batch, device_lock
from kgen.sweep.worker import Worker, WorkerPlan

CHUNK = 8  # kernels of one build task
RETRIES = 5  # of a task whose worker or machine was lost
LOCAL = "local"

_workers: dict[str, Worker] = {}  # of this Ray worker process
_folders: dict[str, Path] = {}


class RayFarm:
    """Builds and measures on a cluster.

    make      makes the measurer, in a process on a node that has the target
    address   of the cluster, "auto", or "local" to start one on this machine
    deadline  seconds for one call of a measurer
    label     the resource that a measuring node offers; default: kgen_TARGET where the cluster has it

    Raises MissingPieceError without Ray or without a cluster at the address, KgenError when no node can measure.
    """

    def __init__(
        self,
        arch: str,
        make: Callable[[], Any],
        address: str,
        deadline: float,
        workers: int | None = None,
        model: bool = False,
    ):
        self._ray = _ray()
        self._mine = not self._ray.is_initialized()
        if self._mine:
            _connect(self._ray, address, workers)
        self.arch, self._make, self._deadline = arch, make, deadline
        self._where, self.lanes = _measuring(self._ray.cluster_resources(), arch, model)
        self._build = self._ray.remote(num_cpus=1, max_retries=RETRIES)(_build_here)
        self._call = self._ray.remote(max_retries=RETRIES, max_calls=0, **self._where)(_call_here)
        self._gather = ThreadPoolExecutor(2, thread_name_prefix="kgen-ray")

    def build(self, specs: Sequence[KernelSpec]) -> Future[Batch]:
        """Chunks of specs, each compiled by one processor somewhere."""
        chunks = [list(specs[at : at + CHUNK]) for at in range(0, len(specs), CHUNK)]
        refs = [self._build.remote(chunk, self.arch) for chunk in chunks]
        return self._gather.submit(lambda: _joined(self._ray.get(refs)))

    def call(self, method: str, *args: Any, quiet: bool = False) -> Future[Any]:
        """A measurer's method on some node that has the target."""
        future: Future[Any] = self._call.remote(self._make, method, args, self._deadline, quiet).future()
        return future

    def stop(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self._gather.shutdown(wait=True, cancel_futures=True)
        if self._mine:
            self._ray.shutdown()


def _ray() -> Any:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise MissingPieceError(
            'several machines need Ray, which is not installed\n  try: pip install "kgen[ray]"'
        ) from None
    return ray


def _connect(ray: Any, address: str, workers: int | None) -> None:
    """Join the cluster, or start one here whose workers import this very kgen."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
    if address == LOCAL:
        here = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
        ray.init(num_cpus=workers, runtime_env={"env_vars": {"PYTHONPATH": path}}, **options)
        return
    try:
        ray.init(address=address, **{k: v for k, v in options.items() if k != "include_dashboard"})
    except ConnectionError as error:
        raise MissingPieceError(
            f"no Ray cluster at {address}: {error}\n  try: --ray local, or `ray start --head` first"
        ) from None


def _measuring(resources: dict[str, float], arch: str, model: bool) -> tuple[dict[str, Any], int]:
    """What a measuring task asks of its node, and how many can run at once."""
    label = f"kgen_{arch}"
    if resources.get(label):
        return {"num_cpus": 0, "resources": {label: 1}}, int(resources[label])
    if model:
        return {"num_cpus": 1}, int(resources.get("CPU", 1))
    if resources.get("GPU"):
        return {"num_cpus": 0, "num_gpus": 1}, int(resources["GPU"])
    raise KgenError(
        f"no node of the Ray cluster has the resource {label} or a GPU\n"
        f"  try: ray start --address=... --resources='{{\"{label}\": 1}}' on the machine with the GPU"
    )


# ---- in Ray's workers


def _build_here(specs: Sequence[KernelSpec], arch: str) -> Batch:
    """One chunk with one processor, in a folder of this process: what it compiled before is not compiled again."""
    if arch not in _folders:
        _folders[arch] = Path(tempfile.mkdtemp(prefix=f"kgen-ray-{arch}-"))
    return build_batch(specs, arch, _folders[arch], 1)


def _call_here(make: Callable[[], Any], method: str, args: tuple[Any, ...], deadline: float, quiet: bool) -> Any:
    """A call of the measurer in this node's measuring process. Raises WorkerLost when the kernel hung or broke it."""
    name = "gpu-" + (os.environ.get("CUDA_VISIBLE_DEVICES") or os.environ.get("HIP_VISIBLE_DEVICES") or "0")
    key = repr(make)
    if key not in _workers:
        _workers[key] = Worker(WorkerPlan(make, name))
    if not quiet:
        return _workers[key].call(method, *args, deadline=deadline)
    with device_lock(name):
        return _workers[key].call(method, *args, deadline=deadline)


def _joined(parts: Sequence[Batch]) -> Batch:
    return Batch(
        tuple(kernel for part in parts for kernel in part.built),
        tuple(entry for part in parts for entry in part.failed),
        sum(part.compiled for part in parts),
        max((part.seconds for part in parts), default=0.0),
        parts[0].compiler if parts else "",
    )
