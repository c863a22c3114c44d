"""Scalar encodings: SOPP, SOPK, SOP1, SOP2, SOPC, SMEM."""

from __future__ import annotations

import re

from kgen.emu.decode.common import CONDITIONS, SIZES, TYPES, Form, NotModelled, named, nop
from kgen.emu.structs import CLS_S, Insn

# waits, hints, cache control: the engine executes in order and has no caches
NOTHING = re.compile(
    r"S_(NOP|WAIT\w*|CLAUSE|DELAY_ALU|SENDMSG|SETPRIO|SET_INST_PREFETCH_DISTANCE|ICACHE_INV|INCPERFLEVEL|DECPERFLEVEL|"
    r"TTRACEDATA\w*|WAKEUP|BARRIER_LEAVE|VERSION|GL1_INV|DCACHE_\w+|PREFETCH_\w+|BUFFER_PREFETCH_\w+|SETHALT)$"
)
WORKGROUP_BARRIER = 193  # source operand: the inline constant -1


def translate(record: Insn, form: Form, ops: dict[str, int]) -> list[Insn] | None:
    """Fill `record` from a scalar instruction."""
    name = form.name
    if form.base == "SMEM":
        return _smem(record, form, ops)
    if form.base in ("SOPP", "SOPK"):
        record.imm, record.dst = form.signed("simm16"), form.get("sdst")
        if name == "S_BARRIER_WAIT" and record.imm != -1:
            raise NotModelled("only the work-group's own barrier is modelled")
        return nop(record, ops) if NOTHING.match(name) else named(record, ops, name, CLS_S)
    record.dst = form.get("sdst")
    record.src[0], record.src[1] = form["ssrc0"], form.get("ssrc1", 128)
    if m := re.match(r"S_CMP_(\w+)_(F16|F32)$", name):
        record.a[0], record.a[1] = CONDITIONS[m.group(1)], TYPES[m.group(2)]
        name = "S_CMP_F"
    if name == "S_BARRIER_SIGNAL" and record.src[0] != WORKGROUP_BARRIER:
        raise NotModelled("only the work-group's own barrier is modelled")
    return named(record, ops, name, CLS_S)


def _smem(record: Insn, form: Form, ops: dict[str, int]) -> list[Insn] | None:
    """a = {bytes, sign extend, buffer}; src[0] base, src[1] soffset or 255, imm."""
    name = form.name
    if NOTHING.match(name):
        return nop(record, ops)
    record.dst = form["sdata"]
    if m := re.match(r"S_(BUFFER_)?LOAD_(U8|I8|U16|I16|B\d+|DWORD(?:X\d+)?)$", name):
        kind = m.group(2)
        size = SIZES[kind] if kind in SIZES else int(kind[1:]) // 8 if kind[0] == "B" else 4 * int(kind[6:])
        record.a[0], record.a[1], record.a[2] = size, kind[0] == "I", bool(m.group(1))
        record.src[0], record.src[1] = form["sbase"] * 2, form["soffset"]
        if form.family == "cdna":
            record.imm = form.signed("offset") if form["imm"] else 0
            if not form["soffset_en"]:
                record.src[1] = 255 if form["imm"] else form["offset"] & 127
        else:
            record.imm = form.signed("ioffset" if form.family == "rdna4" else "offset")
        name = "S_LOAD"
    return named(record, ops, name, CLS_S)
