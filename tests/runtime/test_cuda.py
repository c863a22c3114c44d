"""The cuda driver against a stand-in of cuda-bindings: what it calls, in which order, and what its errors say."""

from __future__ import annotations

import dataclasses
import sys
import threading

import pytest

from kgen.errors import CodeObjectError, LaunchError, MissingPieceError
from kgen.runtime.arguments import ArgumentLayout
from kgen.runtime.cuda import CudaDriver
from kgen.spec.base import Launch
from tests.runtime.fakes import CUresult, FakeCuda, install_cuda
from tests.runtime.tiny import SPECS

GEOMETRY = Launch((132, 1, 1), (128, 1, 1), 4096)
LAYOUT = ArgumentLayout(SPECS[0].args)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    install_cuda(monkeypatch, fake)
    monkeypatch.setattr("kgen.runtime.cuda.torch_stream", lambda ordinal: lambda: 4321)
    return fake


def test_the_device_is_described(cuda: FakeCuda) -> None:
    device = CudaDriver().device
    assert (device.kind, device.arch, device.name) == ("cuda", "sm_90", "NVIDIA H200")
    assert (device.cu, device.lds_per_group, device.torch_name) == (132, 232448, "cuda:0")


def test_modules_load_into_the_primary_context_and_leave_none_behind(cuda: FakeCuda) -> None:
    driver = CudaDriver()
    driver.load(b"image", "k.cubin")
    assert cuda.named("cuModuleLoadData") == [(b"image", (77,))]
    assert cuda.contexts == []


def test_a_launch_hands_over_geometry_stream_and_packed_arguments(cuda: FakeCuda) -> None:
    driver = CudaDriver()
    launch = driver.bind(driver.function("module", "k", 0), GEOMETRY, LAYOUT)
    launch(driver.stream(), tuple(range(10)), (None,) * 4)
    geometry = (132, 1, 1, 128, 1, 1, 4096)
    assert cuda.launched == [("function", geometry, 4321, LAYOUT.struct.pack(*range(10)))]
    assert not cuda.named("cuFuncSetAttribute")


def test_an_early_launch_says_so_and_threads_do_not_share_its_stream(cuda: FakeCuda) -> None:
    driver = CudaDriver()
    early = dataclasses.replace(GEOMETRY, early=True, lds_per_cu=164 << 10)
    launch = driver.bind(driver.function("module", "k", 0), early, LAYOUT)
    launch(1, tuple(range(10)), (None,) * 4)
    thread = threading.Thread(target=launch, args=(2, tuple(range(10, 20)), (None,) * 4))
    thread.start()
    thread.join()
    launch(3, tuple(range(10)), (None,) * 4)
    geometry = (132, 1, 1, 128, 1, 1, 4096)
    packed = [LAYOUT.struct.pack(*range(begin, begin + 10)) for begin in (0, 10, 0)]
    assert cuda.launched == [
        ("function", geometry, stream, bytes_) for stream, bytes_ in zip((1, 2, 3), packed, strict=True)
    ]
    assert cuda.named("cuLaunchKernelEx") == [((6, 1),)] * 3
    assert cuda.named("cuFuncSetAttribute") == [("function", 9, 71)]  # per cent of 228 KiB
    assert not cuda.named("cuLaunchKernel")
    cuda.fail = {"cuLaunchKernelEx": CUresult.CUDA_ERROR_INVALID_VALUE}
    with pytest.raises(LaunchError, match="CUDA_ERROR_INVALID_VALUE"):
        launch(1, tuple(range(10)), (None,) * 4)
    cuda.fail = {"cuFuncSetAttribute": CUresult.CUDA_ERROR_INVALID_VALUE}
    with pytest.raises(LaunchError, match="split of LDS and L1"):
        driver.bind("function", early, LAYOUT)
    driver.bind("function", dataclasses.replace(early, lds_per_cu=0), LAYOUT)  # the driver chooses


@pytest.mark.parametrize(
    ("groups", "static_lds", "per_cent"),
    [(2, 37888, 34), (3, 20992, 29), (8, 28 << 10, 100), (4, 9728, None), (3, 20 << 10, None), (3, 0, None)],
)
def test_a_kernel_that_needs_much_lds_is_left_the_l1_that_its_resident_groups_do_not_need(
    cuda: FakeCuda, groups: int, static_lds: int, per_cent: int | None
) -> None:
    cuda.groups, cuda.static_lds = groups, static_lds
    CudaDriver().bind("function", dataclasses.replace(GEOMETRY, lds_bytes=0), LAYOUT)
    assert cuda.named("cuOccupancyMaxActiveBlocksPerMultiprocessor") == [("function", 128, 0)]
    assert cuda.named("cuFuncSetAttribute") == ([("function", 9, per_cent)] if per_cent else [])
    assert cuda.contexts == []


@pytest.mark.parametrize("call", ["cuOccupancyMaxActiveBlocksPerMultiprocessor", "cuFuncGetAttribute"])
def test_what_a_kernel_occupies_must_be_told(cuda: FakeCuda, call: str) -> None:
    cuda.fail = {call: CUresult.CUDA_ERROR_INVALID_VALUE}
    with pytest.raises(LaunchError, match="does not say what a kernel occupies: CUDA_ERROR_INVALID_VALUE"):
        CudaDriver().bind("function", dataclasses.replace(GEOMETRY, lds_bytes=0), LAYOUT)


def test_much_shared_memory_is_asked_for_and_a_refusal_names_the_limit(cuda: FakeCuda) -> None:
    driver = CudaDriver()
    driver.function("module", "k", 200 * 1024)
    driver.function("module", "k", 32 * 1024)  # with static shared memory beside it this may be too much as well
    assert cuda.named("cuFuncSetAttribute") == [("function", 8, 200 * 1024), ("function", 8, 32 * 1024)]
    cuda.fail = {"cuFuncSetAttribute": CUresult.CUDA_ERROR_INVALID_VALUE}
    with pytest.raises(LaunchError, match="232448"):
        driver.function("module", "k", 300 * 1024)


def test_every_thread_gets_the_primary_context_before_its_first_launch(cuda: FakeCuda) -> None:
    launch = CudaDriver().bind("function", GEOMETRY, LAYOUT)

    def work() -> None:
        for _ in range(2):
            launch(0, tuple(range(10)), (None,) * 4)

    before = len(cuda.named("cuCtxSetCurrent"))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert cuda.named("cuCtxSetCurrent")[before:] == [(77,)]
    assert len(cuda.launched) == 2


def test_refusals_name_the_file_the_device_and_the_drivers_words(cuda: FakeCuda) -> None:
    driver = CudaDriver()
    cuda.fail = {
        "cuModuleLoadData": CUresult.CUDA_ERROR_NO_BINARY_FOR_GPU,
        "cuModuleGetFunction": CUresult.CUDA_ERROR_NOT_FOUND,
        "cuLaunchKernel": CUresult.CUDA_ERROR_INVALID_VALUE,
    }
    with pytest.raises(CodeObjectError, match=r"k\.cubin: .*sm_90.*words for 209"):
        driver.load(b"image", "k.cubin")
    assert cuda.contexts == []
    with pytest.raises(CodeObjectError, match="kernel_name"):
        driver.function("module", "kernel_name", 0)
    with pytest.raises(LaunchError, match="CUDA_ERROR_INVALID_VALUE"):
        driver.bind("function", GEOMETRY, LAYOUT)(0, tuple(range(10)), (None,) * 4)


def test_no_gpu_no_driver_and_no_package_are_missing_pieces(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.devices = 0
    with pytest.raises(MissingPieceError, match="no GPU"):
        CudaDriver()
    cuda.fail = {"cuInit": CUresult.CUDA_ERROR_NO_DEVICE}
    with pytest.raises(MissingPieceError, match="words for 100"):
        CudaDriver()

    def no_library(flags: int) -> None:
        raise RuntimeError("libcuda.so.1 not found")

    cuda.cuInit = no_library  # type: ignore[method-assign,assignment]
    with pytest.raises(MissingPieceError, match="libcuda"):
        CudaDriver()
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingPieceError, match=r"pip install 'kgen\[cuda\]'"):
        CudaDriver()
