"""torch.ops.kgen.moe_w4a16 and moe_experts_w4a16 on real tensors: a mixture's layer on int4 weights, from one token to thousands. See docs/moe.md.

Their table (specs/dispatch/ARCH/moe_w4a16.toml) names the family that answers: the decode kernels for few rows to an expert, moe_gemm_w4a16 on blocks
of a size for many, or torch. All of it stays on the device; sizes follow from the shapes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kgen.ops.check import DTYPES, LinearProblem
from kgen.ops.check_moe import LayerProblem, check_experts, check_layer
from kgen.ops.dequantize_w4a16 import stack_expander
from kgen.ops.linear import linear_op
from kgen.ops.moe import layer_answer, moe_down_reduce, moe_wvsplitk_int4
from kgen.ops.moe_gemm import moe_gemm_w4a16
from kgen.ops.moe_route import align, route
from kgen.ops.plan import BELOW, Plan, find_plan, make_plan, rough_key, torch_answer
from kgen.ops.reference_moe import grouped_experts
from kgen.runtime.library import Library
from kgen.spec.problem import W4Shape
from kgen.spec.route import ROUTES, MoeRoute

LAYER, EXPERTS = "moe_w4a16", "moe_experts_w4a16"
_ROUTE = ROUTES[LAYER]
_router = linear_op("wvsplitk")
Experts = Callable[..., Tensor]
"""Of x, topk_ids, topk_weights and both stacks' tensors."""


def moe_w4a16(
    x: Tensor,
    router: Tensor,
    w13: Tensor,
    w13_scales: Tensor,
    w13_zeros: Tensor | None,
    w2: Tensor,
    w2_scales: Tensor,
    w2_zeros: Tensor | None,
    *,
    top_k: int,
    renormalize: bool = True,
) -> Tensor:
    """The op below autograd: router, experts and their weighted sum; see `kgen.ops.check_moe.check_layer` for what it takes."""
    tensors = (x, router, w13, w13_scales, w13_zeros, w2, w2_scales, w2_zeros)
    key = (BELOW, LAYER, top_k, renormalize, *rough_key(tensors))
    plan = find_plan(key, tensors)
    if plan is None:
        check = partial(check_layer, top_k=top_k)
        plan = make_plan(LAYER, key, tensors, check, partial(_layer, x, top_k, renormalize))
    return plan(*tensors)


def moe_experts_w4a16(
    x: Tensor,
    topk_ids: Tensor,
    topk_weights: Tensor,
    w13: Tensor,
    w13_scales: Tensor,
    w13_zeros: Tensor | None,
    w2: Tensor,
    w2_scales: Tensor,
    w2_zeros: Tensor | None,
) -> Tensor:
    """The op below autograd: the same behind a router of one's own; see `kgen.ops.check_moe.check_experts` for what it takes."""
    tensors = (x, topk_ids, topk_weights, w13, w13_scales, w13_zeros, w2, w2_scales, w2_zeros)
    key = (BELOW, EXPERTS, *rough_key(tensors))
    plan = find_plan(key, tensors)
    if plan is None:
        plan = make_plan(EXPERTS, key, tensors, check_experts, partial(_listed, x))
    return plan(*tensors)


# ---- answers of the table


def _layer(x: Tensor, top_k: int, renormalize: bool, library: Library, problem: LinearProblem) -> Plan:
    assert isinstance(problem, LayerProblem)
    tokens = problem.up.moe.tokens
    if tokens == 0:
        return lambda x, *others: x.new_empty(problem.out_shape)
    use = _use(library, x, tokens * top_k, problem)
    if use is not None and not use[1]:
        return layer_answer(x, top_k, renormalize, library, problem)
    experts = _experts(library, use, problem, x.dtype)

    def run(x: Tensor, router: Tensor, *stacks: Tensor | None) -> Tensor:
        ids, weights = route(_router(x, router), top_k, renormalize)
        return experts(x, ids, weights, *stacks)

    return run


def _listed(x: Tensor, library: Library, problem: LinearProblem) -> Plan:
    assert isinstance(problem, LayerProblem)
    if problem.up.moe.slots == 0:
        return lambda x, *others: x.new_zeros(problem.out_shape)
    return _experts(library, _use(library, x, problem.up.moe.slots, problem), problem, x.dtype)


def _use(library: Library, x: Tensor, slots: int, problem: LayerProblem) -> tuple[str, int] | None:
    """The family that the table names, with the size of its blocks, 0 for the decode kernels; None for torch."""
    stack = problem.up.stack
    asked = W4Shape(problem.up.shape.M, MoeRoute.rows(slots, stack.E), stack.K, stack.group, stack.has_zp)
    use = library.route(LAYER, asked, DTYPES[x.dtype])
    if use is None:
        return None
    family, shape = _ROUTE.answer(use, asked)
    return family, shape.N if shape.N > 1 else 0


def _experts(library: Library, use: tuple[str, int] | None, problem: LayerProblem, dtype: torch.dtype) -> Experts:
    if use is None:
        return torch_answer(LAYER, library, by_torch(library, problem, dtype))
    return partial(by_blocks, use[1], problem.up.stack.E) if use[1] else by_slots


def by_torch(library: Library, problem: LayerProblem, dtype: torch.dtype) -> Experts:
    """By torch's grouped products, on weights that are dequantised for the time of the call."""
    first, second = (stack_expander(library, each.stack, dtype) for each in (problem.up, problem.down))

    def run(x: Tensor, ids: Tensor, weights: Tensor, *stacks: Any) -> Tensor:
        return grouped_experts(x, ids, weights, first(stacks[:3]), second(stacks[3:]))

    return run


def by_slots(
    x: Tensor,
    ids: Tensor,
    weights: Tensor,
    w13: Tensor,
    w13_scales: Tensor,
    w13_zeros: Tensor | None,
    w2: Tensor,
    w2_scales: Tensor,
    w2_zeros: Tensor | None,
) -> Tensor:
    """By the decode kernels: every slot multiplies by itself."""
    inner = moe_wvsplitk_int4(x, w13, w13_scales, w13_zeros, ids.reshape(-1), top_k=ids.shape[1], silu=True)
    return moe_down_reduce(inner, w2, w2_scales, w2_zeros, ids, weights)


def by_blocks(
    block_size: int,
    E: int,
    x: Tensor,
    ids: Tensor,
    weights: Tensor,
    w13: Tensor,
    w13_scales: Tensor,
    w13_zeros: Tensor | None,
    w2: Tensor,
    w2_scales: Tensor,
    w2_zeros: Tensor | None,
) -> Tensor:
    """By tiles over sorted blocks, one size for both GEMMs. A token's weighted rows are summed in fp32, in an order that the shape alone decides."""
    tokens, top_k = ids.shape
    lists = align(ids, E, block_size, absent=True)
    inner = moe_gemm_w4a16(x, w13, w13_scales, w13_zeros, *lists, block_size=block_size, top_k=top_k, silu=True)
    rows = moe_gemm_w4a16(inner, w2, w2_scales, w2_zeros, *lists, weights, block_size=block_size)
    return rows.view(tokens, top_k, -1).sum(1)
