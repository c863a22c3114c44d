"""The addresses that a kernel can reach: caller's regions at their own addresses, and numpy arrays at made-up ones."""

from __future__ import annotations

import ctypes as c
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kgen.emu.errors import ArgumentError
from kgen.emu.options import Region
from kgen.emu.structs import RegionRecord

if TYPE_CHECKING:
    import numpy as np

FAR = 1 << 32  # a faulting address this far from every buffer is not explained by the nearest one


@dataclass(frozen=True)
class Mapping:
    """`size` bytes that the kernel sees at `address` and that lie at `host` in this process."""

    address: int
    size: int
    host: int
    writable: bool
    label: str
    keep: Any = None  # keeps the storage alive

    @classmethod
    def of(cls, region: Region) -> Mapping:
        """An identity mapping."""
        return cls(region.address, region.size, region.address, region.writable, region.label)


class Memory:
    """numpy arrays at sparse made-up addresses. Their low halves are near a 4 GiB boundary, so that 32-bit address arithmetic shows."""

    def __init__(self) -> None:
        self.mappings: list[Mapping] = []
        self._next = 0x1000_0000_0000

    def map(self, array: np.ndarray, label: str = "array", writable: bool | None = None) -> int:
        """Make an array reachable; returns the address the kernel sees. The same storage mapped twice gives one address.

        Raises ArgumentError if the array is not C-contiguous or overlaps another one only in part.
        """
        if not array.flags.c_contiguous:
            raise ArgumentError(f"{label} is not C-contiguous")
        host, size = array.ctypes.data, array.nbytes
        writable = array.flags.writeable if writable is None else writable
        for m in self.mappings:
            if m.host <= host and host + size <= m.host + m.size and size:
                return m.address + host - m.host
            if m.host < host + size and host < m.host + m.size:
                raise ArgumentError(f"{label} partly overlaps {m.label}; map the whole storage first")
        base = self._next + 0xFFFF_F000 + (host & 0xFF)  # aligned as the storage is
        self._next += ((size >> 36) + 1 << 36) + (1 << 36)
        self.mappings.append(Mapping(base, size, host, writable, label, array))
        return base


def table(mappings: Sequence[Mapping]) -> c.Array[RegionRecord]:
    """The engine's table: sorted by address; `id` is the index in `mappings`, `reach` the highest end so far."""
    records = (RegionRecord * max(1, len(mappings)))()
    reach = 0
    for record, i in zip(records, sorted(range(len(mappings)), key=lambda i: mappings[i].address), strict=False):
        m = mappings[i]
        reach = max(reach, m.address + m.size)
        record.base, record.size, record.host, record.reach = m.address, m.size, m.host, reach
        record.flags, record.id = int(m.writable), i
    return records


def explain(mappings: Sequence[Mapping], address: int, size: int) -> str:
    """Where an access is in terms of the nearest buffer: "4 bytes at offset 256 of argument 0 (256 bytes)"."""

    def distance(m: Mapping) -> int:
        return min(abs(address - m.address), abs(address + size - m.address - m.size))

    inside = [m for m in mappings if m.address <= address < m.address + m.size]
    best = min(inside or mappings, key=distance, default=None)
    if best is None or (not inside and distance(best) > FAR):
        return f"{size} bytes at {address:#x}, far from every buffer"
    note = "" if best.writable else ", read-only"
    return f"{size} bytes at offset {address - best.address} of {best.label} ({best.size} bytes{note})"
