"""torch.ops.kgen.moe_* on real code objects in the emulator: results against fp64, picks, padding, what is refused, torch's own checks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import kgen
from kgen.errors import OpError
from kgen.ops.check_moe import check_down
from kgen.ops.moe import expert_answer
from kgen.ops.moe_route import align, route
from kgen.ops.reference_moe import moe_down_reference, moe_layer_reference
from kgen.runtime import session
from kgen.runtime.library import Library
from kgen.spec.base import Launch
from tests.ops.moe import ARCH, ROUTER, assert_down, assert_up, build_moe, down_spec, stack, up_spec

pytestmark = pytest.mark.hipcc
ops = torch.ops.kgen
BF16, FP16 = torch.bfloat16, torch.float16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_moe(tmp_path_factory.mktemp("moe"))


@pytest.fixture(params=["emu", "hip"])
def library(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """The build in the emulator: by its own driver, and by hip-python over the emulated HIP runtime."""
    import kgen.ops  # noqa: F401

    monkeypatch.delenv("KGEN_FAST_SKINNY_GEMM", raising=False)
    if request.param == "hip":
        pytest.importorskip("hip")
        monkeypatch.setenv("KGEN_EMU_ARCH", ARCH)
    yield session.load(folder, device=request.param)
    session.unload()


def routed(tokens: int, E: int, top_k: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    make = torch.Generator().manual_seed(seed)
    return route(torch.randn(tokens, E, generator=make), top_k)


def rows(count: int, K: int, dtype: torch.dtype = BF16, seed: int = 1) -> Tensor:
    return torch.randn(count, K, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("silu", [False, True])
def test_sorted_blocks_of_four_are_right(library: Library, silu: bool) -> None:
    ids, _ = routed(7, 5, 2)
    x, weights = rows(7, 256), stack(5, 26, 256)
    lists = align(ids, 5, 4)
    out = ops.moe_wvsplitk_int4(x, *weights.args, *lists, block_size=4, top_k=2, silu=silu)
    assert_up(out, x, weights, *lists, block_size=4, top_k=2, silu=silu)
    assert list(session.stats()) == [up_spec(4, GRID="persistent", SILU=silu).name]


def test_zero_points_groups_of_32_and_fp16(library: Library) -> None:
    ids, _ = routed(5, 4, 2)
    x, weights = rows(5, 96, FP16), stack(4, 22, 96, 32, True, FP16)
    lists = align(ids, 4, 2)
    out = ops.moe_wvsplitk_int4(x, *weights.args, *lists, block_size=2, top_k=2, silu=True)
    assert_up(out, x, weights, *lists, block_size=2, top_k=2, silu=True)


def test_slots_in_their_order_need_no_lists_and_absent_experts_are_left_alone(library: Library) -> None:
    ids, _ = routed(3, 6, 2)
    ids[1, 0] = -1
    x, weights = rows(3, 128), stack(6, 10, 128)
    out = ops.moe_wvsplitk_int4(x, *weights.args, ids.reshape(-1), top_k=2)
    assert_up(out, x, weights, ids.reshape(-1), top_k=2)
    assert list(session.stats()) == [up_spec(1).name]


def test_permuted_rows_are_slots_of_one_expert_each(library: Library) -> None:
    ids = torch.tensor([2, 0, 1, 1], dtype=torch.int32)
    x, weights = rows(4, 128, FP16), stack(3, 9, 128, 64, True, FP16)
    out = ops.moe_wvsplitk_int4(x, *weights.args, ids)
    assert_up(out, x, weights, ids)
    with pytest.raises(OpError, match="does not read sorted_ids"):
        ops.moe_wvsplitk_int4(x[:2], *weights.args, ids, top_k=2)


@pytest.mark.parametrize("fuse_silu", [False, True])
@pytest.mark.parametrize("tokens", [1, 3])
def test_down_reduce_is_right(library: Library, tokens: int, fuse_silu: bool) -> None:
    ids, topk_weights = routed(tokens, 6, 4)
    ids[0, 2] = -1
    x, weights = rows(4 * tokens, 512 if fuse_silu else 256), stack(6, 37, 256)
    out = ops.moe_down_reduce(x, *weights.args, ids, topk_weights, fuse_silu=fuse_silu)
    assert_down(out, x, weights, ids, topk_weights, fuse_silu=fuse_silu)
    assert list(session.stats()) == [down_spec(FUSE_SILU=fuse_silu).name]


def test_padded_rows_and_experts_change_no_bit(library: Library) -> None:
    ids, topk_weights = routed(2, 3, 2)
    wide, weights = rows(4, 264), stack(3, 12, 512)
    x, weight, scales = wide[:, :256], weights.weight[:, :8, :32], weights.scales[:, :8, :2]
    out = ops.moe_down_reduce(x, weight, scales, None, ids, topk_weights)
    assert torch.equal(
        out, ops.moe_down_reduce(x.contiguous(), weight.contiguous(), scales.contiguous(), None, ids, topk_weights)
    )
    first = ops.moe_wvsplitk_int4(x[:2], weight, scales, None, ids.reshape(-1), top_k=2)
    dense = (x[:2].contiguous(), weight.contiguous(), scales.contiguous(), None)
    assert torch.equal(first, ops.moe_wvsplitk_int4(*dense, ids.reshape(-1), top_k=2))


def test_what_the_table_gives_to_torch_is_torch(library: Library) -> None:
    ids, topk_weights = routed(3, 4, 2)
    x, weights = rows(3, 128, FP16), stack(4, 10, 128, 128, False, FP16)
    lists = align(ids, 4, 2)
    out = ops.moe_wvsplitk_int4(x, *weights.args, *lists, block_size=2, top_k=2)
    assert_up(out, x, weights, *lists, block_size=2, top_k=2)
    back = ops.moe_down_reduce(rows(6, 128, FP16), *weights.args, ids, topk_weights)
    assert_down(back, rows(6, 128, FP16), weights, ids, topk_weights)
    assert set(session.stats()) == {"torch (moe_wvsplitk_int4)", "torch (moe_down_reduce)"}


def layer(E: int = 9, hidden: int = 256, inner: int = 128, dtype: torch.dtype = BF16, **how: Any) -> tuple[Any, ...]:
    w13, w2 = (
        stack(E, 2 * inner, hidden, dtype=dtype, seed=3, **how),
        stack(E, hidden, inner, dtype=dtype, seed=4, **how),
    )
    return rows(E, hidden, dtype, seed=5), w13, w2


@pytest.mark.parametrize("renormalize", [True, False])
def test_a_layer_is_three_launches(library: Library, renormalize: bool) -> None:
    router, w13, w2 = layer()
    x = rows(1, 256)
    out = ops.moe_decode_int4(x, router, *w13.args, *w2.args, top_k=3, renormalize=renormalize)
    logits = ops.wvsplitk(x, router)
    reference = moe_layer_reference(x, logits, w13.args, w2.args, 3, renormalize)
    assert ((out - reference).abs() <= 0.01 * reference.abs() + 0.02 * reference.square().mean().sqrt()).all()
    counts = session.stats()
    assert counts[up_spec(1, SILU=True, RANK=True).name] == counts[down_spec().name] == 1
    assert counts[ROUTER.name] == 2  # once by the layer


def test_a_layer_without_a_ranking_kernel_is_routed_by_torch(library: Library) -> None:
    router, w13, w2 = layer(dtype=FP16, group=32, zeros=True)
    x = rows(2, 256, FP16)
    out = ops.moe_decode_int4(x, router, *w13.args, *w2.args, top_k=2)
    reference = moe_layer_reference(x, ops.wvsplitk(x, router), w13.args, w2.args, 2)
    assert ((out - reference).abs() <= 0.01 * reference.abs() + 0.02 * reference.square().mean().sqrt()).all()


def test_nothing_gives_nothing(library: Library) -> None:
    router, w13, w2 = layer()
    none = rows(0, 256)
    ids, topk_weights = torch.zeros(0, 2, dtype=torch.int32), torch.zeros(0, 2)
    assert ops.moe_decode_int4(none, router, *w13.args, *w2.args, top_k=2).shape == (0, 256)
    assert ops.moe_wvsplitk_int4(none, *w13.args, ids.reshape(-1), top_k=2).shape == (0, 256)
    assert ops.moe_down_reduce(rows(0, 128), *w2.args, ids, topk_weights).shape == (0, 256)


@pytest.mark.parametrize("library", ["emu"], indirect=True)  # what torch checks lies above the drivers
def test_torch_accepts_the_ops(library: Library) -> None:
    router, w13, w2 = layer()
    ids, topk_weights = routed(2, 9, 2)
    every = ids.reshape(-1)
    torch.library.opcheck(ops.moe_wvsplitk_int4.default, (rows(2, 256), *w13.args, every), {"top_k": 2, "silu": True})
    torch.library.opcheck(ops.moe_down_reduce.default, (rows(4, 128), *w2.args, ids, topk_weights))
    torch.library.opcheck(ops.moe_decode_int4.default, (rows(1, 256), router, *w13.args, *w2.args), {"top_k": 2})


def test_gradients_are_refused(library: Library) -> None:
    router, w13, w2 = layer()
    x = rows(1, 256).requires_grad_()
    with pytest.raises(OpError, match="no gradients"):
        ops.moe_decode_int4(x, router, *w13.args, *w2.args, top_k=2)
    with torch.no_grad():
        ops.moe_decode_int4(x, router, *w13.args, *w2.args, top_k=2)


def test_addresses_that_are_no_multiple_of_16_are_refused(library: Library) -> None:
    _, w13, w2 = layer()
    ids, topk_weights = routed(1, 9, 2)
    shifted = rows(1, 264).reshape(-1)[4:260].reshape(1, 256)
    with pytest.raises(OpError, match="past a multiple of 16"):
        ops.moe_wvsplitk_int4(shifted, *w13.args, ids.reshape(-1), top_k=2)
    shifted = rows(2, 136).reshape(-1)[4:260].reshape(2, 128)
    with pytest.raises(OpError, match="past a multiple of 16"):
        ops.moe_down_reduce(shifted, *w2.args, ids, topk_weights)


def test_import_alone_registers_the_ops() -> None:
    assert kgen.__version__
    for name in ("moe_wvsplitk_int4", "moe_down_reduce", "moe_decode_int4"):
        assert hasattr(ops, name)


def test_a_second_gemm_starts_early_in_a_layer_that_ranks_and_nowhere_else() -> None:
    values = dict(arch="sm_90", YTILE=16, WvPrGrp=8, K_WAVES=8, A_CHUNK=32, UNRL=6, DEQUANT="digits", STAGING="wave")
    spec = down_spec(**values, GrpsPerCU=3, EARLY=True, K=768)
    x, weights, (ids, topk_weights) = rows(2, 768), stack(3, 32, 768), routed(1, 3, 2)
    problem = check_down("moe_down_reduce", x, *weights.args, ids, topk_weights, fuse_silu=False)
    geometries: list[Launch] = []

    def bind(geometry: Launch, sizes: tuple[int, ...]) -> None:
        geometries.append(geometry)

    kernel = SimpleNamespace(spec=spec, bind=bind, answered=SimpleNamespace(add=None))
    device = SimpleNamespace(cu=132)
    library: Any = SimpleNamespace(pick=lambda *_: kernel, driver=SimpleNamespace(device=device, stream=None))
    for in_layer in (False, True):
        expert_answer("moe_down_reduce", x, lambda *_: (2, 2), moe_down_reference, library, problem, in_layer)
    assert [geometry.early for geometry in geometries] == [False, True]
