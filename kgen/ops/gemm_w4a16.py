"""torch.ops.kgen.gemm_w4a16 on real tensors: the int4 linear op for many rows, with a workspace where K is split."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from kgen.ops.check import LinearProblem
from kgen.ops.check_int4 import Int4Problem, check_w4a16
from kgen.ops.dequantize_w4a16 import dequantised_linear
from kgen.ops.int4 import int4_op, int4_plan
from kgen.ops.plan import Plan, table_answer
from kgen.runtime.launch import Kernel
from kgen.runtime.library import Library
from kgen.runtime.workspace import pool_of
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
    launch = kernel.bind(geometry, (shape.M, shape.K, *problem.strides, shape.N, geometry.grid[0]))
    if spec.K_SPLIT > 1:
        launch = pool_of(driver, spec.same_bits).lend(launch)
    return int4_plan(FAMILY, kernel, launch, problem, x)


gemm_w4a16_op = partial(int4_op, FAMILY, check_w4a16, gemm_w4a16_answer)
