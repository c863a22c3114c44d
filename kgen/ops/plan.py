"""What the ops' plans share: a plan is made at the first call with tensors of a kind, kept, and called with such tensors ever after.

Plans are kept under a rough key, which is cheap to make: sizes, which optional tensors there are, the op's other arguments. What the key leaves open
is compared by a guard, one call into torch for all tensors: their types, devices, shapes and strides, and whether they want gradients. Most keys have
one plan; a handful of plans may share one.

The look-up stays with the linear ops: a function between an op and its plan would be paid at every launch. Ops of many tensors use `find_plan`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, is_grad_enabled

from kgen.ops.check import ALL_DTYPES, LinearProblem
from kgen.ops.guard import filled, guard, knows_dispatch
from kgen.ops.reference import linear_torch
from kgen.runtime import session
from kgen.runtime.launch import Kernel
from kgen.runtime.library import Library

KEYS_LIMIT = 1 << 14  # prompts of every length would fill memory otherwise
PLANS_PER_KEY = 8  # they differ in strides, types or devices alone; the newest comes first

# What keys begin with: plans for calls that torch's dispatcher hands on, and for those that leave it out.
BELOW, DIRECT = False, True

Plan = Callable[..., Tensor]
"""Of the op's tensors, x and weight first."""


def make_plan(
    family: str,
    key: tuple[Any, ...],
    tensors: tuple[Tensor | None, ...],
    check: Callable[..., LinearProblem],
    answer: Callable[[Library, LinearProblem], Plan],
) -> Plan:
    """Check the tensors, find their library, ask for an answer; what comes out is good for every call with this key whose tensors the guard passes.

    key     BELOW and the rest; says which of the tensors are None, and whether gradients are enabled: a guard made while they are not lets tensors
            pass that want one
    check   of (family, *tensors); raises OpError
    answer  the table's answer as a plan, see `table_answer`
    """
    plans = session.plans  # before the library is looked up: a load in between drops this plan with the old dictionary
    problem = check(family, *tensors)
    x = tensors[0]
    assert x is not None
    library = session.library_on(x.device.type, x.get_device())
    plan = library.driver.guarded(answer(library, problem))
    if len(plans) >= KEYS_LIMIT:
        plans.clear()
    kept, keys = (guard(tensors), plan), [key]
    if _plain(tensors) and knows_dispatch(tensors):
        keys.append((DIRECT, *key[1:]))
    for each in keys:
        plans[each] = [kept, *plans.get(each, ())][:PLANS_PER_KEY]  # a new list: other threads may be in the old one
    return plan


def _plain(tensors: tuple[Tensor | None, ...]) -> bool:
    """Whether no tensor is of a class that may want to see the op: torch's dispatcher asks it."""
    return all(tensor is None or type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors)


def rough_key(tensors: tuple[Tensor | None, ...]) -> tuple[Any, ...]:
    """What of an op's tensors belongs to the key of its plans."""
    x, weight = tensors[0], tensors[1]
    assert x is not None
    assert weight is not None
    return (x.numel(), weight.numel(), tuple(tensor is None for tensor in tensors), is_grad_enabled())


def find_plan(key: tuple[Any, ...], tensors: tuple[Tensor | None, ...]) -> Plan | None:
    """The plan that was made for such tensors under a key; None at the first call."""
    there = filled(tensors)
    for same, plan in session.plans.get(key, ()):
        if same(*there):
            return plan
    return None


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


def output_of(problem: LinearProblem, dtype: torch.dtype, device: torch.device) -> Callable[[], Tensor]:
    """A call that allocates a problem's output."""
    shape = problem.out_shape
    return partial(empty_on(device), shape, contiguous(shape), dtype)


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
