"""Kernel arguments as bytes: the layout that a spec states, packed in one go into a buffer that each thread keeps.

Both HIP and CUDA copy the argument buffer before the launch call returns, so one buffer per thread and layout is enough, whatever
the number of kernels and streams; two threads never share one.
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
    """This thread's argument buffer for one layout, and the `extra` list that hands it to hipModuleLaunchKernel and cuLaunchKernel.

    data   the buffer, to be packed into
    extra  address of {BUFFER_POINTER, &data, BUFFER_SIZE, &size, end}

    `enter` runs once in every thread that launches, before its first launch.
    """

    def __init__(self, size: int, end: int, enter: Callable[[], None]):
        self.data = ctypes.create_string_buffer(size)
        self._size = ctypes.c_size_t(size)
        self._extra = (ctypes.c_void_p * 5)(
            _POINTER, ctypes.addressof(self.data), _SIZE, ctypes.addressof(self._size), end
        )
        self.extra = ctypes.addressof(self._extra)
        enter()


class ArgumentBuffers:
    """The buffers of one driver: one per argument size and thread, shared by all kernels, since a launch copies them.

    end    what ends the `extra` list: HIP_LAUNCH_PARAM_END or CU_LAUNCH_PARAM_END
    enter  runs once per thread and size before the first launch there
    """

    def __init__(self, end: int, enter: Callable[[], None]):
        self._end, self._enter = end, enter
        self._by_size: dict[int, ArgumentBuffer] = {}

    def of(self, layout: ArgumentLayout) -> ArgumentBuffer:
        """The buffer for a layout; its attributes differ from thread to thread."""
        found = self._by_size.get(layout.size)
        return found or self._by_size.setdefault(layout.size, ArgumentBuffer(layout.size, self._end, self._enter))
