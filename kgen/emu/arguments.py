"""Kernel arguments: Python and numpy values -> the bytes of the kernarg segment."""

from __future__ import annotations

import ctypes as c
import struct
from collections.abc import Sequence
from typing import Any

from kgen.emu.codeobject import KernelInfo
from kgen.emu.errors import ArgumentError
from kgen.emu.memory import Memory

Dim3 = tuple[int, int, int]
SHARED_BASE, PRIVATE_BASE = (
    0x10000,
    0x20000,
)  # upper halves of generic addresses of LDS and scratch, as the engine has them


def dim3(value: int | Sequence[int], what: str) -> Dim3:
    """One to three sizes as x, y, z. Raises ArgumentError unless all are at least 1."""
    sizes = tuple(int(v) for v in value) if isinstance(value, Sequence) else (int(value),)
    if not 1 <= len(sizes) <= 3 or any(not 1 <= v < 1 << 31 for v in sizes):
        raise ArgumentError(f"{what} is {value!r}; one to three sizes of at least 1 are allowed")
    x, y, z = (*sizes, 1, 1)[:3]
    if x * y * z >= 1 << 48:
        raise ArgumentError(f"{what} is {value!r}, {x * y * z} in all; fewer than 2**48 are allowed")
    return x, y, z


def pack(kernel: KernelInfo, args: Sequence[Any], memory: Memory) -> bytes:
    """Lay out one value per explicit argument; arrays are mapped into `memory`.

    Pointers: numpy array, None or an address. By value: numpy scalar or structured scalar, ctypes value, bytes, int, float.
    Raises ArgumentError for a wrong count, size or kind.
    """
    import numpy as np

    wanted = kernel.arguments
    if len(args) != len(wanted):
        raise ArgumentError(f"{kernel.name} takes {len(wanted)} arguments, got {len(args)}")
    arrays = [n for n, a in enumerate(wanted) if isinstance(args[n], np.ndarray) and a[".value_kind"] != "by_value"]
    for n in sorted(arrays, key=lambda n: -args[n].nbytes):  # the widest first, so that views find their storage
        memory.map(args[n], label(kernel, n))
    out = bytearray(kernel.explicit_size)
    for n, argument in enumerate(wanted):
        offset, size, kind = argument[".offset"], argument[".size"], argument[".value_kind"]
        if kind in ("global_buffer", "dynamic_shared_pointer"):
            raw = _pointer(args[n], label(kernel, n), memory)
        elif kind == "by_value":
            raw = _value(args[n], size, label(kernel, n))
        else:
            raise ArgumentError(f"{label(kernel, n)}: kind {kind} is not handled")
        if len(raw) != size:
            raise ArgumentError(f"{label(kernel, n)} is {len(raw)} bytes, the kernel wants {size}")
        out[offset : offset + size] = raw
    return bytes(out)


def label(kernel: KernelInfo, n: int) -> str:
    """What messages call the n-th argument."""
    return f"argument {n}"


def _pointer(value: Any, what: str, memory: Memory) -> bytes:
    import numpy as np

    if value is None:
        return bytes(8)
    if isinstance(value, (int, np.integer)):
        return int(value).to_bytes(8, "little")
    if isinstance(value, np.ndarray):
        return memory.map(value, what).to_bytes(8, "little")
    raise ArgumentError(
        f"{what} is a pointer; a numpy array, None or an address is allowed, found {type(value).__name__}"
    )


def _value(value: Any, size: int, what: str) -> bytes:
    import numpy as np

    if isinstance(value, (bytes, bytearray, c._SimpleCData, c.Structure, c.Array)):
        return bytes(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tobytes()
    if isinstance(value, int):
        return (value & (1 << 8 * size) - 1).to_bytes(size, "little")
    if isinstance(value, float) and size in (2, 4, 8):
        return struct.pack({2: "<e", 4: "<f", 8: "<d"}[size], value)
    raise ArgumentError(f"{what}: cannot pass {type(value).__name__} by value in {size} bytes")


SEGMENT_MULTIPLE = 64
_BEHIND = b"\xe1"


def segment(kernel: KernelInfo, kernarg: bytes, grid: Dim3, block: Dim3, dynamic_lds: int) -> bytearray:
    """The kernarg segment: the caller's bytes, and the hidden arguments of code object v5 filled in.

    `kernarg` holds the explicit arguments, with or without the space of the hidden ones behind them. Raises ArgumentError otherwise.
    The segment ends at a multiple of 64 bytes: the compiler widens a scalar load of the last seven dwords to eight, which the runtimes' memory
    allows; what is read there is no argument and holds poison.
    """
    explicit, whole = kernel.explicit_size, max(kernel.kernarg_size, kernel.explicit_size)
    if not explicit <= len(kernarg) <= whole:
        raise ArgumentError(
            f"{kernel.name}: {len(kernarg)} bytes of arguments, the kernel wants {explicit}"
            + (f" (up to {whole} with the hidden ones)" if whole > explicit else "")
        )
    out = bytearray(whole) + _BEHIND * (-whole % SEGMENT_MULTIPLE or SEGMENT_MULTIPLE * (not whole))
    out[: len(kernarg)] = kernarg
    hidden = {
        "grid_dims": 3 if grid[2] * block[2] > 1 else 2 if grid[1] * block[1] > 1 else 1,
        "dynamic_lds_size": dynamic_lds,
        "private_base": PRIVATE_BASE,
        "shared_base": SHARED_BASE,
    }
    for i, axis in enumerate("xyz"):
        hidden |= {f"block_count_{axis}": grid[i], f"group_size_{axis}": block[i]}
    for argument in kernel.meta.get(".args", []):
        if argument[".value_kind"].startswith("hidden_"):
            value = hidden.get(argument[".value_kind"][7:], 0)
            offset, size = argument[".offset"], argument[".size"]
            out[offset : offset + size] = value.to_bytes(size, "little")
    return out


def packet(grid: Dim3, block: Dim3, private: int, lds: int, descriptor: int, kernarg: int) -> bytes:
    """The AQL kernel dispatch packet that a kernel may read (HSA system architecture specification, table 2-7)."""
    sizes = [g * b for g, b in zip(grid, block, strict=True)]
    return struct.pack("<HHHHHHIIIIIQQQQ", 2, 3, *block, 0, *sizes, private, lds, descriptor, kernarg, 0, 0)
