"""How fast the build is: CPU time per kernel when everything is compiled, and whole processes when there is nothing to do.

    for measure in measure_build():
        print(measure.case, measure.value, measure.unit, measure.bar)

Each number is that of a `kgen` command in a process of its own, as a user would start it; CPU time counts the compilers as well.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kgen.errors import MissingPieceError

ARCH = "gfx1151"
COLD, ALL = 100, 500  # kernels of the sets below
# CPU-seconds a cold kernel; seconds of a build of ALL with nothing to do; seconds of --help
COLD_BAR, UNCHANGED_BAR, HELP_BAR = 0.2, 0.5, 0.25

_SETS = f"""\
schema = 1
family = "wvsplitk"

[[variants]]
set = "cold"
arch = "{ARCH}"
dtype = ["bf16", "fp16"]
N = [1, 2, 3, 4, 5]
YTILE = [1, 2, 3, 4, 6]
WvPrGrp = 8
UNRL = [1, 2]

[[variants]]
set = "all"
arch = "{ARCH}"
dtype = ["bf16", "fp16"]
N = [1, 2, 3, 4, 5]
YTILE = [1, 2, 3, 4, 6]
WvPrGrp = [2, 4, 8, 12, 16]
UNRL = [1, 2]
"""
# kgen's command line with the sets of a folder given as the first word
_MAIN = """
import sys, pathlib
import kgen.spec.sets as sets
folder = pathlib.Path(sys.argv[1])
sets.data_dir = lambda name: folder
from kgen.cli.main import main
sys.exit(main(sys.argv[2:]))
"""
_HELP = """
import sys
from kgen.cli.main import main
main(["--help"])
sys.exit("torch" in sys.modules)
"""


@dataclass(frozen=True)
class Measure:
    """One number: the median of `runs`, in `unit`; `bar` is the most it may be. `more` has what else was seen."""

    case: str
    value: float
    unit: str
    bar: float | None
    runs: tuple[float, ...]
    more: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether the bar is met, or there is none."""
        return self.bar is None or self.value <= self.bar

    def row(self) -> dict[str, Any]:
        """The measure as plain data."""
        return {**asdict(self), "runs": list(self.runs), "ok": self.ok}


@dataclass(frozen=True)
class Run:
    """One process: seconds by the clock, and of CPU with all its descendants."""

    wall: float
    cpu: float


def measure_build(repeats: int = 7, say: Callable[[str], None] | None = None) -> list[Measure]:
    """Measure the build for gfx1151; about a minute on two cores.

    Cold: 100 kernels with hipcc and again with its clang++, as far as they are there. Unchanged: `kgen build` of 500 built kernels. Also
    `kgen --help`, and Python alone for comparison. `say` gets a sentence before each step. Raises ToolchainError without a compiler.
    """
    say = say or (lambda words: None)
    out = []
    with tempfile.TemporaryDirectory(prefix="kgen-bench-") as place:
        bench = _Bench(Path(place))
        compilers = _compilers()
        for flavour, path in compilers.items():
            say(f"cold build of {COLD} kernels with {flavour}")
            out.append(bench.cold(flavour, path))
        flavour, path = next(iter(compilers.items()))
        say(f"build of {ALL} kernels with {flavour}, then {repeats} times with nothing to do")
        out.append(bench.unchanged(flavour, path, repeats))
        say("kgen --help")
        out += bench.start(repeats)
    return out


def _compilers() -> dict[str, Path]:
    """The first compiler of each flavour that compiles for the target, hipcc first."""
    from kgen.settings import HIPCC, cache_dir
    from kgen.toolchain.find import candidates, find_amd, judge
    from kgen.toolchain.probe import VerdictCache

    found: dict[str, Path] = {}
    cache = VerdictCache(cache_dir() / "compilers.json")
    for candidate in candidates(HIPCC.value):
        if candidate.flavour not in found and judge(candidate, [ARCH], cache)[1] is None:
            found[candidate.flavour] = candidate.command
    if not found:
        find_amd([ARCH])  # says why
    return dict(sorted(found.items(), reverse=True))


class _Bench:
    """Processes in a folder that is thrown away: spec sets, builds, and Python's compiled modules."""

    def __init__(self, place: Path):
        self.place = place
        self.sets = place / "specs"
        self.sets.mkdir()
        (self.sets / "wvsplitk.toml").write_text(_SETS, encoding="utf-8")
        # Python keeps its compiled modules, as it does for a user; a first run fills the folder
        self.env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        self.env["PYTHONPYCACHEPREFIX"] = str(place / "pycache")

    def cold(self, flavour: str, compiler: Path) -> Measure:
        """CPU-seconds per kernel of a build into an empty folder."""
        self._build(
            "cold", flavour, compiler, "--dry-run"
        )  # compiles Python's modules, asks the compiler for its version
        run = self._build("cold", flavour, compiler)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        more = {
            "kernels": COLD,
            "wall_s": round(run.wall, 2),
            "cores_busy": round(run.cpu / run.wall, 2),
            "cores": cores,
        }
        value = run.cpu / COLD
        return Measure(f"cold build, {flavour}", value, "CPU-s/kernel", COLD_BAR, (value,), more)

    def unchanged(self, flavour: str, compiler: Path, repeats: int) -> Measure:
        """Seconds of a build that finds everything done."""
        self._build("all", flavour, compiler)
        runs = [self._build("all", flavour, compiler) for _ in range(repeats + 1)][1:]
        more = {"kernels": ALL, "cpu_s": round(statistics.median(run.cpu for run in runs), 3)}
        return _of(f"build of {ALL} kernels, nothing changed", runs, UNCHANGED_BAR, more)

    def start(self, repeats: int) -> list[Measure]:
        """Seconds of `kgen --help` and of Python alone."""
        alone = [self._run(["-c", "pass"]) for _ in range(repeats + 1)][1:]
        runs = [self._run(["-c", _HELP], "kgen --help without torch") for _ in range(repeats + 1)][1:]
        return [_of("kgen --help", runs, HELP_BAR, {"imports_torch": False}), _of("python alone", alone, None, {})]

    def _build(self, name: str, flavour: str, compiler: Path, *options: str) -> Run:
        env = {"KGEN_HIPCC": str(compiler), "KGEN_BUILD_DIR": str(self.place / f"build-{flavour}")}
        words = ["build", "--arch", ARCH, "--family", "wvsplitk", "--set", name, *options]
        return self._run(["-c", _MAIN, str(self.sets), *words], f"kgen {' '.join(words)} with {compiler}", env)

    def _run(self, arguments: Sequence[str], what: str = "python", env: Mapping[str, str] | None = None) -> Run:
        """Start Python with these arguments; raises MissingPieceError with the last words of a command that fails."""
        with tempfile.TemporaryFile() as said:
            start = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, *arguments], env={**self.env, **(env or {})}, stdout=said, stderr=subprocess.STDOUT
            )
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                words = said.read().decode("utf-8", "replace").strip().splitlines()[-12:]
                raise MissingPieceError(f"{what}: exit code {process.returncode}\n  " + "\n  ".join(words))
        return Run(wall, usage.ru_utime + usage.ru_stime)


def _of(case: str, runs: Sequence[Run], bar: float | None, more: dict[str, Any]) -> Measure:
    walls = tuple(round(run.wall, 4) for run in runs)
    return Measure(case, statistics.median(walls), "s", bar, walls, more)
