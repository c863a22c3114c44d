"""The specialised handlers give the same bits as the general ones."""

from __future__ import annotations

import numpy as np

from kgen.emu import Module
from tests.emu.compiler import compiled
from tests.emu.harness import on, same


def kernels(t, n=256):
    """(kernel, grid, block, arguments without outputs, outputs, LDS) over hard values and random ones."""
    f = np.concatenate([[0, -0.0, np.inf, 1e-40, -1e-45, 3e38, 0.5, -2.5], t.rng.standard_normal(n - 8) * 3]).astype(
        "f4"
    )
    g = np.roll(f, 5)
    i, j = (t.rng.integers(-(2**31), 2**31, n).astype("i4") for _ in "ij")
    h = [t.rng.standard_normal((n, 2)).astype("f2") for _ in range(3)]
    b = [t.rng.integers(0, 1 << 16, s, dtype="u2") & 0xBFFF for s in ((70, 1032), (1032,))]
    words = np.concatenate([b[0].ravel(), b[1]])
    out = lambda rows: np.zeros((rows, n), "u4")  # noqa: E731
    yield "vadd", 1, n, [f, g], [np.zeros(n, "f4")], [np.int32(n)], 0
    yield "fmath", 1, n, [f, g], [out(33)], [np.int32(n)], 0
    yield "imath", 1, n, [i, j], [out(52)], [np.int32(n)], 0
    yield "hmath", 1, n, h, [out(25)], [np.int32(n)], 0
    yield "cvts", 1, n, [f], [out(20)], [np.int32(n)], 0
    yield "shfl", 1, 128, [f], [np.zeros(15 * 128, "f4")], [], 0
    yield "dot_h", 2, 64, h[:2], [np.zeros(128, "f4")], [np.int32(n)], 0
    yield "dot_b", 2, 64, [words[:512].copy(), words[512:1024].copy()], [np.zeros(128, "f4")], [np.int32(n)], 0
    yield "gemv_bf16", -(-70 * t.ws // 256), 256, b, [np.zeros(70, "f4")], [np.int32(70), np.int32(1032)], 2064
    yield "nt", 2, n, [np.tile(f, 8)], [np.zeros(8 * n, "f4")], [np.int32(2 * n)], 0
    yield "red_dpp", 1, n, [f], [np.zeros(n // t.ws, "f4")], [], 0
    yield "red_shl", 1, n, [f], [np.zeros(n // 16, "f4")], [], 0
    yield "dpps", 1, 128, [f[:128].copy()], [np.zeros(16 * 128, "f4")], [], 0
    if t.ws == 64:
        yield "mfma_4x4", 1, 64, [b[0].ravel()[:256].copy(), b[1][:256].copy()], [np.zeros(256, "f4")], [], 0
    yield "lds_types", 1, 128, [i.view("u1")[:128].copy()], [np.zeros(256, "u4")], [], 8192 + 2048
    yield "lds_block", 4, 256, [np.tile(f, 4)], [np.zeros(4, "f4")], [np.int32(900)], 0


@on()
def test_specialised_and_general_handlers_agree(t):
    general = Module(compiled(t.gfx))
    general.program.specialise_all(False)
    for name, grid, block, inputs, outputs, sizes, lds in kernels(t):
        results = []
        for module in (t.mod, general):
            outs = [np.zeros_like(o) for o in outputs]
            stats = module.run(name, grid, block, [*inputs, *outs, *sizes], lds)
            results.append((outs, stats.instructions))
        (fast, fast_count), (slow, slow_count) = results
        assert fast_count == slow_count, name
        for a, b in zip(fast, slow, strict=True):
            if a.dtype.kind == "f":
                same(a, b, name)  # NaN for NaN; which operand's payload survives is the host's business
            else:
                nan = np.isnan(a.view("f4")) & np.isnan(b.view("f4")) if name == "fmath" else np.zeros(a.shape, bool)
                same(np.where(nan, 0, a), np.where(nan, 0, b), name)
