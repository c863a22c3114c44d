"""wvsplitkrc: names, rules, sizes, workspaces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgen.errors import SpecError
from kgen.spec.arch import ARCHES
from kgen.spec.problem import SLOT, GemmShape, Workspace, ceil_div
from kgen.spec.registry import spec_from_name
from kgen.spec.sets import load_set
from kgen.spec.wvsplitkrc import WvSplitKrcSpec

BASE = {"arch": "gfx950", "dtype": "bf16", "THRDS": 64, "N": 64, "GrpsShrB": 4, "CHUNKK": 1, "DETERMINISTIC": True}
SPEC = WvSplitKrcSpec.checked(BASE)
FAST = WvSplitKrcSpec.checked({**BASE, "DETERMINISTIC": False})

specs = st.builds(
    lambda arch, **values: WvSplitKrcSpec(arch=arch, THRDS=ARCHES[arch].wave, **values),
    arch=st.sampled_from(sorted(ARCHES)),
    dtype=st.sampled_from(("bf16", "fp16")),
    N=st.sampled_from((16, 32, 64, 128)),
    WvPrGrp=st.sampled_from((2, 4, 8)),
    GrpsShrB=st.sampled_from((1, 2, 4, 8)),
    CHUNKK=st.sampled_from((1, 2)),
    DETERMINISTIC=st.booleans(),
)
possible = specs.filter(lambda spec: not spec.problems())
shapes = st.builds(
    GemmShape, M=st.integers(1, 1 << 14), N=st.integers(9, 128), K=st.integers(1, 2000).map(lambda k: 8 * k)
)


@given(specs)
def test_a_name_parses_back(spec):
    if spec.problems():
        with pytest.raises(SpecError):
            WvSplitKrcSpec.from_name(spec.name, spec.arch)
    else:
        assert spec_from_name(spec.name, spec.arch) == spec


def test_the_order_of_addition_is_the_last_word_of_the_name():
    assert SPEC.name == "wvsplitkrc_bf16_N64_THRDS64_YTILE16_WvPrGrp4_GrpsShrB4_CHUNKK1_DETERMINISTIC"
    assert FAST.name == SPEC.name.removesuffix("_DETERMINISTIC")
    assert SPEC.twins() == (FAST,)
    assert FAST.twins() == (SPEC,)
    assert (SPEC.same_bits, FAST.same_bits) == (True, False)


@pytest.mark.parametrize(
    ("changes", "fields", "words"),
    [
        ({"THRDS": 32}, ("THRDS",), "64, the wave of gfx950"),
        ({"N": 48}, ("N",), "16, 32, 64, 128"),
        ({"YTILE": 8}, ("YTILE",), "16"),
        ({"GrpsShrB": 8}, ("GrpsShrB", "WvPrGrp", "N"), "a divisor of both"),
        ({"N": 32, "GrpsShrB": 4}, ("GrpsShrB", "WvPrGrp", "N"), "a divisor of both"),
        ({"CHUNKK": 4}, ("CHUNKK",), "1, 2"),
        ({"arch": "gfx942", "N": 128, "WvPrGrp": 8, "GrpsShrB": 8}, ("N", "WvPrGrp", "GrpsShrB"), "65536 bytes"),
    ],
)
def test_what_cannot_be_is_named_with_what_is_allowed(changes, fields, words):
    (found,) = WvSplitKrcSpec.problems_of({**BASE, **changes})
    assert found.fields == fields
    assert words in found.allowed


@given(possible)
def test_a_step_is_part_of_a_shard_and_its_lds_fits(spec):
    assert spec.shard % spec.step == 0
    assert spec.step % 32 == 0
    assert spec.static_lds <= (48 * 1024 if spec.arch == "sm_90" else ARCHES[spec.arch].lds_per_group)
    assert spec.staged_rows * spec.step // 8 % spec.threads == 0  # every lane brings as many pieces


def test_whole_shards_are_in_lds_where_dma_brings_them():
    assert {spec.step == spec.shard for spec in load_set("parameters", ["gfx950"], ["wvsplitkrc"])} == {True}


# ---- workspace


@given(possible, shapes)
def test_workspace_is_one_slice_per_tile_and_shard_or_one_per_tile(spec, shape):
    tiles = ceil_div(shape.M, spec.rows_per_group)
    slices = tiles * (ceil_div(shape.K, 512 // spec.CHUNKK) if spec.DETERMINISTIC else 1)
    assert spec.workspace(shape) == Workspace(slices * spec.rows_per_group * spec.N * 4, tiles * 4)


@given(possible, shapes)
def test_what_fits_is_what_a_slot_holds(spec, shape):
    need, problem = spec.workspace(shape), spec.fits(shape)
    room = need.partial_bytes <= SLOT.partial_bytes and need.counter_bytes <= SLOT.counter_bytes
    assert (problem is None) == (shape.N <= spec.N and room)


def test_a_workspace_that_is_too_large_is_named_by_its_bytes():
    problem = SPEC.fits(GemmShape(4096, 64, 4096))
    assert problem is not None
    assert problem.found == "8388608 bytes of partial sums and 1024 of counters"
    assert str(SLOT.partial_bytes) in problem.allowed
    assert FAST.fits(GemmShape(4096, 64, 4096)) is None  # one slice for all shards


@pytest.mark.parametrize(
    ("shape", "field"), [(GemmShape(64, 65, 1024), "N"), (GemmShape(64, 64, 1020), "K"), (GemmShape(0, 64, 1024), "M")]
)
def test_shapes_that_do_not_fit_are_refused_by_the_field_at_fault(shape, field):
    problem = SPEC.fits(shape)
    assert problem is not None
    assert problem.fields == (field,)


@given(possible, shapes)
def test_one_group_per_tile_and_shard(spec, shape):
    launch = spec.launch(shape, 7)
    groups = eval(spec.grid_expr, {"ceil_div": ceil_div, "M": shape.M, "N": shape.N, "K": shape.K, "CU": 7}, {})
    assert launch.grid == (groups, 1, 1) == (ceil_div(shape.M, spec.rows_per_group) * spec.shards(shape), 1, 1)
    assert launch.block == (spec.threads, 1, 1)
    assert launch.lds_bytes == 0


def test_additions_are_those_inside_an_instruction_the_instructions_the_shards_and_the_bias():
    assert SPEC.additions(GemmShape(64, 64, 4096)) == 32 + 16 + 8 + 1
    wmma = WvSplitKrcSpec.checked({**BASE, "arch": "gfx1151", "THRDS": 32, "CHUNKK": 2})
    assert wmma.additions(GemmShape(64, 64, 4096)) == 16 + 16 + 16 + 1


@pytest.mark.parametrize("arch", sorted(ARCHES))
def test_the_parameters_set_holds_every_value_of_every_parameter(arch):
    found = load_set("parameters", [arch], families=["wvsplitkrc"])
    assert {spec.dtype for spec in found} == {"bf16", "fp16"}
    assert {spec.N for spec in found} >= {16, 32, 64}
    assert {spec.CHUNKK for spec in found} == {1, 2}
    assert {spec.WvPrGrp for spec in found} == {2, 4, 8}
    assert {spec.GrpsShrB for spec in found} >= {1, 2, 4}
    assert {spec.DETERMINISTIC for spec in found} == {True, False}
