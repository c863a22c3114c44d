"""The emulated HIP runtime put in the place of libamdhip64, for hip-python and whoever uses it in this process.

It is used when asked for: by KGEN_EMU_ARCH, by `kgen emu -- PROGRAM`, or by `install()`; a runtime with a GPU is left alone otherwise.
Nothing here needs torch; kgen's own driver over it is in emulated_hip.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kgen import settings
from kgen.emu import hipruntime
from kgen.emu.hipdevice import DeviceFacts
from kgen.emu.hipruntime import HipRuntime
from kgen.errors import MissingPieceError, Problem, SpecError
from kgen.spec.arch import ARCHES, arch_facts

if TYPE_CHECKING:
    from kgen.spec.arch import ArchFacts

DEFAULT = "gfx1151"
KERNEL_DRIVER = Path("/dev/kfd")


def asked() -> bool:
    """Whether kgen's hip device is to be an emulated one: KGEN_EMU_ARCH is set, as `kgen emu` does too."""
    return bool(settings.EMU_ARCH.value)


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
        runtime.device(device_facts(arch_facts(arch)))
    _lead_hip_python()
    return runtime


def _lead_hip_python() -> None:
    from kgen.emu.hiplibrary import lead_hip_python_here

    try:
        from hip import hip
    except ImportError as error:
        raise MissingPieceError(f"hip-python is not installed ({error}); try: pip install 'kgen[hip]'") from error
    lead_hip_python_here(hip)


def device_facts(facts: ArchFacts) -> DeviceFacts:
    """A target as a device: the part in the table of facts."""
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
