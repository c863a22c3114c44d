"""A sweep killed at any moment goes on where it was; two at once do no harm."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.sweep.driver import small_plan

pytestmark = pytest.mark.hipcc
ROOT = Path(__file__).resolve().parents[2]
FAKE = {"pause": 0.04, "torch_us": 3.0}


def start(folder: Path, log: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.sweep.driver", str(folder), json.dumps(FAKE | {"log": str(log)})]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finished(folder: Path) -> dict[tuple[str, str, str], str]:
    """(stage, kernel, problem) -> rounds, as the store has them."""
    path = folder / "store.sqlite"
    if not path.exists():
        return {}
    with sqlite3.connect(path) as db:
        try:
            return {(s, n, w): r for s, n, w, r in db.execute("SELECT stage, name, workload, rounds FROM timed")}
        except sqlite3.OperationalError:  # killed before the tables were made
            return {}


def logged(log: Path) -> set[tuple[str, str, str]]:
    if not log.exists():
        return set()
    words = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return {("final" if w[3] > 3 else "explore", w[1], w[2]) for w in words if w[0] == "time"}


def whole_run(folder: Path, log: Path) -> float:
    begun = time.monotonic()
    process = start(folder, log)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return time.monotonic() - begun


def test_nothing_is_lost_or_repeated_after_ten_kills(tmp_path, real_tools):
    takes = whole_run(tmp_path / "calm", tmp_path / "calm.log")
    calm = finished(tmp_path / "calm")
    picks = {name for _, name, _ in calm} - {point.name for point in small_plan().points}
    moments = random.Random(5)
    folder, done, killed = tmp_path / "killed", {}, 0
    for turn in range(40):
        log = tmp_path / f"{turn}.log"
        process = start(folder, log)
        time.sleep(moments.uniform(0.05, takes * 0.7))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not {key for key in logged(log) & done.keys() if key[1] not in picks}, "timed again what was finished"
        now = finished(folder)
        assert done.items() <= now.items(), "a finished result was lost or changed"
        done = now
        if process.returncode == -signal.SIGKILL:
            killed += 1
        elif killed < 10:  # it was done before: the rest of the kills hit another sweep
            assert finished(folder) == calm
            folder, done = tmp_path / f"killed-{turn}", {}
        if killed == 10:
            break
    assert killed == 10
    whole_run(folder, tmp_path / "last.log")
    assert not {key for key in logged(tmp_path / "last.log") & done.keys() if key[1] not in picks}
    assert finished(folder) == calm
    whole_run(folder, tmp_path / "again.log")
    assert logged(tmp_path / "again.log") == set(), "a finished sweep has nothing to do"


def test_two_sweeps_at_once_share_the_work(tmp_path, real_tools):
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    both = [start(tmp_path / "out", log) for log in logs]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    names = {name for _, name, _ in finished(tmp_path / "out")}
    points = {point.name for point in small_plan().alive}
    assert points <= names | {"torch"}
    explored = [{key for key in logged(log) if key[0] == "explore" and key[1] in points} for log in logs]
    assert not explored[0] & explored[1], "both timed the same kernel"
