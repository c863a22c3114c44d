"""What the decoders of all encoding families share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kgen.emu.structs import CLS_S, Insn

# numbers of the engine's operand types, comparison conditions and access widths
TYPES = {"U16": 0, "I16": 1, "F16": 2, "U32": 3, "I32": 4, "F32": 5, "U64": 6, "I64": 7, "F64": 8, "B16": 0, "B32": 3, "B64": 6}  # fmt: skip
_CONDITIONS = "F LT EQ LE GT LG GE O U NGE NLG NGT NLE NEQ NLT TRU"
CONDITIONS = {name: i for i, name in enumerate(_CONDITIONS.split())} | {"NE": 5, "T": 15}  # fmt: skip
SIZES = {
    "U8": 1, "I8": 1, "UBYTE": 1, "SBYTE": 1, "BYTE": 1, "B8": 1, "U16": 2, "I16": 2, "USHORT": 2, "SSHORT": 2, "SHORT": 2, "B16": 2,
    "B32": 4, "DWORD": 4, "B64": 8, "DWORDX2": 8, "B96": 12, "DWORDX3": 12, "B128": 16, "DWORDX4": 16,
}  # fmt: skip

VGPR = 256  # operand code of v0; AccVGPRs follow the VGPRs
VCC = 106
EXEC = 126


class NotModelled(Exception):
    """The engine knows the operation but not in this form; the words end up in the error message."""


@dataclass(frozen=True)
class Form:
    """An instruction of the tables, taken apart.

    name    operation without its _E32/_E64
    format  name of the encoding, `base` the same without suffixes for literals, DPP, SDWA and matrix forms
    fields  bit fields by name
    """

    name: str
    format: str
    base: str
    family: str
    fields: dict[str, int]
    widths: dict[str, int]
    operand_bits: dict[str, int]
    raw: int
    data: bytes

    @classmethod
    def of(cls, inst: Any, family: str, data: bytes) -> Form:
        """Take apart an instruction that the tables decoded from `data`."""
        form = type(inst).__name__
        return cls(
            name=operation_name(inst),
            format=form,
            base=re.sub(r"(_LIT|_DPP16|_DPP8|_SDWA_SDST|_SDWA|_SDST|_MFMA)+$", "", form),
            family=family,
            fields={name: (inst._raw >> field.lo) & field.mask for name, field in type(inst)._fields},
            widths={name: field.hi - field.lo + 1 for name, field in type(inst)._fields},
            operand_bits={name: operand[1] for name, operand in inst.operands.items()},
            raw=inst._raw,
            data=data,
        )

    def __getitem__(self, name: str) -> int:
        return self.fields[name]

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def get(self, name: str, default: int = 0) -> int:
        """A field, or `default` if the encoding has none of that name."""
        return self.fields.get(name, default)

    def signed(self, name: str) -> int:
        """A field as a two's complement number."""
        value, bits = self.fields[name], self.widths[name]
        return value - (1 << bits) if value >> (bits - 1) else value


def operation_name(inst: Any) -> str:
    """Mnemonic without encoding suffix; both halves of a dual instruction, joined by ::."""
    name = f"{inst.opx.name}::{inst.opy.name}" if hasattr(inst, "opx") else inst.op.name
    return re.sub(r"_E(32|64)$", "", name)


def named(record: Insn, ops: dict[str, int], name: str, cls: int) -> list[Insn] | None:
    """Finish a record with the engine's number for `name`; None if the engine has no such operation."""
    record.op, record.cls = ops.get(name, 0), cls
    return [record] if record.op else None


def nop(record: Insn, ops: dict[str, int]) -> list[Insn] | None:
    """Finish a record that does nothing here."""
    return named(record, ops, "NOP", CLS_S)
