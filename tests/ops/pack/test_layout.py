"""The kernels' layout: words, turning, padding, the reference dequantiser, stacks and joins."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kgen.errors import PackError
from kgen.ops.pack import PackedW4, dequantise, pack_uint4, validate
from kgen.ops.pack.layout import join_rows, padded_rows, row_stride, stack_experts
from kgen.ops.pack.nibbles import (
    SHUFFLE,
    pack_columns,
    pack_words,
    shuffle,
    turn,
    unpack_columns,
    unpack_words,
    unshuffle,
)
from tests.ops.pack import naive
from tests.ops.pack.layers import Sizes, sizes

PLAIN = tuple(range(8))


def codes_of(size: Sizes, *shape: int, seed: int = 0) -> torch.Tensor:
    return unpack_words(size.words(*shape[:-1], shape[-1] // 8, seed=seed), PLAIN)


def layer(size: Sizes, symmetric: bool = False, pad: bool = True) -> PackedW4:
    zeros = None if symmetric else codes_of(size, size.M, 8 * size.groups, seed=1)[:, ::8]
    return pack_uint4(codes_of(size, size.M, size.K), size.scales(size.M, size.groups), zeros, pad=pad)


def test_value_i_of_a_word_lies_where_the_kernels_read_it():
    for i in range(8):
        codes = torch.zeros(8, dtype=torch.uint8)
        codes[i] = 15
        word = int(pack_words(codes)) & 0xFFFFFFFF
        assert word == 15 << 4 * (i // 2) + 16 * (i % 2)


@given(sizes())
def test_shuffling_words_is_packing_their_values_in_the_other_order(size: Sizes):
    words = size.words(3, 5)
    codes = unpack_words(words, PLAIN)
    assert torch.equal(shuffle(words), pack_words(codes, SHUFFLE))
    assert torch.equal(unshuffle(shuffle(words)), words)
    assert torch.equal(pack_words(codes, PLAIN), words)


@given(sizes(), st.integers(1, 40))
def test_columns_pack_with_the_first_row_lowest_and_zeros_beyond_the_last(size: Sizes, rows: int):
    codes = codes_of(size, 8 * rows)[:rows, None].expand(rows, 3)
    words = pack_columns(codes)
    assert words.shape == (-(-rows // 8), 3)
    for row in range(8 * words.shape[0]):
        assert naive.nibble(int(words[row // 8, 1]), row % 8) == (int(codes[row, 1]) if row < rows else 0)
    assert torch.equal(unpack_columns(words, rows), codes)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 999), st.sampled_from([1, 64, 1 << 20]))
def test_turning_is_transposing_the_codes(row_blocks: int, column_blocks: int, seed: int, slab: int):
    words = Sizes(8, 1, 32, seed, torch.float16).words(8 * row_blocks, column_blocks)
    out = torch.empty(8 * column_blocks, row_blocks + 3, dtype=torch.int32)[:, :row_blocks]  # rows of a stride
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kgen.ops.pack.nibbles._SLAB_WORDS", slab)
        turn(words, out)
    assert torch.equal(unpack_words(out), unpack_words(words).t())


@pytest.mark.parametrize(
    ("K", "words"), [(1024, 128 + 32), (2048, 256 + 32), (4096, 512 + 32), (1056, 132), (512, 64), (32, 4)]
)
def test_rows_of_a_multiple_of_512_bytes_get_128_more(K: int, words: int):
    assert row_stride(K) == words
    assert row_stride(K, pad=False) == K // 8
    assert row_stride(K) % 4 == 0


def test_padding_holds_zeros_and_changes_no_value():
    size = Sizes(16, 8, 128, 3, torch.float16)
    padded, dense = layer(size), layer(size, pad=False)
    assert (padded.row_stride, dense.row_stride) == (160, 128)
    assert torch.equal(dequantise(padded), dequantise(dense))
    stored = padded_rows(padded)
    assert stored.is_contiguous()
    assert stored.shape == (16, 160)
    assert torch.equal(stored[:, :128], dense.weight)
    assert not stored[:, 128:].any()


def test_padding_is_cleared_in_memory_too():
    torch.use_deterministic_algorithms(True)  # new memory is filled with the largest integer
    try:
        packed = layer(Sizes(16, 8, 128, 3, torch.float16))
        stack = stack_experts([packed, packed])
    finally:
        torch.use_deterministic_algorithms(False)
    for weight in (packed.weight, stack.weight):
        rows = weight.as_strided((*weight.shape[:-1], 160), weight.stride())
        assert not rows[..., 128:].any()


@given(sizes(rows=st.integers(1, 19)), st.booleans())
def test_the_dequantiser_is_the_layouts_description(size: Sizes, symmetric: bool):
    packed = layer(size, symmetric)
    expected = naive.kernels(packed.weight, packed.scales, packed.zeros, size.group, size.M, size.K)
    assert torch.equal(dequantise(packed, torch.float64), expected)
    assert torch.equal(dequantise(packed).double(), expected)  # exact in fp32 as well


@given(st.lists(st.integers(1, 11), min_size=1, max_size=3), sizes(), st.lists(st.booleans(), min_size=3, max_size=3))
def test_joined_rows_are_the_parts_one_below_the_other(rows: list[int], size: Sizes, symmetric: list[bool]):
    parts = [layer(replace(size, M=M, seed=size.seed + M), sym) for M, sym in zip(rows, symmetric, strict=False)]
    joined = join_rows(parts)
    validate(joined)
    assert torch.equal(dequantise(joined), torch.cat([dequantise(part) for part in parts]))
    assert joined.symmetric == all(part.symmetric for part in parts)


@given(sizes(rows=st.integers(1, 11)), st.lists(st.booleans(), min_size=1, max_size=4))
def test_stacked_experts_are_the_parts(size: Sizes, symmetric: list[bool]):
    parts = [layer(replace(size, seed=size.seed + e), sym) for e, sym in enumerate(symmetric)]
    stack = stack_experts(parts)
    validate(stack)
    assert stack.E == len(parts)
    assert torch.equal(dequantise(stack), torch.stack([dequantise(part) for part in parts]))
    for index, part in enumerate(parts):
        assert torch.equal(dequantise(stack.expert(index)), dequantise(part))


def test_a_stack_keeps_rows_off_the_cliff():
    size = Sizes(8, 8, 128, 0, torch.bfloat16)
    stack = stack_experts([layer(size), layer(size)])
    assert stack.weight.stride() == (8 * 160, 160, 1)
    assert padded_rows(stack).shape == (2, 8, 160)


def test_parts_that_differ_are_refused_by_name():
    size = Sizes(8, 2, 32, 0, torch.float16)
    with pytest.raises(PackError, match=r"part 1  K = 96"):
        join_rows([layer(size), layer(replace(size, groups=3))])
    with pytest.raises(PackError, match=r"part 1  M = 16"):
        stack_experts([layer(size), layer(replace(size, M=16))])
    with pytest.raises(PackError, match="at least one plain layer"):
        stack_experts([])


SIZE = Sizes(16, 4, 32, 1, torch.float16)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"group": 16}, "group  16 for K = 128"),
        ({"K": 100}, "group  32 for K = 100"),
        ({"M": 17}, r"weight  int32 \[16, 16\]"),
        ({"weight": torch.zeros(16, 16)}, r"weight  float32 \[16, 16\]"),
        ({"weight": torch.zeros(16, 16, dtype=torch.int32).t()}, "with strides"),
        ({"weight": torch.zeros(16, 18, dtype=torch.int32)[:, :16]}, "rows 18 words apart"),
        ({"weight": torch.zeros(1, 16, dtype=torch.int32).expand(16, 16)}, "rows 0 words apart"),
        ({"scales": torch.zeros(16, 4)}, r"scales  float32 \[16, 4\]"),
        ({"scales": torch.zeros(16, 2, dtype=torch.float16)}, r"scales  float16 \[16, 2\]"),
        ({"zeros": torch.zeros(16, 4, dtype=torch.int32)}, r"zeros  int32 \[16, 4\]"),
        ({"scales": torch.zeros((), dtype=torch.float16)}, r"scales  float16 \[\]"),
    ],
)
def test_what_is_wrong_with_packed_weights_is_named(change: dict, words: str):
    with pytest.raises(PackError, match=words):
        validate(replace(layer(SIZE), **change))


def test_all_problems_are_named_at_once():
    broken = replace(layer(SIZE), scales=torch.zeros(1), zeros=torch.zeros(1))
    with pytest.raises(PackError) as caught:
        validate(broken)
    assert [problem.fields for problem in caught.value.problems] == [("scales",), ("zeros",)]
