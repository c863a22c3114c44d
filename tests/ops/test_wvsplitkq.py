"""torch.ops.kgen.wvsplitkq on real code objects in the emulator, against fp64; what it shares with wvsplitk is tested there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import kgen.ops  # noqa: F401
from kgen.errors import OpError
from kgen.ops.check import check_scaled_linear
from kgen.ops.reference import scaled_linear_reference
from kgen.runtime import session
from kgen.runtime.emu import emulation
from kgen.runtime.library import Library
from kgen.spec.arch import ARCHES, arch_facts
from kgen.spec.wvsplitkq import WvSplitKQSpec
from tests.ops.dense import build_dense

FN, FNUZ = torch.float8_e4m3fn, torch.float8_e4m3fnuz
BF16, FP16 = torch.bfloat16, torch.float16
KINDS = {"gfx1201": FN, "gfx942": FNUZ}  # the emulated targets of these tests
OPCHECK = ("test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
op = torch.ops.kgen.wvsplitkq


def specs_on(arch: str) -> list[WvSplitKQSpec]:
    """bf16 for one row and fp16 for three."""
    matrix = {"YTILE": 16, "MFMA": "16x16x32"} if arch_facts(arch).mfma_fp8 else {"YTILE": 2}
    wave = arch_facts(arch).wave
    return [
        WvSplitKQSpec(arch=arch, dtype=dtype, N=N, THRDS=wave, WvPrGrp=2, UNRL=1, **matrix)
        for dtype, N in (("bf16", 1), ("fp16", 3))
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("wvsplitkq")
    return {arch: build_dense(root / arch, {"wvsplitkq": specs_on(arch)}) for arch in KINDS}


@pytest.fixture(params=KINDS)
def library(folders: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Library]:
    yield session.load(folders[request.param], device="emu")
    session.unload()


@pytest.fixture
def on_gfx1201(folders: dict[str, Path]) -> Iterator[Library]:
    yield session.load(folders["gfx1201"], device="emu")
    session.unload()


def fp8(N: int, M: int, K: int, kind: torch.dtype, pad: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x [N, K], weight [M, K], and their scales; `pad` elements behind each row."""
    generator = torch.Generator().manual_seed(N + M + K)
    x = torch.randn(N, K + pad, generator=generator).to(kind)[:, :K]
    weight = torch.randn(M, K + pad, generator=generator).to(kind)[:, :K]
    return x, weight, torch.tensor(0.25), torch.tensor([1.5])


def assert_right(out: Tensor, *tensors: Tensor | None) -> None:
    """The bound of tests.runtime.tiny.assert_close: fp8 products and the scales are exact in fp32, two more multiplications by scales."""
    x, weight, x_scale, weight_scale, *bias = tensors
    given = bias[0] if bias else None
    reference = scaled_linear_reference(x, weight, x_scale, weight_scale, given)
    size = scaled_linear_reference(
        x.float().abs(), weight.float().abs(), x_scale, weight_scale, None if given is None else given.abs()
    )
    summed = (x.shape[-1] + 4) * 2.0**-23 * size
    allowed = (2.0**-8 if out.dtype == BF16 else 2.0**-11) * (reference.abs() + summed) + summed + 2.0**-24
    assert out.shape == reference.shape
    assert out.is_contiguous()
    assert bool(((out.double() - reference).abs() <= allowed).all())


@pytest.mark.hipcc
@pytest.mark.parametrize(("N", "dtype"), [(1, BF16), (3, FP16)])
@pytest.mark.parametrize(("M", "K"), [(1, 16), (37, 528), (64, 4096)])
def test_results_are_within_the_bound_of_fp64(library: Library, N: int, dtype: torch.dtype, M: int, K: int) -> None:
    data = fp8(N, M, K, KINDS[library.arch])
    with emulation() as log:
        out = op(*data, None, dtype)
    assert out.dtype == dtype
    assert_right(out, *data)
    assert [f"_N{N}_" in launch.kernel for launch in log.launches] == [True]


@pytest.mark.hipcc
def test_the_output_is_bf16_unless_said_otherwise(library: Library) -> None:
    data = fp8(1, 20, 64, KINDS[library.arch])
    assert op(*data).dtype == BF16
    assert torch.equal(op(*data), op(*data, None, BF16))


@pytest.mark.hipcc
def test_all_forms_of_bias_are_added(library: Library) -> None:
    data = fp8(3, 21, 144, KINDS[library.arch])
    per_row = torch.randn(3, 32).to(FP16)[:, :21]
    for bias in (per_row[0].contiguous(), per_row.contiguous(), per_row, per_row[:1].expand(3, 21)):
        assert_right(op(*data, bias, FP16), *data, bias)


@pytest.mark.hipcc
def test_zero_activations_leave_the_bias_exactly(library: Library) -> None:
    x, weight, *scales = fp8(3, 21, 144, KINDS[library.arch])
    bias = torch.randn(21).to(FP16)
    assert torch.equal(op(torch.zeros_like(x), weight, *scales, bias, FP16), bias.expand(3, 21))
    assert not op(torch.zeros_like(x), weight, *scales, None, FP16).any()


@pytest.mark.hipcc
def test_a_nan_stays_in_its_row(library: Library) -> None:
    x, weight, *scales = fp8(3, 21, 144, KINDS[library.arch])
    clean = op(x, weight, *scales, None, FP16)
    rows = x.float()
    rows[1, 77] = float("nan")
    out = op(rows.to(x.dtype), weight, *scales, None, FP16)
    assert out[1].isnan().all()
    assert torch.equal(out[::2], clean[::2])


@pytest.mark.hipcc
def test_padded_rows_give_the_same_bits(library: Library) -> None:
    kind = KINDS[library.arch]
    padded = fp8(3, 21, 144, kind, pad=32)
    dense = [tensor.contiguous() for tensor in padded]
    assert torch.equal(op(*padded, None, FP16), op(*dense, None, FP16))
    with emulation() as log:
        op(*padded, None, FP16)
    assert len(log.launches) == 1


@pytest.mark.hipcc
def test_any_rank_of_x_is_folded_and_restored_and_empty_is_empty(library: Library) -> None:
    x, weight, *scales = fp8(3, 21, 144, KINDS[library.arch])
    want = op(x, weight, *scales, None, FP16)
    assert torch.equal(op(x.reshape(1, 3, 1, 144), weight, *scales, None, FP16).reshape(3, 21), want)
    assert op(x[0], weight, *scales).shape == (21,)
    with emulation() as log:
        assert op(x[:0], weight, *scales).shape == (0, 21)
        assert op(x[:0], weight, *scales).dtype == BF16
    assert not log.launches


@pytest.mark.hipcc
def test_scales_are_read_when_the_kernel_runs(library: Library) -> None:
    """In place changes count, so nothing was copied to the host when the plan was made."""
    x, weight, x_scale, weight_scale = fp8(1, 21, 144, KINDS[library.arch])
    before = op(x, weight, x_scale, weight_scale)
    x_scale.mul_(2)
    assert torch.equal(op(x, weight, x_scale, weight_scale), 2 * before)


@pytest.mark.hipcc
@pytest.mark.parametrize(("N", "K"), [(1, 61), (2, 144), (3, 24), (40, 64)])
def test_what_no_kernel_takes_is_torch_and_counted(library: Library, N: int, K: int) -> None:
    data = fp8(N, 21, K, KINDS[library.arch])
    bias = torch.randn(N, 21).to(FP16)
    with emulation() as log:
        assert_right(op(*data, bias, FP16), *data, bias)
    assert not log.launches
    assert session.stats() == {"torch (wvsplitkq)": 1}


@pytest.mark.hipcc
def test_the_other_kind_of_fp8_is_refused_by_both_names_before_a_launch(library: Library) -> None:
    own = KINDS[library.arch]
    other = FNUZ if own == FN else FN
    with emulation() as log, pytest.raises(OpError) as caught:
        op(*fp8(1, 21, 144, other))
    assert not log.launches
    assert f"x.dtype, weight.dtype  {other}" in str(caught.value)
    assert f"{own}, the 8-bit float of {library.arch}" in str(caught.value)


@pytest.mark.hipcc
def test_misaligned_tensors_are_refused_before_the_launch(on_gfx1201: Library) -> None:
    _, weight, *scales = fp8(1, 21, 144, FN, pad=16)
    flat = torch.zeros(200).to(FN)
    with emulation() as log, pytest.raises(OpError, match=r"x\.data_ptr\(\) +8 bytes past"):
        op(flat[8:152].reshape(1, 144), weight, *scales)
    assert not log.launches


@pytest.mark.hipcc
def test_opcheck_passes(on_gfx1201: Library) -> None:
    x, weight, *scales = fp8(3, 21, 144, FN)
    bias = torch.randn(21).to(FP16)
    samples = [
        (x[:1], weight, *scales),
        (x, weight, *scales, bias, FP16),
        (x.reshape(3, 1, 144), weight, *scales, None, FP16),
        (x[:0], weight, *scales),
    ]
    for sample in samples:
        results = torch.library.opcheck(op.default, sample, test_utils=OPCHECK)
        assert set(results.values()) == {"SUCCESS"}, results


@pytest.mark.hipcc
def test_no_input_is_changed_and_the_output_is_new(on_gfx1201: Library) -> None:
    """What opcheck's test_schema is for, which multiplies its inputs and cannot do that in fp8."""
    x, weight, *scales = fp8(3, 21, 144, FN)
    tensors = [x, weight, *scales, torch.randn(21).to(FP16)]
    before = [tensor.clone() for tensor in tensors]
    out = op(*tensors, FP16)
    for tensor, old in zip(tensors, before, strict=True):
        assert (
            torch.equal(tensor.view(torch.uint8), old.view(torch.uint8)) if tensor.dim() else torch.equal(tensor, old)
        )
        assert out.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr()


@pytest.mark.hipcc
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_models_run_the_same_kernels(on_gfx1201: Library, backend: str) -> None:
    torch._dynamo.reset()
    _, weight, x_scale, weight_scale = fp8(1, 24, 144, FN)

    def model(x: Tensor) -> Tensor:
        return torch.relu(op((x * 2).to(FN), weight, x_scale, weight_scale, None, BF16)) + 1

    compiled = torch.compile(model, backend=backend, fullgraph=True)
    with torch.inference_mode():
        for shape in ((1, 144), (1, 1, 144)):
            x = torch.randn(shape)
            want = model(x)
            with emulation() as log:
                out = compiled(x)
            assert len(log.launches) == 1
            assert torch.equal(out, want)


@pytest.mark.hipcc
def test_a_target_without_fp8_answers_by_torch_for_both_kinds(tmp_path: Path) -> None:
    """gfx1151: the shipped table says so, beside the kernels of another family."""
    from tests.runtime.tiny import SPECS

    folder = build_dense(tmp_path / "gfx1151", {"wvsplitk": SPECS[:1]})
    session.load(folder, device="emu")
    for kind in (FN, FNUZ):
        data = fp8(2, 21, 144, kind)
        assert_right(op(*data), *data)
    assert session.stats() == {"torch (wvsplitkq)": 2}
    session.unload()


# ---- the check: no kernel, no compiler


def refused(*args: object) -> str:
    """The words of the refusal, which the op's fake gives too."""
    x, weight, x_scale, weight_scale, bias, out = [*args, None, None][:6]
    with pytest.raises(OpError) as caught:
        check_scaled_linear("wvsplitkq", x, weight, x_scale, weight_scale, bias, out or BF16)
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        fakes = [
            mode.from_tensor(tensor) if tensor is not None else None
            for tensor in (x, weight, x_scale, weight_scale, bias)
        ]
        with pytest.raises(OpError) as faked:
            op(*fakes, out)
    assert str(faked.value) == str(caught.value)
    return str(caught.value)


def test_wrong_types_are_all_named_at_once() -> None:
    x, weight, x_scale, weight_scale = fp8(2, 10, 64, FN)
    words = refused(x.float(), weight, x_scale.double(), weight_scale.half(), torch.zeros(10), FP16)
    assert "x.dtype  torch.float32" in words
    assert "torch.float8_e4m3fn or torch.float8_e4m3fnuz" in words
    assert "weight.dtype  torch.float8_e4m3fn" in words
    assert "x_scale.dtype  torch.float64" in words
    assert "weight_scale.dtype  torch.float16" in words
    assert "bias.dtype  torch.float32" in words
    assert "out_dtype  torch.float32" in refused(x, weight, x_scale, weight_scale, None, torch.float32)
    assert "weight.dtype  torch.float8_e4m3fnuz" in refused(x, weight.float().to(FNUZ), x_scale, weight_scale)


def test_a_bias_is_of_the_outputs_type_which_is_bf16_by_default() -> None:
    data = fp8(2, 10, 64, FN)
    assert "torch.bfloat16, as the output" in refused(*data, torch.zeros(10, dtype=FP16))
    check_scaled_linear("wvsplitkq", *data, torch.zeros(10, dtype=FP16), FP16)


def test_scales_have_one_element() -> None:
    x, weight, x_scale, weight_scale = fp8(2, 10, 64, FN)
    assert "weight_scale.shape  [10]" in refused(x, weight, x_scale, torch.ones(10))
    check_scaled_linear("wvsplitkq", x, weight, torch.ones(1, 1), weight_scale, None, BF16)


def test_tensors_on_two_devices_are_refused() -> None:
    x, weight, x_scale, weight_scale = fp8(2, 10, 64, FN)
    with pytest.raises(OpError, match=r"x_scale\.device +meta"):
        check_scaled_linear("wvsplitkq", x, weight, x_scale.to("meta"), weight_scale, None, BF16)


def test_rows_are_sixteen_elements_apart_and_not_too_far() -> None:
    x, weight, *scales = fp8(2, 10, 64, FN, pad=8)
    words = refused(x, weight, *scales)
    assert "x.stride  rows 72 elements apart" in words
    assert "a multiple of 16" in words
    far = torch.empty(1, device="meta", dtype=FN).as_strided((2, 64), (1 << 27, 1))
    meta = [tensor.to("meta") for tensor in (weight.contiguous(), *scales)]
    with pytest.raises(OpError, match="below 134217728"):
        check_scaled_linear("wvsplitkq", far, *meta, None, BF16)


def test_offsets_inside_the_rows_of_a_tile_fit_32_bits_at_the_largest_stride() -> None:
    from kgen.ops.check import MAX_STRIDE_FP8

    for arch, facts in ARCHES.items():
        rows = 32 if facts.mfma_fp8 else 1
        assert rows * (MAX_STRIDE_FP8 - 16) < 1 << 32, arch
