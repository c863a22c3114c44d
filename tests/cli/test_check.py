"""kgen check."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import ARCH, NAMES, Run


@pytest.mark.hipcc
def test_built_kernels_are_right_in_the_emulator(run: Run, built: Path):
    ran = run("check", "--arch", ARCH, "--kernel", "bf16,YTILE1", "--device", "emu", "--json")
    assert ran.code == 0
    results = json.loads(ran.out)
    assert {"ok", "max_abs_err", "mean_abs_err", "tolerance", "seed", "shape", "device"} <= results[0].keys()
    assert {result["kernel"] for result in results} == {NAMES[0]}


@pytest.mark.hipcc
def test_the_table_counts_cases_and_traffic(run: Run, built: Path):
    ran = run("check", "--arch", ARCH, "--kernel", NAMES[2], "--device", "emu", "--counts")
    assert ran.code == 0
    assert "bytes_loaded" in ran.out
    assert "1 kernel," in ran.out


@pytest.mark.hipcc
@pytest.mark.parametrize(("damage", "words"), [("cut", "truncated"), ("flip", "altered")])
def test_a_damaged_code_object_is_a_failed_variant(run: Run, built: Path, tmp_path: Path, monkeypatch, damage, words):
    shutil.copytree(built, tmp_path / "build")
    path = next((tmp_path / "build" / ARCH).glob(f"{NAMES[0]}-*.hsaco"))
    data = path.read_bytes()
    path.write_bytes(data[:-100] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    monkeypatch.setenv("KGEN_BUILD_DIR", str(tmp_path / "build"))
    ran = run("check", "--arch", ARCH, "--kernel", NAMES[0], "--device", "emu")
    assert ran.code == 3
    assert words in ran.err
    assert NAMES[0] in ran.err


def test_checking_nothing_names_the_cure(run: Run, nothing_built: Path):
    ran = run("check", "--arch", ARCH)
    assert ran.code == 1
    assert "kgen build" in ran.err
