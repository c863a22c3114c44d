"""vLLM's entry points with the shapes of vLLM's own tests (tests/kernels/quantization/test_rocm_skinny_gemms.py), the smaller ones, in the
emulator; judged by kgen's bound, which is tighter than vLLM's.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kgen.errors import OpError
from kgen.integrations import vllm_ops as ops
from kgen.runtime import session
from kgen.runtime.emu import emulation
from kgen.runtime.library import Library
from tests.ops.dense import build_dense
from tests.runtime.tiny import ARCH, assert_close

BF16, FP16 = torch.bfloat16, torch.float16
CU = 1  # as wrong as it can be: not used
# (N, K, M), as vLLM's lists have them
SPLITK = [(1, 32, 16), (1, 64, 64), (2, 256, 256), (1, 64, 8), (2, 128, 8), (4, 256, 8), (3, 1024, 1024)]
LLMM1 = [(8, 16), (32, 64), (128, 256), (512, 1024)]  # (K, M)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_dense(tmp_path_factory.mktemp("vllm") / ARCH)


@pytest.fixture
def library(folder: Path) -> Iterator[Library]:
    yield session.load(folder, device="emu")
    session.unload()


def uniform(*shape: int, dtype: torch.dtype, low: float = -1, pad: bool = False) -> torch.Tensor:
    """Uniform in (low, 1), rows 256 bytes further apart where padded, as vLLM's tests pad."""
    generator = torch.Generator().manual_seed(sum(shape))
    values = (torch.rand(*shape, generator=generator) * (1 - low) + low).to(dtype)
    return torch.nn.functional.pad(values, (0, 128))[..., : shape[-1]] if pad else values


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("wvSplitK", ["a", "b", "cu_count", "bias"]),
        ("wvSplitKrc", ["a", "b", "cu_count", "bias"]),
        ("wvSplitKQ", ["a", "b", "out_dtype", "scale_a", "scale_b", "cu_count", "bias"]),
        ("LLMM1", ["a", "b", "rows_per_block"]),
    ],
)
def test_names_order_and_defaults_are_vllms(name: str, arguments: list[str]) -> None:
    found = inspect.signature(getattr(ops, name)).parameters
    assert list(found) == arguments
    assert [p.name for p in found.values() if p.default is not p.empty] == (["bias"] if "bias" in arguments else [])


@pytest.mark.hipcc
@pytest.mark.parametrize("dtype", [BF16, FP16])
@pytest.mark.parametrize(("N", "K", "M"), SPLITK)
def test_wvsplitk_on_vllms_shapes(library: Library, N: int, K: int, M: int, dtype: torch.dtype) -> None:
    for pad, bias_shape in ((False, None), (True, (M,)), (True, (N, M))):
        x, weight = uniform(N, K, dtype=dtype, pad=pad), uniform(M, K, dtype=dtype, pad=pad)
        bias = None if bias_shape is None else uniform(*bias_shape, dtype=dtype)
        with emulation() as log:
            out = ops.wvSplitK(weight, x, CU, bias)
        assert len(log.launches) == 1
        assert (out.shape, out.dtype) == ((N, M), dtype)
        assert_close(out, x, weight, bias)


@pytest.mark.hipcc
@pytest.mark.parametrize("rows_per_block", [2, 4, 8, 16])
@pytest.mark.parametrize(("K", "M"), LLMM1)
def test_llmm1_on_vllms_shapes(library: Library, K: int, M: int, rows_per_block: int) -> None:
    dtype = BF16 if rows_per_block in (2, 8) else FP16
    x, weight = uniform(1, K, dtype=dtype, low=0), uniform(M, K, dtype=dtype, low=0)
    with emulation() as log:
        out = ops.LLMM1(weight, x, rows_per_block)
    assert [launch.kernel.split("_")[0] for launch in log.launches] == ["llmm1"]
    assert_close(out, x, weight)


@pytest.mark.hipcc
def test_llmm1_takes_zero_centred_inputs_which_the_peers_test_avoids(library: Library) -> None:
    x, weight = uniform(1, 2048, dtype=BF16), uniform(64, 2048, dtype=BF16)
    assert_close(ops.LLMM1(weight, x, 4), x, weight)


@pytest.mark.hipcc
@pytest.mark.parametrize("cu_count", [0, 1, 304])
def test_the_cu_count_changes_nothing(library: Library, cu_count: int) -> None:
    x, weight = uniform(2, 256, dtype=BF16), uniform(256, 256, dtype=BF16)
    assert torch.equal(ops.wvSplitK(weight, x, cu_count), ops.wvSplitK(weight, x, 20))


@pytest.mark.hipcc
def test_calls_by_name_work_as_vllms(library: Library) -> None:
    x, weight = uniform(2, 256, dtype=BF16), uniform(8, 256, dtype=BF16)
    bias = uniform(8, dtype=BF16)
    assert_close(ops.wvSplitK(a=weight, b=x, cu_count=CU, bias=bias), x, weight, bias)


def test_a_family_that_does_not_exist_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OpError, match=r"kgen\.wvsplitkzz is not part"):
        ops._op("wvsplitkzz")


@pytest.mark.parametrize("family", ["wvsplitk", "wvsplitkrc", "wvsplitkq", "llmm1"])
def test_every_family_that_is_routed_to_is_registered(family: str) -> None:
    assert ops._op(family) is getattr(torch.ops.kgen, family)


class Recorded:
    """In the place of torch.ops.kgen: what was passed."""

    def __getattr__(self, name: str) -> object:
        return lambda *args: (name, *args)


def test_arguments_reach_the_op_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_op", lambda family: getattr(Recorded(), family))
    assert ops.wvSplitK("weight", "x", CU, "bias") == ("wvsplitk", "x", "weight", "bias")
    assert ops.wvSplitKrc("x", "weight", CU, "bias") == ("wvsplitkrc", "x", "weight", "bias")
    assert ops.LLMM1("weight", "x", 4) == ("llmm1", "x", "weight")
    got = ops.wvSplitKQ("weight", "x", FP16, "x_scale", "w_scale", CU, "bias")
    assert got == ("wvsplitkq", "x", "weight", "x_scale", "w_scale", "bias", FP16)
