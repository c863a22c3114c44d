"""Where the committed samples lie, and the targets they were compiled for."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).parent / "data"
AMD = ("gfx1151", "gfx1100", "gfx1201", "gfx942", "gfx950")
