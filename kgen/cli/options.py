"""Options that several commands share, so that they are spelled and explained alike."""

from __future__ import annotations

from typing import Annotated

import typer

Arches = Annotated[
    list[str] | None,
    typer.Option(
        "--arch", "-a", metavar="ARCH[,ARCH...]", help="Targets, or `all`; may be given again. Default: KGEN_ARCH."
    ),
]
OneArch = Annotated[
    str | None, typer.Option("--arch", "-a", metavar="ARCH", help="Target, such as gfx1151. Default: KGEN_ARCH.")
]
Families = Annotated[
    list[str] | None,
    typer.Option("--family", "-f", metavar="FAMILY", help="Only this kernel family; may be given again."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of a table.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
SpecSet = Annotated[
    str,
    typer.Option(
        "--set",
        metavar="NAME",
        help="Spec set of specs/FAMILY.toml; `default`: the kernels that the dispatch tables name.",
    ),
]
