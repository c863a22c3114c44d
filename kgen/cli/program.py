"""Another Python program, run inside this process as `python` would run it."""

from __future__ import annotations

import contextlib
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

from kgen.errors import KgenError, Problem, SpecError


class ProgramEnd(SystemExit):
    """The program's own exit code, to be handed on as it is."""

    of_program = True


def runner_of(program: list[str]) -> Any:
    """A call that runs the program as `python` would; sys.argv and sys.path are set for it."""
    if program and program[0] == "-m" and len(program) > 1:
        sys.argv = program[1:]
        sys.path.insert(0, str(Path.cwd()))
        return lambda: runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    if not program or not Path(program[0]).is_file():
        given = repr(program[0]) if program else "nothing"
        raise SpecError("no program to run", [Problem(("PROGRAM",), given, "a Python file, or -m MODULE")])
    sys.argv = list(program)
    sys.path.insert(0, str(Path(program[0]).resolve().parent))
    return lambda: runpy.run_path(program[0], run_name="__main__")


def run_program(runner: Any) -> int:
    """Run it; its exit code, 1 with its traceback for an error that is not kgen's."""
    try:
        runner()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except KgenError:
        raise
    except Exception as error:
        traceback.print_exception(error)
        return 1
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
    return 0
