"""ctypes mirrors of the emulated HIP runtime's records (hip/hip.h), and the layout of HIP's device properties.

The fields of hipDeviceProp_t are those of ROCm 7.2.4's hip_runtime_api.h (R0600) and hip_deprecated.h (R0000, before ROCm 6), the numbers
of the attributes its hipDeviceAttribute_t; tests/emu_hip compares what hip-python reads.
"""

from __future__ import annotations

import ctypes as c
from typing import Any

CUDA_ATTRIBUTES, AMD_ATTRIBUTES, AMD_FIRST, LABEL, ARGUMENTS = 128, 64, 10000, 32, 256
_TYPES = {"B": c.c_uint8, "I": c.c_uint32, "i": c.c_int32, "Q": c.c_uint64}  # the two pointers among them are never set

_R0600 = """
name:B256 uuid:B16 luid:B8 luidDeviceNodeMask:I totalGlobalMem:Q sharedMemPerBlock:Q regsPerBlock:i warpSize:i memPitch:Q maxThreadsPerBlock:i
maxThreadsDim:i3 maxGridSize:i3 clockRate:i totalConstMem:Q major:i minor:i textureAlignment:Q texturePitchAlignment:Q deviceOverlap:i
multiProcessorCount:i kernelExecTimeoutEnabled:i integrated:i canMapHostMemory:i computeMode:i maxTexture1D:i maxTexture1DMipmap:i
maxTexture1DLinear:i maxTexture2D:i2 maxTexture2DMipmap:i2 maxTexture2DLinear:i3 maxTexture2DGather:i2 maxTexture3D:i3 maxTexture3DAlt:i3
maxTextureCubemap:i maxTexture1DLayered:i2 maxTexture2DLayered:i3 maxTextureCubemapLayered:i2 maxSurface1D:i maxSurface2D:i2 maxSurface3D:i3
maxSurface1DLayered:i2 maxSurface2DLayered:i3 maxSurfaceCubemap:i maxSurfaceCubemapLayered:i2 surfaceAlignment:Q concurrentKernels:i ECCEnabled:i
pciBusID:i pciDeviceID:i pciDomainID:i tccDriver:i asyncEngineCount:i unifiedAddressing:i memoryClockRate:i memoryBusWidth:i l2CacheSize:i
persistingL2CacheMaxSize:i maxThreadsPerMultiProcessor:i streamPrioritiesSupported:i globalL1CacheSupported:i localL1CacheSupported:i
sharedMemPerMultiprocessor:Q regsPerMultiprocessor:i managedMemory:i isMultiGpuBoard:i multiGpuBoardGroupID:i hostNativeAtomicSupported:i
singleToDoublePrecisionPerfRatio:i pageableMemoryAccess:i concurrentManagedAccess:i computePreemptionSupported:i canUseHostPointerForRegisteredMem:i
cooperativeLaunch:i cooperativeMultiDeviceLaunch:i sharedMemPerBlockOptin:Q pageableMemoryAccessUsesHostPageTables:i directManagedMemAccessFromHost:i
maxBlocksPerMultiProcessor:i accessPolicyMaxWindowSize:i reservedSharedMemPerBlock:Q hostRegisterSupported:i sparseHipArraySupported:i
hostRegisterReadOnlySupported:i timelineSemaphoreInteropSupported:i memoryPoolsSupported:i gpuDirectRDMASupported:i gpuDirectRDMAFlushWritesOptions:I
gpuDirectRDMAWritesOrdering:i memoryPoolSupportedHandleTypes:I deferredMappingHipArraySupported:i ipcEventSupported:i clusterLaunch:i
unifiedFunctionPointers:i reserved:i63 hipReserved:i32 gcnArchName:B256 maxSharedMemoryPerMultiProcessor:Q clockInstructionRate:i arch:I
hdpMemFlushCntl:Q hdpRegFlushCntl:Q cooperativeMultiDeviceUnmatchedFunc:i cooperativeMultiDeviceUnmatchedGridDim:i
cooperativeMultiDeviceUnmatchedBlockDim:i cooperativeMultiDeviceUnmatchedSharedMem:i isLargeBar:i asicRevision:i
"""
_R0000 = """
name:B256 totalGlobalMem:Q sharedMemPerBlock:Q regsPerBlock:i warpSize:i maxThreadsPerBlock:i maxThreadsDim:i3 maxGridSize:i3 clockRate:i
memoryClockRate:i memoryBusWidth:i totalConstMem:Q major:i minor:i multiProcessorCount:i l2CacheSize:i maxThreadsPerMultiProcessor:i computeMode:i
clockInstructionRate:i arch:I concurrentKernels:i pciDomainID:i pciBusID:i pciDeviceID:i maxSharedMemoryPerMultiProcessor:Q isMultiGpuBoard:i
canMapHostMemory:i gcnArch:i gcnArchName:B256 integrated:i cooperativeLaunch:i cooperativeMultiDeviceLaunch:i maxTexture1DLinear:i maxTexture1D:i
maxTexture2D:i2 maxTexture3D:i3 hdpMemFlushCntl:Q hdpRegFlushCntl:Q memPitch:Q textureAlignment:Q texturePitchAlignment:Q kernelExecTimeoutEnabled:i
ECCEnabled:i tccDriver:i cooperativeMultiDeviceUnmatchedFunc:i cooperativeMultiDeviceUnmatchedGridDim:i cooperativeMultiDeviceUnmatchedBlockDim:i
cooperativeMultiDeviceUnmatchedSharedMem:i isLargeBar:i asicRevision:i managedMemory:i directManagedMemAccessFromHost:i concurrentManagedAccess:i
pageableMemoryAccess:i pageableMemoryAccessUsesHostPageTables:i
"""


def _fields(text: str) -> list[tuple[str, Any]]:
    """Fields from "name:type[count]" words."""
    out: list[tuple[str, Any]] = []
    for word in text.split():
        name, code = word.split(":")
        kind = _TYPES[code[0]]
        out.append((name, kind * int(code[1:]) if code[1:] else kind))
    return out


class PropertiesR0600(c.Structure):
    """hipDeviceProp_t since ROCm 6."""

    _fields_ = _fields(_R0600)


class PropertiesR0000(c.Structure):
    """hipDeviceProp_t before ROCm 6."""

    _fields_ = _fields(_R0000)


ATTRIBUTES = {
    "asyncEngineCount": 2,
    "canMapHostMemory": 3,
    "canUseHostPointerForRegisteredMem": 4,
    "concurrentKernels": 8,
    "integrated": 16,
    "major": 23,
    "managedMemory": 24,
    "maxBlocksPerMultiProcessor": 25,
    "maxThreadsPerBlock": 56,
    "maxThreadsPerMultiProcessor": 57,
    "minor": 61,
    "multiProcessorCount": 63,
    "pciBusID": 67,
    "regsPerBlock": 71,
    "regsPerMultiprocessor": 72,
    "sharedMemPerBlock": 74,
    "sharedMemPerBlockOptin": 75,
    "sharedMemPerMultiprocessor": 76,
    "streamPrioritiesSupported": 78,
    "unifiedAddressing": 85,
    "warpSize": 87,
    "hostRegisterSupported": 90,
    "maxSharedMemoryPerMultiProcessor": 10002,
}
"""Properties that are attributes too, and their numbers."""
DIMENSIONS = {"maxThreadsDim": 26, "maxGridSize": 29}
"""Properties of three numbers, and the number of the first attribute of three."""


class Device(c.Structure):
    """A device as the runtime answers for it."""

    _fields_ = [
        ("r0600", PropertiesR0600),
        ("r0000", PropertiesR0000),
        ("cuda", c.c_int32 * CUDA_ATTRIBUTES),
        ("amd", c.c_int32 * AMD_ATTRIBUTES),
        ("memory", c.c_uint64),
        ("max_threads", c.c_int32),
        ("lds", c.c_int32),
        ("major", c.c_int32),
        ("minor", c.c_int32),
    ]


class Region(c.Structure):
    """Memory that a launch may touch."""

    _fields_ = [
        ("address", c.c_uint64),
        ("size", c.c_uint64),
        ("writable", c.c_uint32),
        ("argument", c.c_uint32),
        ("label", c.c_char * LABEL),
    ]


class KernelRecord(c.Structure):
    """A kernel's metadata."""

    _fields_ = [
        ("id", c.c_uint64),
        *(
            (name, c.c_uint32)
            for name in [
                "explicit_bytes",
                "kernarg_bytes",
                "nargs",
                "lds",
                "private_bytes",
                "vgprs",
                "max_threads",
                "wave",
            ]
        ),
        ("offset", c.c_uint32 * ARGUMENTS),
        ("size", c.c_uint32 * ARGUMENTS),
    ]


class LaunchCall(c.Structure):
    """One launch."""

    _fields_ = [
        ("kernel", c.c_uint64),
        ("grid", c.c_uint32 * 3),
        ("block", c.c_uint32 * 3),
        ("lds", c.c_uint32),
        ("device", c.c_int32),
        ("kernarg", c.c_void_p),
        ("kernarg_bytes", c.c_uint64),
        ("regions", c.POINTER(Region)),
        ("nregions", c.c_uint64),
        ("exact", c.c_uint32),
        ("spare", c.c_uint32),
    ]


LOAD = c.CFUNCTYPE(c.c_int, c.c_char_p, c.c_void_p, c.c_int32, c.POINTER(c.c_uint64))
UNLOAD = c.CFUNCTYPE(c.c_int, c.c_uint64)
FUNCTION = c.CFUNCTYPE(c.c_int, c.c_uint64, c.c_char_p, c.POINTER(KernelRecord))
SYMBOL = c.CFUNCTYPE(c.c_int, c.c_uint64, c.c_char_p, c.POINTER(c.c_uint64), c.POINTER(c.c_uint64))
LAUNCH = c.CFUNCTYPE(c.c_int, c.POINTER(LaunchCall))
OCCUPANCY = c.CFUNCTYPE(c.c_int, c.c_uint64, c.c_int32, c.c_uint64, c.POINTER(c.c_int32))
IDLE = c.CFUNCTYPE(c.c_int)


class Callbacks(c.Structure):
    """What the library calls in Python."""

    _fields_ = [
        ("load", LOAD),
        ("unload", UNLOAD),
        ("function", FUNCTION),
        ("symbol", SYMBOL),
        ("launch", LAUNCH),
        ("occupancy", OCCUPANCY),
        ("idle", IDLE),
    ]


RECORDS = (Device, Region, KernelRecord, LaunchCall, Callbacks)
