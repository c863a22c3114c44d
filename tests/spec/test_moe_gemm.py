"""moe_gemm_w4a16's spec: what it derives, refuses and fits, and that the sets hold every value."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from kgen.dispatch import load_table
from kgen.errors import SpecError
from kgen.spec.arch import ARCHES
from kgen.spec.moe_gemm_w4a16 import BLOCK_SIZES, MoeGemmW4A16Spec
from kgen.spec.problem import MoeGemmShape, MoeUpShape, W4Shape, ceil_div
from kgen.spec.registry import spec_from_name
from kgen.spec.route import ROUTES, MoeRoute
from kgen.spec.sets import load_set

SHAPE = MoeGemmShape(768, 64, 2048, 128, False, True, experts=128, top_k=8, tokens=512, blocks=190)


LDS = dict(PreDequantToLDS=True, DoubleBuffer=True)


def spec(**more) -> MoeGemmW4A16Spec:
    return MoeGemmW4A16Spec.checked(
        dict(arch="gfx1151", dtype="bf16", BLOCK_N=64, BLOCK_M=128, THRDS=32, WAVES_N=2, SILU=True, **LDS) | more
    )


@pytest.mark.parametrize("arch", sorted(ARCHES))
def test_what_is_executed_on_every_change_holds_every_value(arch):
    specs = [*load_set("parameters", [arch], ["moe_gemm_w4a16"]), *load_table("moe_gemm_w4a16", arch).specs.values()]
    for field in ("dtype", *MoeGemmW4A16Spec.parameters()):
        extra = MoeGemmW4A16Spec.model_fields[field].json_schema_extra
        among = set(extra["among"]) if isinstance(extra, dict) and extra.get("among") else {False, True}
        wanted = {"THRDS": {ARCHES[arch].wave}, "dtype": {"bf16", "fp16"}}.get(field, among)
        missing = wanted - {getattr(one, field) for one in specs}
        assert not missing, f"{field}: {missing}"


@pytest.mark.parametrize("arch", sorted(ARCHES))
def test_the_set_numbers_has_every_way_that_numbers_are_made(arch):
    found = {
        (s.dtype, s.ScaleBlockK, s.HAS_ZP, s.SUBTRACT, s.TruncateBf16Round, s.PreDequantToLDS, s.SILU)
        for s in load_set("numbers", [arch], ["moe_gemm_w4a16"])
    }
    yes_no = (False, True)
    every = product(("bf16", "fp16"), (32, 64, 128), yes_no, ("integer", "float"), yes_no, yes_no, yes_no)
    assert found == {way for way in every if way[0] == "bf16" or not way[4]}


@pytest.mark.parametrize("arch", sorted(ARCHES))
def test_a_block_size_is_shared_by_both_gemms_of_a_layer(arch):
    table = load_table("moe_gemm_w4a16", arch).specs.values()
    up, down = (
        {(s.dtype, s.BLOCK_N, s.ScaleBlockK, s.HAS_ZP) for s in table if s.SILU is silu} for silu in (True, False)
    )
    assert up == down == set(product(("bf16", "fp16"), BLOCK_SIZES, (32, 64, 128), (False, True)))


def test_names_parse_back():
    plain = dict(PreDequantToLDS=False, DoubleBuffer=False)
    for one in (spec(), spec(HAS_ZP=True, SILU=False), spec(arch="sm_90", TruncateBf16Round=True), spec(**plain)):
        assert spec_from_name(one.name, one.arch) == one


@pytest.mark.parametrize("more", [{}, dict(SILU=False), dict(arch="sm_90", BLOCK_N=128, BLOCK_K=64, WvPrGrp=8)])
def test_the_grid_and_lds_are_what_their_expressions_say(more):
    one = spec(**more)
    for M, blocks in ((768, 190), (37, 3), (100_000, 1)):
        shape = replace(SHAPE, M=M, N=one.BLOCK_N, blocks=blocks, SILU=one.SILU)
        launch = one.launch(shape, 7)
        names = {"ceil_div": ceil_div, "M": M, "blocks": blocks}
        assert launch.grid == (eval(one.grid_expr, {"__builtins__": {}}, names), 1, 1)
        assert launch.lds_bytes == int(one.lds_expr)
        assert launch.block == (one.threads, 1, 1)
        assert launch.early is (one.arch == "sm_90")
    assert one.static_lds + int(one.lds_expr) == one.tile_lds


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (dict(BLOCK_M=64, WAVES_N=1), "an even number with SILU"),
        (dict(BLOCK_N=48), "one of 16, 32, 64, 128"),
        (dict(THRDS=64), "the wave of gfx1151"),
        (dict(dtype="fp16", TruncateBf16Round=True), "bf16 alone"),
        (dict(WAVES_N=8), "whole tiles of 16"),
        (dict(BLOCK_N=128, BLOCK_M=256, WvPrGrp=4), "registers per lane"),
        (dict(K_SPLIT=2), "no such parameter"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(values, words):
    with pytest.raises(SpecError, match=words):
        spec(**values)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({}, None),
        (dict(N=32), "N"),
        (dict(GROUP_SIZE=32), "GROUP_SIZE"),
        (dict(SILU=False), "SILU"),
        (dict(K=2000), "K"),
        (dict(M=0), "M"),
        (dict(M=1 << 21, K=1024), "M"),
        (dict(tokens=1 << 20, blocks=1 << 18), "M"),
        (dict(blocks=1 << 28), "M"),
        (dict(tokens=8192, blocks=1200), None),
    ],
)
def test_what_fits_is_said_by_the_spec(change, field):
    problem = spec().fits(replace(SHAPE, **change))
    assert (problem.fields[0] if problem else None) == field


def test_traits_are_looked_up_in_the_order_of_the_shape():
    assert list(SHAPE.traits) == list(MoeGemmW4A16Spec.traits) == ["GROUP_SIZE", "HAS_ZP", "SILU"]


def test_too_few_blocks_are_no_problem_that_can_be():
    assert SHAPE.refusal is None
    assert replace(SHAPE, blocks=63).refusal is not None


def test_a_route_asks_the_family_that_a_row_names():
    route, asked = ROUTES["moe_w4a16"], W4Shape(768, 512, 2048, 32, True)
    assert route.answer("moe_gemm_w4a16 N=64", asked) == ("moe_gemm_w4a16", MoeGemmShape(768, 64, 2048, 32, True, True))
    assert route.answer("moe_wvsplitk_int4", asked) == (
        "moe_wvsplitk_int4",
        MoeUpShape(768, 1, 2048, 32, True, True, True),
    )
    assert [MoeRoute.rows(slots, experts) for slots, experts in ((8, 128), (4096, 128), (2, 8), (1, 300))] == [
        1,
        512,
        4,
        1,
    ]


@pytest.mark.parametrize("arch", sorted(ARCHES))
def test_a_token_goes_to_the_decode_kernels_and_a_prompt_to_large_blocks(arch):
    uses = [row.use for row in load_table("moe_w4a16", arch).rows if row.family]
    assert uses[0] == "moe_wvsplitk_int4"
    blocks = [int(use.removeprefix("moe_gemm_w4a16 N=")) for use in uses[1:]]
    assert blocks == sorted(blocks)
    assert len(blocks) > 1
