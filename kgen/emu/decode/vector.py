"""Vector ALU encodings: VOP1, VOP2, VOPC, VOP3, VOP3P with DPP and SDWA, and the dual instructions of RDNA (VOPD)."""

from __future__ import annotations

import re

from kgen.emu.decode.common import CONDITIONS, TYPES, VCC, VGPR, Form, NotModelled, named
from kgen.emu.decode.matrix import translate_wmma
from kgen.emu.structs import CLS_V, CLS_VOPD, Insn

CLAMPS_INTEGERS = re.compile(
    r"V_(ADD|SUB|SUBREV|ADDC|SUBB|SUBBREV)_(NC_|CO_|CO_CI_)?[IU](16|32)|V_MAD_[IU]32_[IU]24|V_DOT[48]_|V_PK_(ADD|SUB)_[IU]16|V_WMMA"
)
# 16-bit results that clear the upper half of the register on CDNA (LLVM: GCNSubtarget::zeroesHigh16BitsOfDest)
ZEROES_HIGH_HALF = re.compile(
    r"V_(CVT_F16_(F32|[UI]16)|(RCP|RSQ|SQRT|LOG|EXP|SIN|COS|FLOOR|CEIL|TRUNC|RNDNE|FRACT|FREXP_MANT|LDEXP|ADD|SUB|SUBREV|MUL|MAX|MIN)_F16|"
    r"FREXP_EXP_I16_F16|(LSHLREV|LSHRREV)_B16|ASHRREV_I16|(ADD|SUB|SUBREV|MUL_LO)_U16|(MAX|MIN)_[UI]16|(MAD|FMA|DIV_FIXUP)_(LEGACY_)?[FUI]16)$"
)
DPP8, DPP8_FETCH_INACTIVE = 233, 234  # source operand codes
DPP16_KIND, DPP8_KIND = 1, 2  # what the engine calls them
SHORT = ("VOP1", "VOP2", "VOPC")


def translate(record: Insn, form: Form, ops: dict[str, int]) -> list[Insn] | None:
    """Fill `record` from a vector ALU instruction."""
    record.cls = CLS_V
    name, cdna = form.name, form.family == "cdna"
    record.src[0] = form.get("src0", 128)
    record.src[1] = VGPR + form["vsrc1"] if "vsrc1" in form else form.get("src1", 128)
    record.src[2] = form.get("src2", 128)
    record.dst = VGPR + form.get("vdst")
    record.sdst = form.get("sdst", VCC)
    record.keep16 = not (cdna and ZEROES_HIGH_HALF.match(name))
    record.neg, record.abs = form.get("neg"), form.get("abs")
    _dpp_or_sdwa(record, form)
    if form.base in SHORT and not cdna and not record.sdwa:
        _short_halves(record, form)
    if form.base in ("VOP3", "VOP3SD"):
        record.opsel, record.omod, record.clamp = form.get("opsel"), form.get("omod"), form.get("clmp")
    if form.base == "VOP3P":
        record.neghi, record.opsel, record.clamp = form["neg_hi"], form["opsel"], form["clmp"]
        record.opselhi = form["opsel_hi"] | form["opsel_hi2"] << 2
    carries = bool(re.search(r"_CI_|ADDC_|SUBB(REV)?_", name))
    record.nsrc = 3 if carries else 2
    if form.base in SHORT and (carries or name.startswith("V_CNDMASK")):
        record.src[2] = VCC
    _refuse_unknown_modifiers(record, form)
    record.flags |= bool(CLAMPS_INTEGERS.match(name))
    return _operation(record, form, ops)


def _dpp_or_sdwa(record: Insn, form: Form) -> None:
    short = form.base in SHORT
    if form.format.endswith("_DPP16"):
        record.dpp, record.dpparg, record.bc, record.fi = DPP16_KIND, form["dpp"], form["bc"], form.get("fi")
        record.row_mask, record.bank_mask = form["row_mask"], form["bank_mask"]
        record.src[0] = VGPR + form["vsrc0"]
        if short:
            record.neg, record.abs = form["src0_neg"] | form["src1_neg"] << 1, form["src0_abs"] | form["src1_abs"] << 1
    elif form.family != "cdna" and record.src[0] in (DPP8, DPP8_FETCH_INACTIVE):
        record.fi = record.src[0] == DPP8_FETCH_INACTIVE
        at = 4 if short else 8
        word = int.from_bytes(form.data[at : at + 4], "little")
        record.dpp, record.dpparg, record.src[0], record.size = DPP8_KIND, word >> 8, VGPR + (word & 255), at + 4
    elif "_SDWA" in form.format:
        _sdwa(record, form)


def _sdwa(record: Insn, form: Form) -> None:
    raw = form.raw
    record.sdwa, record.sel0, record.sel1 = 1, form["src0_sel"], form.get("src1_sel", 6)
    record.sext = form["src0_sext"] | form.get("src1_sext") << 1
    # the scalar bits exist on every SDWA form (63 and 55); read them from the raw word
    record.src[0] = form["vsrc0"] if raw >> 55 & 1 else VGPR + form["vsrc0"]
    if "vsrc1" in form:
        record.src[1] = form["vsrc1"] if raw >> 63 & 1 else VGPR + form["vsrc1"]
    record.neg = form["src0_neg"] | form.get("src1_neg") << 1
    record.abs = form["src0_abs"] | form.get("src1_abs") << 1
    if form.base == "VOPC":
        record.sdst = form["sdst"] if form["sd"] else VCC
        return
    record.dsel, record.dun = raw >> 40 & 7, raw >> 43 & 3
    if "_SDST" in form.format and raw >> 47 & 1:
        record.sdst, record.dsel = raw >> 40 & 127, 6
    record.clamp, record.omod = raw >> 45 & 1, raw >> 46 & 3
    if "_SDST" in form.format:
        record.clamp = record.omod = 0


def _short_halves(record: Insn, form: Form) -> None:
    """In the short encodings of RDNA, v128 and up in a 16-bit operand mean the upper half of v0 and up."""
    bits = form.operand_bits
    if bits.get("src0") == 16 and record.src[0] >= VGPR + 128:
        record.src[0] -= 128
        record.opsel |= 1
    if bits.get("vsrc1") == 16 and record.src[1] >= VGPR + 128:
        record.src[1] -= 128
        record.opsel |= 2
    if bits.get("vdst") == 16 and record.dst >= VGPR + 128:
        record.dst -= 128
        record.opsel |= 8


def _refuse_unknown_modifiers(record: Insn, form: Form) -> None:
    name = form.name
    if (
        form.family == "cdna"
        and form.base == "VOP3"
        and name.startswith(("V_CVT_F32_FP8", "V_CVT_F32_BF8"))
        and record.opsel
    ):
        raise NotModelled("byte select outside SDWA")
    integer = re.search(r"_[IUB](8|16|32|64)\b", name) and not name.startswith("V_CVT_F")
    if record.clamp and integer and not CLAMPS_INTEGERS.match(name):
        raise NotModelled("integer clamp")


def _operation(record: Insn, form: Form, ops: dict[str, int]) -> list[Insn] | None:
    name = form.name
    if m := re.match(r"V_CMP(X?)_(\w+)_(\w\d\d)$", name):
        if m.group(2) == "CLASS":
            name = "V_CMP_CLASS"
        else:
            record.a[0] = CONDITIONS[m.group(2)]
            name = "V_CMP"
        record.a[1], record.a[2] = TYPES[m.group(3)], bool(m.group(1))
        record.sdst = form.get("vdst", VCC) if form.base == "VOP3" else record.sdst
        if record.dpp and not record.bc:
            raise NotModelled("comparison with DPP lanes switched off")
    elif re.match(r"V_(READLANE|READFIRSTLANE|S_)", name):
        record.dst = form["vdst"]
    elif name.startswith("V_ACCVGPR"):
        if name != "V_ACCVGPR_WRITE":
            record.src[0] += 256
        if name != "V_ACCVGPR_READ":
            record.dst += 256
    elif name.startswith("V_WMMA"):
        return translate_wmma(record, form, ops)
    return named(record, ops, name, CLS_V)


def translate_dual(record: Insn, form: Form, ops: dict[str, int], names: tuple[str, str]) -> list[Insn] | None:
    """Two records, X then Y; the engine reads both halves' sources before it writes either result."""
    halves = (
        (names[0], form["srcx0"], form["vsrcx1"], form["vdstx"]),
        (names[1], form["srcy0"], form["vsrcy1"], form["vdsty"] << 1 | (form["vdstx"] & 1 ^ 1)),
    )
    records = []
    for name, src0, vsrc1, vdst in halves:
        half = Insn(size=record.size, cls=CLS_VOPD, dsel=6, sel0=6, sel1=6, lit=record.lit, keep16=1, nsrc=2)
        half.op = ops.get(name.replace("V_DUAL_", "V_"), 0)
        half.src[0], half.src[1], half.src[2], half.dst = src0, VGPR + vsrc1, VCC, VGPR + vdst
        if not half.op:
            return None
        records.append(half)
    return records
