"""torch.ops.kgen.wvsplitkq on the GPU that is here: against fp64, beside torch's scaled multiply, in a captured graph."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import kgen.ops  # noqa: F401
from kgen.ops.check import FP8
from kgen.runtime import session
from kgen.runtime.library import Library
from kgen.spec.arch import ARCHES
from tests.ops.dense import build_dense
from tests.ops.test_wvsplitkq import assert_right, fp8, specs_on

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
BF16, FP16 = torch.bfloat16, torch.float16
op = torch.ops.kgen.wvsplitkq


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    from kgen.runtime.session import present_device

    arch = present_device().arch
    if not ARCHES[arch].fp8:
        pytest.skip(f"{arch} has no fp8 instructions")
    yield session.load(build_dense(tmp_path_factory.mktemp("fp8") / arch, {"wvsplitkq": specs_on(arch)}))
    torch.cuda.synchronize()
    session.unload()


def on_gpu(library: Library, N: int, M: int, K: int, pad: int = 0) -> list[Tensor]:
    kind = next(dtype for dtype, name in FP8.items() if name == ARCHES[library.arch].fp8)
    x, weight, x_scale, weight_scale = fp8(N, M, K + pad, kind)
    return [x.cuda()[:, :K], weight.cuda()[:, :K], x_scale.cuda(), weight_scale.cuda()]


@pytest.mark.parametrize(("N", "dtype"), [(1, BF16), (3, FP16)])
@pytest.mark.parametrize(("M", "K", "pad"), [(4096, 4096, 0), (37, 528, 32), (1, 16, 0)])
def test_results_are_within_the_bound_of_fp64(library: Library, N: int, dtype: torch.dtype, M: int, K: int, pad: int):
    data = on_gpu(library, N, M, K, pad)
    bias = torch.randn(N, M, device="cuda").to(dtype)
    for given in (None, bias[0].contiguous(), bias):
        assert_right(op(*data, given, dtype), *data, given)


@pytest.mark.parametrize(
    ("N", "M", "K", "bias_rows"),
    [(1, 32, 61, 0), (9, 64, 128, 1), (40, 64, 4096, 0), (40, 37, 64, 1), (300, 64, 128, 300)],
)
def test_what_no_kernel_takes_is_right_by_torch(library: Library, N: int, M: int, K: int, bias_rows: int):
    """Some of these torch._scaled_mm takes, whose order of additions is its own: sums in fp32 or, on sm_90, somewhat less."""
    data = on_gpu(library, N, M, K)
    bias = torch.randn(bias_rows, M, device="cuda").to(BF16) if bias_rows > 1 else None
    bias = torch.randn(M, device="cuda").to(BF16) if bias_rows == 1 else bias
    before = session.stats().get("torch (wvsplitkq)", 0)
    out = op(*data, bias, BF16)
    assert session.stats()["torch (wvsplitkq)"] == before + 1
    reference = (data[0].double() @ data[1].double().T) * (data[2].double() * data[3].double())
    size = (data[0].double().abs() @ data[1].double().abs().T) * (data[2].double() * data[3].double())
    reference = reference if bias is None else reference + bias.double()
    # The fp8 matrix cores of sm_90 are reported to keep 14 bits of a sum: some 2^-13 of the magnitudes. Then one rounding to bf16.
    assert bool(((out.double() - reference).abs() <= 2.0**-8 * reference.abs() + 2.0**-12 * size + 2.0**-24).all())


def test_a_captured_graph_replays_on_new_inputs_and_scales(library: Library):
    session.warm_up()
    x, weight, x_scale, weight_scale = on_gpu(library, 1, 512, 1024)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = op(x, weight, x_scale, weight_scale)
    for factor in (1.0, 2.0):
        x_scale.fill_(factor)
        graph.replay()
        torch.cuda.synchronize()
        assert_right(out, x, weight, x_scale, weight_scale)


def test_the_current_stream_is_used_and_results_are_the_same_bits(library: Library):
    data = on_gpu(library, 3, 4096, 2048)
    want = op(*data, None, FP16)
    streams = [torch.cuda.Stream() for _ in range(4)]
    outs = []
    for _ in range(10):
        for stream in streams:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                outs.append(op(*data, None, FP16))
    torch.cuda.synchronize()
    assert all(torch.equal(out, want) for out in outs)
