"""The hip driver over the emulated HIP runtime: the code that AMD GPUs run with, the real hip-python, and kernels in the emulator."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from kgen.errors import CodeObjectError, LaunchError, SpecError
from kgen.runtime.arguments import ArgumentLayout
from kgen.runtime.driver import LaunchCall
from kgen.runtime.emu import regions_of
from kgen.runtime.hip import HipDriver
from kgen.runtime.standin import device_facts, install
from kgen.spec.arch import arch_facts
from kgen.spec.base import Launch

_streams = threading.local()


@contextlib.contextmanager
def on_stream(stream: Any) -> Iterator[None]:
    """Launches of this thread's ops on CPU tensors go to a stream (of hip-python, or a raw handle) until the block ends."""
    before = _current_stream()
    _streams.raw = int(stream)
    try:
        yield
    finally:
        _streams.raw = before


def _current_stream() -> int:
    return getattr(_streams, "raw", 0)


class EmulatedHipDriver(HipDriver):
    """The hip driver on an emulated device and CPU tensors.

    What it adds to the one for GPUs: which bytes each pointer argument may touch, the emulator's own exception for a launch that fails, and
    a current stream, since torch has none on the CPU.

    arch  the target; a device of the runtime is added for it when there is none
    """

    def __init__(self, arch: str):
        facts = arch_facts(arch)
        if facts.vendor != "amd":
            raise SpecError(f"the emulator runs AMD targets; {arch} needs an NVIDIA GPU")
        self.runtime = install([arch], beside_gpu=True)
        super().__init__(self.runtime.device(device_facts(facts)), tensors="cpu")
        self.stream = _current_stream

    def load(self, image: bytes, what: str) -> Any:
        """A module; a refusal has the emulator's words."""
        try:
            return super().load(image, what)
        except CodeObjectError as error:
            raise type(error)(f"{error}\n  {self.runtime.message()}") from error

    def bind(self, function: Any, geometry: Launch, layout: ArgumentLayout, last: tuple[int, ...] = ()) -> LaunchCall:
        """A launch as one call, which returns when the kernel is done, or with what the emulator found."""
        launch, runtime = super().bind(function, geometry, layout, last), self.runtime

        def emulated(stream: int, values: tuple[int, ...], tensors: tuple[Any, ...]) -> None:
            runtime.take_error()
            runtime.regions(regions_of(layout, tensors))
            try:
                with self._current():
                    launch(stream, values, tensors)
            except LaunchError as error:
                raise (runtime.take_error() or LaunchError(f"{error}\n  {runtime.message()}")) from error

        return emulated

    def capturing(self) -> bool:
        """Whether this thread's current stream is being captured."""
        hip, stream = self._hip, _current_stream()
        if not stream:
            return False
        status, state = hip.hipStreamIsCapturing(stream)
        return bool(status) or state != hip.hipStreamCaptureStatus.hipStreamCaptureStatusNone
