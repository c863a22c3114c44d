"""Random instruction records: specialised handlers against the general ones, with every kind of operand and modifier."""

from __future__ import annotations

import ctypes as c
import re

import numpy as np
import pytest

from kgen.emu import library
from kgen.emu.structs import ARCH_IDS, CLS_MEM, CLS_S, CLS_V, CLS_VOPD, LAUNCH_DONE, Insn, Launch, RegionRecord

VGPR, VCC, EXEC, LITERAL = 256, 106, 126, 255
FIRST, LOADED, STORED = 2, 10, 14  # v2..v11 are loaded with data, v2..v15 are stored afterwards
CODE = 0x10000
LDS = 2048


def record(name, cls, **fields):
    insn = Insn(
        op=library.operations()[name],
        cls=cls,
        size=4,
        dsel=6,
        sel0=6,
        sel1=6,
        row_mask=15,
        bank_mask=15,
        keep16=1,
        nsrc=2,
    )
    for field, value in fields.items():
        if field in ("src", "a"):
            for i, v in enumerate(value):
                getattr(insn, field)[i] = v
        else:
            setattr(insn, field, value)
    return insn


def program(tested, wave, mask):
    """Load registers, run the tested records under an EXEC mask taken from s[22:23] when `mask` is set, store registers and VCC."""
    row = 4 * wave
    yield record("V_LSHLREV_B32", CLS_V, src=(130, VGPR, 128), dst=VGPR + 1)
    for r in range(LOADED):
        yield record("LOAD", CLS_MEM, src=(VGPR + 1, 0), dst=VGPR + FIRST + r, imm=row * r, a=(4, 0, 0, 1))
    yield record("S_MOV_B64", CLS_S, src=(20, 128), dst=VCC)
    if mask:
        yield record("S_MOV_B64", CLS_S, src=(22, 128), dst=EXEC)
    yield from tested
    yield record("S_MOV_B64", CLS_S, src=(193, 128), dst=EXEC)
    for r in range(STORED):
        yield record("STORE", CLS_MEM, src=(VGPR + 1, 2), dst=VGPR + FIRST + r, imm=row * r, a=(4, 0, 0, 1))
    for half in (0, 1):
        yield record("V_MOV_B32", CLS_V, src=(VCC + half, 128, 128), dst=VGPR + 20)
        yield record("STORE", CLS_MEM, src=(VGPR + 1, 2), dst=VGPR + 20, imm=row * (STORED + half), a=(4, 0, 0, 1))
    yield record("S_ENDPGM", CLS_S)


def run(tested, family, mode, mask, data, scalars, specialise, extra=None):
    """The stored registers, and whether a specialised handler was chosen for the first tested record; `extra` is memory to work in."""
    library_, wave = library.load(), 64 if family == "cdna" else 32
    records = list(program(tested, wave, mask))
    insns = (Insn * len(records))(*records)
    pcmap = (c.c_int32 * len(records))(*range(len(records)))
    chosen, i = 0, 0
    while i < len(records):
        pair = 2 if insns[i].cls == CLS_VOPD else 1
        if pair == 2:
            insns[i].pair = i + 1
            insns[i].size = 8  # the second record is not an instruction of its own
        library_.kgen_emu_prepare(c.cast(c.byref(insns, i * c.sizeof(Insn)), c.POINTER(Insn)), pair, specialise)
        if insns[i].op == tested[0].op and insns[i].dst == tested[0].dst and insns[i].cls == tested[0].cls:
            chosen = insns[i].fast
        i += pair
    out = np.zeros((STORED + 2, wave), "u4")
    arrays = sorted([data, out, *([] if extra is None else [extra])], key=lambda a: a.ctypes.data)
    regions = (RegionRecord * len(arrays))()
    for region, array in zip(regions, arrays, strict=True):
        at, size = array.ctypes.data, array.nbytes
        region.base, region.size, region.host, region.reach, region.flags = at, size, at, at + size, 1
    user = [*np.array([data.ctypes.data, out.ctypes.data], "u8").view("u4").tolist(), *scalars]
    launch = Launch(
        arch=ARCH_IDS[family], code_base=CODE, code_words=len(records), pcmap=c.addressof(pcmap), insns=c.addressof(insns),
        ninsns=len(records), regions=c.addressof(regions), nregions=len(arrays), entry=CODE, wave_size=wave, vgprs=64, agprs=8,
        mode=mode, lds_size=LDS, nuser=len(user), first_id=60, poison=0x7FE17FE1, threads=1, concurrent=1, limit=1000,
    )  # fmt: skip
    launch.grid[:], launch.block[:], launch.user[: len(user)] = (1, 1, 1), (wave, 1, 1), user
    assert library_.kgen_emu_run(launch) == LAUNCH_DONE, (launch.failure.code, launch.failure.pc - CODE)
    library_.kgen_emu_end(launch)
    return out, chosen


def specialised_operations():
    """Mnemonic -> (sources, kind) of the table in fast.h, and the ones with handlers of their own."""
    text = library.sources()["fast.h"]
    table = {m[1]: (int(m[2]), m[3]) for m in re.finditer(r"^  X\((\w+), (\d), (\w+),", text, re.M)}
    table |= {"V_DOT2_F32_F16": (3, "DOT"), "V_DOT2C_F32_F16": (2, "SUM"), "V_DOT2ACC_F32_F16": (2, "SUM")}
    table |= {
        "V_CNDMASK_B32": (2, "FLOAT"),
        "V_CMP": (2, "FLOAT"),
        "V_ADD_CO_U32": (2, "INT"),
        "V_ADD_CO_CI_U32": (2, "INT"),
    }
    table |= {"V_LSHLREV_B64": (2, "PAIR"), "V_LSHL_ADD_U64": (3, "PAIR")}
    return table | dict.fromkeys(("V_PK_FMA_F32", "V_PK_MUL_F32", "V_PK_ADD_F32"), (3, "PK"))


CASES = specialised_operations()


def source(rng, pair):
    kind = rng.integers(0, 8)
    if kind < 4:
        return int(VGPR + FIRST + rng.integers(0, LOADED - 1) // (2 if pair else 1) * (2 if pair else 1))
    if kind == 4:
        return int(4 + 2 * rng.integers(0, 7))  # SGPRs with data
    if kind == 5:
        return int(rng.integers(128, 209))  # integers
    return int(rng.integers(240, 249)) if kind == 6 else VCC if pair else LITERAL


def random_record(rng, name, count, kind, family):
    pair = kind in ("PAIR", "PK")
    src = [source(rng, pair) if i < count else 128 for i in range(3)]
    insn = record(
        name,
        CLS_V,
        src=src,
        dst=int(VGPR + FIRST + rng.integers(0, 5) * 2),
        sdst=VCC,
        lit=int(rng.integers(0, 1 << 32)),
    )
    if name.startswith("V_CNDMASK") or "_CI_" in name:
        insn.src[2] = VCC
    insn.nsrc = 3 if "_CI_" in name else 2
    if name == "V_CMP":
        insn.a[1] = (3, 4, 5)[rng.integers(0, 3)]  # u32, i32, f32
        insn.a[0] = rng.integers(0, 16 if insn.a[1] == 5 else 8)
    if kind in ("DOT", "PK"):
        insn.opselhi = 7
    if rng.integers(0, 3) == 0:  # modifiers, also where they mean nothing
        insn.neg, insn.abs = int(rng.integers(0, 8)), int(rng.integers(0, 8))
    rare = rng.integers(0, 12)
    if rare == 0 and kind == "FLOAT" and name not in ("V_CNDMASK_B32", "V_CMP"):
        insn.omod = int(rng.integers(0, 4))
    elif rare == 1 and kind in ("DOT", "PK"):
        insn.opsel, insn.neghi = int(rng.integers(0, 8)), int(rng.integers(0, 8))
    elif rare in (2, 3, 4) and kind in ("INT", "FLOAT", "SUM") and insn.src[0] >= VGPR and name != "V_CMP":
        controls = [0x1B, 0xE4, 0x111, 0x118, 0x101, 0x10F, 0x121, 0x12F, 0x140, 0x141, 0x150, 0x15F]
        controls += [0x142, 0x143, 0x130, 0x138] if family == "cdna" else [0x161, 0x168]
        insn.dpp, insn.dpparg, insn.bc = 1, int(rng.choice(controls)), int(rng.integers(0, 2))
        if rng.integers(0, 4) == 0:
            insn.row_mask = int(rng.integers(0, 16))
    return insn


def values(rng, wave):
    data = rng.integers(0, 1 << 32, (LOADED, wave), dtype="u8").astype("u4")
    floats = (rng.standard_normal((LOADED, wave)) * 10.0 ** rng.integers(-3, 4)).astype("f4").view("u4")
    data = np.where(rng.integers(0, 2, data.shape), data, floats)
    hard = np.array(
        [0, 0x80000000, 0x7F800000, 0xFF800000, 1, 0x807FFFFF, 0x00017FFF, 0x3C00BC00, 0x03FF0001, 0x7FC00000], "u4"
    )
    return np.where(rng.integers(0, 6, data.shape) == 0, rng.choice(hard, data.shape), data).astype("u4")


def check(tested, family, rng, name):
    wave = 64 if family == "cdna" else 32
    data = values(rng, wave)
    scalars = [int(x) for x in rng.integers(0, 1 << 32, 20)]
    mode = int(rng.choice([0xF0, 0xC0, 0x00]))
    mask = bool(rng.integers(0, 5) == 0)
    fast, chosen = run(tested, family, mode, mask, data, scalars, 1)
    slow, _ = run(tested, family, mode, mask, data, scalars, 0)
    nan = np.isnan(fast.view("f4")) & np.isnan(
        slow.view("f4")
    )  # which operand's payload survives is the host's business
    bad = (fast != slow) & ~nan
    words = {
        n: getattr(tested[0], n) for n in ("dst", "neg", "abs", "opsel", "opselhi", "neghi", "dpp", "dpparg", "lit")
    }
    assert not bad.any(), f"{name} {list(tested[0].src)} {words} mode {mode:#x}: {np.argwhere(bad)[:4].tolist()}"
    return bool(chosen)


@pytest.mark.parametrize("family", ["rdna3", "cdna"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_a_specialised_operation_gives_the_general_one_s_bits(name, family):
    rng = np.random.default_rng([len(name), *name.encode(), len(family)])
    count, kind = CASES[name]
    used = sum(check([random_record(rng, name, count, kind, family)], family, rng, name) for _ in range(25))
    assert used >= 4  # the comparison is of something


def test_dual_instructions_give_the_general_one_s_bits():
    rng = np.random.default_rng(5)
    names = [
        n
        for n, (_, kind) in CASES.items()
        if n.startswith(("V_FMAC", "V_MUL_F32", "V_ADD_F32", "V_MOV", "V_DOT2ACC", "V_LSHLREV_B32"))
    ]
    used = 0
    for _ in range(150):
        halves = []
        for parity in (0, 1):
            name = str(rng.choice(names))
            src = [source(rng, False), int(VGPR + FIRST + rng.integers(0, LOADED)), VCC]
            halves.append(
                record(name, CLS_VOPD, src=src, dst=int(VGPR + FIRST + 2 * rng.integers(0, 4) + parity), lit=0x3FC00000)
            )
        used += check(halves, "rdna3", rng, "dual")
    assert used > 50


@pytest.mark.parametrize("family", ["rdna3", "cdna"])
@pytest.mark.parametrize("size", [4, 8, 12, 16])
def test_loads_and_stores_give_the_general_one_s_bytes(size, family):
    rng = np.random.default_rng([size, len(family)])
    wave, words = (64 if family == "cdna" else 32), size // 4
    for _ in range(40):
        memory = rng.integers(0, 1 << 32, LDS // 4, dtype="u8").astype("u4")
        data = rng.integers(0, 1 << 32, (LOADED, wave), dtype="u8").astype("u4")
        step = int(rng.choice([1, 2, 4, size]))
        offsets = rng.permutation(wave) * step if rng.integers(0, 2) else np.arange(wave) * size
        if rng.integers(0, 3) == 0:
            offsets = rng.integers(0, LDS - 1024 - size, wave)  # lanes overlap
        data[0] = offsets  # v2: 32-bit offset or LDS address; v4:v5: 64-bit address; v6 on: values
        data[2:4] = (np.uint64(memory.ctypes.data) + offsets.astype("u8")).view("u4").reshape(wave, 2).T
        base = [int(x) for x in np.array([memory.ctypes.data], "u8").view("u4")]
        scalars = [*base, *[0] * 14, 0, 0, 0x0F0F3333, 0x71]  # s[4:5] is the base
        imm = int(rng.integers(0, 200)) & -4
        v, s = VGPR + FIRST, 4
        two = {"a": (size, 16, 3, int(rng.choice([1, 2]))), "imm": 1 | 5 << 8}
        tested = [
            record("STORE", CLS_MEM, src=(v, s), dst=v + 4, imm=imm, a=(size, 0, 0, 1)),
            record("LOAD", CLS_MEM, src=(v + 2, 124), dst=v + 5, imm=imm, a=(size, 0, 0, 1)),
            record("STORE", CLS_MEM, src=(v + 2, 124), dst=v + 5, imm=imm + 8, a=(size, 0, 0, 1)),
            record("STORE", CLS_MEM, src=(v, 128), dst=v + 4, imm=imm, a=(size, 0, 3, 1)),
            record("LOAD", CLS_MEM, src=(v, 128), dst=v + 5, imm=imm, a=(size, 0, 3, 1)),
            record("DS_BPERMUTE_B32", CLS_MEM, src=(v, 128, v + 5), dst=v + 9, imm=imm),
        ]
        if words <= 2:
            tested.append(record("LOAD", CLS_MEM, src=(v, 128), dst=v + 6, **two))
        mask, results = bool(rng.integers(0, 5) == 0), []
        for specialise in (1, 0):
            touched = memory.copy()
            memory_at = memory.ctypes.data
            out, chosen = run(tested, family, 0xF0, mask, data, scalars, specialise, memory)
            results.append((out, memory.copy()))
            memory[:] = touched
            assert memory.ctypes.data == memory_at
            assert bool(chosen) == bool(specialise)
        assert (results[0][0] == results[1][0]).all()
        assert (results[0][1] == results[1][1]).all()
        assert (results[0][1] != memory).any()
