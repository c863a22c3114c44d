"""The decoded instructions of one code object: filled where control can get to, kept on disk between processes."""

from __future__ import annotations

import ctypes as c
import mmap
import threading
from typing import NamedTuple

from kgen.emu import library, programcache
from kgen.emu.codeobject import FETCH, Image
from kgen.emu.structs import CLS_BAD, CLS_MEM, CLS_VOPD, Insn
from kgen.errors import EmulatorError

ENDS = ("S_ENDPGM", "S_ENDPGM_SAVED", "S_SETPC_B64", "S_BRANCH", "?")
"""After these, control does not go on with the next instruction."""
LDS = 3  # address space of an atomic, a[2]
JUMPS = ("S_BRANCH", "S_CBRANCH_", "S_CALL_B64")


class Item(NamedTuple):
    """One instruction: address in the image, mnemonic, text if it cannot be run, and the engine's records (two for a dual one)."""

    address: int
    name: str
    text: str
    records: bytes


class Program:
    """Instructions by address, in the form that the engine reads.

    pcmap   int32 per dword of code: index of its record, -1 = not decoded
    insns   records; room for every instruction there can be, so that the engine may read while Python adds
    """

    def __init__(self, image: Image, digest: str):
        self.image = image
        self.items: list[Item | None] = []  # by record index; the second record of a pair has None
        self._code = image.code
        self._digest = digest
        self._specialise = True
        self.global_atomics = False  # whether any decoded instruction is an atomic on something other than LDS
        self._lock = threading.RLock()
        words = self._code.size // 4 + 1
        self.pcmap = (c.c_int32 * words)()
        c.memset(self.pcmap, 0xFF, c.sizeof(self.pcmap))
        self._storage = mmap.mmap(-1, 2 * words * c.sizeof(Insn))  # pages are only taken when they are filled
        self.insns = (Insn * (2 * words)).from_buffer(self._storage)
        self._saved = 0
        for item in programcache.read(digest):
            self._add(Item(*item))
        self._saved = len(self.items)

    def index(self, address: int) -> int:
        """Index of the record at an address, -1 if it is not decoded."""
        word = (address - self._code.address) // 4
        return self.pcmap[word] if 0 <= word < len(self.pcmap) else -1

    def at(self, address: int) -> Item | None:
        """The instruction at an address, if it is decoded."""
        index = self.index(address)
        return self.items[index] if index >= 0 else None

    def decode(self, start: int) -> None:
        """Decode everything that control can reach from an address by falling through, branches and direct calls.

        Raises EmulatorError if the address is outside the code, MissingPieceError without the instruction tables.
        """
        low, high = self._code.address, self._code.address + self._code.size
        if not low <= start < high or start & 3:
            raise EmulatorError(f"the program counter is at {start:#x}, outside the code ({low:#x}..{high:#x})")
        with self._lock:
            todo = [start]
            while todo:
                address = todo.pop()
                while low <= address < high and not address & 3 and self.index(address) < 0:
                    item = self._decode_one(address, high)
                    self._add(item)
                    record = Insn.from_buffer_copy(item.records)
                    following = address + record.size
                    if item.name.startswith(JUMPS):
                        todo.append(following + 4 * record.imm)
                    if item.name in ENDS:
                        break
                    address = following

    def save(self) -> None:
        """Write what was decoded since the last time to the cache folder; does nothing if that is not possible."""
        with self._lock:
            if len(self.items) > self._saved:
                programcache.write(self._digest, [item for item in self.items if item])
                self._saved = len(self.items)

    def specialise_all(self, specialise: bool) -> None:
        """Use the engine's specialised handlers or only its general ones, which give the same results slower."""
        with self._lock:
            self._specialise = specialise
            for index, item in enumerate(self.items):
                if item is not None:
                    self._prepare(index, specialise)

    def listing(self, start: int, size: int) -> list[tuple[Item, bool]]:
        """Every instruction in [start, start + size) and whether the engine can run it."""
        out = []
        address = start
        while address < start + size:
            if self.index(address) < 0:
                self.decode(address)
            item = self.at(address)
            assert item is not None
            record = self.insns[self.index(address)]
            out.append((item, record.cls != CLS_BAD))
            address += record.size
        return out

    def _decode_one(self, address: int, end: int) -> Item:
        from kgen.emu.decode import LONGEST, decoder

        data = bytes(self.image.bytes[address : min(address + LONGEST, end + FETCH)]).ljust(LONGEST, b"\0")
        records, name, text = decoder(self.image.family)(data)
        return Item(address, name, text, b"".join(bytes(record) for record in records))

    def _add(self, item: Item) -> None:
        index, size = len(self.items), len(item.records)
        c.memmove(c.addressof(self.insns) + index * c.sizeof(Insn), item.records, size)
        self.items.append(item)
        if size == 2 * c.sizeof(Insn):
            self.items.append(None)
            self.insns[index].pair = index + 1
        self._prepare(index, self._specialise)
        self.global_atomics |= self._is_global_atomic(self.insns[index])
        self.pcmap[(item.address - self._code.address) // 4] = index  # last: from here on the engine may use it

    def _prepare(self, index: int, specialise: bool) -> None:
        records = 2 if self.insns[index].cls == CLS_VOPD else 1
        first = c.cast(c.byref(self.insns, index * c.sizeof(Insn)), c.POINTER(Insn))
        library.load().kgen_emu_prepare(first, records, specialise)

    @staticmethod
    def _is_global_atomic(record: Insn) -> bool:
        ops = library.operations()
        if record.cls != CLS_MEM:
            return False
        return bool(
            (record.op == ops["ATOMIC"] and record.a[2] != LDS) or (record.op == ops["BUFFER"] and record.a[2] == 2)
        )
