"""`kgen emu -- PROGRAM`: a Python program, with an emulated AMD GPU behind hip-python."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kgen import settings
from kgen.cli.options import command_group
from kgen.cli.program import ProgramEnd, run_program, runner_of
from kgen.cli.targets import arches_of

if TYPE_CHECKING:
    from kgen.emu.watch import EmulationLog

app = command_group("Run a Python program whose hip-python finds emulated AMD GPUs.")


@app.command("emu", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def emu(
    words: Annotated[list[str], typer.Argument(metavar="PROGRAM [ARGS]", help="A .py file, or -m MODULE.")],
    arch: Annotated[
        list[str] | None,
        typer.Option("--arch", "-a", metavar="ARCH[,ARCH...]", help="Targets. Default: KGEN_EMU_ARCH, else gfx1151."),
    ] = None,
    races: Annotated[bool, typer.Option("--races", help="Stop a launch whose waves race for LDS.")] = False,
    counts: Annotated[bool, typer.Option("--counts", help="At the end, say what each kernel executed.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Name every HIP function that is not there.")] = False,
) -> None:
    """Run a Python program whose hip-python finds emulated AMD GPUs, one for each target.

    Kernels are executed on the CPU, every access is checked, and a bad launch answers a HIP error. `kgen emu --arch gfx942 -- program.py`.
    """
    if arch is not None:
        os.environ[settings.EMU_ARCH.name] = ",".join(arches_of(arch))
    if verbose:
        os.environ[settings.EMU_VERBOSE.name] = "1"
    program = words[1:] if words[0] == "--" else words
    from kgen.emu import Options
    from kgen.emu.watch import emulation
    from kgen.runtime.standin import install, targets

    wanted = targets()
    os.environ[settings.EMU_ARCH.name] = ",".join(wanted)  # kgen itself, and the program's own processes, see it too
    runner = runner_of(program)
    install(wanted)
    with emulation(Options(races=races)) as log:
        code = run_program(runner)
    if counts:
        _print_counts(log)
    raise ProgramEnd(code)


def _print_counts(log: EmulationLog) -> None:
    for kernel, launches in log.kernels.most_common():
        done = [stats for stats in log.launches if stats.kernel == kernel]
        instructions, waves = sum(stats.instructions for stats in done), sum(stats.waves for stats in done)
        print(f"{kernel}: {launches} launches, {waves} waves, {instructions} wave instructions", file=sys.stderr)
