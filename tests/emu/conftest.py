"""The fixture `t`: a target with its test kernels loaded (see `harness.on`)."""

from __future__ import annotations

import functools

import pytest

from kgen.emu import Module
from tests.emu.compiler import compiled
from tests.emu.harness import Target


@functools.cache
def loaded(name: str) -> Module:
    """A target's test kernels, loaded once in a process."""
    return Module(compiled(name), name=f"kernels for {name}")


@pytest.fixture
def t(request: pytest.FixtureRequest) -> Target:
    """The target that the test was asked to run on."""
    return Target(request.param, loaded(request.param))
