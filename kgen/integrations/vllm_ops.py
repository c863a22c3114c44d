"""vLLM's skinny GEMM functions for ROCm, answered by torch.ops.kgen: same names, same order and names of arguments, same results.

    import kgen
    from kgen.integrations import vllm_ops as ops      # in place of: from vllm import _custom_ops as ops
    kgen.load()
    y = ops.wvSplitK(weight, x, cu_count, bias)

Sources: the five functions and the names of their arguments (a, b, cu_count, bias, out_dtype, scale_a, scale_b, rows_per_block) are those of
vllm/_custom_ops.py, "ROCm skinny gemms"; that file passes them on to torch.ops._rocm_C, whose schemas are in csrc/rocm/torch_bindings.cpp
(there the bias stands before CuCount). Which of a and b is the weight follows from vLLM's callers: model_executor/layers/utils.py for
wvSplitK, wvSplitKrc and LLMM1, the ROCm scaled-mm kernels for wvSplitKQ, rdna_hybrid_w4a16.py for
wvSplitK_int4_g; read at vLLM 0.33.0 and, for the schemas, commit 001cd45131.

What is taken is more than vLLM's kernels take, never less: any number of rows (torch answers where no kernel is faster), any K, padded
rows on both sides. What cannot be raises `OpError` before anything is launched.

cu_count is accepted and not used: it tells vLLM's kernels how many work-groups to launch, and kgen asks the driver that launches, so that a
count which was cached for another device or partition does no harm.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import kgen.ops  # noqa: F401 - registers the ops
from kgen.errors import OpError, Problem

__all__ = ["LLMM1", "wvSplitK", "wvSplitKQ", "wvSplitK_int4_g", "wvSplitKrc"]


def wvSplitK(a: Tensor, b: Tensor, cu_count: int, bias: Tensor | None = None) -> Tensor:
    """b @ a.T + bias for a few activation rows.

    a         weight [M, K], bf16 or fp16
    b         activations [N, K], same type
    cu_count  not used, see the module
    bias      none, [M] or [N, M]
    returns   [N, M] in the inputs' type
    """
    return _op("wvsplitk")(b, a, bias)


def wvSplitK_int4_g(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    cu_count: int,
    group_size: int,
    zero_points: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """b @ ((a - zero_points) * scale).T + bias on 4-bit weights.

    a            weight in vLLM's shuffled order, int8 [M, K / 2] as vLLM sees it or int32 [M, K / 8]
    b            activations [N, K], bf16 or fp16
    scale        [M, K / group_size], b's type
    cu_count     not used, see the module
    group_size   32, 64 or 128; must be what the shapes say
    zero_points  none (8 throughout), or int32 [M / 8, K / group_size], eight rows to a word
    bias         none, [M] or [N, M]
    returns      [N, M] in b's type
    """
    weight = a if a.dtype == torch.int32 else a.view(torch.int32)
    if scale.shape[-1] * group_size != b.shape[-1]:
        problem = Problem(
            ("group_size", "scale.shape"),
            f"{group_size} and {scale.shape[-1]} groups for K = {b.shape[-1]}",
            "scales [M, K / group_size]",
        )
        raise OpError("wvSplitK_int4_g: not possible with these tensors", [problem])
    return _op("wvsplitk_int4")(b, weight, scale, zero_points, bias)


def wvSplitKrc(a: Tensor, b: Tensor, cu_count: int, bias: Tensor | None = None) -> Tensor:
    """a @ b.T + bias for 9 to 128 activation rows, K split over work-groups. The activations come first, unlike in the other three.

    a         activations [N, K], bf16 or fp16
    b         weight [M, K], same type
    cu_count  not used, see the module
    bias      none, [M] or [N, M]
    returns   [N, M] in the inputs' type; the same bits on every run, unless the process asked for the fast order of additions
              (`kgen.set_deterministic`, KGEN_FAST_SKINNY_GEMM=1)
    """
    return _op("wvsplitkrc")(a, b, bias)


def wvSplitKQ(
    a: Tensor,
    b: Tensor,
    out_dtype: torch.dtype,
    scale_a: Tensor,
    scale_b: Tensor,
    cu_count: int,
    bias: Tensor | None = None,
) -> Tensor:
    """scale_a * scale_b * (b @ a.T) + bias on 8-bit floats, scales per tensor.

    a          weight [M, K], the platform's e4m3 type
    b          activations [N, K], same type
    out_dtype  torch.bfloat16 or torch.float16, also the bias's
    scale_a, scale_b  fp32, one number each: vLLM's callers pass the activations' scale first, though a is the weight. Their product is all that
               counts, so either order is right
    cu_count   not used, see the module
    bias       none, [M] or [N, M]
    returns    [N, M] in out_dtype
    """
    return _op("wvsplitkq")(b, a, scale_a, scale_b, bias, out_dtype)


def LLMM1(a: Tensor, b: Tensor, rows_per_block: int) -> Tensor:
    """b @ a.T for one activation row, summed in fp32 (vLLM's kernel adds four products in 16 bits).

    a               weight [M, K], bf16 or fp16
    b               activations [1, K], same type
    rows_per_block  accepted and not used: the dispatch table picks ROWS_PER_BLOCK by M and K. M need not be a multiple of it
    returns         [1, M] in the inputs' type
    """
    return _op("llmm1")(b, a)


def _op(family: str) -> Callable[..., Tensor]:
    """torch.ops.kgen's op of a family, looked up when it is called: this module does not decide which families there are."""
    found: Callable[..., Tensor] | None = getattr(torch.ops.kgen, family, None)
    if found is None:
        raise OpError(f"torch.ops.kgen.{family} is not part of this version of kgen")
    return found
