"""The ops' schemas, their fakes, and where their code is registered.

Registered with `torch.library.Library` and not `custom_op`, whose wrappers cost more than a launch. The ops are functional and not
differentiable: tensors that want gradients are refused by the check. torch calls AMD GPUs CUDA, so that key serves both vendors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from kgen.ops.check import LinearProblem, check_linear, check_scaled_linear
from kgen.ops.check_4bit import check_4bit
from kgen.ops.check_int4 import check_dequantize, check_int4_linear, check_w4a16
from kgen.ops.dequantize_w4a16 import dequantize_w4a16
from kgen.ops.direct import Maker, call_directly
from kgen.ops.gemm_4bit import gemm_4bit_op
from kgen.ops.gemm_w4a16 import gemm_w4a16_op
from kgen.ops.linear import linear_op
from kgen.ops.w4a16_linear import w4a16_linear_op
from kgen.ops.wvsplitk_int4 import wvsplitk_int4_op
from kgen.ops.wvsplitkq import OUT, wvsplitkq_op
from kgen.ops.wvsplitkrc import wvsplitkrc_op

LINEAR = ("wvsplitk", "llmm1")  # families with the signature of torch's linear

_library = torch.library.Library("kgen", "DEF")


def _register(schema: str, code: Callable[..., Tensor], fake: Callable[..., Tensor]) -> str:
    """An op by its schema: its code for both kinds of device, and its fake. Answers its name."""
    name = schema.split("(")[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    for key in ("CPU", "CUDA"):
        _library.impl(name, code, key)
    _library.impl(name, torch.library.fallthrough_kernel, "Autograd")  # nothing to record, so nothing to pay for
    torch.library.register_fake(f"kgen::{name}", fake, lib=_library)
    return name


def _define(schema: str, maker: Maker, fake: Callable[..., Tensor]) -> None:
    """The same, with the short way there."""
    call_directly(_register(schema, maker(None), fake), maker)


def _linear_fake(family: str) -> Callable[..., Tensor]:
    """The output's shape and type; the same check, the same words."""

    def fake(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        problem = check_linear(family, x, weight, bias)
        return x.new_empty(problem.out_shape)

    return fake


for _family in LINEAR:
    _define(
        f"{_family}(Tensor x, Tensor weight, Tensor? bias=None) -> Tensor",
        partial(linear_op, _family),
        _linear_fake(_family),
    )


def _wvsplitkrc_fake(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, deterministic: bool | None = None
) -> Tensor:
    return _linear_fake("wvsplitkrc")(x, weight, bias)


_define(
    "wvsplitkrc(Tensor x, Tensor weight, Tensor? bias=None, *, bool? deterministic=None) -> Tensor",
    wvsplitkrc_op,
    _wvsplitkrc_fake,
)


def _wvsplitkq_fake(
    x: Tensor,
    weight: Tensor,
    x_scale: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    out = out_dtype or OUT
    return x.new_empty(
        check_scaled_linear("wvsplitkq", x, weight, x_scale, weight_scale, bias, out).out_shape, dtype=out
    )


_define(
    "wvsplitkq(Tensor x, Tensor weight, Tensor x_scale, Tensor weight_scale, Tensor? bias=None, "
    "ScalarType? out_dtype=None) -> Tensor",
    wvsplitkq_op,
    _wvsplitkq_fake,
)


def _gemm_4bit_fake(
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
    tensors = (A, B, absmax, bias, absmax_8bit, absmax_code, absmax_offset)
    problem = check_4bit("gemm_4bit", *tensors, shape=shapeB, blocksize=blocksize, code=quant_type)
    return A.new_empty(problem.out_shape)


_define(
    "gemm_4bit(Tensor A, Tensor B, int[] shapeB, Tensor absmax, int blocksize, str quant_type, Tensor? bias=None, "
    "Tensor? absmax_8bit=None, Tensor? absmax_code=None, Tensor? absmax_offset=None) -> Tensor",
    gemm_4bit_op,
    _gemm_4bit_fake,
)


_INT4_OPS: dict[str, tuple[Maker, Callable[..., LinearProblem]]] = {
    "wvsplitk_int4": (wvsplitk_int4_op, check_int4_linear),
    "gemm_w4a16": (gemm_w4a16_op, check_w4a16),
    "w4a16_linear": (w4a16_linear_op, check_w4a16),
}


def _int4_fake(op: str, check: Callable[..., LinearProblem]) -> Callable[..., Tensor]:
    """The output's shape; the same check, the same words."""

    def fake(
        x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        return x.new_empty(check(op, x, weight, scales, zeros, bias).out_shape)

    return fake


for _op, (_maker, _check) in _INT4_OPS.items():
    _define(
        f"{_op}(Tensor x, Tensor weight, Tensor scales, Tensor? zeros=None, Tensor? bias=None) -> Tensor",
        _maker,
        _int4_fake(_op, _check),
    )


def _dequantize_fake(weight: Tensor, scales: Tensor, zeros: Tensor | None = None) -> Tensor:
    problem = check_dequantize("dequantize_w4a16", weight, scales, zeros)
    return scales.new_empty(problem.out_shape)


_register(
    "dequantize_w4a16(Tensor weight, Tensor scales, Tensor? zeros=None) -> Tensor", dequantize_w4a16, _dequantize_fake
)
