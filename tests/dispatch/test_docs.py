from pathlib import Path

import pytest

from kgen.dispatch import explain, load_table
from kgen.dispatch.because import KINDS
from kgen.dispatch.predicate import FUNCTIONS
from kgen.dispatch.quantities import QUANTITIES, VARIABLES
from kgen.spec.problem import GemmShape

PAGE = Path(__file__).parents[2] / "docs" / "dispatch.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_every_name_and_function_is_documented(page):
    for name in VARIABLES:
        assert f"| `{name}` |" in page
    for quantities in QUANTITIES.values():
        for quantity in quantities:
            assert f"| `{quantity.name}` | `{quantity.formula}`" in page
    for function in FUNCTIONS:
        assert f"`{function}(" in page


def test_every_kind_of_evidence_is_documented_with_its_fields(page):
    for kind, cls in KINDS.items():
        line = next(line for line in page.splitlines() if line.startswith(f"| `{kind}` |"))
        _, _, _, needed, optional, _ = line.split("|")
        for name, info in cls.model_fields.items():
            if name != "kind":
                assert f"`{name}`" in (needed if info.is_required() else optional) or (kind, name) == ("default", "why")


def test_explanation_in_the_page_is_what_comes_out(page):
    shown = page.split("```text\n")[1].split("```")[0].splitlines()[1:]
    text = explain(load_table("wvsplitk", "gfx1151"), GemmShape(4096, 1, 1024)).text().splitlines()
    assert [line for line in shown if line != "  ..."] == [line for line in text if line in shown]
