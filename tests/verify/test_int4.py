"""Data of int4 cases: the same layout as the packers', and a reference that is the weights' definition."""

from __future__ import annotations

import numpy as np
import pytest

from kgen.spec.gemm_w4a16 import GemmW4A16Spec
from kgen.spec.problem import W4Shape
from kgen.spec.wvsplitk_int4 import WvSplitKInt4Spec
from kgen.verify.cases import Case, accumulation
from kgen.verify.elements import from_bits, to_bits
from kgen.verify.int4 import act_sizes, int4_operands, pack_codes, pack_zeros, tile_values

SPEC = WvSplitKInt4Spec(arch="gfx1151", dtype="bf16", N=2, THRDS=32, YTILE=1, UNRL=1, GROUP_SIZE=32, HAS_ZP=True)
CASE = Case("here", W4Shape(11, 2, 96, 32, True), weight_pad=64, act_pad=8, bias="M", seed=3)


def unpacked(words, codes):
    """Codes [rows, codes] from words, by the layout's definition."""
    value = np.arange(codes)
    shift = 4 * (value % 8 // 2) + 16 * (value % 2)
    return words[:, value // 8] >> shift & 15


def test_codes_lie_in_shuffled_order():
    codes = np.arange(16).reshape(1, 16) % 16
    assert [f"{word:08x}" for word in pack_codes(codes)[0]] == ["75316420", "fdb9eca8"]


def test_the_packers_make_the_same_words():
    torch = pytest.importorskip("torch")
    from kgen.ops.pack import pack_uint4

    rng = np.random.default_rng(1)
    codes, zeros = rng.integers(0, 16, (13, 256)).astype(np.uint8), rng.integers(0, 16, (13, 4)).astype(np.uint8)
    packed = pack_uint4(torch.from_numpy(codes), torch.ones(13, 4, dtype=torch.float16), torch.from_numpy(zeros))
    assert np.array_equal(packed.weight.numpy().view(np.uint32), pack_codes(codes))
    assert np.array_equal(packed.zeros.numpy().view(np.uint32), pack_zeros(zeros))


def test_the_reference_is_the_sum_over_dequantised_weights():
    data = int4_operands(SPEC, CASE)
    words = np.zeros((11, data.weight_stride), np.uint32)
    words.reshape(-1)[: data.weight.size] = data.weight
    codes = unpacked(words, 96).astype(int)
    zero_words = np.zeros((2, data.zero_stride), np.uint32)
    zero_words.reshape(-1)[: data.zeros.size] = data.zeros
    scales = np.zeros((11, data.scale_stride), np.uint16)
    scales.reshape(-1)[: data.scales.size] = data.scales
    act = np.zeros((2, data.act_stride), np.uint16)
    act.reshape(-1)[: data.act.size] = data.act
    wanted = np.zeros((2, 11))
    for n in range(2):
        for m in range(11):
            for k in range(96):
                zero = int(zero_words[m // 8, k // 32] >> 4 * (m % 8) & 15)
                scale = from_bits(scales[m, k // 32 : k // 32 + 1], "bf16")[0]
                wanted[n, m] += from_bits(act[n, k : k + 1], "bf16")[0] * (codes[m, k] - zero) * scale
    wanted += from_bits(data.bias, "bf16")
    assert np.allclose(data.reference, wanted, rtol=1e-12, atol=1e-12)
    assert (data.magnitude >= np.abs(data.reference)).all()


def test_paddings_change_no_value():
    from dataclasses import replace

    bare = int4_operands(SPEC, replace(CASE, weight_pad=0, act_pad=0, bias_pad=0))
    assert np.array_equal(bare.reference, int4_operands(SPEC, CASE).reference)
    assert bare.weight_stride == 12
    assert bare.zero_stride == 3


def test_the_offset_codes_weigh_more_than_the_weights():
    plain = int4_operands(SPEC, CASE).magnitude
    offset = int4_operands(SPEC.model_copy(update={"DEQUANT": "actsum"}), CASE).magnitude
    assert (offset > 10 * plain - 60).all()
    assert (offset > plain).all()


def test_the_tolerance_of_digits_covers_activations_rounded_to_whole_numbers():
    """What the kernel makes of activations (templates/w4/digits.h.jinja), here in fp64, is off by no more than `act_sizes` allows for."""
    spec = WvSplitKInt4Spec(arch="sm_90", dtype="bf16", YTILE=16, DEQUANT="digits", STAGING="wave")
    rng = np.random.default_rng(3)
    act = from_bits(to_bits(rng.standard_normal((64, 256)) * 2.0 ** rng.integers(-40, 40, (64, 256)), "bf16"), "bf16")
    slabs = act.reshape(64, -1, spec.slab)
    step = 2.0 ** (np.floor(np.log2(np.abs(slabs).max(axis=-1, keepdims=True))) - 20)
    whole = np.rint(slabs / step)
    assert (np.abs(whole) < 2**21).all()
    assert (np.abs(whole).max(axis=-1) >= 2**20).all()
    error = np.abs(whole * step - slabs).reshape(act.shape)
    model = accumulation(spec, spec.shape_of(64, 1, 256))
    assert model.depth >= spec.DIGIT_COLUMNS
    assert (error <= model.depth * model.unit * (act_sizes(spec, act) - np.abs(act))).all()
    assert (error > 0).any()
    assert np.array_equal(act_sizes(SPEC, act), np.abs(act))


@pytest.mark.parametrize(("dtype", "mantissa"), [("bf16", 7), ("fp16", 10)])
def test_the_tolerance_of_digits_in_two_bytes_covers_them_and_both_digits_are_bytes(dtype, mantissa):
    """The same for templates/w4/lanes.h.jinja, whose largest number must leave room for the carry of the lower digit."""
    spec = WvSplitKInt4Spec(arch="sm_90", dtype=dtype, YTILE=16, DEQUANT="digits2", STAGING="wave")
    rng = np.random.default_rng(3)
    patterns = (1 << mantissa) + np.arange(1 << mantissa)  # every mantissa is the largest of some part
    act = rng.standard_normal((len(patterns), 128)) * rng.choice((1e-4, 0.1), (len(patterns), 1))
    act = from_bits(to_bits(act, dtype), dtype)
    act[:, 5] = patterns / (1 << mantissa) * rng.choice((-1, 1), len(patterns))
    largest = np.abs(act).max(axis=-1, keepdims=True)
    bumped = largest * (1 + 2.0**-8 * (patterns[:, None] % (1 << mantissa) >= (1 << mantissa) - (1 << mantissa - 7)))
    step = 2.0 ** (np.floor(np.log2(bumped)) - 14)
    whole = np.rint(act / step).astype(int)
    lower = (whole + 128) % 256 - 128
    upper = (whole - lower) // 256
    assert -128 <= lower.min()
    assert lower.max() <= 127
    assert -128 <= upper.min()
    assert 126 <= upper.max() <= 127
    error = np.abs(whole * step - act)
    model = accumulation(spec, spec.shape_of(64, 1, 512))
    assert model.depth >= 4
    assert (error <= model.depth * model.unit * (act_sizes(spec, act) - np.abs(act))).all()
    assert (error > 2.0**-17 * largest).any()


def test_weights_of_tiles_are_rounded_once_or_cut_off():
    """bf16 has 8 bits: 1 + 2^-8 lies half way and goes to the even neighbour, 1 + 3 * 2^-8 to the other; cut off, both fall."""
    values = np.array([1 + 2**-8, 1 + 3 * 2**-8, -(1 + 3 * 2**-8), 1 + 2**-8 + 2**-12, 0.0])
    assert tile_values(values, "bf16", False).tolist() == [1.0, 1 + 2**-6, -(1 + 2**-6), 1 + 2**-7, 0.0]
    assert tile_values(values, "bf16", True).tolist() == [1.0, 1 + 2**-7, -(1 + 2**-7), 1.0, 0.0]
    assert tile_values(np.array([1 + 2**-11, 1 + 3 * 2**-11]), "fp16", False).tolist() == [1.0, 1 + 2**-9]


def test_the_reference_of_a_tile_kernel_multiplies_those_weights():
    spec = GemmW4A16Spec(arch="gfx1151", dtype="bf16", ScaleBlockK=32, HAS_ZP=True)
    case = Case("", spec.shape_of(5, 3, 64))
    rounded, cut = (
        int4_operands(spec.model_copy(update={"TruncateBf16Round": truncate}), case) for truncate in (False, True)
    )
    exact = int4_operands(WvSplitKInt4Spec(arch="gfx1151", dtype="bf16", GROUP_SIZE=32, HAS_ZP=True), case)
    off = [np.abs(data.reference - exact.reference).max() / exact.magnitude.max() for data in (rounded, cut)]
    assert 0 < off[0] < 2**-9
    assert off[0] < off[1] < 2**-7
