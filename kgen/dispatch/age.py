"""Whether a row's evidence is as old as the kernels' source: the digest that was written down, against that of the source as it is now."""

from __future__ import annotations

from collections.abc import Callable

from kgen.dispatch.because import Measured, Model, evidence_digest
from kgen.dispatch.table import DispatchTable, Row
from kgen.spec.base import KernelSpec


def rendered_digest(spec: KernelSpec) -> str:
    """SHA-256 of a spec's source as it is now."""
    from kgen.render.source import render

    return render(spec).digest


def current_digest(table: DispatchTable, row: Row, digest_of: Callable[[KernelSpec], str] | None = None) -> str | None:
    """What `because.source` of a measured or modelled row would be with the kernels' present source; None for other rows."""
    if not isinstance(row.because, (Measured, Model)) or not row.kernels:
        return None
    names = dict.fromkeys(row.kernels.values())
    return evidence_digest([(digest_of or rendered_digest)(table.specs[name]) for name in names])


def freshness(table: DispatchTable, row: Row) -> str:
    """Whether the kernels' source has changed since the row's evidence, in words; empty when the evidence does not rest on a source."""
    now = current_digest(table, row)
    if now is None or not isinstance(row.because, (Measured, Model)):
        return ""
    return (
        "kernel source unchanged since"
        if same_digest(now, row.because.source)
        else "the kernel source has changed since"
    )


def same_digest(a: str, b: str) -> bool:
    """Whether two digests agree as far as both are written."""
    return a.startswith(b) or b.startswith(a)
