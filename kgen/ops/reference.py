"""Plain torch references: what the ops compute, in fp64."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def linear_reference(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., K] @ weight [M, K]^T + bias in fp64: [..., M] as float64, on x's device.

    bias none, [M], [N, M] or x's leading sizes and M. Exact up to fp64 rounding: products of two 16-bit floats are exact in fp64.
    """
    out = x.double() @ weight.double().T
    return out if bias is None else out + bias.double().reshape(bias.shape if bias.dim() == 1 else out.shape)


def linear_torch(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The same problem by torch.nn.functional.linear, contiguous, in x's dtype: what a table's torch row runs."""
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    flat_bias = bias if bias is None or bias.dim() == 1 else bias.reshape(-1, weight.shape[0])
    out = torch.nn.functional.linear(rows, weight, flat_bias)
    return out.reshape(*x.shape[:-1], weight.shape[0]).contiguous()


def scaled_linear_reference(
    x: Tensor, weight: Tensor, x_scale: Tensor, weight_scale: Tensor, bias: Tensor | None = None
) -> Tensor:
    """x_scale * weight_scale * (x [..., K] @ weight [M, K]^T) + bias in fp64 for 8-bit floats: [..., M] as float64, on x's device."""
    out = linear_reference(x, weight) * (x_scale.double() * weight_scale.double()).reshape(())
    return out if bias is None else out + bias.double().reshape(bias.shape if bias.dim() == 1 else out.shape)


def scaled_linear_torch(
    x: Tensor,
    weight: Tensor,
    x_scale: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    out_dtype: torch.dtype,
    fp8_hardware: bool,
) -> Tensor:
    """The same problem by torch, contiguous, in out_dtype: what a table's torch row runs.

    torch._scaled_mm where that takes it: on a GPU with fp8 instructions, M and K multiples of 16, at least one row, rows without padding,
    a bias of none or [M]. Elsewhere x and weight are widened to fp32 (four times the weight's bytes, for the time of the call), multiplied,
    scaled, and rounded once with the bias added.
    """
    M, K = weight.shape
    rows = x.reshape(math.prod(x.shape[:-1]), K)
    plain = bias is None or bias.dim() == 1
    dense = rows.is_contiguous() and weight.is_contiguous()
    if fp8_hardware and x.is_cuda and plain and dense and K and not (K | M) % 16 and x.dtype == weight.dtype:
        scales = x_scale.reshape(()), weight_scale.reshape(())
        out = torch._scaled_mm(rows, weight.t(), scale_a=scales[0], scale_b=scales[1], bias=bias, out_dtype=out_dtype)
    else:
        wide = (rows.float() @ weight.float().T) * (x_scale * weight_scale).reshape(())
        flat_bias = bias if bias is None or plain else bias.reshape(-1, M)
        out = (wide if flat_bias is None else wide + flat_bias.float()).to(out_dtype)
    return out.reshape(*x.shape[:-1], M).contiguous()


def int4_weight(weight: Tensor, scales: Tensor, zeros: Tensor | None, dtype: torch.dtype) -> Tensor:
    """(q - z) * scale as [M, K] of a type, from the layout of kgen.ops.pack; exact in fp64, rounded once in others (fp32 inside)."""
    M, groups = scales.shape
    place = torch.arange(8, dtype=torch.int32, device=weight.device)  # made on the device: a graph may capture it
    shifts = place % 2 * 16 + place // 2 * 4
    codes = (weight.unsqueeze(-1) >> shifts & 15).reshape(M, groups, -1)
    inside = torch.promote_types(dtype, torch.float32)
    if zeros is None:
        values = (codes - 8).to(inside)
    else:
        rows = (zeros.unsqueeze(1) >> 4 * torch.arange(8, dtype=torch.int32, device=zeros.device)[:, None]) & 15
        values = (codes - rows.reshape(-1, groups)[:M].unsqueeze(-1)).to(inside)
    return (values * scales.to(inside).unsqueeze(-1)).reshape(M, -1).to(dtype)


def int4_linear_reference(
    x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """x [..., K] @ ((q - z) * scale)^T + bias in fp64: [..., M] as float64, on x's device. Layouts: kgen.ops.check_int4."""
    return linear_reference(x, int4_weight(weight, scales, zeros, torch.float64), bias)


def int4_linear_torch(
    x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """The same problem by torch: weights dequantised to x's type (four times the codes' bytes, for the time of the call), then its linear."""
    return linear_torch(x, int4_weight(weight, scales, zeros, x.dtype), bias)
