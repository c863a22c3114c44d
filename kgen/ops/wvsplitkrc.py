"""torch.ops.kgen.wvsplitkrc on real tensors: the linear ops' plan with a workspace, and a choice between two orders of addition."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from kgen import settings
from kgen.errors import MissingPieceError
from kgen.ops.check import ALIGNMENT, LinearProblem, alignment_error, check_linear
from kgen.ops.plan import Plan, contiguous, empty_on, make_plan, table_answer
from kgen.runtime import session
from kgen.runtime.launch import Kernel
from kgen.runtime.library import Library
from kgen.runtime.workspace import Slot, pool_of
from kgen.spec.wvsplitkrc import WvSplitKrcSpec

FAMILY = WvSplitKrcSpec.family


def wvsplitkrc(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, deterministic: bool | None = None) -> Tensor:
    """The op below autograd. See `kgen.ops.check.check_linear` for what it takes.

    deterministic  the same bits on every run, or sums in the order of arrival; None: `kgen.settings.deterministic()`
    """
    wanted = settings.deterministic() if deterministic is None else deterministic
    key = (
        FAMILY,
        wanted,
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
        plan = make_plan(FAMILY, key, (x, weight, bias), check_linear, partial(_answer, x, wanted))
    return plan(x, weight, bias)


def _answer(x: Tensor, deterministic: bool, library: Library, problem: LinearProblem) -> Plan:
    def kernel_plan(kernel: Kernel) -> Plan:
        return _kernel_plan(library, _in_order(library, kernel, problem, deterministic), problem, x)

    return table_answer(FAMILY, library, problem, x.dtype, kernel_plan)


def _in_order(library: Library, kernel: Kernel, problem: LinearProblem, deterministic: bool) -> Kernel:
    """The kernel itself, or its twin that adds in the wanted order; a wish for speed never stops a shape from being answered."""
    spec = kernel.spec
    assert isinstance(spec, WvSplitKrcSpec)
    if spec.DETERMINISTIC == deterministic:
        return kernel
    (twin,) = spec.twins()
    if not deterministic and twin.fits(problem.shape) is not None:
        return kernel
    entry = library.manifest.entries.get(twin.name)
    if entry is None or not entry.built:
        raise MissingPieceError(
            f"kernel not built: {twin.name} for {library.arch}, the twin of {spec.name}\n"
            f"  try: kgen build --arch {library.arch} --family {FAMILY}"
        )
    return library.kernel(twin.name)


def _kernel_plan(library: Library, kernel: Kernel, problem: LinearProblem, x: Tensor) -> Plan:
    shape, driver, spec = problem.shape, library.driver, kernel.spec
    assert isinstance(spec, WvSplitKrcSpec)
    geometry = spec.launch(shape, driver.device.cu)
    strides = (problem.weight_stride, problem.act_stride, problem.bias_stride)
    sizes = (shape.M, shape.K, *strides, shape.N, spec.shards(shape), geometry.grid[0])
    bound, stream, count = kernel.bind(geometry), driver.stream, kernel.answered.add
    borrow = pool_of(driver, spec.DETERMINISTIC).launch
    out_shape, out_stride, dtype = problem.out_shape, contiguous(problem.out_shape), x.dtype
    empty = empty_on(x.device)
    mask = ALIGNMENT - 1

    def run(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        weight_at, x_at = weight.data_ptr(), x.data_ptr()
        if (weight_at | x_at) & mask:
            raise alignment_error(FAMILY, x=x, weight=weight)
        out = empty(out_shape, out_stride, dtype)
        bias_at, out_at, now = 0 if bias is None else bias.data_ptr(), out.data_ptr(), stream()

        def launch(slot: Slot) -> None:
            values = (weight_at, x_at, bias_at, out_at, slot.partial_at, slot.counter_at, *sizes)
            bound(now, values, (weight, x, bias, out, slot.partial, slot.counter))

        borrow(now, launch)
        count()
        return out

    return run
