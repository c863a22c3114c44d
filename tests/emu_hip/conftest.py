"""hip-python over the emulated HIP runtime: the module, the runtime, and helpers that read alike for both generations."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kgen.emu.hipruntime import HipRuntime
from kgen.runtime import standin
from tests.emu.compiler import compiled

ARCH = "gfx1151"
SOURCE = "hip_api.hip"


class Hip:
    """`hip.hip` with calls that must succeed (`ok`) and calls whose status is looked at (`status`)."""

    def __init__(self, runtime: HipRuntime):
        from hip import hip

        self.hip, self.runtime = hip, runtime

    def ok(self, name: str, *args: Any) -> Any:
        """What a call answers; it succeeds."""
        status, *values = getattr(self.hip, name)(*args)
        assert int(status) == 0, f"{name}: {status.name}: {self.runtime.message()}"
        return values[0] if len(values) == 1 else tuple(values)

    def status(self, name: str, *args: Any) -> str:
        """The name of the status of a call."""
        return str(getattr(self.hip, name)(*args)[0].name)

    def properties(self, device: int = 0) -> Any:
        try:
            return self.ok("hipGetDeviceProperties", device)
        except TypeError:
            properties = self.hip.hipDeviceProp_t()
            self.ok("hipGetDeviceProperties", properties, device)
            return properties

    def upload(self, array: np.ndarray) -> Any:
        """A device copy of an array."""
        memory = self.ok("hipMalloc", array.nbytes)
        self.ok("hipMemcpy", memory, array, array.nbytes, self.hip.hipMemcpyKind.hipMemcpyHostToDevice)
        return memory

    def download(self, memory: Any, like: np.ndarray) -> np.ndarray:
        out = np.empty_like(like)
        self.ok("hipMemcpy", out, memory, out.nbytes, self.hip.hipMemcpyKind.hipMemcpyDeviceToHost)
        return out

    def function(self, name: str, image: bytes | None = None) -> Any:
        module = self.ok("hipModuleLoadData", compiled(ARCH, SOURCE) if image is None else image)
        return self.ok("hipModuleGetFunction", module, name.encode())

    def launch(
        self, function: Any, grid: int, block: int, args: tuple[Any, ...], stream: Any = None, lds: int = 0
    ) -> str:
        """Launch with `extra` and answer the status."""
        return self.status("hipModuleLaunchKernel", function, grid, 1, 1, block, 1, 1, lds, stream, None, args)


def text(value: Any) -> str:
    """hip-python 7 answers bytes where 10 answers text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def address(memory: Any) -> int:
    return int(memory)


def i32(value: int) -> ctypes.c_int:
    return ctypes.c_int(value)


@pytest.fixture
def api() -> Iterator[Hip]:
    """The runtime with the device gfx1151 as number 0 or later, made current; nothing is left captured or broken."""
    pytest.importorskip("hip")
    runtime = standin.install([ARCH], beside_gpu=True)
    api = Hip(runtime)
    api.ok("hipSetDevice", runtime.arches.index(ARCH))
    api.hip.hipGetLastError()
    yield api
    api.ok("hipSetDevice", 0)


PROGRAMS = Path(__file__).parent / "programs"
