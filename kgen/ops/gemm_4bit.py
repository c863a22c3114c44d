"""torch.ops.kgen.gemm_4bit on real tensors: the linear ops' plan for weights in bitsandbytes' 4-bit layout.

The arguments and their order are those of bitsandbytes' own op, torch.ops.bitsandbytes.gemm_4bit (bitsandbytes/_ops.py at 0.50.2), with shapeB =
[M, K]: M output features (their N), K the reduction.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, is_grad_enabled

from kgen.ops.check import ALIGNMENT, LinearProblem, alignment_error
from kgen.ops.check_4bit import Problem4Bit, check_4bit
from kgen.ops.direct import Missed
from kgen.ops.guard import ABSENT
from kgen.ops.plan import BELOW, DIRECT, Plan, make_plan, output_of, table_answer
from kgen.ops.quantise_4bit import Quantised4Bit, absmax_of, dequantise_4bit
from kgen.ops.reference import linear_reference
from kgen.runtime import session
from kgen.runtime.launch import Kernel
from kgen.runtime.library import Library
from kgen.spec.codes4 import Code
from kgen.spec.gemm_4bit import Gemm4BitSpec

FAMILY = Gemm4BitSpec.family
_NO_BIAS, _NO_8BIT, _NO_CODE, _NO_OFFSET = ABSENT[3:7]


def gemm_4bit_op(missed: Missed | None = None) -> Callable[..., Tensor]:
    """The op's code; see `kgen.ops.check_4bit.check_4bit` for what it takes.

    missed  of a key and the op's arguments: answers where no plan is kept; None: makes one
    """
    way, otherwise = (BELOW, _first) if missed is None else (DIRECT, missed)

    def gemm_4bit(
        A: Tensor,
        B: Tensor,
        shapeB: Sequence[int],
        absmax: Tensor,
        blocksize: int,
        quant_type: str,
        bias: Tensor | None = None,
        absmax_8bit: Tensor | None = None,
        absmax_code: Tensor | None = None,
        absmax_offset: Tensor | None = None,
    ) -> Tensor:
        nested = absmax_8bit is not None, absmax_code is not None, absmax_offset is not None
        key = (way, FAMILY, *shapeB, blocksize, quant_type, A.numel(), bias is None, nested, is_grad_enabled())
        for same, plan in session.plans.get(key, ()):
            if same(
                A,
                B,
                absmax,
                _NO_BIAS if bias is None else bias,
                _NO_8BIT if absmax_8bit is None else absmax_8bit,
                _NO_CODE if absmax_code is None else absmax_code,
                _NO_OFFSET if absmax_offset is None else absmax_offset,
            ):
                return plan(A, B, absmax, bias, absmax_8bit, absmax_code, absmax_offset)
        nested_tensors = (absmax_8bit, absmax_code, absmax_offset)
        return otherwise(key, A, B, shapeB, absmax, blocksize, quant_type, bias, *nested_tensors)

    return gemm_4bit


def _first(
    key: tuple[Any, ...],
    A: Tensor,
    B: Tensor,
    shapeB: Sequence[int],
    absmax: Tensor,
    blocksize: int,
    quant_type: str,
    bias: Tensor | None,
    *nested: Tensor | None,
) -> Tensor:
    """The first call with such tensors."""
    check = partial(check_4bit, shape=tuple(shapeB), blocksize=blocksize, code=quant_type)
    tensors = (A, B, absmax, bias, *nested)
    return make_plan(FAMILY, key, tensors, check, partial(_answer, A))(*tensors)


def weight_of(
    B: Tensor,
    absmax: Tensor,
    absmax_8bit: Tensor | None,
    absmax_code: Tensor | None,
    absmax_offset: Tensor | None,
    problem: Problem4Bit,
) -> Quantised4Bit:
    """The op's tensors as one weight."""
    shape = problem.shape
    raw = B.reshape(-1) if B.dtype == torch.uint8 else B.reshape(-1).view(torch.uint8)
    code: Code = "fp4" if shape.traits["FP4"] else "nf4"
    sizes = (shape.M, shape.K)
    return Quantised4Bit(raw, sizes, problem.blocksize, code, absmax, absmax_8bit, absmax_code, absmax_offset)


def gemm_4bit_reference(x: Tensor, weight: Quantised4Bit, bias: Tensor | None = None) -> Tensor:
    """x [..., K] @ dequantised weight^T + bias in fp64, the weight as number times absmax in fp32: [..., M] as float64, on x's device."""
    return linear_reference(x, dequantise_4bit(weight), bias)


def gemm_4bit_torch(
    A: Tensor,
    B: Tensor,
    absmax: Tensor,
    bias: Tensor | None,
    absmax_8bit: Tensor | None,
    absmax_code: Tensor | None,
    absmax_offset: Tensor | None,
    problem: Problem4Bit,
) -> Tensor:
    """The same by dequantising to A's type and torch's linear, contiguous: what a table's torch row runs.

    On a GPU by bitsandbytes' dequantising kernel where that package has been imported; the weights are the same bits.
    """
    weight = weight_of(B, absmax, absmax_8bit, absmax_code, absmax_offset, problem)
    dense = (
        _dense_by_bitsandbytes(weight, A.dtype)
        if A.is_cuda and "bitsandbytes" in sys.modules
        else dequantise_4bit(weight, A.dtype)
    )
    out = torch.nn.functional.linear(A.reshape(math.prod(A.shape[:-1]), A.shape[-1]), dense, bias)
    return out.reshape(problem.out_shape).contiguous()


def _dense_by_bitsandbytes(weight: Quantised4Bit, dtype: torch.dtype) -> Tensor:
    args = (weight.packed.reshape(-1, 1), absmax_of(weight), weight.blocksize, weight.code, list(weight.shape), dtype)
    dense: Tensor = torch.ops.bitsandbytes.dequantize_4bit.default(*args)
    return dense


def _answer(A: Tensor, library: Library, problem: LinearProblem) -> Plan:
    assert isinstance(problem, Problem4Bit)

    def kernel_plan(kernel: Kernel) -> Plan:
        return _kernel_plan(library, kernel, problem, A)

    return table_answer(FAMILY, library, problem, A.dtype, kernel_plan, partial(gemm_4bit_torch, problem=problem))


def _kernel_plan(library: Library, kernel: Kernel, problem: Problem4Bit, A: Tensor) -> Plan:
    shape, driver, spec = problem.shape, library.driver, kernel.spec
    assert isinstance(spec, Gemm4BitSpec)
    geometry = spec.launch(shape, driver.device.cu)
    shift = (problem.blocksize // spec.GROUP_SIZE).bit_length() - 1
    sizes = (shape.M, shape.K, shape.N, problem.act_stride, problem.bias_stride, geometry.grid[0])
    launch, stream, count = kernel.bind(geometry, sizes), driver.stream, kernel.answered.add
    new, mask = output_of(problem, A.dtype, A.device), ALIGNMENT - 1

    def run(
        A: Tensor,
        B: Tensor,
        absmax: Tensor,
        bias: Tensor | None,
        absmax_8bit: Tensor | None,
        absmax_code: Tensor | None,
        absmax_offset: Tensor | None,
    ) -> Tensor:
        codes_at, act_at = B.data_ptr(), A.data_ptr()
        if (codes_at | act_at) & mask:
            raise alignment_error(FAMILY, A=A, B=B)
        out = new()
        if absmax_8bit is None or absmax_code is None or absmax_offset is None:
            first, table, offset = 0, 0, 0
        else:
            first, table, offset = absmax_8bit.data_ptr(), absmax_code.data_ptr(), absmax_offset.data_ptr()
        bias_at = 0 if bias is None else bias.data_ptr()
        values = (codes_at, absmax.data_ptr(), first, table, offset, shift, act_at, bias_at, out.data_ptr())
        launch(stream(), values, (B, absmax, absmax_8bit, absmax_code, absmax_offset, A, bias, out))
        count()
        return out

    return run
