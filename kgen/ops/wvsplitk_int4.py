"""torch.ops.kgen.wvsplitk_int4 on real tensors: the linear ops' plan for 4-bit weights with scales and zero points per group."""

from __future__ import annotations

from torch import Tensor

from kgen.ops.check import ALIGNMENT, LinearProblem, alignment_error
from kgen.ops.check_int4 import Int4Problem, check_int4_linear
from kgen.ops.dequantize_w4a16 import dequantised_linear
from kgen.ops.int4 import int4_op
from kgen.ops.plan import Plan, contiguous, empty_on, table_answer
from kgen.runtime.launch import Kernel
from kgen.runtime.library import Library
from kgen.spec.wvsplitk_int4 import WvSplitKInt4Spec

FAMILY = WvSplitKInt4Spec.family


def wvsplitk_int4_answer(x: Tensor, library: Library, problem: LinearProblem) -> Plan:
    """The family's answer as a plan: of its table's kernel, or torch."""
    assert isinstance(problem, Int4Problem)

    def kernel_plan(kernel: Kernel) -> Plan:
        return _kernel_plan(library, kernel, problem, x)

    by_torch = dequantised_linear(library, problem, x.dtype)
    return table_answer(FAMILY, library, problem, x.dtype, kernel_plan, by_torch)


def _kernel_plan(library: Library, kernel: Kernel, problem: Int4Problem, x: Tensor) -> Plan:
    shape, driver = problem.shape, library.driver
    geometry = kernel.spec.launch(shape, driver.device.cu)
    strides = (
        problem.weight_stride,
        problem.scale_stride,
        problem.zero_stride,
        problem.act_stride,
        problem.bias_stride,
    )
    sizes = (shape.M, shape.K, *strides, geometry.grid[0])
    launch, stream, count = kernel.bind(geometry), driver.stream, kernel.answered.add
    out_shape, out_stride, dtype = problem.out_shape, contiguous(problem.out_shape), x.dtype
    empty, mask = empty_on(x.device), ALIGNMENT - 1

    def run(x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor | None, bias: Tensor | None) -> Tensor:
        weight_at, x_at = weight.data_ptr(), x.data_ptr()
        if (weight_at | x_at) & mask:
            raise alignment_error(FAMILY, x=x, weight=weight)
        out = empty(out_shape, out_stride, dtype)
        zeros_at, bias_at = 0 if zeros is None else zeros.data_ptr(), 0 if bias is None else bias.data_ptr()
        values = (weight_at, scales.data_ptr(), zeros_at, x_at, bias_at, out.data_ptr(), *sizes)
        launch(stream(), values, (weight, scales, zeros, x, bias, out))
        count()
        return out

    return run


wvsplitk_int4 = int4_op(FAMILY, check_int4_linear, wvsplitk_int4_answer)
