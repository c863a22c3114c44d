"""Machine code -> the engine's instruction records.

`Decoder` looks bytes up in tinygrad's tables and hands the fields to one module per encoding family: scalar, vector, matrix, memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from kgen.emu import library
from kgen.emu.decode import matrix, memory, scalar, vector
from kgen.emu.decode.common import Form, NotModelled
from kgen.emu.decode.tables import tables_for
from kgen.emu.structs import CLS_BAD, Insn

Translate = Callable[[Insn, Form, dict[str, int]], list[Insn] | None]
Decoded = tuple[list[Insn], str, str]
"""Records (two for a dual instruction), mnemonic, and, for what the engine cannot run, a text for messages."""

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
            form = Form.of(inst, self.family, data)
            record = Insn(size=inst.size(), dsel=6, sel0=6, sel1=6, row_mask=15, bank_mask=15)
        except Exception as error:  # bytes that are no code can end in anything; only a run that gets here stops
            return [Insn(cls=CLS_BAD, size=4)], "?", str(error)
        records, why = None, ""
        try:
            record.lit = form.get("literal")
            if form.base == "VOPD":
                records = vector.translate_dual(record, form, self._ops, (inst.opx.name, inst.opy.name))
            elif form.name.startswith(("V_MFMA", "V_SMFMAC")):
                records = matrix.translate_mfma(record, form, self._ops)
            elif translate := TRANSLATORS.get(form.base):
                records = translate(record, form, self._ops)
        except NotModelled as reason:
            why = f"  [{reason}]"
        if records is not None:
            return records, form.name, ""
        record.cls = CLS_BAD
        try:
            return [record], form.name, f"{inst!r}{why}"
        except Exception:  # the tables cannot spell it; the text is only for messages
            return [record], form.name, f"{form.name}{why}"


@functools.cache
def decoder(family: str) -> Decoder:
    """The decoder of a family; kernels of one template share most of their instructions, so it is one for the whole process."""
    return Decoder(family)
