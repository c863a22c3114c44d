"""The same cases on the GPU that is here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kgen.build import build
from kgen.build.manifest import load_manifest
from kgen.errors import KgenError
from kgen.verify.devices import GpuDevice
from kgen.verify.repeat import judge_repeats, promises_same_bits
from kgen.verify.run import check_manifest
from tests.kernels.built import all_specs, default_specs

ROOT = Path(__file__).resolve().parents[2]
SHARE = 1  # every n-th kernel is run under the sanitizer; all of them take 6 to 13 s a tool on an H200


def gpu_driver() -> Any:
    """The driver of the first GPU of a known target, or the test is skipped."""
    from kgen.runtime.cuda import CudaDriver
    from kgen.runtime.hip import HipDriver
    from kgen.spec.arch import ARCHES

    reasons = []
    for driver in (HipDriver, CudaDriver):
        try:
            found = driver(0)
        except KgenError as error:
            reasons.append(str(error).splitlines()[0])
            continue
        if found.device.arch in ARCHES:
            return found
        reasons.append(f"{found.device} is none of our targets")
    pytest.skip("; ".join(reasons))


@pytest.fixture(scope="module")
def built_here(kernels_folder: Path) -> tuple[Any, Path]:
    """(driver, build folder) with all kernels of the target that is here."""
    pytest.importorskip("torch")
    driver = gpu_driver()
    folder = kernels_folder / driver.device.arch
    built = build(all_specs(driver.device.arch).values(), arch=driver.device.arch, folder=folder)
    assert not built.failed, "\n".join(f"{failure.name}: {failure.error}" for failure in built.failed)
    return driver, folder


@pytest.mark.gpu
def test_every_default_kernel_gives_the_same_bits_ten_times_beside_other_streams(built_here):
    driver, folder = built_here
    device, wrong = GpuDevice(driver), []
    manifest = load_manifest(folder)
    for name, spec in default_specs(device.arch).items():
        if promises_same_bits(spec):
            verdict = judge_repeats(spec, manifest.entries[name].image(folder), device)
            wrong += [] if verdict.ok else [f"{name}: {verdict.words}"]
    assert not wrong, "\n".join(wrong)


@pytest.mark.gpu
def test_kernels_are_right_on_the_gpu(built_here):
    driver, folder = built_here
    names = set(all_specs(driver.device.arch))
    results = check_manifest(folder, GpuDevice(driver), names=names)
    assert {result.kernel for result in results} == names
    wrong = [f"{result.kernel}: {result.words}: {result.why}" for result in results if not result.ok]
    assert not wrong, "\n".join(wrong)


@pytest.mark.gpu
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck"])
def test_the_sanitizer_has_nothing_to_say(tool, built_here):
    driver, folder = built_here
    sanitizer = shutil.which("compute-sanitizer")
    if driver.device.kind != "cuda" or sanitizer is None:
        pytest.skip("needs an NVIDIA GPU and compute-sanitizer")
    program = [sys.executable, "-m", "tests.kernels.sanitized", str(folder), str(SHARE)]
    command = [
        sanitizer,
        "--tool",
        tool,
        "--error-exitcode",
        "9",
        "--print-limit",
        "3",
        "--show-backtrace",
        "no",
        *program,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
