"""The benchmark of a mixture's experts for many tokens: what it times agrees, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from kgen.bench.layer import Layer, operands, relative_error
from kgen.bench.prefill import _error, _expanded, _routed, _stacks, bench_prefill
from kgen.errors import KgenError
from kgen.ops.reference_moe import grouped_experts, moe_experts_torch

SMALL = Layer(experts=6, top_k=2, hidden=64, inner=32, group=32)


def test_both_ways_of_torch_agree_with_fp64_and_a_wrong_expert_does_not():
    _, tensors = operands(SMALL, "cpu")
    stacks, one = _stacks(tensors), _routed(SMALL, 9, tensors["router"], 0)

    def by_torch(x, ids, weights):
        return moe_experts_torch(x, ids, weights, stacks[:3], stacks[3:])

    assert _error(SMALL, by_torch, one, stacks) < SMALL.tolerance
    assert torch.equal(by_torch(*one), grouped_experts(*one, *_expanded(tensors)))
    x, ids, weights = one
    assert _error(SMALL, lambda *_: by_torch(x, (ids + 1) % 6, weights), one, stacks) > SMALL.tolerance


def test_tokens_differ_between_sets_and_go_to_several_experts():
    _, tensors = operands(SMALL, "cpu")
    (x, ids, _), (other, *_) = (_routed(SMALL, 40, tensors["router"], seed) for seed in (0, 1))
    assert relative_error(x, other.double()) > 0.5
    assert len(set(ids.flatten().tolist())) > 2


def test_numbers_that_cannot_be_and_machines_without_a_gpu_are_refused():
    with pytest.raises(KgenError, match="1 to 65536"):
        bench_prefill(SMALL, [4, 0])
    if not torch.cuda.is_available():
        with pytest.raises(KgenError):
            bench_prefill(SMALL, [4])
