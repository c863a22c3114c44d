"""vLLM's wvSplitKrc and wvSplitKQ with the smaller shapes of vLLM's own tests, in the emulator; judged by kgen's bounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kgen.integrations import vllm_ops as ops
from kgen.runtime import session
from kgen.runtime.emu import emulation
from kgen.runtime.library import Library
from kgen.spec.wvsplitkq import WvSplitKQSpec
from tests.integrations.test_vllm_ops import CU, uniform
from tests.ops.dense import build_dense
from tests.ops.splitk import build_splitk
from tests.ops.test_wvsplitkq import assert_right
from tests.runtime.tiny import assert_close

pytestmark = pytest.mark.hipcc
BF16, FP16, FP8 = torch.bfloat16, torch.float16, torch.float8_e4m3fn
# (N, K, M), as vLLM's lists have them
SPLITKRC = [(13, 2880, 128), (16, 2048, 256), (17, 2880, 144), (31, 2888, 144), (64, 3080, 128)]
FP8_SHAPES = [
    (1, 16, 16),
    (1, 32, 32),
    (1, 64, 80),
    (1, 80, 64),
    (4, 64, 64),
    (4, 80, 80),
    (2, 512, 512),
    (3, 512, 528),
]


@pytest.fixture(scope="module")
def splitk_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_splitk(tmp_path_factory.mktemp("vllm-splitk"))


@pytest.fixture
def splitk(splitk_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    monkeypatch.delenv("KGEN_FAST_SKINNY_GEMM", raising=False)
    yield session.load(splitk_folder, device="emu")
    session.unload()


@pytest.fixture(scope="module")
def fp8_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    specs = [
        WvSplitKQSpec(arch="gfx1201", dtype=dtype, N=N, THRDS=32, YTILE=2, WvPrGrp=2, UNRL=1)
        for dtype in ("bf16", "fp16")
        for N in range(1, 5)
    ]
    return build_dense(tmp_path_factory.mktemp("vllm-fp8") / "gfx1201", {"wvsplitkq": specs})


@pytest.fixture
def fp8(fp8_folder: Path) -> Iterator[Library]:
    yield session.load(fp8_folder, device="emu")
    session.unload()


@pytest.mark.parametrize(("N", "K", "M"), SPLITKRC)
def test_wvsplitkrc_on_vllms_shapes(splitk: Library, N: int, K: int, M: int) -> None:
    bias = [None, uniform(M, dtype=BF16), uniform(N, M, dtype=BF16)][N % 3]
    x, weight = uniform(N, K, dtype=BF16, pad=N % 2 == 1), uniform(M, K, dtype=BF16)
    with emulation() as log:
        out = ops.wvSplitKrc(x, weight, CU, bias)  # the activations first
    assert ["DETERMINISTIC" in launch.kernel for launch in log.launches] == [True]
    assert (out.shape, out.dtype) == ((N, M), BF16)
    assert_close(out, x, weight, bias)


@pytest.mark.parametrize("dtype", [BF16, FP16])
@pytest.mark.parametrize(("N", "K", "M"), FP8_SHAPES)
def test_wvsplitkq_on_vllms_shapes(fp8: Library, N: int, K: int, M: int, dtype: torch.dtype) -> None:
    x_scale, weight_scale = torch.tensor(0.5), torch.tensor([0.25])
    for pad, bias in ((0, None), (256, uniform(M, dtype=dtype))):
        x, weight = (torch.nn.functional.pad(uniform(rows, K, dtype=FP16), (0, pad)).to(FP8)[:, :K] for rows in (N, M))
        with emulation() as log:
            out = ops.wvSplitKQ(weight, x, dtype, x_scale, weight_scale, CU, bias)
        assert len(log.launches) == 1
        assert (out.shape, out.dtype) == ((N, M), dtype)
        assert_right(out, x, weight, x_scale, weight_scale, bias)


def test_the_order_of_the_two_scales_does_not_matter(fp8: Library) -> None:
    x, weight = uniform(2, 64, dtype=FP16).to(FP8), uniform(16, 64, dtype=FP16).to(FP8)
    scales = torch.tensor(0.3), torch.tensor(1.7)
    first = ops.wvSplitKQ(weight, x, BF16, scales[0], scales[1], CU)
    again = ops.wvSplitKQ(weight, x, BF16, scales[1], scales[0], CU)
    # The two scales are multiplied one after the other: at most one unit in the last place between the two orders.
    assert_right(first, x, weight, *scales)
    assert_right(again, x, weight, *scales)
