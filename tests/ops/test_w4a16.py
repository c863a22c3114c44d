"""torch.ops.kgen.gemm_w4a16 and w4a16_linear on real code objects in the emulator, against fp64 on the weights that the kernels multiply."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import kgen.ops  # noqa: F401
from kgen.bench.contest import contest
from kgen.build import build
from kgen.errors import MissingPieceError, OpError
from kgen.ops.check_int4 import MAX_STRIDE_TILES, check_w4a16
from kgen.ops.pack import PackedW4
from kgen.ops.reference import int4_linear_torch, int4_weight, linear_reference
from kgen.runtime import session
from kgen.runtime.emu import emulation
from kgen.runtime.library import Library
from kgen.spec.arch import arch_facts
from kgen.spec.gemm_w4a16 import GemmW4A16Spec
from kgen.spec.problem import W4Shape
from kgen.spec.wvsplitk_int4 import WvSplitKInt4Spec
from tests.ops.test_wvsplitk_int4 import OPCHECK, acts, layer
from tests.runtime.tiny import BECAUSE

BF16, FP16 = torch.bfloat16, torch.float16
ARCHES = ("gfx1151", "gfx950")
ops = torch.ops.kgen
pytestmark = pytest.mark.hipcc


def specs_on(arch: str) -> tuple[GemmW4A16Spec, GemmW4A16Spec, WvSplitKInt4Spec]:
    """bf16 with K split and codes in registers, fp16 with zero points through LDS, and a skinny kernel for one row."""
    wave = arch_facts(arch).wave
    block = {
        "arch": arch,
        "THRDS": wave,
        "BLOCK_N": 32,
        "BLOCK_M": 32,
        "WvPrGrp": 2,
        "WAVES_N": 2,
        "DoubleBuffer": True,
    }
    split = GemmW4A16Spec.checked(dict(dtype="bf16", BLOCK_K=32, ScaleBlockK=128, K_SPLIT=2) | block)
    whole = GemmW4A16Spec.checked(
        dict(dtype="fp16", BLOCK_K=64, ScaleBlockK=32, HAS_ZP=True, PreDequantToLDS=True) | block
    )
    skinny = WvSplitKInt4Spec(arch=arch, dtype="bf16", THRDS=wave, YTILE=16 if wave == 64 else 2, WvPrGrp=2, UNRL=1)
    return split, whole, skinny


def build_w4a16(folder: Path, arch: str) -> Path:
    """A build with three kernels, and tables that leave something for torch."""
    split, whole, skinny = specs_on(arch)
    try:
        result = build(specs_on(arch), arch=arch, jobs=1, folder=folder)
    except MissingPieceError as error:
        pytest.skip(str(error))
    assert not result.failed, result.failed
    bf16 = 'dtype == "bf16" and GROUP_SIZE == 128 and not HAS_ZP'
    fp16 = 'dtype == "fp16" and GROUP_SIZE == 32 and HAS_ZP'
    rows: dict[str, list[tuple[str, str]]] = {
        "gemm_w4a16": [(bf16, split.name), (fp16, whole.name), ("true", "torch")],
        "wvsplitk_int4": [(f"{bf16} and N == 1", skinny.name), ("true", "torch")],
        "w4a16_linear": [("N == 1", "wvsplitk_int4"), ("N <= 100", "gemm_w4a16"), ("true", "torch")],
    }
    (folder / "dispatch").mkdir(exist_ok=True)
    for family, answers in rows.items():
        entries = [{"when": when, "use": use, "because": BECAUSE} for when, use in answers]
        table = {"schema": 1, "arch": arch, "family": family, "row": entries}
        (folder / "dispatch" / f"{family}.json").write_text(json.dumps(table))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("w4a16")
    return {arch: build_w4a16(root / arch, arch) for arch in ARCHES}


@pytest.fixture(params=ARCHES)
def library(folders: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Library]:
    yield session.load(folders[request.param], device="emu")
    session.unload()


@pytest.fixture
def on_gfx1151(folders: dict[str, Path]) -> Iterator[Library]:
    yield session.load(folders["gfx1151"], device="emu")
    session.unload()


def args(w: PackedW4) -> tuple[Tensor, Tensor, Tensor | None]:
    return w.weight, w.scales, w.zeros


def assert_right(spec: GemmW4A16Spec, out: Tensor, x: Tensor, w: PackedW4, bias: Tensor | None = None) -> None:
    """One rounding of each weight, which the reference has too, fp32 sums as deep as the spec says, and one rounding at the end."""
    dense = int4_weight(*args(w), x.dtype)
    reference = linear_reference(x, dense, bias)
    size = x.double().abs() @ dense.double().abs().T + (0 if bias is None else bias.double().abs())
    shape = W4Shape(w.M, x.shape[0], w.K, w.group, not w.symmetric)
    summed = spec.additions(shape) * 2.0**-23 * size
    eps = 2.0**-8 if out.dtype == BF16 else 2.0**-11
    assert out.shape == reference.shape
    error = (out.double() - reference).abs()
    assert bool((error <= eps * (reference.abs() + summed) + summed + 2.0**-24).all())
    assert float(error.norm() / reference.norm()) < 5e-3


@pytest.mark.parametrize(("M", "N", "K"), [(1, 9, 128), (37, 32, 384), (70, 71, 1024)])
def test_split_sums_are_within_the_bound_of_fp64(library: Library, M: int, N: int, K: int) -> None:
    x, w = acts(N, K, BF16), layer(M, K, BF16, 128, False)
    with emulation() as log:
        out = ops.gemm_w4a16(x, *args(w))
    spec = specs_on(library.arch)[0]
    assert [launch.kernel for launch in log.launches] == [spec.name]
    assert_right(spec, out, x, w)
    assert torch.equal(out, ops.gemm_w4a16(x, *args(w)))  # the workspace is as it was


@pytest.mark.parametrize(("M", "N", "K"), [(8, 16, 32), (41, 35, 672)])
def test_zero_points_and_every_bias_are_within_the_bound_of_fp64(library: Library, M: int, N: int, K: int) -> None:
    x, w = acts(N, K, FP16, pad=8), layer(M, K, FP16, 32, True)
    for bias in (None, torch.randn(M).to(FP16), torch.randn(N, M).to(FP16)):
        assert_right(specs_on(library.arch)[1], ops.gemm_w4a16(x, *args(w), bias), x, w, bias)


def test_padding_and_other_rows_leave_the_bits_alone(library: Library) -> None:
    x = acts(40, 1024, BF16)
    padded, dense = layer(24, 1024, BF16, 128, False), layer(24, 1024, BF16, 128, False, pad=False)
    out = ops.gemm_w4a16(x, *args(padded))
    assert torch.equal(out, ops.gemm_w4a16(x, *args(dense)))
    assert torch.equal(out[7:8], ops.gemm_w4a16(x[7:8], *args(padded)))


def test_the_linear_op_goes_where_its_table_says(library: Library) -> None:
    w = layer(21, 256, BF16, 128, False)
    split, _, skinny = specs_on(library.arch)
    for rows, kernels in ((1, [skinny.name]), (2, [split.name]), (100, [split.name]), (101, [])):
        x = acts(rows, 256, BF16)
        with emulation() as log:
            out = ops.w4a16_linear(x, *args(w))
        assert [launch.kernel for launch in log.launches] == kernels
        if not kernels:
            assert torch.equal(out, int4_linear_torch(x, *args(w)))
        elif rows > 1:
            assert torch.equal(out, ops.gemm_w4a16(x, *args(w)))
        else:
            assert torch.equal(out, ops.wvsplitk_int4(x, *args(w)))
    assert library.answered()["torch (w4a16_linear)"] == 1


def test_a_family_may_still_answer_torch(on_gfx1151: Library) -> None:
    x, w = acts(4, 256, BF16), layer(16, 256, BF16, 64, True)
    assert torch.equal(ops.w4a16_linear(x, *args(w)), int4_linear_torch(x, *args(w)))
    assert on_gfx1151.answered() == {"torch (gemm_w4a16)": 1}


@pytest.mark.parametrize("op", [ops.gemm_w4a16, ops.w4a16_linear])
def test_leading_sizes_come_back_and_nothing_gives_nothing(on_gfx1151: Library, op) -> None:
    x, w = acts(6, 160, FP16), layer(21, 160, FP16, 32, True)
    assert torch.equal(op(x.reshape(3, 2, 160), *args(w)), op(x, *args(w)).reshape(3, 2, 21))
    assert op(x[:0], *args(w)).shape == (0, 21)
    bias = torch.randn(21).to(FP16)
    assert torch.equal(op(torch.zeros_like(x), *args(w), bias), bias.expand(6, 21))


@pytest.mark.parametrize("op", [ops.gemm_w4a16, ops.w4a16_linear])
def test_opcheck_passes(on_gfx1151: Library, op) -> None:
    w, x = layer(21, 128, BF16, 128, False), acts(10, 128, BF16)
    for sample in ((x, w.weight, w.scales), (x, w.weight, w.scales, None, torch.randn(21).to(BF16))):
        results = torch.library.opcheck(op.default, sample, test_utils=OPCHECK)
        assert set(results.values()) == {"SUCCESS"}, results


def test_it_compiles(on_gfx1151: Library) -> None:
    w, x = layer(21, 128, BF16, 128, False), acts(10, 128, BF16)

    def block(x: Tensor) -> Tensor:
        return ops.w4a16_linear(x * 2, *args(w)).relu()

    assert torch.equal(torch.compile(block, backend="aot_eager", fullgraph=True)(x), block(x))


@pytest.mark.parametrize("op", [ops.gemm_w4a16, ops.w4a16_linear])
def test_the_fake_knows_the_shape(op) -> None:
    w = layer(21, 128, BF16, 128, False)
    with FakeTensorMode() as mode:
        out = op(*(mode.from_tensor(tensor) for tensor in (acts(30, 128, BF16), w.weight, w.scales)))
    assert (out.shape, out.dtype) == ((30, 21), BF16)


def test_rows_too_far_apart_are_refused() -> None:
    w = layer(16, 128, BF16, 128, False)
    far = torch.empty_strided((2, 128), (MAX_STRIDE_TILES, 1), dtype=BF16, device="meta")
    on_meta = [tensor.to("meta") for tensor in (w.weight, w.scales)]
    with pytest.raises(OpError, match=r"x\.stride"):
        check_w4a16("w4a16_linear", far, *on_meta, None, None)


@pytest.mark.parametrize("family", ["gemm_w4a16", "w4a16_linear"])
def test_every_contender_gives_a_right_answer(on_gfx1151: Library, family: str) -> None:
    """On a CPU torch's int4 kernel has another layout, so it is not among them there for every type."""
    run = contest(on_gfx1151, family, W4Shape(24, 10, 160, 32, True), "fp16", sets=2)
    assert set(run.answers) == {"kgen", "torch linear", "torch dequantise, linear"}
    assert run.kernel is not None
    assert run.kernel.name == specs_on("gfx1151")[1].name
    for name in run.answers:
        assert run.verdict(name).ok, f"{name}: {run.verdict(name).words}"


def test_a_kernel_by_name_is_timed_with_its_workspace(on_gfx1151: Library) -> None:
    run = contest(
        on_gfx1151, "gemm_w4a16", W4Shape(20, 10, 256, 128, False), "bf16", sets=1, kernel=specs_on("gfx1151")[0].name
    )
    assert run.verdict().ok, run.verdict().words
