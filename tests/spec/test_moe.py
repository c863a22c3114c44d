"""The expert specs: what they derive, refuse and fit, and that the sets hold every value."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from kgen.dispatch.match import pick
from kgen.dispatch.table import load_table
from kgen.errors import SpecError
from kgen.spec.arch import ARCHES
from kgen.spec.base import LAYER_LDS
from kgen.spec.moe import MoeSpec
from kgen.spec.moe_down_reduce import MoeDownReduceSpec
from kgen.spec.moe_wvsplitk_int4 import MoeWvSplitKInt4Spec
from kgen.spec.problem import GemmShape, MoeDownShape, MoeUpShape, ceil_div
from kgen.spec.registry import spec_from_name
from kgen.spec.sets import load_set
from kgen.spec.w4 import Dequant

UP = MoeUpShape(768, 1, 2048, 128, False, True, True, experts=128, top_k=8, tokens=1, blocks=8)
DOWN = MoeDownShape(2048, 1, 768, 128, False, False, experts=128, top_k=8, tokens=1, blocks=8)
TILE = {"gfx1151": (32, 4), "gfx942": (64, 32), "sm_90": (32, 32)}


def up(arch="gfx1151", **more) -> MoeWvSplitKInt4Spec:
    threads, rows = TILE[arch]
    return MoeWvSplitKInt4Spec.checked(
        dict(arch=arch, dtype="bf16", THRDS=threads, YTILE=rows, UNRL=2, DEQUANT="actsum") | more
    )


def down(arch="gfx1151", **more) -> MoeDownReduceSpec:
    threads, rows = TILE[arch]
    values = dict(arch=arch, dtype="bf16", THRDS=threads, YTILE=rows, WvPrGrp=8, K_WAVES=8, UNRL=1, DEQUANT="actsum")
    return MoeDownReduceSpec.checked(values | more)


EARLY = dict(
    arch="sm_90",
    **dict(YTILE=16, WvPrGrp=8, K_WAVES=8, A_CHUNK=32, UNRL=6, GrpsPerCU=3),
    **dict(DEQUANT="digits", STAGING="wave", EARLY=True, K=768),
)


@pytest.mark.parametrize("arch", sorted(ARCHES))
@pytest.mark.parametrize("cls", [MoeWvSplitKInt4Spec, MoeDownReduceSpec])
def test_the_parameters_set_holds_every_value_that_the_target_can_have(cls, arch):
    specs = load_set("parameters", [arch], families=[cls.family])
    matrix = specs[0].matrix
    other = {
        "THRDS": {ARCHES[arch].wave},
        "N": {1, 2, 4},
        "YTILE": {16, 32} if matrix else {1, 2, 4, 6},
        "WvPrGrp": {4},
        "K": {768, None},
        "dtype": {"bf16", "fp16"},
        "STAGING": {"lds", "wave"} if matrix else {"lds"},
        "DEQUANT": set(get_args(Dequant)) - (set() if matrix else {"digits"}),
        "RANKING": {"group", "wave"} if ARCHES[arch].vendor == "nvidia" else {"group"},
        "EARLY": {False, True} if ARCHES[arch].vendor == "nvidia" else {False},
        "GrpsPerCU": {1, 2, 3, 4} if matrix else {1, 2, 3, 4, 6, 8},
        "K_WAVES": {1, 2, 3, 4, 6, 8, 12, 16} if matrix else {1, 2, 3, 4, 6, 8, 12, 16, 24, 32},
    }
    from kgen.dispatch import load_table

    everything = [*specs, *load_table(cls.family, arch).specs.values()]  # what is executed on every change
    for field in ("dtype", *cls.parameters()):
        extra = cls.model_fields[field].json_schema_extra
        among = set(extra["among"]) if isinstance(extra, dict) and extra.get("among") else {False, True}
        missing = other.get(field, among) - {getattr(spec, field) for spec in everything}
        assert not missing, f"{field}: {missing}"


@pytest.mark.parametrize(
    "spec", [up(), up("gfx942", SILU=True), down(), down("sm_90", FUSE_SILU=True)], ids=lambda spec: spec.arch
)
def test_names_parse_back(spec):
    assert spec_from_name(spec.name, spec.arch) == spec


def names_of(shape):
    return {
        "ceil_div": ceil_div,
        "min": min,
        "M": shape.M,
        "K": shape.K,
        "blocks": shape.blocks,
        "top_k": shape.top_k,
        "CU": 7,
    }


@pytest.mark.parametrize("arch", sorted(TILE))
def test_the_grid_and_lds_are_what_their_expressions_say(arch):
    specs = [up(arch), up(arch, GRID="persistent"), up(arch, SILU=True, K=2048), down(arch), down(arch, K=768)]
    for spec in specs:
        like = UP if isinstance(spec, MoeWvSplitKInt4Spec) else DOWN
        for shape in (like, replace(like, M=37, blocks=3), replace(like, M=100_000)):
            launch = spec.launch(shape, 7)
            assert eval(spec.grid_expr, {"__builtins__": {}}, names_of(shape)) == launch.grid[0]
            assert eval(spec.lds_expr, {"__builtins__": {}}, names_of(shape)) == launch.lds_bytes
            wanted = 1 if getattr(spec, "persistent", False) else shape.blocks if like is UP else shape.tokens
            assert launch.grid[1:] == (wanted, 1)


@pytest.mark.parametrize(
    ("make", "values", "words"),
    [
        (up, dict(SILU=True, YTILE=1), "as many rows of gates"),
        (up, dict(RANK=True, N=2), "RANK = false"),
        (up, dict(RANK=True, GRID="persistent"), "RANK = false"),
        (up, dict(RANK=True, ROWS="contiguous"), "RANK = false"),
        (up, dict(K_WAVES=3), "a divisor of WvPrGrp"),
        (up, dict(K=192), "a multiple of 128"),
        (up, dict(STAGING="wave"), "where the matrix instruction multiplies"),
        (up, dict(arch="sm_90", STAGING="wave", DEQUANT="magic", N=2), "N = 1"),
        (up, dict(K=1 << 20), "bytes of LDS"),
        (up, dict(THRDS=64), "the wave of gfx1151"),
        (up, dict(N=3), "one of 1, 2, 4"),
        (down, dict(arch="sm_90", STAGING="wave", DEQUANT="magic", FUSE_SILU=True), "activations as they are"),
        (down, dict(WvPrGrp=32, K_WAVES=5), "K_WAVES"),
        (down, dict(EARLY=True), "a kernel starts when the one before it has ended"),
        (down, EARLY | dict(K=None), "a fixed K of whole trips, 768 long here"),
        (down, EARLY | dict(K=1024), "a fixed K of whole trips, 768 long here"),
        (down, EARLY | dict(HAS_ZP=True), "no zero points"),
        (down, EARLY | dict(GROUP_SIZE=32, DEQUANT="magic"), "groups of 128"),
        (down, EARLY | dict(STAGING="lds", DEQUANT="magic"), "STAGING wave"),
        (up, dict(RANK=True, RANKING="wave"), "gfx1151 has no instruction that finds the largest of a wave"),
        (up, dict(arch="sm_90", DEQUANT="magic", RANKING="wave"), "wave without RANK"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(make, values, words):
    with pytest.raises(SpecError, match=words):
        make(**values)


@pytest.mark.parametrize(
    ("spec", "change", "field"),
    [
        (up(SILU=True, RANK=True), {}, None),
        (up(SILU=True, RANK=True), dict(experts=257), "experts"),
        (up(SILU=True, RANK=True), dict(top_k=33, experts=200, blocks=33), "top_k"),
        (up(SILU=True, RANK=True), dict(blocks=9), "blocks"),
        (up(SILU=True, RANK=True), dict(RANK=False), "RANK"),
        (up(SILU=True), dict(RANK=False), None),
        (up(SILU=True), dict(RANK=False, GROUP_SIZE=64), "GROUP_SIZE"),
        (up(SILU=True), dict(RANK=False, K=2000), "K"),
        (up(SILU=True), dict(RANK=False, K=128 * 300), "K"),
        (up(SILU=True), dict(RANK=False, N=2), "N"),
        (up(SILU=True, GRID="persistent"), dict(RANK=False, M=1 << 30, blocks=60000), "M"),
        (up(SILU=True), dict(RANK=False, blocks=70000), "blocks"),
        (down(), {}, None),
        (down(), dict(top_k=33), "top_k"),
        (down(), dict(K=128 * 60), "K"),
        (down(K=768), dict(K=896), "K"),
    ],
)
def test_what_fits_is_said_by_the_spec(spec: MoeSpec, change, field):
    shape = replace(UP if isinstance(spec, MoeWvSplitKInt4Spec) else DOWN, **change)
    problem = spec.fits(shape)
    assert (problem.fields[0] if problem else None) == field


def test_traits_are_looked_up_in_the_order_of_the_name():
    assert list(UP.traits) == list(MoeWvSplitKInt4Spec.traits)
    assert list(DOWN.traits) == list(MoeDownReduceSpec.traits)
    fields = [name for name in MoeWvSplitKInt4Spec.parameters() if name in MoeWvSplitKInt4Spec.traits]
    assert fields == list(MoeWvSplitKInt4Spec.traits)


def test_a_second_gemm_starts_early_only_behind_a_first_one_that_has_stored_its_experts():
    spec = down(**EARLY)
    alone, in_layer = spec.launch(DOWN, 132), spec.layer_launch(DOWN, 132)
    assert (alone.early, in_layer.early) == (False, True)
    assert alone.grid == in_layer.grid == (128, 1, 1)  # a group for every tile: none waits for another's end
    plain = down(**EARLY | dict(EARLY=False, UNRL=2))
    assert plain.launch(DOWN, 132).early  # it reads nothing before it waits


def test_kernels_of_a_layer_ask_for_one_split_of_a_cus_memory():
    """Else none starts beside the one before it. Which kernels those are, the tables say."""
    layer = {"wvsplitk": GemmShape(128, 1, 2048), MoeWvSplitKInt4Spec.family: UP, MoeDownReduceSpec.family: DOWN}
    specs = [pick(load_table(family, "sm_90"), shape, "bf16").spec for family, shape in layer.items()]
    launches = [spec.layer_launch(shape, 132) for spec, shape in zip(specs, layer.values(), strict=True)]
    assert [launch.early for launch in launches] == [True] * 3
    assert [launch.lds_per_cu for launch in launches] == [LAYER_LDS] * 3


def test_a_cu_has_room_for_one_early_group_and_those_of_the_first_gemm():
    facts = ARCHES["sm_90"]
    for UNRL, K_WAVES in ((6, 8), (3, 16), (2, 24)):
        spec = down(**EARLY | dict(UNRL=UNRL, WvPrGrp=K_WAVES, K_WAVES=K_WAVES, GrpsPerCU=1))
        own = spec.static_lds + spec.dynamic_lds(DOWN) + facts.lds_reserved_per_group
        assert 2 * own > LAYER_LDS
        assert spec.dynamic_lds(DOWN) >= spec.WvPrGrp * spec.YTILE * spec.step // 2
        assert spec.fits(DOWN) is None
        first = up("sm_90", **dict(YTILE=16, WvPrGrp=8, K_WAVES=4, A_CHUNK=32, UNRL=4, SILU=True, RANK=True, K=2048))
        first = first.model_copy(update={"DEQUANT": "digits", "STAGING": "wave"})
        assert own + 3 * (first.static_lds + facts.lds_reserved_per_group) <= LAYER_LDS
