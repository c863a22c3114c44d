"""kgen doctor, toolchain, spec and shapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kgen.toolchain.doctor import Check
from tests.cli.conftest import Run


def pretend(monkeypatch: pytest.MonkeyPatch, *checks: Check) -> None:
    monkeypatch.setattr("kgen.toolchain.doctor.checks", lambda **_: list(checks))


def test_doctor_prints_what_is_there(run: Run, monkeypatch):
    pretend(
        monkeypatch,
        Check("compilers", "hipcc", "ok", "here"),
        Check("AMD GPU", "device", "optional", "none", "buy one"),
    )
    ran = run("doctor")
    assert ran.code == 0
    assert "hipcc: here" in ran.out
    assert "cure: buy one" in ran.out


def test_doctor_ends_with_2_and_the_cure_when_something_needed_is_missing(run: Run, monkeypatch):
    pretend(monkeypatch, Check("compilers", "AMD compiler", "missing", "none", "kgen toolchain install"))
    ran = run("doctor", "--json")
    assert ran.code == 2
    assert json.loads(ran.out)[0]["state"] == "missing"
    assert "AMD compiler: kgen toolchain install" in ran.err


def test_a_dry_installation_says_what_and_where_and_does_nothing(run: Run, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("KGEN_CACHE_DIR", str(tmp_path / "cache"))
    ran = run("toolchain", "install", "--dry-run")
    assert ran.code == 0
    assert "MB" in ran.out
    assert str(tmp_path / "cache") in ran.out
    assert not (tmp_path / "cache").exists()


def test_removing_nothing_says_so(run: Run, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("KGEN_CACHE_DIR", str(tmp_path))
    assert run("toolchain", "remove").out == "nothing is installed\n"


def test_finding_no_compiler_is_this_machine(run: Run, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("KGEN_HIPCC", str(tmp_path / "nothing"))
    ran = run("toolchain", "find", "--arch", "gfx1151")
    assert ran.code == 2
    assert "is not there" in ran.err


def test_a_parameter_is_explained(run: Run):
    rows = json.loads(run("spec", "explain", "UNRL", "--json").out)
    allowed = {row["family"]: row["allowed"] for row in rows}
    assert (allowed["wvsplitk"], allowed["llmm1"]) == ("1, 2, 4, 8", "1, 2, 4")


def test_an_unknown_parameter_lists_the_known_ones(run: Run):
    ran = run("spec", "explain", "unrl")
    assert ran.code == 1
    assert "UNRL" in ran.err


def test_specs_of_a_set_are_listed(run: Run):
    rows = json.loads(run("spec", "list", "--arch", "gfx942", "--set", "parameters", "--json").out)
    assert rows
    assert all(row["spec"]["THRDS"] == 64 for row in rows)


def test_shapes_of_a_model_are_listed(run: Run):
    rows = json.loads(run("shapes", "list", "minilm", "--json").out)
    assert {(row["M"], row["K"]) for row in rows} == {(384, 384), (1536, 384), (384, 1536)}


def test_an_unknown_model_lists_the_known_ones(run: Run):
    ran = run("shapes", "list", "nobody")
    assert ran.code == 1
    assert "minilm" in ran.err


@pytest.mark.parametrize("words", [("--shape", "4096"), ("--rows", "one")])
def test_sizes_that_are_no_numbers_are_your_input(run: Run, words):
    ran = run("bench", *words)
    assert ran.code == 1
    assert "what to measure" in ran.err
