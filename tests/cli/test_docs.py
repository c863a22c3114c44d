"""What the pages say about the command line is so, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kgen.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "build" / "README.md"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    gone = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not gone


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_named_exist(page: Path):
    named = set(re.findall(r"(?:`|\$ )kgen ([a-z]+)", page.read_text(encoding="utf-8")))
    assert named <= set(COMMANDS)


def test_every_command_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"kgen {name}" not in index] == []
