"""The op on the GPU that is here: against torch, on several streams, in captured graphs, from several threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from kgen.build import build
from kgen.errors import LaunchError, MissingPieceError, OpError
from kgen.runtime import session
from kgen.runtime.library import Library
from tests.runtime.tiny import assert_close, specs_on, tensors, write_table

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]
BF16, FP16 = torch.bfloat16, torch.float16
ALL = [(BF16, 1), (BF16, 2), (FP16, 3), (BF16, 4)]
op = torch.ops.kgen.wvsplitk


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> object:
    from kgen.runtime.session import present_device

    arch = present_device().arch
    root = tmp_path_factory.mktemp("gpu") / arch
    try:
        result = build(specs_on(arch), arch=arch, jobs=4, folder=root)
    except MissingPieceError as error:
        pytest.skip(str(error))
    assert not result.failed, result.failed
    write_table(root, arch, specs_on(arch))
    return root


@pytest.fixture
def on_gpu(folder: str) -> Iterator[Library]:
    import kgen.ops  # noqa: F401

    yield session.load(folder)
    torch.cuda.synchronize()
    session.unload()


def gpu_tensors(N: int, M: int, K: int, dtype: torch.dtype, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x, weight = tensors(N, M, K, dtype, seed)
    return x.cuda(), weight.cuda()


@pytest.mark.parametrize(("dtype", "N"), ALL)
@pytest.mark.parametrize(("M", "K"), [(128, 2048), (4096, 1024), (37, 520), (1, 8)])
def test_results_are_within_the_bound_of_fp64(on_gpu: Library, dtype: torch.dtype, N: int, M: int, K: int) -> None:
    x, weight = gpu_tensors(N, M, K, dtype)
    bias = torch.randn(N, M, device="cuda").to(dtype)
    for given in (None, bias[0].contiguous(), bias):
        assert_close(op(x, weight, given), x, weight, given)
    assert set(session.stats()) == {kernel for kernel in session.stats() if f"_N{N}_" in kernel}


def test_much_shared_memory_is_granted(on_gpu: Library) -> None:
    facts = on_gpu.driver.device
    K = facts.lds_per_group // 2 // 8 * 8
    x, weight = gpu_tensors(1, 16, K, BF16)
    assert_close(op(x, weight), x, weight)
    assert len(session.stats()) == 1


def test_tensors_on_the_cpu_are_refused(on_gpu: Library) -> None:
    with pytest.raises(OpError, match="no kernels are loaded for cpu tensors"):
        op(*tensors(1, 16, 64, BF16))
    x, weight = gpu_tensors(1, 16, 64, BF16)
    with pytest.raises(OpError, match=r"weight\.device +cpu"):
        op(x, weight.cpu())


def test_a_captured_graph_replays_on_new_inputs(on_gpu: Library) -> None:
    session.warm_up()
    x, weight = gpu_tensors(2, 512, 1024, BF16)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # the first call with this shape is inside
        out = op(x, weight)
    for seed in (1, 2):
        x.copy_(tensors(2, 512, 1024, BF16, seed)[0])
        graph.replay()
        torch.cuda.synchronize()
        assert_close(out, x, weight)


def test_a_capture_without_warm_up_is_refused_and_leaves_the_gpu_usable(on_gpu: Library) -> None:
    x, weight = gpu_tensors(2, 512, 1024, BF16)
    torch.cuda.synchronize()
    with pytest.raises(LaunchError, match=r"kgen\.warm_up\(\)"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        op(x, weight)
    assert_close(op(x, weight), x, weight)


def test_the_current_stream_is_used(on_gpu: Library) -> None:
    x, weight = gpu_tensors(1, 4096, 2048, BF16)
    streams = [torch.cuda.Stream() for _ in range(2)]
    want, outs = op(x, weight), []
    for stream in streams:
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            late = torch.zeros_like(x)
            torch.cuda._sleep(10_000_000)  # a launch on another stream would read zeros
            late.copy_(x)
            outs.append((op(late, weight), late))
    torch.cuda.synchronize()
    assert all(torch.equal(out, want) for out, _ in outs)


def test_fresh_threads_launch_without_having_touched_the_gpu(on_gpu: Library) -> None:
    cases = [gpu_tensors(N, 256 + 8 * i, 1024, dtype, seed=i) for i, (dtype, N) in enumerate(ALL)]
    failures: list[BaseException] = []

    def work(x: torch.Tensor, weight: torch.Tensor) -> None:
        try:
            outs = [op(x, weight) for _ in range(50)]
            for out in outs:
                assert_close(out, x, weight)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=case) for case in cases * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sum(session.stats().values()) == 400


def test_opcheck_passes(on_gpu: Library) -> None:
    results = torch.library.opcheck(op.default, gpu_tensors(2, 64, 136, BF16))
    assert set(results.values()) == {"SUCCESS"}, results


def test_a_compiled_model_in_a_graph_gives_the_same_bits(on_gpu: Library) -> None:
    session.warm_up()
    x, weight = gpu_tensors(1, 256, 1024, BF16)
    compiled = torch.compile(lambda x: torch.relu(op(x * 2, weight)), backend="aot_eager", fullgraph=True)
    with torch.inference_mode():
        assert torch.equal(compiled(x), torch.relu(op(x * 2, weight)))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_second_gpu_gets_its_own_library(on_gpu: Library) -> None:
    x, weight = (tensor.to("cuda:1") for tensor in tensors(2, 512, 1024, BF16))
    assert_close(op(x, weight), x, weight)
    assert torch.cuda.current_device() == 0
