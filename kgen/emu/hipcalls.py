"""What the emulated HIP runtime calls in Python: code objects are read and kernels are run by `kgen.emu.Module`.

A callback answers a hipError_t and leaves its words with the library (kgenEmuLastMessage). The numbers follow clr, AMD's implementation
(hip_fatbin.cpp, hip_module.cpp): no ELF and no bundle, or a damaged one: hipErrorInvalidImage; another target: hipErrorNoBinaryForGpu; no such
kernel: hipErrorNotFound. A GPU ends the process on a fault; here it is hipErrorIllegalAddress.
"""

from __future__ import annotations

import ctypes as c
import itertools
import os
import signal
import struct
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgen.emu import errors, hiprecords, watch
from kgen.emu.codeobject import KernelInfo, unbundle
from kgen.emu.launch import registers
from kgen.emu.module import Module
from kgen.emu.options import Region
from kgen.errors import CodeObjectError, KgenError, WrongArchError

OK, INVALID_VALUE, INVALID_IMAGE, NO_BINARY, FILE_NOT_FOUND, NOT_FOUND = 0, 1, 200, 209, 301, 500
ILLEGAL_ADDRESS, TIMED_OUT, ASSERT, LAUNCH_FAILURE, NOT_SUPPORTED, UNKNOWN = 700, 702, 710, 719, 801, 999
BUNDLE, COMPRESSED, ELF = b"__CLANG_OFFLOAD_BUNDLE__", b"CCOB", b"\x7fELF"
_STATUS: tuple[tuple[type[BaseException], int], ...] = (
    (errors.ArgumentError, INVALID_VALUE),
    (errors.MemoryFault, ILLEGAL_ADDRESS),
    (errors.LimitExceeded, TIMED_OUT),
    (errors.KernelTrap, ASSERT),
    (errors.UnsupportedInstruction, NOT_SUPPORTED),
    (errors.EmulatorError, LAUNCH_FAILURE),
    (WrongArchError, NO_BINARY),
    (CodeObjectError, INVALID_IMAGE),
    (FileNotFoundError, FILE_NOT_FOUND),
    (OSError, FILE_NOT_FOUND),
    (KeyError, NOT_FOUND),
)
PATIENCE = 50e-6  # seconds between two looks at whether the devices are free
AFTER_RETURN = 0.02  # seconds; a callback returns within microseconds

Occupancy = Callable[[bytes, str, str, int, int], int]
"""(code object, kernel, target, threads of a group, bytes of dynamic LDS) -> groups that one CU holds."""


@dataclass
class _Kernel:
    module: Module
    name: str
    image: bytes


class Calls:
    """The callbacks of one library.

    say        hands the words of a failure to the library
    arches     target of each device
    occupancy  how many groups a CU holds
    """

    def __init__(self, say: Callable[[bytes], Any], arches: list[str], occupancy: Occupancy):
        self._say, self._arches, self._occupancy = say, arches, occupancy
        self._numbers = itertools.count(1)
        self._modules: dict[int, tuple[Module, bytes]] = {}
        self._kernels: dict[int, tuple[int, _Kernel]] = {}
        self._failed = threading.local()
        self.record = hiprecords.Callbacks(
            load=hiprecords.LOAD(self._guard(self._load)),
            unload=hiprecords.UNLOAD(self._guard(self._unload)),
            function=hiprecords.FUNCTION(self._guard(self._function)),
            symbol=hiprecords.SYMBOL(self._guard(self._symbol)),
            launch=hiprecords.LAUNCH(self._guard(self._launch)),
            occupancy=hiprecords.OCCUPANCY(self._guard(self._occupy)),
            idle=hiprecords.IDLE(self._guard(_idle)),
        )

    def take_error(self) -> KgenError | None:
        """The exception behind this thread's last failure in a callback, once."""
        error, self._failed.error = getattr(self._failed, "error", None), None
        return error

    def _guard(self, call: Callable[..., None]) -> Callable[..., int]:
        """`call` as a C callback: exceptions become a status and words."""

        def guarded(*args: Any) -> int:
            try:
                call(*args)
                return OK
            except KeyboardInterrupt:
                self._say(b"stopped")
                # An exception cannot pass through C: it comes up again when the HIP call has returned.
                threading.Timer(AFTER_RETURN, os.kill, (os.getpid(), signal.SIGINT)).start()
                return LAUNCH_FAILURE
            except BaseException as error:
                self._failed.error = error if isinstance(error, KgenError) else None
                status = next((status for kind, status in _STATUS if isinstance(error, kind)), UNKNOWN)
                words = "".join(traceback.format_exception(error)) if status == UNKNOWN else _words(error)
                self._say(words.encode())
                return status

        return guarded

    # ---- modules

    def _load(self, path: bytes | None, image: int | None, device: int, out: Any) -> None:
        arch = self._arches[device]
        name = os.fsdecode(path) if path is not None else "code object"
        data = Path(name).read_bytes() if path is not None else image_at(image or 0)
        elf = _for_target(data, arch, name)
        try:
            module = Module(elf, name=name)
        except CodeObjectError as error:
            if "is not modelled" in str(error):
                raise WrongArchError(f"{error}; the device is {arch}") from error
            raise
        if module.target != arch:
            raise WrongArchError(f"{name}: compiled for {module.target}, the device is {arch}")
        number = next(self._numbers)
        self._modules[number] = module, elf
        out[0] = number

    def _unload(self, number: int) -> None:
        self._modules.pop(number, None)
        for kernel in [kernel for kernel, (owner, _) in self._kernels.items() if owner == number]:
            del self._kernels[kernel]

    def _function(self, number: int, name: bytes, out: Any) -> None:
        module, image = self._modules[number]
        symbol = name.decode(errors="replace")
        if symbol not in module.kernels:
            raise KeyError(f"{module.name}: no kernel {symbol!r}; there are {', '.join(sorted(module.kernels)[:8])}")
        kernel = module.kernels[symbol]
        record = out[0]
        record.id = next(self._numbers)
        self._kernels[record.id] = number, _Kernel(module, symbol, image)
        _describe(kernel, module, record)

    def _symbol(self, number: int, name: bytes, address: Any, size: Any) -> None:
        module, _ = self._modules[number]
        symbol = name.decode(errors="replace")
        if symbol not in module.image.symbols:
            raise KeyError(f"{module.name}: no variable {symbol!r}")
        at, size[0] = module.image.symbols[symbol]
        address[0] = module.image.base + at

    # ---- launches

    def _launch(self, given: Any) -> None:
        call = given[0]
        kernel = self._kernels[call.kernel][1]
        kernarg = c.string_at(call.kernarg, call.kernarg_bytes) if call.kernarg_bytes else b""
        info = kernel.module.kernels[kernel.name]
        found = [call.regions[i] for i in range(call.nregions)]
        regions = [Region(r.address, r.size, bool(r.writable), r.label.decode()) for r in found]
        if not call.exact:
            regions = label_by_argument(regions, info, kernarg)
        stats = kernel.module.launch(
            kernel.name, tuple(call.grid), tuple(call.block), kernarg, regions, call.lds, watch.present_options()
        )
        watch.record(stats)

    def _occupy(self, number: int, threads: int, lds: int, out: Any) -> None:
        kernel = self._kernels[number][1]
        out[0] = self._occupancy(kernel.image, kernel.name, kernel.module.target, threads, lds)


def _idle() -> None:
    time.sleep(PATIENCE)


def _words(error: BaseException) -> str:
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def _describe(kernel: KernelInfo, module: Module, record: Any) -> None:
    """Fill in a KernelRecord."""
    arguments = kernel.arguments
    if len(arguments) > hiprecords.ARGUMENTS:
        raise CodeObjectError(
            f"{kernel.name} takes {len(arguments)} arguments, at most {hiprecords.ARGUMENTS} work here"
        )
    record.explicit_bytes, record.kernarg_bytes, record.nargs = (
        kernel.explicit_size,
        kernel.kernarg_size,
        len(arguments),
    )
    record.lds, record.private_bytes = kernel.group_size, kernel.private_size
    record.vgprs, record.max_threads, record.wave = (
        sum(registers(kernel, module.image.family)),
        kernel.max_threads,
        kernel.wave_size,
    )
    for i, argument in enumerate(arguments):
        record.offset[i], record.size[i] = argument[".offset"], argument[".size"]


def label_by_argument(regions: list[Region], kernel: KernelInfo, kernarg: bytes) -> list[Region]:
    """The regions that pointer arguments lead into, named by the argument."""
    out = list(regions)
    for n, argument in enumerate(kernel.arguments):
        if argument[".size"] != 8 or argument[".value_kind"] != "global_buffer":
            continue
        (address,) = struct.unpack_from("<Q", kernarg, argument[".offset"])
        name = f"argument {n}" + (f" ({argument['.name']})" if argument.get(".name") else "")
        for i, region in enumerate(out):
            if region.address <= address < region.address + region.size and not region.label.startswith("argument"):
                out[i] = Region(region.address, region.size, region.writable, f"{name}, {region.label}")
    return out


# ---- code objects in memory, whose size nobody says


def image_at(address: int) -> bytes:
    """The code object or bundle at an address of this process; raises CodeObjectError when it is neither, or runs into nothing."""
    head = _read(address, 64)
    if head.startswith(ELF):
        size = _elf_size(address, head)
    elif head.startswith(BUNDLE):
        size = _bundle_size(address)
    elif head.startswith(COMPRESSED):
        raise CodeObjectError("a compressed offload bundle; compile with --no-offload-compress")
    else:
        raise CodeObjectError(f"neither an ELF file nor an offload bundle, it begins with {head[:8]!r}")
    data = _read(address, size)
    if len(data) < size:
        raise CodeObjectError(f"the code object is truncated: {len(data)} of {size} bytes can be read")
    return data


def _elf_size(address: int, head: bytes) -> int:
    """The end of the section headers and segments of a 64-bit ELF file."""
    if len(head) < 64 or head[4] != 2:
        raise CodeObjectError("the code object is truncated, or no 64-bit ELF file")
    phoff, shoff = struct.unpack_from("<QQ", head, 32)
    phsize, phnum, shsize, shnum = struct.unpack_from("<HHHH", head, 54)
    end = max(64, shoff + shsize * shnum, phoff + phsize * phnum)
    table = _read(address + phoff, phsize * phnum)
    for at in range(0, len(table) - 39, max(phsize, 1)):
        offset, _, _, size = struct.unpack_from("<QQQQ", table, at + 8)
        end = max(end, offset + size)
    if end > 1 << 32:
        raise CodeObjectError(f"the code object claims to have {end} bytes")
    return end


def _bundle_size(address: int) -> int:
    head = _read(address, 1 << 12)
    (count,) = struct.unpack_from("<Q", head, 24)
    at, end = 32, 32
    for _ in range(min(count, 64)):
        if at + 24 > len(head):
            break
        offset, size, length = struct.unpack_from("<QQQ", head, at)
        at, end = at + 24 + length, max(end, offset + size)
    if end > 1 << 32:
        raise CodeObjectError(f"the offload bundle claims to have {end} bytes")
    return end


def _for_target(data: bytes, arch: str, name: str) -> bytes:
    """The ELF file for a target. Raises CodeObjectError, WrongArchError when a bundle has none for it."""
    if not data:
        raise CodeObjectError(f"{name}: empty")
    try:
        return unbundle(data, arch)
    except CodeObjectError as error:
        kind = WrongArchError if data.startswith(BUNDLE) and "holds" in str(error) else CodeObjectError
        raise kind(f"{name}: {error} (wanted: {arch})") from error


class _Vector(c.Structure):
    _fields_ = [("base", c.c_void_p), ("size", c.c_size_t)]


def _read(address: int, size: int) -> bytes:
    """Up to `size` bytes at an address, fewer where nothing is mapped: nothing tells how long a code object in memory is but itself."""
    out = c.create_string_buffer(max(size, 1))
    done = 0
    readv = c.CDLL(None, use_errno=True).process_vm_readv
    readv.argtypes = [c.c_int, c.POINTER(_Vector), c.c_ulong, c.POINTER(_Vector), c.c_ulong, c.c_ulong]
    readv.restype = c.c_ssize_t
    while done < size:
        step = min(size - done, 4096 - (address + done) % 4096 if done == 0 else 1 << 20)
        here, there = _Vector(c.addressof(out) + done, step), _Vector(address + done, step)
        got = readv(os.getpid(), here, 1, there, 1, 0)
        if got < 0 and c.get_errno() != 14:  # not EFAULT: the system forbids the call
            c.memmove(c.addressof(out) + done, address + done, size - done)
            return out.raw[:size]
        if got <= 0:
            break
        done += got
    return out.raw[:done]
