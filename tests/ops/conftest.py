"""The runtime's fixtures: the ops are tested on the same tiny build."""

from __future__ import annotations

from tests.runtime.conftest import built, clean_environment, library

__all__ = ["built", "clean_environment", "library"]
