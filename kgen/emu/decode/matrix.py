"""Matrix instructions: WMMA and MFMA. Formats and shapes come from the names."""

from __future__ import annotations

import re

from kgen.emu.decode.common import VGPR, Form, NotModelled, named
from kgen.emu.structs import CLS_V, Insn

FORMATS = {
    "F32": 0, "F16": 1, "BF16": 2, "FP8": 3, "BF8": 4, "I8": 5, "U8": 6, "I4": 7, "U4": 8, "FP6": 9, "BF6": 10, "FP4": 11, "I32": 12,
}  # fmt: skip
F8F6F4 = {0: "FP8", 1: "BF8", 2: "FP6", 3: "BF6", 4: "FP4"}
ACC = 256  # from a VGPR's operand code to the AccVGPR of the same number


def translate_wmma(record: Insn, form: Form, ops: dict[str, int]) -> list[Insn] | None:
    """a = {format of A, of B, of C and D, K}."""
    m = re.match(r"V_WMMA_(F32|F16|BF16|I32)_16X16X(\d+)_(\w+)$", form.name)
    if not m:
        return None
    c, k, kind = m.group(1), int(m.group(2)), m.group(3)
    if kind.startswith("IU"):
        a = ("I" if record.neg & 1 else "U") + kind[2:]
        b = ("I" if record.neg & 2 else "U") + kind[2:]
    else:
        a, b = kind.split("_") if "_" in kind else (kind, kind)
        if record.neg or record.neghi:
            raise NotModelled("WMMA with negated operands")
    record.a[0], record.a[1], record.a[2], record.a[3] = FORMATS[a], FORMATS[b], FORMATS[c], k
    return named(record, ops, "V_WMMA", CLS_V)


def translate_mfma(record: Insn, form: Form, ops: dict[str, int]) -> list[Insn] | None:
    """a = {M, N, K, blocks, format of A, of B, int result, scaled}; scales in sdst (A) and dpparg (B), bytes in row_mask, bank_mask."""
    m = re.match(r"V_MFMA_(SCALE_)?(F32|I32)_(\d+)X(\d+)X(\d+)(?:_(\d+)B)?_(\w+)$", form.name)
    if not m or m.group(7) == "XF32":
        return None
    kind = m.group(7)
    if kind == "F8F6F4":
        if form["cbsz"] > 4 or form["blgp"] > 4:
            return None
        a, b = F8F6F4[form["cbsz"]], F8F6F4[form["blgp"]]
    else:
        if form["cbsz"] or form["abid"] or form["blgp"]:
            raise NotModelled("MFMA with cbsz, abid or blgp")
        a, b = kind.split("_") if "_" in kind else (kind, kind)
    shape = int(m.group(3)), int(m.group(4)), int(m.group(5)), int(m.group(6) or 1)
    record.a[0:7] = bytes([*shape, FORMATS[a], FORMATS[b], m.group(2) == "I32"])

    def register(code: int, accumulator: int) -> int:
        return code + ACC if accumulator and code >= VGPR else code

    record.src[0], record.src[1] = register(form["src0"], form["acc"] & 1), register(form["src1"], form["acc"] & 2)
    record.src[2] = register(form["src2"], form["acc_cd"])
    record.dst = VGPR + form["vdst"] + ACC * form["acc_cd"]
    if m.group(1):
        record.a[7] = 1
        record.sdst, record.dpparg = form["scale_src0"], form["scale_src1"]
        # op_sel picks the low, op_sel_hi the high bit of the scale byte, bit 0 for A and bit 1 for B
        low, high = form["opsel"], form["opsel_hi"]
        record.row_mask = (low & 1) | (high & 1) << 1
        record.bank_mask = (low >> 1 & 1) | (high >> 1 & 1) << 1
    return named(record, ops, "V_MFMA", CLS_V)
