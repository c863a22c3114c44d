"""A small sweep on the GPU that is here: right kernels, paired rounds, a table that passes its check, a guard that holds, a report."""

from __future__ import annotations

import json

import pytest
import torch

from kgen.cli.main import main
from kgen.dispatch import load_table
from kgen.dispatch.check import check
from kgen.runtime import session
from kgen.spec.arch import ARCHES
from kgen.sweep.store import Store

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
AXES = ["YTILE=1,2", "WvPrGrp=2,4", "A_CHUNK=8", "UNRL=2,4", "STAGING=global"]


def test_a_sweep_on_the_gpu_ends_in_a_table_that_holds(tmp_path, capsys):
    arch = session.present_device().arch
    assert arch in ARCHES
    words = [
        "--arch",
        arch,
        "--shape",
        "4096x4096",
        "--shape",
        "2048x4096",
        "-N",
        "1",
        "--out",
        str(tmp_path),
        "--tables",
        str(tmp_path / "t"),
    ]
    axes = [word for axis in AXES for word in ("--axes", axis)]
    assert main(["sweep", "wvsplitk", *words, *axes, "--gain", "0.1", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["kind"] == "measured"
    assert data["clock"] != ""
    assert data["counts"]["timed"] + data["counts"].get("promoted", 0) >= 8
    store = Store(tmp_path / arch / "store.sqlite", arch)
    finals = store.times(data["device"], "final")
    assert finals
    assert all(len(time.rounds) == 11 and time.over_torch for time in finals)
    assert all(0.5 < time.floor_us / time.us < 1.1 for time in finals if time.name != "torch")
    path = tmp_path / "t" / arch / "wvsplitk.toml"
    if data["promoted"]:
        table = load_table("wvsplitk", arch, path)
        assert [f for f in check(table).findings if f.severity == "error" or f.kind == "stale"] == []
    assert (tmp_path / arch / "wvsplitk.html").stat().st_size > 20_000
    again = main(["sweep", "wvsplitk", *words, *axes, "--gain", "0.1", "--dry-run", "--json"])
    assert again == 0
    assert json.loads(capsys.readouterr().out)["run"]["checks"] == 0
