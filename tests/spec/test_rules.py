"""Rules: what cannot be is refused with field, found, allowed and a next step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kgen.errors import SpecError
from kgen.spec.arch import ARCHES, arch_facts
from kgen.spec.problem import GemmShape
from kgen.spec.wvsplitk import WvSplitKSpec

BASE = {"arch": "gfx1151", "dtype": "bf16", "N": 1, "THRDS": 32, "YTILE": 1, "WvPrGrp": 16, "A_CHUNK": 8, "UNRL": 2}


def problems(**changes):
    return WvSplitKSpec.problems_of({**BASE, **changes})


def test_the_base_is_possible_and_frozen():
    assert problems() == []
    with pytest.raises(ValidationError):
        WvSplitKSpec(**BASE).N = 2


@pytest.mark.parametrize(
    ("changes", "fields", "words"),
    [
        ({"arch": "gfx9000"}, ("arch",), "gfx1151"),
        ({"dtype": "fp8"}, ("dtype",), "bf16, fp16"),
        ({"N": 0}, ("N",), "greater than or equal to 1"),
        ({"N": 9}, ("N",), "less than or equal to 8"),
        ({"THRDS": 48}, ("THRDS",), "32, 64"),
        ({"THRDS": 64}, ("THRDS",), "32, the wave of gfx1151"),
        ({"arch": "gfx942", "YTILE": 4}, ("THRDS",), "64, the wave of gfx942"),
        ({"WvPrGrp": 33}, ("WvPrGrp",), "32"),
        ({"arch": "gfx942", "THRDS": 64, "YTILE": 4, "WvPrGrp": 17}, ("THRDS", "WvPrGrp"), "at most 1024"),
        ({"arch": "gfx942", "THRDS": 64, "YTILE": 2}, ("YTILE",), "a multiple of 4"),
        ({"A_CHUNK": 12}, ("A_CHUNK",), "8, 16, 32"),
        ({"YTILE": 9}, ("YTILE",), "1, 2, 3"),
        ({"YTILE": 16}, ("YTILE", "MATRIX16"), "at most 8"),
        ({"K_WAVES": 3}, ("K_WAVES",), "1, 2, 4"),
        ({"WvPrGrp": 4, "K_WAVES": 8}, ("K_WAVES", "WvPrGrp"), "a divisor of WvPrGrp"),
        ({"WvPrGrp": 12, "K_WAVES": 8}, ("K_WAVES", "WvPrGrp"), "a divisor of WvPrGrp"),
        ({"MATRIX16": True}, ("MATRIX16",), "CDNA and NVIDIA"),
        ({"K_GROUPS": 2, "STAGING": "global"}, ("K_GROUPS",), "sm_90 has clusters"),
        ({"arch": "sm_90", "K_GROUPS": 2}, ("K_GROUPS", "STAGING"), "STAGING = global"),
        ({"arch": "sm_90", "K_GROUPS": 16, "STAGING": "global"}, ("K_GROUPS",), "1, 2, 4, 8"),
        ({"EARLY": True}, ("EARLY",), "sm_90 has programmatic launches"),
        ({"arch": "gfx942", "THRDS": 64, "YTILE": 4, "EARLY": True}, ("EARLY",), "sm_90 has programmatic launches"),
        ({"arch": "sm_90", "YTILE": 6, "MATRIX16": True}, ("YTILE", "MATRIX16"), "2, 4, 8, 16 or 32 with MATRIX16"),
        ({"arch": "sm_90", "YTILE": 1, "MATRIX16": True}, ("YTILE", "MATRIX16"), "2, 4, 8, 16 or 32 with MATRIX16"),
        (
            {"arch": "gfx942", "THRDS": 64, "YTILE": 8, "MATRIX16": True},
            ("YTILE", "MATRIX16"),
            "16 or 32 with MATRIX16",
        ),
        ({"arch": "sm_90", "YTILE": 8, "A_CHUNK": 16, "MATRIX16": True}, ("A_CHUNK", "MATRIX16"), "8 with MATRIX16"),
        (
            {"arch": "sm_90", "YTILE": 32, "UNRL": 8, "MATRIX16": True, "WvPrGrp": 16},
            ("YTILE", "UNRL", "A_CHUNK", "N"),
            "at most 104",
        ),
        (
            {"N": 3, "YTILE": 3, "WvPrGrp": 24, "A_CHUNK": 16, "UNRL": 8},
            ("YTILE", "UNRL", "A_CHUNK", "N"),
            "at most 224",  # six waves of a SIMD share 1536 registers, which are handed out by 24
        ),
        (
            {"N": 8, "WvPrGrp": 32, "YTILE": 8, "K_WAVES": 32, "STAGING": "window"},
            ("STAGING", "K", "N"),
            "at most 65536",
        ),
        ({"UNRL": 3}, ("UNRL",), "1, 2, 4, 8"),
        ({"STAGING": "l2"}, ("STAGING",), "lds, window, global"),
        ({"YTILE": 8, "A_CHUNK": 32, "UNRL": 8}, ("YTILE", "UNRL", "A_CHUNK", "N"), "at most"),
        ({"N": 8, "K": 8192}, ("STAGING", "K", "N"), "at most 65536"),
        ({"K": 1044}, ("K",), "a multiple of 8"),
        ({"K": "many"}, ("K",), "integer"),
        ({"SPEED": 9}, ("SPEED",), "THRDS"),
        ({"N": None}, ("N",), "integer"),
    ],
)
def test_what_cannot_be_is_named_with_what_is_allowed(changes, fields, words):
    found = problems(**changes)
    assert [problem.fields for problem in found] == [fields]
    assert words in found[0].allowed
    assert found[0].found


def test_all_problems_of_a_spec_come_at_once():
    assert {problem.fields[0] for problem in problems(N=9, UNRL=3, dtype="int4")} == {"N", "UNRL", "dtype"}
    by_rules = problems(arch="gfx942", YTILE=2, K=1044)
    assert {problem.fields[0] for problem in by_rules} == {"THRDS", "YTILE", "K"}


def test_a_missing_field_is_said_to_be_missing():
    found = WvSplitKSpec.problems_of({"dtype": "bf16"})
    assert [(problem.fields, problem.found) for problem in found] == [(("arch",), "not given")]


def test_the_error_says_what_where_found_allowed_and_next():
    with pytest.raises(SpecError) as caught:
        WvSplitKSpec.checked({**BASE, "THRDS": 64}, where="variant 3")
    text = str(caught.value)
    for words in ("wvsplitk on gfx1151", "variant 3", "THRDS  64", "allowed: 32", "try:     THRDS = 32"):
        assert words in text


def test_an_unknown_target_lists_the_known_ones():
    with pytest.raises(SpecError, match="gfx1151"):
        arch_facts("gfx9000")


SPEC = WvSplitKSpec(**{**BASE, "N": 4})


@pytest.mark.parametrize(
    ("spec", "shape", "field"),
    [
        (SPEC, GemmShape(64, 3, 1024), "N"),
        (SPEC, GemmShape(64, 4, 1020), "K"),
        (SPEC, GemmShape(64, 4, 0), "K"),
        (SPEC, GemmShape(0, 4, 1024), "M"),
        (SPEC, GemmShape(1 << 31, 4, 1024), "M"),
        (SPEC, GemmShape(64, 4, 8200), "N"),
        (SPEC.model_copy(update={"K": 1048}), GemmShape(64, 4, 1024), "K"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_the_field_at_fault(spec, shape, field):
    problem = spec.fits(shape)
    assert problem is not None
    assert problem.fields[0] == field


def test_shapes_at_the_edge_fit():
    assert SPEC.fits(GemmShape(1, 4, 8)) is None
    assert SPEC.fits(GemmShape(1, 4, 8192)) is None  # 64 KiB of LDS
    assert SPEC.model_copy(update={"STAGING": "window"}).fits(GemmShape(1, 4, 1 << 20)) is None


@pytest.mark.parametrize("staging", ["lds", "window", "global"])
@pytest.mark.parametrize("m", [1, 15, 16, 17, 4096, 152064])
def test_the_grid_covers_every_row_in_equal_rounds(staging, m):
    spec = WvSplitKSpec(**{**BASE, "STAGING": staging})
    launch = spec.launch(GemmShape(m, 1, 1024), cu=20)
    groups, rows = launch.grid[0], spec.rows_per_group
    rounds = -(-m // (groups * rows))
    assert launch.block == (512, 1, 1)
    assert groups * rows * rounds >= m
    assert groups * rows * (rounds - 1) < m
    assert staging == "global" or groups <= 20 * spec.groups_per_cu
    assert launch.lds_bytes == (2048 if staging == "lds" else 0)


@pytest.mark.parametrize("m", [1, 100, 152064])
@pytest.mark.parametrize("staging", ["lds", "global"])
def test_the_grid_and_lds_expressions_say_what_launch_does(staging, m):
    spec = WvSplitKSpec(**{**BASE, "STAGING": staging})
    names = {"M": m, "N": 1, "K": 1024, "CU": 20, "ceil_div": lambda a, b: -(-a // b), "min": min, "max": max}
    launch = spec.launch(GemmShape(m, 1, 1024), cu=20)
    assert eval(spec.grid_expr, {"__builtins__": {}}, names) == launch.grid[0]
    assert eval(spec.lds_expr, {"__builtins__": {}}, names) == launch.lds_bytes


def test_a_wave_of_several_that_share_k_adds_its_share_and_then_theirs():
    shape = GemmShape(64, 1, 7168)  # 28 slabs of 256
    alone = WvSplitKSpec(**{**BASE, "WvPrGrp": 8, "UNRL": 4, "STAGING": "global"})
    shared = alone.model_copy(update={"K_WAVES": 8})
    assert (alone.rows_per_group, shared.rows_per_group) == (8, 1)
    assert (alone.wave_trips(shape), shared.wave_trips(shape)) == (7, 1)
    assert alone.additions(shape) == 28 * 8 + 1 + 5 + 1  # two sums in turn, the lanes, the bias
    assert shared.additions(shape) == 4 * 8 + 1 + 5 + 7 + 1
    assert (
        shared.additions(GemmShape(64, 1, 7168 + 256)) == 5 * 8 + 1 + 5 + 7 + 1
    )  # one slab more, whichever wave takes it


@pytest.mark.parametrize(
    ("arch", "ytile", "rows", "sums"),
    [("sm_90", 16, 8, 2), ("sm_90", 4, 4, 4), ("sm_90", 2, 2, 8), ("gfx942", 16, 16, 1)],
)
def test_the_matrix_instruction_adds_what_four_lanes_bring(arch, ytile, rows, sums):
    values = dict(arch=arch, THRDS=ARCHES[arch].wave, YTILE=ytile, WvPrGrp=4, K_WAVES=4, UNRL=4, STAGING="global")
    spec = WvSplitKSpec(**{**BASE, **values, "MATRIX16": True})
    slab = ARCHES[arch].wave // rows * 8
    assert (spec.lane_rows, spec.row_tiles, spec.slab, spec.step) == (rows, ytile // rows, slab, 4 * slab)
    last = (spec.partials - 1) + (sums - 1).bit_length() + 3 + 1  # sums of a row, of the waves, the bias
    assert spec.additions(GemmShape(64, 1, 4096)) == 4096 // sums // 4 + last
    assert spec.additions(GemmShape(64, 1, 4104)) == 4096 // sums // 4 + spec.step // sums + last  # a trip more


@pytest.mark.parametrize(
    ("ytile", "products"), [(2, (1, 2, 4, 8)), (4, (1, 1, 2, 4)), (8, (1, 1, 1, 2)), (32, (1, 1, 1, 2))]
)
def test_on_sm_90_the_columns_of_an_instruction_are_activation_rows_and_segments_of_k(ytile, products):
    values = {**BASE, "arch": "sm_90", "YTILE": ytile, "MATRIX16": True, "UNRL": 1, "WvPrGrp": 4}
    assert tuple(WvSplitKSpec(**{**values, "N": n}).products for n in (1, 2, 4, 8)) == products


@given(
    st.sampled_from(sorted(ARCHES)),
    st.sampled_from((1, 2, 4, 8, 16, 32)),
    st.sampled_from((1, 2, 3, 4, 8, 16, 32)),
    st.sampled_from((1, 8)),
    st.booleans(),
)
def test_whatever_is_wrong_the_rules_answer(arch, k_waves, ytile, unrl, matrix):
    """Several may refuse at once, each on values that another one refuses."""
    values = dict(
        arch=arch, THRDS=ARCHES[arch].wave, WvPrGrp=8, K_WAVES=k_waves, YTILE=ytile, UNRL=unrl, MATRIX16=matrix
    )
    spec, found = WvSplitKSpec.tried({**BASE, **values})
    assert spec is not None
    assert found or spec.rows_per_group * k_waves == 8 * ytile


@pytest.mark.parametrize("m", [1, 8, 9, 128])
def test_a_cluster_of_work_groups_makes_one_tile(m):
    values = {
        **BASE,
        "arch": "sm_90",
        "N": 4,
        "YTILE": 8,
        "WvPrGrp": 8,
        "UNRL": 2,
        "STAGING": "global",
        "MATRIX16": True,
    }
    alone = WvSplitKSpec(**{**values, "K_WAVES": 8})
    shared = WvSplitKSpec(**{**values, "K_WAVES": 8, "K_GROUPS": 8})
    shape = GemmShape(m, 4, 7168)
    assert shared.rows_per_group == alone.rows_per_group == 8
    assert shared.launch(shape, 132).grid[0] == 8 * alone.launch(shape, 132).grid[0]
    names = {"M": m, "ceil_div": lambda a, b: -(-a // b)}
    assert eval(shared.grid_expr, {"__builtins__": {}}, names) == shared.launch(shape, 132).grid[0]
    assert (alone.wave_trips(shape), shared.wave_trips(shape)) == (14, 2)
    assert shared.additions(shape) == 2 * 2 * 16 + (shared.partials - 1) + 1 + 7 + 7 + 1
    assert shared.static_lds == alone.static_lds + 4 * 8 * 4


def test_arguments_lie_as_c_lays_them_out():
    offsets = {arg.name: (arg.offset, arg.bytes) for arg in WvSplitKSpec(**BASE).args}
    assert offsets["weight"] == (0, 8)
    assert offsets["out"] == (24, 8)
    assert offsets["M"] == (32, 4)
    assert offsets["groups"] == (52, 4)


def test_every_target_has_its_facts_in_order():
    assert list(ARCHES) == ["gfx1151", "gfx1100", "gfx1201", "gfx942", "gfx950", "sm_90"]
    for facts in ARCHES.values():
        assert facts.lds_per_group <= facts.lds_per_cu
        assert facts.max_vgprs <= facts.vgpr_file
        assert facts.vgpr_file % facts.vgpr_granule == 0
