"""The expert ops' schemas and fakes; see kgen.ops.schema for how ops are registered."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kgen.ops.check_moe import check_down, check_experts, check_gemm, check_layer, check_up
from kgen.ops.moe import moe_decode_int4, moe_down_reduce, moe_wvsplitk_int4
from kgen.ops.moe_gemm import moe_gemm_w4a16
from kgen.ops.moe_w4a16 import moe_experts_w4a16, moe_w4a16

_library = torch.library.Library("kgen", "FRAGMENT")


def _up_fake(
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
) -> Tensor:
    lists = (expert_ids, sorted_ids, padded_slots)
    problem = check_up("moe_wvsplitk_int4", x, weight, scales, zeros, *lists, block_size, top_k, silu)
    return x.new_empty(problem.out_shape)


def _gemm_fake(
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    expert_ids: Tensor,
    sorted_ids: Tensor | None = None,
    padded_slots: Tensor | None = None,
    topk_weights: Tensor | None = None,
    *,
    block_size: int = 64,
    top_k: int = 1,
    silu: bool = False,
) -> Tensor:
    lists = (expert_ids, sorted_ids, padded_slots, topk_weights)
    problem = check_gemm("moe_gemm_w4a16", x, weight, scales, zeros, *lists, block_size, top_k, silu)
    return x.new_empty(problem.out_shape)


def _down_fake(
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    topk_ids: Tensor,
    topk_weights: Tensor,
    *,
    fuse_silu: bool = False,
) -> Tensor:
    problem = check_down("moe_down_reduce", x, weight, scales, zeros, topk_ids, topk_weights, fuse_silu)
    return x.new_empty(problem.out_shape)


def _layer_fake(op: str) -> Callable[..., Tensor]:
    def fake(
        x: Tensor,
        router: Tensor,
        w13: Tensor,
        w13_scales: Tensor,
        w13_zeros: Tensor | None,
        w2: Tensor,
        w2_scales: Tensor,
        w2_zeros: Tensor | None,
        *,
        top_k: int,
        renormalize: bool = True,
    ) -> Tensor:
        weights = (w13, w13_scales, w13_zeros, w2, w2_scales, w2_zeros)
        return x.new_empty(check_layer(op, x, router, *weights, top_k).out_shape)

    return fake


def _experts_fake(
    x: Tensor,
    topk_ids: Tensor,
    topk_weights: Tensor,
    w13: Tensor,
    w13_scales: Tensor,
    w13_zeros: Tensor | None,
    w2: Tensor,
    w2_scales: Tensor,
    w2_zeros: Tensor | None,
) -> Tensor:
    weights = (w13, w13_scales, w13_zeros, w2, w2_scales, w2_zeros)
    return x.new_empty(check_experts("moe_experts_w4a16", x, topk_ids, topk_weights, *weights).out_shape)


_OPS: tuple[tuple[str, Callable[..., Tensor], Callable[..., Tensor]], ...] = (
    (
        "moe_wvsplitk_int4(Tensor x, Tensor weight, Tensor scales, Tensor? zeros, Tensor expert_ids, Tensor? sorted_ids=None, "
        "Tensor? padded_slots=None, *, int block_size=1, int top_k=1, bool silu=False) -> Tensor",
        moe_wvsplitk_int4,
        _up_fake,
    ),
    (
        "moe_gemm_w4a16(Tensor x, Tensor weight, Tensor scales, Tensor? zeros, Tensor expert_ids, Tensor? sorted_ids=None, "
        "Tensor? padded_slots=None, Tensor? topk_weights=None, *, int block_size=64, int top_k=1, bool silu=False) -> Tensor",
        moe_gemm_w4a16,
        _gemm_fake,
    ),
    (
        "moe_down_reduce(Tensor x, Tensor weight, Tensor scales, Tensor? zeros, Tensor topk_ids, Tensor topk_weights, *, "
        "bool fuse_silu=False) -> Tensor",
        moe_down_reduce,
        _down_fake,
    ),
    (
        "moe_decode_int4(Tensor x, Tensor router, Tensor w13, Tensor w13_scales, Tensor? w13_zeros, Tensor w2, Tensor w2_scales, "
        "Tensor? w2_zeros, *, int top_k, bool renormalize=True) -> Tensor",
        moe_decode_int4,
        _layer_fake("moe_decode_int4"),
    ),
    (
        "moe_w4a16(Tensor x, Tensor router, Tensor w13, Tensor w13_scales, Tensor? w13_zeros, Tensor w2, Tensor w2_scales, "
        "Tensor? w2_zeros, *, int top_k, bool renormalize=True) -> Tensor",
        moe_w4a16,
        _layer_fake("moe_w4a16"),
    ),
    (
        "moe_experts_w4a16(Tensor x, Tensor topk_ids, Tensor topk_weights, Tensor w13, Tensor w13_scales, Tensor? w13_zeros, "
        "Tensor w2, Tensor w2_scales, Tensor? w2_zeros) -> Tensor",
        moe_experts_w4a16,
        _experts_fake,
    ),
)

for _schema, _code, _fake in _OPS:
    _name = _schema.split("(")[0]
    _library.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))
    for _key in ("CPU", "CUDA"):
        _library.impl(_name, _code, _key)
    _library.impl(_name, torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(f"kgen::{_name}", _fake, lib=_library)
