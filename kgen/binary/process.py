"""Runs a disassembler, with its failures in our words."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from kgen.errors import MissingPieceError

_SECONDS = 60


def run(command: Sequence[str], stdin: bytes | None = None) -> str:
    """What the command prints; raises MissingPieceError with its own words if it cannot run or fails."""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingPieceError(f"{command[0]}: does not run ({error})") from error
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip()[-500:]
        raise MissingPieceError(f"{command[0]}: failed with {done.returncode}: {words or 'no message'}")
    return done.stdout.decode("utf-8", "replace")
