"""Data of a case for moe_gemm_w4a16: blocks of sorted slots, some of them padding or of absent experts, and what must come out, in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kgen.spec.moe_gemm_w4a16 import MoeGemmW4A16Spec
from kgen.spec.problem import MoeShape
from kgen.verify.dense import padded, shaped
from kgen.verify.elements import POISON, Doubles, from_bits, to_bits
from kgen.verify.int4 import tile_values
from kgen.verify.moe_data import (
    BEYOND_LAST,
    QUIET,
    Experts,
    MoeCase,
    MoeOperands,
    aligned,
    blocks_of,
    experts_of,
    gated,
    random_ids,
    routing_of,
)


def gemm_operands(spec: MoeGemmW4A16Spec, case: MoeCase) -> MoeOperands:
    """The data of a case; paddings do not change any value. `weight_pad` is in elements, a multiple of GROUP_SIZE.

    Cases whose routing is odd have weights for their slots, as the second GEMM of a layer; those of top_k 1 with rows in place of tokens, too.
    """
    shape, dtype = case.moe, spec.dtype
    routing, rng = routing_of(case), np.random.default_rng([case.seed, shape.M, shape.K, spec.GROUP_SIZE])
    blocks, order = _lists(case, routing)
    slots, weighted = shape.slots, case.routing % 2 == 1
    weights = routing.dirichlet(np.ones(shape.top_k), shape.tokens).astype(np.float32).reshape(-1) if weighted else None
    act = rng.standard_normal((shape.tokens, shape.K), np.float32) * (QUIET if spec.paired else 1)
    act_bits = to_bits(shaped(case, rng, act), dtype)
    experts = experts_of(spec, case, rng, shape.M * (2 if spec.paired else 1))
    of_slot = dict(zip(order, np.repeat(blocks, shape.N).tolist(), strict=True))
    rows = {slot: expert for slot, expert in of_slot.items() if slot < slots}
    reference, magnitude = _reference(spec, case, from_bits(act_bits, dtype), experts, rows, weights)
    spare = [BEYOND_LAST] * case.spare
    given = {
        **experts.arrays,
        "act": padded(act_bits, case.act_pad, dtype),
        "expert_ids": np.array([*blocks, *spare], np.int32),
        "sorted_ids": np.array([*order, *spare * shape.N], np.int32) if case.listed else None,
        "padded_slots": np.array([len(blocks) * shape.N], np.int32) if case.spare else None,
        "topk_weights": weights,
    }
    scalars = {**experts.strides, "act_stride": shape.K + case.act_pad, "slots": slots, "top_k": shape.top_k}
    scalars["blocks"] = len(blocks) + case.spare
    expected = None
    if case.values == "zeros":
        expected = np.where(np.isnan(reference), np.uint16(POISON), np.uint16(0))
    return MoeOperands(given, scalars, reference, magnitude, expected)


def _lists(case: MoeCase, routing: np.random.Generator) -> tuple[Sequence[int], Sequence[int]]:
    """Expert of every block, and slots block by block; in order where no list is given: the first slots are of the first expert."""
    shape = case.moe
    if case.listed:
        return aligned(random_ids(case, routing), shape.experts, shape.N)
    return [block % shape.experts for block in range(shape.blocks)], list(range(shape.blocks * shape.N))


def _reference(
    spec: MoeGemmW4A16Spec,
    case: MoeCase,
    act: Doubles,
    experts: Experts,
    rows: Mapping[int, int],
    weights: Any,
) -> tuple[Doubles, Doubles]:
    """Exact outputs [slots, M] on the rounded weights, and what their errors grow with; NaN where nothing is stored."""
    shape, M = case.moe, case.moe.M
    reference, magnitude = np.full((shape.slots, M), np.nan), np.zeros((shape.slots, M))
    values = {
        expert: tile_values(experts.each[expert].values(), spec.dtype, spec.TruncateBf16Round)
        for expert in set(rows.values())
        if expert >= 0
    }
    for slot, expert in rows.items():
        if expert < 0:
            if weights is not None:
                reference[slot] = 0
            continue
        x = act[slot // shape.top_k]
        product, size = values[expert] @ x, np.abs(values[expert]) @ np.abs(x)
        if spec.paired:
            product, size = gated(product[:M], product[M:], size[:M], size[M:])
        factor = 1.0 if weights is None else float(weights[slot])
        reference[slot], magnitude[slot] = factor * product, factor * size
    return reference, magnitude


# ---- cases


def gemm_cases(spec: MoeGemmW4A16Spec, full: bool) -> list[MoeCase]:
    """Sizes from the kernel's own block and step: experts without a slot, one with all, absent ones, padding slots, spare blocks, ragged outputs."""
    N, rows, group, step = spec.BLOCK_N, spec.rows_per_group, spec.GROUP_SIZE, spec.BLOCK_K
    inside = 2 * step + group  # more than two steps, the last one part of one where a group is
    found = [
        _listed("blocks", _shape(spec, rows + rows // 2 + 1, inside, 4, 2, N // 4 + 3), 1, pads=(group, 24), spare=2),
        _listed("one slot", _shape(spec, 1, group, 9, 1, 1), 2, values="hot", pads=(0, 8)),
        _listed("absent", _shape(spec, rows + 1, group, 5, 3, 5), 3, values="sparse", skipped="some", spare=1),
        _listed("all absent", _shape(spec, rows, group, 3, 2, 2), 5, skipped="all"),
        _listed("absent, unweighted", _shape(spec, rows, group, 3, 2, 2), 4, skipped="some"),
        _listed("one expert has all", _shape(spec, rows, 3 * step, 1, 1, N + N // 2 + 1), 6, pads=(2 * group, 0)),
        _listed("zeros", _shape(spec, rows + 1, group, 3, 2, 3), 7, values="zeros", skipped="some"),
        _listed("NaN", _shape(spec, max(1, rows - 1), inside, 3, 1, 5), 9, values="nan"),
        _in_order("in order", _shape(spec, rows + 3, group, 3, 1, 2 * N + 5), 10),
    ]
    if full:
        found += [_sized(spec, number) for number in range(10)]
    return [case for case in found if spec.fits(case.moe) is None]


def gemm_probe(shape: MoeShape) -> MoeCase:
    """The problem of these sizes on one CU, without padding; blocks that this routing does not fill stay empty."""
    case = MoeCase("probe", shape, cu=1)
    filled = blocks_of(shape, case.routing, case.skipped)
    blocks = max(filled, shape.blocks)
    return replace(case, shape=replace(shape, blocks=blocks), spare=blocks - filled)


def _shape(spec: MoeGemmW4A16Spec, M: int, K: int, experts: int, top_k: int, tokens: int) -> MoeShape:
    group = spec.GROUP_SIZE
    traits = [getattr(spec, name) for name in spec.traits]
    K = max(1, K // group) * group
    return spec.shape(M, spec.N, K, *traits, experts=experts, top_k=top_k, tokens=tokens, blocks=0)


def _listed(words: str, shape: MoeShape, seed: int, pads: tuple[int, int] = (0, 0), **more: Any) -> MoeCase:
    """A case whose blocks are counted; `spare` ones come on top. pads: of weights and of activations."""
    case = MoeCase(words, shape, seed=seed, routing=seed, weight_pad=pads[0], act_pad=pads[1], cu=1, **more)
    count = blocks_of(shape, case.routing, case.skipped) + case.spare
    return replace(case, shape=replace(shape, blocks=count))


def _in_order(words: str, shape: MoeShape, seed: int) -> MoeCase:
    """A case without a list."""
    blocks = -(-shape.slots // shape.N)
    return MoeCase(words, replace(shape, blocks=blocks), seed=seed, routing=seed, listed=False, cu=1)


def _sized(spec: MoeGemmW4A16Spec, number: int) -> MoeCase:
    """A size of the full level: K around steps, M around blocks."""
    rows, step, group = spec.rows_per_group, spec.BLOCK_K, spec.GROUP_SIZE
    K = (group, step, 2 * step, 2 * step + group, 7 * step)[number % 5]
    M = (1, max(1, rows - 1), rows, rows + 1, 2 * rows + 17)[number % 5]
    values = ("normal", "hot", "sparse", "zeros", "nan")[number % 5]
    shape = _shape(spec, M, K, 6, 1 + number % 4, 1 + number % 3 * (spec.BLOCK_N // 3))
    pads = (number % 2 * group, 8 * (number % 4))
    more: dict[str, Any] = dict(values=values, skipped=("none", "some")[number % 2], spare=number % 3)
    return _listed("size", shape, 100 + number, pads, **more)
