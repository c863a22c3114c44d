"""gemm_w4a16: names, rules, sizes, workspaces, and the instructions that a step holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgen.errors import SpecError
from kgen.spec.arch import ARCHES
from kgen.spec.gemm_w4a16 import MAX_ROWS, GemmW4A16Spec
from kgen.spec.problem import SLOT, W4Shape, Workspace, ceil_div
from kgen.spec.registry import spec_from_name
from kgen.spec.sets import load_set

BASE = {"arch": "gfx1151", "dtype": "bf16", "THRDS": 32, "BLOCK_N": 64, "BLOCK_M": 128, "BLOCK_K": 32, "WvPrGrp": 4}
BASE |= {"HAS_ZP": True, "PreDequantToLDS": True, "DoubleBuffer": True}
SPEC = GemmW4A16Spec.checked(BASE)
SPLIT = GemmW4A16Spec.checked({**BASE, "K_SPLIT": 4})

specs = st.builds(
    lambda arch, **values: GemmW4A16Spec(arch=arch, THRDS=ARCHES[arch].wave, **values),
    arch=st.sampled_from(sorted(ARCHES)),
    dtype=st.sampled_from(("bf16", "fp16")),
    BLOCK_N=st.sampled_from((16, 32, 64, 128, 256)),
    BLOCK_M=st.sampled_from((16, 32, 64, 128, 256)),
    BLOCK_K=st.sampled_from((32, 64, 128)),
    WvPrGrp=st.sampled_from((2, 4, 8, 16)),
    WAVES_N=st.sampled_from((1, 2, 4, 8)),
    ScaleBlockK=st.sampled_from((32, 64, 128)),
    HAS_ZP=st.booleans(),
    SUBTRACT=st.sampled_from(("integer", "float")),
    TruncateBf16Round=st.booleans(),
    PreDequantToLDS=st.booleans(),
    DoubleBuffer=st.booleans(),
    K_SPLIT=st.sampled_from((1, 2, 4, 8)),
)
possible = specs.filter(lambda spec: not spec.problems())


@given(specs)
def test_a_name_parses_back(spec):
    if spec.problems():
        with pytest.raises(SpecError):
            GemmW4A16Spec.from_name(spec.name, spec.arch)
    else:
        assert spec_from_name(spec.name, spec.arch) == spec


@pytest.mark.parametrize(
    ("changes", "fields", "words"),
    [
        ({"THRDS": 64}, ("THRDS",), "32, the wave of gfx1151"),
        ({"BLOCK_N": 48}, ("BLOCK_N",), "16, 32, 64, 128"),
        ({"WAVES_N": 8}, ("WAVES_N", "WvPrGrp", "BLOCK_N", "BLOCK_M"), "whole tiles of 16"),
        ({"BLOCK_N": 16, "WAVES_N": 2}, ("WAVES_N", "WvPrGrp", "BLOCK_N", "BLOCK_M"), "whole tiles of 16"),
        ({"WvPrGrp": 2, "BLOCK_K": 128, "BLOCK_M": 32}, ("WvPrGrp", "BLOCK_K"), "a multiple of 128 work-items"),
        (
            {"BLOCK_M": 16, "WvPrGrp": 8, "WAVES_N": 8, "BLOCK_N": 128},
            ("BLOCK_M", "BLOCK_K", "WvPrGrp"),
            "at least one each",
        ),
        ({"dtype": "fp16", "TruncateBf16Round": True}, ("TruncateBf16Round",), "bf16 alone"),
        ({"BLOCK_N": 128, "BLOCK_K": 128}, ("BLOCK_N", "BLOCK_M", "BLOCK_K"), "at most 65536 on gfx1151"),
        ({"BLOCK_M": 256, "K_SPLIT": 2}, ("K_SPLIT", "BLOCK_N", "BLOCK_M"), "at most 64"),
        ({"BLOCK_N": 256, "BLOCK_M": 256}, ("BLOCK_N", "BLOCK_M", "WvPrGrp"), "at most 256 on gfx1151"),
    ],
)
def test_impossible_blocks_are_refused_in_words(changes, fields, words):
    problems = GemmW4A16Spec.problems_of({**BASE, **changes})
    assert any(problem.fields == fields and words in problem.allowed for problem in problems), problems


@given(possible, st.integers(1, 1 << 13), st.integers(1, 1 << 13), st.integers(1, 96))
def test_what_fits_has_a_workspace_that_a_slot_holds(spec, M, N, groups):
    shape = spec.shape_of(M, N, groups * spec.ScaleBlockK)
    need = spec.workspace(shape)
    blocks = ceil_div(N, spec.BLOCK_N) * ceil_div(M, spec.BLOCK_M)
    assert spec.launch(shape, 20).grid == (blocks * spec.K_SPLIT, 1, 1)
    if spec.K_SPLIT == 1:
        assert need is None
        assert spec.fits(shape) is None
    else:
        assert need == Workspace(4 * blocks * spec.K_SPLIT * spec.BLOCK_N * spec.BLOCK_M, 4 * blocks)
        held = need.partial_bytes <= SLOT.partial_bytes and need.counter_bytes <= SLOT.counter_bytes
        assert (spec.fits(shape) is None) == held


@given(possible)
def test_every_lane_has_its_share_of_a_step(spec):
    """Lanes stage all activations, and have all codes: once per group, or once per wave along N."""
    assert spec.act_fetches * spec.threads >= spec.BLOCK_N * spec.BLOCK_K // 8
    words = spec.BLOCK_M * spec.BLOCK_K // 8
    rows = 1 if spec.PreDequantToLDS else spec.m_tiles * spec.fragment_rows
    copies = 1 if spec.PreDequantToLDS else spec.WAVES_N * spec.THRDS * spec.fragment_rows // 16 // spec.k_parts
    assert rows * spec.chunks * spec.chunk_words * spec.threads == words * copies
    assert spec.static_lds <= spec.facts.static_lds
    assert (spec.lds_expr == "0") == (spec.dynamic_lds(spec.shape_of(1, 1, 128)) == 0)


@pytest.mark.parametrize(
    ("shape", "fields"),
    [
        (W4Shape(64, 1, 4100, 128, True), ("K",)),
        (W4Shape(64, 1, 4096, 64, True), ("GROUP_SIZE",)),
        (W4Shape(64, 1, 4096, 128, False), ("HAS_ZP",)),
        (W4Shape(64, MAX_ROWS + 1, 4096, 128, True), ("N",)),
        (W4Shape((1 << 31) - 1, MAX_ROWS, 4096, 128, True), ("M", "N")),
    ],
)
def test_what_it_cannot_take_is_named(shape, fields):
    problem = SPEC.fits(shape)
    assert problem is not None
    assert problem.fields == fields


def test_any_number_of_rows_fits_and_sums_beyond_a_slot_do_not():
    for N in (1, 63, 64, 65, 8192):
        assert SPEC.fits(W4Shape(4096, N, 4096, 128, True)) is None
    assert SPLIT.fits(W4Shape(4096, 64, 4096, 128, True)) is None
    problem = SPLIT.fits(W4Shape(4096, 8192, 4096, 128, True))
    assert problem is not None
    assert "K_SPLIT = 1" in problem.next


def test_arguments_name_a_workspace_where_k_is_split():
    names = [arg.name for arg in SPEC.args]
    assert names[:6] == ["codes", "scales", "zeros", "act", "bias", "out"]
    assert [arg.name for arg in SPLIT.args if arg.name not in names] == ["partial", "counter"]


def test_the_set_of_numbers_is_complete():
    for arch in ARCHES:
        found = load_set("numbers", [arch], ["gemm_w4a16"])
        keys = {(s.dtype, s.ScaleBlockK, s.HAS_ZP, s.SUBTRACT, s.TruncateBf16Round, s.PreDequantToLDS) for s in found}
        assert len(keys) == len(found) == 3 * 2 * 2 * 2 * (2 + 1)
