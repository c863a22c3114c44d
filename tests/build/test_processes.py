"""Builds that are killed, and builds that meet: in processes of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kgen.build import build, load_manifest
from tests.build.fakes import ARCH, FakeTools, some_specs

COUNT = 12


def start(folder: Path, tools: FakeTools, *prefix: str, count: int = COUNT) -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, "-m", "tests.build.driver", str(folder), str(tools.folder), str(count)]
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    return out


def test_killed_build_goes_on_where_it_was(tools: FakeTools, folder: Path):
    tools.set("slow", "0.1")
    process = start(folder, tools)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("5 "):
            break
    process.kill()
    process.wait()
    assert not (folder / "manifest.json").exists()
    tools.unset("slow")
    # the lock is free once the last compiler of the killed build has ended
    with_all = build(some_specs(COUNT), arch=ARCH, folder=folder, tools=tools)
    assert with_all.failed == []
    assert 0 < with_all.compiled <= COUNT - 4
    assert all(entry.image(folder) for entry in load_manifest(folder).kernels)
    assert {p.name for p in (folder / ".work").iterdir()} == {"lock", "stamp.json"}


@pytest.mark.parametrize("after", [0.2, 0.4, 0.6, 0.9])
def test_killed_at_any_time_the_next_build_is_right(tools: FakeTools, folder: Path, tmp_path: Path, after: float):
    tools.set("slow", "0.03")
    process = start(folder, tools)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    build(some_specs(COUNT), arch=ARCH, folder=folder, tools=tools)
    build(some_specs(COUNT), arch=ARCH, folder=tmp_path / "fresh" / ARCH, tools=tools)
    assert (folder / "manifest.json").read_bytes() == (tmp_path / "fresh" / ARCH / "manifest.json").read_bytes()
    assert all(entry.image(folder) for entry in load_manifest(folder).kernels)


def test_interrupted_build_ends_its_compilers_and_keeps_what_is_done(tools: FakeTools, folder: Path):
    tools.set("slow", "0.1")
    process = start(folder, tools)
    assert process.stdout is not None
    next(iter(process.stdout))
    process.send_signal(signal.SIGINT)
    process.wait()
    assert process.returncode != 0
    assert len(tools.calls()) < COUNT
    tools.unset("slow")
    assert build(some_specs(COUNT), arch=ARCH, folder=folder, tools=tools).compiled < COUNT


def test_two_builds_at_once_compile_each_kernel_once(tools: FakeTools, folder: Path):
    tools.set("hold", "1")
    first = start(folder, tools)
    while not (tools.folder / "calls").exists():  # it holds the folder when its compilers run
        assert first.poll() is None
        time.sleep(0.05)
    second = start(folder, tools)
    assert second.stdout is not None
    assert "another build is at work here" in next(iter(second.stdout))
    tools.unset("hold")
    finished(first)
    assert finished(second) == "compiled 0\n"
    assert tools.calls() == sorted(spec.name for spec in some_specs(COUNT))


def test_two_builds_of_different_sets_at_once_end_with_both(tools: FakeTools, folder: Path):
    tools.set("slow", "0.02")
    both = [start(folder, tools, count=4), start(folder, tools, count=8)]
    for process in both:
        finished(process)
    manifest = load_manifest(folder)
    assert len(manifest.kernels) == 8
    assert all(entry.image(folder) for entry in manifest.kernels)


def test_full_disk_is_said_and_what_was_there_stays(tools: FakeTools, tmp_path: Path):
    """A file system of 96 KiB in a mount namespace of its own; room for some kernels, not for all."""
    unshare = shutil.which("unshare")
    script = f'mount -t tmpfs -o size=96k none "{tmp_path}/disk" && "$@"; code=$?; cp -r "{tmp_path}/disk/." "{tmp_path}/seen"; exit $code'
    prefix = [str(unshare), "-rm", "sh", "-c", script, "sh"]
    (tmp_path / "disk").mkdir()
    (tmp_path / "seen").mkdir()
    if unshare is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("needs a mount namespace (unshare -rm)")
    process = start(tmp_path / "disk" / ARCH, tools, *prefix, count=40)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 2, out
    assert "MissingPieceError" in out
    assert "no space left on the device" in out
    seen = tmp_path / "seen" / ARCH
    assert not (seen / "manifest.json").exists()
    assert not list(seen.rglob("*.part"))
