"""torch.ops.kgen.dequantize_w4a16 on real code objects in the emulator, to the bit, and the torch rows that multiply what it writes."""

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
from kgen.ops.check_int4 import check_dequantize
from kgen.ops.reference import int4_linear_torch, int4_weight
from kgen.ops.reference_moe import moe_experts_torch
from kgen.runtime import session
from kgen.runtime.emu import emulation
from kgen.runtime.library import Library
from kgen.spec.arch import arch_facts
from kgen.spec.dequantize_w4a16 import DequantizeW4A16Spec
from kgen.spec.problem import W4Shape
from tests.ops.test_wvsplitk_int4 import OPCHECK, acts, layer
from tests.runtime.tiny import BECAUSE

BF16, FP16 = torch.bfloat16, torch.float16
ARCHES = ("gfx1151", "gfx942", "gfx950")
ops = torch.ops.kgen
op = ops.dequantize_w4a16
pytestmark = pytest.mark.hipcc


def specs_on(arch: str) -> list[DequantizeW4A16Spec]:
    """bf16 with groups of 128, fp16 with zero points and groups of 32; both traits the other way round are left to torch."""
    common = {"arch": arch, "THRDS": arch_facts(arch).wave, "WvPrGrp": 2}
    return [
        DequantizeW4A16Spec.checked(dict(dtype="bf16", GROUP_SIZE=128, UNRL=1) | common),
        DequantizeW4A16Spec.checked(dict(dtype="fp16", GROUP_SIZE=32, HAS_ZP=True, UNRL=2) | common),
        DequantizeW4A16Spec.checked(dict(dtype="bf16", GROUP_SIZE=32, HAS_ZP=True, UNRL=2) | common),
    ]


def build_dequantize(folder: Path, arch: str) -> Path:
    """A build of these kernels alone, with tables in which every linear layer is torch's."""
    specs = specs_on(arch)
    try:
        result = build(specs, arch=arch, jobs=1, folder=folder)
    except MissingPieceError as error:
        pytest.skip(str(error))
    assert not result.failed, result.failed
    traits = 'dtype == "{}" and GROUP_SIZE == {} and {}HAS_ZP'
    rows = [(traits.format(spec.dtype, spec.GROUP_SIZE, "" if spec.HAS_ZP else "not "), spec.name) for spec in specs]
    (folder / "dispatch").mkdir(exist_ok=True)
    for family in ("dequantize_w4a16", "gemm_w4a16", "wvsplitk_int4", "w4a16_linear", "moe_w4a16"):
        answers = [*(rows if family == "dequantize_w4a16" else ()), ("true", "torch")]
        entries = [{"when": when, "use": use, "because": BECAUSE} for when, use in answers]
        table = {"schema": 1, "arch": arch, "family": family, "row": entries}
        (folder / "dispatch" / f"{family}.json").write_text(json.dumps(table))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("dequantize")
    return {arch: build_dequantize(root / arch, arch) for arch in ARCHES}


@pytest.fixture(params=ARCHES)
def library(folders: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Library]:
    yield session.load(folders[request.param], device="emu")
    session.unload()


@pytest.fixture
def on_gfx1151(folders: dict[str, Path]) -> Iterator[Library]:
    yield session.load(folders["gfx1151"], device="emu")
    session.unload()


def tensors(M: int, K: int, dtype: torch.dtype, pad: bool = False) -> tuple[Tensor, Tensor, Tensor | None]:
    """A layer of the first or second kernel's traits with scales of both signs."""
    w = layer(M, K, dtype, 128 if dtype == BF16 else 32, dtype == FP16, pad=pad)
    signs = torch.where(torch.rand(w.scales.shape, generator=torch.Generator().manual_seed(K)) < 0.3, -1, 1)
    return w.weight, w.scales * signs.to(dtype), w.zeros


def bits(x: Tensor) -> Tensor:
    return x.view(torch.int16)


def kernels_of(log: object) -> list[str]:
    return [launch.kernel for launch in log.launches]  # type: ignore[attr-defined]


@pytest.mark.parametrize("dtype", [BF16, FP16])
@pytest.mark.parametrize(("M", "K"), [(1, 128), (37, 384), (8, 1024), (131, 640), (9, 4096)])
def test_weights_are_those_of_torch_to_the_bit(library: Library, dtype: torch.dtype, M: int, K: int) -> None:
    args = tensors(M, K, dtype, pad=True)
    with emulation() as log:
        out = op(*args)
    assert kernels_of(log) == [specs_on(library.arch)[0 if dtype == BF16 else 1].name]
    assert (out.shape, out.dtype, out.is_contiguous()) == ((M, K), dtype, True)
    assert torch.equal(bits(out), bits(int4_weight(*args, dtype)))


def test_groups_that_end_inside_of_128_codes(library: Library) -> None:
    for K in (32, 96, 160, 672):
        args = tensors(13, K, FP16)
        assert torch.equal(bits(op(*args)), bits(int4_weight(*args, FP16)))


def at_both_ends(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Every code with every zero point, at scales of both signs whose products are rounded, below the normal numbers, and infinite; groups of 32."""
    info = torch.finfo(dtype)
    scales = torch.tensor([info.smallest_normal / 2**5, info.smallest_normal * 1.5, info.max, info.max / 8, 1.9921875])
    scales = torch.cat((scales, -scales)).to(dtype)
    code = torch.arange(16, dtype=torch.int32).repeat(2)
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    words = torch.stack([sum(code[8 * w + e] << 4 * i for i, e in enumerate(order)) for w in range(4)]).to(torch.int32)
    zeros = torch.zeros(2, len(scales), dtype=torch.int32)
    for row in range(16):
        zeros[row // 8] |= torch.tensor(row << 4 * (row % 8), dtype=torch.int64).to(torch.int32)
    return words.repeat(16, len(scales)), scales.repeat(16, 1), zeros


@pytest.mark.parametrize("dtype", [BF16, FP16])
def test_scales_at_both_ends_and_signs_of_zero(library: Library, dtype: torch.dtype) -> None:
    args, info = at_both_ends(dtype), torch.finfo(dtype)
    wanted = int4_weight(*args, dtype)
    assert torch.isinf(wanted).any()
    assert (bits(wanted) == -(1 << 15)).any()  # -0, of a negative scale
    assert ((wanted.abs() < info.smallest_normal) & (wanted != 0)).any()
    assert torch.equal(bits(op(*args)), bits(wanted))
    assert library.answered() == {specs_on(library.arch)[2 if dtype == BF16 else 1].name: 1}


def test_a_scale_that_is_no_number_makes_weights_that_are_none(library: Library) -> None:
    weight, scales, _ = tensors(4, 256, BF16)
    scales[2, 1] = torch.nan
    out = op(weight, scales)
    assert torch.equal(torch.isnan(out), torch.isnan(int4_weight(weight, scales, None, BF16)))
    assert int(torch.isnan(out).sum()) == 128


def test_where_the_table_says_torch_the_reference_answers(on_gfx1151: Library) -> None:
    w = layer(5, 128, BF16, 64, True)
    out = op(w.weight, w.scales, w.zeros)
    assert torch.equal(out, int4_weight(w.weight, w.scales, w.zeros, BF16))
    assert on_gfx1151.answered() == {"torch (dequantize_w4a16)": 1}


def test_no_rows_give_no_rows(on_gfx1151: Library) -> None:
    weight, scales, _ = tensors(3, 256, BF16)
    assert op(weight[:0], scales[:0]).shape == (0, 256)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w, s, z: (w.long(), s, z), r"weight\.dtype"),
        (lambda w, s, z: (w, s.float(), z), r"scales\.dtype"),
        (lambda w, s, z: (w, s, z.long()), r"zeros\.dtype"),
        (lambda w, s, z: (w[0], s, z), r"weight\.shape, scales\.shape"),
        (lambda w, s, z: (w, s[:, :-1], z), r"scales\.shape"),
        (lambda w, s, z: (w, s, z[:, :-1]), r"zeros\.shape"),
        (lambda w, s, z: (w.repeat_interleave(2, 1)[:, ::2], s, z), r"weight\.stride"),
        (lambda w, s, z: (torch.nn.functional.pad(w, (0, 1))[:, :-1], s, z), "a multiple of 4"),
        (lambda w, s, z: (w, s.requires_grad_(), z), "requires_grad"),
    ],
)
def test_what_cannot_be_is_refused_by_op_and_fake_in_the_same_words(on_gfx1151: Library, change, words: str) -> None:
    args = change(*tensors(16, 128, FP16))
    with pytest.raises(OpError, match=words) as real:
        op(*args)
    with pytest.raises(OpError) as checked:
        check_dequantize("dequantize_w4a16", *args)
    assert str(checked.value) == str(real.value)


def test_codes_that_do_not_begin_at_sixteen_bytes_are_refused(on_gfx1151: Library) -> None:
    weight, scales, zeros = tensors(16, 128, FP16)
    moved = torch.empty(weight.numel() + 1, dtype=torch.int32)[1:].view(weight.shape).copy_(weight)
    with pytest.raises(OpError, match=r"weight\.data_ptr"):
        op(moved, scales, zeros)


def test_opcheck_and_the_fake(on_gfx1151: Library) -> None:
    args = tensors(21, 128, FP16)
    for sample in (args, tensors(21, 128, BF16)[:2]):
        results = torch.library.opcheck(op.default, sample, test_utils=OPCHECK)
        assert set(results.values()) == {"SUCCESS"}, results
    with FakeTensorMode() as mode:
        out = op(*(mode.from_tensor(tensor) for tensor in args))
    assert (out.shape, out.dtype) == ((21, 128), FP16)


def test_it_compiles(on_gfx1151: Library) -> None:
    weight, scales, _ = tensors(21, 128, BF16)
    x = acts(10, 128, BF16)

    def block(x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, op(weight, scales * 2))

    assert torch.equal(torch.compile(block, backend="aot_eager", fullgraph=True)(x), block(x))


# ---- torch rows


@pytest.mark.parametrize("linear", [ops.gemm_w4a16, ops.w4a16_linear, ops.wvsplitk_int4])
def test_torch_rows_of_the_linear_ops_multiply_what_it_writes(library: Library, linear) -> None:
    args, x, bias = tensors(40, 384, FP16, pad=True), acts(6, 384, FP16), torch.randn(40).to(FP16)
    for added in (None, bias):
        with emulation() as log:
            out = linear(x, *args, added)
        assert kernels_of(log) == [specs_on(library.arch)[1].name]
        assert torch.equal(out, int4_linear_torch(x, *args, added))
    family = linear.__name__
    assert library.answered() == {f"torch ({family})": 2, specs_on(library.arch)[1].name: 2}


def test_torch_rows_without_its_kernel_dequantise_by_torch(on_gfx1151: Library) -> None:
    w, x = layer(24, 256, FP16, 64, False), acts(3, 256, FP16)
    assert torch.equal(ops.w4a16_linear(x, w.weight, w.scales), int4_linear_torch(x, w.weight, w.scales))
    assert on_gfx1151.answered() == {"torch (w4a16_linear)": 1}


def test_torch_rows_where_the_kernel_was_not_built_dequantise_by_torch(on_gfx1151: Library, tmp_path: Path) -> None:
    """The table of another build names a kernel that this one does not have."""
    folder = build_dequantize(tmp_path / "gfx1151", "gfx1151")
    path = folder / "dispatch" / "dequantize_w4a16.json"
    path.write_text(path.read_text().replace("WvPrGrp2", "WvPrGrp4"))
    other = session.load(folder, device="emu")
    args, x = tensors(24, 256, BF16), acts(3, 256, BF16)
    assert torch.equal(ops.w4a16_linear(x, *args), int4_linear_torch(x, *args))
    assert other.answered() == {"torch (w4a16_linear)": 1}
    with pytest.raises(MissingPieceError, match="kernel not built"):
        op(*args)


def test_torch_rows_take_codes_from_anywhere(on_gfx1151: Library) -> None:
    weight, scales, zeros = tensors(16, 128, FP16)
    moved = torch.empty(weight.numel() + 1, dtype=torch.int32)[1:].view(weight.shape).copy_(weight)
    x = acts(2, 128, FP16)
    assert torch.equal(ops.w4a16_linear(x, moved, scales, zeros), int4_linear_torch(x, weight, scales, zeros))


Stack = tuple[Tensor, Tensor, "Tensor | None"]


def stack(E: int, rows: int, K: int, dtype: torch.dtype, apart: int = 0) -> Stack:
    """A stack of experts, each other than the next, with room for `apart` rows between two."""
    each = [tensors(rows + apart, K, dtype) for _ in range(E)]
    weight = torch.stack([weight ^ 0x1111111 * index for index, (weight, _, _) in enumerate(each)])
    scales = torch.stack([scales * (1 + index) for index, (_, scales, _) in enumerate(each)])
    zeros = (
        None if dtype == BF16 else torch.stack([z ^ 5 * index for index, (_, _, z) in enumerate(each) if z is not None])
    )
    return weight[:, :rows], scales[:, :rows], None if zeros is None else zeros[:, : rows // 8]


@pytest.mark.parametrize("dtype", [BF16, FP16])
@pytest.mark.parametrize(("apart", "launches"), [(0, 2), (8, 6)])
def test_torch_rows_of_a_mixture_write_a_stack_at_once_where_its_rows_lie_at_one_distance(
    library: Library, dtype: torch.dtype, apart: int, launches: int
) -> None:
    E, inner, hidden = 3, 128, 256
    w13, w2 = stack(E, 2 * inner, hidden, dtype, apart), stack(E, hidden, inner, dtype, apart)
    ids = torch.tensor([[0, 2], [1, 0], [2, -1], [1, 2]], dtype=torch.int32)
    x, weights = acts(4, hidden, dtype), torch.rand(4, 2, generator=torch.Generator().manual_seed(3))
    with emulation() as log:
        out = ops.moe_experts_w4a16(x, ids, weights, *w13, *w2)
    spec = specs_on(library.arch)[0 if dtype == BF16 else 1]
    assert kernels_of(log) == launches * [spec.name]
    assert torch.equal(out, moe_experts_torch(x, ids, weights, w13, w2))
    assert library.answered() == {"torch (moe_w4a16)": 1, spec.name: launches}


# ---- bench


@pytest.mark.parametrize("family", ["gemm_w4a16", "w4a16_linear"])
def test_dequantising_and_torchs_linear_is_a_contender(on_gfx1151: Library, family: str) -> None:
    run = contest(on_gfx1151, family, W4Shape(24, 10, 160, 32, True), "fp16", sets=2)
    assert "kgen dequantise, linear" in run.answers
    assert run.verdict("kgen dequantise, linear").ok
    with emulation() as log:
        run.calls("kgen dequantise, linear")[1]()
    assert kernels_of(log) == [specs_on("gfx1151")[1].name]
