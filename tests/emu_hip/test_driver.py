"""kgen's hip driver and ops over the emulated runtime: errors with the emulator's words, two streams, captured graphs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import kgen
from kgen.emu import Options
from kgen.emu.errors import DataRace, MemoryFault
from kgen.emu.watch import emulation
from kgen.errors import CodeObjectError, LaunchError, MissingPieceError, SpecError
from kgen.runtime import session, standin
from kgen.runtime.emulated_hip import EmulatedHipDriver, on_stream
from kgen.runtime.library import Library
from kgen.spec.base import Launch
from kgen.spec.problem import GemmShape
from tests.emu.compiler import compiled
from tests.emu_hip.conftest import ARCH, SOURCE, Hip
from tests.ops.splitk import build_splitk
from tests.runtime.conftest import built, clean_environment
from tests.runtime.tiny import OTHER, SPECS, assert_close, tensors

__all__ = ["built", "clean_environment"]
BF16 = torch.bfloat16


@pytest.fixture
def library(built: Path, api: Hip, monkeypatch: pytest.MonkeyPatch) -> Any:
    import kgen.ops

    monkeypatch.setenv("KGEN_EMU_ARCH", ARCH)
    yield kgen.load(built)
    session.unload()


@pytest.mark.hipcc
def test_the_setting_makes_kgens_device_the_emulated_one(library: Library) -> None:
    device = library.driver.device
    assert (device.kind, device.arch, device.tensors) == ("hip", ARCH, "cpu")
    assert "emulated" in str(device)
    assert isinstance(library.driver, EmulatedHipDriver)


@pytest.mark.hipcc
def test_every_amd_target_gets_its_device(built: Path, library: Library) -> None:
    other = kgen.load(built.parent / OTHER)
    assert (other.driver.device.arch, other.driver.device.cu) == (OTHER, 304)
    x, weight = tensors(1, 21, 136, BF16)
    assert_close(torch.ops.kgen.wvsplitk(x, weight), x, weight)


def test_targets_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in ("gfx1151,sm_90", "gfx9999"):
        monkeypatch.setenv("KGEN_EMU_ARCH", words)
        with pytest.raises(SpecError, match=r"(?s)KGEN_EMU_ARCH.*allowed: gfx1151"):
            standin.targets()
    with pytest.raises(SpecError, match="NVIDIA"):
        EmulatedHipDriver("sm_90")


def test_beside_a_gpu_it_has_to_be_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KGEN_EMU_ARCH", raising=False)
    monkeypatch.setattr(standin, "KERNEL_DRIVER", tmp_path)
    with pytest.raises(MissingPieceError, match="KGEN_EMU_ARCH=gfx1151"):
        standin.install()
    monkeypatch.setenv("KGEN_EMU_ARCH", ARCH)
    assert standin.asked()


@pytest.mark.hipcc
def test_a_fault_is_the_emulators_error_with_the_arguments_name(library: Library) -> None:
    x, weight = tensors(1, 8, 128, BF16)
    kernel, out = library.kernel(SPECS[0].name), torch.empty(1, 8, dtype=BF16)
    geometry = kernel.spec.launch(GemmShape(M=8, N=1, K=128), 20)
    with pytest.raises(
        MemoryFault, match=r"LOAD.*lane \d+: invalid read of \d+ bytes at offset 2048 of weight \(2048 bytes"
    ):
        kernel.launch(geometry, (weight, x, None, out, 9, 128, 128, 128, 0, geometry.grid[0]))
    short = out[:, :6].contiguous()
    with pytest.raises(MemoryFault, match=r"STORE.*invalid write of \d+ bytes at offset 12 of out \(12 bytes"):
        kernel.launch(geometry, (weight, x, None, short, 8, 128, 128, 128, 0, geometry.grid[0]))


@pytest.mark.hipcc
def test_a_race_is_found_through_hip(api: Hip) -> None:
    from kgen.runtime.arguments import ArgumentLayout
    from kgen.spec.base import layout_args

    driver, layout = EmulatedHipDriver(ARCH), ArgumentLayout(layout_args(("T*", "out")))
    function = driver.function(driver.load(compiled(ARCH, SOURCE), "api.hsaco"), "racy", 0)
    launch, out = driver.bind(function, Launch((1, 1, 1), (256, 1, 1), 0), layout), torch.zeros(256, dtype=torch.int32)
    launch(0, (out.data_ptr(),), (out,))
    with emulation(Options(races=True)), pytest.raises(DataRace, match="LDS bytes"):
        launch(0, (out.data_ptr(),), (out,))


@pytest.mark.hipcc
def test_refusals_say_what_hip_says_and_why(api: Hip) -> None:
    from kgen.runtime.arguments import ArgumentLayout
    from kgen.spec.base import layout_args

    driver = EmulatedHipDriver(ARCH)
    with pytest.raises(CodeObjectError, match=r"(?s)bad\.hsaco.*hipErrorInvalidImage \(200\).*neither an ELF"):
        driver.load(b"nothing at all" * 10, "bad.hsaco")
    with pytest.raises(CodeObjectError, match=r"(?s)hipErrorNoBinaryForGpu \(209\).*gfx942, the device is gfx1151"):
        driver.load(compiled("gfx942", SOURCE), "other.hsaco")
    module = driver.load(compiled(ARCH, SOURCE), "api.hsaco")
    layout = ArgumentLayout(layout_args(("T*", "out")))
    many = driver.bind(driver.function(module, "racy", 0), Launch((1, 1, 1), (512, 1, 1), 0), layout)
    with pytest.raises(LaunchError, match=r"(?s)hipErrorLaunchFailure \(719\).*its launch bound is 256"):
        many(0, (0,), (None,))
    much = driver.bind(driver.function(module, "racy", 0), Launch((1, 1, 1), (64, 1, 1), 65536), layout)
    with pytest.raises(LaunchError, match=r"(?s)hipErrorInvalidValue \(1\).*bytes of LDS"):
        much(0, (0,), (None,))
    short = driver.bind(driver.function(module, "scale", 0), Launch((1, 1, 1), (64, 1, 1), 0), layout)
    with pytest.raises(LaunchError, match="8 bytes of arguments, the kernel wants 16"):
        short(0, (0,), (None,))


@pytest.mark.hipcc
def test_ops_on_two_streams_give_the_same_bits_as_on_none(library: Library, api: Hip) -> None:
    cases = [tensors(N, 24, 136, BF16, seed=N) for N in (1, 2, 4)]
    plain = [torch.ops.kgen.wvsplitk(x, weight) for x, weight in cases]
    for stream in (api.ok("hipStreamCreate"), api.ok("hipStreamCreate")):
        with on_stream(stream):
            assert library.driver.stream() == int(stream)
            for (x, weight), want in zip(cases, plain, strict=True):
                assert torch.equal(torch.ops.kgen.wvsplitk(x, weight), want)
        api.ok("hipStreamSynchronize", stream)
    assert library.driver.stream() == 0


@pytest.mark.hipcc
def test_an_op_is_captured_and_replayed_on_new_inputs(library: Library, api: Hip) -> None:
    kgen.warm_up()
    (x, weight), (later, _) = tensors(2, 24, 136, BF16), tensors(2, 24, 136, BF16, seed=5)
    want = torch.ops.kgen.wvsplitk(later, weight)
    stream = api.ok("hipStreamCreate")
    api.ok("hipStreamBeginCapture", stream, api.hip.hipStreamCaptureMode.hipStreamCaptureModeGlobal)
    with on_stream(stream), emulation() as log:
        assert library.driver.capturing()
        out = torch.ops.kgen.wvsplitk(x, weight)
        assert not log.launches
        replay = api.ok("hipGraphInstantiateWithFlags", api.ok("hipStreamEndCapture", stream), 0)
        assert not library.driver.capturing()
    out.fill_(torch.nan)
    x.copy_(later)
    api.ok("hipGraphLaunch", replay, stream)
    assert torch.equal(out, want)


@pytest.mark.hipcc
@pytest.mark.parametrize("deterministic", [True, False])
def test_split_k_keeps_its_workspace_over_two_streams_and_a_captured_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: Hip, deterministic: bool
) -> None:
    monkeypatch.setenv("KGEN_EMU_ARCH", ARCH)
    session.load(build_splitk(tmp_path), device="hip")
    kgen.warm_up()
    op = partial(torch.ops.kgen.wvsplitkrc, deterministic=deterministic)
    (x, weight), (later, _) = tensors(16, 37, 520, BF16), tensors(16, 37, 520, BF16, seed=5)
    streams = [api.ok("hipStreamCreate") for _ in range(2)]
    for stream in streams:
        with on_stream(stream):
            assert_close(op(x, weight), x, weight)
    api.ok("hipStreamBeginCapture", streams[0], api.hip.hipStreamCaptureMode.hipStreamCaptureModeGlobal)
    with on_stream(streams[0]):
        out = op(x, weight)
        replay = api.ok("hipGraphInstantiateWithFlags", api.ok("hipStreamEndCapture", streams[0]), 0)
    x.copy_(later)
    for _ in range(3):  # beside eager launches on the other stream, which must find their counters re-armed
        out.fill_(torch.nan)
        api.ok("hipGraphLaunch", replay, streams[0])
        assert_close(out, later, weight)
        with on_stream(streams[1]):
            assert_close(op(later, weight), later, weight)
    session.unload()


@pytest.mark.hipcc
def test_nothing_is_loaded_while_a_stream_is_captured(built: Path, library: Library, api: Hip) -> None:
    x, weight = tensors(2, 24, 136, BF16)
    stream = api.ok("hipStreamCreate")
    api.ok("hipStreamBeginCapture", stream, api.hip.hipStreamCaptureMode.hipStreamCaptureModeGlobal)
    try:
        with on_stream(stream), pytest.raises(LaunchError, match=r"kgen\.warm_up\(\)"):
            torch.ops.kgen.wvsplitk(x, weight)
    finally:
        api.ok("hipStreamEndCapture", stream)
