"""The benchmark of an expert layer: its operands, what it calls wrong, and where it refuses to run."""

from __future__ import annotations

import pytest
import torch

from kgen.bench.layer import TOKENS, Layer, exact_layer, operands, relative_error
from kgen.errors import SpecError

SMALL = Layer(experts=6, top_k=2, hidden=64, inner=32, group=32)


def test_the_default_is_the_layer_of_the_issue_and_its_bytes_are_counted():
    layer = Layer()
    weights = 8 * 3 * 2048 * 768
    assert layer.bytes_read == 128 * 2048 * 2 + weights // 2 + weights // 128 * 2


def test_operands_have_the_shapes_that_the_op_takes():
    tokens, tensors = operands(SMALL, "cpu")
    assert len(tokens) == TOKENS
    assert not torch.equal(tokens[0], tokens[1])
    shapes = {name: tuple(value.shape) for name, value in tensors.items() if value is not None}
    assert shapes == {
        "router": (6, 64),
        "w13": (6, 64, 8),
        "w13_scales": (6, 64, 2),
        "w2": (6, 64, 4),
        "w2_scales": (6, 64, 1),
    }


def test_a_rounded_result_is_within_the_tolerance_and_one_wrong_expert_is_not():
    (token, *_), tensors = operands(SMALL, "cpu")
    exact = exact_layer(SMALL, token, tensors)
    assert relative_error(exact.to(torch.bfloat16), exact) < SMALL.tolerance
    other = exact_layer(SMALL, token, {**tensors, "w2": tensors["w2"].roll(1, 0)})
    assert relative_error(other, exact) > SMALL.tolerance


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (dict(group=48), "32, 64, 128"),
        (dict(hidden=100), "multiples of 128"),
        (dict(top_k=129), "at most 128"),
        (dict(dtype="fp32"), "bf16, fp16"),
        (dict(experts=0), "a positive integer"),
    ],
)
def test_layers_that_cannot_be_are_refused(sizes, words):
    with pytest.raises(SpecError, match=words):
        Layer(**sizes)
