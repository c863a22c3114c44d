"""Where a check runs its launches: the emulator (numpy only) or a GPU behind a runtime driver (torch, imported when it is used)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from kgen.errors import LaunchError, SpecError
from kgen.runtime.arguments import ArgumentLayout
from kgen.spec.arch import arch_facts
from kgen.spec.base import KernelSpec, Launch
from kgen.spec.problem import GemmShape
from kgen.verify.data import Data
from kgen.verify.elements import NAN_FP8, POISON, POISON_FP32, Bits, nan_of, pattern_type

if TYPE_CHECKING:
    from kgen.runtime.driver import Driver

_GUARDS = {1: NAN_FP8["e4m3fn"], 2: POISON, 4: POISON_FP32}  # a NaN of each width, in bytes
GUARD = 512  # elements of NaN around every buffer on a GPU


@dataclass(frozen=True)
class CheckOptions:
    """What a check watches beside the result. The first four are the emulator's.

    races             two waves touching an LDS byte between two barriers, one of them writing
    counts            traffic of every launch in `CaseResult.traffic`
    poison            32-bit pattern in fresh registers and LDS; None: the emulator's NaN
    max_instructions  wave instructions that one launch may take: a kernel that never ends fails instead of hanging
    bits              run one case again in another order, without padding and with other rows beside, and compare bits
    """

    races: bool = True
    counts: bool = False
    poison: int | None = None
    max_instructions: int = 200_000_000
    bits: bool = True


@dataclass(frozen=True)
class Ran:
    """One launch's output; wave instructions and traffic where they were counted."""

    out: Bits
    instructions: int | None = None
    traffic: dict[str, int] | None = None


class CheckDevice(Protocol):
    """What a check needs of a device."""

    name: str
    arch: str
    cu: int
    parallel: bool  # whether kernels may be checked side by side

    def load(self, spec: KernelSpec, image: bytes) -> Any:
        """A kernel ready to run."""

    def run(
        self, kernel: Any, geometry: Launch, shape: GemmShape, data: Data, options: CheckOptions, order: str
    ) -> Ran:
        """One launch on fresh memory; `order` is the emulator's schedule. Raises LaunchError when the kernel does not end well."""


class EmulatedDevice:
    """An AMD target's code objects, executed on the CPU. Every access is checked against the exact bytes of its buffer."""

    parallel = True

    def __init__(self, arch: str):
        facts = arch_facts(arch)
        if facts.vendor != "amd":
            raise SpecError(f"the emulator runs AMD targets; {arch} is checked on an NVIDIA GPU")
        self.arch, self.cu, self.name = arch, facts.cu, "emulator"

    def load(self, spec: KernelSpec, image: bytes) -> Any:
        """The emulator's module and the spec."""
        from kgen.emu import Module

        return spec, Module(image, name=spec.name)

    def run(
        self, kernel: Any, geometry: Launch, shape: GemmShape, data: Data, options: CheckOptions, order: str
    ) -> Ran:
        """One launch on one core (kernels are what runs side by side); inputs are read-only."""
        from kgen.emu import Options

        spec, module = kernel
        out = np.full(data.out_shape, nan_of(spec.dtype), pattern_type(spec.dtype))
        values: dict[str, Any] = data.arrays()
        for array in values.values():
            if array is not None:
                array.flags.writeable = False  # a store there is a fault
        beside = {name: extra.fresh() for name, extra in data.extras.items()}
        values |= {"out": out, **beside, **_values(spec, shape, data, geometry), **_workspace(spec, shape)}
        watch: dict[str, Any] = {} if options.poison is None else {"poison": options.poison}
        stats = module.run(
            spec.name,
            geometry.grid,
            geometry.block,
            [values[arg.name] for arg in spec.args],
            geometry.lds_bytes,
            Options(
                races=options.races,
                count_memory=options.counts,
                max_instructions=options.max_instructions,
                schedule=order,
                quantum=None if order == "linear" else 37,  # switch waves in the middle of everything
                threads=1 if order == "linear" else None,
                concurrent=1 if order == "linear" or spec.shard is None else 5,
                **watch,
            ),
        )
        _require_rearmed(spec, values)
        _require_extras(spec, data, beside)
        return Ran(out, stats.instructions, asdict(stats.memory) if stats.memory else None)


class GpuDevice:
    """A GPU behind a runtime driver. Buffers lie between NaN guards; what a kernel writes outside its output is found in them.

    behind   elements of guard after a buffer. With 0 a buffer ends where its allocation ends, for a memory checker; torch must then be
             told to allocate each tensor by itself (PYTORCH_NO_CUDA_MEMORY_CACHING=1).
    """

    parallel = False

    def __init__(self, driver: Driver, behind: int = GUARD):
        self.driver, self.behind = driver, behind
        self.arch, self.cu, self.name = driver.device.arch, driver.device.cu, driver.device.name

    def load(self, spec: KernelSpec, image: bytes) -> Any:
        """The driver's module and the spec."""
        return spec, self.driver.load(image, spec.name)

    def run(
        self, kernel: Any, geometry: Launch, shape: GemmShape, data: Data, options: CheckOptions, order: str
    ) -> Ran:
        """One launch on the current stream, waited for."""
        spec, module = kernel
        function = self.driver.function(module, spec.name, geometry.lds_bytes)
        layout = ArgumentLayout(spec.args)
        host = data.arrays()
        host["out"] = np.full(math.prod(data.out_shape), nan_of(spec.dtype), pattern_type(spec.dtype))
        scratch = _workspace(spec, shape)
        host |= scratch | {name: extra.fresh() for name, extra in data.extras.items()}
        buffers = {name: None if array is None else self._upload(array) for name, array in host.items()}
        values = _values(spec, shape, data, geometry)
        for name, buffer in buffers.items():
            values[name] = 0 if buffer is None else buffer[0].data_ptr() + buffer[0].element_size() * buffer[1]
        tensors = tuple(buffer and buffer[0] for buffer in (buffers[name] for name, _ in layout.pointers))
        launch = self.driver.guarded(self.driver.bind(function, geometry, layout))
        launch(self.driver.stream(), tuple(values[arg.name] for arg in spec.args), tensors)
        out = self._download(buffers["out"], spec.name).view(pattern_type(spec.dtype))
        _require_rearmed(spec, {name: self._download(buffers[name], spec.name) for name in scratch})
        beside = {
            name: self._download(buffers[name], spec.name).view(extra.values.dtype)
            for name, extra in data.extras.items()
        }
        _require_extras(
            spec, data, {name: found.reshape(data.extras[name].values.shape) for name, found in beside.items()}
        )
        return Ran(out.reshape(data.out_shape))

    def _upload(self, data: Any) -> tuple[Any, int]:
        """(tensor, elements of guard before the data). The data starts at a multiple of 16 bytes and the tensor ends at one of 512."""
        import torch

        size = data.dtype.itemsize
        line, piece = 512 // size, 16 // size
        front = GUARD + -(data.size + self.behind) % line // piece * piece
        whole = np.full(front + data.size + self.behind, _GUARDS[size], f"u{size}")
        whole[front : front + data.size] = data.reshape(-1).view(f"u{size}")
        return torch.from_numpy(whole.view(f"i{size}")).to(self.driver.device.torch_name), front

    def _download(self, buffer: Any, kernel: str) -> Any:
        """The data between its guards, as integers; raises LaunchError when the guards have changed."""
        tensor, front = buffer
        whole = tensor.cpu().numpy()
        whole = whole.view(f"u{whole.itemsize}")
        end, guard = whole.size - self.behind, _GUARDS[whole.itemsize]
        if not ((whole[:front] == guard).all() and (whole[end:] == guard).all()):
            raise LaunchError(f"{kernel}: wrote outside its output")
        return whole[front:end]


def _workspace(spec: Any, shape: GemmShape) -> dict[str, Any]:
    """Scratch memory by argument name, as a kernel may find it: counters zero, sums NaN unless atomics add to them."""
    need = spec.workspace(shape)
    if need is None:
        return {}
    fill = np.nan if spec.same_bits else 0.0
    partial = np.full(need.partial_bytes // 4, fill, np.float32)
    return {"partial": partial, "counter": np.zeros(need.counter_bytes // 4, np.uint32)}


def _require_rearmed(spec: Any, scratch: dict[str, Any]) -> None:
    """Raise LaunchError when a kernel has not left its workspace as the next launch needs it."""
    for name in ("counter",) if spec.same_bits else ("counter", "partial"):
        if name in scratch and scratch[name].view(np.uint32).any():
            raise LaunchError(f"{spec.name}: {name} of the workspace is not zero after the launch")


def _require_extras(spec: Any, data: Data, found: dict[str, Any]) -> None:
    """Raise LaunchError when what a kernel wrote beside its output is wrong."""
    for name, extra in data.extras.items():
        if problem := extra.problem(found[name]):
            raise LaunchError(f"{spec.name}: {name}: {problem}")


def _values(spec: Any, shape: GemmShape, data: Data, geometry: Launch) -> dict[str, int]:
    """The scalar arguments by name."""
    sizes = {"M": shape.M, "K": shape.K, "rows": shape.N, "groups": geometry.grid[0]}
    if hasattr(spec, "shards"):
        sizes["shards"] = spec.shards(shape)
    return sizes | data.sizes()
