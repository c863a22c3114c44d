"""What the ops on 4-bit weights accept: one check for the op, its fake and its reference. The layout is that of kgen.ops.pack."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, int32
from torch import dtype as TorchDtype

from kgen.errors import OpError, Problem
from kgen.ops.check import (
    DTYPES,
    MAX_STRIDE,
    LinearProblem,
    beside,
    differentiated,
    indexed_stride,
    row_stride,
    shape_words,
    sizes_of_bias,
)
from kgen.spec.problem import DequantizeShape, W4Shape, ceil_div
from kgen.spec.w4 import GROUP_SIZES, WORD

MAX_STRIDE_TILES = MAX_STRIDE // 32  # elements; the same offsets inside 256 rows of a block of tiles
WEIGHT_STRIDE = 4  # words: rows of codes begin at a multiple of 16 bytes
_PACKED = "kgen.ops.pack makes it from a checkpoint"


@dataclass(frozen=True)
class Int4Problem(LinearProblem):
    """A checked problem; `weight_stride` in words, the others in elements of their tensors."""

    scale_stride: int = 0
    zero_stride: int = 0

    @property
    def weight_strides(self) -> tuple[int, int, int]:
        """Those of codes, scales and zero points."""
        return self.weight_stride, self.scale_stride, self.zero_stride

    @property
    def strides(self) -> tuple[int, ...]:
        """In the order of the kernels' arguments."""
        return (*self.weight_strides, self.act_stride, self.bias_stride)


def check_int4_linear(
    op: str,
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    bias: Tensor | None,
    max_stride: int = MAX_STRIDE,
) -> Int4Problem:
    """The problem that these tensors pose; raises OpError with everything that is wrong with them.

    x       [..., K], bf16 or fp16, rows at one distance that is a multiple of 8 elements
    weight  int32 [M, K / 8], codes in the order 0 2 4 6 1 3 5 7 from the lowest bits, rows a multiple of 16 bytes apart
    scales  [M, K / group], x's type, group 32, 64 or 128, elements of a row side by side
    zeros   none (zero points of 8), or int32 [ceil(M / 8), K / group], row m in word m // 8 at bits 4 * (m % 8)
    bias    none, [M], or one row per row of x
    Rows may lie `max_stride` elements apart, codes and scales an eighth of that.
    """
    problems = _types(x, weight, scales, zeros, bias)
    if not problems:
        problems = _shapes(x, weight, scales, zeros, bias)
    if not problems:
        problems = differentiated(x=x, scales=scales, bias=bias)
    found: list[Problem] = []
    if not problems:
        M, K = weight.shape[0], WORD * weight.shape[1]
        groups = scales.shape[1]
        act_stride = row_stride("x", x, K, 8, max_stride, found)
        weight_stride, scale_stride, zero_stride = _weight_strides(weight, scales, zeros, max_stride // 8, found)
        bias_stride = 0 if bias is None or bias.dim() == 1 else row_stride("bias", bias, M, 1, MAX_STRIDE, found)
    if problems or found:
        raise OpError(f"torch.ops.kgen.{op}: not possible with these tensors", [*problems, *found])
    lead = tuple(x.shape[:-1])
    rows = math.prod(lead)
    shape = W4Shape(M, rows, K, K // groups, zeros is not None)
    return Int4Problem(shape, (*lead, M), weight_stride, act_stride, bias_stride, scale_stride, zero_stride)


def check_w4a16(
    op: str, x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor | None, bias: Tensor | None
) -> Int4Problem:
    """`check_int4_linear` for kernels that take many rows at once."""
    return check_int4_linear(op, x, weight, scales, zeros, bias, MAX_STRIDE_TILES)


def check_dequantize(op: str, weight: Tensor, scales: Tensor, zeros: Tensor | None) -> Int4Problem:
    """The problem of writing these weights out as numbers of the scales' type; raises OpError with everything that is wrong with them.

    weight, scales, zeros   as in `check_int4_linear`, scales bf16 or fp16
    """
    allowed = " or ".join(map(str, DTYPES))
    problems = [
        *([] if scales.dtype in DTYPES else [Problem(("scales.dtype",), str(scales.dtype), allowed)]),
        *_wrong_types(("weight", weight, int32, _PACKED), ("zeros", zeros, int32, _PACKED)),
        *beside(weight, scales=scales, zeros=zeros),
    ]
    if not problems and (weight.dim() != 2 or scales.dim() != 2):
        found = f"{shape_words(weight)} and {shape_words(scales)}"
        problems = [Problem(("weight.shape", "scales.shape"), found, "[M, K / 8] and [M, K / group]")]
    if not problems:
        problems = [*_groups(weight, scales, zeros), *differentiated(scales=scales)]
    if not problems:
        M, K, groups = weight.shape[0], WORD * weight.shape[1], scales.shape[1]
        weight_stride, *strides = _weight_strides(weight, scales, zeros, MAX_STRIDE // 8, problems)
    if problems:
        raise OpError(f"torch.ops.kgen.{op}: not possible with these tensors", problems)
    shape = DequantizeShape(M, 1, K, K // groups, zeros is not None)
    return Int4Problem(shape, (M, K), weight_stride, 0, 0, *strides)


def _types(x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor | None, bias: Tensor | None) -> list[Problem]:
    out = []
    if x.dtype not in DTYPES:
        out.append(Problem(("x.dtype",), str(x.dtype), " or ".join(map(str, DTYPES)), "x.to(torch.bfloat16)"))
    out += _wrong_types(
        ("weight", weight, int32, _PACKED),
        ("scales", scales, x.dtype, f"scales.to({x.dtype})"),
        ("zeros", zeros, int32, _PACKED),
        ("bias", bias, x.dtype, f"bias.to({x.dtype})"),
    )
    return [*out, *beside(x, weight=weight, scales=scales, zeros=zeros, bias=bias)]


def _wrong_types(*wanted: tuple[str, Tensor | None, TorchDtype, str]) -> list[Problem]:
    """Of (name, tensor, its type, what to try): what is there and of another type."""
    return [
        Problem((f"{name}.dtype",), str(tensor.dtype), str(dtype), hint)
        for name, tensor, dtype, hint in wanted
        if tensor is not None and tensor.dtype != dtype
    ]


def _shapes(x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor | None, bias: Tensor | None) -> list[Problem]:
    if x.dim() < 1 or weight.dim() != 2 or scales.dim() != 2:
        found = f"{shape_words(x)}, {shape_words(weight)} and {shape_words(scales)}"
        return [Problem(("x.shape", "weight.shape", "scales.shape"), found, "[..., K], [M, K / 8] and [M, K / group]")]
    M, K = weight.shape[0], WORD * weight.shape[1]
    out = []
    if x.shape[-1] != K:
        found = f"{shape_words(x)} and {shape_words(weight)}"
        out.append(Problem(("x.shape", "weight.shape"), found, f"the same K: 8 codes to a word make {K}"))
    return [*out, *_groups(weight, scales, zeros), *sizes_of_bias(x, M, bias)]


def _groups(weight: Tensor, scales: Tensor, zeros: Tensor | None) -> list[Problem]:
    """Scales and zero points for whole groups of each row."""
    M, K, groups = weight.shape[0], WORD * weight.shape[1], scales.shape[1]
    out = []
    if scales.shape[0] != M or groups == 0 or not any(groups * size == K for size in GROUP_SIZES):
        sizes = " or ".join(f"[{M}, {K // size}]" for size in GROUP_SIZES if K % size == 0)
        hint = "groups of 32, 64 or 128 elements of K"
        out.append(Problem(("scales.shape",), shape_words(scales), sizes or f"K = {K} has no such groups", hint))
    elif zeros is not None and tuple(zeros.shape) != (ceil_div(M, 8), groups):
        hint = "eight rows to a word"
        out.append(Problem(("zeros.shape",), shape_words(zeros), f"[{ceil_div(M, 8)}, {groups}]", hint))
    return out


def _weight_strides(
    weight: Tensor, scales: Tensor, zeros: Tensor | None, limit: int, problems: list[Problem]
) -> tuple[int, int, int]:
    """Distances of the rows of codes (in words), scales and zero points (0 for none); adds what is wrong to `problems`."""
    return (
        indexed_stride("weight", weight, WEIGHT_STRIDE, limit, problems),
        indexed_stride("scales", scales, 1, limit, problems),
        0 if zeros is None else indexed_stride("zeros", zeros, 1, limit, problems),
    )
