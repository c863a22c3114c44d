"""Memory of the emulated HIP runtime: exact bounds, checked sizes and handles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.emu_hip.conftest import Hip, address

POISON = np.uint32(0x7FE17FE1)


def kind(api: Hip, name: str) -> Any:
    return getattr(api.hip.hipMemcpyKind, f"hipMemcpy{name}")


def test_what_is_copied_in_comes_back(api: Hip) -> None:
    data = np.arange(1000, dtype=np.float32)
    memory = api.upload(data)
    other = api.ok("hipMalloc", data.nbytes)
    api.ok("hipMemcpy", other, memory, data.nbytes, kind(api, "DeviceToDevice"))
    assert np.array_equal(api.download(other, data), data)
    api.ok("hipFree", memory)
    api.ok("hipFree", other)


def test_fresh_memory_is_nan_in_every_format(api: Hip) -> None:
    memory = api.ok("hipMalloc", 64)
    assert (api.download(memory, np.empty(16, np.uint32)) == POISON).all()
    api.ok("hipFree", memory)


def test_a_copy_past_the_end_of_an_allocation_is_refused_with_both_sizes(api: Hip) -> None:
    memory, host = api.ok("hipMalloc", 100), np.zeros(200, np.uint8)
    assert api.status("hipMemcpy", memory, host, 101, kind(api, "HostToDevice")) == "hipErrorInvalidValue"
    assert "101 bytes at offset 0 of an allocation of 100 bytes" in api.runtime.message()
    inside = address(memory) + 90
    assert api.status("hipMemcpy", host, inside, 11, kind(api, "DeviceToHost")) == "hipErrorInvalidValue"
    assert "11 bytes at offset 90" in api.runtime.message()
    api.ok("hipMemcpy", host, inside, 10, kind(api, "DeviceToHost"))
    assert api.status("hipMemset", inside, 1, 11) == "hipErrorInvalidValue"
    api.ok("hipFree", memory)


def test_freed_and_unknown_memory_is_refused(api: Hip) -> None:
    memory, host = api.ok("hipMalloc", 16), np.zeros(16, np.uint8)
    at = address(memory)
    api.ok("hipFree", memory)
    assert api.status("hipFree", at) == "hipErrorInvalidValue"
    assert api.status("hipMemcpy", at, host, 16, kind(api, "HostToDevice")) == "hipErrorInvalidValue"
    assert "no live device allocation" in api.runtime.message()
    assert api.status("hipMemcpy", host, at, 16, kind(api, "DeviceToHost")) == "hipErrorInvalidValue"
    assert api.status("hipMemset", at, 0, 16) == "hipErrorInvalidValue"
    inner = api.ok("hipMalloc", 16)
    assert api.status("hipFree", address(inner) + 4) == "hipErrorInvalidValue"
    assert api.status("hipHostFree", inner) == "hipErrorInvalidValue"
    api.ok("hipFree", inner)


def test_nothing_and_too_much_are_answered_as_hip_does(api: Hip) -> None:
    assert api.ok("hipMalloc", 0) is None or address(api.ok("hipMalloc", 0)) == 0
    total = api.ok("hipMemGetInfo")[1]
    assert api.status("hipMalloc", total + 1) == "hipErrorOutOfMemory"
    api.ok("hipFree", None)


def test_fills_of_every_width(api: Hip) -> None:
    memory = api.ok("hipMalloc", 64)
    api.ok("hipMemset", memory, 0xAB, 64)
    api.ok("hipMemsetD16", memory, 0x1234, 8)
    api.ok("hipMemsetD32", address(memory) + 16, 0x01020304, 4)
    got = api.download(memory, np.empty(64, np.uint8))
    assert got[:16].view(np.uint16).tolist() == [0x1234] * 8
    assert got[16:32].view(np.uint32).tolist() == [0x01020304] * 4
    assert (got[32:] == 0xAB).all()
    api.ok("hipFree", memory)


def test_free_memory_follows_allocations(api: Hip) -> None:
    before, total = api.ok("hipMemGetInfo")
    memory = api.ok("hipMalloc", 1 << 20)
    assert api.ok("hipMemGetInfo") == (before - (1 << 20), total)
    api.ok("hipFree", memory)
    assert api.ok("hipMemGetInfo") == (before, total)


def test_kernels_reach_pinned_and_registered_host_memory_and_no_other(api: Hip) -> None:
    scale = api.function("scale")
    pinned = api.ok("hipHostMalloc", 1024, 0)
    api.ok("hipMemsetD32", pinned, int(np.float32(1.5).view(np.uint32)), 256)
    assert api.launch(scale, 1, 256, _args(pinned)) == "hipSuccess"
    own = np.ones(256, np.float32)
    assert api.launch(scale, 1, 256, _args(own.ctypes.data)) == "hipErrorIllegalAddress"
    api.ok("hipHostRegister", own.ctypes.data, own.nbytes, 0)
    assert api.launch(scale, 1, 256, _args(own.ctypes.data)) == "hipSuccess"
    assert (own == 2).all()
    assert api.status("hipHostRegister", own.ctypes.data, 4, 0) == "hipErrorHostMemoryAlreadyRegistered"
    api.ok("hipHostUnregister", own.ctypes.data)
    assert api.status("hipHostUnregister", own.ctypes.data) == "hipErrorHostMemoryNotRegistered"
    assert api.launch(scale, 1, 256, _args(own.ctypes.data)) == "hipErrorIllegalAddress"
    api.ok("hipHostFree", pinned)


def _args(data: Any) -> tuple[Any, ...]:
    import ctypes

    return (ctypes.c_void_p(int(data)), ctypes.c_float(2.0), ctypes.c_int(256))


def test_variables_of_a_module_are_device_memory(api: Hip) -> None:
    from tests.emu.compiler import compiled
    from tests.emu_hip.conftest import ARCH, SOURCE

    module = api.ok("hipModuleLoadData", compiled(ARCH, SOURCE))
    where, size = api.ok("hipModuleGetGlobal", module, b"calls")
    assert size == 16
    assert api.download(where, np.empty(4, np.uint32)).tolist() == [1, 2, 3, 4]
    assert api.status("hipModuleGetGlobal", module, b"no_such") == "hipErrorNotFound"
    api.ok("hipModuleUnload", module)
    into = api.hip.hipMemcpyKind.hipMemcpyHostToDevice
    assert api.status("hipMemcpy", where, np.zeros(4, np.uint32), 16, into) == "hipErrorInvalidValue"


@pytest.mark.parametrize("bad", [5, -1])
def test_a_direction_that_is_none_is_refused(api: Hip, bad: int) -> None:
    from kgen.emu import hiplibrary

    memory = api.ok("hipMalloc", 16)
    host = np.zeros(16, np.uint8)
    import ctypes as c

    library = hiplibrary.load()
    assert library.hipMemcpy(c.c_void_p(address(memory)), c.c_void_p(host.ctypes.data), c.c_size_t(16), bad) == 21
    api.ok("hipFree", memory)
