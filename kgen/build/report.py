"""The manifest as rows, for `kgen report` and `kgen build --json`: plain data, no formatting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kgen.build.manifest import KernelEntry, Manifest

COLUMNS = (
    "name",
    "vgpr",
    "sgpr",
    "lds_bytes",
    "scratch_bytes",
    "vgpr_spills",
    "occupancy",
    "limited_by",
    "code_bytes",
    "status",
)
"""What a table on a screen has room for; rows have every field of the entry."""


def rows(manifest: Manifest, folder: Path, family: str | None = None) -> list[dict[str, Any]]:
    """One row per kernel, by name: the entry's fields, with `path` and `log` leading there from the working directory."""
    return [_row(entry, folder) for entry in manifest.kernels if family in (None, entry.family)]


def _row(entry: KernelEntry, folder: Path) -> dict[str, Any]:
    row = entry.model_dump(mode="json")
    for name in ("path", "source_path", "log"):
        if row[name] is not None:
            row[name] = str(Path(folder) / row[name])
    return row


def totals(manifest: Manifest) -> dict[str, int]:
    """Counts for the line below the table: kernels, failed, twins, kernels with spills or scratch, bytes of code objects."""
    built = [entry for entry in manifest.kernels if entry.built]
    return {
        "kernels": len(manifest.kernels),
        "failed": len(manifest.kernels) - len(built),
        "twins": sum(entry.twin_of is not None for entry in built),
        "spilling": sum(bool(entry.vgpr_spills or entry.sgpr_spills or entry.scratch_bytes) for entry in built),
        "bytes": sum(entry.file_bytes or 0 for entry in built),
    }
