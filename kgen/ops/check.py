"""What the linear ops accept: one check for the op, its fake and its reference, in the same words and with the same limits.

It looks at shapes, strides, types and devices only, so it also runs on fake tensors; addresses are the op's own last look.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kgen.errors import OpError, Problem
from kgen.spec.problem import GemmShape

DTYPES = {torch.bfloat16: "bf16", torch.float16: "fp16"}
ALL_DTYPES = DTYPES | {torch.float32: "fp32"}
FP8 = {torch.float8_e4m3fn: "ocp", torch.float8_e4m3fnuz: "fnuz"}
ALIGNMENT = 16  # bytes; kernels load rows 16 bytes at a time
MAX_STRIDE = 1 << 28  # elements of 16 bits; the kernels' offsets inside eight rows are 32-bit
MAX_STRIDE_FP8 = 1 << 27  # elements of 8 bits; the same inside 32 rows
MAX_INDEX = 1 << 32  # words or elements of a 4-bit weight: kernels find its rows by 32-bit indices


@dataclass(frozen=True)
class LinearProblem:
    """A checked linear problem: sizes, output shape, and row strides in elements. `bias_stride` is 0 for one row for all."""

    shape: GemmShape
    out_shape: tuple[int, ...]
    weight_stride: int
    act_stride: int
    bias_stride: int


def check_linear(op: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> LinearProblem:
    """The problem that these tensors pose; raises OpError with everything that is wrong with them.

    x       [..., K], bf16 or fp16, elements of a row side by side, rows at one distance that is a multiple of 8 elements
    weight  [M, K], same type and device, rows likewise
    bias    none, [M], or one row per row of x: [N, M] or x's leading sizes and M
    Where K is not a multiple of 8 the row distances do not matter: torch answers.
    """
    problems = [*_types(DTYPES, "x.to(torch.bfloat16)", x, weight), *beside(x, bias=bias)]
    if bias is not None and bias.dtype != x.dtype:
        problems.append(Problem(("bias.dtype",), str(bias.dtype), f"{x.dtype}, as x"))
    return _problem(op, x, weight, bias, problems, MAX_STRIDE)


def check_scaled_linear(
    op: str,
    x: Tensor,
    weight: Tensor,
    x_scale: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    out_dtype: torch.dtype,
) -> LinearProblem:
    """As `check_linear` for 8-bit floats with a scale each: out = x_scale * weight_scale * (x @ weight.T) + bias.

    x             [..., K], float8_e4m3fn or float8_e4m3fnuz, rows at one distance that is a multiple of 16 elements
    weight        [M, K], same type and device, rows likewise
    x_scale, weight_scale   fp32, one element each, where x is
    bias          as there, of out_dtype
    Which of the two types it must be is the target's to say: `check_fp8`.
    """
    problems = [*_types(FP8, "quantise it with a scale", x, weight)]
    for name, scale in (("x_scale", x_scale), ("weight_scale", weight_scale)):
        if scale.dtype != torch.float32:
            problems.append(Problem((f"{name}.dtype",), str(scale.dtype), "torch.float32", f"{name}.float()"))
        if scale.numel() != 1:
            problems.append(
                Problem((f"{name}.shape",), shape_words(scale), "one element: a scale for the whole tensor")
            )
    if out_dtype not in DTYPES:
        problems.append(Problem(("out_dtype",), str(out_dtype), " or ".join(map(str, DTYPES))))
    if bias is not None and bias.dtype != out_dtype:
        problems.append(Problem(("bias.dtype",), str(bias.dtype), f"{out_dtype}, as the output: out_dtype"))
    problems += beside(x, x_scale=x_scale, weight_scale=weight_scale, bias=bias)
    return _problem(op, x, weight, bias, problems, MAX_STRIDE_FP8, (x_scale, weight_scale))


def check_fp8(op: str, x: Tensor, arch: str, kind: str | None) -> None:
    """Refuse 8-bit floats of another kind than the target's ("ocp" or "fnuz"; None: it has none, and torch takes both)."""
    if kind is None or FP8[x.dtype] == kind:
        return
    own = next(dtype for dtype, name in FP8.items() if name == kind)
    hint = "quantise for this target: the same bits are other numbers in the two types"
    problem = Problem(("x.dtype", "weight.dtype"), str(x.dtype), f"{own}, the 8-bit float of {arch}", hint)
    raise OpError(f"torch.ops.kgen.{op}: not possible with these tensors", [problem])


def _problem(
    op: str,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    problems: list[Problem],
    max_stride: int,
    scales: Sequence[Tensor] = (),
) -> LinearProblem:
    """The shapes' and strides' part of a check, after `problems` with types, places and scales."""
    problems = [*problems, *_ranks(x, weight)]
    if not problems:
        named = dict(zip(("x_scale", "weight_scale"), scales, strict=False))
        problems = [*_sizes(x, weight, bias), *differentiated(x=x, weight=weight, bias=bias, **named)]
    if problems:
        raise OpError(f"torch.ops.kgen.{op}: not possible with these tensors", problems)
    lead = tuple(x.shape[:-1])
    rows = math.prod(lead)
    M, K = weight.shape
    piece = ALIGNMENT // x.element_size()
    found: list[Problem] = []
    multiple = piece if K % piece == 0 else 1
    act_stride = row_stride("x", x, K, multiple, max_stride, found)
    weight_stride = row_stride("weight", weight, K, multiple, max_stride, found)
    bias_stride = 0
    if bias is not None:
        bias_stride = 0 if bias.dim() == 1 else row_stride("bias", bias, M, 1, max_stride, found)
    if found:
        raise OpError(f"torch.ops.kgen.{op}: not possible with these tensors", found)
    return LinearProblem(GemmShape(M, rows, K), (*lead, M), weight_stride, act_stride, bias_stride)


def _types(allowed: Collection[torch.dtype], hint: str, x: Tensor, weight: Tensor) -> list[Problem]:
    """x of an allowed type, weight of the same and beside it."""
    out = []
    if x.dtype not in allowed:
        out.append(Problem(("x.dtype",), str(x.dtype), " or ".join(map(str, allowed)), hint))
    if weight.dtype != x.dtype:
        out.append(Problem(("weight.dtype",), str(weight.dtype), f"{x.dtype}, as x"))
    return [*out, *beside(x, weight=weight)]


def beside(x: Tensor, **others: Tensor | None) -> list[Problem]:
    """Everything where x is."""
    return [
        Problem((f"{name}.device",), str(tensor.device), f"{x.device}, where x is")
        for name, tensor in others.items()
        if tensor is not None and tensor.device != x.device
    ]


def _ranks(x: Tensor, weight: Tensor) -> list[Problem]:
    out = []
    if x.dim() < 1:
        out.append(Problem(("x.shape",), "a scalar", "[..., K]"))
    if weight.dim() != 2:
        out.append(Problem(("weight.shape",), shape_words(weight), "[M, K]"))
    return out


def _sizes(x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Problem]:
    out = []
    M, K = weight.shape
    if x.shape[-1] != K:
        out.append(
            Problem(("x.shape", "weight.shape"), f"{shape_words(x)} and {shape_words(weight)}", "the same last size K")
        )
    return [*out, *sizes_of_bias(x, M, bias)]


def sizes_of_bias(x: Tensor, M: int, bias: Tensor | None) -> list[Problem]:
    """A bias of none, [M], or one row per row of x."""
    if bias is None:
        return []
    rows = math.prod(x.shape[:-1])
    shapes: list[tuple[int, ...]] = [(M,), (rows, M)]
    if x.dim() > 2:
        shapes.append((*x.shape[:-1], M))
    if any(_same(bias.shape, shape) for shape in shapes):
        return []
    allowed = " or ".join(f"[{', '.join(map(str, shape))}]" for shape in shapes)
    return [Problem(("bias.shape",), shape_words(bias), allowed)]


def differentiated(**named: Tensor | None) -> list[Problem]:
    """No tensor wants a gradient."""
    if not torch.is_grad_enabled():
        return []
    wanting = [name for name, tensor in named.items() if tensor is not None and tensor.requires_grad]
    if not wanting:
        return []
    hint = "with torch.inference_mode():, or torch.no_grad()"
    return [Problem(("requires_grad",), ", ".join(wanting), "no gradients: the op is for inference", hint)]


def row_stride(name: str, tensor: Tensor, width: int, multiple: int, limit: int, problems: list[Problem]) -> int:
    """Distance of a tensor's rows in elements when all its leading sizes are taken as rows; adds what is wrong to `problems`.

    width     elements of a row, the distance that is answered when there is at most one row
    multiple  the distance must be a multiple of so many elements, and below `limit`
    """
    shape, strides = tensor.shape, tensor.stride()
    if tensor.numel() == 0:
        return width
    if shape[-1] > 1 and strides[-1] != 1:
        found = f"stride {strides[-1]} between the elements of a row"
        problems.append(Problem((f"{name}.stride",), found, "1", f"{name}.contiguous()"))
        return width
    outer = [(size, stride) for size, stride in zip(shape[:-1], strides[:-1], strict=True) if size != 1]
    for (_, stride), (inner_size, inner_stride) in itertools.pairwise(outer):
        if stride != inner_size * inner_stride:
            found = (
                f"sizes {shape_words(tensor)} with strides ({', '.join(map(str, strides))}): rows at no one distance"
            )
            problems.append(
                Problem((f"{name}.stride",), found, "leading sizes that fold into one", f"{name}.contiguous()")
            )
            return width
    stride = outer[-1][1] if outer else width
    if stride % multiple:
        allowed = f"a multiple of {multiple}: rows are read {ALIGNMENT} bytes at a time"
        problems.append(Problem((f"{name}.stride",), f"rows {stride} elements apart", allowed, f"{name}.contiguous()"))
    if stride >= limit:
        problems.append(Problem((f"{name}.stride",), f"rows {stride} elements apart", f"below {limit}"))
    return stride


def indexed_stride(name: str, tensor: Tensor, multiple: int, limit: int, problems: list[Problem]) -> int:
    """`row_stride` of a 4-bit weight's codes, scales or zero points [rows, width], whose rows kernels find by 32-bit indices."""
    rows, width = tensor.shape
    stride = row_stride(name, tensor, width, multiple, limit, problems)
    indexed_rows(name, rows, stride, problems)
    return stride


def indexed_rows(name: str, rows: int, stride: int, problems: list[Problem]) -> None:
    """Rows of a weight that kernels find by 32-bit indices; adds what is wrong to `problems`."""
    if rows * stride > MAX_INDEX:
        found = f"{rows} rows, {stride} elements apart"
        problems.append(Problem((f"{name}.shape",), found, f"at most {MAX_INDEX} elements in all", "fewer rows a call"))


def _same(a: Sequence[int], b: Sequence[int]) -> bool:
    """Equal sizes; symbolic ones, which cannot be hashed, are compared one by one."""
    return len(a) == len(b) and all(one == other for one, other in zip(a, b, strict=True))


def shape_words(tensor: Tensor) -> str:
    """A tensor's sizes in brackets."""
    return f"[{', '.join(map(str, tensor.shape))}]"


def alignment_error(op: str, **tensors: Tensor) -> OpError:
    """The error for tensors that do not begin at a multiple of 16 bytes."""
    problems = [
        Problem(
            (f"{name}.data_ptr()",),
            f"{tensor.data_ptr() % ALIGNMENT} bytes past a multiple of {ALIGNMENT}",
            f"a multiple of {ALIGNMENT}: rows are read {ALIGNMENT} bytes at a time",
            f"{name}.clone()",
        )
        for name, tensor in tensors.items()
        if tensor.data_ptr() % ALIGNMENT
    ]
    return OpError(f"torch.ops.kgen.{op}: not possible with these tensors", problems)
