"""llmm1: names, rules, sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgen.errors import SpecError
from kgen.spec.arch import ARCHES
from kgen.spec.llmm1 import Llmm1Spec
from kgen.spec.problem import GemmShape
from kgen.spec.registry import spec_from_name
from kgen.spec.sets import load_set

BASE = {"arch": "gfx1151", "dtype": "bf16", "THRDS": 32, "ROWS_PER_BLOCK": 4, "WvPrGrp": 4, "UNRL": 2}
SPEC = Llmm1Spec(**BASE)

specs = st.builds(
    lambda arch, **values: Llmm1Spec(arch=arch, THRDS=ARCHES[arch].wave, **values),
    arch=st.sampled_from(sorted(ARCHES)),
    dtype=st.sampled_from(("bf16", "fp16")),
    ROWS_PER_BLOCK=st.sampled_from((1, 2, 4, 8, 16)),
    WvPrGrp=st.integers(1, 32),
    UNRL=st.sampled_from((1, 2, 4)),
)


@given(specs)
def test_a_name_parses_back(spec):
    if spec.problems():
        with pytest.raises(SpecError):
            Llmm1Spec.from_name(spec.name, spec.arch)
    else:
        assert spec_from_name(spec.name, spec.arch) == spec


def test_a_name_is_in_the_order_of_the_fields_and_has_no_n():
    assert SPEC.name == "llmm1_bf16_THRDS32_ROWS_PER_BLOCK4_WvPrGrp4_UNRL2"
    assert SPEC.N == 1
    assert list(Llmm1Spec.row_counts()) == [1]
    with pytest.raises(SpecError):
        spec_from_name(SPEC.name.replace("bf16_", "bf16_N1_"), "gfx1151")


@pytest.mark.parametrize(
    ("changes", "fields", "words"),
    [
        ({"THRDS": 64}, ("THRDS",), "32, the wave of gfx1151"),
        ({"ROWS_PER_BLOCK": 3}, ("ROWS_PER_BLOCK",), "1, 2, 4, 8, 16"),
        ({"arch": "gfx942", "THRDS": 64, "ROWS_PER_BLOCK": 2}, ("ROWS_PER_BLOCK",), "a multiple of 4"),
        ({"arch": "gfx950", "THRDS": 64, "WvPrGrp": 17}, ("THRDS", "WvPrGrp"), "at most 1024"),
        ({"WvPrGrp": 33}, ("WvPrGrp",), "32"),
        ({"UNRL": 3}, ("UNRL",), "1, 2, 4"),
        ({"ROWS_PER_BLOCK": 16, "UNRL": 4}, ("ROWS_PER_BLOCK", "UNRL", "WvPrGrp"), "at most"),
        ({"N": 1}, ("N",), "ROWS_PER_BLOCK"),
    ],
)
def test_what_cannot_be_is_named_with_what_is_allowed(changes, fields, words):
    (found,) = Llmm1Spec.problems_of({**BASE, **changes})
    assert found.fields == fields
    assert words in found.allowed


@pytest.mark.parametrize(
    ("shape", "field"),
    [
        (GemmShape(64, 2, 1024), "N"),
        (GemmShape(64, 1, 1020), "K"),
        (GemmShape(64, 1, 0), "K"),
        (GemmShape(0, 1, 8), "M"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_the_field_at_fault(shape, field):
    problem = SPEC.fits(shape)
    assert problem is not None
    assert problem.fields == (field,)


def test_any_k_in_whole_pieces_fits_unlike_the_peers_8192():
    assert SPEC.fits(GemmShape(1, 1, 8)) is None
    assert SPEC.fits(GemmShape(1 << 20, 1, 1 << 20)) is None


@given(specs, st.integers(1, 1 << 20), st.integers(1, 400))
def test_one_group_per_rows_per_block_whatever_the_device(spec, m, cu):
    launch = spec.launch(GemmShape(m, 1, 4096), cu)
    rows = spec.ROWS_PER_BLOCK
    assert (launch.grid[0] - 1) * rows < m <= launch.grid[0] * rows
    assert launch.block == (spec.THRDS * spec.WvPrGrp, 1, 1)
    assert launch.lds_bytes == 0
    assert (
        eval(spec.grid_expr, {"ceil_div": lambda a, b: -(-a // b), "M": m, "N": 1, "K": 4096, "CU": cu})
        == launch.grid[0]
    )


def test_additions_are_those_of_a_lane_the_lanes_the_waves_and_the_bias():
    assert SPEC.additions(GemmShape(64, 1, 4096)) == 4096 // 128 + 5 + 3 + 1
    matrix = Llmm1Spec(arch="gfx942", dtype="bf16", THRDS=64, ROWS_PER_BLOCK=4, WvPrGrp=4, UNRL=2)
    assert matrix.additions(GemmShape(64, 1, 4096)) == 4096 // 64 + 4 + 3 + 1  # four lanes share a row's K


@pytest.mark.parametrize("arch", sorted(ARCHES))
def test_the_parameters_set_holds_every_value_of_every_parameter(arch):
    found = load_set("parameters", [arch], families=["llmm1"])
    assert {spec.dtype for spec in found} == {"bf16", "fp16"}
    assert {spec.UNRL for spec in found} == {1, 2, 4}
    assert {spec.ROWS_PER_BLOCK for spec in found} == ({4, 8, 16} if ARCHES[arch].mfma_4x4x4 else {1, 2, 4, 8, 16})
    assert {1, 3, 4, ARCHES[arch].max_threads // ARCHES[arch].wave if arch != "sm_90" else 8} <= {
        spec.WvPrGrp for spec in found
    }


@given(specs)
def test_fewer_lanes_share_a_row_where_the_matrix_instruction_takes_four_rows(spec):
    assert spec.slab * spec.lane_rows == spec.threads * 8
    assert spec.multiplies_per_step >= 1 or spec.ROWS_PER_BLOCK % spec.lane_rows
