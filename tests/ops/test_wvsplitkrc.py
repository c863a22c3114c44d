"""torch.ops.kgen.wvsplitkrc on real code objects in the emulator: results, the choice of the order of addition, workspaces."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import kgen
from kgen import settings
from kgen.emu import Options
from kgen.errors import EmulatorError, OpError
from kgen.runtime import session
from kgen.runtime.emu import emulation
from kgen.runtime.library import Library
from kgen.runtime.workspace import pool_of
from tests.ops.splitk import ARCH, build_splitk, spec
from tests.runtime.tiny import assert_close, tensors

pytestmark = pytest.mark.hipcc
op = torch.ops.kgen.wvsplitkrc
BF16, FP16 = torch.bfloat16, torch.float16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_splitk(tmp_path_factory.mktemp("splitk"))


@pytest.fixture(params=["emu", "hip"])
def library(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """The build in the emulator: by its own driver, and by hip-python over the emulated HIP runtime."""
    import kgen.ops  # noqa: F401

    monkeypatch.delenv("KGEN_FAST_SKINNY_GEMM", raising=False)
    if request.param == "hip":
        pytest.importorskip("hip")
        monkeypatch.setenv("KGEN_EMU_ARCH", ARCH)
    yield session.load(folder, device=request.param)
    settings.set_deterministic(None)
    session.unload()


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("N", [9, 13, 16, 17, 41, 64])
def test_any_number_of_rows_is_right(library: Library, N: int, deterministic: bool) -> None:
    x, weight = tensors(N, 37, 520, BF16)
    assert_close(op(x, weight, deterministic=deterministic), x, weight)
    assert list(session.stats()) == [spec(16 if N <= 16 else 64, deterministic=deterministic).name]


def test_all_forms_of_bias_are_added(library: Library) -> None:
    x, weight = tensors(11, 21, 520, BF16)
    per_row = torch.randn(11, 32).to(BF16)[:, :21]
    for bias in (per_row[0].contiguous(), per_row.contiguous(), per_row, per_row[:1].expand(11, 21)):
        assert_close(op(x, weight, bias), x, weight, bias)


def test_three_dimensions_are_folded_and_restored(library: Library) -> None:
    x, weight = tensors(12, 21, 520, BF16)
    bias = torch.randn(3, 4, 21).to(BF16)
    out = op(x.reshape(3, 4, 520), weight, bias)
    assert out.shape == (3, 4, 21)
    assert_close(out, x.reshape(3, 4, 520), weight, bias)


def test_padded_rows_change_no_bit(library: Library) -> None:
    x, weight = tensors(20, 21, 600, BF16)
    x_view, weight_view = x[:, 8:544], weight[:, :536]
    out = op(x_view, weight_view)
    assert_close(out, x_view, weight_view)
    assert torch.equal(out, op(x_view.contiguous(), weight_view.contiguous()))


@pytest.mark.parametrize(("N", "M", "K"), [(8, 21, 136), (65, 21, 136), (20, 1032, 136), (16, 21, 132)])
def test_what_the_table_gives_to_torch_is_torch(library: Library, N: int, M: int, K: int) -> None:
    x, weight = tensors(N, M, K, BF16)
    assert torch.equal(op(x, weight), torch.nn.functional.linear(x, weight))
    assert session.stats() == {"torch (wvsplitkrc)": 1}


def test_empty_problems_give_empty_results_without_a_launch(library: Library) -> None:
    x, weight = tensors(16, 21, 136, BF16)
    with emulation() as log:
        assert op(x[:0], weight).shape == (0, 21)
        assert op(x, weight[:0]).shape == (16, 0)
    assert not log.launches


# ---- the order of addition


def picked(**kwargs: bool | None) -> str:
    """The kernel that a call launches."""
    x, weight = tensors(16, 16, 264, BF16)
    with emulation() as log:
        op(x, weight, **kwargs)
    (stats,) = log.launches
    return stats.kernel


def test_the_default_is_deterministic(library: Library) -> None:
    assert picked() == spec(16).name
    assert picked(deterministic=None) == spec(16).name


def test_the_call_the_process_and_the_environment_choose_in_that_order(library: Library, monkeypatch) -> None:
    fast, exact = spec(16, deterministic=False).name, spec(16).name
    monkeypatch.setenv("KGEN_FAST_SKINNY_GEMM", "1")
    assert picked() == fast
    assert picked(deterministic=True) == exact
    kgen.set_deterministic(True)
    assert picked() == exact
    assert picked(deterministic=False) == fast
    kgen.set_deterministic(False)
    monkeypatch.setenv("KGEN_FAST_SKINNY_GEMM", "0")
    assert picked() == fast
    kgen.set_deterministic(None)
    assert picked() == exact


def test_ten_runs_in_ten_orders_give_the_same_bits(library: Library) -> None:
    x, weight = tensors(16, 70, 1096, BF16)
    first = op(x, weight)
    for seed in range(10):
        with emulation(Options(schedule=f"random:{seed}", quantum=37 + seed, concurrent=2 + seed)):
            assert torch.equal(op(x, weight), first)


def test_a_nan_stays_in_its_row_and_is_gone_from_the_next_call(library: Library) -> None:
    x, weight = tensors(16, 37, 520, BF16)
    x[7, 300] = float("nan")
    clean = torch.arange(16) != 7
    for deterministic in (True, False):
        out = op(x, weight, deterministic=deterministic)
        assert out[7].isnan().all()
        assert not out[clean].isnan().any()
        y, _ = tensors(16, 37, 520, BF16, seed=1)
        assert_close(op(y, weight, deterministic=deterministic), y, weight)


# ---- workspaces


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_workspace_is_zeroed_once_and_rearmed_by_the_kernel(
    library: Library, deterministic: bool, monkeypatch
) -> None:
    x, weight = tensors(40, 37, 520, BF16)
    op(x, weight, deterministic=deterministic)
    pool = pool_of(library.driver, deterministic)
    (slot,) = (pool._own[me] for me in pool._own if me == threading.get_ident())
    monkeypatch.setattr(type(slot), "zero", lambda self: pytest.fail("zeroed between two calls"))
    for _ in range(2):
        assert not slot.counter.any()
        assert deterministic or not slot.partial.any()
        assert_close(op(x, weight, deterministic=deterministic), x, weight)
    assert pool._own[threading.get_ident()] is slot


def test_what_the_last_call_left_in_the_sums_does_not_matter(library: Library) -> None:
    x, weight = tensors(40, 37, 520, BF16)
    first = op(x, weight)
    pool_of(library.driver, True)._own[threading.get_ident()].partial.fill_(float("nan"))
    assert torch.equal(op(x, weight), first)


def test_a_launch_that_was_stopped_spoils_nothing(library: Library) -> None:
    x, weight = tensors(16, 37, 520, BF16)
    for deterministic in (True, False):
        with emulation(Options(max_instructions=3000, threads=1)), pytest.raises(EmulatorError):
            op(x, weight, deterministic=deterministic)
        assert_close(op(x, weight, deterministic=deterministic), x, weight)


def test_threads_do_not_meet_in_one_workspace(library: Library) -> None:
    x, weight = tensors(16, 37, 520, BF16)
    want, wrong = op(x, weight), []

    def work() -> None:
        for _ in range(3):
            if not torch.equal(op(x, weight), want):
                wrong.append(threading.get_ident())

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- torch's own checks


def test_opcheck_passes(library: Library) -> None:
    x, weight = tensors(12, 21, 264, BF16)
    bias = torch.randn(21).to(BF16)
    for args, kwargs in (((x, weight), {}), ((x.reshape(3, 4, 264), weight, bias), {"deterministic": False})):
        results = torch.library.opcheck(op.default, args, kwargs)
        assert set(results.values()) == {"SUCCESS"}, results


def test_a_compiled_function_launches_the_same_kernel(library: Library) -> None:
    torch._dynamo.reset()
    x, weight = tensors(12, 21, 264, BF16)

    def layer(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.ops.kgen.wvsplitkrc(x * 2, weight, deterministic=True)) + 1

    with torch.inference_mode():
        want = layer(x)
        with emulation() as log:
            out = torch.compile(layer, backend="aot_eager", fullgraph=True)(x)
    assert len(log.launches) == 1
    assert torch.equal(out, want)


def test_misaligned_tensors_and_wrong_types_are_refused(library: Library) -> None:
    x, weight = tensors(12, 21, 160, BF16)
    with pytest.raises(OpError, match=r"x\.data_ptr\(\) +8 bytes past"):
        op(x[:, 4:140], weight[:, :136])
    with pytest.raises(OpError, match=r"weight\.dtype"):
        op(x, weight.to(FP16))
