"""The manifest as rows, for `kgen report` and `kgen build --json`: plain data, no formatting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kgen.build.manifest import KernelEntry, Manifest


def rows(manifest: Manifest, folder: Path, family: str | None = None) -> list[dict[str, Any]]:
    """One row per kernel, by name: the entry's fields, with `path` and `log` leading there from the working directory."""
    return [_row(entry, folder) for entry in manifest.kernels if family in (None, entry.family)]


def _row(entry: KernelEntry, folder: Path) -> dict[str, Any]:
    row = entry.model_dump(mode="json")
    for name in ("path", "source_path", "log"):
        if row[name] is not None:
            row[name] = str(Path(folder) / row[name])
    return row
