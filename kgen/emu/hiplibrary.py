"""The emulated HIP runtime as a loaded library: built at first use like the engine, found by hip-python by its SONAME.

hip-python 7 opens "libamdhip64.so". The C library's loader takes a library that is loaded already when its SONAME is that name, so it is
enough to load ours before the first HIP call, from wherever it lies. hip-python 10 asks a function of its own for the path first (its
package, the rocm_sdk package, ROCM_PATH, /opt/rocm), so while it asks, that function answers with our file.
The library is loaded without RTLD_GLOBAL: nobody who did not ask for it by name gets it.
"""

from __future__ import annotations

import ctypes as c
import functools
import hashlib
import platform
import re
import threading
from pathlib import Path
from typing import Any

from kgen import settings
from kgen.emu.hiprecords import RECORDS, Callbacks, Device, Region
from kgen.emu.library import is_whole
from kgen.errors import MissingPieceError

SONAME = "libamdhip64.so"
SOURCES = Path(__file__).resolve().parent / "hip"
UNITS = ("state.c", "device.c", "memory.c", "module.c", "stream.c")
_lock = threading.Lock()


@functools.cache
def sources() -> dict[str, str]:
    """The source files by name; names.txt has every name that hip-python 7.2.2 and 10.0 look up in the library."""
    return {path.name: path.read_text() for path in sorted(SOURCES.iterdir()) if path.suffix in (".c", ".h", ".txt")}


def entry_points() -> tuple[list[str], list[str]]:
    """The names that hip-python can ask for: those that are answered, and those that answer hipErrorNotSupported."""
    text = "\n".join(text for name, text in sources().items() if name.endswith(".c"))
    answered = set(re.findall(r"^API(?:_TEXT)? (hip\w+)\(", text, re.M))
    return sorted(answered), sorted(set(sources()["names.txt"].split()) - answered)


def path() -> Path:
    """Where the library for this machine and these sources belongs."""
    parts = [platform.machine(), settings.CC.value or ""]
    parts += [f"{name}\0{text}" for name, text in sources().items()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    return settings.cache_dir() / "emulator" / f"hip-{key}.so"


@functools.cache
def _open() -> c.CDLL:
    file = path()
    if not is_whole(file):
        from kgen.emu.compilers import build

        header = "".join(f"STUB({name})\n" for name in entry_points()[1])
        build(SOURCES, UNITS, header, file, link=(f"-Wl,-soname,{SONAME}",))
    library = c.CDLL(str(file))
    library.kgenEmuSetup.argtypes = [c.POINTER(Callbacks), c.c_int]
    library.kgenEmuSizes.argtypes = [c.POINTER(c.c_uint64)]
    library.kgenEmuAddDevice.argtypes = [c.POINTER(Device)]
    library.kgenEmuRegions.argtypes = [c.POINTER(Region), c.c_uint64]
    library.kgenEmuSay.argtypes = [c.c_char_p]
    library.kgenEmuLastMessage.restype = c.c_char_p
    sizes = (c.c_uint64 * len(RECORDS))()
    library.kgenEmuSizes(sizes)
    assert list(sizes) == [c.sizeof(record) for record in RECORDS], f"the library's records are {list(sizes)} bytes"
    return library


def load() -> c.CDLL:
    """The library; compiled first when the cache has none. Raises MissingPieceError when there is no compiler."""
    with _lock:
        return _open()


def last_message() -> str:
    """What the library had to say to this thread's last call that failed."""
    return load().kgenEmuLastMessage().decode(errors="replace")


def lead_hip_python_here(hip: Any) -> None:
    """Let the module `hip.hip` of either generation open our library, with its first call.

    Raises MissingPieceError when it has opened another one before.
    """
    library = load()
    paths = _path_finder()
    if paths is None:
        _first_call(hip)
    else:
        original = paths.get_library_path
        paths.get_library_path = lambda name, *rest, **more: (
            str(path()).encode() if name == "amdhip64" else original(name, *rest, **more)
        )
        try:
            _first_call(hip)
        finally:
            paths.get_library_path = original
    mark = c.c_int.in_dll(library, "kgenEmuCalls")
    before = mark.value
    _first_call(hip)
    if mark.value == before:
        raise MissingPieceError(
            "hip-python uses another HIP runtime already in this process\n"
            "  try: ask for the emulated one before the first HIP call, e.g. `kgen emu -- PROGRAM`"
        )


def _first_call(hip: Any) -> None:
    hip.hipRuntimeGetVersion()


def _path_finder() -> Any:
    """The module in which hip-python 10 looks for libraries; None for 7."""
    try:
        from rocm.bindings.util import paths  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    return paths if hasattr(paths, "get_library_path") else None
