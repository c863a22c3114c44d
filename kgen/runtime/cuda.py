"""NVIDIA GPUs through the driver API of cuda-bindings; the only importer of that package.

cuda-bindings and not ctypes on libcuda: with the arguments packed, a launch costs 3.0 to 3.3 us of host time through either (H200,
Python 3.12, cuda-bindings 13.3), torch's CUDA wheels bring the package along, and it names errors. A stream may be a plain number;
wrapping it saves nothing. Every call answers a tuple whose first item is a CUresult. Kernels load into the primary context, which is
the one that torch uses.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from kgen.errors import CodeObjectError, LaunchError, MissingPieceError
from kgen.runtime.arguments import ArgumentBuffer, ArgumentLayout
from kgen.runtime.driver import Device, LaunchCall
from kgen.runtime.streams import is_capturing, on_device, torch_stream
from kgen.spec.arch import arch_facts
from kgen.spec.base import Launch

_END = 0  # CU_LAUNCH_PARAM_END; HIP's is 3
_MUCH_LDS = 64 << 10  # bytes of a multiprocessor; the driver's choice slowed down no kernel whose groups need less
Answer = TypeVar("Answer")


def bindings() -> Any:
    """The module `cuda.bindings.driver`, initialised; raises MissingPieceError when the package, the driver or a device is missing."""
    try:
        from cuda.bindings import driver as cuda
    except ImportError as error:
        raise MissingPieceError(f"cuda-bindings is not installed ({error}); try: pip install 'kgen[cuda]'") from error
    try:
        (status,) = cuda.cuInit(0)
    except RuntimeError as error:
        raise MissingPieceError(f"no NVIDIA driver: {error}") from error
    if status:
        raise MissingPieceError(f"the NVIDIA driver does not start: {_words(cuda, status)}")
    status, count = cuda.cuDeviceGetCount()
    if status or count < 1:
        raise MissingPieceError(f"the NVIDIA driver finds no GPU: {_words(cuda, status)}")
    return cuda


class CudaDriver:
    """Kernels on one NVIDIA GPU, in its primary context.

    ordinal  device number, as torch counts
    """

    def __init__(self, ordinal: int = 0):
        self._cuda = cuda = bindings()
        device = self._checked(f"CUDA device {ordinal}", cuda.cuDeviceGet(ordinal))
        self.device = self._describe(ordinal, device)
        self._context = self._checked(str(self.device), cuda.cuDevicePrimaryCtxRetain(device))
        self.stream = torch_stream(ordinal)

    def load(self, image: bytes, what: str) -> Any:
        """A module from the bytes of a cubin, which are copied by the driver."""
        with self._current():
            status, module = self._cuda.cuModuleLoadData(image)
        if status:
            raise CodeObjectError(f"{what}: {self.device} refuses it: {_words(self._cuda, status)}")
        return module

    def function(self, module: Any, symbol: str, dynamic_lds: int) -> Any:
        """The kernel's handle, allowed to take `dynamic_lds` bytes of dynamic shared memory."""
        cuda = self._cuda
        with self._current():
            status, function = cuda.cuModuleGetFunction(module, symbol.encode())
            if status:
                raise CodeObjectError(f"{symbol}: not found in its module: {_words(cuda, status)}")
            if (
                dynamic_lds
            ):  # without asking, 48 KB less what is static (CUDA C++ programming guide, compute capability 9.0)
                wanted = cuda.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                (status,) = cuda.cuFuncSetAttribute(function, wanted, dynamic_lds)
                if status:
                    raise LaunchError(
                        f"{symbol}: {dynamic_lds} bytes of shared memory refused: {_words(cuda, status)}\n"
                        f"  allowed: {self.device.lds_per_group} on {self.device}, static and dynamic together"
                    )
        return function

    def bind(self, function: Any, geometry: Launch, layout: ArgumentLayout, last: tuple[int, ...] = ()) -> LaunchCall:
        """A launch as one call."""
        pack = layout.first(len(layout.args) - len(last)).pack_into
        mine = ArgumentBuffer(layout, last, _END, self._enter_thread)
        if geometry.early:
            return self._bind_early(function, geometry, pack, mine)
        launch_kernel = self._cuda.cuLaunchKernel
        gx, gy, gz = geometry.grid
        bx, by, bz = geometry.block
        lds = geometry.lds_bytes
        if not lds:
            self._leave_l1(function, bx * by * bz)

        def launch(stream: int, values: tuple[int, ...], tensors: tuple[Any, ...]) -> None:
            data, extra = mine.both
            pack(data, 0, *values)
            status = launch_kernel(function, gx, gy, gz, bx, by, bz, lds, stream, 0, extra)[0]
            if status:
                raise LaunchError(f"{self.device} refused a launch of {geometry}: {_words(self._cuda, status)}")

        return launch

    def _bind_early(
        self, function: Any, geometry: Launch, pack: Callable[..., None], mine: ArgumentBuffer
    ) -> LaunchCall:
        """The same for a kernel that waits by itself for the one before it (programmatic dependent launch), also inside graphs."""
        launch_kernel, configs = self._cuda.cuLaunchKernelEx, _EarlyConfig(self._cuda, geometry)
        if geometry.lds_per_cu:  # rounded down: one per cent more may be the next split that there is
            self._split_lds(function, 100 * geometry.lds_per_cu // self._lds_per_cu)

        def launch(stream: int, values: tuple[int, ...], tensors: tuple[Any, ...]) -> None:
            (data, extra), config = mine.both, configs.of_thread
            pack(data, 0, *values)
            config.hStream = stream
            status = launch_kernel(config, function, 0, extra)[0]
            if status:
                raise LaunchError(f"{self.device} refused a launch of {geometry}: {_words(self._cuda, status)}")

        return launch

    def _leave_l1(self, function: Any, threads: int) -> None:
        """Have multiprocessors make no more LDS for a kernel than its resident groups need, where that is much: weights stream through the rest, L1.

        By itself the driver takes more for those kernels, and they up to a tenth longer; the others took as long either way
        (docs/performance/wvsplitk_int4.md).
        """
        cuda, attributes = self._cuda, self._cuda.CUfunction_attribute
        with self._current():
            status, groups = cuda.cuOccupancyMaxActiveBlocksPerMultiprocessor(function, threads, 0)
            if not status:
                status, each = cuda.cuFuncGetAttribute(attributes.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, function)
        if status:
            raise LaunchError(f"{self.device} does not say what a kernel occupies: {_words(cuda, status)}")
        needed = groups * (each + arch_facts(self.device.arch).lds_reserved_per_group)
        if needed > _MUCH_LDS:
            self._split_lds(function, min(100, -(-100 * needed // self._lds_per_cu)))

    @property
    def _lds_per_cu(self) -> int:
        """Bytes of a multiprocessor's memory that can be LDS."""
        return arch_facts(self.device.arch).lds_per_cu

    def _split_lds(self, function: Any, per_cent: int) -> None:
        """Have multiprocessors make so much of what can be LDS into LDS for a kernel, or the next more that they can.

        While it runs they take no kernel that asks for another split.
        """
        cuda, attributes = self._cuda, self._cuda.CUfunction_attribute
        with self._current():
            wanted = attributes.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
            (status,) = cuda.cuFuncSetAttribute(function, wanted, per_cent)
        if status:
            raise LaunchError(f"{self.device} refused a kernel's split of LDS and L1: {_words(cuda, status)}")

    def capturing(self) -> bool:
        """Whether torch's current stream is being captured."""
        return is_capturing()

    def guarded(self, call: Answer) -> Answer:
        """`call` on this device."""
        return on_device(call, self.device.ordinal)  # type: ignore[type-var]

    def unload(self, module: Any) -> None:
        """Give a module back to the driver."""
        with self._current():
            self._cuda.cuModuleUnload(module)

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        """The primary context made current for a while, over whatever was."""
        (status,) = self._cuda.cuCtxPushCurrent(self._context)
        if status:
            raise MissingPieceError(f"{self.device} cannot be used: {_words(self._cuda, status)}")
        try:
            yield
        finally:
            self._cuda.cuCtxPopCurrent()

    def _enter_thread(self) -> None:
        """A thread in which nothing has used CUDA yet has no context, and a launch would fail; torch's allocator may not notice."""
        status, context = self._cuda.cuCtxGetCurrent()
        if status or not int(context):
            self._cuda.cuCtxSetCurrent(self._context)

    def _describe(self, ordinal: int, device: Any) -> Device:
        attributes, what = self._cuda.CUdevice_attribute, f"CUDA device {ordinal}"

        def attribute(name: str) -> int:
            return int(
                self._checked(
                    what, self._cuda.cuDeviceGetAttribute(getattr(attributes, f"CU_DEVICE_ATTRIBUTE_{name}"), device)
                )
            )

        name = self._checked(what, self._cuda.cuDeviceGetName(128, device))
        return Device(
            kind="cuda",
            arch=f"sm_{attribute('COMPUTE_CAPABILITY_MAJOR')}{attribute('COMPUTE_CAPABILITY_MINOR')}",
            name=(name.decode() if isinstance(name, bytes) else str(name)).split("\0")[0],
            cu=attribute("MULTIPROCESSOR_COUNT"),
            lds_per_group=attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"),
            ordinal=ordinal,
            tensors="cuda",
        )

    def _checked(self, what: str, answer: tuple[Any, ...]) -> Any:
        """The value of a (status, value) answer; raises MissingPieceError."""
        if answer[0]:
            raise MissingPieceError(f"{what}: {_words(self._cuda, answer[0])}")
        return answer[1]


class _EarlyConfig(threading.local):
    """A launch configuration of each thread's own, since the stream is written into it."""

    def __init__(self, cuda: Any, geometry: Launch):
        attribute = cuda.CUlaunchAttribute()
        attribute.id = cuda.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
        value = cuda.CUlaunchAttributeValue()
        value.programmaticStreamSerializationAllowed = 1
        attribute.value = value
        self.of_thread = config = cuda.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = geometry.grid
        config.blockDimX, config.blockDimY, config.blockDimZ = geometry.block
        config.sharedMemBytes = geometry.lds_bytes
        config.attrs, config.numAttrs = [attribute], 1


def _words(cuda: Any, status: Any) -> str:
    """A CUresult as "name (number): sentence"."""
    _, sentence = cuda.cuGetErrorString(status)
    text = sentence.decode() if isinstance(sentence, bytes) else "unknown error"
    return f"{getattr(status, 'name', status)} ({int(status)}): {text}"
