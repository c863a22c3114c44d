"""The libraries that this process has loaded, by device: `kgen.load()` and what the ops ask at a shape's first call."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from kgen import settings
from kgen.errors import LaunchError, MissingPieceError, OpError, Problem, SpecError
from kgen.runtime.driver import KINDS, Device, Driver, Kind
from kgen.runtime.library import Library
from kgen.spec.arch import ARCHES, arch_facts

Place = tuple[str, int]
"""torch device type and index; index -1 for the CPU."""

plans: dict[Any, Any] = {}
"""What the ops have worked out per shape. Replaced, never cleared: a call that began before a `load` stores into the old one."""

_lock = threading.RLock()
_libraries: dict[Place, Library] = {}
_latest: Place | None = None


def load(what: str | os.PathLike[str] | None = None, *, device: Kind | None = None) -> Library:
    """Load built kernels, for all `torch.ops.kgen` calls that follow on that device.

    what    a build folder, or a target whose folder is build/TARGET; None: KGEN_ARCH, else the device that is here
    device  "hip", "cuda" or "emu"; None: the GPU that is here when it is the target, else the emulator for AMD targets. With KGEN_EMU_ARCH set,
            "hip" is hip-python over the emulated HIP runtime, on CPU tensors, and is what AMD targets get

    Loading again replaces what was loaded for the same device. Raises MissingPieceError when nothing is built or the device is missing,
    WrongArchError when the folder is for another target than the device, ManifestError, SpecError (unknown target).
    """
    if device is not None and device not in KINDS:
        raise SpecError("no such device", [Problem(("device",), repr(device), ", ".join(KINDS))])
    named = what if what is not None else settings.ARCH.value
    if named is None:
        driver = _present_driver(device)
        folder = settings.build_dir(driver.device.arch)
    else:
        folder = _folder(named)
        driver = _driver_for(_arch_of(folder), device)
    _require_built(folder, driver.device.arch)
    return adopt(Library(folder, driver))


def adopt(library: Library) -> Library:
    """Make a library the one that `torch.ops.kgen` calls on its device use, as `load` does with what it loaded."""
    global plans, _latest
    device = library.driver.device
    place = (device.tensors, device.ordinal if device.tensors == "cuda" else -1)
    with _lock:
        for old in [old for old in _libraries if old[0] == place[0]]:
            del _libraries[old]  # kept alive by graphs and calls that still use it
        _libraries[place], _latest, plans = library, place, {}
    return library


def current() -> Library:
    """The library loaded last; raises OpError when there is none."""
    with _lock:
        if _latest is None:
            raise _nothing_loaded()
        return _libraries[_latest]


def library_on(kind: str, index: int) -> Library:
    """The library for tensors on a device: "cuda" with its index, or "cpu" with -1.

    Another GPU of a kind that was loaded gets its own copy at its first use. Raises OpError when nothing was loaded for the device.
    """
    place = (kind, index)
    found = _libraries.get(place)
    if found is not None:
        return found
    with _lock:
        if place in _libraries:
            return _libraries[place]
        like = next((library for (other, _), library in _libraries.items() if other == kind), None)
        if like is None:
            raise _nothing_loaded(kind)
        if like.driver.capturing():
            raise LaunchError(
                f"nothing is loaded on {kind}:{index} and a graph is being captured\n  try: kgen.warm_up() on that device before the capture"
            )
        driver = _make(like.driver.device.kind, like.arch, index)
        library = _libraries[place] = Library(like.folder, driver)
        return library


def warm_up() -> int:
    """Load every kernel of the current library; afterwards nothing is loaded any more, also while graphs are captured.

    On a machine with several GPUs, for the one that torch has current. Answers the number of kernels.
    """
    library = current()
    if library.driver.device.tensors == "cuda":
        import torch

        library = library_on("cuda", torch.cuda.current_device())
    return library.warm_up()


def unload() -> None:
    """Forget all libraries and give their modules back; captured graphs that use them must not be replayed any more."""
    global plans, _latest
    with _lock:
        libraries = list(_libraries.values())
        _libraries.clear()
        _latest, plans = None, {}
    for library in libraries:
        library.unload()


def stats() -> dict[str, int]:
    """How often each kernel has been launched by an op, and how often torch answered instead, over all loaded libraries."""
    out: dict[str, int] = {}
    for library in list(_libraries.values()):
        for name, count in library.answered().items():
            out[name] = out.get(name, 0) + count
    return out


def present_device() -> Device:
    """The device that `load()` would take: the GPU that torch can use, else the emulator. Raises MissingPieceError."""
    return _present_driver(None).device


def driver_for(arch: str, device: Kind | None = None) -> Driver:
    """The driver that runs a target, its GPU where there is one; for programs that bring kernels of their own. Raises as `load` does."""
    return _driver_for(arch_facts(arch).name, device)


# ---- which folder


def _folder(named: str | os.PathLike[str]) -> Path:
    """The build folder of a target's name, or the folder itself."""
    text = os.fspath(named)
    if text in ARCHES:
        return settings.build_dir(text)
    if os.sep in text or Path(text).is_dir():
        return Path(text).expanduser()
    problem = Problem(("what",), repr(text), f"a build folder, or one of {', '.join(ARCHES)}")
    raise SpecError("neither a folder nor a target", [problem])


def _arch_of(folder: Path) -> str:
    """The target of a folder: what its manifest says, or its name when there is none (`_require_built` complains then)."""
    from kgen.build.manifest import load_manifest

    if not (folder / "manifest.json").is_file():
        return arch_facts(folder.name).name if folder.name in ARCHES else _not_built(folder, None)
    return load_manifest(folder).arch


def _require_built(folder: Path, arch: str) -> None:
    if not (folder / "manifest.json").is_file():
        _not_built(folder, arch)


def _not_built(folder: Path, arch: str | None) -> Any:
    base = Path(settings.BUILD_DIR.value or "build").expanduser()
    there = sorted(path.parent.name for path in base.glob("*/manifest.json"))
    seen = f"\n  built here: {', '.join(there)} (kgen.load({there[0]!r}))" if there else ""
    raise MissingPieceError(
        f"nothing is built in {folder}: no manifest.json\n  try: `kgen build --arch {arch or 'TARGET'}`{seen}"
    )


# ---- which device


def _present_driver(device: Kind | None) -> Driver:
    """The driver of the device that is here: a GPU that torch can use, else the emulator for the target that is built."""
    import torch

    if device is None and settings.EMU_ARCH.value:
        device = "hip"
    kind = device or ("emu" if not torch.cuda.is_available() else "hip" if torch.version.hip else "cuda")
    if kind != "emu":
        driver = _make(kind, None, _current_ordinal())
        if driver.device.arch not in ARCHES:
            hint = "kgen.load('gfx1151', device='emu') runs an AMD target in the emulator"
            problem = Problem(("arch",), str(driver.device), ", ".join(ARCHES), hint)
            raise SpecError("no kernels are made for the GPU that is here", [problem])
        return driver
    return _make("emu", _emulated_arch(), -1)


def _emulated_arch() -> str:
    """The AMD target that is built; gfx1151 when it is among several, or when nothing is."""
    base = Path(settings.BUILD_DIR.value or "build").expanduser()
    there = [
        name for name, facts in ARCHES.items() if facts.vendor == "amd" and (base / name / "manifest.json").is_file()
    ]
    return there[0] if there else "gfx1151"  # ARCHES begins with gfx1151


def _driver_for(arch: str, device: Kind | None) -> Driver:
    """The driver that runs a target: its GPU when torch has one of that vendor, else the emulator."""
    import torch

    vendor = arch_facts(arch).vendor
    if device is None:
        gpu: Kind = "hip" if vendor == "amd" else "cuda"
        has_gpu = torch.cuda.is_available() and bool(torch.version.hip) == (vendor == "amd")
        has_gpu |= vendor == "amd" and bool(settings.EMU_ARCH.value)
        device = gpu if has_gpu or vendor == "nvidia" else "emu"
    return _make(device, arch, -1 if device == "emu" else _current_ordinal())


def _current_ordinal() -> int:
    import torch

    return torch.cuda.current_device() if torch.cuda.is_available() else 0


def _make(kind: Kind, arch: str | None, ordinal: int) -> Driver:
    """A driver, its module imported only now."""
    if kind == "hip" and settings.EMU_ARCH.value:
        from kgen.runtime.emulated_hip import EmulatedHipDriver
        from kgen.runtime.standin import targets

        return EmulatedHipDriver(arch or targets()[0])
    if kind == "hip":
        from kgen.runtime.hip import HipDriver

        return HipDriver(ordinal)
    if kind == "cuda":
        from kgen.runtime.cuda import CudaDriver

        return CudaDriver(ordinal)
    from kgen.runtime.emu import EmuDriver

    assert arch is not None
    return EmuDriver(arch)


def _nothing_loaded(kind: str | None = None) -> OpError:
    with_tensors = f" for {kind} tensors" if kind else ""
    there = ", ".join(str(library.driver.device) for library in _libraries.values())
    allowed = f"tensors of: {there}" if there else ""
    hint = "move the tensors there, or load for their device" if there else "kgen.load()"
    return OpError("no kernels are loaded" + with_tensors, [Problem(("device",), kind or "none", allowed, hint)])
