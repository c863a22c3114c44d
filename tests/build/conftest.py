"""Fixtures: the fake compiler and a build folder of its own for each test; the real compiler where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

import kgen.build.entry
from kgen.errors import MissingPieceError
from kgen.toolchain.find import AmdToolchain, find_amd
from tests.build.fakes import ARCH, FakeTools, read_fake


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTools:
    """The fake compiler, believed."""
    monkeypatch.setattr(kgen.build.entry, "read_binary", read_fake)
    return FakeTools(tmp_path / "fake")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where to build."""
    return tmp_path / "build" / ARCH


@pytest.fixture(scope="session")
def real_tools() -> AmdToolchain:
    """The compiler that kgen finds."""
    try:
        return find_amd([ARCH])
    except MissingPieceError as error:
        pytest.skip(str(error))
