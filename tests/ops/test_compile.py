"""opcheck and torch.compile, with the emulator behind the op."""

from __future__ import annotations

import shutil

import pytest
import torch

from kgen.errors import OpError
from kgen.runtime.emu import emulation
from kgen.runtime.library import Library
from tests.runtime.tiny import tensors

pytestmark = pytest.mark.hipcc
BF16 = torch.bfloat16
op = torch.ops.kgen.wvsplitk


def test_opcheck_passes(library: Library) -> None:
    x, weight = tensors(2, 21, 136, BF16)
    bias = torch.randn(21).to(BF16)
    samples = [
        (x, weight),
        (x, weight, bias),
        (x.reshape(2, 1, 136), weight, bias),
        (x[:0], weight, None),
        (torch.zeros(5, 61, dtype=BF16), torch.zeros(3, 61, dtype=BF16)),
    ]
    for sample in samples:
        results = torch.library.opcheck(op.default, sample)
        assert set(results.values()) == {"SUCCESS"}, results


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(24, 136).to(BF16))
        self.bias = torch.nn.Parameter(torch.randn(24).to(BF16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.ops.kgen.wvsplitk(x * 2, self.weight, self.bias)) + 1


def cxx() -> str | None:
    return shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


@pytest.mark.parametrize(
    "backend",
    [
        "eager",
        "aot_eager",
        pytest.param("inductor", marks=pytest.mark.skipif(cxx() is None, reason="inductor needs a C++ compiler")),
    ],
)
def test_compiled_models_run_the_same_kernels(library: Library, backend: str) -> None:
    torch._dynamo.reset()
    block = Block()
    compiled = torch.compile(block, backend=backend, fullgraph=True)
    with torch.inference_mode():
        for shape in ((1, 136), (2, 1, 136), (2, 136), (4, 136)):
            x = torch.randn(shape).to(BF16)
            want = block(x)
            with emulation() as log:
                out = compiled(x)
            assert len(log.launches) == 1
            assert torch.equal(out, want)


def test_a_model_with_gradients_is_refused_while_it_compiles(library: Library) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(Block(), backend="aot_eager", fullgraph=True)
    with pytest.raises((OpError, RuntimeError), match="for inference"):
        compiled(torch.randn(1, 136).to(BF16))
