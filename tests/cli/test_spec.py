"""`kgen spec explain`: parameters, those of a family, and what they are in a kernel that a table or a report names."""

from __future__ import annotations

import json

from kgen.spec.registry import FAMILIES, spec_from_name
from tests.cli.conftest import NAMES, Run


def fields(run: Run, *words: str):
    return json.loads(run("spec", "explain", *words, "--json").out)


def test_a_family_has_its_parameters_and_no_other(run: Run):
    rows = fields(run, "llmm1")
    assert rows == fields(run, "--family", "llmm1")
    assert {row["family"] for row in rows} == {"llmm1"}
    assert [row["field"] for row in rows] == list(FAMILIES["llmm1"].model_fields)


def test_a_parameter_is_explained_in_every_family_that_has_it(run: Run):
    rows = fields(run, "UNRL")
    assert {row["family"] for row in rows} == {name for name, cls in FAMILIES.items() if "UNRL" in cls.model_fields}
    assert all(row["doc"] for row in rows)


def test_of_a_kernel_the_values_and_the_launch_are_shown(run: Run):
    answer = fields(run, NAMES[1], "--arch", "gfx1151")
    spec = spec_from_name(NAMES[1], "gfx1151")
    assert {row["field"]: row["value"] for row in answer["fields"]} == spec.model_dump()
    assert (answer["name"], answer["family"], answer["work_items"]) == (NAMES[1], "wvsplitk", spec.threads)
    ran = run("spec", "explain", NAMES[1], "--arch", "gfx1151")
    (staging,) = [line.split() for line in ran.out.splitlines() if line.startswith("STAGING")]
    assert staging[1:3] == ["global", "lds"]  # here, and by default
    assert ran.out.splitlines()[-1].startswith(
        f"{spec.threads} work-items in a work-group; grid: {spec.grid_rule}; LDS:"
    )


def test_a_name_that_is_none_says_the_canonical_one(run: Run):
    ran = run("spec", "explain", "wvsplitk_bf16_N2", "--arch", "gfx1151")
    assert ran.code == 1
    assert "canonical spelling 'wvsplitk_bf16_N2_THRDS32" in ran.err


def test_what_is_no_parameter_names_parameters_families_and_names(run: Run):
    ran = run("spec", "explain", "unrl")
    assert ran.code == 1
    assert [words for words in ("UNRL", "gemm_4bit", "a kernel's name") if words not in ran.err] == []
