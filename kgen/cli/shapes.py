"""`kgen shapes`: the layer shapes of real models that sweeps, checks and benchmarks use."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from kgen.cli import show
from kgen.cli.options import AsJson, command_group

app = command_group("Layer shapes of real models.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Layer shapes of real models."""


@app.command("list")
def list_shapes(
    model: Annotated[str | None, typer.Argument(help="One model's file name. Default: all.", metavar="[MODEL]")] = None,
    as_json: AsJson = False,
) -> None:
    """Output features M and reduction K of every layer."""
    from kgen.spec.shapes import load_shapes, shape_sets

    rows = [
        {"set": name, **asdict(shape)} for name in ([model] if model else shape_sets()) for shape in load_shapes(name)
    ]
    if as_json:
        show.print_json(rows)
    else:
        show.print_table(rows, ("set", "M", "K", "name"), {"name": "layer"})
