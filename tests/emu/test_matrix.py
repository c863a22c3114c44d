"""Matrix instructions against numpy in float64."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from kgen.emu import EmulatorError
from tests.emu.harness import bf, close, fp8, on, raises, same


@on("gfx11", "gfx12")
def test_wmma_f32_bf16(t):
    a, b, c = (
        bf(t.rng.standard_normal((16, 16))),
        bf(t.rng.standard_normal((16, 16))),
        t.rng.standard_normal((16, 16)).astype("f4"),
    )
    d = np.zeros((16, 16), "f4")
    t.run("wmma_bf", 1, 32, a.view("u2"), b.view("u2"), c, d)
    close(d, a.astype("f8") @ b.astype("f8").T + c, 1e-6, 1e-6)


@on("gfx11", "gfx12")
def test_wmma_f32_f16(t):
    a, b = (t.rng.standard_normal((16, 16)).astype("f2") for _ in "ab")
    d = np.zeros((16, 16), "f4")
    t.run("wmma_h", 1, 32, a, b, d)
    close(d, a.astype("f8") @ b.astype("f8").T, 1e-6, 1e-6)


@on("gfx11", "gfx12")
def test_wmma_f16_f16(t):
    a, b = (t.rng.standard_normal((16, 16)).astype("f2") for _ in "ab")
    d = np.zeros((16, 16), "f2")
    t.run("wmma_hh", 1, 32, a, b, d)
    close(d, a.astype("f8") @ b.astype("f8").T, 1e-3, 1e-3)


@on("gfx11", "gfx12")
def test_wmma_i32_iu8(t):
    a, b = t.rng.integers(-128, 128, (16, 16), dtype="i1"), t.rng.integers(0, 256, (16, 16), dtype="u1")
    d = np.zeros((16, 16), "i4")
    t.run("wmma_i8", 1, 32, a, b, d)
    same(d, a.astype("i4") @ b.astype("i4").T)


@on("gfx11", "gfx12")
def test_wmma_i32_iu4(t):
    a, b = t.rng.integers(-8, 8, (16, 16)), t.rng.integers(0, 16, (16, 16))
    pack = lambda x: ((x[:, 0::2] & 15) | (x[:, 1::2] & 15) << 4).astype("u1")  # noqa: E731
    d = np.zeros((16, 16), "i4")
    t.run("wmma_i4", 1, 32, pack(a), pack(b), d)
    same(d, (a @ b.T).astype("i4"))


@on("gfx12")
def test_wmma_f32_fp8(t):
    e4, e5 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2
    for name, tb in (("wmma_f8", e4), ("wmma_b8", e5)):
        a, b = t.rng.standard_normal((16, 16)).astype(e4), t.rng.standard_normal((16, 16)).astype(tb)
        d = np.zeros((16, 16), "f4")
        t.run(name, 1, 32, a.view("u1"), b.view("u1"), d)
        close(d, a.astype("f8") @ b.astype("f8").T, 1e-6, 1e-6, name)


@on("gfx11")
def test_wmma_needs_repeated_lanes(t):
    a, b = (bf(t.rng.standard_normal((16, 16))) for _ in "ab")
    raises(
        EmulatorError,
        "differs between lane",
        t.run,
        "wmma_dup",
        1,
        32,
        a.view("u2"),
        b.view("u2"),
        np.zeros((16, 16), "f4"),
    )


@on("gfx9")
def test_mfma_16x16x16_bf16(t):
    a, b = (bf(t.rng.standard_normal((16, 16))) for _ in "ab")
    for k in ("mfma_16_bf", "mfma_agpr"):
        d = np.zeros((16, 16), "f4")
        t.run(k, 1, 64, a.view("u2"), b.view("u2"), d)
        close(d, a.astype("f8") @ b.astype("f8").T, 1e-6, 1e-6, k)


@on("gfx9")
def test_mfma_16x16x16_f16(t):
    a, b, c = (t.rng.standard_normal((16, 16)).astype(x) for x in ("f2", "f2", "f4"))
    d = np.zeros((16, 16), "f4")
    t.run("mfma_16_h", 1, 64, a, b, c, d)
    close(d, a.astype("f8") @ b.astype("f8").T + c, 1e-6, 1e-6)


@on("gfx9")
def test_mfma_32x32x8_f16(t):
    a, b = (t.rng.standard_normal((32, 8)).astype("f2") for _ in "ab")
    d = np.zeros((32, 32), "f4")
    t.run("mfma_32_h", 1, 64, a, b, d)
    close(d, a.astype("f8") @ b.astype("f8").T, 1e-6, 1e-6)


@on("gfx9")
def test_mfma_fp8(t):
    e4, e5 = fp8(t)
    for name, m, k, ta in (("mfma_16_f8", 16, 32, e4), ("mfma_32_f8", 32, 16, e4), ("mfma_16_b8", 16, 32, e5)):
        a, b = t.rng.standard_normal((m, k)).astype(ta), t.rng.standard_normal((m, k)).astype(e4)
        d = np.zeros((m, m), "f4")
        t.run(name, 1, 64, a.view("u1"), b.view("u1"), d)
        close(d, a.astype("f8") @ b.astype("f8").T, 1e-6, 1e-6, name)


@on("gfx9")
def test_mfma_i8_f32_and_4x4(t):
    a, b = (t.rng.integers(-128, 128, (16, 32), dtype="i1") for _ in "ab")
    d = np.zeros((16, 16), "i4")
    t.run("mfma_i8", 1, 64, a, b, d)
    same(d, a.astype("i4") @ b.astype("i4").T)
    a, b = (t.rng.standard_normal((16, 4)).astype("f4") for _ in "ab")
    d = np.zeros((16, 16), "f4")
    t.run("mfma_f32", 1, 64, a, b, d)
    close(d, a.astype("f8") @ b.astype("f8").T, 1e-6, 1e-6)
    a, b = (bf(t.rng.standard_normal((16, 4, 4))) for _ in "ab")
    d = np.zeros((16, 4, 4), "f4")
    t.run("mfma_4x4", 1, 64, a.view("u2"), b.view("u2"), d)
    close(d, np.einsum("bik,bjk->bij", a.astype("f8"), b.astype("f8")), 1e-6, 1e-6)


@on("gfx950")
def test_mfma_gfx950_bf16(t):
    for name, m, k in (("mfma_16x32_bf", 16, 32), ("mfma_32x16_bf", 32, 16)):
        a, b = (bf(t.rng.standard_normal((m, k))) for _ in "ab")
        d = np.zeros((m, m), "f4")
        t.run(name, 1, 64, a.view("u2"), b.view("u2"), d)
        close(d, a.astype("f8") @ b.astype("f8").T, 1e-6, 1e-6, name)


@on("gfx950")
def test_mfma_gfx950_f8f6f4(t):
    a, b = (t.rng.standard_normal((16, 128)).astype(ml_dtypes.float8_e4m3fn) for _ in "ab")
    d = np.zeros((16, 16), "f4")
    t.run("mfma_f8f6f4", 1, 64, a.view("u1"), b.view("u1"), d)
    close(d, a.astype("f8") @ b.astype("f8").T, 1e-6, 1e-6)
    sa, sb = (
        t.rng.integers(120, 134, 64).astype("i4") for _ in "ab"
    )  # one scale per row and 32 columns: lane = row + 16 * block
    t.run("mfma_scale", 1, 64, a.view("u1"), b.view("u1"), sa, sb, d)
    f = lambda x, s: x.astype("f8") * np.repeat(2.0 ** (s.reshape(4, 16).T - 127), 32, axis=1)  # noqa: E731
    close(d, f(a, sa) @ f(b, sb).T, 1e-6, 1e-6)


@on("gfx950")
def test_permlane_swaps(t):
    a, o = np.arange(128, dtype="u4"), np.zeros((4, 64), "u4")
    t.run("swaps", 1, 64, a, o)
    lo, hi = a[:64], a[64:]
    same(o[0], np.concatenate([lo[:32], hi[:32]]))
    same(o[1], np.concatenate([lo[32:], hi[32:]]))
    l4, h4 = lo.reshape(4, 16), hi.reshape(4, 16)
    same(o[2], np.stack([l4[0], h4[0], l4[2], h4[2]]).ravel())
    same(o[3], np.stack([l4[1], h4[1], l4[3], h4[3]]).ravel())
