"""Address spaces, globals, unaligned and buffer accesses."""

from __future__ import annotations

import numpy as np

from kgen.emu import EmulatorError, Memory, Module
from tests.emu.compiler import compiled
from tests.emu.harness import close, on, raises, same


@on()
def test_generic_pointers_calls_globals(t):
    n = 64
    a, o = t.rng.standard_normal(64).astype("f4"), np.zeros(n, "f4")
    idx = t.rng.integers(0, 64, n).astype("i4")
    mod = Module(compiled(t.gfx))
    mod.run("generic", 1, n, [a, o, np.int32(9), idx])
    ct, g = np.array([1, 2, 4, 8, -1, -2, 0.5, 0.25]), np.array([10.0, 20, 30, 40])
    want = []
    for j in range(n):
        pr = np.zeros(16)
        for i in range(16):
            pr[i * idx[j] & 15] = a[i] * ct[(i + j) & 7]
        p = a if idx[j] & 1 else pr if idx[j] & 2 else a
        want.append((p[:9] * np.arange(1, 10)).sum() + g[j & 3] + pr[idx[j] & 15] + 40)
    close(o, want, 1e-5, 1e-4)
    same(mod.symbol("gout", "f4"), np.array([0, 99], "f4"))
    mod.symbol("gvar", "f4")[1] = -5
    mod.run("generic", 1, n, [a, o, np.int32(9), idx])
    close(o[1], want[1] - 25, 1e-5, 1e-4)


@on()
def test_unaligned_access(t):
    a, o = t.rng.integers(0, 256, 2048, dtype="u1"), np.zeros(2200, "u1")
    t.run("unaligned", 1, 64, a, o, np.int32(3))
    i = np.arange(64)
    u4 = lambda p: sum(a[p + k].astype("u8") << np.uint64(8 * k) for k in range(4))  # noqa: E731
    v = (u4(3 + 7 * i) + u4(4 + 3 * i) * 3 + u4(8 + 3 * i) * 5).astype("u4")
    same(o[1:257].copy().view("u4"), v)
    same(o[2000:2064], ((a[3 + 2 * i].astype("u4") | a[4 + 2 * i].astype("u4") << 8) >> 3).astype("u1"))


@on()
def test_buffer_instructions(t):
    n, b = 70, 64
    a, o = t.rng.integers(0, 2**32, n, dtype="u4"), np.full(4 * b, 9, "u4")
    t.run("buf", 1, b, a, o, np.int32(n))
    pad = np.concatenate([a, np.zeros(400, "u4")])
    by = pad.view("u1")
    i = np.arange(b)
    o = o.reshape(4, b)
    same(o[0], pad[i])
    v = np.stack([pad[4 * i + 4 + k] for k in range(4)])
    same(o[1], (v[0] + v[1] * 3 + v[2] * 5 + v[3] * 7).astype("u4"))
    same(o[2], by[3 * i + 1] + pad.view("u2")[i].astype("u4") * 256)
    same(o[3], np.where(i < b - 5, i * 11, 9).astype("u4"), "out of range stores are dropped")


@on("gfx9")
def test_global_load_lds_dword(t):
    a, o = t.rng.integers(0, 2**32, 256, dtype="u4"), np.zeros(256, "u4")
    t.run("gll", 1, 256, a, o, lds=1024)
    r = (np.arange(256) + 1) % 256
    same(o, a[r * 5 % 256])


@on("gfx950")
def test_global_load_lds_dwordx4(t):
    a, o = t.rng.integers(0, 2**32, (256, 4), dtype="u4"), np.zeros((256, 4), "u4")
    t.run("gll16", 1, 256, a, o, lds=4096)
    r = (np.arange(256) + 1) % 256
    same(o, a[r * 5 % 256])


@on()
def test_pointers_in_memory_and_aliases(t):
    mem = Memory()
    a, n = np.arange(64, dtype="f4"), 64
    base = mem.map(a, "pool")
    o = np.zeros(64, "f4")
    t.run("vadd", 1, 64, base, base + 0, o, np.int32(n), memory=mem)
    same(o, 2 * a)
    t.run("vadd", 1, 64, a, a, a, np.int32(n))  # in place, one array passed three times
    same(a, 2 * np.arange(64, dtype="f4"))
    raises(EmulatorError, "partly overlaps", t.run, "vadd", 1, 32, a[:40], a[20:60], o, np.int32(1))
