"""torch.ops.kgen.wvsplitkq on real tensors: the linear ops' plan for 8-bit floats, whose scales stay on the device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, is_grad_enabled

from kgen.ops.check import ALIGNMENT, LinearProblem, alignment_error, check_fp8, check_scaled_linear
from kgen.ops.direct import Missed
from kgen.ops.guard import ABSENT
from kgen.ops.plan import BELOW, DIRECT, Plan, make_plan, output_of, table_answer
from kgen.ops.reference import scaled_linear_torch
from kgen.runtime import session
from kgen.runtime.launch import Kernel
from kgen.runtime.library import Library
from kgen.spec.arch import arch_facts
from kgen.spec.wvsplitkq import WvSplitKQSpec

FAMILY = WvSplitKQSpec.family
_NO_BIAS = ABSENT[4]
OUT = torch.bfloat16  # the output's type where the caller names none


def wvsplitkq_op(missed: Missed | None = None) -> Callable[..., Tensor]:
    """The op's code; see `kgen.ops.check.check_scaled_linear` for what it takes. out_dtype None is bf16.

    missed  of a key and the op's arguments: answers where no plan is kept; None: makes one
    """
    way, otherwise = (BELOW, _first) if missed is None else (DIRECT, missed)

    def wvsplitkq(
        x: Tensor,
        weight: Tensor,
        x_scale: Tensor,
        weight_scale: Tensor,
        bias: Tensor | None = None,
        out_dtype: torch.dtype | None = None,
    ) -> Tensor:
        key = (way, FAMILY, out_dtype, x.numel(), weight.numel(), bias is None, is_grad_enabled())
        for same, plan in session.plans.get(key, ()):
            if same(x, weight, x_scale, weight_scale, _NO_BIAS if bias is None else bias):
                return plan(x, weight, x_scale, weight_scale, bias)
        return otherwise(key, x, weight, x_scale, weight_scale, bias, out_dtype)

    return wvsplitkq


def _first(
    key: tuple[Any, ...],
    x: Tensor,
    weight: Tensor,
    x_scale: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    out_dtype: torch.dtype | None,
) -> Tensor:
    """The first call with such tensors."""
    out_type = out_dtype or OUT
    check = partial(check_scaled_linear, out_dtype=out_type)
    tensors = (x, weight, x_scale, weight_scale, bias)
    return make_plan(FAMILY, key, tensors, check, partial(_answer, x, out_type))(*tensors)


def _answer(x: Tensor, out_dtype: torch.dtype, library: Library, problem: LinearProblem) -> Plan:
    fp8 = arch_facts(library.arch).fp8
    check_fp8(FAMILY, x, library.arch, fp8)
    reference = partial(scaled_linear_torch, out_dtype=out_dtype, fp8_hardware=fp8 is not None)

    def kernel_plan(kernel: Kernel) -> Plan:
        return _kernel_plan(library, kernel, problem, x.device, out_dtype)

    return table_answer(FAMILY, library, problem, out_dtype, kernel_plan, reference)


def _kernel_plan(
    library: Library, kernel: Kernel, problem: LinearProblem, device: torch.device, out_dtype: torch.dtype
) -> Plan:
    shape, driver = problem.shape, library.driver
    geometry = kernel.spec.launch(shape, driver.device.cu)
    sizes = (shape.M, shape.K, problem.weight_stride, problem.act_stride, problem.bias_stride, geometry.grid[0])
    launch, stream, count = kernel.bind(geometry, sizes), driver.stream, kernel.answered.add
    new, mask = output_of(problem, out_dtype, device), ALIGNMENT - 1

    def run(x: Tensor, weight: Tensor, x_scale: Tensor, weight_scale: Tensor, bias: Tensor | None) -> Tensor:
        weight_at, x_at = weight.data_ptr(), x.data_ptr()
        if (weight_at | x_at) & mask:
            raise alignment_error(FAMILY, x=x, weight=weight)
        out = new()
        bias_at = 0 if bias is None else bias.data_ptr()
        addresses = (weight_at, x_at, bias_at, out.data_ptr(), weight_scale.data_ptr(), x_scale.data_ptr())
        launch(stream(), addresses, (weight, x, bias, out, weight_scale, x_scale))
        count()
        return out

    return run
