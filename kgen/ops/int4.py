"""The code of the linear ops on int4 weights below autograd: one family's, or one that chooses among families."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from kgen.ops.check import LinearProblem
from kgen.ops.plan import Plan, make_plan
from kgen.runtime import session
from kgen.runtime.library import Library


def int4_op(
    name: str, check: Callable[..., LinearProblem], answer: Callable[[Tensor, Library, LinearProblem], Plan]
) -> Callable[..., Tensor]:
    """(x, weight, scales, zeros=None, bias=None) -> out; see `kgen.ops.check_int4.check_int4_linear` for what it takes.

    answer  of x, its library and the checked problem: the plan
    """

    def op(
        x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        key = (
            name,
            x.shape,
            x.stride(),
            weight.shape,
            weight.stride(),
            scales.shape,
            scales.stride(),
            x.dtype,
            weight.dtype,
            scales.dtype,
            x.get_device(),
            weight.get_device(),
            scales.get_device(),
            None if zeros is None else (zeros.shape, zeros.stride(), zeros.dtype, zeros.get_device()),
            None if bias is None else (bias.shape, bias.stride(), bias.dtype, bias.get_device()),
            torch.is_grad_enabled(),
        )
        plan = session.plans.get(key)
        if plan is None:
            plan = make_plan(name, key, (x, weight, scales, zeros, bias), check, partial(answer, x))
        return plan(x, weight, scales, zeros, bias)

    return op
