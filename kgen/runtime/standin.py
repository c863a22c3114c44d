"""The emulated HIP runtime under the hip driver: the code that AMD GPUs run with, the real hip-python, and kernels in the emulator.

It is used when asked for: by KGEN_EMU_ARCH, by `kgen emu -- PROGRAM`, or by `install()`; a runtime with a GPU is left alone otherwise.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgen import settings
from kgen.emu import hipruntime
from kgen.emu.hipdevice import DeviceFacts
from kgen.emu.hipruntime import HipRuntime
from kgen.errors import CodeObjectError, LaunchError, MissingPieceError, Problem, SpecError
from kgen.runtime.arguments import ArgumentLayout
from kgen.runtime.driver import LaunchCall
from kgen.runtime.emu import regions_of
from kgen.runtime.hip import HipDriver
from kgen.spec.arch import ARCHES, arch_facts
from kgen.spec.base import Launch

if TYPE_CHECKING:
    from kgen.spec.arch import ArchFacts

DEFAULT = "gfx1151"
KERNEL_DRIVER = Path("/dev/kfd")
_streams = threading.local()


def asked() -> bool:
    """Whether the hip device is to be an emulated one: KGEN_EMU_ARCH is set, or the runtime was installed."""
    return bool(settings.EMU_ARCH.value) or hipruntime.running() is not None


def targets() -> list[str]:
    """The targets in KGEN_EMU_ARCH, else gfx1151. Raises SpecError for one that the emulator does not run."""
    words = [word.strip() for word in (settings.EMU_ARCH.value or DEFAULT).split(",") if word.strip()]
    bad = [word for word in words if word not in ARCHES or ARCHES[word].vendor != "amd"]
    if bad or not words:
        allowed = ", ".join(name for name, facts in ARCHES.items() if facts.vendor == "amd")
        raise SpecError(
            "no target to emulate", [Problem((settings.EMU_ARCH.name,), repr(word), allowed) for word in bad or [""]]
        )
    return words


def install(arches: Sequence[str] | None = None, *, beside_gpu: bool = False) -> HipRuntime:
    """Make the emulated runtime the one that hip-python finds in this process, with one device per target.

    arches      targets; None: those of KGEN_EMU_ARCH, else gfx1151. Devices are only ever added.
    beside_gpu  also where an AMD GPU is; setting KGEN_EMU_ARCH means this too
    Raises MissingPieceError when there is a GPU and nobody insisted, when hip-python already uses another runtime, or without a C compiler.
    """
    if KERNEL_DRIVER.exists() and not beside_gpu and not asked():
        raise MissingPieceError(
            f"an AMD GPU's kernel driver is here ({KERNEL_DRIVER})\n  try: {settings.EMU_ARCH.name}={DEFAULT} to have the emulator all the same"
        )
    wanted = list(arches) if arches is not None else targets()
    runtime = hipruntime.start(_groups_per_cu)
    for arch in wanted:
        runtime.device(_device_facts(arch_facts(arch)))
    _lead_hip_python()
    return runtime


def _lead_hip_python() -> None:
    from kgen.emu.hiplibrary import lead_hip_python_here

    try:
        from hip import hip
    except ImportError as error:
        raise MissingPieceError(f"hip-python is not installed ({error}); try: pip install 'kgen[hip]'") from error
    lead_hip_python_here(hip)


def _device_facts(facts: ArchFacts) -> DeviceFacts:
    waves = facts.simds_per_cu * facts.max_waves_per_simd
    return DeviceFacts(
        arch=facts.name,
        name=f"emulated {facts.part}",
        cu=facts.cu,
        wave=facts.wave,
        lds_per_group=facts.lds_per_group,
        lds_per_cu=facts.lds_per_cu,
        threads_per_group=facts.max_threads,
        threads_per_cu=waves * facts.wave,
        groups_per_cu=facts.max_groups_per_cu,
        registers_per_cu=facts.vgpr_file * facts.wave * facts.simds_per_cu,
    )


def _groups_per_cu(image: bytes, kernel: str, arch: str, threads: int, lds: int) -> int:
    """What the occupancy queries answer: kgen's own model, which the report shows too."""
    from kgen.binary import read_binary
    from kgen.binary.occupancy import occupancy

    return occupancy(arch_facts(arch), read_binary(image, kernel).kernel(kernel), threads, lds).groups_per_cu


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
        super().__init__(self.runtime.device(_device_facts(facts)), tensors="cpu")
        self.stream = _current_stream

    def load(self, image: bytes, what: str) -> Any:
        """A module; a refusal has the emulator's words."""
        try:
            return super().load(image, what)
        except CodeObjectError as error:
            raise type(error)(f"{error}\n  {self.runtime.message()}") from error

    def bind(self, function: Any, geometry: Launch, layout: ArgumentLayout) -> LaunchCall:
        """A launch as one call, which returns when the kernel is done, or with what the emulator found."""
        launch, runtime = super().bind(function, geometry, layout), self.runtime

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
