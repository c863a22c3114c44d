"""The fixture `built`: a function from a target's name to its compiled kernels."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kernels.built import Built, build_all


@pytest.fixture(scope="session")
def built(request: pytest.FixtureRequest) -> Callable[[str], Built]:
    """built("gfx1151"): default and parameter kernels of the target."""
    folder = request.config.cache.mkdir("kgen-kernels")
    return lambda arch: build_all(arch, folder)
