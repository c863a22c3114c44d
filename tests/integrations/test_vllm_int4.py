"""vLLM's int4 function and its argument order, answered by the op."""

from __future__ import annotations

import pytest
import torch

from kgen.errors import OpError
from kgen.integrations import vllm_ops
from kgen.ops.pack import pack_uint4
from kgen.ops.reference import int4_linear_torch


@pytest.fixture
def weight():
    generator = torch.Generator().manual_seed(3)
    codes = torch.randint(0, 16, (16, 256), generator=generator).to(torch.uint8)
    zeros = torch.randint(0, 16, (16, 8), generator=generator).to(torch.uint8)
    return pack_uint4(codes, torch.rand(16, 8, generator=generator).to(torch.bfloat16), zeros)


def test_the_arguments_come_in_vllms_order(weight, monkeypatch):
    seen = {}
    monkeypatch.setattr(vllm_ops, "_op", lambda name: lambda *args: seen.setdefault(name, args))
    x, bias = torch.randn(2, 256).to(torch.bfloat16), torch.randn(16).to(torch.bfloat16)
    as_bytes = weight.weight.view(torch.int8)
    vllm_ops.wvSplitK_int4_g(as_bytes, x, weight.scales, 20, 32, weight.zeros, bias)
    act, words, scales, zeros, given = seen["wvsplitk_int4"]
    assert act is x
    assert torch.equal(words, weight.weight)
    assert words.dtype == torch.int32
    assert (scales is weight.scales, zeros is weight.zeros, given is bias) == (True, True, True)


def test_the_group_size_must_be_what_the_shapes_say(weight):
    x = torch.zeros(1, 256, dtype=torch.bfloat16)
    with pytest.raises(OpError, match="group_size"):
        vllm_ops.wvSplitK_int4_g(weight.weight, x, weight.scales, 20, 128)


def test_the_reference_takes_the_same_weight(weight):
    x = torch.randn(1, 256).to(torch.bfloat16)
    assert int4_linear_torch(x, weight.weight, weight.scales, weight.zeros).shape == (1, 16)
