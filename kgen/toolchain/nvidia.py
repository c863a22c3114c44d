"""The compiler for NVIDIA targets, where HIP's device language is CUDA: nvrtc (four times as fast to start) or nvcc.

nvrtc comes with the wheel nvidia-cuda-nvrtc (extra `cuda`) or a CUDA toolkit; hipcc on its NVIDIA platform only hands over to nvcc
and gives the same bytes, so nvcc is called straight.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kgen.errors import ToolchainError
from kgen.toolchain import nvrtc_compile

_SCRIPT = Path(nvrtc_compile.__file__)
CURE = 'pip install "kgen[cuda]", or set CUDA_HOME to a CUDA toolkit'


@dataclass(frozen=True)
class NvidiaToolchain:
    """A compiler for NVIDIA targets, with the interface of `AmdToolchain`. `flavour` is "nvrtc" or "nvcc"."""

    command: tuple[str, ...]
    env: dict[str, str]
    flavour: str
    version: str
    identity: str
    source: str
    arches: tuple[str, ...]
    disassembler: Path | None = None
    libllvm: None = None
    vendor: str = field(default="nvidia", init=False)

    def flags(self, arch: str) -> list[str]:
        """The options of a compile for `arch`, without any path."""
        if self.flavour == "nvrtc":
            return [f"--gpu-architecture={arch}", *nvrtc_compile.OPTIONS]
        return ["-x", "cu", "--cubin", f"-arch={arch}", "-std=c++17", "-O3"]

    def compile_command(self, arch: str, source: Path | str, out: Path | str) -> list[str]:
        """The command that turns one self-contained source file into one cubin."""
        if self.flavour == "nvrtc":
            return [*self.command, arch, str(source), str(out)]
        return [*self.command, *self.flags(arch), str(source), "-o", str(out)]


def find_nvidia(arches: Sequence[str]) -> NvidiaToolchain:
    """nvrtc if there is one that knows every wanted target, else nvcc.

    Raises ToolchainError when there is neither: every candidate with the reason of its refusal, and the cure.
    """
    wanted = tuple(dict.fromkeys(arches))
    refused = []
    for library, origin in nvrtc_libraries():
        found = _try_nvrtc(library, origin, wanted)
        if isinstance(found, NvidiaToolchain):
            return found
        refused.append(f"  {library} ({origin})\n      {found}")
    for nvcc, origin in _nvccs():
        found = _try_nvcc(nvcc, origin, wanted)
        if isinstance(found, NvidiaToolchain):
            return found
        refused.append(f"  {nvcc} ({origin})\n      {found}")
    looked = refused or [
        "  looked for: the wheel nvidia-cuda-nvrtc, CUDA_HOME, CUDA_PATH, nvcc on PATH, /usr/local/cuda"
    ]
    raise ToolchainError(
        "\n".join([f"no compiler on this machine makes code for {', '.join(wanted)}", *looked, f"  try: {CURE}"])
    )


def cuda_folders() -> Iterator[tuple[Path, str]]:
    """CUDA toolkits: CUDA_HOME, CUDA_PATH, beside nvcc on PATH, /usr/local/cuda."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            yield Path(os.environ[variable]), variable
    on_path = shutil.which("nvcc")
    if on_path:
        yield Path(on_path).resolve().parent.parent, "PATH"
    if Path("/usr/local/cuda").is_dir():
        yield Path("/usr/local/cuda"), "/usr/local/cuda"


def nvrtc_libraries() -> Iterator[tuple[Path, str]]:
    """Every nvrtc library: the wheel's (`nvidia/cu13/lib`, or `nvidia/cuda_nvrtc/lib` before CUDA 13), then the toolkits'."""
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(root).glob("*/lib/libnvrtc.so.*"), reverse=True):
            yield path, "wheel nvidia-cuda-nvrtc"
    for folder, origin in cuda_folders():
        for lib in ("lib64", "lib", "targets/x86_64-linux/lib"):
            found = sorted(path for path in (folder / lib).glob("libnvrtc.so.*") if "alt" not in path.name)
            if found:
                yield found[0], origin
                break


def _nvccs() -> Iterator[tuple[Path, str]]:
    for folder, origin in cuda_folders():
        if (folder / "bin" / "nvcc").is_file():
            yield folder / "bin" / "nvcc", origin


def _try_nvrtc(library: Path, origin: str, wanted: tuple[str, ...]) -> NvidiaToolchain | str:
    """nvrtc tells its version and targets itself; nothing has to be compiled."""
    try:
        nvrtc = nvrtc_compile.load(str(library))
        major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        nvrtc.nvrtcGetNumSupportedArchs(ctypes.byref(count))
        known = (ctypes.c_int * count.value)()
        nvrtc.nvrtcGetSupportedArchs(known)
    except (OSError, AttributeError) as error:
        return f"cannot be loaded: {error}"
    unknown = [arch for arch in wanted if int(re.sub(r"\D", "", arch) or 0) not in known]
    if unknown:
        return f"does not know {', '.join(unknown)} (knows {', '.join(f'sm_{number}' for number in known)})"
    release = f"{major.value}.{minor.value}"
    identity = f"nvrtc {release} {library.resolve().stat().st_size}"
    # -I: no site of the user's, no current folder; a compile is a fresh process
    command = (sys.executable, "-I", "-S", str(_SCRIPT), str(library))
    return NvidiaToolchain(command, {}, "nvrtc", f"nvrtc {release}", identity, origin, wanted)


def _try_nvcc(nvcc: Path, origin: str, wanted: tuple[str, ...]) -> NvidiaToolchain | str:
    try:
        asked = [
            subprocess.run([nvcc, option], capture_output=True, text=True, timeout=60)
            for option in ("--version", "--list-gpu-code")
        ]
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"cannot be started: {error}"
    version, known = (run.stdout for run in asked)
    unknown = [arch for arch in wanted if arch.rstrip("af") not in known.split()]
    if asked[0].returncode or unknown:
        return f"does not know {', '.join(unknown)}" if unknown else f"exit code {asked[0].returncode}"
    release = re.search(r"V([\d.]+)", version)
    words = f"nvcc {release[1] if release else 'of unknown version'}"
    identity = f"{words} {hashlib.sha256(version.encode()).hexdigest()[:16]}"
    return NvidiaToolchain((str(nvcc),), {}, "nvcc", words, identity, origin, wanted)
