"""torch.ops.kgen.llmm1 on real code objects in the emulator, against fp64; what it shares with wvsplitk is tested there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kgen.errors import OpError
from kgen.runtime import session
from kgen.runtime.emu import emulation
from kgen.runtime.library import Library
from tests.ops.dense import LLMM1, build_dense
from tests.runtime.tiny import ARCH, assert_close, tensors

pytestmark = pytest.mark.hipcc
BF16, FP16 = torch.bfloat16, torch.float16
op = torch.ops.kgen.llmm1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_dense(tmp_path_factory.mktemp("llmm1") / ARCH, {"llmm1": LLMM1})


@pytest.fixture
def library(folder: Path) -> Iterator[Library]:
    import kgen.ops  # noqa: F401

    yield session.load(folder, device="emu")
    session.unload()


@pytest.mark.parametrize("dtype", [BF16, FP16])
@pytest.mark.parametrize(("M", "K"), [(1, 8), (4, 1024), (37, 2056), (128, 4096)])
def test_results_are_within_the_bound_of_fp64(library: Library, dtype: torch.dtype, M: int, K: int) -> None:
    x, weight = tensors(1, M, K, dtype)
    with emulation() as log:
        assert_close(op(x, weight), x, weight)
    assert [launch.kernel for launch in log.launches] == [LLMM1[dtype == FP16].name]


@pytest.mark.parametrize("dtype", [BF16, FP16])
def test_all_forms_of_bias_are_added(library: Library, dtype: torch.dtype) -> None:
    x, weight = tensors(1, 21, 136, dtype)
    padded = torch.randn(1, 32).to(dtype)[:, :21]
    for bias in (padded[0].contiguous(), padded.contiguous(), padded):
        assert_close(op(x, weight, bias), x, weight, bias)
    three = padded.reshape(1, 1, 21)
    assert_close(op(x.reshape(1, 1, 136), weight, three), x.reshape(1, 1, 136), weight, three)


def test_any_rank_of_x_is_folded_and_restored(library: Library) -> None:
    x, weight = tensors(1, 21, 136, BF16)
    for shape in ((136,), (1, 136), (1, 1, 136), (1, 1, 1, 136)):
        out = op(x.reshape(shape), weight)
        assert out.shape == (*shape[:-1], 21)
        assert torch.equal(out.reshape(1, 21), op(x, weight))


def test_padded_rows_are_read_where_they_are_and_change_no_bit(library: Library) -> None:
    x, weight = tensors(1, 21, 264, BF16)
    weight_view, x_view = weight[:, :136], x[:, 8:144]
    padded = op(x_view, weight_view)
    assert_close(padded, x_view, weight_view)
    assert torch.equal(padded, op(x_view.contiguous(), weight_view.contiguous()))


@pytest.mark.parametrize(("N", "K"), [(1, 61), (1, 1028), (2, 136), (8, 136), (300, 64)])
def test_more_rows_and_other_k_are_torch_and_counted(library: Library, N: int, K: int) -> None:
    x, weight = tensors(N, 21, K, BF16)
    bias = torch.randn(N, 21).to(BF16)
    with emulation() as log:
        out = op(x, weight, bias)
    assert torch.equal(out, torch.nn.functional.linear(x, weight, bias))
    assert not log.launches
    assert session.stats() == {"torch (llmm1)": 1}


def test_what_it_cannot_take_names_it(library: Library) -> None:
    x, weight = tensors(1, 21, 136, BF16)
    with pytest.raises(OpError, match=r"kgen\.llmm1"):
        op(x, weight.T)


def test_nothing_outside_the_tensors_is_touched_and_no_wave_races(library: Library) -> None:
    from kgen.emu import Options

    with emulation(Options(races=True, count_ops=True)) as log:
        for dtype in (BF16, FP16):
            x, weight = tensors(1, 9, 2056, dtype)
            op(x, weight, torch.randn(1, 9).to(dtype))
    assert len(log.launches) == 2


def test_opcheck_passes(library: Library) -> None:
    x, weight = tensors(1, 21, 136, BF16)
    bias = torch.randn(1, 21).to(BF16)
    for sample in (
        (x, weight),
        (x, weight, bias),
        (x, weight, bias[0]),
        (x.reshape(1, 1, 136), weight),
        (x[:0], weight, None),
        (x.expand(3, 136).contiguous(), weight),
    ):
        results = torch.library.opcheck(op.default, sample)
        assert set(results.values()) == {"SUCCESS"}, results


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_code_runs_the_same_kernel(library: Library, backend: str) -> None:
    torch._dynamo.reset()
    x, weight = tensors(1, 21, 136, BF16)
    bias = torch.randn(1, 21).to(BF16)

    def block(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.ops.kgen.llmm1(x * 2, weight, bias)) + 1

    compiled = torch.compile(block, backend=backend, fullgraph=True)
    with torch.inference_mode(), emulation() as log:
        assert torch.equal(compiled(x), block(x))
    assert len(log.launches) == 2
