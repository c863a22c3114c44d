"""torch.ops.kgen.gemm_4bit on real code objects in the emulator, against fp64 on the dequantised weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import kgen.ops  # noqa: F401
from kgen.build import build
from kgen.errors import MissingPieceError, OpError
from kgen.ops.check_4bit import check_4bit
from kgen.ops.gemm_4bit import gemm_4bit_reference
from kgen.ops.pack.checkpoint import pack_checkpoint
from kgen.ops.pack.load import load_codes4
from kgen.ops.quantise_4bit import Quantised4Bit, dequantise_4bit, own_table, quantise_4bit
from kgen.runtime import session
from kgen.runtime.emu import emulation
from kgen.runtime.library import Library
from kgen.spec.arch import arch_facts
from kgen.spec.codes4 import table_error
from kgen.spec.gemm_4bit import Gemm4BitSpec
from tests.ops.pack.checkpoints import write
from tests.runtime.tiny import BECAUSE

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
NAMES = {BF16: "bf16", FP16: "fp16", FP32: "fp32"}
UNIT = {BF16: 2.0**-8, FP16: 2.0**-11, FP32: 2.0**-24}  # half a unit in the last place
KINDS = [("nf4", False), ("nf4", True), ("fp4", False)]
ARCHES = ("gfx1151", "gfx942")
OPCHECK = ("test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
op = torch.ops.kgen.gemm_4bit


def specs_on(arch: str) -> list[Gemm4BitSpec]:
    """Four rows of every type, plain and nested NF4 and plain FP4."""
    facts = arch_facts(arch)
    matrix = not facts.matrix.startswith("wmma")
    out = []
    for dtype in ("bf16", "fp16", "fp32"):
        for code, nested in KINDS:
            own: dict[str, Any] = {"TABLE": "lds", "COPIES": 1} if dtype == "fp32" else {"TABLE": "perm"}
            rows = 16 if matrix and dtype != "fp32" else 2
            out.append(
                Gemm4BitSpec(
                    arch=arch, dtype=dtype, N=4, THRDS=facts.wave, YTILE=rows, WvPrGrp=2, UNRL=1, A_CHUNK=16,
                    GROUP_SIZE=32, FP4=code == "fp4", NESTED=nested, STAGING="window", **own,
                )
            )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("gemm_4bit")
    return {arch: build_small(root / arch, specs_on(arch)) for arch in ARCHES}


def build_small(folder: Path, specs: list[Gemm4BitSpec]) -> Path:
    """The kernels, of one target, and a table that picks them for up to 64 rows where K is whole groups."""
    arch = specs[0].arch
    try:
        result = build(specs, arch=arch, jobs=1, folder=folder)
    except MissingPieceError as error:
        pytest.skip(str(error))
    assert not result.failed, result.failed
    rows = [{"when": "K % 32 != 0 or N < 1", "use": "torch", "because": BECAUSE}]
    for one in specs:
        kind = f"{'' if one.FP4 else 'not '}FP4 and {'' if one.NESTED else 'not '}NESTED"
        when = f'dtype == "{one.dtype}" and {kind} and N <= 64'
        rows.append({"when": when, "use": one.name, "because": BECAUSE})
    rows.append({"when": "true", "use": "torch", "because": BECAUSE})
    (folder / "dispatch").mkdir(exist_ok=True)
    table = {"schema": 1, "arch": arch, "family": "gemm_4bit", "row": rows}
    (folder / "dispatch" / "gemm_4bit.json").write_text(json.dumps(table))
    return folder


@pytest.fixture(params=ARCHES)
def library(folders: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Library]:
    yield session.load(folders[request.param], device="emu")
    session.unload()


@pytest.fixture
def on_gfx1151(folders: dict[str, Path]) -> Iterator[Library]:
    yield session.load(folders["gfx1151"], device="emu")
    session.unload()


def problem(
    N: int, M: int, K: int, dtype: torch.dtype, code: str = "nf4", blocksize: int = 64, nested: bool = False
) -> tuple[Tensor, Quantised4Bit]:
    generator = torch.Generator().manual_seed(N + M + K)
    x = torch.randn(N, K, generator=generator).to(dtype)
    return x, quantise_4bit(torch.randn(M, K, generator=generator), code, blocksize, nested)  # type: ignore[arg-type]


def call(x: Tensor, w: Quantised4Bit, bias: Tensor | None = None) -> Tensor:
    out: Tensor = op(
        x, w.packed, w.shape, w.absmax, w.blocksize, w.code, bias, w.absmax_8bit, w.absmax_code, w.absmax_offset
    )
    return out


def assert_right(
    out: Tensor, x: Tensor, weight: Quantised4Bit, bias: Tensor | None = None, unit: float | None = None
) -> None:
    """Within half a unit of the output, the additions' error, and what rounding the table costs, of fp64 on the dequantised weights.

    unit: error of each weight relative to itself, where it is not the kernels' table that multiplies
    """
    reference = gemm_4bit_reference(x, weight, bias)
    size = x.double().abs() @ dequantise_4bit(weight).double().abs().T
    table = table_error(weight.code, NAMES[x.dtype]) if unit is None else unit
    added = (x.shape[-1] / 16 + 48) * 2.0**-23 * (size + (0 if bias is None else bias.double().abs()))
    allowed = UNIT[x.dtype] * (reference.abs() + table * size + added) + table * size + added + 2.0**-24
    assert out.shape == reference.shape
    assert out.dtype == x.dtype
    assert out.is_contiguous()
    worst = float(((out.double() - reference).abs() / allowed).max())
    assert worst <= 1, worst


@pytest.mark.hipcc
@pytest.mark.parametrize("dtype", list(NAMES), ids=NAMES.get)
@pytest.mark.parametrize(("code", "nested"), KINDS)
@pytest.mark.parametrize(
    ("N", "M", "K", "blocksize"), [(1, 1, 32, 32), (3, 37, 544, 64), (4, 33, 1024, 4096), (11, 18, 160, 128)]
)
def test_results_are_within_the_bound_of_fp64_on_the_dequantised_weights(
    library, dtype, code, nested, N, M, K, blocksize
):
    x, w = problem(N, M, K, dtype, code, blocksize, nested)
    with emulation() as log:
        out = call(x, w)
    assert_right(out, x, w)
    assert len(log.launches) == 1
    assert (f"gemm_4bit_{NAMES[dtype]}" in log.launches[0].kernel, "FP4" in log.launches[0].kernel) == (
        True,
        code == "fp4",
    )


@pytest.mark.hipcc
@pytest.mark.parametrize("dtype", list(NAMES), ids=NAMES.get)
def test_all_forms_of_bias_are_added(library, dtype):
    x, w = problem(3, 21, 128, dtype)
    per_row = torch.randn(3, 32).to(dtype)[:, :21]
    for bias in (per_row[0].contiguous(), per_row.contiguous(), per_row):
        assert_right(call(x, w, bias), x, w, bias)


@pytest.mark.hipcc
def test_rows_may_be_padded_and_of_any_rank(on_gfx1151):
    x, w = problem(6, 21, 128, BF16)
    wide = torch.zeros(6, 160, dtype=BF16)
    wide[:, :128] = x
    dense = call(x, w)
    assert torch.equal(call(wide[:, :128], w), dense)
    assert torch.equal(call(x.reshape(2, 3, 128), w), dense.reshape(2, 3, 21))
    assert torch.equal(call(x[0], w), dense[0])


@pytest.mark.hipcc
def test_zero_activations_leave_the_bias_exactly(library):
    x, w = problem(3, 21, 128, FP16)
    bias = torch.randn(21).to(FP16)
    assert torch.equal(call(torch.zeros_like(x), w, bias), bias.expand(3, 21))


@pytest.mark.hipcc
def test_a_nan_stays_in_its_row(library):
    x, w = problem(6, 21, 128, FP16)
    clean = call(x, w)
    x[4, 77] = float("nan")
    out = call(x, w)
    assert bool(out[4].isnan().all())
    assert torch.equal(out[[0, 1, 2, 3, 5]], clean[[0, 1, 2, 3, 5]])


@pytest.mark.hipcc
@pytest.mark.parametrize("stored", [BF16, FP32])
def test_codes_may_be_stored_as_another_type(on_gfx1151, stored):
    x, w = problem(2, 21, 128, BF16)
    other = w.packed.reshape(-1).view(stored).unsqueeze(1)
    assert torch.equal(op(x, other, w.shape, w.absmax, 64, "nf4"), call(x, w))


@pytest.mark.hipcc
def test_a_packed_checkpoint_runs(on_gfx1151, tmp_path):
    x, w = problem(3, 21, 512, BF16, nested=True)
    said = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [21, 512]}
    said |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": float(w.absmax_offset)}
    saved = {
        "": w.packed,
        ".absmax": w.absmax_8bit,
        ".nested_absmax": w.absmax,
        ".nested_quant_map": w.absmax_code.clone(),
    }
    saved |= {
        ".quant_map": own_table("nf4"),
        ".quant_state.bitsandbytes__nf4": torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8),
    }
    tensors = {f"model.q_proj.weight{name}": tensor for name, tensor in saved.items()}
    source = write(tmp_path / "in", tensors, {"quant_method": "bitsandbytes", "load_in_4bit": True})
    pack_checkpoint(source, tmp_path / "out")
    assert torch.equal(call(x, load_codes4(tmp_path / "out", "model.q_proj")), call(x, w))


@pytest.mark.hipcc
@pytest.mark.parametrize(("N", "K"), [(65, 128), (3, 120), (2, 33)])
@pytest.mark.parametrize("dtype", list(NAMES), ids=NAMES.get)
def test_torch_answers_what_no_kernel_takes(on_gfx1151, N, K, dtype):
    x, w = problem(N, 22, K, dtype)
    before = session.stats().get("torch (gemm_4bit)", 0)
    assert_right(call(x, w), x, w, unit=UNIT[dtype])
    assert session.stats()["torch (gemm_4bit)"] == before + 1


@pytest.mark.hipcc
def test_no_rows_give_no_rows(on_gfx1151):
    x, w = problem(1, 21, 128, BF16)
    assert call(x[:0], w).shape == (0, 21)


@pytest.mark.hipcc
def test_the_op_registers_as_torch_wants_it(on_gfx1151):
    x, w = problem(2, 21, 128, BF16, nested=True)
    args = (x, w.packed, w.shape, w.absmax, 64, "nf4", None, w.absmax_8bit, w.absmax_code, w.absmax_offset)
    torch.library.opcheck(op, args, test_utils=OPCHECK)


def test_the_fake_has_the_same_shape_and_the_same_words():
    x, w = problem(2, 21, 128, BF16)
    with FakeTensorMode() as mode:
        fake = op(mode.from_tensor(x), mode.from_tensor(w.packed), [21, 128], mode.from_tensor(w.absmax), 64, "nf4")
        assert (fake.shape, fake.dtype) == ((2, 21), BF16)
        with pytest.raises(OpError, match="blocksize"):
            op(mode.from_tensor(x), mode.from_tensor(w.packed), [21, 128], mode.from_tensor(w.absmax), 48, "nf4")


def changed(**values: Any) -> dict[str, Any]:
    x, w = problem(2, 21, 128, BF16)
    given = {"A": x, "B": w.packed, "shapeB": [21, 128], "absmax": w.absmax, "blocksize": 64, "quant_type": "nf4"}
    return given | values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"A": torch.zeros(2, 128, dtype=torch.float64)}, "A.dtype"),
        ({"A": torch.zeros(2, 64, dtype=BF16)}, "the same last size K"),
        ({"A": torch.zeros(128, 2, dtype=BF16).T}, "A.stride"),
        ({"B": torch.zeros(100, dtype=torch.uint8)}, "1344"),
        ({"B": torch.zeros(1344, dtype=torch.int8)}, "B.dtype"),
        ({"absmax": torch.zeros(41)}, "42"),
        ({"absmax": torch.zeros(42, dtype=FP16)}, "absmax.dtype"),
        ({"quant_type": "af4"}, "quant_type"),
        ({"bias": torch.zeros(20, dtype=BF16)}, "bias.shape"),
        ({"bias": torch.zeros(21, dtype=FP16)}, "bias.dtype"),
        ({"absmax_8bit": torch.zeros(42, dtype=torch.uint8)}, "absmax_code"),
        ({"shapeB": [21]}, "shapeB"),
    ],
)
def test_what_is_wrong_is_said(values, words):
    with pytest.raises(OpError, match=words), FakeTensorMode(allow_non_fake_inputs=True):
        op(**changed(**values))


def test_weights_beyond_32_bit_indices_are_refused():
    M, K = (1 << 20) + 1, 1 << 15
    tensors = {"A": ((1, K), BF16), "B": ((M * K // 2,), torch.uint8), "absmax": ((M * K // 64,), torch.float32)}
    on_meta = {name: torch.empty(shape, dtype=dtype, device="meta") for name, (shape, dtype) in tensors.items()}
    nested = dict.fromkeys(("absmax_8bit", "absmax_code", "absmax_offset"))
    with pytest.raises(OpError, match="1048577 rows, 4096 elements apart"):
        check_4bit("gemm_4bit", **on_meta, **nested, bias=None, shape=[M, K], blocksize=64, code="nf4")
