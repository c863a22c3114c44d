"""LLVM's disassembler through its C API (llvm-c/Disassembler.h), from a libLLVM that lies beside a compiler; in this process, by ctypes.

A toolchain folder that is not on the loader's path also carries the libraries that libLLVM needs (z3, xml2, icu, edit ...). They are
loaded first, from the same folder: the loader then finds them by name. Nothing is exported to the rest of the process (RTLD_LOCAL), so that
another LLVM in it, torch's or a ROCm's, is not disturbed.
"""

from __future__ import annotations

import ctypes
import os
import threading
from functools import lru_cache
from pathlib import Path

from kgen.binary.instruction import Instruction, from_text
from kgen.errors import MissingPieceError

_TRIPLE = b"amdgcn-amd-amdhsa"
_TEXT_BYTES = 512
_lock = threading.Lock()  # a disassembler context must not be used by two threads at once
# in the order they need each other; a missing one is left to the system's loader
_NEEDED = (
    "libmd.so.0",
    "libbsd.so.0",
    "libtinfo.so.6",
    "libedit.so.2",
    "libicudata.so.*",
    "libicuuc.so.*",
    "liblzma.so.5",
    "libxml2.so.*",
    "libz3.so.4",
    "libzstd.so.1",
    "libffi.so.*",
)


@lru_cache(maxsize=4)
def load(path: Path) -> ctypes.CDLL:
    """libLLVM with its AMDGPU disassembler ready; raises MissingPieceError if it cannot be loaded or has no AMDGPU target."""
    kept = _preload(path.parent)
    try:
        lib = ctypes.CDLL(str(path), mode=os.RTLD_LOCAL | os.RTLD_LAZY)
        for part in ("TargetInfo", "TargetMC", "Disassembler"):
            getattr(lib, f"LLVMInitializeAMDGPU{part}")()
        lib.LLVMCreateDisasmCPUFeatures.restype = ctypes.c_void_p
        lib.LLVMCreateDisasmCPUFeatures.argtypes = (
            [ctypes.c_char_p] * 3 + [ctypes.c_void_p, ctypes.c_int] + [ctypes.c_void_p] * 2
        )
        lib.LLVMDisasmInstruction.restype = ctypes.c_size_t
        lib.LLVMDisasmInstruction.argtypes = [
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_char_p, ctypes.c_size_t,
        ]  # fmt: skip
        lib.LLVMDisasmDispose.argtypes = [ctypes.c_void_p]
    except (OSError, AttributeError) as error:
        raise MissingPieceError(
            f"{path}: cannot be used as a disassembler ({error}); `kgen toolchain install` brings one that can"
        ) from error
    lib.kgen_kept = kept  # type: ignore[attr-defined]
    return lib


def _preload(folder: Path) -> list[ctypes.CDLL]:
    kept = []
    for pattern in _NEEDED:
        for file in sorted(folder.glob(pattern))[:1]:
            try:
                kept.append(ctypes.CDLL(str(file), mode=os.RTLD_LOCAL | os.RTLD_LAZY))
            except OSError:
                continue  # the system may have its own; if not, loading libLLVM says what is missing
    return kept


@lru_cache(maxsize=16)
def _context(path: Path, arch: str) -> int:
    context = load(path).LLVMCreateDisasmCPUFeatures(_TRIPLE, arch.encode(), b"", None, 0, None, None)
    if not context:
        raise MissingPieceError(f"{path}: knows no target {arch}; `kgen toolchain install` brings an LLVM that does")
    return context


def disassemble(path: Path, arch: str, data: bytes, address: int) -> list[Instruction]:
    """All instructions of `data`, which begins at `address`. Raises MissingPieceError as `load` does."""
    with _lock:
        return _disassemble(load(path), _context(path, arch), data, address)


def _disassemble(lib: ctypes.CDLL, context: int, data: bytes, address: int) -> list[Instruction]:
    buffer = ctypes.create_string_buffer(data, len(data))
    base, text, at, out = ctypes.addressof(buffer), ctypes.create_string_buffer(_TEXT_BYTES), 0, []
    one = lib.LLVMDisasmInstruction
    while at < len(data):
        size = one(context, base + at, len(data) - at, address + at, text, _TEXT_BYTES)
        if size:
            out.append(from_text(address + at, text.value.decode("latin-1"), size))
        else:
            size = min(4, len(data) - at)
            out.append(Instruction(address + at, "?", data[at : at + size].hex(), size))
        at += size
    return out
