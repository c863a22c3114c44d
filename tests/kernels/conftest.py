"""The fixtures `kernels_folder` and `built`: a function from a target's name to its compiled kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernels.built import Built, build_all


@pytest.fixture(scope="session")
def kernels_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where kernels under test are kept from run to run; a temporary folder when pytest runs without its cache."""
    cache = getattr(request.config, "cache", None)
    return cache.mkdir("kgen-kernels") if cache else tmp_path_factory.mktemp("kgen-kernels")


@pytest.fixture(scope="session")
def built(kernels_folder: Path) -> Callable[[str], Built]:
    """built("gfx1151"): default and parameter kernels of the target."""
    return lambda arch: build_all(arch, kernels_folder)
