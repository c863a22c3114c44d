"""torch.ops.kgen.moe_wvsplitk_int4, moe_down_reduce and moe_decode_int4 on real tensors. See docs/moe.md.

As in the linear ops, the first call with a key makes a plan; later ones look it up and launch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from kgen.errors import OpError, Problem
from kgen.ops.check import ALIGNMENT, DTYPES, LinearProblem, alignment_error
from kgen.ops.check_moe import LayerProblem, MoeProblem, check_down, check_layer, check_up
from kgen.ops.linear import linear_op
from kgen.ops.moe_route import route
from kgen.ops.plan import BELOW, Plan, contiguous, empty_on, find_plan, make_plan, output_of, rough_key, table_answer
from kgen.ops.reference_moe import moe_down_reference, moe_up_reference
from kgen.runtime.launch import Kernel
from kgen.runtime.library import Library
from kgen.spec.moe_down_reduce import MoeDownReduceSpec
from kgen.spec.moe_wvsplitk_int4 import MoeWvSplitKInt4Spec
from kgen.spec.problem import MoeShape

UP, DOWN, LAYER = MoeWvSplitKInt4Spec.family, MoeDownReduceSpec.family, "moe_decode_int4"
_router = linear_op("wvsplitk")


def moe_wvsplitk_int4(
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
    """The op below autograd; see `kgen.ops.check_moe.check_up` for what it takes. Slots that no block of an expert holds are not written."""
    tensors = (x, weight, scales, zeros, expert_ids, sorted_ids, padded_slots)
    key = (BELOW, UP, block_size, top_k, silu, *rough_key(tensors))
    plan = find_plan(key, tensors)
    if plan is None:
        check = partial(check_up, block_size=block_size, top_k=top_k, silu=silu)
        reference = partial(moe_up_reference, block_size=block_size, top_k=top_k, silu=silu)
        plan = make_plan(UP, key, tensors, check, partial(expert_answer, UP, x, _up_counts, reference))
    return plan(*tensors)


def moe_down_reduce(
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    topk_ids: Tensor,
    topk_weights: Tensor,
    *,
    fuse_silu: bool = False,
) -> Tensor:
    """The op below autograd; see `kgen.ops.check_moe.check_down` for what it takes."""
    tensors = (x, weight, scales, zeros, topk_ids, topk_weights)
    key = (BELOW, DOWN, fuse_silu, *rough_key(tensors))
    plan = find_plan(key, tensors)
    if plan is None:
        check = partial(check_down, fuse_silu=fuse_silu)
        reference = partial(moe_down_reference, fuse_silu=fuse_silu)
        plan = make_plan(DOWN, key, tensors, check, partial(expert_answer, DOWN, x, _down_counts, reference))
    return plan(*tensors)


def moe_decode_int4(
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
    """The op below autograd: a layer in three launches; see `kgen.ops.check_moe.check_layer` for what it takes."""
    tensors = (x, router, w13, w13_scales, w13_zeros, w2, w2_scales, w2_zeros)
    key = (BELOW, LAYER, top_k, renormalize, *rough_key(tensors))
    plan = find_plan(key, tensors)
    if plan is None:
        check = partial(check_layer, top_k=top_k)
        plan = make_plan(LAYER, key, tensors, check, partial(layer_answer, x, top_k, renormalize))
    return plan(*tensors)


# ---- answers of the tables


def expert_answer(
    family: str,
    x: Tensor,
    counts_of: Callable[[MoeShape, int], tuple[int, ...]],
    reference: Callable[..., Tensor],
    library: Library,
    problem: LinearProblem,
    in_layer: bool = False,
) -> Plan:
    """What the table of an expert family says to a GEMM.

    counts_of  what its kernels count, of the shape and the number of work-groups
    in_layer   a second GEMM that is launched right behind a first one that ranks
    """
    assert isinstance(problem, MoeProblem)
    if problem.moe.blocks == 0 or problem.moe.tokens == 0:
        return lambda x, *others: x.new_empty(problem.out_shape)

    dtype = x.dtype  # a plan keeps no tensor alive

    def by_torch(*tensors: Tensor | None) -> Tensor:
        return reference(*tensors, dtype=torch.float32).to(dtype)

    def by_kernel(kernel: Kernel) -> Plan:
        _require_rows(kernel, problem)
        return _kernel_plan(family, library, kernel, problem, x, counts_of, in_layer)

    return table_answer(family, library, problem, x.dtype, by_kernel, by_torch)


def _require_rows(kernel: Kernel, problem: MoeProblem) -> None:
    """Raise OpError for a table that names a kernel for permuted rows where slots are tokens at several experts."""
    spec = kernel.spec
    if isinstance(spec, MoeWvSplitKInt4Spec) and spec.ROWS == "contiguous" and not problem.permuted:
        hint = "name a kernel with ROWS scattered in the table: it takes permuted rows too"
        raise OpError(
            f"torch.ops.kgen.{UP}: the table's kernel does not read sorted_ids",
            [Problem(("ROWS",), spec.name, "ROWS scattered", hint)],
        )


def _kernel_plan(
    family: str,
    library: Library,
    kernel: Kernel,
    problem: MoeProblem,
    x: Tensor,
    counts_of: Callable[[MoeShape, int], tuple[int, ...]],
    in_layer: bool,
) -> Plan:
    """The launch of either GEMM: weights, x, what says which experts, out; sizes; what the family counts."""
    driver = library.driver
    spec, cu = kernel.spec, driver.device.cu
    geometry = (spec.layer_launch if in_layer else spec.launch)(problem.moe, cu)
    sizes = (*problem.sizes, *counts_of(problem.moe, geometry.grid[0]))
    launch, stream, count = kernel.bind(geometry, sizes), driver.stream, kernel.answered.add
    new, mask = output_of(problem, x.dtype, x.device), ALIGNMENT - 1

    def run(x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor | None, *lists: Tensor | None) -> Tensor:
        given = (weight, scales, zeros, x, *lists)
        at = _addresses(given)
        if (at[0] | at[3]) & mask:
            raise alignment_error(family, x=x, weight=weight)
        out = new()
        launch(stream(), (*at, out.data_ptr()), (*given, out))
        count()
        return out

    return run


def _up_counts(shape: MoeShape, groups: int) -> tuple[int, ...]:
    return shape.slots, shape.top_k, shape.blocks, groups


def _down_counts(shape: MoeShape, groups: int) -> tuple[int, ...]:
    return shape.top_k, groups


def _addresses(tensors: tuple[Tensor | None, ...]) -> list[int]:
    """Where tensors lie; 0 for none."""
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]


# ---- the layer


def layer_answer(x: Tensor, top_k: int, renormalize: bool, library: Library, problem: LinearProblem) -> Plan:
    """A layer by the decode kernels as a plan."""
    assert isinstance(problem, LayerProblem)
    if problem.up.moe.tokens == 0:
        return lambda x, *others: x.new_empty(problem.out_shape)
    kernel = library.pick(UP, problem.up.shape, DTYPES[x.dtype])
    first = _listed(top_k, renormalize) if kernel is None else _ranked_plan(library, kernel, problem.up, x, renormalize)
    second = expert_answer(
        DOWN, x, _down_counts, moe_down_reference, library, problem.down, in_layer=kernel is not None
    )

    def run(
        x: Tensor,
        router: Tensor,
        w13: Tensor,
        w13_scales: Tensor,
        w13_zeros: Tensor | None,
        w2: Tensor,
        w2_scales: Tensor,
        w2_zeros: Tensor | None,
    ) -> Tensor:
        inner, ids, weights = first(x, _router(x, router), w13, w13_scales, w13_zeros)
        return second(inner, w2, w2_scales, w2_zeros, ids, weights)

    return run


def _listed(top_k: int, renormalize: bool) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """The first GEMM where the table has no kernel that ranks: torch does, and slots come in their order."""

    def run(
        x: Tensor, logits: Tensor, w13: Tensor, scales: Tensor, zeros: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        ids, weights = route(logits, top_k, renormalize)
        return moe_wvsplitk_int4(x, w13, scales, zeros, ids.reshape(-1), top_k=top_k, silu=True), ids, weights

    return run


def _ranked_plan(
    library: Library, kernel: Kernel, problem: MoeProblem, x: Tensor, renormalize: bool
) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    shape, driver = problem.moe, library.driver
    sizes = (*problem.sizes, shape.slots, shape.top_k, shape.experts, int(renormalize))
    launch = kernel.bind(kernel.spec.launch(shape, driver.device.cu), sizes)
    stream, count, empty, mask = driver.stream, kernel.answered.add, empty_on(x.device), ALIGNMENT - 1
    chosen, dtype = (shape.tokens, shape.top_k), x.dtype

    def run(
        x: Tensor, logits: Tensor, w13: Tensor, scales: Tensor, zeros: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        given = (w13, scales, zeros, x, logits)
        at = _addresses(given)
        if (at[0] | at[3]) & mask:
            raise alignment_error(LAYER, x=x, w13=w13)
        ids = empty(chosen, (shape.top_k, 1), torch.int32)
        weights = empty(chosen, (shape.top_k, 1), torch.float32)
        out = empty(problem.out_shape, contiguous(problem.out_shape), dtype)
        made = (ids, weights, out)
        launch(stream(), (*at, *_addresses(made)), (*given, *made))
        count()
        return out, ids, weights

    return run
