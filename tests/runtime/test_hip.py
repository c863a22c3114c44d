"""The hip driver against stand-ins of both generations of hip-python: what it calls, in which order, and what its errors say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kgen.errors import CodeObjectError, LaunchError, MissingPieceError
from kgen.runtime.arguments import ArgumentLayout
from kgen.runtime.hip import HipDriver
from kgen.spec.base import Launch
from tests.runtime.fakes import FakeHip, hipError_t, install_hip
from tests.runtime.tiny import SPECS

GEOMETRY = Launch((40, 1, 1), (128, 1, 1), 4096)
LAYOUT = ArgumentLayout(SPECS[0].args)


@pytest.fixture(params=[7, 10], ids=["hip-python 7", "hip-python 10"])
def hip(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeHip:
    fake = FakeHip(request.param)
    install_hip(monkeypatch, fake)
    return fake


def test_the_device_is_described_without_its_feature_flags(hip: FakeHip) -> None:
    device = HipDriver(tensors="cpu").device
    assert (device.kind, device.arch, device.name) == ("hip", "gfx1151", "Radeon 8060S")
    assert (device.cu, device.lds_per_group, device.ordinal) == (20, 65536, 0)


def test_a_launch_hands_over_geometry_stream_and_packed_arguments(hip: FakeHip) -> None:
    driver = HipDriver(tensors="cpu")
    function = driver.function(driver.load(b"\x7fELF", "k.hsaco"), "k", 4096)
    driver.bind(function, GEOMETRY, LAYOUT)(1234, tuple(range(10)), (None,) * 4)
    assert hip.named("hipModuleLoadData") == [(b"\x7fELF", 0)]
    assert hip.named("hipModuleGetFunction") == [("module", b"k")]
    assert hip.launched == [("function", (40, 1, 1, 128, 1, 1, 4096), 1234, LAYOUT.struct.pack(*range(10)))]
    assert not hip.named("hipFuncSetAttribute")
    driver.unload("module")
    assert hip.named("hipModuleUnload") == [("module",)]


def test_only_much_lds_is_asked_for(hip: FakeHip) -> None:
    driver = HipDriver(tensors="cpu")
    driver.function("module", "k", 160 * 1024)
    assert hip.named("hipFuncSetAttribute") == [("function", 8, 160 * 1024)]


def test_loading_on_another_device_puts_the_current_one_back(hip: FakeHip) -> None:
    hip.devices = 2
    driver = HipDriver(1, tensors="cpu")
    driver.load(b"image", "k.hsaco")
    assert hip.named("hipModuleLoadData") == [(b"image", 1)]
    assert hip.current == 0


def test_refusals_name_the_file_the_device_and_the_runtimes_words(hip: FakeHip) -> None:
    driver = HipDriver(tensors="cpu")
    hip.fail = {
        "hipModuleLoadData": hipError_t.hipErrorNoBinaryForGpu,
        "hipModuleGetFunction": hipError_t.hipErrorNotFound,
        "hipModuleLaunchKernel": hipError_t.hipErrorInvalidValue,
    }
    with pytest.raises(CodeObjectError, match=r"k\.hsaco: .*gfx1151.*hipErrorNoBinaryForGpu \(209\): words for 209"):
        driver.load(b"image", "k.hsaco")
    with pytest.raises(CodeObjectError, match=r"kernel_name: .*hipErrorNotFound"):
        driver.function("module", "kernel_name", 0)
    with pytest.raises(LaunchError, match=r"hipErrorInvalidValue \(1\)"):
        driver.bind("function", GEOMETRY, LAYOUT)(0, tuple(range(10)), (None,) * 4)


def test_no_gpu_is_a_missing_piece(hip: FakeHip) -> None:
    hip.devices = 0
    hip.fail = {"hipGetDeviceCount": hipError_t.hipErrorNoDevice}
    with pytest.raises(MissingPieceError, match=r"no AMD GPU.*hipErrorNoDevice"):
        HipDriver()


def test_no_runtime_is_a_missing_piece(hip: FakeHip) -> None:
    def first_call() -> None:
        raise RuntimeError("failed to dlopen 'b'libamdhip64.so'': cannot open shared object file")

    hip.hipRuntimeGetVersion = first_call  # type: ignore[method-assign]
    with pytest.raises(MissingPieceError, match=r"libamdhip64\.so"):
        HipDriver()


def test_no_package_is_a_missing_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hip", None)
    with pytest.raises(MissingPieceError, match=r"pip install 'kgen\[hip\]'"):
        HipDriver()


def test_a_torch_without_gpu_is_told_apart_from_a_missing_gpu(hip: FakeHip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(MissingPieceError, match="torch sees no GPU"):
        HipDriver(tensors="cuda")


def test_the_real_package_without_a_gpu_is_a_missing_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hip")
    monkeypatch.setattr(
        "torch.cuda.is_available", lambda: False
    )  # the emulated runtime may be loaded in this process: it has devices
    with pytest.raises(MissingPieceError):
        HipDriver()


def test_the_real_package_hands_a_launch_to_the_runtime(tmp_path: Path) -> None:
    pytest.importorskip("hip")
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler for the stub runtime")
    stub, library = Path(__file__).with_name("hip_stub.c"), tmp_path / "libamdhip64.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", str(library), str(stub)], check=True)
    # hip-python 10 asks ROCM_PATH's lib folder, 7 the loader.
    (tmp_path / "lib").symlink_to(tmp_path)
    env = os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "ROCM_PATH": str(tmp_path), "ROCM_HOME": str(tmp_path)}
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.runtime.through_hip_python"]
    said = json.loads(subprocess.run(command, cwd=root, env=env, check=True, capture_output=True, text=True).stdout)
    assert (said["arch"], said["name"]) == ("gfx1151", "Stub")
    assert said["geometry"] == [40, 2, 1, 128, 1, 1, 4096]
    assert (said["function"], said["stream"]) == (0x2000, 99)
    assert said["arguments"] == LAYOUT.struct.pack(*range(10)).hex()
    assert "bad.hsaco" in said["not_elf"]
    assert "hipErrorInvalidImage (200): the stub says no" in said["not_elf"]
    assert "other: not found" in said["no_kernel"]
