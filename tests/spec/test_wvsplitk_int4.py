"""wvsplitk_int4: names, rules, sizes."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgen.errors import SpecError
from kgen.spec.arch import ARCHES
from kgen.spec.problem import GemmShape, W4Shape, ceil_div
from kgen.spec.registry import spec_from_name
from kgen.spec.w4_lanes import LanesDequant
from kgen.spec.wvsplitk_int4 import Staging, WvSplitKInt4Spec

PLAIN = {"arch": "gfx1151", "dtype": "bf16", "N": 1, "THRDS": 32, "YTILE": 2, "WvPrGrp": 8, "UNRL": 2}
MATRIX = PLAIN | {"arch": "gfx942", "THRDS": 64, "YTILE": 16}
LANES = PLAIN | {"arch": "sm_90", "YTILE": 16, "K_WAVES": 8, "UNRL": 1, "DEQUANT": "digits2", "STAGING": "wave"}
DIGITS = PLAIN | {"arch": "sm_90", "YTILE": 16, "K_WAVES": 8, "DEQUANT": "digits", "STAGING": "wave"}

specs = st.builds(
    lambda arch, **values: WvSplitKInt4Spec(arch=arch, THRDS=ARCHES[arch].wave, **values),
    arch=st.sampled_from(sorted(ARCHES)),
    dtype=st.sampled_from(("bf16", "fp16")),
    N=st.integers(1, 8),
    YTILE=st.sampled_from((1, 2, 3, 4, 16, 32)),
    WvPrGrp=st.sampled_from((1, 3, 4, 8, 16)),
    K_WAVES=st.sampled_from((1, 2, 8)),
    A_CHUNK=st.sampled_from((8, 16, 32)),
    UNRL=st.sampled_from((1, 2, 4, 8)),
    GrpsPerCU=st.sampled_from((1, 2)),
    GROUP_SIZE=st.sampled_from((32, 64, 128)),
    HAS_ZP=st.booleans(),
    DEQUANT=st.sampled_from(get_args(LanesDequant)),
    STAGING=st.sampled_from(get_args(Staging)),
    K=st.none() | st.sampled_from((1024, 4096)),
)


@given(specs)
def test_a_name_parses_back(spec):
    if spec.problems():
        with pytest.raises(SpecError):
            WvSplitKInt4Spec.from_name(spec.name, spec.arch)
    else:
        assert spec_from_name(spec.name, spec.arch) == spec


@given(specs, specs)
def test_different_specs_have_different_names(a, b):
    assert (a.name == b.name) is (a.model_copy(update={"arch": b.arch}) == b)


def test_a_name_is_in_the_order_of_the_fields_and_not_taken_for_wvsplitk():
    spec = WvSplitKInt4Spec(**PLAIN, HAS_ZP=True, DEQUANT="actsum")
    assert spec.name == (
        "wvsplitk_int4_bf16_N1_THRDS32_YTILE2_WvPrGrp8_K_WAVES1_A_CHUNK32_UNRL2_GrpsPerCU1_GROUP_SIZE128_HAS_ZP_DEQUANTactsum_STAGINGlds"
    )
    assert spec_from_name(spec.name, "gfx1151") == spec


@pytest.mark.parametrize(
    ("values", "fields", "words"),
    [
        (MATRIX | {"YTILE": 2}, ("YTILE",), "a multiple of 16 on gfx942"),
        (PLAIN | {"K_WAVES": 16}, ("K_WAVES", "WvPrGrp"), "a divisor of WvPrGrp"),
        (PLAIN | {"STAGING": "wave"}, ("STAGING",), "STAGING = global"),
        (MATRIX | {"STAGING": "wave", "DEQUANT": "actsum"}, ("STAGING", "DEQUANT"), "DEQUANT = magic"),
        (PLAIN | {"YTILE": 8, "HAS_ZP": True}, ("YTILE", "HAS_ZP", "N"), "at most 31"),
        (PLAIN | {"UNRL": 8, "YTILE": 4}, ("YTILE", "UNRL", "A_CHUNK", "N"), "lower UNRL first"),
        (PLAIN | {"K": 1056}, ("K", "GROUP_SIZE"), "K = 1152"),
        (PLAIN | {"N": 8, "K": 8192}, ("STAGING", "K", "N", "WvPrGrp"), "at most 65536"),
        (PLAIN | {"GROUP_SIZE": 48}, ("GROUP_SIZE",), "32, 64, 128"),
        (PLAIN | {"DEQUANT": "digits"}, ("DEQUANT",), "digits on CDNA and sm_90"),
        (DIGITS | {"A_CHUNK": 16}, ("DEQUANT", "A_CHUNK"), "allowed: 32"),
        (DIGITS | {"STAGING": "lds"}, ("DEQUANT", "STAGING"), "each wave makes its own digits"),
        (DIGITS | {"STAGING": "own", "WvPrGrp": 16}, ("STAGING", "DEQUANT", "K_WAVES"), "all waves sharing K"),
        (DIGITS | {"STAGING": "own", "DEQUANT": "magic"}, ("STAGING", "DEQUANT", "K_WAVES"), "STAGING = wave"),
        (LANES | {"arch": "gfx942", "THRDS": 64}, ("DEQUANT",), "digits2 on sm_90"),
        (LANES | {"A_CHUNK": 16}, ("DEQUANT", "A_CHUNK"), "A_CHUNK = 32"),
        (LANES | {"STAGING": "lds"}, ("DEQUANT", "STAGING"), "lanes keep them"),
        (LANES | {"N": 4, "YTILE": 8}, ("YTILE",), "a multiple of 16"),
        (LANES | {"YTILE": 4}, ("YTILE",), "a multiple of 8"),
        (LANES | {"YTILE": 8, "WvPrGrp": 2, "K_WAVES": 2}, ("WvPrGrp", "YTILE"), "a multiple of 32"),
        (LANES | {"K": 4224}, ("K", "GROUP_SIZE"), "K = 4608"),
    ],
)
def test_what_cannot_be_is_said_with_what_can(values, fields, words):
    problems = WvSplitKInt4Spec.problems_of(values)
    found = [problem for problem in problems if problem.fields == fields]
    assert found, problems
    assert words in " ".join(found[0].lines())


@pytest.mark.parametrize(
    ("shape", "field"),
    [
        (W4Shape(64, 2, 1024), "N"),
        (W4Shape(64, 1, 1056), "K"),
        (W4Shape(64, 1, 1024, 64), "GROUP_SIZE"),
        (W4Shape(64, 1, 1024, 128, True), "HAS_ZP"),
        (GemmShape(64, 1, 1024), "GROUP_SIZE"),
        (W4Shape(64, 1, 32768), "N"),
    ],
)
def test_what_does_not_fit_is_named(shape, field):
    problem = WvSplitKInt4Spec(**PLAIN, DEQUANT="actsum").fits(shape)
    assert problem is not None
    assert problem.fields[0] == field


def test_what_fits():
    assert WvSplitKInt4Spec(**PLAIN).fits(W4Shape(1, 1, 128)) is None
    assert WvSplitKInt4Spec(**PLAIN | {"STAGING": "window"}).fits(W4Shape(1 << 20, 1, 1 << 17)) is None


def test_waves_that_share_k_make_a_share_of_its_trips():
    alone, shared = (WvSplitKInt4Spec.checked(MATRIX | {"K_WAVES": k}) for k in (1, 8))
    shape = W4Shape(64, 1, 4096 + 128)
    assert alone.step == 256
    assert (alone.wave_trips(shape), shared.wave_trips(shape)) == (17, 3)


@given(specs, st.integers(1, 4000), st.integers(1, 200))
def test_the_launch_covers_every_row_and_asks_for_its_lds(spec, M, groups):
    shape = W4Shape(M, spec.N, groups * spec.GROUP_SIZE, spec.GROUP_SIZE, spec.HAS_ZP)
    if spec.problems() or spec.fits(shape):
        return
    launch = spec.launch(shape, 20)
    tiles = ceil_div(M, spec.rows_per_group)
    rounds = ceil_div(tiles, launch.grid[0])
    assert launch.grid[0] * rounds >= tiles
    assert launch.grid[0] == eval(spec.grid_expr, {"ceil_div": ceil_div, "M": M, "CU": 20})
    asked = eval(spec.lds_expr, {"ceil_div": ceil_div, "K": shape.K})
    assert launch.lds_bytes == asked
    assert spec.static_lds + asked <= ARCHES[spec.arch].lds_per_group


@pytest.mark.parametrize(
    ("given", "tiles"), [(DIGITS, (1, 1, 2, 4)), (MATRIX | {"DEQUANT": "digits", "STAGING": "wave"}, (1, 1, 1, 2))]
)
def test_digits_of_more_rows_take_more_tiles_of_columns(given, tiles):
    rows = (1, 2, 4, 8)
    specs = [WvSplitKInt4Spec(**(given | {"N": n, "UNRL": 1})) for n in rows]
    assert tuple(spec.column_tiles for spec in specs) == tiles
    assert [spec.slab_bytes for spec in specs] == [n * 3 * 128 + 16 * ceil_div(3 * n, 4) for n in rows]


@pytest.mark.parametrize(
    ("given", "group", "tiles", "digit_tiles"),
    [
        (DIGITS, 64, (1, 2), 1),
        (DIGITS, 32, (2, 4), 2),
        (MATRIX | {"DEQUANT": "digits", "STAGING": "wave"}, 64, (1, 1), 1),
        (MATRIX | {"DEQUANT": "digits", "STAGING": "wave"}, 32, (1, 2), 1),
    ],
)
def test_digits_of_smaller_groups_take_columns_for_each(given, group, tiles, digit_tiles):
    specs = [WvSplitKInt4Spec(**(given | {"N": n, "UNRL": 1, "GROUP_SIZE": group})) for n in (1, 2)]
    whole = WvSplitKInt4Spec(**(given | {"UNRL": 1}))
    assert tuple(spec.column_tiles for spec in specs) == tiles
    assert specs[0].digit_tiles == digit_tiles
    assert specs[0].slab_bytes == whole.slab_bytes  # the digits lie in LDS once
    assert specs[0].exchange_bytes == whole.exchange_bytes  # and groups come together before the waves do
    problem = specs[0].fits(W4Shape(64, 1, 1024 + group, group))
    assert problem is not None
    assert "a multiple of 128: digits are made of whole slabs" in str(problem)
    assert specs[0].fits(W4Shape(64, 1, 1024, group)) is None


@pytest.mark.parametrize(
    ("n", "group", "parts", "tiles"),
    [
        *((1, 128, 4, 1), (2, 128, 2, 1), (3, 128, 1, 1), (4, 128, 1, 1), (5, 128, 1, 2), (8, 128, 1, 2)),
        *((1, 64, 2, 1), (2, 64, 1, 1), (4, 64, 1, 2), (1, 32, 1, 1), (2, 32, 1, 2), (4, 32, 1, 4)),
    ],
)
def test_columns_that_digits_of_lanes_leave_over_are_parts_of_k(n, group, parts, tiles):
    spec = WvSplitKInt4Spec(**LANES | {"N": n, "GROUP_SIZE": group})
    assert (spec.k_parts, spec.column_tiles) == (parts, tiles)
    assert spec.slab == 128 * parts
    assert spec.k_parts * spec.N * spec.groups_of_part <= 4 * tiles
    # Whatever it is, a matrix instruction takes 32 codes of 16 rows: as many for each tile of columns.
    assert spec.multiplies_per_step * 512 == spec.YTILE * spec.slab * tiles
    assert spec.macs_per_step * 32 == spec.YTILE * spec.slab * n
    assert spec.dynamic_lds(W4Shape(64, n, 4096, group)) == 0
    assert spec.static_lds == 16 * spec.WvPrGrp * spec.YTILE * tiles


@pytest.mark.parametrize(
    ("given", "shape", "field", "words"),
    [
        (LANES, (64, 4096 + 128), "K", "a multiple of 512"),
        (LANES | {"N": 2}, (64, 4096 + 128), "K", "a multiple of 256"),
        (LANES, (15, 4096), "M", "at least YTILE = 16"),
        (LANES | {"STAGING": "own"}, (64, 4096 + 512), "K", "at most 4096: lanes keep the digits of all of K"),
    ],
)
def test_what_digits_of_lanes_do_not_take_is_said_with_what_they_do(given, shape, field, words):
    spec = WvSplitKInt4Spec(**given)
    M, K = shape
    problem = spec.fits(W4Shape(M, spec.N, K))
    assert problem is not None
    assert problem.fields == (field,)
    assert words in str(problem)
    assert spec.fits(W4Shape(64, spec.N, 4096)) is None


def test_digits_of_lanes_are_kept_where_k_has_fewer_slabs_than_the_group_has_waves():
    assert WvSplitKInt4Spec(**LANES | {"STAGING": "own"}).fits(W4Shape(64, 1, 3584)) is None
