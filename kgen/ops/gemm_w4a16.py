"""torch.ops.kgen.gemm_w4a16 on real tensors: the int4 linear op for many rows, with a workspace where K is split."""

from __future__ import annotations

from torch import Tensor

from kgen.ops.check import ALIGNMENT, LinearProblem, alignment_error
from kgen.ops.check_int4 import Int4Problem, check_w4a16
from kgen.ops.dequantize_w4a16 import dequantised_linear
from kgen.ops.int4 import int4_op
from kgen.ops.plan import Plan, contiguous, empty_on, table_answer
from kgen.runtime.launch import Kernel
from kgen.runtime.library import Library
from kgen.runtime.workspace import Slot, pool_of
from kgen.spec.gemm_w4a16 import GemmW4A16Spec

FAMILY = GemmW4A16Spec.family


def gemm_w4a16_answer(x: Tensor, library: Library, problem: LinearProblem) -> Plan:
    """The family's answer as a plan: of its table's kernel, or torch."""
    assert isinstance(problem, Int4Problem)

    def kernel_plan(kernel: Kernel) -> Plan:
        return _kernel_plan(library, kernel, problem, x)

    by_torch = dequantised_linear(library, problem, x.dtype)
    return table_answer(FAMILY, library, problem, x.dtype, kernel_plan, by_torch)


def _kernel_plan(library: Library, kernel: Kernel, problem: Int4Problem, x: Tensor) -> Plan:
    shape, driver, spec = problem.shape, library.driver, kernel.spec
    assert isinstance(spec, GemmW4A16Spec)
    geometry = spec.launch(shape, driver.device.cu)
    strides = (
        problem.weight_stride,
        problem.scale_stride,
        problem.zero_stride,
        problem.act_stride,
        problem.bias_stride,
    )
    sizes = (shape.M, shape.K, *strides, shape.N, geometry.grid[0])
    bound, stream, count = kernel.bind(geometry), driver.stream, kernel.answered.add
    borrow = pool_of(driver, spec.same_bits).launch if spec.K_SPLIT > 1 else None
    out_shape, out_stride, dtype = problem.out_shape, contiguous(problem.out_shape), x.dtype
    empty, mask = empty_on(x.device), ALIGNMENT - 1

    def run(x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor | None, bias: Tensor | None) -> Tensor:
        weight_at, x_at = weight.data_ptr(), x.data_ptr()
        if (weight_at | x_at) & mask:
            raise alignment_error(FAMILY, x=x, weight=weight)
        out = empty(out_shape, out_stride, dtype)
        zeros_at, bias_at = 0 if zeros is None else zeros.data_ptr(), 0 if bias is None else bias.data_ptr()
        addresses = (weight_at, scales.data_ptr(), zeros_at, x_at, bias_at, out.data_ptr())
        tensors = (weight, scales, zeros, x, bias, out)
        now = stream()
        if borrow is None:
            bound(now, (*addresses, *sizes), tensors)
        else:

            def launch(slot: Slot) -> None:
                values = (*addresses, slot.partial_at, slot.counter_at, *sizes)
                bound(now, values, (*tensors, slot.partial, slot.counter))

            borrow(now, launch)
        count()
        return out

    return run


gemm_w4a16 = int4_op(FAMILY, check_w4a16, gemm_w4a16_answer)
