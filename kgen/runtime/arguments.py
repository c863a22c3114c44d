"""Kernel arguments as bytes: the layout that a spec states, packed in one go into a buffer that each thread keeps.

Both HIP and CUDA copy the argument buffer before the launch call returns, so one buffer per thread and launch is enough, whatever the number of
streams; two threads never share one. Addresses differ from call to call and come first in every kernel's arguments; sizes and strides come last,
are the same at every call of a launch, and stay in the buffer.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable, Sequence

from kgen.spec.base import Arg

_CODES = {"u32": "I", "i32": "i", "f32": "f", "u64": "Q"}
_POINTER, _SIZE = 1, 2  # HIP_LAUNCH_PARAM_BUFFER_POINTER and _SIZE; CUDA has the same values


class ArgumentLayout:
    """How the arguments of a kernel lie in memory.

    struct    packs the values in launch order, pointers as 64-bit addresses
    size      bytes, without padding behind the last one
    pointers  (name, whether the kernel writes there) of the pointer arguments, in launch order
    """

    def __init__(self, args: Sequence[Arg]):
        self.args = tuple(args)
        self.struct = struct.Struct(_format(args))
        self.size = self.struct.size
        self.pointers = tuple((arg.name, not arg.type.startswith("const ")) for arg in args if arg.type.endswith("*"))

    def first(self, count: int) -> struct.Struct:
        """Packs the first `count` values and leaves the bytes of the others alone."""
        return struct.Struct(_format(self.args[:count]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArgumentLayout) and self.args == other.args

    def __hash__(self) -> int:
        return hash(self.args)


def _format(args: Sequence[Arg]) -> str:
    """The `struct` format of the arguments, with the holes that their offsets leave."""
    out, at = ["<"], 0
    for arg in args:
        if arg.offset > at:
            out.append(f"{arg.offset - at}x")
        out.append("Q" if arg.type.endswith("*") else _CODES[arg.type])
        at = arg.offset + arg.bytes
    return "".join(out)


class ArgumentBuffer(threading.local):
    """This thread's argument buffer for one launch, and the `extra` list that hands it to hipModuleLaunchKernel and cuLaunchKernel.

    layout  of the kernel's arguments
    last    values of the last arguments, which every launch has in common: packed here, once
    end     what ends the `extra` list: HIP_LAUNCH_PARAM_END or CU_LAUNCH_PARAM_END
    enter   runs once in every thread that launches, before its first launch
    both    the buffer, to be packed into, and the address of {BUFFER_POINTER, &buffer, BUFFER_SIZE, &size, end}; one attribute, since
            looking up one that differs from thread to thread takes its time
    """

    def __init__(self, layout: ArgumentLayout, last: Sequence[int], end: int, enter: Callable[[], None]):
        data = ctypes.create_string_buffer(layout.size)
        layout.struct.pack_into(data, 0, *[0] * (len(layout.args) - len(last)), *last)
        self._size = ctypes.c_size_t(layout.size)
        self._extra = (ctypes.c_void_p * 5)(_POINTER, ctypes.addressof(data), _SIZE, ctypes.addressof(self._size), end)
        self.both = data, ctypes.addressof(self._extra)
        enter()
