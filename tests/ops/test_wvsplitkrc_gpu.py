"""torch.ops.kgen.wvsplitkrc on the GPU that is here: streams, captured graphs, and bits while other work runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kgen.errors import LaunchError
from kgen.runtime import session
from kgen.runtime.library import Library
from kgen.runtime.workspace import CAPTURES, SHARED, STREAMS, pool_of
from tests.ops.splitk import build_splitk
from tests.runtime.tiny import assert_close, tensors

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]
BF16 = torch.bfloat16
op = torch.ops.kgen.wvsplitkrc


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from kgen.runtime.session import present_device

    return build_splitk(tmp_path_factory.mktemp("gpu"), present_device().arch, jobs=4)


@pytest.fixture
def on_gpu(folder: Path) -> Iterator[Library]:
    import kgen.ops  # noqa: F401

    yield session.load(folder)
    torch.cuda.synchronize()
    session.unload()


def gpu_tensors(N: int, M: int, K: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x, weight = tensors(N, M, K, BF16, seed)
    return x.cuda(), weight.cuda()


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("N", [9, 13, 16, 17, 25, 32, 51, 64])
@pytest.mark.parametrize(("M", "K"), [(128, 2880), (272, 3080), (640, 2888), (33, 520), (64, 12288)])
def test_results_are_within_the_bound_of_fp64(on_gpu: Library, N: int, M: int, K: int, deterministic: bool) -> None:
    x, weight = gpu_tensors(N, M, K)
    bias = torch.randn(N, M, device="cuda").to(BF16)
    for given in (None, bias[0].contiguous(), bias):
        assert_close(op(x, weight, given, deterministic=deterministic), x, weight, given)
    assert "torch (wvsplitkrc)" not in session.stats()


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_thousand_launches_in_a_row_rearm_their_counters(on_gpu: Library, deterministic: bool) -> None:
    x, weight = gpu_tensors(16, 256, 2048)
    for _ in range(1000):
        out = op(x, weight, deterministic=deterministic)
    assert_close(out, x, weight)
    pool = pool_of(on_gpu.driver, deterministic)
    for slot in pool._own.values():
        assert not slot.counter.any()
        assert deterministic or not slot.partial.any()


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("count", [8, 12])
def test_concurrent_streams_do_not_meet_in_a_workspace(on_gpu: Library, count: int, deterministic: bool) -> None:
    problems = [gpu_tensors(16, 256, 2048, seed=seed) for seed in range(count)]
    streams = [torch.cuda.Stream() for _ in problems]
    assert len({stream.cuda_stream for stream in streams}) == count
    torch.cuda.synchronize()
    outs: list[list[torch.Tensor]] = [[] for _ in problems]
    for _ in range(40):
        for stream, (x, weight), found in zip(streams, problems, outs, strict=True):
            with torch.cuda.stream(stream):
                found.append(op(x, weight, deterministic=deterministic))
    torch.cuda.synchronize()
    for (x, weight), found in zip(problems, outs, strict=True):
        for out in found:
            assert_close(out, x, weight)
            assert not deterministic or torch.equal(out, found[0])
    assert pool_of(on_gpu.driver, deterministic).slots <= STREAMS + SHARED + CAPTURES


def test_the_bits_are_the_same_in_ten_runs_beside_other_work(on_gpu: Library) -> None:
    x, weight = gpu_tensors(64, 512, 4096)
    first, side = op(x, weight), torch.cuda.Stream()
    a = torch.randn(2048, 2048, device="cuda")
    torch.cuda.synchronize()
    for run in range(10):
        with torch.cuda.stream(side):
            for _ in range(1 + run % 3):
                a = (a @ a).tanh()
        assert torch.equal(op(x, weight), first)
    torch.cuda.synchronize()


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_captured_graph_replays_on_new_inputs(on_gpu: Library, deterministic: bool) -> None:
    session.warm_up()
    x, weight = gpu_tensors(16, 512, 2048)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # the first call with this shape is inside
        outs = [op(x, weight, deterministic=deterministic) for _ in range(3)]
    for seed in range(1, 6):
        x.copy_(tensors(16, 512, 2048, BF16, seed)[0])
        graph.replay()
        eager = op(x, weight, deterministic=deterministic)
        torch.cuda.synchronize()
        for out in (*outs, eager):
            assert_close(out, x, weight)


def test_replays_beside_eager_launches_of_the_same_stream_keep_their_bits(on_gpu: Library) -> None:
    session.warm_up()
    x, weight = gpu_tensors(16, 256, 2048)
    y, other = gpu_tensors(16, 256, 2048, seed=1)
    want, want_other = op(x, weight), op(y, other)
    graph, stream, side = torch.cuda.CUDAGraph(), torch.cuda.Stream(), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        out = op(x, weight)
    for _ in range(50):
        with torch.cuda.stream(side):
            graph.replay()
        with torch.cuda.stream(stream):
            beside = op(y, other)
    torch.cuda.synchronize()
    assert torch.equal(out, want)
    assert torch.equal(beside, want_other)


def test_a_nan_stays_in_its_row_and_is_gone_from_the_next_call(on_gpu: Library) -> None:
    x, weight = gpu_tensors(16, 256, 2048)
    spoilt = x.clone()
    spoilt[7, 300] = float("nan")
    clean = torch.arange(16, device="cuda") != 7
    for deterministic in (True, False):
        out = op(spoilt, weight, deterministic=deterministic)
        assert bool(out[7].isnan().all())
        assert not bool(out[clean].isnan().any())
        assert_close(op(x, weight, deterministic=deterministic), x, weight)


def test_one_capturing_stream_too_many_is_refused_and_leaves_the_gpu_usable(on_gpu: Library) -> None:
    session.warm_up()
    x, weight = gpu_tensors(16, 64, 520)
    op(x, weight)
    pool = pool_of(on_gpu.driver, True)
    streams = [torch.cuda.Stream(priority=-1) for _ in range(CAPTURES + 1)]
    torch.cuda.synchronize()

    def capture_on_all() -> None:
        for stream in streams:
            with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=stream):
                op(x, weight)

    with pytest.raises(LaunchError, match="capture on fewer streams"):
        capture_on_all()
    torch.cuda.synchronize()
    assert_close(op(x, weight), x, weight)
    for stream in streams:  # the other tests of this process capture too
        slot = pool._captured.pop(stream.cuda_stream, None)
        if slot is not None:
            pool._reserved.append(slot)
