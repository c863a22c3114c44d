"""A key changes when the code object may, and only then."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from kgen.build.key import deciding_files, environment_digest, key_of
from kgen.render import Source, render
from tests.build.fakes import ARCH, FakeTools, a_spec


@pytest.fixture
def source() -> Source:
    return render(a_spec())


def test_same_source_flags_and_compiler_have_the_same_key_wherever_the_compiler_is(
    tools: FakeTools, source: Source, tmp_path: Path
):
    elsewhere = FakeTools(tmp_path / "moved")
    assert elsewhere.command != tools.command
    assert key_of(source, elsewhere) == key_of(source, tools)


def test_key_changes_with_source_flags_target_and_compiler(tools: FakeTools, source: Source):
    keys = {
        key_of(source, tools),
        key_of(replace(source, digest="0" * 64), tools),
        key_of(replace(source, arch="gfx1100"), tools),
        key_of(source, replace(tools, identity="fake 1.1 0123456789abcdef")),
        key_of(source, replace(tools, options=("-O2",))),
        key_of(source, replace(tools, options=("-O", "3"))),
    }
    assert len(keys) == 6


def test_environment_digest_is_of_contents_not_of_places_or_times(tools: FakeTools, tmp_path: Path):
    one, other = tmp_path / "a" / "templates" / "t.jinja", tmp_path / "b" / "templates" / "t.jinja"
    for path in (one, other):
        path.parent.mkdir(parents=True)
        path.write_text("text")
    os.utime(other, (1, 1))
    assert environment_digest(tools, ARCH, [one]) == environment_digest(tools, ARCH, [other])


def test_environment_digest_changes_with_a_template_a_new_file_and_the_compiler(tools: FakeTools, tmp_path: Path):
    path, more = tmp_path / "t.jinja", tmp_path / "u.jinja"
    path.write_text("text")
    more.write_text("")
    digests = [
        environment_digest(tools, ARCH, [path]),
        environment_digest(tools, ARCH, [path, more]),
        environment_digest(replace(tools, identity="other"), ARCH, [path]),
        environment_digest(tools, "gfx1100", [path]),
    ]
    path.write_text("text ")
    assert len({*digests, environment_digest(tools, ARCH, [path])}) == 5


def test_templates_specs_and_the_caller_s_own_modules_decide():
    names = {path.name for path in deciding_files([__name__])}
    assert {"wvsplitk.hip.jinja", "wvsplitk.py", "source.py", "codeobject.py", "entry.py", Path(__file__).name} <= names
