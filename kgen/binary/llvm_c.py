"""LLVM's disassembler through its C API (llvm-c/Disassembler.h), from a libLLVM that lies beside a compiler; in this process, by ctypes.

A toolchain folder that is not on the loader's path also carries the libraries that libLLVM needs (z3, xml2, icu, edit ...). They are
loaded first, from the same folder: the loader then finds them by name. Nothing is exported to the rest of the process (RTLD_LOCAL), so that
another LLVM in it, torch's or a ROCm's, is not disturbed.
"""

from __future__ import annotations

import contextlib
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


@lru_cache(maxsize=4)
def load(path: Path, preload: tuple[Path, ...] = ()) -> ctypes.CDLL:
    """libLLVM with its AMDGPU disassembler ready.

    preload   libraries to load first, in that order; default: those that lie beside it
    Raises MissingPieceError if it cannot be loaded or has no AMDGPU target.
    """
    kept = _preload(preload or _beside(path.parent))
    try:
        lib = ctypes.CDLL(str(path), mode=os.RTLD_LOCAL | os.RTLD_LAZY)
        for part in ("TargetInfo", "TargetMC", "Disassembler"):
            getattr(lib, f"LLVMInitializeAMDGPU{part}")()
        lib.LLVMCreateDisasmCPUFeatures.restype = ctypes.c_void_p
        lib.LLVMCreateDisasmCPUFeatures.argtypes = [
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
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


def _beside(folder: Path) -> tuple[Path, ...]:
    """The libraries that libLLVM may need, where they lie in its own folder; in the order in which they need each other."""
    names = (
        "libmd.so.*",
        "libbsd.so.*",
        "libedit.so.*",
        "libicudata.so.*",
        "libicuuc.so.*",
        "libxml2.so.*",
        "libz3.so.*",
    )
    return tuple(file for name in names for file in sorted(folder.glob(name))[:1])


def _preload(files: tuple[Path, ...]) -> list[ctypes.CDLL]:
    kept = []
    for file in files:
        # one that cannot be loaded may not be needed, or be the system's; if it is needed, loading libLLVM says so
        with contextlib.suppress(OSError):
            kept.append(ctypes.CDLL(str(file), mode=os.RTLD_LOCAL | os.RTLD_LAZY))
    return kept


@lru_cache(maxsize=16)
def _context(path: Path, preload: tuple[Path, ...], arch: str) -> int:
    context = load(path, preload).LLVMCreateDisasmCPUFeatures(_TRIPLE, arch.encode(), b"", None, 0, None, None)
    if not context:
        raise MissingPieceError(f"{path}: knows no target {arch}; `kgen toolchain install` brings an LLVM that does")
    return context


def disassemble(path: Path, arch: str, data: bytes, address: int, preload: tuple[Path, ...] = ()) -> list[Instruction]:
    """All instructions of `data`, which begins at `address`; `preload` as for `load`. Raises MissingPieceError as `load` does."""
    with _lock:
        return _disassemble(load(path, preload), _context(path, preload, arch), data, address)


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
