"""A layer of Qwen3-30B-A3B (128 experts, top 8, hidden 2048, inner 768) for one token, by the default kernels in the emulator: right, in three
launches, and what the second GEMM saves over a chain of two. See docs/moe.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from kgen.emu import Options
from kgen.ops.moe_route import route
from kgen.ops.reference_moe import expert_weight, moe_experts_torch
from kgen.runtime import session
from kgen.runtime.emu import EmuDriver, emulation
from kgen.runtime.library import Library
from kgen.verify.accuracy import judge, rounded_operand

pytestmark = pytest.mark.hipcc
E, TOP_K, HIDDEN, INNER, GROUP = 128, 8, 2048, 768, 128
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
Stack = tuple[Tensor, Tensor, None]


@pytest.fixture
def library(built) -> Iterator[Library]:
    import kgen.ops  # noqa: F401

    yield session.adopt(Library(built("gfx1151").folder, EmuDriver("gfx1151")))
    session.unload()


def experts(rows: int, K: int, chosen: list[int], dtype: torch.dtype) -> Stack:
    """A stack of E experts of which only the chosen ones have weights: the others' memory is never touched, by anyone."""
    weight = torch.empty(E, rows, K // 8, dtype=torch.int32)
    scales = torch.empty(E, rows, K // GROUP, dtype=dtype)
    make = torch.Generator().manual_seed(rows)
    for expert in chosen:
        weight[expert] = torch.randint(-(1 << 31), 1 << 31, weight.shape[1:], dtype=torch.int64, generator=make).int()
        scales[expert] = (0.01 * (0.5 + torch.rand(scales.shape[1:], generator=make))).to(dtype)
    return weight, scales, None


def layer(dtype: torch.dtype) -> tuple[Tensor, Tensor, Stack, Stack]:
    """x, router and weights; which experts are chosen is known beforehand, from an exact router."""
    make = torch.Generator().manual_seed(1)
    x = torch.randn(1, HIDDEN, generator=make).to(dtype)
    router = (0.05 * torch.randn(E, HIDDEN, generator=make)).to(dtype)
    near = route((x.double() @ router.double().T).to(dtype), TOP_K + 2)[0][
        0
    ].tolist()  # two more, should a logit round the other way
    return x, router, experts(2 * INNER, HIDDEN, near, dtype), experts(HIDDEN, INNER, near, dtype)


def exact(x: Tensor, logits: Tensor, w13: Stack, w2: Stack) -> tuple[Tensor, Tensor, Tensor]:
    """The layer in fp64 with nothing rounded behind the router; the magnitude and the energy that `rounded_operand` wants."""
    ids, weights = route(logits, TOP_K)
    out, size, energy = (torch.zeros(HIDDEN, dtype=torch.float64) for _ in range(3))
    row = x[0].double()
    for expert, weight in zip(ids[0], weights[0].double(), strict=True):
        first, second = (expert_weight(*stack, expert, torch.float64) for stack in (w13, w2))
        gate, up = (first @ row).chunk(2)
        # actsum multiplies offset codes and takes the offset off again: 136 * scale on both sides
        gate_size, up_size = ((first.abs() + 2 * 136 * 0.015) @ row.abs()).chunk(2)
        inner = torch.nn.functional.silu(gate) * up
        carried = 1.1 * up.abs() * gate_size + torch.nn.functional.silu(gate).abs() * up_size
        out += weight * (second @ inner)
        size += weight * ((second.abs() + 2 * 136 * 0.015) @ inner.abs() + second.abs() @ carried)
        energy += (weight * second * inner).square().sum(1)
    return out, size, energy.sqrt()


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_a_layer_of_qwen3_30b_a3b_is_right_in_three_launches(library: Library, name: str) -> None:
    x, router, w13, w2 = layer(DTYPES[name])
    with emulation(Options(races=True)) as log:
        out = torch.ops.kgen.moe_decode_int4(x, router, *w13, *w2, top_k=TOP_K)
    assert len(log.launches) == 3
    reference, size, energy = exact(x, torch.ops.kgen.wvsplitk(x, router), w13, w2)
    bits = out.view(torch.int16).numpy().view(np.uint16)
    wide = [part.numpy().reshape(1, HIDDEN) for part in (reference, size, energy)]
    verdict = judge(bits, wide[0], wide[1], name, rounded_operand(64, name), wide[2])
    assert verdict.ok, verdict.words


def test_one_launch_moves_less_than_a_chain_of_two(library: Library) -> None:
    """The chain: the second GEMM slot by slot, then a weighted sum that reads all slots and writes the output, counted at its least."""
    x, router, _, w2 = layer(torch.bfloat16)
    ids, weights = route(torch.ops.kgen.wvsplitk(x, router), TOP_K)
    inner = torch.randn(TOP_K, INNER).to(torch.bfloat16)
    moved = {}
    for name, run in {
        "one": lambda: torch.ops.kgen.moe_down_reduce(inner, *w2, ids, weights),
        "chain": lambda: torch.ops.kgen.moe_wvsplitk_int4(inner, *w2, ids.reshape(-1)),
    }.items():
        with emulation(Options(count_memory=True, races=False)) as log:
            run()
        (stats,) = log.launches
        assert stats.memory is not None
        moved[name] = stats.memory
    assert moved["one"].bytes_stored == HIDDEN * 2
    assert moved["chain"].bytes_stored == TOP_K * HIDDEN * 2
    chain = moved["chain"].bytes_loaded + moved["chain"].bytes_stored
    chain += TOP_K * (2 * HIDDEN + 4) + 2 * HIDDEN  # the sum: all slots and their weights in, the output out
    assert moved["one"].bytes_loaded + moved["one"].bytes_stored < chain, f"{moved}, {chain}"


@pytest.mark.parametrize("tokens", [24, 60])
def test_a_prompt_of_a_smaller_qwen3_is_right_by_blocks(library: Library, tokens: int) -> None:
    """The same layer with twelve experts and many tokens: tiles over blocks of 16 (24 tokens: 16 rows to an expert) and of 64.

    Against fp64 with nothing rounded behind the router. A rounding to bf16 is off by 0.212 * 2^-7 of what it rounds in the mean square
    (docs/accuracy.md). Weights of gates, of what they gate, of the second GEMM, rows between the GEMMs, rows of slots and the output are rounded:
    six roundings, independent, so sqrt(6) times that of a token's norm, 4.1e-3. Allowed are 5e-3, the relative bar for these kernels.
    """
    make, experts_here = torch.Generator().manual_seed(2), 12
    chosen = list(range(experts_here))
    w13, w2 = (
        tuple(None if part is None else part[:experts_here] for part in experts(rows, K, chosen, torch.bfloat16))
        for rows, K in ((2 * INNER, HIDDEN), (HIDDEN, INNER))
    )
    x = torch.randn(tokens, HIDDEN, generator=make).bfloat16()
    ids, weights = route(torch.randn(tokens, experts_here, generator=make), TOP_K)
    with emulation(Options(races=True)) as log:
        out = torch.ops.kgen.moe_experts_w4a16(x, ids, weights, *w13, *w2)
    block = 16 if tokens == 24 else 64
    assert [launch.kernel.split("_BLOCK_M")[0] for launch in log.launches] == [
        f"moe_gemm_w4a16_bf16_BLOCK_N{block}"
    ] * 2
    exact = torch.zeros(tokens, HIDDEN, dtype=torch.float64)
    for expert in chosen:
        first, second = (expert_weight(*stack, torch.tensor(expert), torch.float64) for stack in (w13, w2))
        token, slot = (ids == expert).nonzero(as_tuple=True)
        gate, up = (x[token].double() @ first.T).chunk(2, dim=1)
        rows = (torch.nn.functional.silu(gate) * up) @ second.T
        exact.index_add_(0, token, weights[token, slot].double().unsqueeze(1) * rows)
    off = (out.double() - exact).norm(dim=1) / exact.norm(dim=1)
    assert off.max() <= 5e-3
    by_torch = moe_experts_torch(x, ids, weights, w13, w2)  # which rounds gates and what they gate besides
    assert off.mean() <= ((by_torch.double() - exact).norm(dim=1) / exact.norm(dim=1)).mean()
