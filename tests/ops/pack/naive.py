"""Dequantisers written from each format's definition, one element at a time in Python integers; they share nothing with kgen.ops.pack."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # order_map of AutoAWQ: which column of eight nibble p holds


def nibble(word: int, index: int) -> int:
    return (word & 0xFFFFFFFF) >> (4 * index) & 15


def matrix(M: int, K: int, value: Callable[[int, int], float]) -> Tensor:
    return torch.tensor([[value(m, k) for k in range(K)] for m in range(M)], dtype=torch.float64)


def awq(qweight: Tensor, qzeros: Tensor, scales: Tensor) -> Tensor:
    K, M = qweight.shape[0], qweight.shape[1] * 8
    group = K // scales.shape[0]
    q, z, s = qweight.tolist(), qzeros.tolist(), scales.double().tolist()

    def value(m: int, k: int) -> float:
        at = AWQ_ORDER.index(m % 8)
        return (nibble(q[k][m // 8], at) - nibble(z[k // group][m // 8], at)) * s[k // group][m]

    return matrix(M, K, value)


def gptq(qweight: Tensor, scales: Tensor, zero: Callable[[int, int], int]) -> Tensor:
    """`zero(group, m)` is the zero point: how it is stored differs by version."""
    K, M = qweight.shape[0] * 8, qweight.shape[1]
    group = K // scales.shape[0]
    q, s = qweight.tolist(), scales.double().tolist()
    return matrix(M, K, lambda m, k: (nibble(q[k // 8][m], k % 8) - zero(k // group, m)) * s[k // group][m])


def compressed_tensors(packed: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    """With signed values, as the package has them: both are stored plus 8."""
    M, K = packed.shape[0], packed.shape[1] * 8
    group = K // scale.shape[1]
    q, s = packed.tolist(), scale.double().tolist()
    z = None if zero_point is None else zero_point.tolist()

    def value(m: int, k: int) -> float:
        zero = 0 if z is None else nibble(z[m // 8][k // group], m % 8) - 8
        return (nibble(q[m][k // 8], k % 8) - 8 - zero) * s[m][k // group]

    return matrix(M, K, value)


def kernels(weight: Tensor, scales: Tensor, zeros: Tensor | None, group: int, M: int, K: int) -> Tensor:
    """The kernels' own layout, from its description: value i of a word at bit 4 * (i // 2) + 16 * (i % 2)."""
    q, s = weight.tolist(), scales.double().tolist()
    z = None if zeros is None else zeros.tolist()

    def value(m: int, k: int) -> float:
        i = k % 8
        code = (q[m][k // 8] & 0xFFFFFFFF) >> (4 * (i // 2) + 16 * (i % 2)) & 15
        zero = 8 if z is None else nibble(z[m // 8][k // group], m % 8)
        return (code - zero) * s[m][k // group]

    return matrix(M, K, value)
