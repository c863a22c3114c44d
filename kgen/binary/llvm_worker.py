"""Runs LLVM's disassembler in a process of its own; a program, started by llvm_c.py, that imports nothing but the standard library.

Apart, because LLVM crashes on some byte sequences that are no instructions (seen: random bytes as gfx942), and because another LLVM may live in
the caller's process (torch's, a ROCm's). It ends when its input ends.

Arguments: libLLVM, then the libraries to load before it. It answers "ready" or why not. Then, for each request, a line "ARCH ADDRESS BYTES"
and that many bytes, it answers "known" (LLVM ends the process for a target that it does not know), a line with a count, and that many lines
"BYTES<tab>TEXT"; no text: no instruction.
C API: llvm-c/Disassembler.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

_TRIPLE = b"amdgcn-amd-amdhsa"
_TEXT_BYTES = 512


def load(path: str, preload: list[str]) -> ctypes.CDLL:
    """libLLVM with its AMDGPU disassembler ready; OSError or AttributeError if it cannot be."""
    for file in preload:
        # one that cannot be loaded may not be needed, or be the system's; if it is needed, loading libLLVM says so
        with contextlib.suppress(OSError):
            ctypes.CDLL(file, mode=os.RTLD_LOCAL | os.RTLD_LAZY)
    lib = ctypes.CDLL(path, mode=os.RTLD_LOCAL | os.RTLD_LAZY)
    for part in ("TargetInfo", "TargetMC", "Disassembler"):
        getattr(lib, f"LLVMInitializeAMDGPU{part}")()
    text, pointer, size = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t
    lib.LLVMCreateDisasmCPUFeatures.restype = pointer
    lib.LLVMCreateDisasmCPUFeatures.argtypes = [text, text, text, pointer, ctypes.c_int, pointer, pointer]
    lib.LLVMDisasmInstruction.restype = size
    lib.LLVMDisasmInstruction.argtypes = [pointer, pointer, ctypes.c_uint64, ctypes.c_uint64, text, size]
    return lib


def disassemble(lib: ctypes.CDLL, context: int, data: bytes, address: int) -> list[bytes]:
    """The answer's lines."""
    buffer = ctypes.create_string_buffer(data, len(data))
    base, text, at, out = ctypes.addressof(buffer), ctypes.create_string_buffer(_TEXT_BYTES), 0, []
    while at < len(data):
        size = lib.LLVMDisasmInstruction(context, base + at, len(data) - at, address + at, text, _TEXT_BYTES)
        out.append(b"%d\t%s\n" % (size or min(4, len(data) - at), text.value.strip() if size else b""))
        at += size or 4
    return out


def main() -> None:
    """Serve until the input ends."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    try:
        lib = load(sys.argv[1], sys.argv[2:])
    except (OSError, AttributeError) as error:
        print(str(error).replace("\n", " "), flush=True)
        return
    print("ready", flush=True)
    contexts: dict[bytes, int] = {}
    while request := source.readline().split():
        arch, address, size = request[0], int(request[1]), int(request[2])
        data = source.read(size)
        if arch not in contexts:
            contexts[arch] = lib.LLVMCreateDisasmCPUFeatures(_TRIPLE, arch, b"", None, 0, None, None)
        sink.write(b"known\n")
        sink.flush()
        lines = disassemble(lib, contexts[arch], data, address)
        sink.write(b"%d\n" % len(lines) + b"".join(lines))
        sink.flush()


if __name__ == "__main__":
    main()
