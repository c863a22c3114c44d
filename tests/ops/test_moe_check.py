"""What the expert ops refuse, and in which words; the fakes use the same check."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import kgen.ops
from kgen.errors import OpError
from kgen.ops.check_moe import check_down, check_layer, check_up
from tests.ops.moe import stack

BF16 = torch.bfloat16


def up(**change: Any) -> dict[str, Any]:
    """A good first GEMM's arguments, some of them changed."""
    weights = stack(4, 12, 128)
    ids = torch.zeros(6, dtype=torch.int32)
    good = dict(x=torch.zeros(3, 128, dtype=BF16), weight=weights.weight, scales=weights.scales, zeros=None)
    good |= dict(expert_ids=ids, sorted_ids=None, padded_slots=None, block_size=1, top_k=2, silu=False)
    return good | change


def down(**change: Any) -> dict[str, Any]:
    weights = stack(4, 12, 128)
    good = dict(x=torch.zeros(6, 128, dtype=BF16), weight=weights.weight, scales=weights.scales, zeros=None)
    good |= dict(topk_ids=torch.zeros(3, 2, dtype=torch.int32), topk_weights=torch.zeros(3, 2), fuse_silu=False)
    return good | change


def layer(**change: Any) -> dict[str, Any]:
    w13, w2 = stack(4, 64, 256, 32), stack(4, 256, 32, 32)
    good = dict(x=torch.zeros(1, 256, dtype=BF16), router=torch.zeros(4, 256, dtype=BF16), top_k=2)
    good |= dict(
        w13=w13.weight, w13_scales=w13.scales, w13_zeros=None, w2=w2.weight, w2_scales=w2.scales, w2_zeros=None
    )
    return good | change


CASES = [
    (check_up, up, dict(x=torch.zeros(3, 128)), "x.dtype"),
    (check_up, up, dict(x=torch.zeros(3, 96, dtype=BF16)), "x.shape"),
    (check_up, up, dict(x=torch.zeros(3, 1, 128, dtype=BF16)), "rows, K"),
    (check_up, up, dict(block_size=3), "1 or 2 or 4"),
    (check_up, up, dict(top_k=0), "at least 1"),
    (check_up, up, dict(expert_ids=torch.zeros(6)), "expert_ids.dtype"),
    (check_up, up, dict(expert_ids=torch.zeros(3, 2, dtype=torch.int32)), "one dimension"),
    (check_up, up, dict(sorted_ids=torch.zeros(5, dtype=torch.int32)), "at least 6 blocks of 1"),
    (check_up, up, dict(padded_slots=torch.zeros(2, dtype=torch.int32)), "one element"),
    (check_up, up, dict(weight=torch.zeros(12, 16, dtype=torch.int32)), "a stack of experts"),
    (check_up, up, dict(weight=torch.zeros(4, 12, 16)), "weight.dtype"),
    (check_up, up, dict(scales=torch.zeros(4, 12, 3, dtype=BF16)), "groups of 32, 64 or 128"),
    (check_up, up, dict(scales=torch.zeros(4, 12, 1, dtype=torch.float16)), "scales.dtype"),
    (check_up, up, dict(zeros=torch.zeros(4, 1, 1, dtype=torch.int32)), "eight rows to a word"),
    (check_up, up, dict(weight=torch.zeros(4, 12, 18, dtype=torch.int32)[:, :, :16]), "a multiple of 4"),
    (check_up, up, dict(silu=True, weight=torch.zeros(4, 11, 16, dtype=torch.int32)), "even number of rows"),
    (check_down, down, dict(topk_ids=torch.zeros(3, 2, dtype=torch.int64)), "topk_ids.dtype"),
    (check_down, down, dict(topk_weights=torch.zeros(3, 2, dtype=BF16)), "topk_weights.dtype"),
    (check_down, down, dict(topk_weights=torch.zeros(2, 3)), "as topk_ids"),
    (check_down, down, dict(topk_ids=torch.zeros(2, 3, dtype=torch.int32).T), "contiguous"),
    (check_down, down, dict(x=torch.zeros(5, 128, dtype=BF16)), "a row per slot"),
    (check_down, down, dict(fuse_silu=True), "a row per slot"),
    (
        check_down,
        down,
        dict(topk_ids=torch.zeros(1, 40, dtype=torch.int32), topk_weights=torch.zeros(1, 40)),
        "slots of a token",
    ),
    (check_layer, layer, dict(router=torch.zeros(5, 256, dtype=BF16)), "a row per expert"),
    (check_layer, layer, dict(router=torch.zeros(4, 256)), "router.dtype"),
    (check_layer, layer, dict(top_k=5), "top_k"),
    (
        check_layer,
        layer,
        dict(w2=torch.zeros(4, 128, 4, dtype=torch.int32), w2_scales=torch.zeros(4, 128, 1, dtype=BF16)),
        "back from what w13",
    ),
]


@pytest.mark.parametrize(
    ("check", "good", "change", "words"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_cannot_be_is_named(check: Any, good: Any, change: dict[str, Any], words: str) -> None:
    check("op", **good())
    with pytest.raises(OpError, match=words):
        check("op", **good(**change))


def test_the_problem_has_the_sizes_and_strides_of_the_tensors() -> None:
    weights = stack(4, 24, 256, 64, True)
    x = torch.zeros(3, 264, dtype=BF16)[:, :256]
    problem = check_up("op", **up(x=x, weight=weights.weight, scales=weights.scales, zeros=weights.zeros, silu=True))
    shape = problem.moe
    assert (shape.M, shape.N, shape.K, shape.experts, shape.top_k, shape.tokens, shape.blocks) == (
        12,
        1,
        256,
        4,
        2,
        3,
        6,
    )
    assert shape.traits == {"GROUP_SIZE": 64, "HAS_ZP": True, "SILU": True, "RANK": False}
    assert problem.sizes == (12, 256, 32, 4, 4, 264, 24 * 32, 24 * 4, 3 * 4)
    assert problem.out_shape == (6, 12)


def test_a_single_expert_may_lie_anywhere() -> None:
    weights = stack(2, 12, 128)
    check_up("op", **up(weight=weights.weight[1:], scales=weights.scales[1:]))


def test_fakes_check_and_answer_shapes() -> None:
    assert kgen.ops
    with FakeTensorMode() as mode:
        fake: dict[str, Any] = {key: mode.from_tensor(v) if isinstance(v, Tensor) else v for key, v in layer().items()}
        assert torch.ops.kgen.moe_decode_int4(**fake).shape == (1, 256)
        fake = {key: mode.from_tensor(v) if isinstance(v, Tensor) else v for key, v in down().items()}
        assert torch.ops.kgen.moe_down_reduce(**fake).shape == (3, 12)
        fake = {key: mode.from_tensor(v) if isinstance(v, Tensor) else v for key, v in up().items()}
        assert torch.ops.kgen.moe_wvsplitk_int4(**fake).shape == (6, 12)
        with pytest.raises(OpError, match="top_k"):
            torch.ops.kgen.moe_wvsplitk_int4(**(fake | {"top_k": 0}))
