"""Each format: checkpoint tensors -> W4 -> numbers as the format defines them, and W4 -> the checkpoint's own bits."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kgen.errors import PackError
from kgen.ops.pack import (
    dequantise,
    pack_awq,
    pack_compressed_tensors,
    pack_gptq,
    pack_uint4,
    pack_uint4_pairs,
    unpack_awq,
    unpack_compressed_tensors,
    unpack_gptq,
    unpack_uint4,
    unpack_uint4_pairs,
)
from kgen.ops.pack.layout import stack_experts
from tests.ops.pack import naive
from tests.ops.pack.layers import Sizes, awq_layer, compressed_layer, gptq_layer, same_bits, sizes

SIZE = Sizes(16, 2, 64, 5, torch.float16)
ANY_ROWS = st.integers(1, 27)


@given(sizes(), st.booleans(), st.booleans())
def test_awq_is_exact_both_ways(size: Sizes, symmetric: bool, pad: bool):
    tensors = awq_layer(size, symmetric)
    packed = pack_awq(**tensors, pad=pad)
    assert torch.equal(dequantise(packed, torch.float64), naive.awq(**tensors))
    assert same_bits(unpack_awq(packed), tensors)
    assert not symmetric or packed.zeros is None


@given(sizes(), st.booleans(), st.booleans())
def test_gptq_version_2_is_exact_both_ways(size: Sizes, pad: bool, with_g_idx: bool):
    tensors = gptq_layer(size, with_g_idx=with_g_idx)
    packed = pack_gptq(**tensors, version=2, pad=pad)
    zeros = tensors["qzeros"].tolist()
    expected = naive.gptq(tensors["qweight"], tensors["scales"], lambda g, m: naive.nibble(zeros[g][m // 8], m % 8))
    assert torch.equal(dequantise(packed, torch.float64), expected)
    assert same_bits(unpack_gptq(packed, version=2, with_g_idx=with_g_idx), tensors)


@given(sizes(), st.sampled_from(["refuse", "nibble", "word"]), st.integers(0, 3))
def test_gptq_version_1_is_exact_both_ways_where_no_15_is_stored(size: Sizes, wrap, bit: int):
    tensors = gptq_layer(size)
    tensors["qzeros"] &= ~(0x11111111 << bit)  # one bit of four is 0 in every nibble
    packed = pack_gptq(**tensors, version=1, wrap=wrap)
    zeros = tensors["qzeros"].tolist()
    expected = naive.gptq(tensors["qweight"], tensors["scales"], lambda g, m: naive.nibble(zeros[g][m // 8], m % 8) + 1)
    assert torch.equal(dequantise(packed, torch.float64), expected)
    assert same_bits(unpack_gptq(packed, version=1, wrap=wrap), tensors)


@given(sizes(), st.sampled_from(["nibble", "word"]))
def test_gptq_version_1_with_any_bits_is_what_the_caller_says(size: Sizes, wrap):
    tensors = gptq_layer(size)
    zeros = tensors["qzeros"].tolist()

    def zero(g: int, m: int) -> int:
        word = zeros[g][m // 8]
        if wrap == "word":
            return naive.nibble(word + 0x11111111, m % 8)
        return (naive.nibble(word, m % 8) + 1) % 16

    packed = pack_gptq(**tensors, version=1, wrap=wrap)
    expected = naive.gptq(tensors["qweight"], tensors["scales"], zero)
    assert torch.equal(dequantise(packed, torch.float64), expected)
    assert same_bits(unpack_gptq(packed, version=1, wrap=wrap), tensors)


@given(sizes())
def test_word_undoes_what_gptqmodel_does_to_version_2(size: Sizes):
    second = gptq_layer(size)
    first = {**second, "qzeros": second["qzeros"] - 0x11111111}
    one, two = pack_gptq(**first, version=1, wrap="word"), pack_gptq(**second, version=2)
    assert torch.equal(dequantise(one), dequantise(two))


def test_a_stored_15_is_refused_unless_the_caller_says_what_it_means():
    tensors = gptq_layer(SIZE, stored=0x777777F7)
    with pytest.raises(
        PackError, match=r"(?s)qzeros  zero points stored as 15 in version 1.*allowed: 0 to 14.*wrap `word`"
    ):
        pack_gptq(**tensors)
    packed = pack_gptq(**tensors, wrap="nibble")
    with pytest.raises(PackError, match=r"(?s)zero point of 0.*version 2"):
        unpack_gptq(packed, version=1)
    assert [naive.nibble(int(unpack_gptq(packed, version=2)["qzeros"][0, 0]), m) for m in range(8)] == [8, 0] + [8] * 6


@pytest.mark.parametrize(("version", "stored"), [(1, 0x77777777), (2, -0x77777778)])
def test_gptqs_symmetric_zero_points_are_dropped_and_come_back(version, stored: int):
    tensors = gptq_layer(SIZE, stored=stored)
    packed = pack_gptq(**tensors, version=version)
    assert packed.zeros is None
    assert same_bits(unpack_gptq(packed, version=version), tensors)


@pytest.mark.parametrize("other", [0x78777777, 0x77777776])
def test_one_zero_point_that_differs_keeps_them_all(other: int):
    tensors = gptq_layer(SIZE, stored=0x77777777)
    tensors["qzeros"][1, 0] = other
    packed = pack_gptq(**tensors)
    assert packed.zeros is not None
    assert same_bits(unpack_gptq(packed), tensors)


@given(sizes(rows=ANY_ROWS), st.booleans(), st.booleans(), st.sampled_from([torch.int32, torch.int64]))
def test_compressed_tensors_is_exact_both_ways(size: Sizes, zero_point: bool, pad: bool, shape_type: torch.dtype):
    tensors = compressed_layer(size, zero_point)
    tensors["weight_shape"] = tensors["weight_shape"].to(shape_type)
    packed = pack_compressed_tensors(**tensors, pad=pad)
    expected = naive.compressed_tensors(
        tensors["weight_packed"], tensors["weight_scale"], tensors.get("weight_zero_point")
    )
    assert torch.equal(dequantise(packed, torch.float64), expected)
    assert same_bits(unpack_compressed_tensors(packed, zero_point=zero_point, shape_type=shape_type), tensors)


@given(sizes(rows=ANY_ROWS))
def test_zero_points_of_8_are_dropped_and_come_back_when_asked_for(size: Sizes):
    tensors = compressed_layer(size)
    rows = torch.full((-(-size.M // 8), size.groups), -0x77777778, dtype=torch.int32)
    if size.M % 8:
        rows[-1] &= (1 << 4 * (size.M % 8)) - 1
    tensors["weight_zero_point"] = rows
    packed = pack_compressed_tensors(**tensors)
    assert packed.zeros is None
    assert same_bits(unpack_compressed_tensors(packed, zero_point=True), tensors)


def test_zero_points_are_never_left_out_silently():
    packed = pack_compressed_tensors(**compressed_layer(SIZE, zero_point=True))
    with pytest.raises(PackError, match="zero points other than 8"):
        unpack_compressed_tensors(packed, zero_point=False)


@given(sizes(rows=ANY_ROWS), st.booleans(), st.sampled_from([torch.uint8, torch.int8]))
def test_raw_codes_are_exact_both_ways(size: Sizes, symmetric: bool, byte: torch.dtype):
    generator = torch.Generator().manual_seed(size.seed)
    codes = torch.randint(0, 16, (size.M, size.K), generator=generator).to(byte)
    zeros = None if symmetric else torch.randint(0, 15, (size.M, size.groups), generator=generator).to(byte)
    if zeros is not None:
        zeros[0, 0] = 3
    scales = size.scales(size.M, size.groups)
    zero = 8 if zeros is None else zeros.double().repeat_interleave(size.group, 1)
    expected = (codes.double() - zero) * scales.double().repeat_interleave(size.group, 1)
    packed = pack_uint4(codes, scales, zeros)
    assert torch.equal(dequantise(packed, torch.float64), expected)
    back = unpack_uint4(packed)
    assert torch.equal(back["codes"].to(byte), codes)
    assert torch.equal(back["scales"], scales)
    assert back["zeros"] is None if zeros is None else torch.equal(back["zeros"].to(byte), zeros)
    pairs = (codes[:, 0::2] + codes[:, 1::2].to(torch.int32) * 16).to(torch.uint8)
    paired = pack_uint4_pairs(pairs.view(byte), scales, zeros)
    assert torch.equal(paired.weight, packed.weight)
    assert torch.equal(unpack_uint4_pairs(paired)["pairs"], pairs)


def test_pairs_may_start_at_any_address():
    size = Sizes(8, 1, 32, 2, torch.float16)
    memory = torch.randint(0, 256, (8 * 16 + 1,), dtype=torch.uint8)
    pairs = memory[1:].view(8, 16)
    assert torch.equal(unpack_uint4_pairs(pack_uint4_pairs(pairs, size.scales(8, 1)))["pairs"], pairs)


@pytest.mark.parametrize(("codes", "words"), [(16, "codes  0 to 16"), (-1, "codes  -1 to 0")])
def test_raw_codes_out_of_range_are_refused(codes: int, words: str):
    tensor = torch.zeros(8, 32, dtype=torch.int8)
    tensor[3, 4] = codes
    with pytest.raises(PackError, match=words):
        pack_uint4(tensor, torch.ones(8, 1, dtype=torch.float16))


def test_an_index_in_order_is_taken_and_activation_order_refused():
    tensors = gptq_layer(SIZE, stored=0x77777777)
    assert pack_gptq(**{**tensors, "g_idx": tensors["g_idx"].long()}).group == 64
    tensors["g_idx"] = tensors["g_idx"].flip(0)
    with pytest.raises(PackError, match=r"(?s)g_idx  int32 \[128\], not k // 64.*desc_act = false"):
        pack_gptq(**tensors)
    layer = compressed_layer(SIZE)
    unset = torch.full((SIZE.K,), -1, dtype=torch.int32)
    assert pack_compressed_tensors(**layer, weight_g_idx=unset).K == SIZE.K
    assert pack_compressed_tensors(**layer, weight_g_idx=tensors["g_idx"].flip(0)).K == SIZE.K
    with pytest.raises(PackError, match="weight_g_idx  int32"):
        pack_compressed_tensors(**layer, weight_g_idx=tensors["g_idx"])


def _with(tensors: dict, **changes) -> dict:
    return {**tensors, **changes}


AWQ, GPTQ, COMPRESSED = awq_layer(SIZE), gptq_layer(SIZE, stored=0x77777777), compressed_layer(SIZE, zero_point=True)


@pytest.mark.parametrize(
    ("pack", "tensors", "words"),
    [
        (pack_awq, _with(AWQ, qweight=AWQ["qweight"][:96]), "K = 96 under 2 scales per row: group 48"),
        (pack_awq, _with(AWQ, scales=AWQ["scales"].float()), r"scales  float32 \[2, 16\]"),
        (pack_awq, _with(AWQ, qweight=AWQ["qweight"].long()), r"qweight  int64 \[128, 2\]"),
        (pack_awq, _with(AWQ, qzeros=AWQ["qzeros"][:, :1]), r"qzeros  int32 \[2, 1\]"),
        (pack_awq, _with(AWQ, qweight=AWQ["qweight"][:0]), r"qweight  int32 \[0, 2\]"),
        (pack_gptq, gptq_layer(Sizes(16, 1, 256, 0, torch.float16)), "K = 256 under 1 scales per row: group 256"),
        (pack_gptq, _with(GPTQ, qzeros=GPTQ["qzeros"].repeat(1, 2)), r"qzeros  int32 \[2, 4\]"),
        (pack_gptq, _with(GPTQ, qweight=GPTQ["qweight"][:, :12]), "M  12 output features"),
        (pack_gptq, _with(GPTQ, scales=torch.ones(3, 16, dtype=torch.float16)), "K = 128 under 3 scales per row"),
        (pack_gptq, _with(GPTQ, scales=torch.ones(1, 16, 1, dtype=torch.float16)), r"scales  float16 \[1, 16, 1\]"),
        (
            pack_compressed_tensors,
            _with(COMPRESSED, weight_shape=torch.tensor([16, 64])),
            r"weight_shape  \[16, 64\] beside",
        ),
        (
            pack_compressed_tensors,
            _with(COMPRESSED, weight_scale=torch.ones(16, 1, dtype=torch.bfloat16)[:8]),
            r"weight_scale  bfloat16 \[8, 1\]",
        ),
        (
            pack_compressed_tensors,
            _with(COMPRESSED, weight_zero_point=torch.zeros(16, 2, dtype=torch.int8)),
            r"weight_zero_point  int8 \[16, 2\]",
        ),
    ],
)
def test_what_cannot_be_packed_is_named(pack, tensors: dict, words: str):
    with pytest.raises(PackError, match=words):
        pack(**tensors)


def test_formats_know_no_stacks():
    stack = stack_experts([pack_awq(**AWQ)] * 2)
    for unpack in (unpack_awq, unpack_gptq, unpack_compressed_tensors, unpack_uint4, unpack_uint4_pairs):
        with pytest.raises(PackError, match="a stack of 2 experts"):
            unpack(stack)


def test_rows_not_in_eights_have_no_awq_or_gptq():
    packed = pack_uint4(torch.zeros(9, 32, dtype=torch.uint8), torch.ones(9, 1, dtype=torch.float16))
    for unpack in (unpack_awq, unpack_gptq):
        with pytest.raises(PackError, match="M  9 output features"):
            unpack(packed)


@pytest.mark.parametrize("fmt", ["awq", "gptq", "compressed-tensors"])
def test_a_large_layer_takes_well_under_a_second(fmt: str):
    size = Sizes(24576, 32, 128, 0, torch.float16)
    make = {
        "awq": awq_layer,
        "gptq": lambda s: gptq_layer(s, stored=0x77777777),
        "compressed-tensors": compressed_layer,
    }
    pack = {"awq": pack_awq, "gptq": pack_gptq, "compressed-tensors": pack_compressed_tensors}[fmt]
    tensors = make[fmt](size)
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()  # of all threads: other work may be running here
        packed = pack(**tensors)
        best = min(best, time.process_time() - begun)
    assert (packed.M, packed.K, packed.row_stride) == (24576, 4096, 544)
    assert best < 3, f"{best:.2f} s"  # 0.03 to 0.1 s on a quiet machine
