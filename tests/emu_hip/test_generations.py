"""Both generations of hip-python talk to the emulated runtime: the one that is installed in this process, the other in one of its own.

The other one is put into the cache folder by pip at the first run. Without a package index, or without a wheel for this Python, its test is
skipped and says so.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from kgen import settings

ROOT = Path(__file__).resolve().parents[2]
PINNED = {"7": "7.2.2.562.43", "10": "10.0.0.0.1.2"}
INSIDE = "KGEN_TEST_OTHER_HIP_PYTHON"  # set in the process that runs the tests once more
TESTS = (
    "tests/emu_hip/test_device.py",
    "tests/emu_hip/test_memory.py",
    "tests/emu_hip/test_module.py",
    "tests/emu_hip/test_streams.py",
    "tests/emu_hip/test_driver.py",
    "tests/runtime/test_library.py",
    "tests/ops/test_wvsplitk.py",
)


def installed() -> str:
    """The generation that this environment has."""
    pytest.importorskip("hip")
    return importlib.metadata.version("hip-python").split(".")[0]


def other_generation() -> tuple[str, Path]:
    """The other generation's number and a folder that holds it; skips when it cannot be had."""
    number = next(number for number in PINNED if number != installed())
    folder = settings.cache_dir() / "tests" / f"hip-python-{PINNED[number]}-{sys.implementation.cache_tag}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            command = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "-q",
                "--disable-pip-version-check",
                "--upgrade",
                "--target",
                str(folder),
            ]
            done = subprocess.run([*command, f"hip-python=={PINNED[number]}"], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"hip-python {PINNED[number]} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
            (folder / "done").touch()
    return number, folder


@pytest.mark.hipcc
@pytest.mark.skipif(INSIDE in os.environ, reason="this is the other process")
def test_everything_passes_with_the_other_generation_too() -> None:
    number, folder = other_generation()
    env = os.environ | {INSIDE: number, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    env.pop("PYTEST_XDIST_WORKER", None)
    env.pop("PYTEST_CURRENT_TEST", None)
    words = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "not emu] and not emu-", *TESTS, __file__]
    done = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " skipped" not in done.stdout.replace("1 skipped", ""), done.stdout[-3000:]  # all but this very test ran


@pytest.mark.skipif(INSIDE not in os.environ, reason="runs in the other process")
def test_the_other_generation_is_the_one_that_is_imported() -> None:
    import hip

    place = Path(str(hip.__file__))
    assert f"hip-python-{PINNED[os.environ[INSIDE]]}" in str(place)
