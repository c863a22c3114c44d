#!/usr/bin/env python3
"""From a fresh machine to a finished run: `python3 quickstart.py demo` or `python3 quickstart.py test`.

    demo    set everything up, build the gfx1151 kernels, run a real model's linear layers through them
    test    set everything up, then pass the linters, the type checker and the tests
    setup   only set everything up

Needs Python 3.11 or later on Linux x86-64 and nothing else: no pip, no venv package, no compiler, no root. It makes `.venv` here,
installs kgen with pip from pip's own configured index, and unpacks a verified compiler into the cache folder when the machine has
none that compiles for gfx1151. What is done already is not done again. Standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "kgen-quickstart.json"
EXTRAS = {"setup": ("emu", "demo"), "demo": ("emu", "demo"), "test": ("emu", "demo", "test")}
ARCHES = {"setup": ("gfx1151",), "demo": ("gfx1151",), "test": ("gfx1151", "gfx1100", "gfx1201", "gfx942", "gfx950")}
MISSING_PIECE = 2  # exit code: this machine lacks something


class StepFailedError(Exception):
    """A step did not work; `code` is this program's exit code."""

    def __init__(self, words: str, code: int = MISSING_PIECE):
        super().__init__(words)
        self.code = code


def main() -> int:
    """Set up, then do what was asked; returns the exit code of the first step that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(EXTRAS))
    parser.add_argument("--archive", help="Debian mirror for the compiler; default: this machine's apt sources")
    parser.add_argument("--security-archive", help="security archive of that mirror")
    asked = parser.parse_args()
    began = time.monotonic()
    try:
        check_machine()
        with one_at_a_time():
            make_venv(asked.archive, asked.security_archive)
            install_packages(asked.what)
        ensure_compiler(asked)
        do_all(work(asked.what), go_on=asked.what == "test")
    except StepFailedError as error:
        print(f"\nquickstart: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("\nquickstart: stopped; start it again and it goes on", file=sys.stderr)
        return 130
    say(f"done in {time.monotonic() - began:.0f} s")
    return 0


def say(words: str) -> None:
    """One progress line."""
    print(f"==> {words}", flush=True)


def run(title: str, command: Sequence[str | Path]) -> None:
    """Run one step in the checkout with its output shown. Raises StepFailedError with the step's own exit code."""
    say(title)
    began = time.monotonic()
    code = subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode
    if code:
        line = " ".join(str(part) for part in command)
        raise StepFailedError(f"{title}: exit code {code}\n  command: {line}", code if 0 < code < 128 else 1)
    say(f"{title}: {time.monotonic() - began:.1f} s")


def do_all(steps: Sequence[tuple[str, Sequence[str | Path]]], *, go_on: bool) -> None:
    """Run the steps; with `go_on` all of them, so that one run shows everything that is wrong.

    Raises StepFailedError with the words of those that failed and the exit code of the first.
    """
    failed = []
    for title, command in steps:
        try:
            run(title, command)
        except StepFailedError as error:
            say(f"{title}: FAILED")
            failed.append(error)
            if not go_on:
                break
    if failed:
        raise StepFailedError("\n".join(str(error) for error in failed), failed[0].code)


def check_machine() -> None:
    """Refuse what cannot work, in words. Raises StepFailedError."""
    if sys.version_info < (3, 11):  # noqa: UP036 - an older Python may well be started on this file
        raise StepFailedError(f"Python 3.11 or later is needed; this is {sys.version.split()[0]} ({sys.executable})")
    if importlib.util.find_spec("venv") is None:
        raise StepFailedError(f"{sys.executable} has no module venv: install your distribution's full Python 3")


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two quickstarts in one checkout: the second waits. The lock is on the folder itself and goes with its holder."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another quickstart is setting up here; waiting for it")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def make_venv(archive: str | None, security_archive: str | None) -> None:
    """Make `.venv` with pip in it, unless it is there and works."""
    if (
        PYTHON.exists()
        and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    ):
        return
    has_pip = importlib.util.find_spec("ensurepip") is not None
    run("make .venv", [sys.executable, "-m", "venv", "--clear", *([] if has_pip else ["--without-pip"]), str(VENV)])
    if has_pip:
        return
    with tempfile.TemporaryDirectory(prefix="kgen-pip-") as folder:
        wheel = find_pip_wheel(Path(folder), archive, security_archive)
        pip: list[str | Path] = [
            PYTHON,
            wheel / "pip",
            "install",
            "--no-index",
            "--no-deps",
            "--disable-pip-version-check",
            wheel,
        ]
        run(f"put {wheel.name} into .venv", pip)


def find_pip_wheel(folder: Path, archive: str | None, security_archive: str | None) -> Path:
    """pip as a wheel where Python comes without ensurepip: Debian's package python3-pip-whl, installed or fetched and verified."""
    installed = sorted(Path("/usr/share/python-wheels").glob("pip-*.whl"))
    if installed:
        return installed[-1]
    say("this Python has no ensurepip; fetching pip from the Debian archive (signature checked)")
    package = types.ModuleType("kgen")  # kgen itself needs packages that are not there yet; these modules need none
    package.__path__ = [str(ROOT / "kgen")]
    sys.modules["kgen"] = package
    from kgen.errors import KgenError
    from kgen.toolchain import archive as debian
    from kgen.toolchain import deb, fetch, sources

    try:
        archives = sources.find_archives(archive, security_archive)
        index = debian.Index(debian.machine_verifier(debian.machine_keyrings(archives.keyrings)))
        found = index.find(archives.main, debian_suite(), "python3-pip-whl")
        file = fetch.fetch_file(fetch.join(archives.main, found.file), folder / "pip.deb", found.size, found.sha256)
        deb.unpack(file, folder, lambda path: Path(path).name if path.endswith(".whl") else None)
        return next(folder.glob("pip-*.whl"))
    except (KgenError, OSError, StopIteration) as error:
        raise StepFailedError(f"no pip: {error}\n  try: install the package python3-venv") from error


def debian_suite() -> str:
    """Code name of this machine's Debian; on other systems the oldest one that has what is needed."""
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    facts = dict(line.split("=", 1) for line in lines if "=" in line)
    return facts.get("VERSION_CODENAME", "bookworm").strip('"') if facts.get("ID") == "debian" else "bookworm"


def install_packages(what: str) -> None:
    """`pip install -e .[extras]`, unless that was done for this very pyproject.toml and Python."""
    extras = [*EXTRAS[what], *gpu_extras()]
    content = (ROOT / "pyproject.toml").read_bytes() + sys.version.encode() + str(ROOT).encode()
    project = hashlib.sha256(content).hexdigest()
    done = read_stamp()
    have = str(done.get("extras", "")).split() if done.get("project") == project else []
    if set(extras) <= set(have):
        return
    wanted = sorted({*extras, *have})
    pip: list[str | Path] = [
        PYTHON,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "-e",
        f".[{','.join(wanted)}]",
    ]
    run(f"install kgen and its packages ({', '.join(wanted)})", pip)
    part = STAMP.with_suffix(".part")
    part.write_text(json.dumps({"project": project, "extras": " ".join(wanted)}), encoding="utf-8")
    os.replace(part, STAMP)


def read_stamp() -> dict[str, object]:
    """What the last finished installation was for; empty when there was none."""
    try:
        data = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def gpu_extras() -> list[str]:
    """The driver packages for the GPUs that are here."""
    amd = ["hip"] if Path("/dev/kfd").exists() else []
    nvidia = ["cuda"] if Path("/dev/nvidiactl").exists() else []
    return amd + nvidia


def ensure_compiler(asked: argparse.Namespace) -> None:
    """A compiler for the targets: the machine's own, or one unpacked into the cache folder."""
    command: list[str | Path] = [PYTHON, "-m", "kgen.toolchain"]
    for option in ("archive", "security_archive"):
        if value := getattr(asked, option):
            command += [f"--{option.replace('_', '-')}", value]
    run("find or install a compiler", [*command, "ensure", *ARCHES[asked.what]])


def work(what: str) -> list[tuple[str, list[str | Path]]]:
    """The steps after the set-up, by name."""
    kgen: list[str | Path] = [VENV / "bin" / "kgen"]
    if what == "demo":
        return [
            ("build the gfx1151 kernels", [*kgen, "build", "--arch", "gfx1151"]),
            ("run a real model's linear layers", [*kgen, "run", "demo", "--arch", "gfx1151"]),
        ]
    if what == "test":
        jobs = str(max(2, min(8, os.cpu_count() or 2)))
        sources = [path for path in ("kgen", "tests", "quickstart.py") if (ROOT / path).exists()]
        return [
            ("run the tests", [PYTHON, "-m", "pytest", "-n", jobs, "-q"]),
            ("lint", [PYTHON, "-m", "ruff", "check", *sources]),
            ("check formatting", [PYTHON, "-m", "ruff", "format", "--check", *sources]),
            ("check types", [PYTHON, "-m", "mypy"]),
        ]
    return []


if __name__ == "__main__":
    sys.exit(main())
