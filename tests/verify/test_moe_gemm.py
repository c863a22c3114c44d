"""The checks catch moe_gemm_w4a16 kernels that are wrong in the ways they can be: each test breaks a good one and names what must be said."""

from __future__ import annotations

import numpy as np
import pytest

from kgen.spec.moe_gemm_w4a16 import MoeGemmW4A16Spec
from kgen.verify.moe_gemm import gemm_cases, gemm_operands

_BASE = dict(arch="gfx1151", dtype="bf16", BLOCK_N=16, BLOCK_M=64, THRDS=32, WvPrGrp=2, ScaleBlockK=32, HAS_ZP=True)
UP = MoeGemmW4A16Spec.checked(_BASE | dict(SILU=True, BLOCK_K=64, PreDequantToLDS=True, DoubleBuffer=True))
DOWN = MoeGemmW4A16Spec.checked(_BASE | dict(BLOCK_M=32, TruncateBf16Round=True, DoubleBuffer=True))


@pytest.mark.hipcc
@pytest.mark.parametrize("spec", [UP, DOWN], ids=["up", "down"])
def test_good_kernels_have_no_failures(spec, failures):
    assert not failures(spec)


@pytest.mark.hipcc
@pytest.mark.parametrize(
    ("spec", "old", "new", "case", "why"),
    [
        (UP, "static_cast<u64>(expert) * code_expert", "0", "blocks", "tolerance"),
        (UP, "static_cast<u64>(expert) * scale_expert", "0", "blocks", "tolerance"),
        (UP, "static_cast<u64>(expert) * zero_expert", "0", "blocks", "tolerance"),
        (UP, "if (expert < 0)", "if (expert < -1)", "all absent", "invalid read"),
        (UP, ">= same_in_wave(static_cast<u32>(*padded_slots))", "> 0xfffffffeu", "blocks", "invalid read"),
        (UP, "slot < slots ? slot / top_k", "slot < slots ? slot", "blocks", ""),
        (UP, "slot < slots ? slot / top_k : stand_in;", "slot / top_k;", "one slot", "invalid read"),
        (UP, "if (slot[n][i] < slots && m < M)", "if (m < M)", "one slot", "invalid"),
        (UP, "if (slot[n][i] < slots && m < M)", "if (slot[n][i] < slots)", "in order", ""),
        (UP, "row / 16 % 2 * M", "row / 16 % 2 * (M - 1)", "blocks", "tolerance"),
        (UP, "silu(sum[t][n][i]) * sum[t + 1][n][i]", "silu(sum[t + 1][n][i]) * sum[t][n][i]", "blocks", "tolerance"),
        (UP, "-1.44269504f * x", "-1.4f * x", "blocks", "tolerance"),
        (UP, "if (k0 + act.piece(j) * 8 >= K) from = nothing;", "", "absent", ""),
        (DOWN, "weight[n][i] * value", "value", "blocks", "tolerance"),
        (DOWN, "topk_weights && slot[n][i] < slots ?", "topk_weights ?", "blocks", "invalid read"),
        (DOWN, "out[static_cast<u64>(slot) * M + m] = round_to<T>(0.0f);", ";", "all absent", "never written"),
        (DOWN, "    if (topk_weights)\n", "", "absent, unweighted", "NaN"),
        (DOWN, "sorted_ids ? static_cast<u32>", "true ? static_cast<u32>", "in order", "invalid read"),
        (DOWN, "pairs[p] = pack_truncated(", "pairs[p] = pack_nearest(", "blocks", "tolerance"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_broken_kernels_are_caught(spec, old, new, case, why, failures):
    found = failures(spec, old, new)
    assert case in found, found
    assert why in found[case]


def test_the_cases_hold_what_they_are_for():
    cases = {case.words: case for case in gemm_cases(UP, full=False)}
    data = {words: gemm_operands(UP, case) for words, case in cases.items()}
    given = data["blocks"].given
    assert (given["sorted_ids"] >= data["blocks"].scalars["slots"]).any()  # padding slots
    assert given["padded_slots"][0] < given["expert_ids"].size * UP.BLOCK_N  # blocks behind the filled ones
    assert given["topk_weights"] is not None
    assert data["absent, unweighted"].given["topk_weights"] is None
    assert np.isnan(data["absent, unweighted"].reference).all(axis=1).any()
    absent = data["absent"].reference == 0
    assert absent.all(axis=1).any()
    assert not absent.all()
    assert (data["all absent"].reference == 0).all()
    assert set(data["one expert has all"].given["expert_ids"].tolist()) == {0}
    assert len(data["one expert has all"].given["expert_ids"]) > 1
    used = set(data["one slot"].given["expert_ids"].tolist())
    assert len(used) == 1 < cases["one slot"].moe.experts  # the others have none
    assert data["in order"].given["sorted_ids"] is None
    nan = np.isnan(data["NaN"].reference)
    assert nan.any()
    assert not nan.all()


def test_every_set_has_the_values_that_its_family_has():
    full = gemm_cases(DOWN, full=True)
    assert len(full) > len(gemm_cases(DOWN, full=False))
    assert {case.values for case in full} == {"normal", "hot", "sparse", "zeros", "nan"}
