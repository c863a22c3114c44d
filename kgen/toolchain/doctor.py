"""What this machine has and lacks, as data: `kgen doctor` prints it.

Nothing here raises for a missing piece; a check says what was found, or what to do. torch is only asked for its version unless told
otherwise, because importing it takes seconds.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kgen.errors import ToolchainError
from kgen.toolchain import find, nvidia
from kgen.toolchain.prefix import installed, toolchain_dir
from kgen.toolchain.probe import VerdictCache

State = Literal["ok", "missing", "optional"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked for.

    group  heading it belongs under
    name   what was looked for
    state  ok; missing (kgen cannot do its main job); optional (only some commands need it)
    found  what is there, or why it does not do
    cure   what to do, empty when ok
    """

    group: str
    name: str
    state: State
    found: str
    cure: str = ""


def checks(*, import_torch: bool = False) -> list[Check]:
    """Everything that `kgen doctor` reports, in its order."""
    return [
        *compilers(),
        *amd_runtime(),
        *nvidia_runtime(),
        *emulator(),
        *packages(import_torch=import_torch),
        *folders(),
        *settings(),
    ]


def compilers() -> Iterator[Check]:
    """Every AMD compiler with its verdict for each target, then the one that kgen would take; then NVIDIA's."""
    from kgen.settings import HIPCC, cache_dir
    from kgen.spec.arch import ARCHES

    amd = [name for name, facts in ARCHES.items() if facts.vendor == "amd"]
    cache = VerdictCache(cache_dir() / "compilers.json")
    for candidate in find.candidates(HIPCC.value):
        verdict, reason = find.judge(candidate, amd, cache)
        works = [arch for arch in amd if verdict is not None and verdict.arches.get(arch, "") is None]
        version = f"{verdict.version}, " if verdict else ""
        words = f"{candidate.command} ({version}{candidate.origin}): {', '.join(works) or 'no target'}"
        yield Check(
            "compilers", candidate.flavour, "ok" if works else "optional", words + (f"; {reason}" if reason else "")
        )
    yield _chosen("AMD compiler", amd, find.CURE)
    yield _chosen("NVIDIA compiler", [name for name in ARCHES if name not in amd], nvidia.CURE)


def _chosen(name: str, arches: Sequence[str], cure: str) -> Check:
    """The compiler that a build of all these targets would take."""
    try:
        tool = find.find_toolchain(*arches)
    except ToolchainError as error:
        state: State = "missing" if name.startswith("AMD") else "optional"
        return Check("compilers", name, state, str(error).splitlines()[0], cure)
    return Check("compilers", name, "ok", f"{' '.join(tool.command)} for {', '.join(arches)}")


def amd_runtime() -> Iterator[Check]:
    """hip-python, the HIP runtime that it loads, and the AMD GPUs that this sees."""
    if _version("hip-python") is None:
        yield Check(
            "AMD GPU", "hip-python", "optional", "not installed", 'pip install "kgen[hip]" to run on an AMD GPU'
        )
        return
    yield Check("AMD GPU", "hip-python", "ok", str(_version("hip-python")))
    try:
        from hip import hip

        # works without a device; a missing library shows as RuntimeError at the first call
        _, version = hip.hipRuntimeGetVersion()
        _, count = hip.hipGetDeviceCount()
    except (ImportError, RuntimeError, OSError) as error:
        cure = "install ROCm's runtime, with libamdhip64.so (this very name) where the loader finds it"
        yield Check("AMD GPU", "libamdhip64", "optional", str(error).splitlines()[0], cure)
        return
    yield Check("AMD GPU", "libamdhip64", "ok", f"version {version}")
    for index in range(int(count)):
        yield Check("AMD GPU", f"device {index}", "ok", _hip_device_name(hip, index))
    if not count:
        yield Check("AMD GPU", "device", "optional", "none", "without one, kernels run in the emulator")


def _hip_device_name(hip: Any, index: int) -> str:
    """Name and target of a device; hip-python 7 fills a struct, 10 returns one."""
    try:
        try:
            _, props = hip.hipGetDeviceProperties(index)
        except TypeError:
            props = hip.hipDeviceProp_t()
            hip.hipGetDeviceProperties(props, index)
        return f"{props.name.decode()} ({props.gcnArchName.decode()})"
    except (RuntimeError, AttributeError, TypeError) as error:
        return f"unnamed ({error})"


def nvidia_runtime() -> Iterator[Check]:
    """The NVIDIA driver by its own library, its GPUs, and cuda-bindings."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        status = driver.cuInit(0)
    except OSError:
        yield Check("NVIDIA GPU", "driver", "optional", "no libcuda.so.1", "NVIDIA's driver brings it")
        return
    version, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    yield Check("NVIDIA GPU", "driver", "ok", f"CUDA {version.value // 1000}.{version.value % 1000 // 10}")
    if status == 0:
        driver.cuDeviceGetCount(ctypes.byref(count))
    for index in range(count.value):
        yield Check("NVIDIA GPU", f"device {index}", "ok", _cuda_device_name(driver, index))
    if not count.value:
        yield Check("NVIDIA GPU", "device", "optional", f"none (cuInit says {status})", "a GPU of target sm_90")
    bindings = _version("cuda-bindings")
    cure = "" if bindings else 'pip install "kgen[cuda]" to run on an NVIDIA GPU'
    yield Check("NVIDIA GPU", "cuda-bindings", "ok" if bindings else "optional", bindings or "not installed", cure)


def _cuda_device_name(driver: ctypes.CDLL, index: int) -> str:
    name = ctypes.create_string_buffer(100)
    major, minor = ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetName(name, len(name), index)
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, index)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, index)
    return f"{name.value.decode()} (sm_{major.value}{minor.value})"


def emulator() -> Iterator[Check]:
    """What the emulator needs: instruction tables and, once, a C compiler."""
    tables = _version("tinygrad")
    cure = "" if tables else 'pip install "kgen[emu]"'
    yield Check("emulator", "tinygrad", "ok" if tables else "missing", tables or "not installed", cure)
    found = c_compilers()
    cure = "" if found else f"any C compiler, or {find.CURE}, or pip install ziglang"
    yield Check("emulator", "C compiler", "ok" if found else "missing", ", ".join(found) or "none", cure)


def c_compilers() -> list[str]:
    """C compilers that could build the emulator's engine, in words."""
    from kgen.settings import CC

    named = [CC.value] if CC.value else []
    on_path = [path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))]
    zig = ["ziglang (Python package)"] if importlib.util.find_spec("ziglang") else []
    return [*named, *on_path, *(command[0] for command in find.engine_compilers()), *zig]


def packages(*, import_torch: bool = False) -> Iterator[Check]:
    """torch, which the ops need."""
    version = _version("torch")
    if version is None:
        yield Check(
            "Python", "torch", "optional", "not installed", "pip install torch, for torch.ops.kgen and `kgen check`"
        )
        return
    if import_torch:
        import torch

        version += f", HIP {torch.version.hip}, CUDA {torch.version.cuda}"
    yield Check("Python", "torch", "ok", version)


def folders() -> Iterator[Check]:
    """The cache folder and kgen's own compiler in it."""
    from kgen.settings import cache_dir

    folder = cache_dir()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    writable = os.access(there, os.W_OK)
    free = shutil.disk_usage(there).free >> 20
    words = f"{folder} ({free} MB free)" if writable else f"{folder} cannot be written"
    cure = "" if writable else "set KGEN_CACHE_DIR to a folder that you may write to"
    yield Check("folders", "cache", "ok" if writable else "missing", words, cure)
    own = installed()
    yield Check(
        "folders",
        "kgen's own compiler",
        "ok" if own else "optional",
        f"{own.root} ({_folder_mb(own.root)} MB)" if own else f"not installed in {toolchain_dir()}",
        "" if own else find.CURE,
    )


def settings() -> Iterator[Check]:
    """Every environment setting with its present value."""
    from kgen.settings import settings as all_settings

    for setting, value in all_settings():
        yield Check("settings", setting.name, "ok", value if value is not None else f"unset: {setting.doc}")


def _folder_mb(root: Path) -> int:
    return sum(path.lstat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink()) >> 20


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
