"""Memory encodings: DS, FLAT, GLOBAL, SCRATCH, MUBUF and their RDNA4 spellings."""

from __future__ import annotations

import re

from kgen.emu.decode.common import SIZES, VGPR, Form, named, nop
from kgen.emu.structs import CLS_MEM, Insn

CACHE_CONTROL = re.compile(r"(BUFFER_(GL[01]_INV|INV\w*|WBL2|WBINVL1\w*)|GLOBAL_(INV|WB|WBINV))$")
_ATOMICS = (
    "SWAP CMPSWAP ADD SUB RSUB SMIN UMIN SMAX UMAX AND OR XOR INC DEC FADD FMIN FMAX PKF16 PKBF16 "
    "SUBCLAMP CONDSUB MSKOR FCMPSWAP"
)
ATOMICS = {name: i for i, name in enumerate(_ATOMICS.split())}
"""Atomic operations by name, with the engine's numbers."""
RENAMED = {
    "MIN_NUM": "MIN", "MAX_NUM": "MAX", "CMPST": "CMPSWAP", "CMPSTORE": "CMPSWAP", "WRXCHG": "SWAP", "STOREXCHG": "SWAP",
    "SUB_CLAMP": "SUBCLAMP", "COND_SUB": "CONDSUB", "CSUB": "SUBCLAMP",
}  # fmt: skip
WIDTH = r"(U8|I8|U16|I16|B8|B16|B32|B64|B96|B128|UBYTE|SBYTE|BYTE|USHORT|SSHORT|SHORT|DWORD(?:X\d)?)"  # one of SIZES
LOAD_STORE = re.compile(
    rf"(LOAD|READ|STORE|WRITE)(_LDS)?(2|2ST64|_2ADDR|_2ADDR_STRIDE64)?_(D16_HI_|D16_)?{WIDTH}(_D16_HI|_D16)?$"
)
BUFFER_LOAD_STORE = re.compile(rf"(LOAD|STORE)(_LDS)?_(D16_HI_|D16_)?{WIDTH}(_D16_HI|_D16)?$")
DS_ATOMIC = re.compile(
    r"((?:MIN|MAX|SUB|COND|PK|ADD|RSUB|INC|DEC|AND|OR|XOR|MSKOR|CMPST|CMPSTORE|WRXCHG|STOREXCHG)"
    r"(?:_NUM|_CLAMP|_SUB|_ADD)?)(_RTN)?_(\w+)$"
)
GLOBAL, FLAT, SCRATCH, LDS = range(4)  # the engine's address spaces
SPACES = {"DS": LDS, "FLAT": FLAT, "VFLAT": FLAT, "GLOBAL": GLOBAL, "VGLOBAL": GLOBAL, "SCRATCH": SCRATCH, "VSCRATCH": SCRATCH}  # fmt: skip
SIGNED, D16, D16_HI, TO_LDS, TWO_ADDRESSES, NO_VADDR = 1, 2, 4, 8, 16, 32  # flags in a[1]
ACC = 256


def atomic(kind: str) -> tuple[str | None, int]:
    """Operation (a key of ATOMICS, None if unknown) and bytes, from the tail of an atomic's name: ADD_F32, CMPSWAP_X2, MIN_I64."""
    size = 8 if re.search(r"(_X2|[BIUF]64)$", kind) else 4
    name = kind.removesuffix("_X2")
    if name.startswith("PK_ADD_"):
        return ("PKF16" if name.endswith("_F16") else "PKBF16"), 4
    typed = re.search(r"_([BIUF])(32|64)$", name)
    letter = typed.group(1) if typed else ""
    name = name[: typed.start()] if typed else name
    name = RENAMED.get(name, name)
    if name in ("MIN", "MAX", "ADD") and letter == "F":
        name = "F" + name
    elif name == "CMPSWAP" and letter == "F":
        name = "FCMPSWAP"
    elif name in ("MIN", "MAX"):
        name = ("S" if letter == "I" else "U") + name
    return (name if name in ATOMICS else None), size


def _returns(form: Form) -> int:
    """The bit that makes an atomic give the old value back."""
    return {"rdna3": form.get("glc"), "rdna4": form.get("th") & 1, "cdna": form.get("sc0")}[form.family]


def _value_flags(kind: str, prefix: str | None, suffix: str | None, to_lds: bool) -> int:
    half = (prefix or suffix or "").strip("_")
    signed = kind[0] in "IS" and kind != "SHORT"
    return SIGNED * signed | D16 * (half == "D16") | D16_HI * (half == "D16_HI") | TO_LDS * to_lds


def translate(record: Insn, form: Form, ops: dict[str, int]) -> list[Insn] | None:
    """Fill `record` from a DS, flat, global or scratch instruction: a = {bytes, flags or atomic, space, scale of two addresses}."""
    name = form.name
    ds, acc = form.base == "DS", ACC * form.get("acc")
    if CACHE_CONTROL.match(name) or name == "DS_NOP":
        return nop(record, ops)
    if form.get("gds"):
        return None
    space = SPACES[form.base]
    record.src[0] = VGPR + (form["addr"] if "addr" in form else form["vaddr"])
    record.dst = VGPR + form["vdst"] + acc
    if ds:
        record.imm = form["offset0"] | form["offset1"] << 8
        data0, data1 = VGPR + form["data0"] + acc, VGPR + form["data1"] + acc
        if name in ("DS_BPERMUTE_B32", "DS_PERMUTE_B32", "DS_SWIZZLE_B32"):
            record.src[2] = data0
            return named(record, ops, name, CLS_MEM)
    else:
        offset = "ioffset" if "ioffset" in form else "offset"
        record.imm = form[offset] if form.base == "FLAT" and form.family == "cdna" else form.signed(offset)
        record.src[1] = form["saddr"] if form.base != "FLAT" else 124
        data0, data1 = VGPR + (form["data"] if "data" in form else form["vsrc"]) + acc, 0
        if space == SCRATCH and not form["sve"]:
            record.a[1] |= NO_VADDR
    record.a[2] = space
    short = name.split("_", 1)[1]
    if m := LOAD_STORE.match(short):
        verb, lds, two, prefix, kind, suffix = m.groups()
        record.a[0] = SIZES[kind]
        record.a[1] |= _value_flags(kind, prefix, suffix, bool(lds)) | TWO_ADDRESSES * bool(two)
        record.a[3] = 64 if two and "64" in two else 1
        if verb in ("LOAD", "READ"):
            return named(record, ops, "LOAD", CLS_MEM)
        record.dst, record.sdst = data0, data1
        return named(record, ops, "STORE", CLS_MEM)
    if ds:
        return _ds_atomic(record, short, ops, data0, data1)
    if not short.startswith("ATOMIC_"):
        return None
    operation, size = atomic(short[7:])
    record.ret = _returns(form)
    record.src[2], record.sdst = data0, data0 + size // 4
    return _atomic(record, ops, operation, size)


def _ds_atomic(record: Insn, short: str, ops: dict[str, int], data0: int, data1: int) -> list[Insn] | None:
    m = DS_ATOMIC.match(short)
    if not m or m.group(3).startswith("2ADDR"):
        return None
    operation, size = atomic(f"{m.group(1)}_{m.group(3)}")
    record.ret = bool(m.group(2))
    record.src[2], record.sdst = data0, data1
    if m.group(1) == "CMPST":  # GFX9 order: the value to compare with comes first
        record.src[2], record.sdst = data1, data0
    return _atomic(record, ops, operation, size)


def _atomic(record: Insn, ops: dict[str, int], operation: str | None, size: int) -> list[Insn] | None:
    if operation is None:
        return None
    record.a[0], record.a[1] = size, ATOMICS[operation]
    return named(record, ops, "ATOMIC", CLS_MEM)


def translate_buffer(record: Insn, form: Form, ops: dict[str, int]) -> list[Insn] | None:
    """Fill `record` from a buffer instruction: a = {bytes, flags, 0 load 1 store 2 atomic, offen | idxen << 1, atomic}."""
    if CACHE_CONTROL.match(form.name):
        return nop(record, ops)
    record.src[0] = VGPR + form["vaddr"]
    record.src[1] = form["srsrc"] * 4 if "srsrc" in form else form["rsrc"]
    record.src[2], record.dst = form["soffset"], VGPR + form["vdata"] + ACC * form.get("acc")
    record.imm = form["offset"] if "offset" in form else form.signed("ioffset")
    record.a[3] = form["offen"] | form["idxen"] << 1
    if form.get("tfe"):
        return None
    short = form.name.split("_", 1)[1]
    if m := BUFFER_LOAD_STORE.match(short):
        verb, lds, prefix, kind, suffix = m.groups()
        record.a[0] = SIZES[kind]
        record.a[1] = _value_flags(kind, prefix, suffix, bool(lds or form.get("lds")))
        record.a[2] = verb == "STORE"
    elif short.startswith("ATOMIC_"):
        operation, size = atomic(short[7:])
        if operation is None:
            return None
        record.a[0], record.a[2], record.a[4] = size, 2, ATOMICS[operation]
        record.ret = _returns(form)
    else:
        return None
    return named(record, ops, "BUFFER", CLS_MEM)
