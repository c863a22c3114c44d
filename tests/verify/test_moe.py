"""The checks catch expert kernels that are wrong in the ways they can be: each test breaks a good one and names what must be said."""

from __future__ import annotations

import numpy as np
import pytest

from kgen.spec.moe_down_reduce import MoeDownReduceSpec
from kgen.spec.moe_wvsplitk_int4 import MoeWvSplitKInt4Spec
from kgen.verify.accuracy import judge, rounded_operand
from kgen.verify.data import Extra
from kgen.verify.elements import from_bits, to_bits
from kgen.verify.moe import moe_cases, moe_operands, top_k_of

_BASE = dict(arch="gfx1151", dtype="bf16", THRDS=32, YTILE=2, UNRL=1, DEQUANT="actsum")
LISTED = MoeWvSplitKInt4Spec.checked(_BASE | dict(N=2, SILU=True))
KEPT = MoeWvSplitKInt4Spec.checked(_BASE | dict(N=2, GRID="persistent"))
RANKED = MoeWvSplitKInt4Spec.checked(_BASE | dict(SILU=True, RANK=True))
DOWN = MoeDownReduceSpec.checked(_BASE | dict(WvPrGrp=4, K_WAVES=2, FUSE_SILU=True))


@pytest.mark.hipcc
@pytest.mark.parametrize("spec", [LISTED, KEPT, RANKED, DOWN], ids=["listed", "kept", "ranked", "down"])
def test_good_kernels_have_no_failures(spec, failures):
    assert not failures(spec)


@pytest.mark.hipcc
@pytest.mark.parametrize(
    ("spec", "old", "new", "case", "why"),
    [
        (LISTED, "static_cast<u64>(expert) * code_expert", "0", "blocks", "x the tolerance"),
        (LISTED, "static_cast<u64>(expert) * scale_expert", "0", "blocks", "x the tolerance"),
        (LISTED, "    if (expert < 0) return;\n", "", "all skipped", "invalid read"),
        (LISTED, "if (slot < slots) out[", "out[", "short K", "invalid write"),
        (LISTED, "if (row != ~0u) x =", "x =", "short K", "invalid read"),
        (
            LISTED,
            ">= same_in_wave(static_cast<u32>(*padded_slots))) return",
            "> ~0u - 1) return",
            "blocks",
            "invalid read",
        ),
        (LISTED, "slot / top_k", "slot", "blocks", "invalid read"),
        (LISTED, "silu(value) * gated", "value * gated", "blocks", "x the tolerance"),
        (LISTED, "-1.44269504f * x", "-1.4f * x", "many", "tolerance"),
        (KEPT, "stays = stays && row == source[n]", "stays = stays", "other rows", "tolerance"),
        (KEPT, "      barrier_lds();  // everyone is done with the last rows\n", "", "other rows", "the last barrier"),
        (RANKED, "(0xffffu - e)", "e", "128 experts", "topk_ids"),
        (RANKED, "bits = bits == 0x8000u ? 0 : bits;", "", "zeros", "topk_ids"),
        (RANKED, "others[c] > mine", "others[c] >= mine", "ranked", ""),
        (RANKED, "count = renormalize ? top_k : experts", "count = experts", "ranked", "topk_weights"),
        (DOWN, "weight * part[j][y]", "part[j][y]", "walk", "tolerance"),
        (
            DOWN,
            "silu(low_f32(gate[i], T{})) * low_f32(up[i], T{})",
            "low_f32(gate[i], T{}) * low_f32(up[i], T{})",
            "walk",
            "tolerance",
        ),
        (DOWN, "    if (expert < 0) return;\n", "", "all skipped", ""),
        (DOWN, "  barrier_lds();\n\n  u32 round", "\n  u32 round", "walk", "the last barrier"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_broken_kernels_are_caught(spec, old, new, case, why, failures):
    found = failures(spec, old, new)
    assert case in found, found
    assert why in found[case]


def test_the_listed_cases_hold_what_they_are_for():
    cases = {case.words: case for case in moe_cases(LISTED, full=False)}
    data = moe_operands(LISTED, cases["blocks"])
    untouched = np.isnan(data.reference).all(axis=1)
    assert untouched.any()
    assert not untouched.all()
    assert (data.given["sorted_ids"] >= data.scalars["slots"]).any()  # padding slots
    assert data.given["padded_slots"][0] < data.given["expert_ids"].size * LISTED.N  # blocks behind the filled ones
    assert np.isnan(moe_operands(LISTED, cases["all skipped"]).reference).all()
    nan = np.isnan(moe_operands(LISTED, cases["NaN"]).reference)
    assert nan.any()
    assert not nan.all()


def test_ranked_logits_tie():
    case = {case.words: case for case in moe_cases(RANKED, full=False)}["128 experts"]
    logits = from_bits(moe_operands(RANKED, case).given["logits"], "bf16")
    chosen = np.sort(logits, axis=1)[:, -9:]
    assert (chosen[:, 0] == chosen[:, 1]).any()  # the last chosen one and the first that is not


def test_top_k_takes_the_lower_index_among_equals():
    ids, weights = top_k_of(np.array([[1.0, 3.0, 3.0, -np.inf, 3.0]]), 2, renormalize=True)
    assert ids.tolist() == [[1, 2]]
    assert weights.tolist() == [[0.5, 0.5]]


def test_an_extra_says_what_is_wrong():
    extra = Extra(np.array([[1.0, 2.0]], np.float32), 1e-3)
    assert extra.problem(np.array([[1.0005, 2.0]], np.float32)) is None
    assert "1 of 2 differ; first at (0, 1)" in str(extra.problem(np.array([[1.0, 2.1]], np.float32)))
    assert extra.problem(extra.fresh())
    ids = Extra(np.array([3, 0], np.int32))
    assert ids.problem(ids.fresh())


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize(("roundings", "ok"), [(1, True), (3, False)])
def test_the_noise_of_a_rounded_operand_is_that_of_data(dtype, roundings, ok):
    """One rounding of the operand passes; the noise of a format with a ninth of the accuracy does not."""
    rng = np.random.default_rng(5)
    act, weight = rng.standard_normal((1, 768)), rng.standard_normal((4096, 768))
    rounded = from_bits(to_bits(act.astype(np.float32), dtype), dtype)
    noisy = act + roundings**2 * (rounded - act)
    exact, out = act @ weight.T, to_bits((noisy @ weight.T).astype(np.float32), dtype)
    energy = np.sqrt((act**2) @ (weight**2).T)
    verdict = judge(out, exact, np.abs(act) @ np.abs(weight).T, dtype, rounded_operand(40, dtype), energy)
    assert verdict.ok is ok, verdict.words
