"""torch.ops.kgen.dequantize_w4a16 on real tensors, and what tables' torch rows make of it: int4 weights as numbers, which torch's own products read.

Numbers are those of `kgen.ops.reference.int4_weight` to the bit. That chain of torch operations answers where a table says torch, and in the torch
rows of other tables where this family's kernel was not built.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from kgen.errors import MissingPieceError
from kgen.ops.check import ALIGNMENT, DTYPES, LinearProblem, alignment_error
from kgen.ops.check_int4 import Int4Problem, check_dequantize
from kgen.ops.check_moe import Stack
from kgen.ops.plan import BELOW, Plan, find_plan, make_plan, output_of, rough_key, table_answer
from kgen.ops.reference import int4_linear_torch, int4_weight, linear_torch
from kgen.ops.reference_moe import expanded
from kgen.runtime.launch import Kernel
from kgen.runtime.library import Library
from kgen.spec.dequantize_w4a16 import DequantizeW4A16Spec
from kgen.spec.problem import DequantizeShape, GemmShape

FAMILY = DequantizeW4A16Spec.family
_MASK = ALIGNMENT - 1
Write = Callable[[Tensor, Tensor, "Tensor | None", Tensor], None]
"""Of weight, scales, zeros and out, which is written."""
Expand = Callable[[tuple[Tensor, Tensor, "Tensor | None"]], Tensor]
"""Of a stack's weight, scales and zeros: all its weights as numbers, [E, rows, K]."""


def dequantize_w4a16(weight: Tensor, scales: Tensor, zeros: Tensor | None = None) -> Tensor:
    """(q - z) * scale, [M, K] of the scales' type; see `kgen.ops.check_int4.check_dequantize` for what it takes."""
    tensors = (weight, scales, zeros)
    key = (BELOW, FAMILY, *rough_key(tensors))
    plan = find_plan(key, tensors)
    if plan is None:
        plan = make_plan(FAMILY, key, tensors, check_dequantize, partial(_answer, scales))
    return plan(weight, scales, zeros)


def _answer(scales: Tensor, library: Library, problem: LinearProblem) -> Plan:
    assert isinstance(problem, Int4Problem)
    dtype, shape = scales.dtype, problem.shape

    def kernel_plan(kernel: Kernel) -> Plan:
        write = _writer(library, kernel, shape, problem.weight_strides)
        new = output_of(problem, dtype, scales.device)

        def run(weight: Tensor, scales: Tensor, zeros: Tensor | None) -> Tensor:
            if weight.data_ptr() & _MASK:
                raise alignment_error(FAMILY, weight=weight)
            out = new()
            write(weight, scales, zeros, out)
            return out

        return run

    def by_torch(weight: Tensor, scales: Tensor, zeros: Tensor | None) -> Tensor:
        return int4_weight(weight, scales, zeros, dtype)

    return table_answer(FAMILY, library, problem, dtype, kernel_plan, by_torch)


def _writer(library: Library, kernel: Kernel, shape: GemmShape, strides: tuple[int, int, int]) -> Write:
    launch = kernel.bind(kernel.spec.launch(shape, library.driver.device.cu), (shape.M, shape.K, *strides))
    stream, count = library.driver.stream, kernel.answered.add

    def write(weight: Tensor, scales: Tensor, zeros: Tensor | None, out: Tensor) -> None:
        zeros_at = 0 if zeros is None else zeros.data_ptr()
        addresses = (weight.data_ptr(), scales.data_ptr(), zeros_at, out.data_ptr())
        launch(stream(), addresses, (weight, scales, zeros, out))
        count()

    return write


# ---- for the torch rows of other tables


def dequantised_linear(library: Library, problem: Int4Problem, dtype: torch.dtype) -> Plan:
    """What a torch row of the linear ops runs, of x, weight, scales, zeros and bias: torch's linear on weights dequantised for the time of the call.

    The kernel is looked up at the first call, since most plans never make one.
    """
    M, K, traits = problem.shape.M, problem.shape.K, problem.shape.traits
    shape = DequantizeShape(M, 1, K, traits["GROUP_SIZE"], bool(traits["HAS_ZP"]))

    @cache
    def writer() -> Write | None:
        return _writer_of(library, shape, problem.weight_strides, dtype)

    def run(x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor | None, bias: Tensor | None) -> Tensor:
        write = writer()
        if write is None or weight.data_ptr() & _MASK:  # torch rows take weights from anywhere
            return int4_linear_torch(x, weight, scales, zeros, bias)
        wide = x.new_empty(shape.M, shape.K)
        write(weight, scales, zeros, wide)
        return linear_torch(x, wide, bias)

    return run


def _writer_of(library: Library, shape: DequantizeShape, strides: tuple[int, int, int], dtype: Any) -> Write | None:
    """The launch of what the table picks; None where that is torch or was not built."""
    try:
        kernel = library.pick(FAMILY, shape, DTYPES[dtype])
    except MissingPieceError:
        return None
    return None if kernel is None else _writer(library, kernel, shape, strides)


def stack_expander(library: Library, stack: Stack, dtype: torch.dtype) -> Expand:
    """What turns a stack of experts into numbers: one launch where its rows lie at one distance through all experts, else one for each expert."""
    E, rows, K = stack.E, stack.rows, stack.K
    whole = all(between == rows * stride for between, stride in zip(stack.experts[:2], stack.strides[:2], strict=True))
    if stack.has_zp:  # eight rows share a word, and must all be of one expert
        whole = whole and 8 * stack.experts[2] == rows * stack.strides[2]
    shape = DequantizeShape(E * rows if whole else rows, 1, K, stack.group, stack.has_zp)
    write = _writer_of(library, shape, stack.strides, dtype)

    def run(tensors: tuple[Tensor, Tensor, Tensor | None]) -> Tensor:
        weight, scales, zeros = tensors
        if write is None or weight.data_ptr() & _MASK:
            return expanded(tensors, dtype)
        out = scales.new_empty(E, rows, K)
        if whole:
            write(weight, scales, zeros, out)
        else:
            for expert in range(E):
                write(weight[expert], scales[expert], None if zeros is None else zeros[expert], out[expert])
        return out

    return run
