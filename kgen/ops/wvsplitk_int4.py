"""torch.ops.kgen.wvsplitk_int4 on real tensors: the linear ops' plan for 4-bit weights with scales and zero points per group."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from kgen.ops.check import LinearProblem
from kgen.ops.check_int4 import Int4Problem, check_int4_linear
from kgen.ops.dequantize_w4a16 import dequantised_linear
from kgen.ops.int4 import int4_op, int4_plan
from kgen.ops.plan import Plan, table_answer
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
    shape = problem.shape
    geometry = kernel.spec.launch(shape, library.driver.device.cu)
    sizes = (shape.M, shape.K, *problem.strides, geometry.grid[0])
    return int4_plan(FAMILY, kernel, kernel.bind(geometry, sizes), problem, x)


wvsplitk_int4_op = partial(int4_op, FAMILY, check_int4_linear, wvsplitk_int4_answer)
