"""Promoted rows that hold, and one that does not any more."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import kgen.sweep.conduct
from kgen.cli.main import main
from kgen.sweep.guard import LEAST, promised, tolerance
from kgen.sweep.worker import WorkerPlan
from tests.sweep.fakes import FakePlan
from tests.sweep.test_report import ARCH, FAKE, sweep

FAST = replace(FAKE, torch_us=1000.0, cliff_k=0)  # torch never wins


@pytest.fixture(scope="module")
def out(tmp_path_factory, real_tools):
    folder = tmp_path_factory.mktemp("guard")
    patch = pytest.MonkeyPatch()
    patch.setattr(kgen.sweep.farm, "cache_dir", lambda: folder / "locks")
    patch.setattr(kgen.sweep.conduct, "worker_plans", lambda request: [WorkerPlan(FAST, "double")])
    assert sweep(folder) == 0
    patch.undo()
    return folder


def guard(out, fake: FakePlan, monkeypatch, capsys):
    monkeypatch.setattr(kgen.sweep.conduct, "worker_plans", lambda request: [WorkerPlan(fake, "double")])
    capsys.readouterr()
    words = [
        "--shape",
        "1024x1024:5120:1024",
        "-N",
        "1,2",
        "--out",
        str(out),
        "--tables",
        str(out / "tables"),
        "--json",
    ]
    code = main(["sweep", "guard", "wvsplitk", "--arch", ARCH, *words])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.hipcc
def test_rows_that_are_as_fast_as_they_were_hold(out, monkeypatch, capsys):
    code, rows = guard(out, FAST, monkeypatch, capsys)
    assert code == 0
    assert rows
    assert all(row["verdict"] == "ok" for row in rows)
    assert all(row["over"].startswith("wvsplitk_") for row in rows)
    assert {row["expected"] for row in rows} != {1.0}


@pytest.mark.hipcc
def test_a_row_that_became_three_percent_slower_is_found(out, monkeypatch, capsys):
    slower = replace(FAST, extra={**FAST.extra, "YTILE1_WvPrGrp8": 0.8 * 1.03})
    code, rows = guard(out, slower, monkeypatch, capsys)
    assert code == 3
    assert all(row["verdict"] == "SLOWER" for row in rows if "WvPrGrp8" not in row["over"])
    assert all(float(row["tolerance"].split()[0]) < 2 for row in rows), "noise of 0.1 % does not excuse 3 %"


def test_the_tolerance_grows_with_the_spread_and_never_below_what_sessions_differ_by():
    calm, rough = [1.0 + 1e-5 * i for i in range(11)], [1.0 + 0.02 * (i % 3) for i in range(11)]
    assert tolerance(calm, calm) == LEAST
    assert tolerance(rough, calm) > 2 * LEAST
    assert tolerance(rough, rough) > tolerance(rough, calm)


def test_what_a_row_promises_is_the_lower_end_of_its_interval():
    assert promised("+18.0 % [+0.9, +63.0]") == 0.9
    assert promised("+8.1 % [6.9, 9.3]") == 6.9
    assert promised("+6.3 % [-8.4, +32.1]") == -8.4
    assert promised("faster") == 0.0
