"""The routing helper against naive loops: ties, NaN, absent experts, static sizes, and no reading back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kgen.errors import OpError
from kgen.ops.moe_route import align, most_blocks, route


def naive_route(logits: Tensor, top_k: int, renormalize: bool) -> tuple[list[list[int]], list[list[float]]]:
    """Rank by falling logit, then by index, NaN last; weights by exp in fp64."""
    ids, weights = [], []
    for row in logits.double().tolist():
        order = sorted(range(len(row)), key=lambda e: (row[e] != row[e], -row[e] if row[e] == row[e] else 0.0, e))[
            :top_k
        ]
        highest = max(row)
        sizes = [2.718281828459045 ** (value - highest) for value in row]
        total = sum(sizes[e] for e in order) if renormalize else sum(sizes)
        ids.append(order)
        weights.append([sizes[e] / total for e in order])
    return ids, weights


def naive_blocks(ids: Tensor, experts: int, block_size: int, absent: bool) -> list[tuple[int, list[int]]]:
    """(expert, slots) of each block, the last of an expert's filled up with the number of slots; absent: those of -1 at the end."""
    flat = ids.reshape(-1).tolist()
    out = []
    for expert in (*range(experts), *([-1] if absent else [])):
        mine = [slot for slot, wanted in enumerate(flat) if wanted == expert]
        while len(mine) % block_size:
            mine.append(len(flat))
        out += [(expert, mine[i : i + block_size]) for i in range(0, len(mine), block_size)]
    return out


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_ties_go_to_the_lower_index(dtype: torch.dtype, renormalize: bool) -> None:
    logits = (torch.randint(-4, 5, (50, 33), generator=torch.Generator().manual_seed(1)) / 2).to(dtype)
    ids, weights = route(logits, 7, renormalize)
    wanted, sizes = naive_route(logits, 7, renormalize)
    assert ids.dtype == torch.int32
    assert ids.tolist() == wanted
    assert weights.dtype == torch.float32
    assert torch.allclose(weights.double(), torch.tensor(sizes, dtype=torch.float64), rtol=1e-5)


def test_a_nan_is_chosen_last_and_once() -> None:
    logits = torch.tensor([[torch.nan, -torch.inf, 1.0, 2.0]])
    assert route(logits, 4)[0].tolist() == [[3, 2, 0, 1]]  # NaN and -inf are equally low: the lower index first


@pytest.mark.parametrize("top_k", [0, 5])
def test_a_top_k_that_cannot_be_is_refused(top_k: int) -> None:
    with pytest.raises(OpError, match="1 <= top_k <= E"):
        route(torch.zeros(2, 4), top_k)


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    experts=st.integers(1, 9),
    tokens=st.integers(1, 9),
    block_size=st.sampled_from((1, 2, 4, 16)),
    absent=st.booleans(),
)
def test_blocks_are_those_of_a_naive_loop(
    data: st.DataObject, experts: int, tokens: int, block_size: int, absent: bool
) -> None:
    top_k = data.draw(st.integers(1, experts))
    low = data.draw(st.sampled_from((-1, 0)))
    ids = torch.tensor(
        data.draw(st.lists(st.integers(low, experts - 1), min_size=tokens * top_k, max_size=tokens * top_k))
    )
    blocks = align(ids.reshape(tokens, top_k), experts, block_size, absent=absent)
    wanted = naive_blocks(ids, experts, block_size, absent)
    count = most_blocks(tokens * top_k, experts + absent, block_size)
    assert len(wanted) <= count == blocks.expert_ids.numel()
    assert blocks.padded_slots.tolist() == [len(wanted) * block_size]
    found = blocks.sorted_ids.reshape(-1, block_size).tolist()
    assert list(zip(blocks.expert_ids.tolist(), found, strict=True))[: len(wanted)] == wanted
    assert blocks.expert_ids.tolist()[len(wanted) :] == [-1] * (count - len(wanted))
    assert all(slots == [tokens * top_k] * block_size for slots in found[len(wanted) :])
    assert {part.dtype for part in blocks} == {torch.int32}


def test_the_room_is_used_up_in_the_worst_case() -> None:
    ids = torch.arange(6)  # six experts with a slot each
    assert align(ids.reshape(3, 2), 6, 4).padded_slots.tolist() == [6 * 4]
    assert most_blocks(6, 6, 4) == 6
    assert most_blocks(1000, 8, 4) == 256


def test_nothing_is_read_back() -> None:
    """On meta tensors reading a value raises, so that sizes must follow from shapes alone."""
    ids, weights = route(torch.empty(5, 16, device="meta"), 4)
    assert (ids.shape, weights.shape) == ((5, 4), (5, 4))
    blocks = align(ids, 16, 4)
    assert blocks.sorted_ids.numel() == 4 * blocks.expert_ids.numel() == 4 * most_blocks(20, 16, 4)
