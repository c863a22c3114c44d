"""The manifest as rows, for `kgen report` and `kgen build --json`: plain data, no formatting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kgen.build.manifest import Manifest


def rows(manifest: Manifest, folder: Path, family: str | None = None) -> list[dict[str, Any]]:
    """One row per kernel, by name: the entry's fields, with `path` and `log` leading there from the working directory."""
    every = manifest.model_dump(mode="json")["kernels"]
    return [_placed(row, folder) for row in every if family in (None, row["family"])]


def _placed(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    for name in ("path", "source_path", "log"):
        if row[name] is not None:
            row[name] = f"{folder}/{row[name]}"
    return row
