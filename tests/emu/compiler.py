"""Compiling the test kernels: one command per target, kept by content, safe with several test processes."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from kgen import settings
from kgen.errors import MissingPieceError
from kgen.toolchain.find import AmdToolchain, find_amd

TARGETS = ("gfx1100", "gfx1151", "gfx1201", "gfx942", "gfx950")
KERNELS = Path(__file__).resolve().parent / "kernels"
EXTRA = ("-std=c++20", "-munsafe-fp-atomics")
LEVEL = os.environ.get("KGEN_TEST_LEVEL", "-O3")  # the emulator must agree with the compiler at any level


@functools.cache
def toolchain() -> AmdToolchain:
    """The compiler that kgen finds for the test targets; skips the test when there is none."""
    try:
        return find_amd(TARGETS)
    except MissingPieceError as error:
        pytest.skip(f"no compiler for the AMD targets: {error}")


@functools.cache
def compiled(target: str, source: str = "kernels.hip", level: str = LEVEL) -> bytes:
    """The code object of a file of `kernels/` for one target."""
    texts = "\0".join(path.read_text() for path in sorted(KERNELS.iterdir()))
    tools = toolchain()
    arguments = [*tools.command, *tools.flags(target), *EXTRA, level]
    key = hashlib.sha256("\0".join([tools.identity, *arguments, source, texts]).encode()).hexdigest()[:24]
    cache = settings.cache_dir() / "emulator" / "tests"
    out = cache / f"{target}-{key}.hsaco"
    if not out.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            new = Path(folder) / out.name
            line = [*arguments, str(KERNELS / source), "-o", str(new)]
            done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, **tools.env})
            assert done.returncode == 0, f"{target}: {done.stderr[-3000:]}"
            os.replace(new, out)
    return out.read_bytes()
