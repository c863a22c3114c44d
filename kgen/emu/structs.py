"""ctypes mirrors of the engine's records (engine/machine.h, engine/launch.h); `library.load` compares the sizes."""

from __future__ import annotations

import ctypes as c

ARCH_IDS = {"rdna3": 0, "rdna4": 1, "cdna": 2}
CLS_S, CLS_V, CLS_MEM, CLS_VOPD, CLS_BAD = range(5)
LAUNCH_DONE, LAUNCH_FAILED, LAUNCH_DECODE, LAUNCH_AGAIN = range(4)
ORDERS = {"linear": 0, "reverse": 1, "random": 2}
USER_SGPRS = 64

_BYTES = (
    "cls size neg abs neghi opsel opselhi omod clamp dpp row_mask bank_mask bc fi sdwa dsel "
    "dun sel0 sel1 sext ret keep16 nsrc flags"
)


class Insn(c.Structure):
    """One decoded instruction."""

    _fields_ = [
        ("op", c.c_uint16),
        ("dst", c.c_uint16),
        ("sdst", c.c_uint16),
        ("src", c.c_uint16 * 3),
        *((name, c.c_uint8) for name in _BYTES.split()),
        ("lit", c.c_uint32),
        ("dpparg", c.c_uint32),
        ("imm", c.c_int32),
        ("pair", c.c_int32),
        ("a", c.c_uint8 * 12),
        ("fast", c.c_uint32),
        ("spare", c.c_uint32),
    ]


class RegionRecord(c.Structure):
    """One entry of the table of accessible memory, sorted by base."""

    _fields_ = [
        ("base", c.c_uint64),
        ("size", c.c_uint64),
        ("host", c.c_void_p),
        ("reach", c.c_uint64),
        ("flags", c.c_uint32),
        ("id", c.c_uint32),
    ]


class Traffic(c.Structure):
    """Sums behind `MemoryCounts`, in its order of meaning."""

    _fields_ = [
        (name, c.c_uint64)
        for name in (
            "loaded",
            "stored",
            "lines64",
            "lines128",
            "accesses",
            "lds_accesses",
            "lds_passes",
            "lds_conflicts",
        )
    ]


class Failure(c.Structure):
    """What stopped the launch."""

    _fields_ = [
        ("code", c.c_uint32),
        ("lane", c.c_uint32),
        ("size", c.c_uint32),
        ("aux", c.c_uint32),
        ("addr", c.c_uint64),
        ("pc", c.c_uint64),
        ("group", c.c_uint64),
        ("wave", c.c_uint32),
        ("lds_size", c.c_uint32),
    ]


class Launch(c.Structure):
    """One launch: inputs, then results."""

    _fields_ = [
        ("arch", c.c_uint32),
        ("fnuz", c.c_uint32),
        ("code_base", c.c_uint64),
        ("code_words", c.c_uint64),
        ("pcmap", c.c_void_p),
        ("insns", c.c_void_p),
        ("regions", c.c_void_p),
        ("nregions", c.c_uint32),
        ("ninsns", c.c_uint32),
        ("entry", c.c_uint64),
        ("wave_size", c.c_uint32),
        ("vgprs", c.c_uint32),
        ("agprs", c.c_uint32),
        ("mode", c.c_uint32),
        ("lds_size", c.c_uint32),
        ("priv_size", c.c_uint32),
        ("dims", c.c_uint32),
        ("group_ids", c.c_uint32),
        ("nuser", c.c_uint32),
        ("first_id", c.c_uint32),
        ("user", c.c_uint32 * USER_SGPRS),
        ("grid", c.c_uint32 * 3),
        ("block", c.c_uint32 * 3),
        ("poison", c.c_uint32),
        ("races", c.c_uint32),
        ("count_ops", c.c_uint32),
        ("count_memory", c.c_uint32),
        ("order", c.c_uint32),
        ("threads", c.c_uint32),
        ("concurrent", c.c_uint64),
        ("quantum", c.c_uint64),
        ("limit", c.c_uint64),
        ("seed", c.c_uint64),
        ("instructions", c.c_uint64),
        ("waves", c.c_uint64),
        ("groups", c.c_uint64),
        ("traffic", Traffic),
        ("failure", Failure),
        ("decode_pc", c.c_uint64),
        ("counts", c.c_void_p),
        ("state", c.c_void_p),
    ]


RECORDS = (Insn, RegionRecord, Launch, Failure, Traffic)
