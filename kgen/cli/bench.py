"""`kgen bench`: how fast are the kernels and the build?"""

from __future__ import annotations

import typer

app = typer.Typer(help="Measure.", no_args_is_help=True)


@app.command("build")
def bench_build() -> None:
    """Measure the build."""
    raise NotImplementedError
