"""The code of the linear ops on int4 weights below autograd: one family's, or one that chooses among families."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, is_grad_enabled

from kgen.ops.check import ALIGNMENT, LinearProblem, alignment_error
from kgen.ops.direct import Missed
from kgen.ops.guard import ABSENT
from kgen.ops.plan import BELOW, DIRECT, Plan, make_plan, output_of
from kgen.runtime import session
from kgen.runtime.driver import LaunchCall
from kgen.runtime.launch import Kernel
from kgen.runtime.library import Library

_NO_ZEROS, _NO_BIAS = ABSENT[3:5]


def int4_op(
    name: str,
    check: Callable[..., LinearProblem],
    answer: Callable[[Tensor, Library, LinearProblem], Plan],
    missed: Missed | None = None,
) -> Callable[..., Tensor]:
    """(x, weight, scales, zeros=None, bias=None) -> out; see `kgen.ops.check_int4.check_int4_linear` for what it takes.

    answer  of x, its library and the checked problem: the plan
    missed  of a key and the op's arguments: answers where no plan is kept; None: makes one
    """

    def op(
        x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        key = (way, name, x.numel(), weight.numel(), zeros is None, bias is None, is_grad_enabled())
        for same, plan in session.plans.get(key, ()):
            if same(x, weight, scales, _NO_ZEROS if zeros is None else zeros, _NO_BIAS if bias is None else bias):
                return plan(x, weight, scales, zeros, bias)
        return otherwise(key, x, weight, scales, zeros, bias)

    def first(key: tuple[Any, ...], x: Tensor, *others: Tensor | None) -> Tensor:
        return make_plan(name, key, (x, *others), check, partial(answer, x))(x, *others)

    way, otherwise = (BELOW, first) if missed is None else (DIRECT, missed)
    return op


def int4_plan(family: str, kernel: Kernel, launch: LaunchCall, problem: LinearProblem, x: Tensor) -> Plan:
    """The plan of a kernel whose arguments begin with weight, scales, zeros, x, bias and out. launch: with all others bound."""
    stream, count = kernel.driver.stream, kernel.answered.add
    new, mask = output_of(problem, x.dtype, x.device), ALIGNMENT - 1

    def run(x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor | None, bias: Tensor | None) -> Tensor:
        weight_at, x_at = weight.data_ptr(), x.data_ptr()
        if (weight_at | x_at) & mask:
            raise alignment_error(family, x=x, weight=weight)
        out = new()
        zeros_at, bias_at = 0 if zeros is None else zeros.data_ptr(), 0 if bias is None else bias.data_ptr()
        addresses = (weight_at, scales.data_ptr(), zeros_at, x_at, bias_at, out.data_ptr())
        launch(stream(), addresses, (weight, scales, zeros, x, bias, out))
        count()
        return out

    return run
