"""The C engine as a loaded library: built at first use, kept in the cache folder under the hash of everything that went into it."""

from __future__ import annotations

import contextlib
import ctypes as c
import functools
import hashlib
import platform
import re
from pathlib import Path

from kgen import settings
from kgen.emu.seal import is_whole
from kgen.emu.structs import RECORDS, Insn, Launch

SOURCES = Path(__file__).resolve().parent / "engine"
BUILD_VERSION = "2"  # raise it when the compiler's flags change
UNITS = ("generic.c", "matrix.c", "run.c", "scheduler.c")


@functools.cache
def sources() -> dict[str, str]:
    """The engine's source files by name."""
    return {path.name: path.read_text() for path in sorted(SOURCES.glob("*.[ch]"))}


@functools.cache
def operations() -> dict[str, int]:
    """Operation name -> number, one for every OP_ name that the engine's sources mention; 0 means unknown."""
    names = {name for text in sources().values() for name in re.findall(r"\bOP_([A-Z0-9_]+)\b", text)}
    return {name: number for number, name in enumerate(sorted(names - {"NONE"}), start=1)}


@functools.cache
def version() -> str:
    """Digest of the engine's sources."""
    text = "\0".join(f"{name}\0{text}" for name, text in sources().items())
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _cpu() -> str:
    """What -march=native depends on, so that a cache folder shared by machines holds one engine for each kind."""
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        info = ""
    lines = [m.group(0) for key in ("vendor_id", "flags", "Features") if (m := re.search(rf"^{key}.*$", info, re.M))]
    return "\0".join([platform.machine(), *lines])


def path() -> Path:
    """Where the engine for this machine and these sources belongs."""
    explicit = settings.CC.value or ""
    key = hashlib.sha256("\0".join([version(), BUILD_VERSION, _cpu(), explicit]).encode()).hexdigest()[:20]
    return settings.cache_dir() / "emulator" / f"engine-{key}.so"


@functools.cache
def load() -> c.CDLL:
    """The engine; compiled first when the cache has none. Raises MissingPieceError when there is no compiler."""
    return open_library(path())


def open_library(file: Path) -> c.CDLL:
    """Load an engine library from `file`, building it there when it is missing or cannot be loaded."""
    for name in (
        "libm.so.6",
        "libpthread.so.0",
    ):  # the engine is linked against nothing and finds what it calls in the process
        with contextlib.suppress(OSError):
            c.CDLL(name, mode=c.RTLD_GLOBAL)
    if not is_whole(file):
        from kgen.emu.compilers import build

        build(SOURCES, UNITS, ops_header(), file)
    library = c.CDLL(str(file))
    library.kgen_emu_run.argtypes = [c.POINTER(Launch)]
    library.kgen_emu_end.argtypes = [c.POINTER(Launch)]
    library.kgen_emu_end.restype = None
    library.kgen_emu_prepare.argtypes = [c.POINTER(Insn), c.c_uint32, c.c_uint32]
    library.kgen_emu_prepare.restype = None
    library.kgen_emu_sizes.restype = c.c_uint64
    sizes = [library.kgen_emu_sizes(i) for i in range(len(RECORDS))]
    assert sizes == [c.sizeof(record) for record in RECORDS], f"engine records are {sizes} bytes"
    return library


def ops_header() -> str:
    """Text of the generated ops.h."""
    return "enum { OP_NONE, " + ", ".join(f"OP_{name}" for name in operations()) + " };\n"
