import threading

import pytest

from kgen.dispatch import Picker, pick
from kgen.errors import MissingPieceError, NoRowError
from kgen.spec.problem import GemmShape

from .tables import GLOBAL, LAST, LDS, ONE, SOUND, table_of


def number(table, M, N, K, dtype="bf16", cu=None) -> int:
    return pick(table, GemmShape(M, N, K), dtype, cu).row.number


@pytest.mark.parametrize(
    ("shape", "row"),
    [
        ((2080, 1, 2048), 2),
        ((2081, 1, 2048), 3),
        ((80, 1, 2048), 3),
        ((2080, 1, 2049), 1),
        ((64, 8, 4096), 3),
        ((64, 8, 4104), 4),
        ((64, 9, 4096), 5),
    ],
)
def test_first_row_that_holds_wins(shape, row):
    assert number(table_of(*SOUND), *shape) == row


def test_order_decides_between_rows_that_both_hold():
    a, b = ("N == 1", ONE), ("N <= 8", GLOBAL)
    shape = GemmShape(64, 1, 64)
    assert pick(table_of(a, b, LAST), shape, "fp16").kernel == ONE.format(dtype="fp16")
    assert pick(table_of(b, a, LAST), shape, "fp16").kernel == GLOBAL.format(dtype="fp16", N=1)


def test_torch_row_has_no_kernel():
    answer = pick(table_of(*SOUND), GemmShape(64, 9, 64), "bf16")
    assert (answer.torch, answer.kernel, answer.spec) == (True, None, None)


def test_kernel_row_brings_its_spec():
    answer = pick(table_of(*SOUND), GemmShape(64, 3, 64), "bf16")
    assert answer.spec.name == answer.kernel == LDS.format(dtype="bf16", N=3)


def test_cu_of_the_device_decides_not_that_of_the_part():
    table = table_of(*SOUND)
    assert [number(table, 2080, 1, 2048, cu=cu) for cu in (20, 10)] == [2, 3]


UNFIT = table_of(("N <= 8 and K > 8", LDS), ("N <= 8", GLOBAL), LAST)  # LDS is too small for 8 rows of 8192
BIG = GemmShape(64, 8, 8192)


def test_row_whose_kernel_does_not_fit_is_passed_over_and_listed():
    answer = pick(UNFIT, BIG, "bf16")
    assert answer.row.number == 2
    assert [(skip.row.number, skip.problem.fields) for skip in answer.skipped] == [(1, ("N", "K"))]


def test_row_that_was_left_without_kernels_says_why():
    answer = pick(table_of(("N <= 8", LDS), ("N <= 8", GLOBAL), LAST), BIG, "bf16")
    assert answer.torch
    assert "an earlier row was to answer always" in answer.skipped[1].problem.found


def test_every_fall_through_is_counted_and_reported():
    picker = Picker(UNFIT)
    for _ in range(3):
        picker.pick(BIG, "bf16")
    picker.pick(GemmShape(64, 1, 64), "bf16")
    assert picker.counts == {1: 1, 2: 3}
    assert list(picker.fallen.values()) == [3]
    report = "\n".join(picker.report())
    assert "row 2 (default)  3 calls" in report
    assert "row 1 passed over  3 calls" in report


def test_row_for_more_rows_than_kernels_exist_is_passed_over():
    answer = pick(table_of(("N != 1", GLOBAL), LAST), GemmShape(64, 9, 64), "bf16")
    assert answer.torch
    assert answer.skipped[0].problem.found == "9"


def test_row_of_another_dtype_is_passed_over():
    table = table_of(("N == 1", ONE.format(dtype="fp16")), LAST)
    assert pick(table, GemmShape(64, 1, 64), "fp16").kernel
    assert pick(table, GemmShape(64, 1, 64), "bf16").skipped[0].problem.fields == ("dtype",)


def test_no_row_says_shape_coverage_and_cure():
    table = table_of(("N == 1", ONE), ("N == 2", GLOBAL))
    with pytest.raises(NoRowError) as caught:
        pick(table, GemmShape(64, 3, 128), "bf16")
    text = str(caught.value)
    assert "M 64, N 3, K 128, bf16, 20 CUs (tiles_per_cu 1, act_bytes 768, weight_bytes 16384)" in text
    assert "2 rows: N == 1; N == 2" in text
    assert 'when = "true", use = "torch"' in text


def test_no_row_names_the_kernels_that_did_not_fit():
    with pytest.raises(NoRowError, match=r"row 1  wvsplitk_bf16_N8_.* does not fit"):
        pick(table_of(("N <= 8", LDS)), BIG, "bf16")


@pytest.mark.parametrize("shape", [(0, 1, 8), (1, 0, 8), (1, 1, 0), (-4, 1, 8), (1 << 31, 1, 8)])
def test_size_outside_every_table_is_refused(shape):
    with pytest.raises(NoRowError, match=r"allowed: 1 to 2\^31 - 1"):
        pick(table_of(LAST), GemmShape(*shape), "bf16")


def test_unknown_dtype_and_cu_are_refused_together():
    with pytest.raises(NoRowError) as caught:
        pick(table_of(LAST), GemmShape(1, 1, 8), "fp32", 0)
    assert [problem.fields for problem in caught.value.problems] == [("dtype",), ("cu",)]


def test_kernel_that_is_not_built_is_named_with_the_cure():
    picker = Picker(table_of(*SOUND), built={ONE.format(dtype="bf16")})
    assert picker.pick(GemmShape(2080, 1, 2048), "bf16").kernel
    with pytest.raises(MissingPieceError) as caught:
        picker.pick(GemmShape(64, 2, 64), "bf16")
    assert LDS.format(dtype="bf16", N=2) in str(caught.value)
    assert "row 3 of a.toml" in str(caught.value)
    assert "kgen build --arch gfx1151 --family wvsplitk" in str(caught.value)


def test_torch_rows_need_nothing_built():
    assert Picker(table_of(*SOUND), built=()).pick(GemmShape(64, 9, 64), "bf16").torch


def test_answers_are_remembered_but_not_without_end(monkeypatch):
    monkeypatch.setattr("kgen.dispatch.match.MEMO_LIMIT", 4)
    picker = Picker(table_of(*SOUND))
    first = picker.pick(GemmShape(64, 1, 64), "bf16")
    assert picker.pick(GemmShape(64, 1, 64), "bf16") is first
    for N in range(1, 100):
        picker.pick(GemmShape(64, N, 64), "bf16")
    assert len(picker._memo) <= 4
    assert sum(picker.counts.values()) == 101


def test_picker_counts_every_call_of_every_thread():
    picker = Picker(table_of(*SOUND))
    work = [
        threading.Thread(target=lambda: [picker.pick(GemmShape(64, n, 64), "bf16") for n in range(1, 9)])
        for _ in range(8)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert sum(picker.counts.values()) == 64
