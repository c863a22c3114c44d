"""Finding a C compiler for the engine, and building with it.

The engine includes no system header and is linked against no library (its few libc and libm names are resolved when Python loads it), so a
bare compiler is enough: no libc development files, no crt objects. Order: KGEN_CC; cc, gcc, clang on PATH; the clang of
kgen's own toolchain in the cache folder, with its linker beside it; the `ziglang` package.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kgen import settings
from kgen.emu.seal import seal
from kgen.errors import MissingPieceError

FLAGS = (
    "-std=gnu11",
    "-fPIC",
    "-ffp-contract=off",  # a multiply and an add are two roundings on the GPU too
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",
    "-fwrapv",
    "-fno-stack-protector",
    "-fno-sanitize=all",
    "-w",
)
LOG = logging.getLogger(__name__)
OPTIMISE = {"generic.c": "-O1", "matrix.c": "-O3", "run.c": "-O3", "scheduler.c": "-O2"}


def candidates() -> list[tuple[str, ...]]:
    """Command prefixes to try, best first."""
    if explicit := settings.CC.value:
        return [tuple(shlex.split(explicit))]
    found: list[tuple[str, ...]] = [(path,) for name in ("cc", "gcc", "clang") if (path := shutil.which(name))]
    found += [
        (str(path),) for path in sorted(settings.cache_dir().glob("toolchain/*/bin/clang")) if os.access(path, os.X_OK)
    ]
    if importlib.util.find_spec("ziglang"):
        found.append((sys.executable, "-m", "ziglang", "cc"))
    return found


def build(sources: Path, units: Sequence[str], ops: str, target: Path, link: Sequence[str] = ()) -> None:
    """Compile `units` into the shared library `target`, moved into place whole.

    ops   text of the generated header ops.h
    link  further words for the linker

    Raises MissingPieceError when no compiler is there or none of them could build the engine; the message has each one's words.
    """
    said: list[str] = []
    commands = candidates()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as folder:
            Path(folder, "ops.h").write_text(ops)
            for command in commands:
                LOG.info("building %s with %s, once", target.name, shlex.join(command))
                if words := _attempt(command, sources, units, Path(folder), link):
                    said.append(f"{shlex.join(command)}: {words}")
                else:
                    seal(Path(folder, "engine.so"))
                    os.replace(Path(folder, "engine.so"), target)
                    return
    except OSError as error:
        raise MissingPieceError(
            f"the emulator's engine cannot be kept in {target.parent}: {error.strerror or error}\n"
            f"  try: a writable folder in {settings.CACHE_DIR.name}"
        ) from error
    looked = (
        f"the command in {settings.CC.name}" if settings.CC.value else "cc, gcc, clang, kgen's own toolchain, ziglang"
    )
    raise MissingPieceError(
        f"no C compiler could build the emulator's engine\n  looked for: {looked}\n"
        + "".join(f"  {line}\n" for line in said)
        + f"  try: `pip install ziglang`, any C compiler on PATH, or its command in {settings.CC.name}"
    )


def _attempt(command: Sequence[str], sources: Path, units: Sequence[str], folder: Path, link: Sequence[str]) -> str:
    """Try to build engine.so in `folder`; returns what the compiler said when it failed, "" when it worked."""
    native = _native(command)

    def compile_unit(unit: str) -> str:
        out = folder / Path(unit).with_suffix(".o")
        return _run(
            [
                *command,
                *FLAGS,
                *native,
                OPTIMISE.get(unit, "-O2"),
                f"-I{folder}",
                "-c",
                str(sources / unit),
                "-o",
                str(out),
            ]
        )

    with ThreadPoolExecutor(len(units)) as pool:
        if words := next(filter(None, pool.map(compile_unit, units)), ""):
            return words
    objects = [str(folder / Path(unit).with_suffix(".o")) for unit in units]
    words = ""
    for linker in ((), ("-fuse-ld=lld",)):
        words = _run([*command, "-shared", "-nostdlib", *linker, *link, *objects, "-o", str(folder / "engine.so")])
        if not words:
            return ""
    return words


def _native(command: Sequence[str]) -> tuple[str, ...]:
    """The flag that means this machine's own instructions, if the compiler knows one here."""
    for flag in ("-march=native", "-mcpu=native"):
        if not _run([*command, flag, "-x", "c", "-fsyntax-only", os.devnull]):
            return (flag,)
    return ()


def _run(command: Sequence[str]) -> str:
    """Run a compiler; returns its last words, or "" when it succeeded."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    return "\n    ".join(done.stderr.strip().splitlines()[-8:]) or f"exit code {done.returncode}"
