"""Stand-ins for the packages `hip` and `cuda.bindings`: they record calls and read argument buffers as the real runtimes would."""

from __future__ import annotations

import ctypes
import enum
import sys
import types
from typing import Any

import pytest


class hipError_t(enum.IntEnum):
    hipSuccess = 0
    hipErrorInvalidValue = 1
    hipErrorNoDevice = 100
    hipErrorInvalidImage = 200
    hipErrorNoBinaryForGpu = 209
    hipErrorNotFound = 500


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_NO_BINARY_FOR_GPU = 209
    CUDA_ERROR_NOT_FOUND = 500


def read_extra(address: int, end: int) -> bytes:
    """The argument buffer behind an `extra` list."""
    pointer, buffer, size_key, size, last = (ctypes.c_void_p * 5).from_address(address)
    assert (pointer, size_key, last or 0) == (1, 2, end)
    return ctypes.string_at(buffer, ctypes.c_size_t.from_address(size).value)


class Recorder(types.SimpleNamespace):
    """A module whose functions are logged in `calls`; `fail` maps a function's name to the status it answers."""

    def __init__(self, success: Any, **attributes: Any):
        super().__init__(calls=[], fail={}, success=success, **attributes)

    def answer(self, name: str, *values: Any, said: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        self.calls.append((name, *said))
        return (self.fail.get(name, self.success), *values)

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]


class Properties:
    def __init__(self) -> None:
        self.gcnArchName: Any = None
        self.name: Any = None


class FakeHip(Recorder):
    """`hip.hip` of hip-python; generation 7 fills structs and speaks bytes, 10 returns structs and speaks text."""

    def __init__(self, generation: int, arch: str = "gfx1151:sramecc+:xnack-", devices: int = 1):
        names = ("hipDeviceAttributeMultiprocessorCount", "hipDeviceAttributeMaxSharedMemoryPerBlock")
        super().__init__(
            hipError_t.hipSuccess,
            generation=generation,
            arch=arch,
            devices=devices,
            current=0,
            launched=[],
            hipDeviceProp_t=Properties,
            hipDeviceAttribute_t=types.SimpleNamespace(**{name: name for name in names}),
            hipFuncAttribute=types.SimpleNamespace(hipFuncAttributeMaxDynamicSharedMemorySize=8),
        )

    def text(self, words: str) -> Any:
        return words.encode() if self.generation == 7 else words

    def hipRuntimeGetVersion(self) -> tuple[Any, ...]:
        return self.answer("hipRuntimeGetVersion", 70253211)

    def hipGetDeviceCount(self) -> tuple[Any, ...]:
        return self.answer("hipGetDeviceCount", self.devices)

    def hipGetErrorString(self, status: Any) -> tuple[Any, ...]:
        return (hipError_t.hipSuccess, self.text(f"words for {int(status)}"))

    def hipGetDeviceProperties(self, *args: Any) -> tuple[Any, ...]:
        if len(args) != (2 if self.generation == 7 else 1):
            raise TypeError(
                f"hipGetDeviceProperties() takes another number of positional arguments ({len(args)} given)"
            )
        properties = args[0] if self.generation == 7 else Properties()
        properties.gcnArchName, properties.name = self.text(self.arch), self.text("Radeon 8060S")
        return self.answer("hipGetDeviceProperties", *(() if self.generation == 7 else (properties,)))

    def hipDeviceGetAttribute(self, attribute: str, ordinal: int) -> tuple[Any, ...]:
        return self.answer("hipDeviceGetAttribute", 20 if "Multiprocessor" in attribute else 65536)

    def hipGetDevice(self) -> tuple[Any, ...]:
        return self.answer("hipGetDevice", self.current)

    def hipSetDevice(self, ordinal: int) -> tuple[Any, ...]:
        self.current = ordinal
        return self.answer("hipSetDevice", said=(ordinal,))

    def hipModuleLoadData(self, image: bytes) -> tuple[Any, ...]:
        return self.answer("hipModuleLoadData", "module", said=(image, self.current))

    def hipModuleGetFunction(self, module: Any, name: bytes) -> tuple[Any, ...]:
        assert isinstance(name, bytes)  # 7.x takes nothing else
        return self.answer("hipModuleGetFunction", "function", said=(module, name))

    def hipFuncSetAttribute(self, function: Any, attribute: int, value: int) -> tuple[Any, ...]:
        return self.answer("hipFuncSetAttribute", said=(function, attribute, value))

    def hipModuleLaunchKernel(self, function: Any, *rest: Any) -> tuple[Any, ...]:
        *geometry, stream, params, extra = rest
        assert params is None
        self.launched.append((function, tuple(geometry), stream, read_extra(extra, 3)))
        return self.answer("hipModuleLaunchKernel")

    def hipModuleUnload(self, module: Any) -> tuple[Any, ...]:
        return self.answer("hipModuleUnload", said=(module,))


class FakeCuda(Recorder):
    """`cuda.bindings.driver`."""

    def __init__(self, devices: int = 1, capability: tuple[int, int] = (9, 0)):
        names = ("COMPUTE_CAPABILITY_MAJOR", "COMPUTE_CAPABILITY_MINOR", "MULTIPROCESSOR_COUNT")
        names += ("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN",)
        values = (*capability, 132, 232448)
        attributes = {f"CU_DEVICE_ATTRIBUTE_{name}": value for name, value in zip(names, values, strict=True)}
        super().__init__(
            CUresult.CUDA_SUCCESS,
            devices=devices,
            contexts=[],
            launched=[],
            groups=2,  # that a multiprocessor has room for
            static_lds=0,
            CUdevice_attribute=types.SimpleNamespace(**attributes),
            CUfunction_attribute=types.SimpleNamespace(
                CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES=1,
                CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8,
                CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT=9,
            ),
            CUlaunchAttribute=types.SimpleNamespace,
            CUlaunchAttributeValue=types.SimpleNamespace,
            CUlaunchConfig=types.SimpleNamespace,
            CUlaunchAttributeID=types.SimpleNamespace(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION=6),
        )

    def cuInit(self, flags: int) -> tuple[Any, ...]:
        return self.answer("cuInit")

    def cuDeviceGetCount(self) -> tuple[Any, ...]:
        return self.answer("cuDeviceGetCount", self.devices)

    def cuDeviceGet(self, ordinal: int) -> tuple[Any, ...]:
        return self.answer("cuDeviceGet", ordinal)

    def cuDeviceGetName(self, length: int, device: int) -> tuple[Any, ...]:
        return self.answer("cuDeviceGetName", b"NVIDIA H200\0\0\0")

    def cuDeviceGetAttribute(self, attribute: int, device: int) -> tuple[Any, ...]:
        return self.answer("cuDeviceGetAttribute", attribute)

    def cuDevicePrimaryCtxRetain(self, device: int) -> tuple[Any, ...]:
        return self.answer("cuDevicePrimaryCtxRetain", 77)

    def cuCtxPushCurrent(self, context: int) -> tuple[Any, ...]:
        self.contexts.append(context)
        return self.answer("cuCtxPushCurrent")

    def cuCtxPopCurrent(self) -> tuple[Any, ...]:
        return self.answer("cuCtxPopCurrent", self.contexts.pop())

    def cuCtxGetCurrent(self) -> tuple[Any, ...]:
        return self.answer("cuCtxGetCurrent", 0)

    def cuCtxSetCurrent(self, context: int) -> tuple[Any, ...]:
        return self.answer("cuCtxSetCurrent", said=(context,))

    def cuGetErrorString(self, status: Any) -> tuple[Any, ...]:
        return (CUresult.CUDA_SUCCESS, f"words for {int(status)}".encode())

    def cuModuleLoadData(self, image: bytes) -> tuple[Any, ...]:
        return self.answer("cuModuleLoadData", "module", said=(image, tuple(self.contexts)))

    def cuModuleGetFunction(self, module: Any, name: bytes) -> tuple[Any, ...]:
        return self.answer("cuModuleGetFunction", "function", said=(module, name))

    def cuFuncSetAttribute(self, function: Any, attribute: int, value: int) -> tuple[Any, ...]:
        return self.answer("cuFuncSetAttribute", said=(function, attribute, value))

    def cuFuncGetAttribute(self, attribute: int, function: Any) -> tuple[Any, ...]:
        assert attribute == self.CUfunction_attribute.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES
        return self.answer("cuFuncGetAttribute", self.static_lds)

    def cuOccupancyMaxActiveBlocksPerMultiprocessor(self, function: Any, threads: int, lds: int) -> tuple[Any, ...]:
        return self.answer("cuOccupancyMaxActiveBlocksPerMultiprocessor", self.groups, said=(function, threads, lds))

    def cuLaunchKernel(self, function: Any, *rest: Any) -> tuple[Any, ...]:
        *geometry, stream, params, extra = rest
        assert params == 0
        self.launched.append((function, tuple(geometry), stream, read_extra(extra, 0)))
        return self.answer("cuLaunchKernel")

    def cuLaunchKernelEx(self, config: Any, function: Any, params: int, extra: int) -> tuple[Any, ...]:
        assert (params, config.numAttrs) == (0, len(config.attrs))
        said = [(each.id, each.value.programmaticStreamSerializationAllowed) for each in config.attrs]
        grid, block = (tuple(getattr(config, f"{what}Dim{axis}") for axis in "XYZ") for what in ("grid", "block"))
        geometry = (*grid, *block, config.sharedMemBytes)
        self.launched.append((function, geometry, config.hStream, read_extra(extra, 0)))
        return self.answer("cuLaunchKernelEx", said=tuple(said))

    def cuModuleUnload(self, module: Any) -> tuple[Any, ...]:
        return self.answer("cuModuleUnload", said=(module,))


def install_hip(monkeypatch: pytest.MonkeyPatch, fake: Any) -> None:
    """`from hip import hip` gives the fake."""
    package = types.ModuleType("hip")
    package.hip = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hip", package)


def install_cuda(monkeypatch: pytest.MonkeyPatch, fake: Any) -> None:
    """`from cuda.bindings import driver` gives the fake."""
    package, bindings = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    package.bindings, bindings.driver = bindings, fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda", package)
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
