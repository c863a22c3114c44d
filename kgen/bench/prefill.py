"""What a mixture's experts cost for many tokens on the GPU that is here: `torch.ops.kgen.moe_experts_w4a16` beside what else could answer.

All contenders get the same routed tokens and take turns. A graph holds a call for each of a few sets of tokens; the weights of a layer of many
experts are larger than the caches by themselves. "torch" is the table's torch row: weights dequantised, slots sorted, torch's grouped product;
"16-bit" is that product on weights that were dequantised beforehand, which take four times the memory: what the matrix units can do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kgen.bench.kernels import library_on_gpu
from kgen.bench.layer import Layer, operands, relative_error
from kgen.bench.timing import ROUNDS, compare
from kgen.errors import KgenError, Problem, SpecError
from kgen.spec.moe_gemm_w4a16 import BLOCK_SIZES

if TYPE_CHECKING:
    from torch import Tensor

    from kgen.runtime.library import Library

SETS = 3  # of tokens, each routed to other experts
MOST_SLOTS_DECODED = 512  # above, every slot by itself is out of the question
MOST_TOKENS = 1 << 16


@dataclass(frozen=True)
class PrefillTiming:
    """us: microseconds a call by contender, medians; `kgen` is what the table picks, `use` its row's answer.

    tflops  of kgen, three products of each slot
    error   of the checked tokens, relative to the norm of the exact output
    """

    tokens: int
    use: str
    us: dict[str, float]
    tflops: float
    error: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def bench_prefill(layer: Layer, tokens: Sequence[int], rounds: int = ROUNDS) -> list[PrefillTiming]:
    """Time a layer's experts for each number of tokens on the current library's GPU.

    Raises SpecError for a number that cannot be, MissingPieceError if the loaded library is not on a GPU, KgenError if a result is wrong (nothing
    wrong is ever timed).
    """
    wrong = [count for count in tokens if not 1 <= count <= MOST_TOKENS]
    if wrong:
        raise SpecError("no such prompts", [Problem(("tokens",), ", ".join(map(str, wrong)), f"1 to {MOST_TOKENS}")])
    library = library_on_gpu()
    device = library.driver.device.torch_name
    _, tensors = operands(layer, device)
    expanded = _expanded(tensors)
    return [_timed(layer, count, library, tensors, expanded, rounds) for count in tokens]


def _timed(
    layer: Layer, tokens: int, library: Library, tensors: dict[str, Any], expanded: tuple[Tensor, Tensor], rounds: int
) -> PrefillTiming:
    sets = [_routed(layer, tokens, tensors["router"], seed) for seed in range(SETS)]
    stacks = _stacks(tensors)
    calls = contenders(layer, library, sets[0], stacks, expanded)
    error = max(_error(layer, calls[name], sets[0], stacks) for name in calls)
    if not error <= layer.tolerance:
        raise KgenError(
            f"{layer}, {tokens} tokens: wrong result, not timed: off by {error:.2e} of its norm, allowed {layer.tolerance:.2e}"
        )
    times = compare({name: [partial(call, *one) for one in sets] for name, call in calls.items()}, rounds)
    us = {name: timing.us for name, timing in times.items()}
    products = 2 * 3 * tokens * layer.top_k * layer.hidden * layer.inner
    return PrefillTiming(tokens, _use(layer, tokens, library), us, products / us["kgen"] / 1e6, error)


def contenders(
    layer: Layer,
    library: Library,
    routed: tuple[Tensor, Tensor, Tensor],
    stacks: tuple[Any, ...],
    expanded: tuple[Tensor, Tensor],
) -> dict[str, Callable[..., Tensor]]:
    """What is timed, by name; each takes x, topk_ids and topk_weights. routed: one set of those."""
    import torch

    import kgen.ops  # noqa: F401 - registers the ops
    from kgen.ops.check_moe import check_experts
    from kgen.ops.moe_w4a16 import EXPERTS, by_blocks, by_slots, by_torch
    from kgen.ops.reference_moe import grouped_experts

    def picked(x: Tensor, ids: Tensor, weights: Tensor) -> Any:
        return torch.ops.kgen.moe_experts_w4a16(x, ids, weights, *stacks)

    def at_once(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda x, ids, weights: call(x, ids, weights, *stacks)

    out: dict[str, Callable[..., Tensor]] = {"kgen": picked}
    if routed[1].numel() <= MOST_SLOTS_DECODED:
        out["decode"] = at_once(by_slots)
    out |= {f"N={size}": at_once(partial(by_blocks, size, layer.experts)) for size in BLOCK_SIZES}
    out["torch"] = at_once(by_torch(library, check_experts(EXPERTS, *routed, *stacks), routed[0].dtype))
    out["16-bit"] = lambda x, ids, weights: grouped_experts(x, ids, weights, *expanded)
    return out


def _use(layer: Layer, tokens: int, library: Library) -> str:
    from kgen.spec.problem import W4Shape
    from kgen.spec.route import MoeRoute

    rows = MoeRoute.rows(tokens * layer.top_k, layer.experts)
    shape = W4Shape(layer.inner, rows, layer.hidden, layer.group, False)
    return library.route("moe_w4a16", shape, layer.dtype) or "torch"


def _stacks(tensors: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(tensors[f"{name}{part}"] for name in ("w13", "w2") for part in ("", "_scales", "_zeros"))


def _expanded(tensors: dict[str, Any]) -> tuple[Tensor, Tensor]:
    from kgen.ops.reference_moe import expanded

    stacks = _stacks(tensors)
    return expanded(stacks[:3], tensors["router"].dtype), expanded(stacks[3:], tensors["router"].dtype)


def _routed(layer: Layer, tokens: int, router: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random tokens, and their experts and weights."""
    import torch

    from kgen.ops.moe_route import route

    generator = torch.Generator(router.device).manual_seed(1000 + seed)
    x = torch.randn((tokens, layer.hidden), device=router.device, generator=generator).to(router.dtype)
    return (x, *route(torch.nn.functional.linear(x, router), layer.top_k))


def _error(
    layer: Layer, call: Callable[..., Tensor], one: tuple[Tensor, Tensor, Tensor], stacks: tuple[Any, ...]
) -> float:
    """Of the first and the last token, against fp64 without roundings in between."""
    from kgen.ops.reference_moe import moe_down_reference, moe_up_reference

    x, ids, weights = one
    out, worst = call(*one), 0.0
    for token in {0, x.shape[0] - 1}:
        row, mine = x[token : token + 1], slice(token, token + 1)
        w13, s13, z13, w2, s2, z2 = stacks
        inner = moe_up_reference(row, w13, s13, z13, ids[mine].reshape(-1), top_k=layer.top_k, silu=True)
        exact = moe_down_reference(inner, w2, s2, z2, ids[mine], weights[mine])
        worst = max(worst, relative_error(out[mine], exact))
    return worst
