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
