"""A strict reader of 64-bit little-endian ELF files, just enough for code objects and cubins.

Everything the file says about itself is checked against the file's real size before it is followed, so that a truncated or altered file
ends in one CodeObjectError and never in an index error, an endless loop or a huge allocation. That is why this is not left to a general
ELF library: those trust the file, and raise whatever the damage leads to.

Layout: System V ABI, "ELF-64 object file format" (headers of 64, 64 and 56 bytes; symbols of 24).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

from kgen.errors import CodeObjectError

SHT_SYMTAB, SHT_NOTE, SHT_NOBITS, SHT_DYNSYM = 2, 7, 8, 11
STT_OBJECT, STT_FUNC = 1, 2
PT_LOAD, PT_NOTE = 1, 4
MACHINE_AMDGPU, MACHINE_CUDA = 224, 190
_MACHINE_NAMES = {
    3: "x86",
    62: "x86-64",
    183: "AArch64",
    MACHINE_CUDA: "NVIDIA CUDA",
    MACHINE_AMDGPU: "AMDGPU",
    247: "BPF",
}
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_NOTE = struct.Struct("<III")


@dataclass(frozen=True)
class Section:
    """One section header; `offset` and `size` in bytes of the file (size only in memory for SHT_NOBITS)."""

    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int


@dataclass(frozen=True)
class Segment:
    """One program header."""

    type: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int


@dataclass(frozen=True)
class Symbol:
    """One symbol; `value` is an address in a linked file and an offset in its section in a cubin."""

    name: str
    type: int
    section: int
    value: int
    size: int


def machine_name(machine: int) -> str:
    """The e_machine value in words."""
    return _MACHINE_NAMES.get(machine, f"machine {machine}")


class Elf:
    """A parsed ELF file. `what` names it in error messages. Raises CodeObjectError for anything that does not fit together."""

    def __init__(self, data: bytes, what: str):
        self.data, self.what = data, what
        if data[:4] != b"\x7fELF":
            found = "an empty file" if not data else f"it begins with {data[:4].hex(' ')}"
            bundle = (
                "; that is an offload bundle: compile with --no-gpu-bundle-output" if data[:8] == b"__CLANG_" else ""
            )
            raise self.error(f"not an ELF file: {found}, allowed 7f 45 4c 46{bundle}")
        if len(data) < _HEADER.size:
            raise self.error(f"truncated: {len(data)} bytes, an ELF header alone has {_HEADER.size}")
        ident, _, machine, _, _, phoff, shoff, flags, _, phentsize, phnum, shentsize, shnum, shstrndx = (
            _HEADER.unpack_from(data)
        )
        if ident[4] != 2 or ident[5] != 1:
            raise self.error(
                f"not a 64-bit little-endian ELF file (class {ident[4]}, data {ident[5]}; allowed 2 and 1)"
            )
        self.os_abi, self.abi_version, self.machine, self.flags = ident[7], ident[8], machine, flags
        if (shnum and shentsize != _SECTION.size) or (phnum and phentsize != _SEGMENT.size):
            raise self.error(f"header sizes {shentsize} and {phentsize}, allowed {_SECTION.size} and {_SEGMENT.size}")
        self._need(phoff, phnum * _SEGMENT.size, "its program headers")
        self._need(shoff, shnum * _SECTION.size, "its section headers")
        self.segments = tuple(self._segment(phoff + i * _SEGMENT.size) for i in range(phnum))
        self.sections = self._sections(shoff, shnum, shstrndx)

    def error(self, why: str) -> CodeObjectError:
        """A CodeObjectError about this file."""
        return CodeObjectError(f"{self.what}: {why}")

    def slice(self, offset: int, size: int, of: str) -> bytes:
        """Bytes of the file; raises CodeObjectError if the file ends before."""
        self._need(offset, size, of)
        return self.data[offset : offset + size]

    def contents(self, section: Section) -> bytes:
        """A section's bytes (none for SHT_NOBITS)."""
        return (
            b"" if section.type == SHT_NOBITS else self.slice(section.offset, section.size, f"section {section.name}")
        )

    def at_address(self, address: int, size: int, of: str) -> bytes:
        """Bytes that a loader would put at an address; raises CodeObjectError if no loaded segment holds them all."""
        for s in self.segments:
            if s.type == PT_LOAD and s.address <= address and address + size <= s.address + s.file_size:
                return self.slice(s.offset + address - s.address, size, of)
        raise self.error(f"altered: {of} at {address:#x} (+{size}) lies in no loaded segment")

    @cached_property
    def symbols(self) -> tuple[Symbol, ...]:
        """Named, defined symbols of all symbol tables, .symtab before .dynsym."""
        out = []
        for table in sorted((s for s in self.sections if s.type in (SHT_SYMTAB, SHT_DYNSYM)), key=lambda s: s.type):
            if table.link >= len(self.sections):
                raise self.error(
                    f"altered: {table.name} names string table {table.link} of {len(self.sections)} sections"
                )
            raw, strings = self.contents(table), self.contents(self.sections[table.link])
            for name, info, _, section, value, size in _SYMBOL.iter_unpack(
                raw[: len(raw) // _SYMBOL.size * _SYMBOL.size]
            ):
                if name and section:
                    out.append(Symbol(self._string(strings, name, table.name), info & 15, section, value, size))
        return tuple(out)

    def symbol(self, name: str) -> Symbol:
        """The symbol of that name; raises CodeObjectError that lists what there is."""
        for symbol in self.symbols:
            if symbol.name == name:
                return symbol
        known = ", ".join(sorted({s.name for s in self.symbols if s.type in (STT_OBJECT, STT_FUNC)})) or "none"
        raise self.error(f"no symbol {name!r}; it has: {known}")

    def notes(self) -> list[tuple[str, int, bytes]]:
        """All notes as (owner, type, description)."""
        places = [(s.offset, s.file_size) for s in self.segments if s.type == PT_NOTE]
        places = places or [(s.offset, s.size) for s in self.sections if s.type == SHT_NOTE]
        out = []
        for offset, size in places:
            raw, at = self.slice(offset, size, "a note segment"), 0
            while at + _NOTE.size <= len(raw):
                name_size, text_size, kind = _NOTE.unpack_from(raw, at)
                name_at, text_at = at + _NOTE.size, at + _NOTE.size + (name_size + 3 & ~3)
                at = text_at + (text_size + 3 & ~3)
                if at > len(raw) + 3:
                    raise self.error("altered or truncated: a note reaches past its segment")
                owner = raw[name_at : name_at + name_size].rstrip(b"\0").decode("latin-1")
                out.append((owner, kind, raw[text_at : text_at + text_size]))
        return out

    def _need(self, offset: int, size: int, of: str) -> None:
        if offset + size > len(self.data):
            raise self.error(
                f"truncated or altered: {of} would end at byte {offset + size}, the file has {len(self.data)}"
            )

    def _segment(self, at: int) -> Segment:
        kind, flags, offset, address, _, file_size, memory_size, _ = _SEGMENT.unpack_from(self.data, at)
        self._need(offset, file_size, "a segment")
        return Segment(kind, flags, offset, address, file_size, memory_size)

    def _sections(self, shoff: int, shnum: int, shstrndx: int) -> tuple[Section, ...]:
        raw = [_SECTION.unpack_from(self.data, shoff + i * _SECTION.size) for i in range(shnum)]
        for _, kind, _, _, offset, size, *_ in raw:
            if kind not in (0, SHT_NOBITS):
                self._need(offset, size, "a section")
        if not raw:
            return ()
        if shstrndx >= shnum:
            raise self.error(f"altered: section name table {shstrndx} of {shnum} sections")
        names = self.data[raw[shstrndx][4] : raw[shstrndx][4] + raw[shstrndx][5]]
        return tuple(Section(self._string(names, r[0], "the section headers"), *r[1:8]) for r in raw)

    def _string(self, table: bytes, at: int, of: str) -> str:
        end = table.find(b"\0", at)
        if at >= len(table) or end < 0:
            raise self.error(f"altered: {of} name a string at {at} of a table of {len(table)} bytes")
        return table[at:end].decode("utf-8", "replace")
