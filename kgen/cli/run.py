"""`kgen run`: programs that show the kernels at work."""

from __future__ import annotations

import typer

app = typer.Typer(help="Run a real model through the kernels.", no_args_is_help=True)


@app.command()
def demo() -> None:
    """Run a real model's linear layers."""
    raise NotImplementedError


@app.command()
def other() -> None:
    """X."""
