"""Modules, kernels and launches through hip-python: what runs, and with which words and status the rest is refused."""

from __future__ import annotations

import ctypes as c
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kgen.emu import Options
from kgen.emu.watch import emulation
from tests.emu.compiler import compiled
from tests.emu_hip.conftest import ARCH, SOURCE, Hip, address

pytestmark = pytest.mark.hipcc
N = 600


def f32(value: float) -> c.c_float:
    return c.c_float(value)


def i32(value: int) -> c.c_int:
    return c.c_int(value)


def pointer(memory: Any) -> c.c_void_p:
    return c.c_void_p(address(memory))


# ---- loading


def test_a_module_loads_from_data_and_from_a_file(api: Hip, tmp_path: Path) -> None:
    file = tmp_path / "k.hsaco"
    file.write_bytes(compiled(ARCH, SOURCE))
    for module in (api.ok("hipModuleLoadData", compiled(ARCH, SOURCE)), api.ok("hipModuleLoad", bytes(file))):
        function = api.ok("hipModuleGetFunction", module, b"nothing")
        assert api.launch(function, 1, 64, ()) == "hipSuccess"
        api.ok("hipModuleUnload", module)
        assert api.status("hipModuleUnload", module) == "hipErrorInvalidHandle"


def test_another_targets_code_object_is_refused_by_both_names(api: Hip, tmp_path: Path) -> None:
    other = compiled("gfx942", SOURCE)
    assert api.status("hipModuleLoadData", other) == "hipErrorNoBinaryForGpu"
    assert api.runtime.message() == "code object: compiled for gfx942, the device is gfx1151"
    file = tmp_path / "other.hsaco"
    file.write_bytes(other)
    assert api.status("hipModuleLoad", bytes(file)) == "hipErrorNoBinaryForGpu"
    assert str(file) in api.runtime.message()


def test_an_offload_bundle_gives_the_devices_own_or_none(api: Hip) -> None:
    def bundle(*targets: str) -> bytes:
        images = [compiled(target, SOURCE) for target in targets]
        head = b"__CLANG_OFFLOAD_BUNDLE__" + struct.pack("<Q", len(targets))
        names = [f"hipv4-amdgcn-amd-amdhsa--{target}".encode() for target in targets]
        at, entries = 4096, b""
        for image, name in zip(images, names, strict=True):
            entries += struct.pack("<QQQ", at, len(image), len(name)) + name
            at += -(-len(image) // 4096) * 4096
        body = b"".join(image.ljust(-(-len(image) // 4096) * 4096, b"\0") for image in images)
        return (head + entries).ljust(4096, b"\0") + body

    module = api.ok("hipModuleLoadData", bundle("gfx942", ARCH))
    api.ok("hipModuleGetFunction", module, b"scale")
    assert api.status("hipModuleLoadData", bundle("gfx942", "gfx1100")) == "hipErrorNoBinaryForGpu"
    assert "gfx1100" in api.runtime.message()


def test_files_that_are_no_code_objects_are_refused(api: Hip, tmp_path: Path) -> None:
    image = compiled(ARCH, SOURCE)
    cases = {
        b"": "hipErrorInvalidImage",
        b"nothing at all, long enough to be looked at" * 4: "hipErrorInvalidImage",
        image[: len(image) // 2]: "hipErrorInvalidImage",
        image[:40]: "hipErrorInvalidImage",
        image[:-1]: "hipErrorInvalidImage",
    }
    for number, (data, status) in enumerate(cases.items()):
        file = tmp_path / f"{number}.hsaco"
        file.write_bytes(data)
        assert api.status("hipModuleLoad", bytes(file)) == status, number
        assert str(file) in api.runtime.message()
    assert api.status("hipModuleLoad", b"/no/such/file.hsaco") == "hipErrorFileNotFound"


@pytest.mark.parametrize("keep", [0, 3, 40, 64, 0.5, -1])
def test_data_that_ends_too_early_is_refused_and_never_read_past_mapped_memory(api: Hip, keep: float) -> None:
    image = compiled(ARCH, SOURCE)
    length = int(len(image) * keep) if isinstance(keep, float) else keep if keep >= 0 else len(image) - 1
    pages = -(-max(length, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    room = mmap.mmap(-1, pages + mmap.PAGESIZE)
    start = c.addressof(c.c_char.from_buffer(room))
    room[pages - length : pages] = image[:length]
    libc = c.CDLL(None)
    assert libc.mprotect(c.c_void_p(start + pages), c.c_size_t(mmap.PAGESIZE), 0) == 0
    try:
        assert api.status("hipModuleLoadData", start + pages - length) == "hipErrorInvalidImage"
    finally:
        libc.mprotect(c.c_void_p(start + pages), c.c_size_t(mmap.PAGESIZE), 3)


def test_data_that_is_no_elf_is_refused(api: Hip) -> None:
    assert api.status("hipModuleLoadData", b"no ELF file, no bundle" * 10) == "hipErrorInvalidImage"
    assert "neither an ELF file nor an offload bundle" in api.runtime.message()


def test_a_kernel_that_is_not_there_is_not_found(api: Hip) -> None:
    module = api.ok("hipModuleLoadData", compiled(ARCH, SOURCE))
    assert api.status("hipModuleGetFunction", module, b"other") == "hipErrorNotFound"
    assert "no kernel 'other'; there are" in api.runtime.message()


# ---- kernels and their attributes


def test_attributes_of_a_kernel_are_those_of_the_code_object(api: Hip) -> None:
    attributes = api.hip.hipFunction_attribute
    function = api.function("big_lds")

    def ask(name: str) -> int:
        return api.ok("hipFuncGetAttribute", getattr(attributes, f"HIP_FUNC_ATTRIBUTE_{name}"), function)

    assert ask("SHARED_SIZE_BYTES") == 32768
    assert ask("MAX_THREADS_PER_BLOCK") == 256
    assert ask("MAX_DYNAMIC_SHARED_SIZE_BYTES") == 32768
    assert ask("LOCAL_SIZE_BYTES") == 0
    assert 1 <= ask("NUM_REGS") <= 256


def test_occupancy_is_kgens_model(api: Hip) -> None:
    function = api.function("big_lds")
    assert api.ok("hipModuleOccupancyMaxActiveBlocksPerMultiprocessor", function, 256, 0) == 4  # 128 KiB / 32 KiB
    assert api.ok("hipModuleOccupancyMaxActiveBlocksPerMultiprocessor", function, 256, 32768) == 2
    grid, block = api.ok("hipModuleOccupancyMaxPotentialBlockSize", function, 0, 0)
    assert (grid, block) == (4 * 20, 256)


# ---- launches that run


def test_extra_and_kernel_params_hand_over_the_same(api: Hip) -> None:
    data = np.arange(N, dtype=np.float32)
    scale, memory = api.function("scale"), api.upload(data)
    assert api.launch(scale, 3, 256, (memory, f32(2), i32(N))) == "hipSuccess"
    values = [pointer(memory), f32(3), i32(N)]
    params = (c.c_void_p * 3)(*[c.addressof(value) for value in values])
    status = api.status("hipModuleLaunchKernel", scale, 3, 1, 1, 256, 1, 1, 0, None, c.addressof(params), None)
    assert status == "hipSuccess"
    assert np.array_equal(api.download(memory, data), data * 6)
    api.ok("hipFree", memory)


def test_arguments_of_mixed_sizes_land_where_the_kernel_reads_them(api: Hip) -> None:
    out = api.upload(np.zeros(8, np.uint8))
    args = (out, c.c_byte(-3), c.c_double(0.5), c.c_short(700), c.c_long(1 << 40))
    assert api.launch(api.function("mixed"), 1, 64, args) == "hipSuccess"
    assert api.download(out, np.empty(1, np.float64))[0] == 0.5 - 3 + 700 + 2.0**40
    api.ok("hipFree", out)


def test_launches_are_logged_and_counted(api: Hip) -> None:
    memory = api.upload(np.ones(256, np.float32))
    with emulation(Options(count_ops=True)) as log:
        api.launch(api.function("scale"), 1, 256, (memory, f32(2), i32(256)))
    assert log.kernels["scale"] == 1
    assert log.instructions == sum(log.ops.values()) > 0
    api.ok("hipFree", memory)


# ---- launches that do not


def test_an_access_out_of_bounds_names_argument_offset_lane_and_instruction(api: Hip) -> None:
    memory = api.ok("hipMalloc", 1000)
    assert api.launch(api.function("overrun"), 1, 256, (memory, i32(1))) == "hipErrorIllegalAddress"
    words = api.runtime.message()
    assert "overrun+0x" in words
    assert "STORE" in words
    assert "lane 26" in words  # of wave 7: byte 1000 is element 250 = 7 * 32 + 26
    assert "write of 4 bytes at offset 1000 of argument 0, device memory (1000 bytes)" in words
    api.ok("hipFree", memory)


def test_a_write_into_freed_memory_is_a_fault(api: Hip) -> None:
    memory = api.ok("hipMalloc", 4096)
    at = address(memory)
    api.ok("hipFree", memory)
    assert api.launch(api.function("overrun"), 1, 64, (c.c_void_p(at), i32(1))) == "hipErrorIllegalAddress"


def test_a_race_stops_the_launch_when_asked(api: Hip) -> None:
    racy, memory = api.function("racy"), api.ok("hipMalloc", 1024)
    assert api.launch(racy, 1, 256, (memory,)) == "hipSuccess"
    with emulation(Options(races=True)):
        assert api.launch(racy, 1, 256, (memory,)) == "hipErrorLaunchFailure"
    assert "LDS bytes at" in api.runtime.message()
    api.ok("hipFree", memory)


def test_a_kernel_that_does_not_end_times_out(api: Hip) -> None:
    memory = api.upload(np.zeros(1, np.uint32))
    with emulation(Options(max_instructions=10000)):
        assert api.launch(api.function("endless"), 1, 32, (memory,)) == "hipErrorLaunchTimeOut"
    assert "10000 wave instructions" in api.runtime.message()
    api.ok("hipFree", memory)


def test_a_trap_is_an_assert(api: Hip) -> None:
    memory = api.ok("hipMalloc", 4)
    assert api.launch(api.function("traps"), 1, 32, (memory,)) == "hipErrorAssert"
    api.ok("hipFree", memory)


def test_bad_geometry_is_refused_with_hips_statuses(api: Hip) -> None:
    scale, nothing, lds = api.function("scale"), api.function("nothing"), api.function("big_lds")
    args = (c.c_void_p(0), f32(1), i32(0))
    cases: list[tuple[Any, tuple[int, ...], tuple[Any, ...], str, str]] = [
        (scale, (1, 1, 1, 1025, 1, 1, 0), args, "hipErrorInvalidValue", "1025 work-items, the device allows 1024"),
        (scale, (1, 1, 1, 512, 1, 1, 0), args, "hipErrorLaunchFailure", "512 work-items, its launch bound is 256"),
        (scale, (0, 1, 1, 64, 1, 1, 0), args, "hipErrorInvalidValue", "grid (0, 1, 1)"),
        (scale, (1, 1, 1, 64, 0, 1, 0), args, "hipErrorInvalidValue", "blocks (64, 0, 1)"),
        (scale, (1, 65537, 1, 64, 1, 1, 0), args, "hipErrorInvalidValue", "65537"),
        (nothing, (1, 1, 1, 64, 1, 1, 65537), (), "hipErrorInvalidValue", "65537 bytes of LDS"),
        (
            lds,
            (1, 1, 1, 64, 1, 1, 32769),
            (c.c_void_p(0),),
            "hipErrorInvalidValue",
            "65537 bytes of LDS (32769 dynamic)",
        ),
    ]
    for function, (*geometry, dynamic), arguments, status, words in cases:
        assert (
            api.status("hipModuleLaunchKernel", function, *geometry, dynamic, None, None, arguments or None) == status
        )
        assert words in api.runtime.message()


def test_arguments_that_do_not_match_the_code_object_are_refused(api: Hip) -> None:
    scale, nothing = api.function("scale"), api.function("nothing")
    assert api.launch(scale, 1, 64, (c.c_void_p(0), f32(1))) == "hipErrorInvalidValue"
    assert api.runtime.message() == "scale: 12 bytes of arguments, the kernel wants 16"
    assert api.launch(scale, 1, 64, tuple(c.c_void_p(0) for _ in range(64))) == "hipErrorInvalidValue"
    assert api.status("hipModuleLaunchKernel", scale, 1, 1, 1, 64, 1, 1, 0, None, None, None) == "hipErrorInvalidValue"
    assert "neither kernelParams nor extra" in api.runtime.message()
    assert api.launch(nothing, 1, 64, (i32(1),)) == "hipErrorLaunchOutOfResources"


def test_handles_that_are_none_are_refused(api: Hip) -> None:
    nothing = api.function("nothing")
    module = api.ok("hipModuleLoadData", compiled(ARCH, SOURCE))
    gone = api.ok("hipModuleGetFunction", module, b"nothing")
    api.ok("hipModuleUnload", module)
    assert api.launch(gone, 1, 64, ()) == "hipErrorInvalidHandle"
    assert api.launch(c.c_void_p(0x1234), 1, 64, ()) == "hipErrorInvalidHandle"
    assert api.launch(nothing, 1, 64, (), stream=c.c_void_p(0x1234)) == "hipErrorContextIsDestroyed"
    assert api.status("hipModuleGetFunction", c.c_void_p(0x1234), b"nothing") == "hipErrorInvalidHandle"


def test_a_kernel_of_another_device_is_refused(api: Hip) -> None:
    from kgen.runtime import standin

    standin.install(["gfx942"], beside_gpu=True)
    nothing = api.function("nothing")
    api.ok("hipSetDevice", api.runtime.arches.index("gfx942"))
    assert api.launch(nothing, 1, 64, ()) == "hipErrorInvalidHandle"
    assert "loaded on device" in api.runtime.message()


def test_with_execution_switched_off_nothing_runs_and_everything_is_checked(api: Hip) -> None:
    data = np.ones(256, np.float32)
    scale, memory = api.function("scale"), api.upload(data)
    before = api.runtime.execute(False)
    try:
        assert api.launch(scale, 1, 256, (memory, f32(2), i32(256))) == "hipSuccess"
        assert api.launch(scale, 1, 512, (memory, f32(2), i32(256))) == "hipErrorLaunchFailure"
    finally:
        api.runtime.execute(before)
    assert np.array_equal(api.download(memory, data), data)
    api.ok("hipFree", memory)
