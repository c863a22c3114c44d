"""torch.ops.kgen.w4a16_linear on real tensors: a linear layer on int4 weights for any number of rows.

The op's own table names the family that answers, wvsplitk_int4 for a few rows or gemm_w4a16 for many, or torch; the family's table names the kernel.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from kgen.ops.check import DTYPES, LinearProblem
from kgen.ops.check_int4 import Int4Problem, check_w4a16
from kgen.ops.dequantize_w4a16 import dequantised_linear
from kgen.ops.gemm_w4a16 import gemm_w4a16_answer
from kgen.ops.int4 import int4_op
from kgen.ops.plan import Plan, torch_answer
from kgen.ops.wvsplitk_int4 import wvsplitk_int4_answer
from kgen.runtime.library import Library
from kgen.spec.gemm_w4a16 import GemmW4A16Spec
from kgen.spec.wvsplitk_int4 import WvSplitKInt4Spec

OP = "w4a16_linear"
_ANSWERS = {WvSplitKInt4Spec.family: wvsplitk_int4_answer, GemmW4A16Spec.family: gemm_w4a16_answer}


def _answer(x: Tensor, library: Library, problem: LinearProblem) -> Plan:
    assert isinstance(problem, Int4Problem)
    shape = problem.shape
    if not (shape.M and shape.N and shape.K):
        return gemm_w4a16_answer(x, library, problem)
    family = library.route(OP, shape, DTYPES[x.dtype])
    if family is None:
        return torch_answer(OP, library, dequantised_linear(library, problem, x.dtype))
    return _ANSWERS[family](x, library, problem)


w4a16_linear_op = partial(int4_op, OP, check_w4a16, _answer)
