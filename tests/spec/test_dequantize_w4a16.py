"""dequantize_w4a16: names, rules, sizes, grids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgen.errors import SpecError
from kgen.spec.arch import ARCHES
from kgen.spec.dequantize_w4a16 import QUAD_K, DequantizeW4A16Spec
from kgen.spec.problem import DequantizeShape, ceil_div
from kgen.spec.registry import spec_from_name
from kgen.spec.sets import load_set

BASE = {"arch": "gfx1151", "dtype": "bf16", "THRDS": 32, "WvPrGrp": 4, "UNRL": 2, "GROUP_SIZE": 64, "HAS_ZP": True}
SPEC = DequantizeW4A16Spec.checked(BASE)

specs = st.builds(
    lambda arch, **values: DequantizeW4A16Spec(arch=arch, THRDS=ARCHES[arch].wave, **values),
    arch=st.sampled_from(sorted(ARCHES)),
    dtype=st.sampled_from(("bf16", "fp16")),
    WvPrGrp=st.sampled_from((1, 2, 4, 8, 16)),
    UNRL=st.sampled_from((1, 2, 4, 8)),
    GROUP_SIZE=st.sampled_from((32, 64, 128)),
    HAS_ZP=st.booleans(),
)


@given(specs)
def test_every_combination_is_possible_and_its_name_parses_back(spec):
    assert spec.problems() == []
    assert spec_from_name(spec.name, spec.arch) == spec


@pytest.mark.parametrize(
    ("changes", "fields", "words"),
    [
        ({"THRDS": 64}, ("THRDS",), "32, the wave of gfx1151"),
        ({"dtype": "fp32"}, ("dtype",), "bf16, fp16"),
        ({"WvPrGrp": 3}, ("WvPrGrp",), "1, 2, 4, 8, 16"),
        ({"UNRL": 3}, ("UNRL",), "1, 2, 4, 8"),
        ({"GROUP_SIZE": 256}, ("GROUP_SIZE",), "32, 64, 128"),
        ({"SUBTRACT": "integer"}, ("SUBTRACT",), "GROUP_SIZE"),
    ],
)
def test_what_cannot_be_is_named_with_what_is_allowed(changes, fields, words):
    (found,) = DequantizeW4A16Spec.problems_of({**BASE, **changes})
    assert found.fields == fields
    assert words in found.allowed


def test_a_name_is_in_the_order_of_the_fields():
    assert SPEC.name == "dequantize_w4a16_bf16_THRDS32_WvPrGrp4_UNRL2_GROUP_SIZE64_HAS_ZP"
    with pytest.raises(SpecError):
        spec_from_name(SPEC.name.replace("UNRL2", "UNRL5"), "gfx1151")


@pytest.mark.parametrize(
    ("shape", "field"),
    [
        (DequantizeShape(1, 1, 64, 64, True), None),
        (DequantizeShape(1, 7, 64, 64, True), None),  # activation rows are none of its business
        (DequantizeShape(0, 1, 64, 64, True), "M"),
        (DequantizeShape(1, 1, 96, 64, True), "K"),
        (DequantizeShape(1, 1, 0, 64, True), "K"),
        (DequantizeShape(1, 1, 128, 128, True), "GROUP_SIZE"),
        (DequantizeShape(1, 1, 128, 64, False), "HAS_ZP"),
        (DequantizeShape((1 << 31) - 1, 1, 128, 64, True), None),
        (DequantizeShape((1 << 31) - 1, 1, 192, 64, True), "M"),
    ],
)
def test_what_fits_is_whole_groups_of_its_traits_with_pieces_that_32_bits_count(shape, field):
    problem = SPEC.fits(shape)
    assert (problem and problem.fields[0]) == field


@given(specs, st.integers(1, 300), st.integers(1, 40))
def test_a_launch_covers_every_piece_and_is_what_its_expression_says(spec, M, groups):
    shape = spec.shape_of(M, 1, groups * spec.GROUP_SIZE)
    launch = spec.launch(shape, cu=3)
    names = {"M": M, "K": shape.K, "ceil_div": ceil_div}
    assert launch.grid == (eval(spec.grid_expr, names), 1, 1)
    assert launch.block == (spec.THRDS * spec.WvPrGrp, 1, 1)
    pieces = M * ceil_div(shape.K, QUAD_K)
    assert (launch.grid[0] - 1) * spec.quads < pieces <= launch.grid[0] * spec.quads


def test_a_problem_moves_half_a_byte_in_and_two_out_for_each_weight():
    shape = SPEC.shape_of(10, 1, 128)
    assert (shape.act_rows, shape.out_rows, shape.weights_read) == (0, 128, 1)


@pytest.mark.parametrize("arch", ARCHES)
def test_the_set_parameters_has_every_value_of_every_parameter(arch):
    found = load_set("parameters", [arch], ["dequantize_w4a16"])
    for field, values in {
        "dtype": {"bf16", "fp16"},
        "WvPrGrp": {1, 2, 4, 8, 16},
        "UNRL": {1, 4, 8},  # and 2 in the tables
        "GROUP_SIZE": {32, 64, 128},
        "HAS_ZP": {False, True},
    }.items():
        assert {getattr(spec, field) for spec in found} == values
