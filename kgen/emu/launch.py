"""From a kernel and its arguments to the engine's launch record, and from what comes back to `Stats`."""

from __future__ import annotations

import ctypes as c
import os
import struct
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kgen.emu import failure, library
from kgen.emu.arguments import Dim3, packet, segment
from kgen.emu.codeobject import Image, KernelInfo
from kgen.emu.errors import ArgumentError
from kgen.emu.memory import Mapping, table
from kgen.emu.options import MemoryCounts, Options, Stats
from kgen.emu.program import Program
from kgen.emu.structs import ARCH_IDS, LAUNCH_AGAIN, LAUNCH_DECODE, LAUNCH_DONE, ORDERS, USER_SGPRS, Launch
from kgen.errors import CodeObjectError

QUANTUM = 1000  # instructions; when work-groups wait for each other and no quantum was asked for
DYNAMIC_STACK = 16384  # bytes of scratch per lane for kernels whose stack the compiler could not bound
LDS_LIMIT = {"gfx950": 160 * 1024}
PRELOAD_PROLOGUE = 256  # bytes of code that load the preloaded arguments for old firmware; skipped


def check(image: Image, kernel: KernelInfo, block: Dim3, lds_bytes: int, options: Options) -> None:
    """Raise ArgumentError for a launch that the target would refuse."""
    threads = block[0] * block[1] * block[2]
    if threads > kernel.max_threads:
        raise ArgumentError(f"{kernel.name}: a block of {threads} work-items, its launch bound is {kernel.max_threads}")
    if kernel.wave_size != (64 if image.family == "cdna" else 32):
        raise ArgumentError(f"{kernel.name}: wave{kernel.wave_size} is not modelled on {image.target}")
    lds, limit = kernel.group_size + lds_bytes, LDS_LIMIT.get(image.target, 64 * 1024)
    if lds_bytes < 0 or lds > limit:
        raise ArgumentError(f"{kernel.name}: {lds} bytes of LDS ({lds_bytes} dynamic), {image.target} has {limit}")
    if options.schedule.partition(":")[0] not in ORDERS:
        raise ArgumentError(f"schedule {options.schedule!r}; allowed: linear, reverse, random:<seed>")
    for name in ("quantum", "threads", "concurrent", "max_instructions"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ArgumentError(f"option {name} is {value}; at least 1 is allowed")


@dataclass(frozen=True)
class _Segments:
    """The launch's own memory: kernarg segment and dispatch packet, at their own addresses."""

    kernarg: bytearray
    kernarg_at: int
    packet_at: int
    mappings: tuple[Mapping, ...]
    keep: tuple[object, ...]


def run(
    program: Program,
    kernel: KernelInfo,
    grid: Dim3,
    block: Dim3,
    kernarg: bytes,
    mappings: Sequence[Mapping],
    lds_bytes: int,
    options: Options,
) -> Stats:
    """Run a launch to its end. Raises the `EmulatorError` that stopped it."""
    image, engine = program.image, library.load()
    check(image, kernel, block, lds_bytes, options)
    entry = kernel.entry + (PRELOAD_PROLOGUE if kernel.preload & 127 else 0)
    if program.index(entry) < 0:
        program.decode(entry)
        program.save()
    own = _segments(image, kernel, kernarg, grid, block, lds_bytes)
    everything = [*mappings, *own.mappings]
    regions = table(everything)
    record = _record(program, kernel, own, entry, lds_bytes)
    record.regions, record.nregions = c.addressof(regions), len(everything)
    record.grid[:], record.block[:] = grid, block
    _set_options(record, options, program)
    counts = (c.c_uint64 * (record.ninsns if options.count_ops else 1))()
    record.counts = c.addressof(counts) if options.count_ops else None
    start = time.perf_counter()
    try:
        while (state := engine.kgen_emu_run(record)) in (LAUNCH_DECODE, LAUNCH_AGAIN):
            if state == LAUNCH_DECODE:
                program.decode(record.decode_pc - image.base)
        if state != LAUNCH_DONE:
            raise failure.error(record, kernel, program, everything)
    finally:
        engine.kgen_emu_end(record)
        program.save()
    seconds = time.perf_counter() - start
    t = record.traffic
    traffic = [getattr(t, name) for name, _ in t._fields_]
    return Stats(
        kernel=kernel.name,
        target=image.target,
        instructions=record.instructions,
        waves=record.waves,
        groups=record.groups,
        seconds=seconds,
        threads=record.threads,
        ops=_by_name(program, counts) if options.count_ops else Counter(),
        memory=MemoryCounts(*traffic) if options.count_memory else None,
    )


def _private_bytes(kernel: KernelInfo) -> int:
    return kernel.private_size + (DYNAMIC_STACK if kernel.meta.get(".uses_dynamic_stack") else 0)


def _segments(image: Image, kernel: KernelInfo, kernarg: bytes, grid: Dim3, block: Dim3, lds_bytes: int) -> _Segments:
    arguments = segment(kernel, kernarg, grid, block, lds_bytes)
    kernarg_host = (c.c_uint8 * len(arguments)).from_buffer(arguments)
    kernarg_at = c.addressof(kernarg_host)
    lds, descriptor = kernel.group_size + lds_bytes, image.base + kernel.descriptor
    dispatch = packet(grid, block, _private_bytes(kernel), lds, descriptor, kernarg_at)
    packet_host = c.create_string_buffer(dispatch, len(dispatch))
    packet_at = c.addressof(packet_host)
    mappings = [
        Mapping(kernarg_at, len(arguments), kernarg_at, False, "kernarg segment"),
        Mapping(packet_at, len(dispatch), packet_at, False, "dispatch packet"),
    ]
    for s in image.segments:
        at = image.base + s.address
        mappings.append(Mapping(at, s.size, at, s.writable, f"code object +{s.address:#x}"))
    return _Segments(arguments, kernarg_at, packet_at, tuple(mappings), (kernarg_host, packet_host))


def _record(program: Program, kernel: KernelInfo, own: _Segments, entry: int, lds_bytes: int) -> Launch:
    """What the engine has to know about the program and the kernel."""
    image, private = program.image, _private_bytes(kernel)
    vgprs, agprs = registers(kernel, image.family)
    record = Launch(
        arch=ARCH_IDS[image.family],
        fnuz=image.target.startswith("gfx94"),
        code_base=image.base + image.code.address,
        code_words=image.code.size // 4,
        pcmap=c.addressof(program.pcmap),
        insns=c.addressof(program.insns),
        ninsns=len(program.insns),
        entry=image.base + entry,
        wave_size=kernel.wave_size,
        vgprs=vgprs,
        agprs=agprs,
        mode=_mode(kernel),
        lds_size=kernel.group_size + lds_bytes,
        priv_size=private,
        dims=kernel.rsrc2 >> 11 & 3,
        group_ids=kernel.rsrc2 >> 7 & 7,
        first_id=kernel.rsrc2 >> 1 & 31,
    )
    user = user_sgprs(kernel, own.packet_at, own.kernarg_at, private, own.kernarg)
    if len(user) > USER_SGPRS:
        raise CodeObjectError(f"kernel {kernel.name} wants {len(user)} user SGPRs; there are at most {USER_SGPRS}")
    record.nuser, record.user[: len(user)] = len(user), user
    return record


def _set_options(record: Launch, options: Options, program: Program) -> None:
    name, _, seed = options.schedule.partition(":")
    try:
        record.seed = int(seed or 0)
    except ValueError as why:
        raise ArgumentError(f"schedule {options.schedule!r}: {seed!r} is not a number") from why
    record.order = ORDERS[name]
    record.poison = options.poison & 0xFFFFFFFF
    record.races, record.count_ops, record.count_memory = options.races, options.count_ops, options.count_memory
    record.concurrent = options.concurrent
    record.quantum = options.quantum or (QUANTUM if options.concurrent > 1 else 0)
    record.limit = options.max_instructions
    groups = record.grid[0] * record.grid[1] * record.grid[2]
    if options.threads is not None:
        threads = options.threads
    elif groups == 1 or options.concurrent > 1 or program.global_atomics:
        threads = 1
    else:
        threads = cores()
    record.threads = min(threads, groups, 256)


def cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _mode(kernel: KernelInfo) -> int:
    """The MODE register from the descriptor: rounding and denormals, DX10 clamp, IEEE, FP16 overflow."""
    r = kernel.rsrc1
    return (r >> 12 & 0xFF) | (r >> 21 & 1) << 8 | (r >> 23 & 1) << 9 | (r >> 26 & 1) << 23


def registers(kernel: KernelInfo, family: str) -> tuple[int, int]:
    """VGPRs and AccVGPRs that a wave has (granulated counts of the kernel descriptor)."""
    total = 8 * ((kernel.rsrc1 & 63) + 1)
    if family != "cdna":
        return min(total, 256), 0
    offset = 4 * ((kernel.rsrc3 & 63) + 1)  # AccVGPRs lie behind the VGPRs in one file
    return min(total, offset, 256), max(0, min(total - offset, 256))


def user_sgprs(
    kernel: KernelInfo, packet_at: int, kernarg_at: int, private: int, kernarg: bytes | bytearray
) -> list[int]:
    """Initial SGPRs in the order of the ABI, as the descriptor's properties ask for them, then preloaded arguments."""
    out: list[int] = []
    wanted = kernel.properties
    if wanted & 1:  # private segment buffer
        out += [0] * 4
    for bit, value in (
        (1, packet_at),
        (2, 0),
        (3, kernarg_at),
        (4, 0),
        (5, 0),
    ):  # packet, queue, kernarg, dispatch id, flat scratch
        if wanted >> bit & 1:
            out += [value & 0xFFFFFFFF, value >> 32]
    if wanted >> 6 & 1:
        out.append(private)
    if count := kernel.preload & 127:
        offset = kernel.preload >> 7
        out += struct.unpack_from(f"<{count}I", bytes(kernarg).ljust(4 * (count + offset), b"\0"), 4 * offset)
    return out


def _by_name(program: Program, counts: c.Array[c.c_uint64]) -> Counter[str]:
    out: Counter[str] = Counter()
    for index, item in enumerate(program.items):
        if item is not None and counts[index]:
            out[item.name] += counts[index]
    return out
