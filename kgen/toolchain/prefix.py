"""The layout of kgen's own toolchain folder, and the small start scripts that make it run on any machine.

    bin/                 hipcc, clang++, clang: scripts that set what the programs need and start them
    usr/lib/llvm-22/     compiler, linker, device libraries, and every shared library they load, flat in lib/
    usr/include/hip/     HIP's headers (kgen's kernels include none; they are for yours)
    usr/amdgcn           device libraries where hipcc looks for them
    hipcc/               the hipcc program with the C library it was built for and that library's own loader
    kgen-toolchain.json  what is in here; written last, so a folder without it is not an installation

The folder can be moved. hipcc does not quote the compiler's path, so it is left out where the path has a space (clang++ then
does the same compile).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kgen.toolchain.lock import Lock, read_lock

MARK = "kgen-toolchain.json"
LLVM = "usr/lib/llvm-22"
_LIB = re.compile(r"^(?:usr/)?lib/x86_64-linux-gnu/(?P<name>[^/]+\.so[^/]*)$")
_UNUSED_LIB = re.compile(r"^libicu(i18n|io|test|tu)\.")  # libxml2 loads libicuuc, which loads libicudata, and no more
_PROGRAMS = ("clang", "clang++", "lld", "ld.lld")
_HIPCC_LIBS = ("ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libgcc_s.so.1")

_CLANG_SCRIPT = """\
#!/bin/sh
# Starts kgen's {name} with the libraries that were unpacked beside it. Made by kgen; the folder may be moved.
root=${{0%/*}}/..
export LD_LIBRARY_PATH="$root/{llvm}/lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
exec "$root/{llvm}/bin/{name}" "$@"
"""
_HIPCC_SCRIPT = """\
#!/bin/sh
# Starts hipcc by the C library it was built for; the clang++ that it calls uses this machine's own. Made by kgen.
root=${0%/*}/..
export HIP_PLATFORM="${HIP_PLATFORM:-amd}" HIP_CLANG_PATH="$root/bin" HIP_PATH="$root/usr" ROCM_PATH="$root/usr"
exec "$root/hipcc/ld-linux-x86-64.so.2" --library-path "$root/hipcc" --argv0 "$root/usr/bin/hipcc" "$root/hipcc/hipcc" "$@"
"""
# hipcc asks this program for the GPUs of the machine even when the target is named, and complains when it is missing
_ENUMERATOR = "#!/bin/sh\n# Names no GPU: kgen always says which target it compiles for.\nexit 0\n"


def _place_llvm(path: str) -> str | None:
    lib = _LIB.match(path)
    if lib:
        return None if _UNUSED_LIB.match(lib["name"]) else f"{LLVM}/lib/{lib['name']}"
    if path.startswith(f"{LLVM}/bin/"):
        return path if path.removeprefix(f"{LLVM}/bin/") in _PROGRAMS else None
    return path if path.startswith(f"{LLVM}/lib/") and not path.startswith(f"{LLVM}/lib/cmake/") else None


def _place_headers(path: str) -> str | None:
    return path if path.startswith("usr/include/") or path == "usr/share/hip/version" else None


def _place_hipcc(path: str) -> str | None:
    if path == "usr/bin/hipcc":
        return "hipcc/hipcc"
    lib = _LIB.match(path)
    return (
        f"hipcc/{lib['name']}" if lib and (lib["name"] in _HIPCC_LIBS or lib["name"].startswith("libstdc++")) else None
    )


PLACES: dict[str, Callable[[str], str | None]] = {
    "llvm": _place_llvm,
    "headers": _place_headers,
    "hipcc": _place_hipcc,
}


@dataclass(frozen=True)
class Prefix:
    """One finished installation."""

    root: Path
    id: str
    versions: dict[str, str]

    @property
    def hipcc(self) -> Path | None:
        """The hipcc start script, or None where the path has a space."""
        path = self.root / "bin" / "hipcc"
        return path if path.is_file() and not has_space(path) else None

    @property
    def clangxx(self) -> Path:
        """The clang++ start script."""
        return self.root / "bin" / "clang++"

    @property
    def clang(self) -> Path:
        """The C compiler's start script."""
        return self.root / "bin" / "clang"


def has_space(path: Path) -> bool:
    """Whether hipcc would trip over this path: it hands paths to a shell unquoted."""
    return re.search(r"[\s\"'$`\\;&|<>()*?]", str(path)) is not None


def finish(root: Path, lock: Lock) -> None:
    """Write start scripts and links into an unpacked tree, and the mark that makes it an installation."""
    (root / "bin").mkdir(exist_ok=True)
    for name in ("clang", "clang++"):
        _script(root / "bin" / name, _CLANG_SCRIPT.format(name=name, llvm=LLVM))
    if any(locked.room == "hipcc" for locked in lock.packages):
        _script(root / "bin" / "hipcc", _HIPCC_SCRIPT)
        _script(root / "usr" / "bin" / "rocm_agent_enumerator", _ENUMERATOR)
    amdgcn = root / "usr" / "amdgcn"
    if not amdgcn.is_symlink():
        amdgcn.symlink_to("lib/llvm-22/lib/clang/22/amdgcn")
    packages = {locked.package.name: locked.package.version for locked in lock.packages}
    (root / MARK).write_text(
        json.dumps({"schema": 1, "id": lock.id, "packages": packages}, indent=1) + "\n", encoding="utf-8"
    )


def read_prefix(root: Path) -> Prefix | None:
    """The installation in a folder, or None when it is not a finished one."""
    try:
        data = json.loads((root / MARK).read_text(encoding="utf-8"))
        return Prefix(root, str(data["id"]), dict(data["packages"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    os.chmod(path, 0o755)


def toolchain_dir() -> Path:
    """The folder of all installations, below the cache folder."""
    from kgen.settings import cache_dir

    return cache_dir() / "toolchain"


def installed(root: Path | None = None) -> Prefix | None:
    """The installation to use: the one that the lock file names, else the newest other one, else None."""
    root = root or toolchain_dir()
    wanted = read_prefix(root / read_lock().id)
    if wanted is not None or not root.is_dir():
        return wanted
    others = [prefix for path in root.iterdir() if not path.name.startswith(".") and (prefix := read_prefix(path))]
    return max(others, key=lambda prefix: prefix.root.stat().st_mtime, default=None)
