"""gemm_4bit: names, rules, sizes, passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgen.errors import SpecError
from kgen.spec.arch import ARCHES
from kgen.spec.codes4 import NUMBERS, TERMS_SCALE_LOG2, terms_bits
from kgen.spec.gemm_4bit import BLOCKSIZES, ROWS, Gemm4BitSpec
from kgen.spec.problem import Code4Shape, GemmShape
from kgen.spec.registry import spec_from_name
from kgen.spec.sets import load_set

PLAIN: dict[str, Any] = {"arch": "gfx1151", "dtype": "bf16", "N": 8, "THRDS": 32}
MATRIX = PLAIN | {"arch": "gfx942", "THRDS": 64, "YTILE": 16, "WvPrGrp": 8}
PAGES = PLAIN | {
    "arch": "sm_90",
    "N": 1,
    "YTILE": 16,
    "A_CHUNK": 16,
    "TABLE": "pages",
    "COPIES": 32,
    "STAGING": "global",
}
PARTS = PAGES | {"YTILE": 8, "WvPrGrp": 8, "UNRL": 1, "K_PARTS": 8, "AHEAD": True}
TERMS = PAGES | {"dtype": "fp32", "N": 8, "UNRL": 1, "COPIES": 16, "ABSMAX": None, "TERMS": 2}
SINGLE = PLAIN | {"dtype": "fp32", "N": 1, "TABLE": "lds", "COPIES": 1}

specs = st.builds(
    lambda arch, **values: Gemm4BitSpec(arch=arch, THRDS=ARCHES[arch].wave, **values),
    arch=st.sampled_from(sorted(ARCHES)),
    dtype=st.sampled_from(("bf16", "fp16", "fp32")),
    N=st.sampled_from(ROWS),
    YTILE=st.sampled_from((1, 2, 16)),
    WvPrGrp=st.sampled_from((1, 4, 16)),
    K_WAVES=st.sampled_from((1, 4)),
    A_CHUNK=st.sampled_from((8, 16, 32)),
    UNRL=st.sampled_from((1, 2)),
    GROUP_SIZE=st.sampled_from((32, 64, 128)),
    FP4=st.booleans(),
    NESTED=st.booleans(),
    TABLE=st.sampled_from(("perm", "lds", "pages")),
    COPIES=st.sampled_from((None, 1, 8, 32)),
    STAGING=st.sampled_from(("lds", "window", "global", "wave", "columns")),
    SKEW=st.sampled_from((None, 1)),
    K_PARTS=st.sampled_from((None, 8)),
    AHEAD=st.booleans(),
    TERMS=st.sampled_from((None, 2)),
)


@given(specs)
def test_a_name_parses_back(spec):
    if spec.problems():
        with pytest.raises(SpecError):
            Gemm4BitSpec.from_name(spec.name, spec.arch)
    else:
        assert spec_from_name(spec.name, spec.arch) == spec


def test_the_parameters_set_holds_every_value_of_every_parameter_somewhere():
    every = [spec for arch in ARCHES for spec in load_set("parameters", [arch], families=["gemm_4bit"])]
    for field in Gemm4BitSpec.parameters():
        extra = Gemm4BitSpec.model_fields[field].json_schema_extra
        wanted = set(extra["among"]) if isinstance(extra, dict) and extra.get("among") else {False, True}
        left = {"K_WAVES": {32}, "UNRL": {8}, "GrpsPerCU": {3, 6, 8}}.get(field, set())  # more of the same
        if field not in ("WvPrGrp", "SKEW"):
            assert wanted - left <= {getattr(spec, field) for spec in every}, field


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        (PLAIN | {"N": 16}, {"N"}),
        (PLAIN | {"COPIES": 4}, {"COPIES", "TABLE"}),
        (PLAIN | {"TABLE": "lds"}, {"COPIES", "TABLE"}),
        (SINGLE | {"TABLE": "perm", "COPIES": None}, {"TABLE"}),
        (PLAIN | {"STAGING": "window", "SKEW": 1}, {"SKEW", "STAGING"}),
        (PLAIN | {"STAGING": "wave"}, {"STAGING"}),
        (PAGES | {"COPIES": 8}, {"COPIES", "TABLE"}),
        (PAGES | {"arch": "gfx950", "THRDS": 64}, {"TABLE"}),
        (PAGES | {"GrpsPerCU": 4}, {"GrpsPerCU", "TABLE"}),
        (PAGES | {"STAGING": "columns", "N": 3}, {"STAGING", "N"}),
        (PAGES | {"STAGING": "columns", "A_CHUNK": 8}, {"A_CHUNK"}),
        (PAGES | {"STAGING": "columns", "UNRL": 1, "ABSMAX": 1}, {"ABSMAX", "UNRL"}),
        (PAGES | {"STAGING": "columns", "UNRL": 4, "ABSMAX": 4}, {"ABSMAX", "STAGING"}),
        (MATRIX | {"STAGING": "columns"}, {"STAGING"}),
        (PAGES | {"ABSMAX": 1}, {"ABSMAX", "STAGING"}),
        (PAGES | {"A_CHUNK": 8, "UNRL": 4, "ABSMAX": 4}, {"ABSMAX", "A_CHUNK"}),
        (PARTS | {"N": 2}, {"K_PARTS", "N"}),
        (PARTS | {"YTILE": 6}, {"K_PARTS", "YTILE"}),
        (PARTS | {"A_CHUNK": 32}, {"A_CHUNK", "GROUP_SIZE"}),
        (PARTS | {"STAGING": "lds"}, {"K_PARTS", "STAGING"}),
        (PARTS | {"dtype": "fp32", "COPIES": 16}, {"K_PARTS"}),
        (PARTS | {"ABSMAX": 1}, {"ABSMAX"}),
        (MATRIX | {"YTILE": 8, "K_PARTS": 8, "STAGING": "global"}, {"K_PARTS"}),
        (PAGES | {"AHEAD": True}, {"AHEAD", "K_PARTS"}),
        (PLAIN | {"AHEAD": True}, {"AHEAD"}),
        (SINGLE | {"arch": "sm_90", "STAGING": "window", "AHEAD": True}, {"AHEAD", "STAGING"}),
        (TERMS | {"dtype": "bf16", "N": 4}, {"TERMS", "dtype"}),
        (TERMS | {"COPIES": 8}, {"COPIES", "TABLE"}),
        (TERMS | {"STAGING": "wave"}, {"TERMS", "STAGING"}),
        (TERMS | {"AHEAD": True}, {"AHEAD"}),
        (TERMS | {"YTILE": 8}, {"YTILE"}),
        (SINGLE | {"STAGING": "global", "TERMS": 2}, {"TERMS"}),
        (MATRIX | {"YTILE": 8}, {"YTILE"}),
        (MATRIX | {"K_WAVES": 16}, {"K_WAVES", "WvPrGrp"}),
    ],
)
def test_rules_name_their_fields(values, fields):
    found = {field for problem in Gemm4BitSpec.problems_of(values) for field in problem.fields}
    assert fields <= found


def test_terms_make_three_products_and_are_counted_in_what_a_sum_loses():
    spec = Gemm4BitSpec.checked(TERMS)
    one = Gemm4BitSpec.checked(PAGES | {"N": 8, "UNRL": 1, "ABSMAX": None, "STAGING": "global"})
    assert spec.matrix
    assert spec.multiplies_per_step == 3 * one.multiplies_per_step
    # Four for what terms are off by and the product that is left out, one for the additions of a sum that is 2^-10 of the other, and that one's.
    assert spec.group_additions == one.group_additions + 4 + 1 + 1


@pytest.mark.parametrize("code", ["nf4", "fp4"])
def test_two_terms_in_fp16_are_a_number_to_two_to_the_minus_23(code):
    numbers = np.array(terms_bits(code), np.uint32).view(np.float32)
    assert (numbers == np.float32(2.0**TERMS_SCALE_LOG2) * np.array(NUMBERS[code], np.float32)).all()
    first = numbers.astype(np.float16)
    second = (numbers - first.astype(np.float32)).astype(np.float16)
    error = np.abs(first.astype(np.float64) + second.astype(np.float64) - numbers)
    assert (error <= 2.0**-23 * np.abs(numbers)).all()
    assert (np.abs(second)[second != 0] >= np.finfo(np.float16).smallest_normal).all()


@pytest.mark.parametrize(("chunk", "slab"), [(8, 256), (16, 512)])
def test_parts_of_k_are_whole_slabs(chunk, slab):
    spec = Gemm4BitSpec.checked(PARTS | {"A_CHUNK": chunk})
    assert spec.fits(GemmShape(4096, 1, 21 * slab)) is None
    problem = spec.fits(GemmShape(4096, 1, 21 * slab + slab // 2))
    assert problem is not None
    assert problem.fields == ("K",)
    assert problem.allowed == f"a multiple of {slab}: parts of a row are whole slabs together"


def test_more_rows_than_a_pass_holds_take_more_groups():
    spec = Gemm4BitSpec.checked(PLAIN | {"STAGING": "window"})
    one, three = (spec.launch(GemmShape(4096, n, 4096), cu=20).grid[0] for n in (8, 17))
    assert three == 3 * one
    assert spec.fits(GemmShape(64, 64, 256)) is None
    assert spec.fits(GemmShape(64, 65, 256)).fields == ("N",)


def test_waves_that_share_k_make_a_share_of_its_trips():
    alone, shared = (Gemm4BitSpec.checked(MATRIX | {"UNRL": 2, "K_WAVES": k}) for k in (1, 8))
    shape = Code4Shape(64, 1, 4096 + 64)
    assert alone.step == 256
    assert (alone.wave_trips(shape), shared.wave_trips(shape)) == (17, 3)


def test_a_paged_table_is_given_at_launch_and_bounds_the_groups_of_a_cu():
    """64 KiB of it, in front of what is staged; NVIDIA lets a kernel declare 48 KiB."""
    shape = GemmShape(4096, 1, 4096)
    spec = Gemm4BitSpec.checked(PAGES)
    lds = Gemm4BitSpec.checked(PAGES | {"TABLE": "lds"})
    assert spec.dynamic_lds(shape) == int(spec.lds_expr) == 64 * 1024
    assert spec.static_lds == lds.static_lds - lds.table_bytes
    staged = Gemm4BitSpec.checked(PAGES | {"STAGING": "lds"})
    assert staged.launch(shape, cu=132).lds_bytes == 64 * 1024 + 2 * 4096
    assert Gemm4BitSpec.checked(PAGES | {"WvPrGrp": 4}).groups_per_cu == 3  # LDS has no room for four
    assert Gemm4BitSpec.checked(PAGES | {"WvPrGrp": 16}).groups_per_cu == 1


@pytest.mark.parametrize("group", [32, 64, 128])
def test_a_kernel_takes_blocks_of_whole_groups(group):
    spec = Gemm4BitSpec.checked(PLAIN | {"GROUP_SIZE": group})
    for block in BLOCKSIZES:
        shape = Code4Shape(64, 1, 4096, min(block, 128))
        assert (spec.fits(shape) is None) == (block % group == 0)
    assert spec.fits(Code4Shape(64, 1, 4096 + group // 2, 128)).fields == ("K",)


def test_a_kernel_is_for_one_code_and_one_kind_of_absmax():
    spec = Gemm4BitSpec.checked(PLAIN)
    assert spec.fits(Code4Shape(64, 1, 256, 64, FP4=True)).fields == ("FP4",)
    assert spec.fits(Code4Shape(64, 1, 256, 64, NESTED=True)).fields == ("NESTED",)


def test_blocks_are_counted_in_30_bits():
    spec = Gemm4BitSpec.checked(PLAIN | {"STAGING": "window"})
    assert spec.fits(GemmShape(1 << 20, 1, 1 << 16)).fields == ("M", "K")
    assert spec.fits(GemmShape(1 << 20, 1, (1 << 16) - 64)) is None


def test_dtypes_are_the_familys():
    assert Gemm4BitSpec.dtypes() == ("bf16", "fp16", "fp32")
    assert spec_from_name("llmm1_bf16_THRDS32_ROWS_PER_BLOCK4_WvPrGrp4_UNRL2", "gfx1151").dtypes() == ("bf16", "fp16")
