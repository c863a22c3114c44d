"""torch.ops.kgen.wvsplitk on real code objects in the emulator, against fp64."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from kgen.errors import EmulatorError, MissingPieceError, NoRowError, OpError
from kgen.runtime import session
from kgen.runtime.emu import emulation
from kgen.runtime.library import Library
from tests.runtime.tiny import SPECS, assert_close, tensors

pytestmark = pytest.mark.hipcc
op = torch.ops.kgen.wvsplitk
BF16, FP16 = torch.bfloat16, torch.float16
ALL = [(BF16, 1), (BF16, 2), (FP16, 3), (BF16, 4)]


@pytest.mark.parametrize(("dtype", "N"), ALL)
def test_every_staging_form_is_right_on_ragged_shapes(library: Library, dtype: torch.dtype, N: int) -> None:
    x, weight = tensors(N, 37, 520, dtype)
    with emulation() as log:
        assert_close(op(x, weight), x, weight)
    assert len(log.launches) == 1
    assert f"_N{N}_" in log.launches[0].kernel


@pytest.mark.parametrize(("dtype", "N"), ALL)
def test_all_forms_of_bias_are_added(library: Library, dtype: torch.dtype, N: int) -> None:
    x, weight = tensors(N, 21, 136, dtype)
    per_row = torch.randn(N, 32).to(dtype)[:, :21]
    for bias in (per_row[0].contiguous(), per_row.contiguous(), per_row, per_row[:1].expand(N, 21)):
        assert_close(op(x, weight, bias), x, weight, bias)


def test_any_rank_of_x_is_folded_and_restored(library: Library) -> None:
    x, weight = tensors(4, 21, 136, BF16)
    for shape in ((4, 136), (2, 2, 136), (1, 4, 1, 136)):
        assert_close(op(x.reshape(shape), weight), x.reshape(shape), weight)
    bias = torch.randn(2, 2, 21).to(BF16)
    assert_close(op(x.reshape(2, 2, 136), weight, bias), x.reshape(2, 2, 136), weight, bias)
    assert_close(op(x[0], weight), x[0], weight)
    assert op(x[0], weight).shape == (21,)


def test_padded_and_broadcast_rows_are_read_where_they_are(library: Library) -> None:
    x, weight = tensors(2, 21, 160, BF16)
    weight_view, x_view = weight[:, :136], x[:, 8:144]  # both begin at multiples of 16 bytes
    assert_close(op(x_view, weight_view), x_view, weight_view)
    assert_close(op(x[:1, :136].expand(2, 136), weight_view), x[:1, :136].expand(2, 136), weight_view)
    lapped = torch.randn(8 * 21 + 136).to(BF16).as_strided((21, 136), (8, 1))
    assert_close(op(x_view, lapped), x_view, lapped)


def test_nothing_outside_the_tensors_is_touched_and_no_wave_races(library: Library) -> None:
    from kgen.emu import Options

    with emulation(Options(races=True, count_ops=True)) as log:
        for dtype, N in ALL:
            x, weight = tensors(N, 9, 264, dtype)
            op(x, weight, torch.randn(9).to(dtype))
    assert len(log.launches) == len(ALL)
    assert log.instructions == sum(log.ops.values()) > 0


def test_a_kernel_that_reads_past_its_tensor_is_stopped(library: Library) -> None:
    x, weight = tensors(1, 8, 128, BF16)
    kernel = library.kernel(SPECS[0].name)
    from kgen.spec.problem import GemmShape

    out = torch.empty(1, 8, dtype=BF16)
    geometry = kernel.spec.launch(GemmShape(M=8, N=1, K=128), 20)
    with pytest.raises(EmulatorError, match="weight"):
        kernel.launch(geometry, (weight, x, None, out, 9, 128, 128, 128, 0, geometry.grid[0]))


def test_empty_problems_give_empty_results_without_a_launch(library: Library) -> None:
    x, weight = tensors(2, 21, 136, BF16)
    with emulation() as log:
        assert op(x[:0], weight).shape == (0, 21)
        assert op(x.reshape(2, 1, 136)[:, :0], weight).shape == (2, 0, 21)
        assert op(x, weight[:0]).shape == (2, 0)
    assert not log.launches


def test_nothing_to_reduce_gives_the_bias(library: Library) -> None:
    bias = torch.randn(21).to(BF16)
    assert torch.equal(op(torch.empty(2, 0).to(BF16), torch.empty(21, 0).to(BF16), bias), bias.expand(2, 21))
    assert not op(torch.empty(2, 0).to(BF16), torch.empty(21, 0).to(BF16)).any()


@pytest.mark.parametrize(("N", "K"), [(1, 61), (4, 132), (5, 136), (9, 136), (300, 64)])
def test_what_no_kernel_takes_is_torch_and_counted(library: Library, N: int, K: int) -> None:
    x, weight = tensors(N, 21, K, BF16)
    bias = torch.randn(N, 21).to(BF16)
    with emulation() as log:
        out = op(x, weight, bias)
    assert torch.equal(out, torch.nn.functional.linear(x, weight, bias))
    assert not log.launches
    assert session.stats() == {"torch (wvsplitk)": 1}


def test_torch_rows_take_any_rank(library: Library) -> None:
    x, weight = tensors(6, 21, 61, BF16)
    bias = torch.randn(2, 3, 21).to(BF16)
    out = op(x.reshape(2, 3, 61), weight, bias)
    assert out.shape == (2, 3, 21)
    assert_close(out, x.reshape(2, 3, 61), weight, bias)


def test_every_launch_is_counted_by_kernel(library: Library) -> None:
    x, weight = tensors(2, 21, 136, BF16)
    for _ in range(3):
        op(x, weight)
    op(x[:1], weight)
    assert session.stats() == {SPECS[1].name: 3, SPECS[0].name: 1}
    assert session.stats() == {SPECS[1].name: 3, SPECS[0].name: 1}  # looking changes nothing


def test_a_fixed_k_kernel_answers_only_its_k(library: Library) -> None:
    x, weight = tensors(1, 21, 256, FP16)
    assert_close(op(x, weight), x, weight)
    assert list(session.stats()) == [SPECS[4].name]


def test_a_problem_without_a_row_is_an_error(library: Library) -> None:
    x, weight = tensors(7, 21, 136, BF16)
    with pytest.raises(NoRowError, match="N 7"):
        op(x, weight)


def test_a_row_whose_kernel_is_not_built_is_an_error(built: Path, tmp_path: Path) -> None:
    import shutil

    from tests.runtime.tiny import ARCH, spec, write_table

    folder = Path(shutil.copytree(built, tmp_path / ARCH))
    write_table(folder, ARCH, [spec("bf16", 8, "global")])
    session.load(folder, device="emu")
    x, weight = tensors(8, 21, 136, BF16)
    with pytest.raises(MissingPieceError, match="not built"):
        op(x, weight)
    session.unload()


def test_misaligned_tensors_are_refused_before_the_launch(library: Library) -> None:
    x, weight = tensors(2, 21, 160, BF16)
    with emulation() as log, pytest.raises(OpError, match=r"x\.data_ptr\(\) +8 bytes past"):
        op(x[:, 4:140], weight[:, :136])
    with pytest.raises(OpError, match=r"weight\.data_ptr\(\) +2 bytes past"):
        op(x[:, :136], weight[:, 1:137])
    assert not log.launches


def test_bad_tensors_are_refused_on_every_call(library: Library) -> None:
    x, weight = tensors(2, 21, 136, BF16)
    for _ in range(2):
        with pytest.raises(OpError, match="elements of a row"):
            op(x, torch.zeros(136, 21, dtype=BF16).T)
        with pytest.raises(OpError, match=r"torch\.float32"):
            op(x.float(), weight)


def test_gradients_are_refused_also_after_a_call_without(library: Library) -> None:
    x, weight = tensors(1, 21, 136, BF16)
    parameter = torch.nn.Parameter(weight)
    with torch.no_grad():
        op(x, parameter)
    with torch.inference_mode():
        op(x, parameter)
    assert not op(x, weight).requires_grad
    with pytest.raises(OpError, match="inference"):
        op(x, parameter)


def test_without_a_library_the_error_says_load() -> None:
    session.unload()
    x, weight = tensors(1, 21, 136, BF16)
    with pytest.raises(OpError, match=r"kgen\.load\(\)"):
        op(x, weight)


def test_loading_again_forgets_what_was_planned(built: Path, library: Library) -> None:
    x, weight = tensors(1, 21, 136, BF16)
    op(x, weight)
    session.load(built, device="emu")
    assert session.stats() == {}
    op(x, weight)
    assert session.stats() == {SPECS[0].name: 1}


def test_threads_get_their_own_answers(library: Library) -> None:
    cases = [tensors(N, 16 + 8 * i, 64 + 8 * i, dtype, seed=i) for i, (dtype, N) in enumerate(ALL)]
    failures: list[BaseException] = []

    def work(x: torch.Tensor, weight: torch.Tensor) -> None:
        try:
            for _ in range(5):
                assert_close(op(x, weight), x, weight)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=case) for case in cases * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sum(session.stats().values()) == 40


def test_results_are_the_same_bits_every_time(library: Library) -> None:
    x, weight = tensors(4, 37, 520, BF16)
    assert torch.equal(op(x, weight), op(x, weight))
