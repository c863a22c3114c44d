"""Data of a case for the expert families: stacked int4 weights, routing that skips, pads and ties, and what must come out, in numpy.

The second GEMM's operand with FUSE_SILU is rounded to dtype here as in the kernel; where fp32 falls on the other side of a tie one operand differs
by a unit in its last place. `magnitude` has room for two such operands of the largest product: see docs/moe.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kgen.spec.moe import MoeSpec
from kgen.spec.moe_down_reduce import MoeDownReduceSpec
from kgen.spec.moe_wvsplitk_int4 import MoeWvSplitKInt4Spec
from kgen.spec.problem import MoeShape, ceil_div
from kgen.spec.w4 import OFFSET
from kgen.verify.data import Extra
from kgen.verify.dense import padded, shaped
from kgen.verify.elements import FORMATS, POISON, Doubles, from_bits, to_bits
from kgen.verify.int4 import Int4Weights, act_sizes
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
    silu,
)


def moe_operands(spec: MoeSpec, case: MoeCase) -> MoeOperands:
    """The data of a case; paddings do not change any value. `weight_pad` is in elements, a multiple of GROUP_SIZE."""
    if isinstance(spec, MoeDownReduceSpec):
        return _down_operands(spec, case)
    assert isinstance(spec, MoeWvSplitKInt4Spec)
    return _up_operands(spec, case)


def _sizes(spec: MoeSpec, weights: Int4Weights) -> Any:
    """Absolute values of what the kernel multiplies by."""
    return weights.sizes(OFFSET[spec.dtype]) if spec.DEQUANT == "actsum" else np.abs(weights.values())


# ---- the first GEMM


def _up_operands(spec: MoeWvSplitKInt4Spec, case: MoeCase) -> MoeOperands:
    shape, dtype = case.moe, spec.dtype
    routing, rng = routing_of(case), np.random.default_rng([case.seed, shape.M, shape.K, spec.GROUP_SIZE])
    given: dict[str, Any] = {}
    scalars: dict[str, int] = {"top_k": shape.top_k}
    extras: dict[str, Extra] = {}
    if spec.RANK:
        halves = np.rint(2 * routing.standard_normal((shape.tokens, shape.experts)).astype(np.float32)) / 2
        if case.values == "zeros":
            signed = np.where(np.arange(shape.experts) % 2, np.float32(0), np.float32(-0.0))
            halves = np.where(halves > 0, signed, halves)  # the highest are zeros of both signs, which are equal
        logits = to_bits(halves, dtype)
        renormalize = case.routing % 2
        ids, weights = top_k_of(from_bits(logits, dtype), shape.top_k, bool(renormalize))
        blocks, order = ids.reshape(-1).tolist(), list(range(shape.slots))
        given["logits"] = logits
        scalars |= {"experts": shape.experts, "renormalize": renormalize}
        extras = {"topk_ids": Extra(ids), "topk_weights": Extra(weights.astype(np.float32), 1e-5)}
    else:
        blocks, order = aligned(random_ids(case, routing), shape.experts, shape.N)
        if spec.ROWS == "scattered" and not case.listed:
            blocks, order = random_ids(case, routing).reshape(-1).tolist(), list(range(shape.slots))
        filled = len(blocks)
        given["expert_ids"] = np.array([*blocks, *[BEYOND_LAST] * case.spare], np.int32)
        given["sorted_ids"] = np.array([*order, *[BEYOND_LAST] * (case.spare * shape.N)], np.int32)
        given["padded_slots"] = np.array([filled * shape.N], np.int32) if case.spare else None
        if spec.ROWS == "contiguous" or not case.listed:
            given["sorted_ids"] = None
        scalars["blocks"] = filled + case.spare
    contiguous = spec.ROWS == "contiguous"
    slots = len(order) - shape.N // 2 if contiguous else shape.slots  # the last block's rows may not all be there
    act = rng.standard_normal((slots if contiguous else shape.tokens, shape.K), np.float32) * (
        QUIET if spec.paired else 1
    )
    act_bits = to_bits(shaped(case, rng, act), dtype)
    experts = experts_of(spec, case, rng, shape.M * (2 if spec.paired else 1))
    pairs = [
        (i if contiguous else slot, expert)
        for i, (slot, expert) in enumerate(zip(order, np.repeat(blocks, shape.N), strict=True))
    ]
    rows = {
        slot: (slot if contiguous else slot // shape.top_k, expert)
        for slot, expert in pairs
        if slot < slots and expert >= 0
    }
    reference, magnitude = _up_reference(spec, case, from_bits(act_bits, dtype), experts, rows, slots)
    expected = None
    if case.values == "zeros":
        expected = np.where(np.isnan(reference), np.uint16(POISON), np.uint16(0))
    given |= {**experts.arrays, "act": padded(act_bits, case.act_pad, dtype)}
    scalars |= {**experts.strides, "act_stride": shape.K + case.act_pad, "slots": slots}
    return MoeOperands(given, scalars, reference, magnitude, expected, extras)


def _up_reference(
    spec: MoeWvSplitKInt4Spec,
    case: MoeCase,
    act: Doubles,
    experts: Experts,
    rows: Mapping[int, tuple[int, int]],
    slots: int,
) -> tuple[Doubles, Doubles]:
    """Exact outputs [slots, M] and what their errors grow with; NaN where nothing is stored. `rows`: slot -> its activations and expert."""
    M = case.moe.M
    reference, magnitude = np.full((slots, M), np.nan), np.zeros((slots, M))
    values = {
        expert: (experts.each[expert].values(), _sizes(spec, experts.each[expert]))
        for expert in {e for _, e in rows.values()}
    }
    for slot, (row, expert) in rows.items():
        weights, sizes = values[expert]
        product, size = weights @ act[row], sizes @ act_sizes(spec, act[row])
        if spec.paired:
            reference[slot], magnitude[slot] = gated(product[:M], product[M:], size[:M], size[M:])
        else:
            reference[slot], magnitude[slot] = product, size
    return reference, magnitude


def top_k_of(logits: Doubles, top_k: int, renormalize: bool) -> tuple[Any, Doubles]:
    """Experts [tokens, top_k] by falling logit, the lower index first among equals, and their softmax weights."""
    ids = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
    size = np.exp(logits - logits.max(axis=1, keepdims=True))
    chosen = np.take_along_axis(size, ids, axis=1)
    return ids.astype(np.int32), chosen / (chosen if renormalize else size).sum(axis=1, keepdims=True)


# ---- the second GEMM


def _down_operands(spec: MoeDownReduceSpec, case: MoeCase) -> MoeOperands:
    shape, dtype = case.moe, spec.dtype
    routing, rng = routing_of(case), np.random.default_rng([case.seed, shape.M, shape.K, spec.GROUP_SIZE])
    ids = random_ids(case, routing)
    weights = routing.dirichlet(np.ones(shape.top_k), shape.tokens).astype(np.float32)
    halves = 2 if spec.FUSE_SILU else 1
    act_bits = to_bits(
        np.hstack([shaped(case, rng, rng.standard_normal((shape.slots, shape.K), np.float32)) for _ in range(halves)]),
        dtype,
    )
    act = from_bits(act_bits, dtype)
    if spec.FUSE_SILU:
        act = from_bits(to_bits(silu(act[:, : shape.K]) * act[:, shape.K :], dtype), dtype)
    experts = experts_of(spec, case, rng, shape.M)
    reference, magnitude = np.zeros((shape.tokens, shape.M)), np.zeros((shape.tokens, shape.M))
    largest = np.zeros_like(reference)
    for (token, slot), expert in np.ndenumerate(ids):
        if expert >= 0:
            row, weight = act[token * shape.top_k + slot], float(weights[token, slot])
            values = experts.each[expert].values()
            reference[token] += weight * (values @ row)
            magnitude[token] += weight * (_sizes(spec, experts.each[expert]) @ act_sizes(spec, row))
            largest[token] = np.maximum(largest[token], weight * np.abs(values * row).max(axis=1))
    if spec.FUSE_SILU:
        magnitude += 2 * FORMATS[dtype].eps * largest / (spec.additions(shape) * 2.0**-23)
    nothing = case.values == "zeros" or case.skipped == "all"
    given = {**experts.arrays, "act": padded(act_bits, case.act_pad, dtype), "topk_ids": ids, "topk_weights": weights}
    scalars = {**experts.strides, "act_stride": halves * shape.K + case.act_pad, "top_k": shape.top_k}
    return MoeOperands(given, scalars, reference, magnitude, np.zeros(reference.shape, np.uint16) if nothing else None)


# ---- cases


def moe_cases(spec: MoeSpec, full: bool) -> list[MoeCase]:
    """Sizes from the kernel's own tile and trip: ragged outputs, K that ends inside a trip, skipped experts, padding slots, spare blocks."""
    if isinstance(spec, MoeDownReduceSpec):
        found = _down_cases(spec)
    else:
        assert isinstance(spec, MoeWvSplitKInt4Spec)
        found = _ranked_cases(spec) if spec.RANK else _listed_cases(spec)
    if full:
        found += [_sized(spec, found[0], number) for number in range(12)]
    return [case for case in found if spec.fits(case.moe) is None]


def moe_probe(spec: MoeSpec, shape: MoeShape) -> MoeCase:
    """The problem of these sizes on one CU, without padding: experts that differ for each token, in order where the kernel can do without a list.

    Listed blocks are as many as this routing fills, if the shape has fewer; those that it has more stay empty.
    """
    case = MoeCase("probe", shape, cu=1)
    if not isinstance(spec, MoeWvSplitKInt4Spec) or spec.RANK:
        return case
    filled = blocks_of(shape, case.routing, case.skipped)
    listed = shape.N > 1 or spec.ROWS == "contiguous"
    blocks = max(filled, shape.blocks)
    return replace(case, shape=replace(shape, blocks=blocks), listed=listed, spare=blocks - filled)


def _k(spec: MoeSpec, wanted: int) -> int:
    """`wanted`, or the largest K at or below it that is whole groups (a fixed K is that one)."""
    return spec.K or max(1, wanted // spec.GROUP_SIZE) * spec.GROUP_SIZE


def _shape(spec: MoeSpec, M: int, K: int, experts: int, top_k: int, tokens: int, blocks: int | None = None) -> MoeShape:
    slots = tokens * top_k
    traits = [getattr(spec, name) for name in spec.traits]
    count = slots if blocks is None else blocks
    return spec.shape(M, spec.N, _k(spec, K), *traits, experts=experts, top_k=top_k, tokens=tokens, blocks=count)


def _case(words: str, shape: MoeShape, seed: int, **more: Any) -> MoeCase:
    """A case whose routing is that of its seed."""
    return MoeCase(words, shape, seed=seed, routing=seed, **more)


def _listed(words: str, shape: MoeShape, seed: int, **more: Any) -> MoeCase:
    """A case whose blocks are counted; `spare` ones come on top."""
    case = _case(words, shape, seed, **more)
    count = shape.slots if not case.listed else blocks_of(shape, case.routing, case.skipped)
    return replace(case, shape=replace(shape, blocks=count + case.spare))


def _listed_cases(spec: MoeWvSplitKInt4Spec) -> list[MoeCase]:
    rows, group = spec.rows_per_group, spec.GROUP_SIZE
    inside = (
        spec.step * spec.K_WAVES + spec.step // 2 + group
    )  # more than one trip of each wave, the last one part of one
    out = [
        _listed(
            "blocks",
            _shape(spec, 2 * rows + rows // 2 + 1, inside, 4, 2, 3),
            weight_pad=group,
            act_pad=24,
            cu=1,
            seed=1,
            skipped="some",
            spare=2,
        ),
        _listed("one row", _shape(spec, 1, 2 * spec.step, 2, 2, 1), values="hot", act_pad=8, seed=2),
        _listed(
            "short K", _shape(spec, rows + 1, group, 5, 3, 5), values="sparse", weight_pad=2 * group, seed=3, spare=1
        ),
        _listed("all skipped", _shape(spec, rows, group, 3, 2, 2), seed=4, skipped="all"),
        _listed("many", _shape(spec, ceil_div(130, rows) * rows, spec.slab + group, 4, 2, 3), cu=1, seed=5),
        _listed("zeros", _shape(spec, rows + 1, group, 3, 2, 2), values="zeros", seed=6, skipped="some"),
        _listed("NaN", _shape(spec, max(1, rows - 1), inside, 3, 1, 2), values="nan", seed=7),
    ]
    if spec.persistent:  # groups that come to other rows, and back to the same ones
        out.append(_listed("other rows", _shape(spec, rows, spec.slab, 6, 2, 29), cu=1, seed=9, skipped="some"))
    if spec.N == 1 and spec.ROWS == "scattered":
        out.append(
            _listed("in order", _shape(spec, rows + 1, spec.step, 5, 3, 2), seed=8, listed=False, skipped="some")
        )
    return out


def _ranked_cases(spec: MoeWvSplitKInt4Spec) -> list[MoeCase]:
    rows, group = spec.rows_per_group, spec.GROUP_SIZE
    inside = spec.step * spec.K_WAVES + spec.step // 2 + group
    return [
        _case("ranked", _shape(spec, 2 * rows + rows // 2 + 1, inside, 5, 3, 2), weight_pad=group, act_pad=24, seed=1),
        _case("one row", _shape(spec, 1, 2 * spec.step, 1, 1, 1), values="hot", seed=2),
        _case("128 experts", _shape(spec, rows + 1, group, 128, 8, 2), values="sparse", weight_pad=2 * group, seed=3),
        _case("256 experts", _shape(spec, rows, group, 256, 32, 1), seed=4),
        _case("many", _shape(spec, ceil_div(130, rows) * rows, spec.slab + group, 4, 4, 1), seed=5),
        _case("zeros", _shape(spec, rows + 1, group, 9, 2, 2), values="zeros", seed=6),
        _case("NaN", _shape(spec, max(1, rows - 1), inside, 33, 2, 2), values="nan", seed=7),
    ]


def _down_cases(spec: MoeDownReduceSpec) -> list[MoeCase]:
    rows, group = spec.rows_per_group, spec.GROUP_SIZE
    inside = spec.step + spec.step // 2 + group
    return [
        _case(
            "walk",
            _shape(spec, rows * (spec.groups_per_cu + 1) + rows // 2 + 1, inside, 4, 3, 2),
            weight_pad=group,
            act_pad=24,
            cu=1,
            seed=1,
            skipped="some",
        ),
        _case("one row", _shape(spec, 1, 2 * spec.step, 2, 2, 1), values="hot", act_pad=8, seed=2),
        _case("short K", _shape(spec, rows + 1, group, 9, 8, 2), values="sparse", weight_pad=2 * group, seed=3),
        _case("all skipped", _shape(spec, rows + 1, group, 3, 2, 2), seed=4, skipped="all"),
        _case("many", _shape(spec, 520, spec.slab, 3, 2, 1), cu=1, seed=5),
        _case("zeros", _shape(spec, rows + 1, group, 3, 2, 2), values="zeros", seed=6),
        _case("NaN", _shape(spec, max(1, rows - 1), inside, 3, 2, 2), values="nan", seed=7),
    ]


def _sized(spec: MoeSpec, like: MoeCase, number: int) -> MoeCase:
    """A size of the full level: K around slabs and trips, M around tiles."""
    rows, step = spec.rows_per_group, spec.step
    K = (spec.GROUP_SIZE, spec.slab, step, step + spec.GROUP_SIZE, 3 * step + spec.slab, 2048)[number % 6]
    M = (1, max(1, rows - 1), rows, rows + 1, 3 * rows + 1)[number % 5]
    values = ("normal", "hot", "sparse", "zeros", "nan")[number % 5]
    shape = _shape(spec, M, K, 6, 1 + number % 4, 1 + number % 3)
    more: dict[str, Any] = dict(
        values=values, weight_pad=number % 2 * spec.GROUP_SIZE, act_pad=8 * (number % 4), cu=1, seed=100 + number
    )
    if isinstance(spec, MoeWvSplitKInt4Spec) and not spec.RANK:
        return _listed("size", shape, skipped=("none", "some")[number % 2], spare=number % 3, **more)
    return _case("size", shape, **more)
