"""wvsplitkq: names, rules, sizes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgen.errors import SpecError
from kgen.spec.arch import ARCHES
from kgen.spec.problem import GemmShape
from kgen.spec.registry import spec_from_name
from kgen.spec.sets import load_set
from kgen.spec.wvsplitkq import WvSplitKQSpec

PLAIN = {"arch": "gfx1201", "dtype": "bf16", "N": 1, "THRDS": 32, "YTILE": 2, "WvPrGrp": 4, "A_CHUNK": 16, "UNRL": 2}
MATRIX = PLAIN | {"arch": "gfx942", "THRDS": 64, "YTILE": 16, "MFMA": "16x16x32"}
FP8 = [name for name, facts in ARCHES.items() if facts.fp8]

specs = st.builds(
    lambda arch, **values: WvSplitKQSpec(arch=arch, THRDS=ARCHES[arch].wave, **values),
    arch=st.sampled_from(sorted(ARCHES)),
    dtype=st.sampled_from(("bf16", "fp16")),
    N=st.integers(1, 8),
    YTILE=st.sampled_from((1, 2, 4, 8, 16, 32)),
    WvPrGrp=st.integers(1, 16),
    A_CHUNK=st.sampled_from((16, 32)),
    UNRL=st.sampled_from((1, 2, 4)),
    MFMA=st.sampled_from((None, "16x16x32", "32x32x16")),
)


@given(specs)
def test_a_name_parses_back(spec):
    if spec.problems():
        with pytest.raises(SpecError):
            WvSplitKQSpec.from_name(spec.name, spec.arch)
    else:
        assert spec_from_name(spec.name, spec.arch) == spec


@given(specs, specs)
def test_different_specs_have_different_names(a, b):
    assert (a.name == b.name) is (a.model_copy(update={"arch": b.arch}) == b)


def test_a_name_is_in_the_order_of_the_fields_and_not_taken_for_wvsplitk():
    spec = WvSplitKQSpec(**MATRIX)
    assert spec.name == "wvsplitkq_bf16_N1_THRDS64_YTILE16_WvPrGrp4_A_CHUNK16_UNRL2_MFMA16x16x32"
    assert spec_from_name(spec.name, "gfx942") == spec
    assert WvSplitKQSpec(**PLAIN).name.endswith("_UNRL2")


@pytest.mark.parametrize(
    ("values", "fields", "words"),
    [
        (PLAIN | {"THRDS": 64}, ("THRDS",), "32, the wave of gfx1201"),
        (PLAIN | {"N": 9}, ("N",), "less than or equal to 8"),
        (PLAIN | {"YTILE": 3}, ("YTILE",), "1, 2, 4, 8, 16, 32"),
        (PLAIN | {"WvPrGrp": 17}, ("WvPrGrp",), "16"),
        (PLAIN | {"A_CHUNK": 8}, ("A_CHUNK",), "16, 32"),
        (PLAIN | {"dtype": "fp8"}, ("dtype",), "bf16, fp16"),
        (PLAIN | {"MFMA": "16x16x16"}, ("MFMA",), "16x16x32"),
        (PLAIN | {"MFMA": "16x16x32", "YTILE": 16, "UNRL": 1}, ("MFMA",), "gfx1201 has no fp8 MFMA"),
        (MATRIX | {"MFMA": None}, ("MFMA",), "16x16x32 or 32x32x16 on gfx942"),
        (MATRIX | {"YTILE": 8}, ("YTILE", "MFMA"), "a multiple of 16"),
        (MATRIX | {"MFMA": "32x32x16"}, ("YTILE", "MFMA"), "a multiple of 32"),
        (PLAIN | {"YTILE": 32, "UNRL": 4, "A_CHUNK": 32}, ("YTILE", "UNRL", "A_CHUNK", "N"), "at most"),
        (PLAIN | {"arch": "gfx1151"}, ("arch",), "gfx942, gfx950, gfx1201, sm_90"),
        (PLAIN | {"arch": "gfx1100"}, ("arch",), "gfx942, gfx950, gfx1201, sm_90"),
    ],
)
def test_what_cannot_be_is_named_with_what_is_allowed(values, fields, words):
    (found,) = WvSplitKQSpec.problems_of(values)
    assert found.fields == fields
    assert words in found.allowed


def test_every_target_with_fp8_has_its_kind_and_the_others_have_none():
    kinds = {name: WvSplitKQSpec(**PLAIN | {"arch": name}).element for name in FP8}
    assert kinds == {"gfx942": "e4m3fnuz", "gfx950": "e4m3fn", "gfx1201": "e4m3fn", "sm_90": "e4m3fn"}


@pytest.mark.parametrize(
    ("shape", "field"),
    [
        (GemmShape(64, 2, 1024), "N"),
        (GemmShape(64, 1, 1032), "K"),
        (GemmShape(64, 1, 0), "K"),
        (GemmShape(0, 1, 16), "M"),
        (GemmShape(1 << 31, 1, 16), "M"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_the_field_at_fault(shape, field):
    problem = WvSplitKQSpec(**PLAIN).fits(shape)
    assert problem is not None
    assert problem.fields == (field,)


def test_shapes_at_the_edge_fit():
    for values in (PLAIN, MATRIX):
        assert WvSplitKQSpec(**values).fits(GemmShape(1, 1, 16)) is None
        assert WvSplitKQSpec(**values).fits(GemmShape(1 << 20, 1, 1 << 20)) is None


@given(specs, st.integers(1, 1 << 20), st.integers(1, 400))
def test_one_group_per_ytile_features_whatever_the_device(spec, m, cu):
    launch = spec.launch(GemmShape(m, spec.N, 4096), cu)
    assert (launch.grid[0] - 1) * spec.YTILE < m <= launch.grid[0] * spec.YTILE
    assert launch.block == (spec.THRDS * spec.WvPrGrp, 1, 1)
    assert launch.lds_bytes == 0
    names: dict[str, Any] = {"ceil_div": lambda a, b: -(-a // b), "M": m, "N": spec.N, "K": 4096, "CU": cu}
    assert eval(spec.grid_expr, names) == launch.grid[0]


@given(specs)
def test_the_lanes_of_a_group_cover_a_slab_of_every_row_once(spec):
    assert spec.slab * spec.lane_rows == spec.threads * spec.A_CHUNK
    assert spec.step == spec.slab * spec.UNRL


def test_arguments_lie_as_c_lays_them_out():
    offsets = {arg.name: (arg.type, arg.offset) for arg in WvSplitKQSpec(**PLAIN).args}
    assert offsets["weight"] == ("const u8*", 0)
    assert offsets["bias"] == ("const T*", 16)
    assert offsets["weight_scale"] == ("const f32*", 32)
    assert offsets["M"] == ("u32", 48)
    assert offsets["groups"] == ("u32", 68)


def test_additions_are_those_of_a_lane_the_lanes_the_waves_bias_and_scales():
    assert WvSplitKQSpec(**PLAIN).additions(GemmShape(64, 1, 4096)) == 4096 // 128 + 5 + 3 + 1 + 2
    # Four waves share K; within a wave the matrix instruction may add all products one after the other.
    assert WvSplitKQSpec(**MATRIX).additions(GemmShape(64, 1, 4096)) == 4096 // 4 + 3 + 1 + 2


@pytest.mark.parametrize("arch", FP8)
def test_the_parameters_set_holds_every_value_of_every_parameter(arch):
    found = load_set("parameters", [arch], families=["wvsplitkq"])
    matrix = ARCHES[arch].mfma_fp8
    wanted = {
        "dtype": {"bf16", "fp16"},
        "N": set(range(1, 9)),
        "THRDS": {ARCHES[arch].wave},
        "YTILE": {16, 32} if matrix else {1, 2, 4, 8, 16, 32},
        "WvPrGrp": {1, 3, 4, 16},
        "A_CHUNK": {16, 32},
        "UNRL": {1, 2, 4},
        "MFMA": {"16x16x32", "32x32x16"} if matrix else {None},
    }
    for field, values in wanted.items():
        assert {getattr(spec, field) for spec in found} == values, field


def test_the_parameters_set_leaves_out_targets_without_fp8():
    assert not load_set("parameters", ["gfx1151", "gfx1100"], families=["wvsplitkq"])
