"""What the ops' plans share: a plan is made at the first call with a key, kept, and called with the op's tensors ever after.

The keys stay with the ops: a function between an op and its plan would be paid at every launch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kgen.ops.check import ALL_DTYPES, LinearProblem
from kgen.ops.reference import linear_torch
from kgen.runtime import session
from kgen.runtime.launch import Kernel
from kgen.runtime.library import Library

PLANS_LIMIT = 1 << 14  # prompts of every length would fill memory otherwise

Plan = Callable[..., Tensor]
"""Of the op's tensors, x and weight first."""


def make_plan(
    family: str,
    key: Any,
    tensors: tuple[Tensor | None, ...],
    check: Callable[..., LinearProblem],
    answer: Callable[[Library, LinearProblem], Plan],
) -> Plan:
    """Check the tensors, find their library, ask for an answer; what comes out is good for every call with this key.

    check   of (family, *tensors); raises OpError
    answer  the table's answer as a plan, see `table_answer`
    """
    plans = session.plans  # before the library is looked up: a load in between drops this plan with the old dictionary
    problem = check(family, *tensors)
    x = tensors[0]
    assert x is not None
    library = session.library_on(x.device.type, x.get_device())
    plan = library.driver.guarded(answer(library, problem))
    if torch.is_grad_enabled():
        plan = _checking_gradients(family, plan, check)
    if len(plans) >= PLANS_LIMIT:
        plans.clear()
    plans[key] = plan
    return plan


def table_answer(
    family: str,
    library: Library,
    problem: LinearProblem,
    out_dtype: torch.dtype,
    kernel_plan: Callable[[Kernel], Plan],
    reference: Callable[..., Tensor] = linear_torch,
) -> Plan:
    """The plan of what the table picks: `kernel_plan` of a kernel, `reference` where it says torch, nothing for an empty output."""
    shape = problem.shape
    if shape.M == 0 or shape.N == 0:
        return lambda x, *others: x.new_empty(problem.out_shape, dtype=out_dtype)
    # Nothing to reduce: the table has no sizes below 1.
    kernel = library.pick(family, shape, ALL_DTYPES[out_dtype]) if shape.K else None
    return torch_answer(family, library, reference) if kernel is None else kernel_plan(kernel)


def torch_answer(family: str, library: Library, reference: Callable[..., Tensor]) -> Plan:
    """The plan of a problem that the table gives to torch."""
    count = library.count_torch(family).add

    def run(*tensors: Tensor | None) -> Tensor:
        count()
        return reference(*tensors)

    return run


def _checking_gradients(family: str, plan: Plan, check: Callable[..., LinearProblem]) -> Plan:
    """A plan for calls with gradients enabled: whether a tensor wants one can differ between two calls with one key."""

    def run(*tensors: Tensor | None) -> Tensor:
        if any(tensor is not None and tensor.requires_grad for tensor in tensors):
            check(family, *tensors)
        return plan(*tensors)

    return run


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a contiguous tensor."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def empty_on(device: torch.device) -> Callable[[tuple[int, ...], tuple[int, ...], torch.dtype], Tensor]:
    """torch.empty_strided on a device, by the entry that torch's own compiled programs use where there is one: a third of the time."""
    from torch._C._dynamo import guards

    def plain(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty_strided(shape, stride, dtype=dtype, device=device)

    return getattr(guards, f"_empty_strided_{device.type}", plain)
