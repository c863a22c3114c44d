"""Cases are deterministic, fit their kernel, and reach every loop of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kgen.spec.problem import GemmShape, ceil_div
from kgen.spec.sets import load_set
from kgen.spec.wvsplitk import WvSplitKSpec
from kgen.verify.cases import Case, cases
from kgen.verify.dense import operands, other_rows
from kgen.verify.elements import POISON, from_bits

SPECS = [spec for spec in load_set("parameters", ["gfx1151", "gfx942"]) if isinstance(spec, WvSplitKSpec)]
FP8 = load_set("parameters", ["gfx1201", "gfx942"], families=["wvsplitkq"])
CASE = Case("example", GemmShape(5, 3, 24), bias="NM", weight_pad=8, act_pad=16, bias_pad=3, seed=9)


@pytest.mark.parametrize("level", ["quick", "full"])
def test_every_case_fits_its_kernel_and_comes_once(level):
    for spec in [*SPECS, *FP8]:
        found = cases(spec, level)
        assert len(set(found)) == len(found)
        assert not [case for case in found if spec.fits(case.shape)]


def test_full_holds_quick():
    for spec in [*SPECS, *FP8]:
        assert set(cases(spec, "quick")) <= set(cases(spec, "full"))


def test_the_first_quick_case_walks_over_more_tiles_than_groups_and_has_one_bias_for_all_rows():
    for spec in SPECS:
        walk = cases(spec)[0]
        tiles = ceil_div(walk.shape.M, spec.rows_per_group)
        groups = spec.launch(walk.shape, walk.cu).grid[0]
        assert (tiles > groups) is spec.persistent, spec.name
        assert walk.shape.M % spec.rows_per_group or spec.rows_per_group == 1
        assert walk.bias == "M"


def test_quick_cases_reach_every_loop_of_a_kernel_whose_k_is_free():
    for spec in [*(spec for spec in SPECS if spec.K is None), *FP8]:
        ks = [case.shape.K for case in cases(spec)]
        assert any(k >= spec.step and k % spec.step for k in ks), f"{spec.name}: main loop with a remainder"
        assert any(k % spec.slab for k in ks), f"{spec.name}: part of a slab"
        assert any(k < spec.slab for k in ks), f"{spec.name}: remainder alone"
        if spec.window is not None:
            assert any(k > spec.window for k in ks), f"{spec.name}: more than one window"
        if spec.shared_step is not None:
            assert any(k > spec.shared_step + spec.step for k in ks), f"{spec.name}: two trips of a wave, one of others"


def test_quick_cases_have_all_forms_of_bias_and_data():
    for spec in [*SPECS, *FP8]:
        found = cases(spec)
        assert {case.bias for case in found} == {"none", "M", "NM"}
        assert {case.values for case in found} == {"normal", "hot", "sparse", "zeros", "nan"}
        assert any(case.shape.M == 1 for case in found)


def test_some_case_of_every_kernel_is_large_enough_for_the_mean_rule():
    for spec in [*SPECS, *FP8]:
        assert any(case.shape.M * case.shape.N >= 512 for case in cases(spec))


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_data_depends_on_the_case_alone_and_not_on_padding(dtype):
    first, again = operands(CASE, dtype), operands(CASE, dtype)
    assert (first.weight == again.weight).all()
    bare = operands(replace(CASE, weight_pad=0, act_pad=0, bias_pad=0, cu=7), dtype)
    assert (bare.reference == first.reference).all()
    assert (bare.weight.reshape(5, 24) == _rows(first.weight, 5, 24, first.weight_stride)).all()


def test_padding_is_nan_and_buffers_end_with_the_last_element():
    data = operands(CASE, "bf16")
    assert data.weight.size == 4 * data.weight_stride + 24
    assert data.act.size == 2 * data.act_stride + 24
    assert data.bias is not None
    assert data.bias.size == 2 * data.bias_stride + 5
    assert (data.weight[24:32] == POISON).all()
    assert (data.act[24:40] == POISON).all()
    assert (data.bias[5:8] == POISON).all()


def test_a_nan_lies_in_one_activation_row_and_shows_in_that_output_row():
    data = operands(replace(CASE, values="nan"), "fp16")
    bad = np.isnan(data.reference).all(axis=1)
    assert bad.sum() == 1
    assert np.isfinite(data.reference[~bad]).all()


def test_zero_activations_leave_the_bias_exactly():
    data = operands(replace(CASE, values="zeros"), "bf16")
    assert data.expected is not None
    assert (from_bits(np.ascontiguousarray(data.expected), "bf16") == data.reference).all()


def test_other_rows_keep_only_the_last_row_and_move_it_to_the_front():
    case = replace(CASE, bias="M", act_pad=16)
    data = operands(case, "bf16")
    moved = _rows(other_rows(case, data).act, 3, 24, data.act_stride)
    before = _rows(data.act, 3, 24, data.act_stride)
    assert (moved[0] == before[2]).all()
    assert not (moved[1:] == before[:2]).all(axis=1).any()


@pytest.mark.parametrize("element", ["e4m3fn", "e4m3fnuz"])
def test_fp8_operands_have_scales_that_the_reference_knows(element):
    data = operands(CASE, "bf16", element)
    assert data.weight.dtype == data.act.dtype == np.uint8
    act = from_bits(_rows(data.act, 3, 24, data.act_stride), element)
    weight = from_bits(_rows(data.weight, 5, 24, data.weight_stride), element)
    bias = from_bits(_rows(data.bias, 3, 5, data.bias_stride), "bf16")
    assert (data.weight_scale, data.act_scale) != (1.0, 1.0)
    assert (data.reference == (act @ weight.T) * (data.weight_scale * data.act_scale) + bias).all()
    assert np.float32(data.weight_scale) * np.float32(data.act_scale) == data.weight_scale * data.act_scale


@pytest.mark.parametrize("element", ["e4m3fn", "e4m3fnuz"])
def test_fp8_padding_is_nan_and_a_nan_lies_in_one_row(element):
    data = operands(replace(CASE, values="nan"), "fp16", element)
    assert np.isnan(from_bits(data.weight[24:32], element)).all()
    assert np.isnan(from_bits(data.act[24:40], element)).all()
    assert np.isnan(data.reference).all(axis=1).sum() == 1
    assert np.isnan(data.reference).any(axis=1).sum() == 1


def test_other_rows_of_fp8_keep_only_the_last_row_and_move_it_to_the_front():
    for element in ("e4m3fn", "e4m3fnuz"):
        data = operands(replace(CASE, bias="M"), "bf16", element)
        moved = _rows(other_rows(replace(CASE, bias="M"), data).act, 3, 24, data.act_stride)
        before = _rows(data.act, 3, 24, data.act_stride)
        assert (moved[0] == before[2]).all()
        assert np.isfinite(from_bits(moved, element)).all()
        assert not (moved[1:] == before[:2]).all(axis=1).any()


def _rows(flat, rows, columns, stride):
    """The [rows, columns] part of a padded buffer."""
    return np.stack([flat[row * stride : row * stride + columns] for row in range(rows)])
