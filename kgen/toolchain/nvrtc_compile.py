"""Compile one CUDA source to one cubin with nvrtc, as a program of its own: `python nvrtc_compile.py LIBRARY ARCH SOURCE OUT`.

Imports nothing of kgen and little of Python, so that a compile costs what nvrtc costs. The result appears whole or not at all.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

OPTIONS = ("--std=c++17",)


def load(library: str) -> ctypes.CDLL:
    """nvrtc, with its builtins loaded first: it does not find them beside itself."""
    folder = Path(library).parent
    for builtins in sorted(folder.glob("libnvrtc-builtins.so.*")):
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(library)


def compile_text(nvrtc: ctypes.CDLL, arch: str, text: bytes, name: str) -> tuple[bytes | None, str]:
    """(cubin or None, nvrtc's log). `arch` as in sm_90."""
    program = ctypes.c_void_p()
    status = nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, name.encode(), 0, None, None)
    if status:
        return None, f"nvrtcCreateProgram: error {status}"
    options = [f"--gpu-architecture={arch}".encode(), *(option.encode() for option in OPTIONS)]
    failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    log = _text_of(nvrtc, program, "ProgramLog").rstrip(b"\0").decode("utf-8", "replace")
    cubin = None if failed else _text_of(nvrtc, program, "CUBIN")
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return cubin or None, log or (f"nvrtcCompileProgram: error {failed}" if failed else "")


def _text_of(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    if getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) or not size.value:
        return b""
    buffer = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{what}")(program, buffer)
    return buffer.raw


def main(arguments: list[str]) -> int:
    """Compile; exit code 1 with nvrtc's log on stderr when it fails."""
    library, arch, source, out = arguments
    cubin, log = compile_text(load(library), arch, Path(source).read_bytes(), Path(source).name)
    if log:
        print(log, file=sys.stderr)
    if cubin is None:
        return 1
    part = f"{out}.{os.getpid()}.part"
    Path(part).write_bytes(cubin)
    os.replace(part, out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
