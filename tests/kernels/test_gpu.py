"""The same cases on the GPU that is here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kgen.build import build
from kgen.errors import KgenError
from kgen.verify.devices import GpuDevice
from kgen.verify.repeat import judge_repeats, promises_same_bits
from kgen.verify.run import check_manifest
from tests.kernels.built import all_specs, default_specs


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


@pytest.mark.gpu
@pytest.mark.hipcc
def test_every_default_kernel_gives_the_same_bits_ten_times_beside_other_streams(request: pytest.FixtureRequest):
    pytest.importorskip("torch")
    device = GpuDevice(gpu_driver())
    folder: Path = request.config.cache.mkdir("kgen-kernels") / device.arch
    specs = default_specs(device.arch)
    built = build(specs.values(), arch=device.arch, folder=folder)
    wrong = []
    for name, spec in specs.items():
        if promises_same_bits(spec):
            verdict = judge_repeats(spec, built.manifest.entries[name].image(folder), device)
            wrong += [] if verdict.ok else [f"{name}: {verdict.words}"]
    assert not wrong, "\n".join(wrong)


@pytest.mark.gpu
@pytest.mark.hipcc
def test_kernels_are_right_on_the_gpu(request: pytest.FixtureRequest):
    pytest.importorskip("torch")
    device = GpuDevice(gpu_driver())
    folder: Path = request.config.cache.mkdir("kgen-kernels") / device.arch
    specs = all_specs(device.arch)
    built = build(specs.values(), arch=device.arch, folder=folder)
    assert not built.failed, "\n".join(f"{failure.name}: {failure.error}" for failure in built.failed)
    results = check_manifest(folder, device, names=list(specs))
    assert {result.kernel for result in results} == set(specs)
    wrong = [f"{result.kernel}: {result.words}: {result.why}" for result in results if not result.ok]
    assert not wrong, "\n".join(wrong)
