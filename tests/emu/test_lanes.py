"""Indices, arguments, dot products, lane permutes, LDS, atomics, against numpy in float64."""

from __future__ import annotations

import numpy as np

from kgen.emu import LimitExceeded
from tests.emu.harness import bf, close, on, raises, same


@on()
def test_vector_add(t):
    n = 1000
    a, b = t.rng.standard_normal(n).astype("f4"), t.rng.standard_normal(n).astype("f4")
    c = np.full(n, 7, "f4")
    t.run("vadd", 4, 256, a, b, c, np.int32(n))
    same(c, a + b)


@on()
def test_grid_and_block_ids(t):
    g, b = (3, 2, 2), (5, 4, 3)
    o = np.zeros(np.prod(g) * np.prod(b), "u4")
    t.run("ids", g, b, o)
    bz, by, bx, tz, ty, tx = np.meshgrid(*[np.arange(v) for v in (g[2], g[1], g[0], b[2], b[1], b[0])], indexing="ij")
    same(o, (bx | by << 4 | bz << 8 | tx << 12 | ty << 20 | tz << 26).ravel().astype("u4"))


@on()
def test_arguments_by_value(t):
    st = np.zeros((), np.dtype([("a", "i4"), ("f", "f4"), ("d", "f8"), ("s", "i2", 3)], align=True))
    st["a"], st["f"], st["d"], st["s"] = -5, 1.5, 2.25, [1, 2, -3]
    o = np.zeros(9, "f4")
    t.run("byval", 1, 1, st, np.int8(-7), np.float16(0.5), 3.5, 5 << 32 | 9, o)
    same(o, np.array([-5, 1.5, 2.25, -3, -7, 0.5, 3.5, 5, 9], "f4"))


@on()
def test_dot_f16(t):
    n = 300
    a, b = (t.rng.standard_normal((n, 2)).astype("f2") for _ in "ab")
    o = np.zeros(64, "f4")
    t.run("dot_h", 1, 64, a, b, o, np.int32(n))
    w = (a.astype("f8") * b.astype("f8")).sum(1)
    close(o, [w[i::64].sum() for i in range(64)], 1e-5, 1e-6)


@on()
def test_dot_bf16(t):
    n = 300
    a, b = (bf(t.rng.standard_normal((n, 2))) for _ in "ab")
    o = np.zeros(64, "f4")
    t.run("dot_b", 1, 64, a.view("u2").copy(), b.view("u2").copy(), o, np.int32(n))
    w = (a.astype("f8") * b.astype("f8")).sum(1)
    close(o, [w[i::64].sum() for i in range(64)], 1e-5, 1e-6)


@on()
def test_gemv_64x512(t):
    m, k = 64, 512
    a, x = bf(t.rng.standard_normal((m, k))), bf(t.rng.standard_normal(k))
    o = np.zeros(m, "f4")
    t.run("gemv_bf16", m * t.ws // 256, 256, a.view("u2"), x.view("u2"), o, np.int32(m), np.int32(k), lds=2 * k)
    close(o, a.astype("f8") @ x.astype("f8"), 1e-5, 1e-5)


@on()
def test_gemv_bigger_all_schedules(t):
    m, k = 100, 1032  # neither a multiple of the block nor of the wave
    a, x = bf(t.rng.standard_normal((m, k))), bf(t.rng.standard_normal(k))
    for sched in ("linear", "reverse", "random:1"):
        o = np.full(m, np.nan, "f4")
        t.run(
            "gemv_bf16",
            -(-m * t.ws // 256),
            256,
            a.view("u2"),
            x.view("u2"),
            o,
            np.int32(m),
            np.int32(k),
            lds=2 * k,
            schedule=sched,
            quantum=None if sched == "linear" else 13,
        )
        close(o, a.astype("f8") @ x.astype("f8"), 1e-5, 1e-4)


@on()
def test_dpp_row_shr_reduction(t):
    n = 256
    a = t.rng.standard_normal(2 * n).astype("f4")
    o = np.zeros(2 * n // t.ws, "f4")
    t.run("red_dpp", 2, n, a, o)
    close(o, a.astype("f8").reshape(-1, t.ws).sum(1), 1e-5, 1e-5)


@on()
def test_dpp_row_shl_reduction(t):
    a = t.rng.standard_normal(256).astype("f4")
    o = np.zeros(16, "f4")
    t.run("red_shl", 1, 256, a, o)
    close(o, a.astype("f8").reshape(-1, 16).sum(1), 1e-5, 1e-5)


@on()
def test_dpp_controls(t):
    n, ws = 128, t.ws
    x = np.arange(1, n + 1).astype("f4")
    o = np.zeros(16 * n, "f4")
    t.run("dpps", 1, n, x, o)
    o = o.reshape(16, n)
    lane = np.arange(n)
    row, i, w0 = lane & ~15, lane & 15, lane & ~(ws - 1)

    def ref(src, ok=True, old=-1.0):
        return np.where(ok, x[np.clip(src, 0, n - 1)], np.float32(old)).astype("f4")

    same(o[0], ref((lane & ~3) + (3 - (lane & 3))), "quad_perm")
    same(o[1], ref(lane - 1, i >= 1), "row_shr:1")
    same(o[2], ref(lane + 3, i <= 12), "row_shl:3")
    same(o[3], ref(row + ((i - 5) & 15)), "row_ror:5")
    same(o[4], ref(row + 15 - i), "row_mirror")
    same(o[5], ref((lane & ~7) + 7 - (lane & 7)), "row_half_mirror")
    same(o[6], ref(lane - 2, (i >= 2) & ((lane >> 4 & 1) == 1) & (i >= 8)), "row_mask 0xa bank_mask 0xc")
    same(o[7], ref(lane - 2, i >= 2, 0.0), "bound_ctrl")
    same(
        o[8],
        np.where(lane % 5 == 1, np.float32(-2), ref(lane - 1, (i >= 1) & ((lane - 1) % 5 != 1))),
        "inactive source",
    )
    if ws == 64:
        lw = lane & 63
        same(o[9], ref(row - 1, lw >= 16), "row_bcast:15")
        same(o[10], ref(w0 + 31, lw >= 32), "row_bcast:31")
        same(o[11], ref(lane + 1, lw < 63), "wave_shl")
        same(o[12], ref(w0 + (lw + 1) % 64), "wave_rol")
        same(o[13], ref(lane - 1, lw > 0), "wave_shr")
        same(o[14], ref(w0 + (lw + 63) % 64), "wave_ror")
        same(o[15], ref(row + 5), "row_newbcast:5")
    else:
        same(o[9], ref(row + 3), "row_share:3")
        same(o[10], ref(row + (i ^ 5)), "row_xmask:5")
        lo, hi = 0x76543210 | 0xFEDCBA98 << 32, 0x01234567 | 0x89ABCDEF << 32
        same(o[11], ref(row + np.array([lo >> 4 * int(k) & 15 for k in i])), "permlane16")
        same(o[12], ref((row ^ 16) + np.array([hi >> 4 * int(k) & 15 for k in i])), "permlanex16")
        same(o[13], ref((lane & ~7) + np.array([0xFAC688 >> 3 * int(k) & 7 for k in (lane & 7)])), "dpp8")


@on()
def test_shuffles(t):
    n, ws = 128, t.ws
    x = t.rng.standard_normal(n).astype("f4")
    o = np.zeros(15 * n, "f4")
    t.run("shfl", 1, n, x, o)
    o = o.reshape(15, n)
    lane = np.arange(n)
    lw, w0 = lane & (ws - 1), lane & ~(ws - 1)
    same(o[0], x[lane ^ 1])
    same(o[1], x[lane ^ 8])
    same(o[2], np.where(lw + 3 < ws, x[np.minimum(lane + 3, n - 1)], x))
    same(o[3], np.where(lw >= 5, x[np.maximum(lane - 5, 0)], x))
    same(o[4], x[w0 + 7])
    same(o[5], x[lane ^ 16])
    same(o[6], x[lane ^ 3])
    same(o[7], x[lane ^ 1], "swizzle bitmask")
    same(o[8], x[(lane & ~3) + np.array([0xB1 >> 2 * k & 3 for k in (lane & 3)])], "swizzle quad")
    same(o[9], x[w0 + 9])
    same(o[10], x[w0])
    same(o[11], np.array([(x[w : w + ws] > 0).sum() for w in w0], "f4"), "ballot")
    same(o[12], x[w0 + (lw - 5) % ws], "permute")
    src = w0 + (lw ^ 2)
    # bpermute under divergence: a source lane that is switched off gives zero (t % 3 == 0 lanes are on)
    same(o[13], np.where(lane % 3 == 0, np.where(((src) % 3 == 0), x[src], 0), x).astype("f4"), "divergent bpermute")
    same(o[14], lw.astype("f4"), "lane id")


@on()
def test_lds_and_barriers(t):
    n = 900
    a = t.rng.standard_normal(n).astype("f4")
    pad = np.zeros(1024, "f8")
    pad[:n] = a
    want = [(pad[i * 256 : (i + 1) * 256][::-1] * np.arange(1, 257)).sum() for i in range(4)]
    for opt in ({}, {"schedule": "reverse"}, {"schedule": "random:3", "quantum": 5}, {"concurrent": 3, "quantum": 11}):
        o = np.zeros(4, "f4")
        t.run("lds_block", 4, 256, a, o, np.int32(n), **opt)
        close(o, want, 1e-4, 1e-3)


@on()
def test_lds_types(t):
    n = 128
    a = t.rng.integers(0, 255, n, dtype="u1")
    o = np.zeros(2 * n, "u4")
    t.run("lds_types", 1, n, a, o, lds=8192 + 16 * n)
    q = (np.arange(n) + 17) % n
    A = a.astype("i8")[q]
    same(o[:n], (A + A * 3 * 256 + A * 3 + q * 5 + 2 * q * 7 + 3 * q * 11 + A * 13 + q + 1 + A * 17 + 7).astype("u4"))
    same(o[n:].view("i4"), (-A).astype("i1").astype("i4") * 1000 + (-A * 5).astype("i2").astype("i4"))


@on()
def test_float_atomics_and_last_block(t):
    n = 1000
    a = t.rng.standard_normal(n).astype("f4")
    s, cnt, out, fin = np.zeros(3, "f4"), np.zeros(1, "u4"), np.zeros(4, "u4"), np.full(3, np.nan, "f4")
    t.run("atom", 4, 256, a, s, cnt, out, fin, np.int32(n), concurrent=4, quantum=7)
    want = np.array([a.astype("f8")[i::3].sum() for i in range(3)])
    close(s, want, 1e-5, 1e-4)
    close(fin, 2 * want, 1e-5, 1e-4)
    same(np.sort(out), np.arange(4, dtype="u4"))
    same(cnt, np.array([4], "u4"))


@on()
def test_integer_atomics(t):
    n, r = 128, np.arange(128)
    f, q, i, h, d = (
        np.zeros(1, "f4"),
        np.array([5], "u8"),
        np.array([-1000, 1000], "i4"),
        np.zeros(2, "f2"),
        np.zeros(1, "f8"),
    )
    u = np.array([3, 2000, 0, 0xFFFFFFFF, 0, 77, 0, 4, 1000], "u4")
    res = np.zeros(4 * n, "u4")
    t.run("atom2", 1, n, f, u, q, i, h, d, res)
    same(f, np.array([1.5 * n], "f4"))
    same(h, np.array([n, n / 2], "f2"))
    same(d, np.array([n / 4]))
    same(u[:5], np.array([127 * 7, 873, 0xFFFFFFFF, 0xFFFFFF00, np.bitwise_xor.reduce(r)], "u4"))
    same(q, np.array([5 + n * (1 << 32) + r.sum()], "u8"))
    same(i, np.array([27, -127], "i4"))
    same(np.sort(res[:n]), np.sort(np.append(np.delete(r, u[5]), 77)).astype("u4"))
    same(u[6:7], np.array([128], "u4"))
    same(res[n : 2 * n], r.astype("u4"))
    same(res[2 * n : 3 * n], (np.append(4, (np.arange(1, n) + 4) % 11)).astype("u4"), "inc")
    same(res[3 * n :], (1000 - 2 * r).astype("u4"))


@on()
def test_lds_atomics(t):
    n = 256
    a = t.rng.integers(0, 5000, n, dtype="u4")
    o, of = np.zeros(16 + n, "u4"), np.zeros(2, "f4")
    t.run("atom_lds", 1, n, a, o, of)
    cnt = np.bincount(a & 15, minlength=16)
    same(o[:16], cnt.astype("u4"))
    for b in range(16):
        same(np.sort(o[16:][(a & 15) == b]), np.arange(cnt[b], dtype="u4"))
    same(of, np.array([a.sum(), a.max()], "f4"))


@on()
def test_workgroups_that_wait(t):
    flag, o = np.zeros(1, "u4"), np.zeros(128, "u4")
    t.run("handoff", 2, 64, flag, o, concurrent=2, quantum=50)
    same(o[:64], np.arange(64, dtype="u4") * 3 + 1)
    flag[:] = 0
    raises(LimitExceeded, "handoff", t.run, "handoff", 2, 64, flag, o, threads=1, max_instructions=20000)


@on("gfx1151", "gfx942")
def test_gemv_4096x4096(t):
    n = 4096
    a, x = (bf(t.rng.standard_normal(s, dtype="f4")) for s in ((n, n), (n,)))
    o = np.full(n, np.nan, "f4")
    t.run("gemv_bf16", n * t.ws // 256, 256, a.view("u2"), x.view("u2"), o, np.int32(n), np.int32(n), lds=2 * n)
    # 4096 roundings of partial sums below 64 (half an ulp: 2^-19), then 6 of sums below 512 (2^-16)
    close(o, a.astype("f8") @ x.astype("f8"), 0, 4096 * 2**-19 + 6 * 2**-16)
