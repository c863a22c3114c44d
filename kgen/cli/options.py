"""What several commands share, so that it is spelled and explained alike."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kgen.errors import Problem, SpecError

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


def row_counts(text: str) -> tuple[int, ...]:
    """Activation rows as a user lists them, such as `1,4`. Raises SpecError."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdigit() for word in words):
        raise SpecError("activation rows", [Problem(("--rows",), repr(text), "numbers with commas, such as 1,4")])
    return tuple(map(int, words))


def command_group(words: str, **more: Any) -> typer.Typer:
    """A group of commands in the house style: plain help, which costs no time, and no shell completion."""
    return typer.Typer(help=words, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **more)
