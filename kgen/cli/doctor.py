"""`kgen doctor`: what this machine has and lacks, with the cure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from kgen.cli import show
from kgen.cli.options import AsJson
from kgen.errors import MissingPieceError

MARKS = {"ok": "ok", "missing": "MISSING", "optional": "-"}


def doctor(
    as_json: AsJson = False,
    import_torch: Annotated[bool, typer.Option("--torch", help="Also import torch and ask it; takes seconds.")] = False,
) -> None:
    """What this machine has and lacks, with the cure.

    Compilers, runtimes, devices, packages, folders and settings; exit code 2 when something that kgen needs is missing.
    """
    from kgen.toolchain.doctor import checks

    found = checks(import_torch=import_torch)
    if as_json:
        show.print_json([asdict(check) for check in found])
    else:
        group = ""
        for check in found:
            if check.group != group:
                group = check.group
                print(group)
            print(f"  {MARKS[check.state]:<8}{check.name}: {check.found}")
            if check.cure:
                print(f"          cure: {check.cure}")
    missing = [check for check in found if check.state == "missing"]
    if missing:
        words = "\n".join(f"  {check.name}: {check.cure}" for check in missing)
        raise MissingPieceError(f"{show.plural(len(missing), 'thing')} that kgen needs not found\n{words}")
