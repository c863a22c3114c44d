"""Which tokens go to which experts: softmax and top-k, and blocks of slots for the expert kernels. All of it on the logits' device.

Sizes follow from shapes alone and nothing is read back, so a captured graph replays it with other tokens; CPU tensors work as well.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kgen.errors import OpError, Problem
from kgen.spec.problem import ceil_div


class Blocks(NamedTuple):
    """Slots in blocks of one expert each, as torch.ops.kgen.moe_wvsplitk_int4 takes them; int32.

    expert_ids    [blocks]: the expert of each block; -1 behind the filled ones
    sorted_ids    [blocks * block_size]: slots block by block, tokens * top_k where a block has no more
    padded_slots  [1]: how many places of sorted_ids belong to filled blocks
    """

    expert_ids: Tensor
    sorted_ids: Tensor
    padded_slots: Tensor


def route(logits: Tensor, top_k: int, renormalize: bool = True) -> tuple[Tensor, Tensor]:
    """The experts of each token and their weights: int32 and fp32 [tokens, top_k] from router logits [tokens, E].

    Softmax in fp32 over all experts, or over the chosen ones (`renormalize`). Among equal logits the lower index comes first, and a NaN comes
    last; torch.topk promises neither. The same choice as moe_wvsplitk_int4's with RANK. Raises OpError for a top_k that cannot be.
    """
    if logits.dim() != 2 or not 1 <= top_k <= logits.shape[-1]:
        problem = Problem(("logits.shape", "top_k"), f"{list(logits.shape)}, {top_k}", "[tokens, E], 1 <= top_k <= E")
        raise OpError("kgen.ops.moe_route.route: not possible", [problem])
    wide = logits.float()
    ranking = torch.where(wide.isnan(), -torch.inf, wide)
    ids = ranking.sort(dim=-1, descending=True, stable=True).indices[:, :top_k]
    if renormalize:
        return ids.int(), wide.gather(-1, ids).softmax(dim=-1)
    return ids.int(), wide.softmax(dim=-1).gather(-1, ids)


def most_blocks(slots: int, experts: int, block_size: int) -> int:
    """Blocks that `align` makes room for: each expert with a slot wastes at most block_size - 1 places. With `absent` experts are one more."""
    return min(slots, ceil_div(slots + min(experts, slots) * (block_size - 1), block_size))


def align(topk_ids: Tensor, experts: int, block_size: int, *, absent: bool = False) -> Blocks:
    """Slots sorted by expert, in their own order inside of one, each expert's padded to whole blocks of `block_size`.

    topk_ids  integers [tokens, top_k] below `experts`; slots below 0 (another device's) are in no block
    absent    those are in blocks of their own instead, of expert -1 and behind the others, as vLLM lists them: so that the second GEMM of a layer,
              whose rows are summed, knows which to store as zeros
    """
    flat = topk_ids.reshape(-1).long()
    slots, device = flat.numel(), flat.device
    here = torch.where(flat < 0, experts, flat)
    known, experts = experts, experts + absent
    blocks = most_blocks(slots, experts, block_size)
    sorted_experts, order = here.sort(stable=True)
    every = torch.arange(experts, device=device)
    firsts = torch.searchsorted(sorted_experts, every)
    counts = torch.searchsorted(sorted_experts, every, right=True) - firsts
    whole = (counts + block_size - 1).div(block_size, rounding_mode="floor")
    ends = whole.cumsum(0)  # in blocks
    place = torch.arange(slots, device=device)
    inside = sorted_experts.clamp(max=experts - 1)
    starts = (ends - whole) * block_size
    target = torch.where(sorted_experts < experts, starts[inside] + place - firsts[inside], blocks * block_size)
    sorted_ids = torch.full((blocks * block_size + 1,), slots, dtype=torch.int32, device=device)
    sorted_ids.scatter_(0, target, order.int())
    number = torch.arange(blocks, device=device)
    expert_ids = torch.searchsorted(ends, number, right=True)
    filled = ends[-1:]
    expert_ids = torch.where((number < filled) & (expert_ids < known), expert_ids, -1).int()
    return Blocks(expert_ids, sorted_ids[:-1], (filled * block_size).int())
