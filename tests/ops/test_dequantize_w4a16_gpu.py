"""torch.ops.kgen.dequantize_w4a16 on the GPU that is here: to the bit, in a captured graph below the linear op, on several streams."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import kgen.ops  # noqa: F401
from kgen.ops.reference import int4_linear_torch, int4_weight
from kgen.runtime import session
from kgen.runtime.library import Library
from tests.ops.test_dequantize_w4a16 import at_both_ends, bits, build_dequantize, specs_on, tensors

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
BF16, FP16 = torch.bfloat16, torch.float16
op = torch.ops.kgen.dequantize_w4a16


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    from kgen.runtime.session import present_device

    arch = present_device().arch
    yield session.load(build_dequantize(tmp_path_factory.mktemp("dequantize") / arch, arch))
    torch.cuda.synchronize()
    session.unload()


def on_gpu(args: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    return [None if tensor is None else tensor.cuda() for tensor in args]


@pytest.mark.parametrize("dtype", [BF16, FP16])
@pytest.mark.parametrize(
    ("M", "K", "pad"), [(4096, 4096, True), (131, 640, False), (1, 128, False), (24576, 4096, False)]
)
def test_weights_are_those_of_torch_to_the_bit(library: Library, dtype: torch.dtype, M: int, K: int, pad: bool) -> None:
    args = on_gpu(tensors(M, K, dtype, pad=pad))
    assert torch.equal(bits(op(*args)), bits(int4_weight(*args, dtype)))


@pytest.mark.parametrize("dtype", [BF16, FP16])
def test_scales_at_both_ends_and_signs_of_zero(library: Library, dtype: torch.dtype) -> None:
    """Against the CPU, whose arithmetic flushes nothing."""
    args = at_both_ends(dtype)
    assert torch.equal(bits(op(*on_gpu(args))).cpu(), bits(int4_weight(*args, dtype)))


def test_a_torch_row_in_a_captured_graph_reads_weights_and_activations_anew(library: Library) -> None:
    session.warm_up()
    weight, scales, _ = on_gpu(tensors(512, 1024, BF16))
    assert weight is not None
    assert scales is not None
    x = torch.randn(300, 1024, device="cuda").to(BF16)
    torch.nn.functional.linear(x, torch.empty(512, 1024, dtype=BF16, device="cuda"))  # cuBLAS makes its handle outside
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # the first call with this shape is inside
        out = torch.ops.kgen.w4a16_linear(x, weight, scales)
    assert library.answered()[specs_on(library.arch)[0].name]
    for _ in range(2):
        x.normal_()
        weight.bitwise_xor_(0x1234567)
        graph.replay()
        torch.cuda.synchronize()
        want = int4_linear_torch(
            x, weight, scales
        ).float()  # by a kernel of torch's that may add in another order than the captured one
        assert (out.float() - want).abs().max() <= 2.0**-7 * want.abs().max()


def test_the_current_stream_is_used(library: Library) -> None:
    args = on_gpu(tensors(4096, 2048, FP16))
    want = op(*args)
    streams = [torch.cuda.Stream() for _ in range(4)]
    outs = []
    for _ in range(10):
        for stream in streams:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                outs.append(op(*args))
    torch.cuda.synchronize()
    assert all(torch.equal(bits(out), bits(want)) for out in outs)
