"""What the emulator is there to catch."""

from __future__ import annotations

import contextlib

import numpy as np

from kgen.emu import (
    ArgumentError,
    DataRace,
    EmulatorError,
    KernelTrap,
    LimitExceeded,
    MemoryFault,
    Module,
    Options,
    UnsupportedInstruction,
)
from tests.emu.compiler import compiled
from tests.emu.harness import on, raises, same


@on()
def test_faults_are_reported(t):
    a, o = np.zeros(64, "f4"), np.zeros(64, "f4")
    msg = raises(MemoryFault, "offset 256 of argument 0 (256 bytes)", t.run, "oob", 1, 64, a, o, np.int32(1))
    for word in ("oob+", f"lane {t.ws - 1}", t.gfx):
        assert word in msg
    raises(MemoryFault, "offset -4 of argument 0", t.run, "oobw", 1, 64, o, np.int32(-1))
    ro = np.zeros(64, "f4")
    ro.flags.writeable = False
    raises(MemoryFault, "read-only", t.run, "oobw", 1, 64, ro, np.int32(0))
    raises(LimitExceeded, "spin", t.run, "spin", 1, 32, np.zeros(2, "u4"), max_instructions=5000)
    raises(KernelTrap, "s_trap", t.run, "trap", 1, 32, np.zeros(1, "i4"), np.int32(9))
    t.run("trap", 1, 32, np.zeros(1, "i4"), np.int32(2))
    raises(ArgumentError, "takes 4 arguments", t.run, "vadd", 1, 1, a, a, a)
    raises(ArgumentError, "is 8 bytes, the kernel wants 4", t.run, "vadd", 1, 1, a, a, a, np.int64(1))
    raises(ArgumentError, "no kernel", t.run, "nope", 1, 1)


@on()
def test_unknown_instruction_is_named(t):
    kernel = t.mod.kernels["vadd"]
    start = kernel.entry + (256 if kernel.preload & 127 else 0)
    data = bytearray(compiled(t.gfx))
    at = data.index(bytes(t.mod.image.bytes[start : start + 64]))
    data[at : at + 4] = bytes.fromhex("000000d0" if t.ws == 64 else "00005cdb")  # some code nobody defined
    mod = Module(bytes(data))
    raises(UnsupportedInstruction, "is not supported", mod.run, "vadd", 1, 1, [np.zeros(1, "f4")] * 3 + [np.int32(1)])


@on()
def test_missing_barrier_shows(t):
    r = np.arange(256)
    want = ((r + 64) % 256).astype("f4")
    seen = set()
    for sched in ("linear", "reverse", "random:1", "random:2"):
        o = np.zeros(256, "f4")
        t.run("race", 1, 256, o, schedule=sched)
        seen.add(bool((o == want).all()))
    assert False in seen
    msg = raises(DataRace, "since the last barrier", t.run, "race", 1, 256, o, races=True)
    assert "race+" in msg
    t.run("race2", 1, 256, o, races=True)
    same(o, ((255 - r + 64) % 256).astype("f4"))


@on()
def test_lds_kernels_have_no_races(t):
    n = 900
    t.run(
        "lds_block",
        4,
        256,
        t.rng.standard_normal(n).astype("f4"),
        np.zeros(4, "f4"),
        np.int32(n),
        races=True,
        schedule="random:5",
        quantum=9,
    )
    t.run(
        "lds_types", 1, 128, t.rng.integers(0, 255, 128, dtype="u1"), np.zeros(256, "u4"), lds=8192 + 2048, races=True
    )
    t.run(
        "atom_lds",
        1,
        256,
        t.rng.integers(0, 5000, 256, dtype="u4"),
        np.zeros(272, "u4"),
        np.zeros(2, "f4"),
        races=True,
        quantum=7,
    )


@on("gfx1151", "gfx942")
def test_code_with_random_bytes_ends_in_nothing_but_an_error_of_ours(t):
    kernel = t.mod.kernels["imath"]
    start = kernel.entry + (256 if kernel.preload & 127 else 0)
    size = t.mod.image.symbols["imath"][1]
    whole = compiled(t.gfx)
    at = whole.index(bytes(t.mod.image.bytes[start : start + 64]))
    for _ in range(25):
        data = bytearray(whole)
        for _ in range(int(t.rng.integers(1, 20))):
            place = at + int(t.rng.integers(0, size - 300)) // 4 * 4
            data[place : place + 8] = t.rng.bytes(8)
        arrays = [np.zeros(65536, "u1") for _ in range(3)]
        with contextlib.suppress(EmulatorError):
            options = Options(max_instructions=3000, count_memory=True)
            Module(bytes(data)).run("imath", 1, 64, [*arrays, np.int32(64)], options=options)
