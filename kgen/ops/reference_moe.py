"""Plain torch references of the expert ops, and what a table's torch row runs: the same code in fp64 and in fp32."""

from __future__ import annotations

import torch
from torch import Tensor

from kgen.ops.moe_route import route
from kgen.ops.reference import int4_weight


def expert_weight(weight: Tensor, scales: Tensor, zeros: Tensor | None, expert: Tensor, dtype: torch.dtype) -> Tensor:
    """(q - z) * scale of one expert of a stack, [rows, K]; `expert` is a tensor with one index, which stays on its device."""
    index = expert.reshape(1).long()
    zero = None if zeros is None else zeros.index_select(0, index)[0]
    return int4_weight(weight.index_select(0, index)[0], scales.index_select(0, index)[0], zero, dtype)


def moe_up_reference(
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    expert_ids: Tensor,
    sorted_ids: Tensor | None = None,
    padded_slots: Tensor | None = None,
    *,
    block_size: int = 1,
    top_k: int = 1,
    silu: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """The first GEMM, [rows * top_k, M] in `dtype`, which everything is computed in; NaN where the op stores nothing."""
    slots, rows = x.shape[0] * top_k, weight.shape[1]
    place = torch.arange(expert_ids.numel() * block_size, device=x.device)
    slot = place if sorted_ids is None else sorted_ids[: place.numel()].long()
    wanted = (slot < slots) & (expert_ids.repeat_interleave(block_size) >= 0)
    if padded_slots is not None:
        wanted &= place < padded_slots
    out = x.new_full((slots + 1, rows // 2 if silu else rows), torch.nan, dtype=dtype)
    for block in range(expert_ids.numel()):
        values = expert_weight(weight, scales, zeros, expert_ids[block].clamp(0, weight.shape[0] - 1), dtype)
        span = slice(block * block_size, (block + 1) * block_size)
        source = slot[span].clamp(max=slots - 1).div(top_k, rounding_mode="floor")
        product = x.index_select(0, source).to(dtype) @ values.T
        if silu:
            gate, up = product.chunk(2, dim=1)
            product = torch.nn.functional.silu(gate) * up
        out.index_copy_(0, torch.where(wanted[span], slot[span], slots), product)
    return out[:slots]


def moe_gemm_reference(
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    expert_ids: Tensor,
    sorted_ids: Tensor | None = None,
    padded_slots: Tensor | None = None,
    topk_weights: Tensor | None = None,
    *,
    block_size: int,
    top_k: int = 1,
    silu: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Either GEMM over blocks, [rows * top_k, M] in `dtype`: that of `moe_up_reference` and, where slots have weights, times those; absent ones 0."""
    lists = (expert_ids, sorted_ids, padded_slots)
    out = moe_up_reference(x, weight, scales, zeros, *lists, block_size=block_size, top_k=top_k, silu=silu, dtype=dtype)
    if topk_weights is None:
        return out
    slots = out.shape[0]
    place = torch.arange(expert_ids.numel() * block_size, device=x.device)
    slot = place if sorted_ids is None else sorted_ids[: place.numel()].long()
    away = (slot < slots) & (expert_ids.repeat_interleave(block_size) < 0)
    if padded_slots is not None:
        away &= place < padded_slots
    absent = torch.zeros(slots + 1, dtype=torch.bool, device=x.device).index_fill_(
        0, torch.where(away, slot, slots), True
    )
    return torch.where(absent[:slots, None], 0.0, out * topk_weights.reshape(-1, 1).to(dtype))


def moe_down_reference(
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    topk_ids: Tensor,
    topk_weights: Tensor,
    *,
    fuse_silu: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """The second GEMM and the weighted sum, [tokens, M] in `dtype`. With fuse_silu silu(gate) * up is rounded to x's type, as in the op."""
    act = x.to(dtype)
    if fuse_silu:
        gate, up = act.chunk(2, dim=1)
        act = (torch.nn.functional.silu(gate) * up).to(x.dtype).to(dtype)
    tokens, top_k = topk_ids.shape
    out = x.new_zeros((tokens, weight.shape[1]), dtype=dtype)
    for token in range(tokens):
        for slot in range(top_k):
            expert = topk_ids[token, slot]
            values = expert_weight(weight, scales, zeros, expert.clamp(min=0), dtype)
            term = topk_weights[token, slot].to(dtype) * (values @ act[token * top_k + slot])
            out[token] += torch.where(expert < 0, 0.0, term)
    return out


def moe_layer_reference(
    x: Tensor,
    logits: Tensor,
    w13: tuple[Tensor, Tensor, Tensor | None],
    w2: tuple[Tensor, Tensor, Tensor | None],
    top_k: int,
    renormalize: bool = True,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """A layer behind its router, [tokens, hidden] in `dtype`. logits [tokens, E] as the router rounds them; nothing else is rounded."""
    ids, weights = route(logits, top_k, renormalize)
    inner = moe_up_reference(x, *w13, ids.reshape(-1), top_k=top_k, silu=True, dtype=dtype)
    return moe_down_reference(inner, *w2, ids, weights, dtype=dtype)


def moe_experts_torch(
    x: Tensor,
    topk_ids: Tensor,
    topk_weights: Tensor,
    w13: tuple[Tensor, Tensor, Tensor | None],
    w2: tuple[Tensor, Tensor, Tensor | None],
) -> Tensor:
    """The expert layers of tokens by torch: all weights dequantised to x's type, slots sorted by expert, and torch's grouped matrix products.

    [tokens, hidden] in x's type. Slots of expert -1 add nothing. The weights of a layer are expanded fourfold for the time of the call; nothing is
    read back. What a layer's torch row runs; torch before 2.10 has no grouped product, and multiplies expert by expert, all rows each time.
    """
    return grouped_experts(x, topk_ids, topk_weights, expanded(w13, x.dtype), expanded(w2, x.dtype))


def grouped_experts(x: Tensor, topk_ids: Tensor, topk_weights: Tensor, w13: Tensor, w2: Tensor) -> Tensor:
    """The same on 16-bit weights, [E, 2 I, hidden] with gates first, and [E, hidden, I]."""
    tokens, top_k = topk_ids.shape
    experts = w13.shape[0]
    flat = topk_ids.reshape(-1).long()
    sorted_experts, order = torch.where(flat < 0, experts, flat).sort(stable=True)
    ends = torch.searchsorted(sorted_experts, torch.arange(experts, device=x.device), right=True).int()
    product = _grouped(x[order.div(top_k, rounding_mode="floor")], w13, ends)
    gate, up = product.chunk(2, dim=1)
    inner = (torch.nn.functional.silu(gate.float()) * up.float()).to(x.dtype)
    outer = _grouped(inner, w2, ends).float() * topk_weights.reshape(-1)[order].unsqueeze(1)
    outer = torch.where((sorted_experts < experts).unsqueeze(1), outer, 0.0)
    rows = torch.empty_like(outer).index_copy_(0, order, outer)
    return rows.view(tokens, top_k, -1).sum(1).to(x.dtype)


def _grouped(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """rows [slots, K] @ weights[expert].T, where expert e has the rows from ends[e - 1] to ends[e]; what lies beyond the last is anything."""
    if hasattr(torch.nn.functional, "grouped_mm"):
        return torch.nn.functional.grouped_mm(rows, weights.transpose(1, 2), offs=ends)
    out = rows.new_zeros(rows.shape[0], weights.shape[1])
    place = torch.arange(rows.shape[0], device=rows.device).unsqueeze(1)
    for expert in range(weights.shape[0]):
        mine = (place < ends[expert]) & (place >= ends[expert - 1] if expert else place >= 0)
        out = torch.where(mine, rows @ weights[expert].T, out)
    return out


def expanded(stack: tuple[Tensor, Tensor, Tensor | None], dtype: torch.dtype) -> Tensor:
    """All weights of a stack, [E, rows, K], rounded once; made expert by expert, since on the way each element takes 16 bytes."""
    weight, scales, zeros = stack
    E, rows, words = weight.shape
    out = torch.empty((E, rows, 8 * words), dtype=dtype, device=weight.device)
    for expert in range(E):
        zero = None if zeros is None else zeros[expert]
        out[expert] = int4_weight(weight[expert], scales[expert], zero, dtype)
    return out
