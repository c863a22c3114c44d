"""Data of cases for dequantize_w4a16 is what the packers and torch say, and its checks catch kernels that are wrong in the ways they can be."""

from __future__ import annotations

import numpy as np
import pytest

from kgen.spec.dequantize_w4a16 import QUAD_K, DequantizeW4A16Spec
from kgen.verify.dequantize import dequantize_cases, dequantize_operands

BASE = dict(arch="gfx1151", THRDS=32, WvPrGrp=1, UNRL=2)
SMALL = DequantizeW4A16Spec.checked(BASE | dict(dtype="bf16", GROUP_SIZE=32, HAS_ZP=True))
WHOLE = DequantizeW4A16Spec.checked(BASE | dict(dtype="fp16", GROUP_SIZE=128))


@pytest.mark.hipcc
@pytest.mark.parametrize("spec", [SMALL, WHOLE], ids=["small", "whole"])
def test_good_kernels_have_no_failures(spec, failures):
    assert not failures(spec)


@pytest.mark.hipcc
@pytest.mark.parametrize(
    ("spec", "old", "new", "case", "why"),
    [
        (SMALL, "static_cast<u64>(row[u]) * code_stride", "static_cast<u64>(row[u]) * (K / 8)", "groups", "differ"),
        (SMALL, "static_cast<u64>(row[u]) * scale_stride", "0", "groups", "differ"),
        (SMALL, "static_cast<u64>(row[u] / 8) * zero_stride", "0", "groups", "differ"),
        (SMALL, "row[u] % 8 * 4", "row[u] % 4 * 4", "groups", "differ"),
        (SMALL, "k0[u] + part * CHUNK < K ?", "true ?", "one group", "invalid read"),
        (SMALL, "k0[u] + g * GROUP_SIZE < K ?", "true ?", "one group", "invalid read"),
        (SMALL, "if (k < K) store16", "store16", "one group", "invalid write"),
        (SMALL, "pack_nearest(low, high", "pack_truncated(low, high", "groups", "differ"),
        (SMALL, "exchange(pieces[u].words);", "", "groups", "differ"),
        (SMALL, "groups[j * CHUNK / GROUP_SIZE]", "groups[0]", "groups", "differ"),
        (WHOLE, "first + u * QUADS < all ?", "true ?", "one group", "invalid read"),
        (WHOLE, "part * sizeof(u32x4), u32x4{", "0, u32x4{", "groups", "differ"),
        (WHOLE, "0x64006400u + z * 0x00010001u", "0x64006400u", "groups", "differ"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_broken_kernels_are_caught(spec, old, new, case, why, failures):
    found = failures(spec, old, new)
    assert case in found, found
    assert why in found[case]


@pytest.mark.hipcc
def test_a_product_that_is_formed_otherwise_overflows(failures):
    """q * scale - z * scale by one multiply-add, as in gemm_w4a16: exact for weights that anyone has, but not for the largest scales."""
    spec = SMALL
    old = "(byte_f32(codes[p % 2], p / 2) - group.zero) * group.scale"
    new = "mul_add(byte_f32(codes[p % 2], p / 2), group.scale, -group.zero * group.scale)"
    assert set(failures(spec, old, new)) == {"extreme"}


def test_the_cases_hold_what_they_are_for():
    for spec in (SMALL, WHOLE):
        cases = {case.words: case for case in dequantize_cases(spec, full=False)}
        assert spec.pieces(cases["groups"].shape) > 2 * spec.quads
        assert spec.pieces(cases["groups"].shape) % spec.quads
        assert cases["groups"].weight_pad
        assert cases["one group"].shape.K == spec.GROUP_SIZE
        assert (cases["groups"].shape.K % QUAD_K != 0) is (spec.GROUP_SIZE < QUAD_K)
        data = dequantize_operands(spec, cases["extreme"])
        exponent = data.expected >> (7 if spec.dtype == "bf16" else 10) & (0xFF if spec.dtype == "bf16" else 0x1F)
        infinite = 0xFF if spec.dtype == "bf16" else 0x1F
        assert ((exponent == 0) & (data.expected & 0x7F != 0)).any(), "numbers below the normal ones"
        assert (exponent == infinite).any(), "and those above all"
        assert len(dequantize_cases(spec, full=True)) > len(cases)


@pytest.mark.parametrize("spec", [SMALL, WHOLE], ids=["small", "whole"])
def test_what_must_come_out_is_what_torch_makes_of_the_same_words(spec):
    torch = pytest.importorskip("torch")
    from kgen.ops.reference import int4_weight

    for case in dequantize_cases(spec, full=False):
        data, (M, K) = dequantize_operands(spec, case), (case.shape.M, case.shape.K)
        groups, kind = K // spec.GROUP_SIZE, torch.bfloat16 if spec.dtype == "bf16" else torch.float16

        def rows(array, count, width, stride):
            whole = np.zeros(count * stride, array.dtype)
            whole[: array.size] = array
            return torch.from_numpy(whole.reshape(count, stride)[:, :width].copy().view(f"i{array.itemsize}"))

        codes = rows(data.codes, M, K // 8, data.strides["code_stride"])
        scales = rows(data.scales, M, groups, data.strides["scale_stride"]).view(kind)
        zeros = None if data.zeros is None else rows(data.zeros, -(-M // 8), groups, data.strides["zero_stride"])
        wanted = int4_weight(codes, scales, zeros, kind).view(torch.int16).numpy().view(np.uint16)
        assert np.array_equal(data.expected & 0x7FFF, wanted & 0x7FFF)  # the sign of zero is the ops' test's
