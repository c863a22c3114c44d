"""torch.ops.kgen.moe_gemm_w4a16 on real tensors: either GEMM of a mixture on the matrix cores, over blocks of sorted slots. See docs/moe.md."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from kgen.ops.check_moe import check_gemm
from kgen.ops.moe import expert_answer
from kgen.ops.plan import BELOW, find_plan, make_plan, rough_key
from kgen.ops.reference_moe import moe_gemm_reference
from kgen.spec.moe_gemm_w4a16 import MoeGemmW4A16Spec
from kgen.spec.problem import MoeShape

GEMM = MoeGemmW4A16Spec.family


def moe_gemm_w4a16(
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    expert_ids: Tensor,
    sorted_ids: Tensor | None = None,
    padded_slots: Tensor | None = None,
    topk_weights: Tensor | None = None,
    *,
    block_size: int = 64,
    top_k: int = 1,
    silu: bool = False,
) -> Tensor:
    """The op below autograd; see `kgen.ops.check_moe.check_gemm` for what it takes.

    Slots that no block holds are not written, nor those of absent experts without topk_weights.
    """
    tensors = (x, weight, scales, zeros, expert_ids, sorted_ids, padded_slots, topk_weights)
    key = (BELOW, GEMM, block_size, top_k, silu, *rough_key(tensors))
    plan = find_plan(key, tensors)
    if plan is None:
        check = partial(check_gemm, block_size=block_size, top_k=top_k, silu=silu)
        reference = partial(moe_gemm_reference, block_size=block_size, top_k=top_k, silu=silu)
        plan = make_plan(GEMM, key, tensors, check, partial(expert_answer, GEMM, x, _counts, reference))
    return plan(*tensors)


def _counts(shape: MoeShape, groups: int) -> tuple[int, ...]:
    return shape.slots, shape.top_k, shape.blocks
