"""torch.ops.kgen.moe_gemm_w4a16 on real tensors: either GEMM of a mixture on the matrix cores, over blocks of sorted slots. See docs/moe.md."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from kgen.ops.check import ALIGNMENT, LinearProblem, alignment_error
from kgen.ops.check_moe import MoeProblem, check_gemm
from kgen.ops.moe import addresses, parts
from kgen.ops.plan import Plan, contiguous, empty_on, make_plan, table_answer
from kgen.ops.reference_moe import moe_gemm_reference
from kgen.runtime import session
from kgen.runtime.launch import Kernel
from kgen.runtime.library import Library
from kgen.spec.moe_gemm_w4a16 import MoeGemmW4A16Spec

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
    key = (GEMM, block_size, top_k, silu, *parts(tensors), torch.is_grad_enabled())
    plan = session.plans.get(key)
    if plan is None:
        check = partial(check_gemm, block_size=block_size, top_k=top_k, silu=silu)
        reference = partial(moe_gemm_reference, block_size=block_size, top_k=top_k, silu=silu)
        plan = make_plan(GEMM, key, tensors, check, partial(_answer, x, reference))
    return plan(*tensors)


def _answer(x: Tensor, reference: Callable[..., Tensor], library: Library, problem: LinearProblem) -> Plan:
    assert isinstance(problem, MoeProblem)
    if problem.moe.blocks == 0 or problem.moe.tokens == 0:
        return lambda x, *others: x.new_empty(problem.out_shape)

    def by_torch(*tensors: Tensor | None) -> Tensor:
        return reference(*tensors, dtype=torch.float32).to(x.dtype)

    return table_answer(GEMM, library, problem, x.dtype, partial(_kernel_plan, library, problem, x), by_torch)


def _kernel_plan(library: Library, problem: MoeProblem, x: Tensor, kernel: Kernel) -> Plan:
    driver, shape = library.driver, problem.moe
    launch = kernel.bind(kernel.spec.launch(shape, driver.device.cu))
    sizes = (*problem.sizes, shape.slots, shape.top_k, shape.blocks)
    stream, count, empty, mask = driver.stream, kernel.answered.add, empty_on(x.device), ALIGNMENT - 1
    out_shape, out_stride, dtype = problem.out_shape, contiguous(problem.out_shape), x.dtype

    def run(x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor | None, *lists: Tensor | None) -> Tensor:
        given = (weight, scales, zeros, x, *lists)
        at = addresses(given)
        if (at[0] | at[3]) & mask:
            raise alignment_error(GEMM, x=x, weight=weight)
        out = empty(out_shape, out_stride, dtype)
        launch(stream(), (*at, out.data_ptr(), *sizes), (*given, out))
        count()
        return out

    return run
