"""AMDGPU code objects: bundle, ELF segments, relocations, metadata, kernel descriptors -> a loaded image.

Sources: the "User Guide for AMDGPU Backend" of LLVM (ELF code object, code object v3 and later metadata, kernel descriptor).
"""

from __future__ import annotations

import ctypes as c
import io
import re
import struct
from dataclasses import dataclass
from typing import Any

from kgen.errors import CodeObjectError

PAGE = 4096
FETCH = 64  # bytes past the end that decoding may look at
R_AMDGPU_ABS64, R_AMDGPU_RELATIVE64 = 3, 13
NT_AMDGPU_METADATA = 32
FAMILIES = (("rdna4", r"gfx120"), ("rdna3", r"gfx11"), ("cdna", r"gfx9(4|5)"))


@dataclass(frozen=True)
class KernelInfo:
    """A kernel's metadata and descriptor. Addresses are relative to the image."""

    name: str
    meta: dict[str, Any]
    descriptor: int
    entry: int
    group_size: int
    private_size: int
    rsrc1: int
    rsrc2: int
    rsrc3: int
    properties: int
    preload: int

    @property
    def wave_size(self) -> int:
        """Lanes of a wave."""
        return self.meta.get(".wavefront_size", 64)

    @property
    def arguments(self) -> list[dict[str, Any]]:
        """The arguments a caller passes: `.offset`, `.size`, `.value_kind` and, if the compiler wrote it, `.name`."""
        return [a for a in self.meta.get(".args", []) if not a[".value_kind"].startswith("hidden_")]

    @property
    def explicit_size(self) -> int:
        """Bytes of the kernarg segment up to the end of the last argument a caller passes."""
        return max((a[".offset"] + a[".size"] for a in self.arguments), default=0)

    @property
    def kernarg_size(self) -> int:
        """Bytes of the kernarg segment, hidden arguments included."""
        return self.meta.get(".kernarg_segment_size", 0)

    @property
    def max_threads(self) -> int:
        """Most work-items a work-group may have."""
        return self.meta.get(".max_flat_workgroup_size", 1024)


@dataclass(frozen=True)
class Segment:
    """A part of the image as it is mapped on a GPU."""

    address: int
    size: int
    writable: bool
    executable: bool


def unbundle(data: bytes, target: str | None = None) -> bytes:
    """The AMDGPU ELF inside an uncompressed clang offload bundle; a plain ELF passes through."""
    if data[:4] == b"\x7fELF":
        return data
    if data[:4] == b"CCOB":
        raise CodeObjectError("compressed offload bundle; compile with --no-gpu-bundle-output or --no-offload-compress")
    if data[:24] != b"__CLANG_OFFLOAD_BUNDLE__":
        raise CodeObjectError(f"neither an ELF file nor an offload bundle: {len(data)} bytes, first {data[:8]!r}")
    found: list[tuple[str, bytes]] = []
    try:
        count, at = struct.unpack_from("<Q", data, 24)[0], 32
        for _ in range(min(count, 1024)):
            offset, size, length = struct.unpack_from("<QQQ", data, at)
            ident = data[at + 24 : at + 24 + length].decode()
            at += 24 + length
            if "amdgcn" in ident and size:
                found.append((ident, data[offset : offset + size]))
    except (struct.error, UnicodeDecodeError) as error:
        raise CodeObjectError(f"the offload bundle is damaged: {error}") from error
    hits = [image for ident, image in found if target is None or target in ident]
    if len(hits) != 1:
        raise CodeObjectError(f"the bundle holds {[ident for ident, _ in found]}; name one target")
    return hits[0]


class Image:
    """A code object loaded into this process's memory. Global variables keep their values between launches.

    target, family   "gfx1151", "rdna3" (the name of its instruction tables)
    base             address of the image; segment, symbol and kernel addresses are relative to it
    """

    def __init__(self, data: bytes, target: str | None = None):
        from elftools.common.exceptions import ELFError, ELFParseError
        from elftools.construct import ConstructError

        try:
            self._load(unbundle(data, target))
        except CodeObjectError:
            raise
        except (
            ELFError,
            ELFParseError,
            ConstructError,
            struct.error,
            ValueError,
            KeyError,
            IndexError,
            TypeError,
            AttributeError,
            StopIteration,
            UnicodeDecodeError,
            AssertionError,
            OverflowError,
            MemoryError,
        ) as error:
            words = str(error) or type(error).__name__
            raise CodeObjectError(f"the code object of {len(data)} bytes is truncated or damaged ({words})") from error

    def _load(self, elf: bytes) -> None:
        from elftools.elf.elffile import ELFFile

        file = ELFFile(io.BytesIO(elf))
        if file["e_machine"] != "EM_AMDGPU":
            raise CodeObjectError(f"an ELF file for {file['e_machine']}, not for AMDGPU")
        self.meta = _metadata(file)
        name = re.search(r"gfx[0-9a-f]+", self.meta.get("amdhsa.target", ""))
        self.target = name.group(0) if name else "unknown"
        self.family = next((family for family, pattern in FAMILIES if re.match(pattern, self.target)), "")
        if not self.family:
            raise CodeObjectError(
                f"target {self.target} is not modelled by the emulator; it has gfx11, gfx120x, gfx94x and gfx950"
            )
        self._map(file, elf)
        self.symbols: dict[str, tuple[int, int]] = {}
        section: Any
        for section in file.iter_sections():
            if section["sh_type"] in ("SHT_SYMTAB", "SHT_DYNSYM"):
                for symbol in section.iter_symbols():
                    if symbol.name and symbol["st_shndx"] != "SHN_UNDEF":
                        self.symbols[symbol.name] = symbol["st_value"], symbol["st_size"]
        self._relocate(file)
        self.kernels = {k[".name"]: self._kernel(k) for k in self.meta["amdhsa.kernels"]}

    def _map(self, file: Any, elf: bytes) -> None:
        loads = [s for s in file.iter_segments() if s["p_type"] == "PT_LOAD"]
        size = max(s["p_vaddr"] + s["p_memsz"] for s in loads)
        if size > 1 << 32:
            raise CodeObjectError(f"the code object wants {size} bytes of memory")
        self._storage = c.create_string_buffer(size + FETCH + PAGE)
        self.base = -(-c.addressof(self._storage) // PAGE) * PAGE
        offset = self.base - c.addressof(self._storage)
        self.bytes = memoryview(self._storage).cast("B")[offset : offset + size + FETCH]
        self.segments = []
        for s in loads:
            start, stop = s["p_offset"], s["p_offset"] + s["p_filesz"]
            if stop > len(elf):
                raise CodeObjectError(f"the code object is truncated: {len(elf)} bytes, a segment ends at {stop}")
            self.bytes[s["p_vaddr"] : s["p_vaddr"] + s["p_filesz"]] = elf[start:stop]
            flags = s["p_flags"]
            self.segments.append(Segment(s["p_vaddr"], s["p_memsz"], bool(flags & 2), bool(flags & 1)))
        self.code = next(s for s in self.segments if s.executable)

    def _relocate(self, file: Any) -> None:
        for section in file.iter_sections():
            if section["sh_type"] != "SHT_RELA" or not section["sh_flags"] & 2:
                continue
            symbols = file.get_section(section["sh_link"])
            for entry in section.iter_relocations():
                kind, value = entry["r_info_type"], self.base + entry["r_addend"]
                if kind == R_AMDGPU_ABS64:
                    symbol = symbols.get_symbol(entry["r_info_sym"])
                    if symbol["st_shndx"] == "SHN_UNDEF":
                        raise CodeObjectError(f"undefined symbol {symbol.name}")
                    value += symbol["st_value"]
                elif kind != R_AMDGPU_RELATIVE64:
                    raise CodeObjectError(f"relocation type {kind} is not handled")
                struct.pack_into("<Q", self.bytes, entry["r_offset"], value % (1 << 64))

    def _kernel(self, meta: dict[str, Any]) -> KernelInfo:
        at = self.symbols[meta[".symbol"]][0]
        group, private = struct.unpack_from("<II", self.bytes, at)
        (entry,) = struct.unpack_from("<q", self.bytes, at + 16)
        rsrc3, rsrc1, rsrc2, properties, preload = struct.unpack_from("<IIIHH", self.bytes, at + 44)
        entry += at
        if not self.code.address <= entry < self.code.address + self.code.size:
            raise CodeObjectError(f"kernel {meta['.name']} starts outside the code, at {entry:#x}")
        info = KernelInfo(meta[".name"], meta, at, entry, group, private, rsrc1, rsrc2, rsrc3, properties, preload)
        _check(info)
        return info


def _check(kernel: KernelInfo) -> None:
    """Raise CodeObjectError unless the metadata's sizes can be sizes."""
    arguments = [(a[".offset"], a[".size"], kernel.kernarg_size) for a in kernel.meta.get(".args", [])]
    sizes = [(kernel.kernarg_size, 0, 1 << 20), (kernel.wave_size, 0, 64), (kernel.max_threads, 0, 1024)]
    for offset, size, limit in [*arguments, *sizes]:
        if not (isinstance(offset, int) and isinstance(size, int) and 0 <= offset <= offset + size <= limit):
            raise CodeObjectError(
                f"kernel {kernel.name}: a size in its metadata cannot be ({offset}, {size}, at most {limit})"
            )


def _metadata(file: Any) -> dict[str, Any]:
    """The msgpack note of an AMDGPU code object."""
    import msgpack

    for segment in file.iter_segments():
        if segment["p_type"] != "PT_NOTE":
            continue
        for note in segment.iter_notes():
            if note["n_name"] == "AMDGPU" and note["n_type"] in (NT_AMDGPU_METADATA, "NT_AMDGPU_METADATA"):
                desc = note["n_descdata"]
                meta = msgpack.unpackb(desc, strict_map_key=False)
                if isinstance(meta, dict) and "amdhsa.kernels" in meta:
                    return meta
    raise CodeObjectError("no AMDGPU metadata note: not a code object of version 3 or later")
