"""A layer whose first GEMM fetches the second one's weights ahead: what its launch is told, read from the arguments; no device runs it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kgen.ops import moe
from kgen.ops.check_moe import LayerProblem, check_layer, check_up
from kgen.spec.moe_wvsplitk_int4 import MoeWvSplitKInt4Spec

E, HIDDEN, INNER, GROUP, TOP_K = 6, 256, 128, 128, 2
AHEAD = ("next_codes", "next_scales", "next_code_expert", "next_scale_expert", "next_codes_of_expert")


def spec(**more: Any) -> MoeWvSplitKInt4Spec:
    values = dict(arch="sm_90", dtype="bf16", YTILE=16, WvPrGrp=8, K_WAVES=4, A_CHUNK=32, UNRL=2, STAGING="wave")
    return MoeWvSplitKInt4Spec.checked(values | dict(SILU=True, RANK=True, PREFETCH_NEXT=True) | more)


class Launched:
    """Stands for a kernel and keeps what it was launched with, by argument."""

    def __init__(self, spec: MoeWvSplitKInt4Spec):
        self.spec, self.answered = spec, SimpleNamespace(add=lambda: None)
        self.args: dict[str, int] = {}
        self.tensors: dict[str, Any] = {}

    def bind(self, geometry: Any, last: tuple[int, ...]) -> Any:
        names = [arg.name for arg in self.spec.args]
        pointers = [arg.name for arg in self.spec.args if arg.type.endswith("*")]

        def launch(stream: int, values: tuple[int, ...], tensors: tuple[Any, ...]) -> None:
            self.args = dict(zip(names, (*values, *last), strict=True))
            self.tensors = dict(zip(pointers, tensors, strict=True))

        return launch


LIBRARY: Any = SimpleNamespace(driver=SimpleNamespace(device=SimpleNamespace(cu=132), stream=lambda: 0))


def weights(rows: int, K: int, pad: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes, with `pad` words behind each row, and scales."""
    codes = torch.zeros(E, rows, K // 8 + pad, dtype=torch.int32)[:, :, : K // 8]
    return codes, torch.zeros(E, rows, K // GROUP, dtype=torch.bfloat16)


def layer_of(x: torch.Tensor, w13: Any, w2: Any) -> LayerProblem:
    router = torch.zeros(E, HIDDEN, dtype=torch.bfloat16)
    return check_layer("op", x, router, *w13, None, *w2, None, top_k=TOP_K)


def launched(problem: LayerProblem, x: torch.Tensor, w13: Any, w2: Any, **more: Any) -> Launched:
    kernel: Any = Launched(spec(**more))
    run = moe._ranked_plan(LIBRARY, kernel, problem, x, True)
    run(x, torch.zeros(x.shape[0], E, dtype=torch.bfloat16), *w13, None, *w2)
    return kernel


@pytest.mark.parametrize("ranking", ["group", "wave"])
@pytest.mark.parametrize("pad", [0, 4])
def test_the_first_gemm_is_told_where_the_second_ones_weights_are(pad: int, ranking: str) -> None:
    x, w13, w2 = torch.zeros(1, HIDDEN, dtype=torch.bfloat16), weights(2 * INNER, HIDDEN), weights(HIDDEN, INNER, pad)
    kernel = launched(layer_of(x, w13, w2), x, w13, w2, RANKING=ranking)
    row = INNER // 8 + pad
    wanted = (w2[0].data_ptr(), w2[1].data_ptr(), HIDDEN * row, HIDDEN, (HIDDEN - 1) * row + INNER // 8)
    assert tuple(kernel.args[name] for name in AHEAD) == wanted
    assert kernel.args["next_scales_of_expert"] == HIDDEN
    assert kernel.tensors["next_codes"] is w2[0]
    assert kernel.args["out"] == kernel.tensors["out"].data_ptr()


def test_more_than_l2_keeps_is_not_fetched_ahead() -> None:
    x, w13, w2 = torch.zeros(1, HIDDEN, dtype=torch.bfloat16), weights(2 * INNER, HIDDEN), weights(HIDDEN, INNER)
    problem = layer_of(x, w13, w2)
    stack = replace(problem.down.stack, rows=moe.MOST_AHEAD // (TOP_K * (INNER // 2)))  # codes alone fill it
    kernel = launched(replace(problem, down=replace(problem.down, stack=stack)), x, w13, w2)
    assert not any(kernel.args[name] for name in AHEAD)


def test_a_kernel_that_does_not_fetch_ahead_takes_nothing_more() -> None:
    x, w13, w2 = torch.zeros(1, HIDDEN, dtype=torch.bfloat16), weights(2 * INNER, HIDDEN), weights(HIDDEN, INNER)
    kernel = launched(layer_of(x, w13, w2), x, w13, w2, PREFETCH_NEXT=False)
    assert "next_codes" not in kernel.args


def test_a_gemm_by_itself_fetches_nothing_ahead() -> None:
    x, w13, ids = torch.zeros(1, HIDDEN, dtype=torch.bfloat16), weights(2 * INNER, HIDDEN), torch.zeros(2).int()
    problem = check_up("op", x, *w13, None, ids, None, None, 1, TOP_K, True)
    kernel: Any = Launched(spec(RANK=False))
    run = moe._kernel_plan(moe.UP, LIBRARY, kernel, problem, x, moe._up_counts)
    run(x, *w13, None, ids, None, None)
    assert not any(kernel.args[name] for name in AHEAD)
    assert kernel.args["blocks"] == TOP_K
