"""The app: commands, exit codes, and how errors are shown.

Exit codes: 0 done; 1 your input; 2 this machine lacks something; 3 some variants failed, the rest are done; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kgen import __version__
from kgen.cli.options import command_group
from kgen.errors import KgenError, MissingPieceError

USAGE_EXIT = 2  # what typer ends with when the words on the command line make no sense; ours is 1
STOPPED = 130
DEBUG = "--debug"
EXTRAS = {
    "torch": "torch",
    "numpy": "emu",
    "tinygrad": "emu",
    "safetensors": "pack",
    "hip": "hip",
    "cuda": "cuda",
    "optuna": "sweep",
    "matplotlib": "sweep",
    "ray": "ray",
}
"""Package -> the extra of kgen that brings it."""
COMMANDS = (
    "build",
    "render",
    "report",
    "isa",
    "dispatch",
    "check",
    "run",
    "bench",
    "sweep",
    "emu",
    "doctor",
    "toolchain",
    "pack",
    "spec",
    "shapes",
)
"""Each is a file here: with a typer app, or with a function of the same name."""


class Commands(TyperGroup):
    """The commands, each imported when it is asked for: the others would cost every start 0.05 s."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"kgen.cli.{cmd_name}")
        group = getattr(module, "app", None)
        if group is None:
            group = command_group("")
            group.command(cmd_name)(getattr(module, cmd_name))
        command = typer.main.get_command(group)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="kgen",
    cls=Commands,
    help="Specialised HIP kernels from small specs: build, check, explain, run and measure them.",
    epilog="Exit codes: 0 done, 1 your input, 2 this machine lacks something, 3 some variants failed.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: with rich it costs another 0.1 s
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"kgen {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show where an error comes from; may stand anywhere.")] = False,
) -> None:
    """Specialised HIP kernels from small specs: build, check, explain, run and measure them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code. Errors that kgen raises on purpose are printed as their message alone."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    ours = words.index("--") if "--" in words else len(words)  # what follows belongs to another program
    debug = DEBUG in words[:ours]
    gc.set_threshold(
        100_000
    )  # importing makes objects that stay; looking through them again and again costs 30 ms of a command
    try:
        app([word for word in words[:ours] if word != DEBUG] + words[ours:], prog_name="kgen")
    except SystemExit as end:
        return _code(end)
    except KeyboardInterrupt:
        print("\nkgen: stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        known = _as_ours(error)
        if debug or known is None:
            raise
        sys.stdout.flush()
        print(f"{type(known).__name__}: {known}", file=sys.stderr)
        return known.exit_code
    return 0


def _as_ours(error: Exception) -> KgenError | None:
    """The error as the user sees it; None for a slip of ours, which keeps its traceback."""
    if isinstance(error, KgenError):
        return error
    if isinstance(error, OSError):  # a folder that cannot be made, a disk that is gone
        return MissingPieceError(str(error))
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package in ("", "kgen"):
        return None
    extra = EXTRAS.get(package)
    cure = f'pip install "kgen[{extra}]"' if extra else f"pip install {package}"
    return MissingPieceError(f"this needs the package {package}, which is not installed\n  try: {cure}")


def _code(end: SystemExit) -> int:
    if getattr(end, "of_program", False):  # `kgen emu` hands on how its program ended
        return int(end.code or 0)
    code = end.code if isinstance(end.code, int) else int(bool(end.code))
    if code == STOPPED:
        print("\nkgen: stopped", file=sys.stderr)
    return 1 if code == USAGE_EXIT else code
