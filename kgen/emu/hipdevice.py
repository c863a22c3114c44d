"""A target as a device of the emulated HIP runtime: its properties and attributes."""

from __future__ import annotations

import ctypes as c
import os
import re
from dataclasses import dataclass
from typing import Any

from kgen.emu.hiprecords import AMD_FIRST, ATTRIBUTES, DIMENSIONS, Device

_MOST = 2**31 - 1


@dataclass(frozen=True)
class DeviceFacts:
    """What the runtime says of a device; bytes, and counts per CU as HIP counts CUs.

    Clocks, caches and texture limits are not modelled and are 0.
    """

    arch: str
    name: str
    cu: int
    wave: int
    lds_per_group: int
    lds_per_cu: int
    threads_per_group: int
    threads_per_cu: int
    groups_per_cu: int
    registers_per_cu: int


def device_record(facts: DeviceFacts, number: int) -> Device:
    """The record of a device; `number` becomes its PCI bus."""
    values = _properties(facts, number)
    record = Device(
        memory=values["totalGlobalMem"],
        max_threads=facts.threads_per_group,
        lds=facts.lds_per_group,
        major=values["major"],
        minor=values["minor"],
    )
    for properties in (record.r0600, record.r0000):
        for name, kind in properties._fields_:
            if name in values:
                setattr(properties, name, _converted(values[name], kind))
    for name, at in ATTRIBUTES.items():
        if at < AMD_FIRST:
            record.cuda[at] = min(values[name], _MOST)
        else:
            record.amd[at - AMD_FIRST] = min(values[name], _MOST)
    for name, at in DIMENSIONS.items():
        record.cuda[at : at + 3] = values[name]
    return record


def gcn_name(arch: str) -> str:
    """gcnArchName: CDNA parts say which features are on."""
    return f"{arch}:sramecc+:xnack-" if arch.startswith("gfx9") else arch


def _properties(facts: DeviceFacts, number: int) -> dict[str, Any]:
    """hipDeviceProp_t by field, what is not in here is 0."""
    major, minor = _capability(facts.arch)
    return {
        "name": facts.name,
        "gcnArchName": gcn_name(facts.arch),
        "uuid": b"kgen-emu-" + facts.arch.encode()[:7].ljust(7, b"-"),
        "totalGlobalMem": _memory(),
        "sharedMemPerBlock": facts.lds_per_group,
        "sharedMemPerBlockOptin": facts.lds_per_group,
        "sharedMemPerMultiprocessor": facts.lds_per_cu,
        "maxSharedMemoryPerMultiProcessor": facts.lds_per_cu,
        "regsPerBlock": facts.registers_per_cu,
        "regsPerMultiprocessor": facts.registers_per_cu,
        "warpSize": facts.wave,
        "maxThreadsPerBlock": facts.threads_per_group,
        "maxThreadsPerMultiProcessor": facts.threads_per_cu,
        "maxBlocksPerMultiProcessor": facts.groups_per_cu,
        "maxThreadsDim": (facts.threads_per_group,) * 3,
        "maxGridSize": (_MOST, 65536, 65536),
        "major": major,
        "minor": minor,
        "multiProcessorCount": facts.cu,
        "pciBusID": number + 1,
        "asyncEngineCount": 0,
        "canMapHostMemory": 1,
        "canUseHostPointerForRegisteredMem": 1,
        "hostRegisterSupported": 1,
        "unifiedAddressing": 1,
        "managedMemory": 1,
        "integrated": 1,  # its memory is the host's
        "concurrentKernels": 0,
        "streamPrioritiesSupported": 1,
    }


def _capability(arch: str) -> tuple[int, int]:
    """major and minor: gfx1151 -> 11, 5; gfx942 -> 9, 4 (the stepping is left out)."""
    number = re.fullmatch(r"gfx(\d+)(\d)[0-9a-f]", arch)
    return (int(number[1]), int(number[2])) if number else (0, 0)


def _memory() -> int:
    """The machine's memory: a kernel's buffers lie in it."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _converted(value: Any, kind: Any) -> Any:
    if isinstance(value, (str, bytes)):
        data = value.encode() if isinstance(value, str) else value
        return kind.from_buffer_copy(data[: c.sizeof(kind)].ljust(c.sizeof(kind), b"\0"))
    return kind(*value) if isinstance(value, tuple) else value
