"""kgen.load(): which folder, which device, and what it says when there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kgen
from kgen.errors import MissingPieceError, OpError, SpecError, WrongArchError
from kgen.runtime import session
from tests.runtime.fakes import FakeCuda, FakeHip, install_cuda, install_hip
from tests.runtime.tiny import ARCH, OTHER


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine without a GPU, whatever this one has."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    yield
    session.unload()


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, hip: str | None) -> None:
    """torch with one GPU: an AMD one when `hip` is its version, else NVIDIA."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: False)
    monkeypatch.setattr("torch.version.hip", hip)
    monkeypatch.setattr("kgen.runtime.streams.torch._C._cuda_getCurrentRawStream", lambda ordinal: 0, raising=False)


@pytest.mark.hipcc
def test_a_folder_without_its_gpu_runs_in_the_emulator(built: Path) -> None:
    library = kgen.load(built)
    assert (library.driver.device.kind, library.arch) == ("emu", ARCH)
    assert session.current() is library
    assert kgen.warm_up() > 0


@pytest.mark.hipcc
def test_a_target_names_its_folder_below_the_build_folder(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGEN_BUILD_DIR", str(built.parent))
    assert kgen.load(OTHER).arch == OTHER
    monkeypatch.setenv("KGEN_ARCH", OTHER)
    assert kgen.load().arch == OTHER
    monkeypatch.delenv("KGEN_ARCH")
    assert kgen.load().arch == ARCH  # without a GPU: an AMD target that is built, the first of the facts


@pytest.mark.hipcc
def test_the_gpu_that_is_here_is_taken(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGEN_BUILD_DIR", str(built.parent))
    install_hip(monkeypatch, FakeHip(10))
    pretend_gpu(monkeypatch, hip="7.2")
    library = kgen.load()
    assert (library.driver.device.kind, library.driver.device.torch_name) == ("hip", "cuda:0")
    assert kgen.load(built, device="emu").driver.device.kind == "emu"


@pytest.mark.hipcc
def test_another_gpu_of_the_vendor_is_refused_by_both_names(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_hip(monkeypatch, FakeHip(10, arch="gfx1100"))
    pretend_gpu(monkeypatch, hip="7.2")
    with pytest.raises(WrongArchError, match=f"(?s)built for {ARCH}.*gfx1100.*device='emu'"):
        kgen.load(built)


@pytest.mark.hipcc
def test_an_amd_target_beside_an_nvidia_gpu_runs_in_the_emulator(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_cuda(monkeypatch, FakeCuda())
    pretend_gpu(monkeypatch, hip=None)
    assert kgen.load(built).driver.device.kind == "emu"


def test_a_gpu_that_no_kernels_are_made_for_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    install_cuda(monkeypatch, FakeCuda(capability=(8, 6)))
    pretend_gpu(monkeypatch, hip=None)
    with pytest.raises(SpecError, match=r"(?s)no kernels are made for.*sm_86.*device='emu'"):
        kgen.load()


def test_nothing_built_says_which_command_builds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGEN_BUILD_DIR", str(tmp_path))
    with pytest.raises(MissingPieceError, match="kgen build --arch gfx1151"):
        kgen.load()
    with pytest.raises(MissingPieceError, match="kgen build --arch gfx942"):
        kgen.load("gfx942")
    with pytest.raises(MissingPieceError, match=r"no manifest\.json"):
        kgen.load(tmp_path)


@pytest.mark.hipcc
def test_nothing_built_lists_what_is(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGEN_BUILD_DIR", str(built.parent))
    with pytest.raises(MissingPieceError, match=f"built here: .*{ARCH}"):
        kgen.load("gfx1201")


def test_names_that_are_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="neither a folder nor a target"):
        kgen.load("gfx1152x")
    with pytest.raises(SpecError, match="hip, cuda, emu"):
        kgen.load(device="gpu")  # type: ignore[arg-type]


def test_an_nvidia_target_without_its_gpu_is_a_missing_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGEN_BUILD_DIR", str(tmp_path))
    fake = FakeCuda(devices=0)
    install_cuda(monkeypatch, fake)
    with pytest.raises(MissingPieceError, match="no GPU"):
        kgen.load("sm_90")
    with pytest.raises(SpecError, match="NVIDIA"):
        kgen.load("sm_90", device="emu")


def test_before_a_load_everything_says_load() -> None:
    with pytest.raises(OpError, match=r"kgen\.load\(\)"):
        session.current()
    with pytest.raises(OpError, match=r"kgen\.load\(\)"):
        kgen.warm_up()
    assert session.stats() == {}


@pytest.mark.hipcc
def test_tensors_elsewhere_than_the_library_are_told_where_it_is(built: Path) -> None:
    kgen.load(built)
    with pytest.raises(OpError, match=r"(?s)no kernels are loaded for cuda tensors.*emulated"):
        session.library_on("cuda", 0)


@pytest.mark.hipcc
def test_loads_replace_each_other_and_unload_forgets(built: Path) -> None:
    first, second = kgen.load(built), kgen.load(built.parent / OTHER)
    assert session.current() is second is session.library_on("cpu", -1)
    assert first is not second
    session.unload()
    with pytest.raises(OpError):
        session.library_on("cpu", -1)


@pytest.mark.hipcc
def test_another_gpu_gets_its_own_copy_at_its_first_use(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_hip(monkeypatch, FakeHip(10, devices=2))
    pretend_gpu(monkeypatch, hip="7.2")
    first = kgen.load(built)
    second = session.library_on("cuda", 1)
    assert second is not first
    assert second is session.library_on("cuda", 1)
    assert (second.folder, second.driver.device.ordinal) == (first.folder, 1)
    assert session.library_on("cuda", 0) is first
    kgen.load(built)
    assert session.library_on("cuda", 1) is not second


@pytest.mark.hipcc
def test_gpu_and_emulator_stand_side_by_side(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_hip(monkeypatch, FakeHip(7))
    pretend_gpu(monkeypatch, hip="7.2")
    gpu, cpu = kgen.load(built), kgen.load(built.parent / OTHER, device="emu")
    assert session.library_on("cuda", 0) is gpu
    assert session.library_on("cpu", -1) is cpu
