"""ninja, watched: which compiles have ended, how, and in what words."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kgen.build.folder import WORK, BuildFolder
from kgen.build.ninja import STATUS
from kgen.errors import MissingPieceError

_FINISHED = re.compile(re.escape(STATUS).replace("%f", r"(\d+)").replace("%t", r"(\d+)") + r"(\S+)")
_FAILED = re.compile(rf"FAILED: (?:\[code=(\d+)\] )?{re.escape(WORK)}/(.+)-[0-9a-f]{{16}}\.\w+")
_KILLED = 128  # a shell's exit code for a child that died of signal n is 128 + n
_WORDS = 600  # characters of a compiler's output in a manifest; the log file has the rest


@dataclass(frozen=True)
class Ended:
    """How a run of ninja ended: exit code per failed kernel (None where ninja does not say), and all that ninja itself had to say."""

    codes: Mapping[str, int | None]
    words: str


def run_ninja(
    folder: BuildFolder, env: Mapping[str, str], jobs: int, keep_open: int, finished: Callable[[str, int, int], None]
) -> Ended:
    """Run build.ninja of the folder with `jobs` compiles at a time; a failed one does not stop the rest.

    `finished(name, done, total)` is called as each compile ends, well or not. `keep_open` is a descriptor that ninja and the compilers
    inherit: the folder's lock. Raises MissingPieceError when there is no ninja.
    """
    folder.temp.mkdir(parents=True, exist_ok=True)
    command = [ninja_command(), "-f", f"{WORK}/{folder.ninja_file.name}", "-k", "0", "-j", str(jobs)]
    # Compilers leave temporary files behind when they are killed: they shall do so where the next build cleans up.
    more = {"NINJA_STATUS": STATUS, "TMPDIR": str(folder.temp.resolve()), **env}
    codes: dict[str, int | None] = {}
    words = []
    process = subprocess.Popen(
        command,
        cwd=folder.path,
        env={**os.environ, **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(keep_open,),
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if match := _FINISHED.match(line):
                finished(match[3], int(match[1]), int(match[2]))
                continue
            if match := _FAILED.match(line):
                codes[match[2]] = int(match[1]) if match[1] else None
            words.append(line)
    finally:
        if process.poll() is None:
            process.terminate()  # ninja stops its compilers
        process.wait()
    return Ended(codes, "".join(words))


def ninja_command() -> str:
    """The ninja to run: the Python package's, else one on PATH. Raises MissingPieceError."""
    if importlib.util.find_spec("ninja") is not None:
        import ninja

        own = Path(ninja.BIN_DIR, "ninja")
        if own.is_file():
            return str(own)
    found = shutil.which("ninja")
    if found is None:
        raise MissingPieceError("ninja is not there, and it runs the compiles\n  try: pip install ninja")
    return found


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shortened(log: str, code: int | None) -> str:
    """The part of a compiler's output that says what is wrong: its first errors; without any, its last lines; without words, its end."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"error|fatal|undefined|not found", line, re.IGNORECASE)]
    chosen = errors[:3] or lines[-3:]
    if not chosen:
        return f"the compiler ended without a word{_how(code)}"
    text = "\n".join(chosen)
    return (text if len(text) <= _WORDS else text[:_WORDS] + " ...") + (_how(code) if code and code > _KILLED else "")


def _how(code: int | None) -> str:
    if code is None:
        return ""
    if code > _KILLED:
        reason = "; is there enough memory?" if code == _KILLED + 9 else ""
        return f" (killed by signal {code - _KILLED}{reason})"
    return f" (exit code {code})"
