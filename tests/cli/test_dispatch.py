"""kgen dispatch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kgen.settings import data_dir
from tests.cli.conftest import Run

SHIPPED = data_dir("specs") / "dispatch" / "gfx1151" / "wvsplitk.toml"


def explain(run: Run, *words: str):
    return run("dispatch", "explain", "wvsplitk", "--arch", "gfx1151", *words)


def test_explain_says_the_row_its_conditions_and_the_evidence(run: Run):
    ran = explain(run, "M=4096", "K=2048", "N=1")
    assert ran.code == 0
    assert ran.out.startswith("row ")
    assert "wvsplitk_bf16_N1_" in ran.out
    assert "holds" in ran.out


def test_explain_as_json_has_the_keys_that_scripts_rely_on(run: Run):
    answer = json.loads(explain(run, "M=4096", "K=2048", "N=1", "dtype=fp16", "cu=40", "--json").out)
    assert {"row", "kernel", "conditions", "provenance"} <= answer.keys()
    assert answer["kernel"].startswith("wvsplitk_fp16_N1_")
    assert answer["problem"]["cu"] == 40


def test_more_rows_than_kernels_have_goes_to_torch(run: Run):
    assert json.loads(explain(run, "M=4096", "K=2048", "N=9", "--json").out)["kernel"] == "torch"


def test_a_reduction_that_is_no_multiple_of_eight_goes_to_torch(run: Run):
    assert json.loads(explain(run, "M=4096", "K=2047", "N=1", "--json").out)["kernel"] == "torch"


def test_everything_wrong_with_the_problem_is_said_at_once(run: Run):
    ran = explain(run, "M=many", "X=3", "K")
    assert ran.code == 1
    for words in ("'many'", "X=3", "K  not understood", "N  not given"):
        assert words in ran.err


def test_an_unknown_family_is_your_input(run: Run):
    ran = run("dispatch", "explain", "gemm", "--arch", "gfx1151", "M=1", "K=8", "N=1")
    assert ran.code == 1
    assert "unknown kernel family" in ran.err


def test_a_corrupt_table_is_named_with_its_problem(run: Run, tmp_path: Path):
    table = tmp_path / "wvsplitk.toml"
    table.write_text(SHIPPED.read_text().replace("[[row]]", "[[row", 1))
    ran = explain(run, "M=1", "K=8", "N=1", "--table", str(table))
    assert ran.code == 1
    assert "not valid TOML" in ran.err
    assert str(table) in ran.err


def test_the_shipped_tables_are_in_order(run: Run, nothing_built: Path):
    ran = run("dispatch", "check", "--arch", "gfx1151")
    assert ran.code == 0
    assert "in order" in ran.out
    assert "nothing is built" in ran.err


def test_a_table_without_a_row_for_everything_is_not_in_order(run: Run, nothing_built: Path, tmp_path: Path):
    head = 'schema = 1\narch = "gfx1151"\nfamily = "wvsplitk"\n[[row]]\nwhen = "N == 9"\nuse = "torch"\n'
    table = tmp_path / "wvsplitk.toml"
    table.write_text(head + 'because = { kind = "default", why = "a test" }\n')
    ran = run("dispatch", "check", "--arch", "gfx1151", "--table", str(table), "--json")
    assert ran.code == 1
    kinds = {finding["kind"] for finding in json.loads(ran.out)[0]["findings"]}
    assert "no_row" in kinds


def test_show_lists_the_rows_in_their_order(run: Run):
    rows = json.loads(run("dispatch", "show", "--arch", "gfx1151", "--json").out)
    families = list(dict.fromkeys(row["family"] for row in rows))
    assert families[:2] == ["wvsplitk", "llmm1"]
    for family in families:
        numbers = [row["row"] for row in rows if row["family"] == family]
        assert numbers == list(range(1, len(numbers) + 1))
    assert run("dispatch", "show", "--arch", "gfx1151").out.count("\n") == len(rows) + 1


def test_a_table_file_says_of_which_family_it_is(run: Run, tmp_path: Path):
    table = tmp_path / "mine.toml"
    table.write_text(SHIPPED.with_name("llmm1.toml").read_text())
    rows = json.loads(run("dispatch", "show", "--arch", "gfx1151", "--table", str(table), "--json").out)
    assert {row["family"] for row in rows} == {"llmm1"}


@pytest.mark.hipcc
def test_kernels_that_are_not_built_are_found(run: Run, built: Path):
    ran = run("dispatch", "check", "--arch", "gfx1151", "--json")
    assert "not_built" in {finding["kind"] for finding in json.loads(ran.out)[0]["findings"]}
