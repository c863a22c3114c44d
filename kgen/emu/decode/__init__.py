"""Machine code -> the engine's instruction records.

`Decoder` looks bytes up in tinygrad's tables and hands the fields to one module per encoding family: scalar, vector, matrix, memory.
"""

from __future__ import annotations

from collections.abc import Callable

from kgen.emu import library
from kgen.emu.decode import matrix, memory, scalar, vector
from kgen.emu.decode.common import Form, NotModelled, operation_name
from kgen.emu.decode.tables import tables_for
from kgen.emu.structs import CLS_BAD, Insn

Translate = Callable[[Insn, Form, dict[str, int]], list[Insn] | None]
Decoded = tuple[list[Insn], str, str]
"""Records (two for a dual instruction), mnemonic, text for messages."""

LONGEST = 20  # bytes; what `Decoder` wants to see from an instruction's start

TRANSLATORS: dict[str, Translate] = {
    **dict.fromkeys(("SOPP", "SOPK", "SOP1", "SOP2", "SOPC", "SMEM"), scalar.translate),
    **dict.fromkeys(("VOP1", "VOP2", "VOPC", "VOP3", "VOP3SD", "VOP3P", "VOP3PX2"), vector.translate),
    **dict.fromkeys(("DS", "FLAT", "GLOBAL", "SCRATCH", "VFLAT", "VGLOBAL", "VSCRATCH"), memory.translate),
    **dict.fromkeys(("MUBUF", "VBUFFER"), memory.translate_buffer),
}


class Decoder:
    """Decodes for one family; equal bytes are decoded once."""

    def __init__(self, family: str):
        self.family = family
        self._tables = tables_for(family)
        self._ops = library.operations()
        self._known: dict[bytes, Decoded] = {}

    def __call__(self, data: bytes) -> Decoded:
        """Decode the instruction at the start of `data`, which holds at least `LONGEST` bytes."""
        if data not in self._known:
            self._known[data] = self._decode(data)
        return self._known[data]

    def _decode(self, data: bytes) -> Decoded:
        try:
            inst = self._tables.decode(data)
        except ValueError as error:
            return [Insn(cls=CLS_BAD, size=4)], "?", str(error)
        try:
            text = repr(inst)
        except Exception:  # the text is only for messages
            text = operation_name(inst)
        record = Insn(size=inst.size(), dsel=6, sel0=6, sel1=6, row_mask=15, bank_mask=15)
        form = Form.of(inst, self.family, data)
        records = None
        try:
            record.lit = form.get("literal")
            if form.base == "VOPD":
                records = vector.translate_dual(record, form, self._ops, (inst.opx.name, inst.opy.name))
            elif form.name.startswith(("V_MFMA", "V_SMFMAC")):
                records = matrix.translate_mfma(record, form, self._ops)
            elif translate := TRANSLATORS.get(form.base):
                records = translate(record, form, self._ops)
        except NotModelled as why:
            text = f"{text}  [{why}]"
        if records is None:
            record.cls = CLS_BAD
            records = [record]
        return records, form.name, text
