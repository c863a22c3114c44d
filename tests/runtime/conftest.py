"""Fixtures: tiny real builds, and a session without leftovers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kgen.runtime import session
from kgen.runtime.library import Library
from tests.runtime.tiny import ARCH, build_tiny


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build folder of ARCH; beside it lies the one of OTHER. Not to be changed."""
    return build_tiny(tmp_path_factory.mktemp("build"))


@pytest.fixture
def own(built: Path, tmp_path: Path) -> Path:
    """A copy of the build folder that a test may damage."""
    return Path(shutil.copytree(built, tmp_path / ARCH))


@pytest.fixture(params=["emu", "hip"])
def library(request: pytest.FixtureRequest, built: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """The build loaded into the emulator, for torch.ops.kgen too: by its own driver, and by hip-python over the emulated HIP runtime."""
    import kgen.ops  # noqa: F401

    if request.param == "hip":
        pytest.importorskip("hip")
        monkeypatch.setenv("KGEN_EMU_ARCH", ARCH)
    yield session.load(built, device=request.param)
    session.unload()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No target and no folder from the developer's environment."""
    monkeypatch.delenv("KGEN_ARCH", raising=False)
    monkeypatch.delenv("KGEN_BUILD_DIR", raising=False)
    monkeypatch.delenv("KGEN_EMU_ARCH", raising=False)
