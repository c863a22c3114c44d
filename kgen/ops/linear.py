"""The linear ops (torch.ops.kgen.wvsplitk, llmm1) on real tensors: the first call with a shape makes a plan, later ones look it up and launch.

The eager path is all there is between a model and a 2 us kernel, so it does only what can differ between two calls with one key: new
addresses, their alignment, the current stream, one allocation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from kgen.ops.check import ALIGNMENT, LinearProblem, alignment_error, check_linear
from kgen.ops.plan import Plan, contiguous, empty_on, make_plan, table_answer
from kgen.runtime import session
from kgen.runtime.launch import Kernel
from kgen.runtime.library import Library


def linear_op(family: str) -> Callable[..., Tensor]:
    """The code of a family's op below autograd: (x, weight, bias=None) -> out; see `kgen.ops.check.check_linear` for what it takes."""

    def op(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        key = (
            family,
            x.shape,
            x.stride(),
            weight.shape,
            weight.stride(),
            x.dtype,
            weight.dtype,
            x.get_device(),
            weight.get_device(),
            None if bias is None else (bias.shape, bias.stride(), bias.dtype, bias.get_device()),
            torch.is_grad_enabled(),
        )
        plan = session.plans.get(key)
        if plan is None:
            plan = make_plan(family, key, (x, weight, bias), check_linear, partial(_answer, family, x))
        return plan(x, weight, bias)

    return op


def _answer(family: str, x: Tensor, library: Library, problem: LinearProblem) -> Plan:
    def kernel_plan(kernel: Kernel) -> Plan:
        return _kernel_plan(family, library, kernel, problem, x)

    return table_answer(family, library, problem, x.dtype, kernel_plan)


def _kernel_plan(family: str, library: Library, kernel: Kernel, problem: LinearProblem, x: Tensor) -> Plan:
    shape, driver = problem.shape, library.driver
    geometry = kernel.spec.launch(shape, driver.device.cu)
    sizes = (shape.M, shape.K, problem.weight_stride, problem.act_stride, problem.bias_stride, geometry.grid[0])
    launch, stream, count = kernel.bind(geometry), driver.stream, kernel.answered.add
    out_shape, out_stride, dtype = problem.out_shape, contiguous(problem.out_shape), x.dtype
    empty = empty_on(x.device)
    mask = ALIGNMENT - 1

    def run(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        weight_at, x_at = weight.data_ptr(), x.data_ptr()
        if (weight_at | x_at) & mask:
            raise alignment_error(family, x=x, weight=weight)
        out = empty(out_shape, out_stride, dtype)
        values = (weight_at, x_at, 0 if bias is None else bias.data_ptr(), out.data_ptr(), *sizes)
        launch(stream(), values, (weight, x, bias, out))
        count()
        return out

    return run
