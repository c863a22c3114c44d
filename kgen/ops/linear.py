"""The linear ops (torch.ops.kgen.wvsplitk, llmm1) on real tensors: the first call with a shape makes a plan, later ones look it up and launch.

The eager path is all there is between a model and a 2 us kernel, so it does only what can differ between two calls with one key: new
addresses, their alignment, the current stream, one allocation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kgen.ops.check import ALIGNMENT, DTYPES, LinearProblem, alignment_error, check_linear
from kgen.ops.reference import linear_torch
from kgen.runtime import session
from kgen.runtime.launch import Kernel
from kgen.runtime.library import Library

PLANS_LIMIT = 1 << 14  # prompts of every length would fill memory otherwise

Plan = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


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
            plan = _plan(family, key, x, weight, bias)
        return plan(x, weight, bias)

    return op


def _plan(family: str, key: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Plan:
    """Check the tensors, ask the table, load the kernel; what comes out is good for every call with this key."""
    plans = session.plans  # before the library is looked up: a load in between drops this plan with the old dictionary
    problem = check_linear(family, x, weight, bias)
    library = session.library_on(x.device.type, x.get_device())
    plan = library.driver.guarded(_answer(family, library, problem, x))
    if torch.is_grad_enabled():
        plan = _checking_gradients(family, plan)
    return _remember(plans, key, plan)


def _remember(plans: dict[Any, Any], key: Any, plan: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep a plan, and answer it."""
    if len(plans) >= PLANS_LIMIT:
        plans.clear()
    plans[key] = plan
    return plan


def _answer(family: str, library: Library, problem: LinearProblem, x: Tensor) -> Plan:
    shape = problem.shape
    if shape.M == 0 or shape.N == 0:
        return lambda x, weight, bias: x.new_empty(problem.out_shape)
    # Nothing to reduce: the table has no sizes below 1.
    kernel = library.pick(family, shape, DTYPES[x.dtype]) if shape.K else None
    if kernel is None:
        return _torch_plan(family, library)
    return _kernel_plan(family, library, kernel, problem, x)


def _torch_plan(family: str, library: Library, answer: Callable[..., Tensor] = linear_torch) -> Callable[..., Tensor]:
    """The plan of a problem that the table gives to torch: `answer` takes the op's tensors."""
    count = library.count_torch(family).add

    def run(*tensors: Tensor | None) -> Tensor:
        count()
        return answer(*tensors)

    return run


def _kernel_plan(family: str, library: Library, kernel: Kernel, problem: LinearProblem, x: Tensor) -> Plan:
    shape, driver = problem.shape, library.driver
    geometry = kernel.spec.launch(shape, driver.device.cu)
    sizes = (shape.M, shape.K, problem.weight_stride, problem.act_stride, problem.bias_stride, geometry.grid[0])
    launch, stream, count = kernel.bind(geometry), driver.stream, kernel.answered.add
    out_shape, out_stride, dtype = problem.out_shape, _contiguous(problem.out_shape), x.dtype
    empty = _empty_on(x.device)
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


def _checking_gradients(
    family: str, plan: Callable[..., Tensor], check: Callable[..., Any] = check_linear
) -> Callable[..., Tensor]:
    """A plan for calls with gradients enabled: whether a tensor wants one can differ between two calls with one key."""

    def run(*tensors: Tensor | None) -> Tensor:
        if any(tensor is not None and tensor.requires_grad for tensor in tensors):
            check(family, *tensors)
        return plan(*tensors)

    return run


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a contiguous tensor."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _empty_on(device: torch.device) -> Callable[[tuple[int, ...], tuple[int, ...], torch.dtype], Tensor]:
    """torch.empty_strided on a device, by the entry that torch's own compiled programs use where there is one: a third of the time."""
    from torch._C._dynamo import guards

    def plain(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty_strided(shape, stride, dtype=dtype, device=device)

    return getattr(guards, f"_empty_strided_{device.type}", plain)
