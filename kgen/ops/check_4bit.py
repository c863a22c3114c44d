"""What gemm_4bit accepts: one check for the op, its fake and its reference.

Shapes, strides, types and devices only; addresses are the op's last look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kgen.errors import OpError, Problem
from kgen.ops.check import (
    ALIGNMENT,
    ALL_DTYPES,
    MAX_STRIDE,
    LinearProblem,
    beside,
    differentiated,
    indexed_rows,
    row_stride,
    shape_words,
    sizes_of_bias,
)
from kgen.spec.codes4 import NUMBERS
from kgen.spec.gemm_4bit import BLOCKSIZES, NESTED_BLOCK
from kgen.spec.problem import Code4Shape, ceil_div
from kgen.spec.w4 import GROUP_SIZES

STORED = (
    torch.uint8,
    torch.bfloat16,
    torch.float16,
    torch.float32,
)  # types whose tensors may hold the bytes of two codes


@dataclass(frozen=True)
class Problem4Bit(LinearProblem):
    """A checked problem on 4-bit codes; `weight_stride` is K / 2, bytes."""

    blocksize: int = 64


def check_4bit(
    op: str,
    A: Tensor,
    B: Tensor,
    absmax: Tensor,
    bias: Tensor | None,
    absmax_8bit: Tensor | None,
    absmax_code: Tensor | None,
    absmax_offset: Tensor | None,
    *,
    shape: Sequence[int],
    blocksize: int,
    code: str,
) -> Problem4Bit:
    """The problem that these tensors pose; raises OpError with everything that is wrong with them.

    A       [..., K], bf16, fp16 or fp32, elements of a row side by side, rows at one distance that is a multiple of 16 bytes
    B       the codes of the weight [M, K] = `shape` in bitsandbytes' layout, ceil(M * K / 2) bytes, contiguous, of any type in STORED
    absmax  fp32, one for each block; nested: one for each 256 blocks, with absmax_8bit uint8 per block, absmax_code fp32 [256], absmax_offset fp32 []
    bias    none, [M], or one row per row of A: [N, M], of A's type
    Where K is not a multiple of 32 the row distances of A do not matter: torch answers.
    """
    nested = {"absmax_8bit": absmax_8bit, "absmax_code": absmax_code, "absmax_offset": absmax_offset}
    problems = [*_kinds(A, B, absmax, bias, shape, blocksize, code), *_nested_kinds(nested)]
    problems += beside(A, B=B, absmax=absmax, bias=bias, **nested)
    if not problems:
        problems = [
            *_sizes(A, B, absmax, absmax_8bit, bias, shape, blocksize),
            *differentiated(A=A, B=B, absmax=absmax, bias=bias),
        ]
    if problems:
        raise _refused(op, problems)
    M, K = shape
    rows = math.prod(A.shape[:-1])
    multiple = ALIGNMENT // A.element_size() if K % GROUP_SIZES[0] == 0 else 1
    act_stride = row_stride("A", A, K, multiple, MAX_STRIDE, problems)
    bias_stride = 0
    indexed_rows("B", M, K // 8, problems)
    if bias is not None and bias.dim() > 1:
        bias_stride = row_stride("bias", bias, M, 1, MAX_STRIDE, problems)
    if problems:
        raise _refused(op, problems)
    sizes = Code4Shape(M, rows, K, min(blocksize, GROUP_SIZES[-1]), code == "fp4", absmax_8bit is not None)
    return Problem4Bit(sizes, (*A.shape[:-1], M), K // 2, act_stride, bias_stride, blocksize)


def _kinds(
    A: Tensor, B: Tensor, absmax: Tensor, bias: Tensor | None, shape: Sequence[int], blocksize: int, code: str
) -> list[Problem]:
    out = []
    if A.dtype not in ALL_DTYPES:
        out.append(Problem(("A.dtype",), str(A.dtype), " or ".join(map(str, ALL_DTYPES)), "A.to(torch.bfloat16)"))
    if B.dtype not in STORED:
        out.append(Problem(("B.dtype",), str(B.dtype), " or ".join(map(str, STORED)) + ": bytes of two codes"))
    if absmax.dtype != torch.float32:
        out.append(Problem(("absmax.dtype",), str(absmax.dtype), "torch.float32", "absmax.float()"))
    if bias is not None and bias.dtype != A.dtype:
        out.append(Problem(("bias.dtype",), str(bias.dtype), f"{A.dtype}, as A"))
    if code not in NUMBERS:
        out.append(Problem(("quant_type",), repr(code), " or ".join(NUMBERS)))
    if blocksize not in BLOCKSIZES:
        out.append(Problem(("blocksize",), str(blocksize), ", ".join(map(str, BLOCKSIZES))))
    if len(shape) != 2:
        out.append(Problem(("shapeB",), str(list(shape)), "[M, K]: output features and reduction"))
    if A.dim() < 1:
        out.append(Problem(("A.shape",), "a scalar", "[..., K]"))
    return out


def _nested_kinds(nested: dict[str, Tensor | None]) -> list[Problem]:
    missing = [name for name, tensor in nested.items() if tensor is None]
    if len(missing) == len(nested):
        return []
    if missing:
        return [Problem(tuple(missing), "not given", "all of " + ", ".join(nested) + ", or none of them")]
    out = []
    for name, dtype, dims in (
        ("absmax_8bit", torch.uint8, 1),
        ("absmax_code", torch.float32, 1),
        ("absmax_offset", torch.float32, 0),
    ):
        tensor = nested[name]
        assert tensor is not None
        if tensor.dtype != dtype or (tensor.dim() != dims and not (dims == 0 and tensor.numel() == 1)):
            out.append(Problem((name,), f"{tensor.dtype}, {tensor.dim()} dimensions", f"{dtype}, {dims} dimensions"))
    return out


def _sizes(
    A: Tensor,
    B: Tensor,
    absmax: Tensor,
    absmax_8bit: Tensor | None,
    bias: Tensor | None,
    shape: Sequence[int],
    blocksize: int,
) -> list[Problem]:
    M, K = shape
    out = []
    if A.shape[-1] != K:
        out.append(Problem(("A.shape", "shapeB"), f"{shape_words(A)} and [{M}, {K}]", "the same last size K"))
    needed, blocks = ceil_div(M * K, 2), ceil_div(M * K, blocksize)
    if (found := B.numel() * B.element_size()) < needed:
        out.append(Problem(("B",), f"{found} bytes", f"{needed}: half of M * K"))
    first = blocks if absmax_8bit is None else ceil_div(blocks, NESTED_BLOCK)
    for name, tensor, count in (("absmax", absmax, first), ("absmax_8bit", absmax_8bit, blocks)):
        if tensor is not None and tensor.numel() != count:
            out.append(Problem((name,), f"{tensor.numel()} elements", f"{count}, for {blocks} blocks of {blocksize}"))
    for name, tensor in (("B", B), ("absmax", absmax), ("absmax_8bit", absmax_8bit)):
        if tensor is not None and not tensor.is_contiguous():
            out.append(Problem((f"{name}.stride",), str(tensor.stride()), "contiguous", f"{name}.contiguous()"))
    return [*out, *sizes_of_bias(A, M, bias)]


def _refused(op: str, problems: list[Problem]) -> OpError:
    return OpError(f"torch.ops.kgen.{op}: not possible with these tensors", problems)
