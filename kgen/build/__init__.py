"""Specs -> code objects and a manifest, one folder per target.

    result = build(load_set("default", arches=["gfx1151"]), arch="gfx1151")
    result.manifest.entries["wvsplitk_..."].vgpr;  result.failed

    key        when two compiles are the same
    plan       what must be compiled (pure)
    ninja      the plan as text for ninja
    run        ninja, watched: progress, the compiler's words, what is whole
    folder     paths, lock, journal, whole-file writes
    entry      one manifest entry, read from the code object itself
    manifest   the manifest's schema and how to load it
    make       all of it in order: build(), dry_run()
    report     the manifest as rows

Importing this package imports nothing heavy: the manifest is read by programs that never compile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kgen.build.make import BuildResult, Failure, build, dry_run
    from kgen.build.manifest import KernelEntry, Manifest, load_manifest
    from kgen.build.report import rows

_HOME = {
    "BuildResult": "make",
    "Failure": "make",
    "build": "make",
    "dry_run": "make",
    "KernelEntry": "manifest",
    "Manifest": "manifest",
    "load_manifest": "manifest",
    "rows": "report",
}

__all__ = ["BuildResult", "Failure", "KernelEntry", "Manifest", "build", "dry_run", "load_manifest", "rows"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
