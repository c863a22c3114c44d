"""`kgen shapes`: the layer shapes of real models that sweeps, checks and benchmarks use."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
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


@app.command("capture", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def capture(
    words: Annotated[list[str], typer.Argument(metavar="PROGRAM [ARGS]", help="A .py file, or -m MODULE.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The shape file to write.")] = Path(
        "captured.toml"
    ),
    model: Annotated[str | None, typer.Option(help="The model's name in the file. Default: the program's.")] = None,
) -> None:
    """Run a Python program that uses torch and write down its linear layers as a shape file: `kgen shapes capture -o my.toml -- program.py`.

    `kgen sweep FAMILY --shapes my.toml` takes the file. Eager calls of the program's first thread are seen, compiled graphs are not.
    """
    from kgen.build.folder import write_whole
    from kgen.cli.program import ProgramEnd, run_program, runner_of
    from kgen.sweep.capture import capturing

    program = words[1:] if words[0] == "--" else words
    runner = runner_of(program)
    with capturing() as log:
        code = run_program(runner)
    if log.calls:
        name = program[1] if program[0] == "-m" else Path(program[0]).name
        write_whole(out, log.toml(model or name, f"captured from {name}: {sum(log.calls.values())} calls").encode())
        rows = ", ".join(map(str, log.rows()))
        show.note(f"{out}: {show.plural(len(log.layers()), 'layer')}, activation rows {rows}")
    else:
        show.note("no linear layer was called: nothing written")
    raise ProgramEnd(code)
