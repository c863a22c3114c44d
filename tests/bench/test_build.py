"""The build's benchmark measures what it says; the numbers themselves are no test."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from kgen.bench import build
from kgen.errors import MissingPieceError, ToolchainError
from kgen.spec.sets import parse_set_file
from kgen.spec.wvsplitk import WvSplitKSpec


def test_the_sets_have_the_kernels_that_the_numbers_are_for(tmp_path: Path):
    bench = build._Bench(tmp_path)
    pairs = parse_set_file(bench.sets / "wvsplitk.toml", WvSplitKSpec)
    counts = {name: len({spec.name for other, spec in pairs if other == name}) for name, _ in pairs}
    assert counts == {"cold": build.COLD, "all": build.ALL}


@pytest.mark.hipcc
def test_the_command_that_is_timed_finds_its_set(tmp_path: Path):
    bench = build._Bench(tmp_path)
    try:
        compilers = build._compilers()
    except ToolchainError as error:
        pytest.skip(str(error))
    flavour, compiler = next(iter(compilers.items()))
    bench._build("cold", flavour, compiler, "--dry-run")


def test_cpu_time_counts_children(tmp_path: Path):
    burn = "import time; t = time.process_time()\nwhile time.process_time() - t < 0.2: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}], check=True)"
    assert build._Bench(tmp_path)._run(["-c", code]).cpu >= 0.2


def test_command_that_fails_is_an_error_with_its_words(tmp_path: Path):
    with pytest.raises(MissingPieceError, match=r"(?s)this: exit code 3.*no luck"):
        build._Bench(tmp_path)._run(["-c", "import sys; print('no luck'); sys.exit(3)"], "this")


def test_a_measure_is_plain_data_and_knows_its_bar():
    good = build.Measure("case", 0.1, "s", 0.2, (0.1,), {"python": sys.version})
    assert json.loads(json.dumps(good.row()))["ok"] is True
    assert not build.Measure("case", 0.3, "s", 0.2, (0.3,), {}).ok
    assert build.Measure("case", 0.3, "s", None, (0.3,), {}).ok
