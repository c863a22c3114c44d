"""AMD GPUs through hip-python; the only importer of that package.

hip-python opens libamdhip64.so at the first call, not at import, and raises RuntimeError when there is none. Every call answers a
tuple whose first item is a hipError_t. 7.x and 10.x differ in hipGetDeviceProperties (7.x fills a struct that it is given, 10.x
returns one) and in strings (7.x: bytes); names are passed as bytes, which both take.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, TypeVar

from kgen.errors import CodeObjectError, LaunchError, MissingPieceError
from kgen.runtime.arguments import ArgumentBuffer, ArgumentLayout
from kgen.runtime.driver import Device, LaunchCall
from kgen.runtime.streams import is_capturing, on_device, torch_stream
from kgen.spec.base import Launch

HIP_END = 3  # HIP_LAUNCH_PARAM_END; CUDA's is 0
_PLAIN_LDS = 64 * 1024  # dynamic LDS beyond this has to be asked for
Answer = TypeVar("Answer")


def bindings() -> Any:
    """The module `hip.hip`; raises MissingPieceError when the package, the runtime or a device is missing."""
    try:
        from hip import hip
    except ImportError as error:
        raise MissingPieceError(f"hip-python is not installed ({error}); try: pip install 'kgen[hip]'") from error
    try:
        status, version = hip.hipRuntimeGetVersion()  # works without a device
    except RuntimeError as error:
        raise MissingPieceError(
            f"no HIP runtime: {error}\n"
            "  try: install ROCm's runtime so that libamdhip64.so (the name without a version) is found, e.g. by LD_LIBRARY_PATH"
        ) from error
    if status:
        raise MissingPieceError(f"the HIP runtime does not work: {_words(hip, status)}")
    status, count = hip.hipGetDeviceCount()
    if status or count < 1:
        raise MissingPieceError(
            f"HIP runtime {version} finds no AMD GPU: {_words(hip, status)}\n"
            "  try: check that the kernel driver is loaded and that you may open /dev/kfd (group render)"
        )
    return hip


class HipDriver:
    """Kernels on one AMD GPU.

    ordinal  device number
    tensors  "cuda" for torch's GPU tensors; "cpu" for a HIP runtime that works on host memory
    """

    def __init__(self, ordinal: int = 0, tensors: Literal["cuda", "cpu"] = "cuda"):
        self._hip = bindings()
        self.device = self._describe(ordinal, tensors)
        self.stream = _null_stream if tensors == "cpu" else torch_stream(ordinal)

    def load(self, image: bytes, what: str) -> Any:
        """A module from the bytes of a code object, which are copied by the runtime."""
        with self._current():
            status, module = self._hip.hipModuleLoadData(image)
        if status:
            raise CodeObjectError(f"{what}: {self.device} refuses it: {_words(self._hip, status)}")
        return module

    def function(self, module: Any, symbol: str, dynamic_lds: int) -> Any:
        """The kernel's handle, allowed to take `dynamic_lds` bytes of dynamic LDS."""
        hip = self._hip
        with self._current():
            status, function = hip.hipModuleGetFunction(module, symbol.encode())
        if status:
            raise CodeObjectError(f"{symbol}: not found in its module: {_words(hip, status)}")
        if dynamic_lds > _PLAIN_LDS:
            # Runtimes differ in whether they want this at all and whether they know module functions here; if one that
            # wants it has refused, the launch says so.
            hip.hipFuncSetAttribute(
                function, hip.hipFuncAttribute.hipFuncAttributeMaxDynamicSharedMemorySize, dynamic_lds
            )
        return function

    def bind(self, function: Any, geometry: Launch, layout: ArgumentLayout, last: tuple[int, ...] = ()) -> LaunchCall:
        """A launch as one call."""
        launch_kernel = self._hip.hipModuleLaunchKernel
        pack = layout.first(len(layout.args) - len(last)).pack_into
        mine = ArgumentBuffer(layout, last, HIP_END, _enter_thread)
        gx, gy, gz = geometry.grid
        bx, by, bz = geometry.block
        lds = geometry.lds_bytes

        def launch(stream: int, values: tuple[int, ...], tensors: tuple[Any, ...]) -> None:
            data, extra = mine.both
            pack(data, 0, *values)
            status = launch_kernel(function, gx, gy, gz, bx, by, bz, lds, stream, None, extra)[0]
            if status:
                raise LaunchError(f"{self.device} refused a launch of {geometry}: {_words(self._hip, status)}")

        return launch

    def capturing(self) -> bool:
        """Whether torch's current stream is being captured."""
        if self.device.tensors == "cpu":
            return False
        return is_capturing()

    def guarded(self, call: Answer) -> Answer:
        """`call` on this device."""
        if self.device.tensors == "cpu":
            return call
        return on_device(call, self.device.ordinal)  # type: ignore[type-var]

    def unload(self, module: Any) -> None:
        """Give a module back to the runtime."""
        self._hip.hipModuleUnload(module)

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        """This device made current for a while; torch's choice is restored."""
        hip, wanted = self._hip, self.device.ordinal
        status, before = hip.hipGetDevice()
        if not status and before != wanted:
            (status,) = hip.hipSetDevice(wanted)
        if status:
            raise MissingPieceError(f"{self.device} cannot be used: {_words(hip, status)}")
        try:
            yield
        finally:
            if before != wanted:
                hip.hipSetDevice(before)

    def _describe(self, ordinal: int, tensors: Literal["cuda", "cpu"]) -> Device:
        hip = self._hip
        try:
            status, properties = hip.hipGetDeviceProperties(ordinal)
        except TypeError:  # 7.x wants the struct to fill
            properties = hip.hipDeviceProp_t()
            (status,) = hip.hipGetDeviceProperties(properties, ordinal)
        if status:
            raise MissingPieceError(f"HIP device {ordinal} cannot be described: {_words(hip, status)}")
        return Device(
            kind="hip",
            arch=_text(properties.gcnArchName).split(":")[0],  # "gfx942:sramecc+:xnack-"
            name=_text(properties.name),
            cu=self._attribute("hipDeviceAttributeMultiprocessorCount", ordinal),
            lds_per_group=self._attribute("hipDeviceAttributeMaxSharedMemoryPerBlock", ordinal),
            ordinal=ordinal,
            tensors=tensors,
        )

    def _attribute(self, name: str, ordinal: int) -> int:
        status, value = self._hip.hipDeviceGetAttribute(getattr(self._hip.hipDeviceAttribute_t, name), ordinal)
        if status:
            raise MissingPieceError(f"HIP device {ordinal}: {name}: {_words(self._hip, status)}")
        return int(value)


def _null_stream() -> int:
    return 0


def _enter_thread() -> None:
    """Nothing to do: HIP has no contexts, and a new thread starts on the device that is right for it."""


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _words(hip: Any, status: Any) -> str:
    """A hipError_t as "name (number): sentence"."""
    try:
        answer = hip.hipGetErrorString(status)
        sentence = _text(answer[-1] if isinstance(answer, tuple) else answer)
        return f"{status.name} ({int(status)}): {sentence}"
    except (AttributeError, RuntimeError):
        return str(status)
