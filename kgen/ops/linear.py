"""The linear ops (torch.ops.kgen.wvsplitk, llmm1) on real tensors: the first call with a shape makes a plan, later ones look it up and launch.

The eager path is all there is between a model and a 2 us kernel, so it does only what can differ between two calls with one key: new
addresses, their alignment, the current stream, one allocation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, is_grad_enabled

from kgen.ops.check import ALIGNMENT, LinearProblem, alignment_error, check_linear
from kgen.ops.direct import Missed
from kgen.ops.guard import ABSENT
from kgen.ops.plan import BELOW, DIRECT, Plan, make_plan, output_of, table_answer
from kgen.runtime import session
from kgen.runtime.driver import LaunchCall
from kgen.runtime.launch import Kernel
from kgen.runtime.library import Library

_NO_BIAS = ABSENT[2]


def linear_op(family: str, missed: Missed | None = None) -> Callable[..., Tensor]:
    """The code of a family's op: (x, weight, bias=None) -> out; see `kgen.ops.check.check_linear` for what it takes.

    missed  of (key, x, weight, bias): answers where no plan is kept; None: makes one
    """
    way, otherwise = (BELOW, partial(_first, family)) if missed is None else (DIRECT, missed)

    def op(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        key = (way, family, x.numel(), weight.numel(), bias is None, is_grad_enabled())
        for same, plan in session.plans.get(key, ()):
            if same(x, weight, _NO_BIAS if bias is None else bias):
                return plan(x, weight, bias)
        return otherwise(key, x, weight, bias)

    return op


def _first(family: str, key: tuple[Any, ...], x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The first call with such tensors."""
    return make_plan(family, key, (x, weight, bias), check_linear, partial(_answer, family, x))(x, weight, bias)


def _answer(family: str, x: Tensor, library: Library, problem: LinearProblem) -> Plan:
    def kernel_plan(kernel: Kernel) -> Plan:
        return _kernel_plan(family, library, kernel, problem, x)

    return table_answer(family, library, problem, x.dtype, kernel_plan)


def _kernel_plan(family: str, library: Library, kernel: Kernel, problem: LinearProblem, x: Tensor) -> Plan:
    shape = problem.shape
    geometry = kernel.spec.launch(shape, library.driver.device.cu)
    sizes = (shape.M, shape.K, problem.weight_stride, problem.act_stride, problem.bias_stride, geometry.grid[0])
    return linear_plan(family, kernel, kernel.bind(geometry, sizes), problem, x)


def linear_plan(family: str, kernel: Kernel, launch: LaunchCall, problem: LinearProblem, x: Tensor) -> Plan:
    """The plan of a kernel whose arguments begin with weight, x, bias and out. launch: with all others bound."""
    stream, count = kernel.driver.stream, kernel.answered.add
    new, mask = output_of(problem, x.dtype, x.device), ALIGNMENT - 1

    def run(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        weight_at, x_at = weight.data_ptr(), x.data_ptr()
        if (weight_at | x_at) & mask:
            raise alignment_error(family, x=x, weight=weight)
        out = new()
        addresses = (weight_at, x_at, 0 if bias is None else bias.data_ptr(), out.data_ptr())
        launch(stream(), addresses, (weight, x, bias, out))
        count()
        return out

    return run
