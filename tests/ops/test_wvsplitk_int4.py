"""torch.ops.kgen.wvsplitk_int4 on real code objects in the emulator, against fp64, with weights as kgen.ops.pack makes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import kgen.ops  # noqa: F401
from kgen.errors import OpError
from kgen.ops.check_int4 import check_int4_linear
from kgen.ops.pack import PackedW4, dequantise, pack_uint4
from kgen.ops.reference import int4_linear_reference, int4_linear_torch, int4_weight
from kgen.runtime import session
from kgen.runtime.emu import emulation
from kgen.runtime.library import Library
from kgen.spec.arch import arch_facts
from kgen.spec.problem import W4Shape
from kgen.spec.w4 import OFFSET
from kgen.spec.wvsplitk_int4 import WvSplitKInt4Spec
from tests.ops.dense import build_dense

BF16, FP16 = torch.bfloat16, torch.float16
ARCHES = ("gfx1151", "gfx942")
OPCHECK = ("test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
op = torch.ops.kgen.wvsplitk_int4
pytestmark = pytest.mark.hipcc


def specs_on(arch: str) -> list[WvSplitKInt4Spec]:
    """bf16 for one symmetric row with groups of 128, fp16 for three with zero points and groups of 32."""
    rows = 16 if arch_facts(arch).matrix.startswith("mfma") else 2
    plain = {"arch": arch, "THRDS": arch_facts(arch).wave, "YTILE": rows, "WvPrGrp": 2, "UNRL": 1, "DEQUANT": "actsum"}
    return [
        WvSplitKInt4Spec(dtype="bf16", N=1, **plain),
        WvSplitKInt4Spec(dtype="fp16", N=3, GROUP_SIZE=32, HAS_ZP=True, **plain),
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("wvsplitk_int4")
    return {arch: build_dense(root / arch, {"wvsplitk_int4": specs_on(arch)}) for arch in ARCHES}


@pytest.fixture(params=ARCHES)
def library(folders: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Library]:
    yield session.load(folders[request.param], device="emu")
    session.unload()


@pytest.fixture
def on_gfx1151(folders: dict[str, Path]) -> Iterator[Library]:
    yield session.load(folders["gfx1151"], device="emu")
    session.unload()


def layer(M: int, K: int, dtype: torch.dtype, group: int, zero_points: bool, pad: bool = True) -> PackedW4:
    """Random weights through the packer; rows at a multiple of 512 bytes are padded."""
    generator = torch.Generator().manual_seed(M + K)
    codes = torch.randint(0, 16, (M, K), generator=generator).to(torch.uint8)
    scales = (0.05 * (0.5 + torch.rand(M, K // group, generator=generator))).to(dtype)
    zeros = torch.randint(0, 16, (M, K // group), generator=generator).to(torch.uint8) if zero_points else None
    return pack_uint4(codes, scales, zeros, pad=pad)


def acts(N: int, K: int, dtype: torch.dtype, pad: int = 0) -> Tensor:
    return torch.randn(N, K + pad, generator=torch.Generator().manual_seed(N + K)).to(dtype)[:, :K]


def call(x: Tensor, w: PackedW4, bias: Tensor | None = None) -> Tensor:
    return op(x, w.weight, w.scales, w.zeros, bias)


def assert_right(arch: str, out: Tensor, x: Tensor, w: PackedW4, bias: Tensor | None = None) -> None:
    """One rounding to the output's type, and fp32 sums as deep as the spec says, of offset codes and of the correction (DEQUANT actsum)."""
    reference = int4_linear_reference(x, w.weight, w.scales, w.zeros, bias)
    dtype = "bf16" if out.dtype == BF16 else "fp16"
    spec = next(spec for spec in specs_on(arch) if spec.dtype == dtype)
    most = 2 * OFFSET[dtype] + 30  # a code and its offset, and what is taken off
    size = x.double().abs() @ (most * w.scales.double().repeat_interleave(w.group, 1)).T
    summed = spec.additions(W4Shape(w.M, x.shape[0], w.K, w.group, not w.symmetric)) * 2.0**-23 * size
    eps = 2.0**-8 if dtype == "bf16" else 2.0**-11
    assert out.shape == reference.shape
    assert bool(((out.double() - reference).abs() <= eps * (reference.abs() + summed) + summed + 2.0**-24).all())


@pytest.mark.parametrize(("M", "K"), [(1, 128), (37, 640), (64, 2048)])
def test_one_symmetric_row_is_within_the_bound_of_fp64(library: Library, M: int, K: int) -> None:
    x, w = acts(1, K, BF16), layer(M, K, BF16, 128, False)
    with emulation() as log:
        out = call(x, w)
    assert_right(library.arch, out, x, w)
    assert [launch.kernel for launch in log.launches] == [specs_on(library.arch)[0].name]


@pytest.mark.parametrize(("M", "K"), [(8, 32), (41, 672)])
def test_three_rows_with_zero_points_are_within_the_bound_of_fp64(library: Library, M: int, K: int) -> None:
    x, w = acts(3, K, FP16, pad=8), layer(M, K, FP16, 32, True)
    for bias in (None, torch.randn(M).to(FP16), torch.randn(3, M).to(FP16)):
        assert_right(library.arch, call(x, w, bias), x, w, bias)


def test_padded_rows_of_codes_give_the_same_bits(library: Library) -> None:
    x = acts(1, 1024, BF16)
    padded, dense = layer(24, 1024, BF16, 128, False), layer(24, 1024, BF16, 128, False, pad=False)
    assert padded.weight.stride(0) > dense.weight.stride(0) == 128
    assert torch.equal(call(x, padded), call(x, dense))


def test_zero_activations_leave_the_bias_exactly(library: Library) -> None:
    w, bias = layer(21, 160, FP16, 32, True), torch.randn(21).to(FP16)
    assert torch.equal(call(torch.zeros(3, 160, dtype=FP16), w, bias), bias.expand(3, 21))


def test_leading_sizes_come_back_and_nothing_gives_nothing(library: Library) -> None:
    w = layer(21, 160, FP16, 32, True)
    x = acts(3, 160, FP16)
    assert torch.equal(call(x.reshape(3, 1, 160), w), call(x, w).reshape(3, 1, 21))
    assert call(x[:0], w).shape == (0, 21)


def test_what_no_row_of_the_table_takes_is_torchs(on_gfx1151: Library) -> None:
    w = layer(21, 256, BF16, 64, True)
    x = acts(5, 256, BF16)
    with emulation() as log:
        out = call(x, w)
    assert not log.launches
    assert torch.equal(out, int4_linear_torch(x, w.weight, w.scales, w.zeros))
    assert on_gfx1151.answered() == {"torch (wvsplitk_int4)": 1}


def test_the_reference_is_the_packers_dequantiser() -> None:
    w = layer(21, 256, BF16, 64, True)
    assert torch.equal(int4_weight(w.weight, w.scales, w.zeros, torch.float64), dequantise(w).double())


def test_opcheck_passes(on_gfx1151: Library) -> None:
    w, x = layer(21, 128, BF16, 128, False), acts(1, 128, BF16)
    for sample in ((x, w.weight, w.scales), (x, w.weight, w.scales, None, torch.randn(21).to(BF16))):
        results = torch.library.opcheck(op.default, sample, test_utils=OPCHECK)
        assert set(results.values()) == {"SUCCESS"}, results


def test_the_fake_knows_the_shape() -> None:
    w = layer(21, 128, BF16, 128, False)
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(tensor) for tensor in (acts(1, 128, BF16), w.weight, w.scales)]
        out = op(*fakes)
    assert (out.shape, out.dtype) == ((1, 21), BF16)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(x=torch.zeros(1, 128)), "x.dtype"),
        (dict(weight=torch.zeros(16, 16, dtype=torch.int8)), "weight.dtype"),
        (dict(scales=torch.zeros(16, 1)), "scales.dtype"),
        (dict(x=torch.zeros(1, 256, dtype=BF16)), "the same K: 8 codes to a word make 128"),
        (dict(scales=torch.zeros(16, 3, dtype=BF16)), "groups of 32, 64 or 128"),
        (dict(scales=torch.zeros(16, 8, dtype=BF16)), "groups of 32, 64 or 128"),
        (dict(zeros=torch.zeros(16, 1, dtype=torch.int32)), "[2, 1]"),
        (dict(bias=torch.zeros(15, dtype=BF16)), "bias.shape"),
        (dict(weight=torch.zeros(16, 18, dtype=torch.int32)[:, :16]), "weight.stride"),
    ],
)
def test_bad_tensors_are_named(change: dict[str, Tensor], words: str) -> None:
    good = {
        "x": torch.zeros(1, 128, dtype=BF16),
        "weight": torch.zeros(16, 16, dtype=torch.int32),
        "scales": torch.zeros(16, 1, dtype=BF16),
        "zeros": None,
        "bias": None,
    }
    with pytest.raises(OpError) as error:
        check_int4_linear("wvsplitk_int4", **(good | change))
    assert words in str(error.value)


def test_weights_beyond_32_bit_indices_are_refused() -> None:
    rows = (1 << 32) // 4096  # of 32768 codes
    x = torch.empty(1, 32768, dtype=BF16, device="meta")
    for more in (0, 1):
        weight = torch.empty(rows + more, 4096, dtype=torch.int32, device="meta")
        scales = torch.empty(rows + more, 256, dtype=BF16, device="meta")
        if not more:
            check_int4_linear("wvsplitk_int4", x, weight, scales, None, None)
            continue
        with pytest.raises(OpError, match=r"weight\.shape.*1048577 rows, 4096 elements apart"):
            check_int4_linear("wvsplitk_int4", x, weight, scales, None, None)


def test_zero_points_beyond_32_bit_indices_are_refused() -> None:
    weight = torch.empty(1032, 16, dtype=torch.int32, device="meta")
    scales = torch.empty(1032, 1, dtype=BF16, device="meta")
    zeros = torch.empty_strided((129, 1), ((1 << 25) - 1, 1), dtype=torch.int32, device="meta")
    x = torch.empty(1, 128, dtype=BF16, device="meta")
    check_int4_linear("wvsplitk_int4", x, weight[:1024], scales[:1024], zeros[:128], None)
    with pytest.raises(OpError, match=r"zeros\.shape.*129 rows, 33554431 elements apart"):
        check_int4_linear("wvsplitk_int4", x, weight, scales, zeros, None)
