"""Fixtures of the sweep's tests."""

from __future__ import annotations

import pytest

from kgen.errors import MissingPieceError
from kgen.toolchain.find import AmdToolchain, find_amd


@pytest.fixture(scope="session")
def real_tools() -> AmdToolchain:
    """The compiler that kgen finds."""
    try:
        return find_amd(["gfx1151"])
    except MissingPieceError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def own_cache_for_locks(tmp_path_factory, monkeypatch):
    """Locks of devices go where this test run is alone; the compiler and the emulator stay where they are."""
    import kgen.sweep.farm

    folder = tmp_path_factory.getbasetemp() / "locks"
    monkeypatch.setattr(kgen.sweep.farm, "cache_dir", lambda: folder)
