"""A HIP program as hip-python's user guide describes them, for somebody else's code object: nothing of kgen is in here.

It asks for the device's properties and attributes, loads a module, copies in on a stream, launches with `extra` between two events,
copies out, compares, and frees everything. Arguments: a code object with a kernel scale(float *data, float factor, int n).
"""

import ctypes
import sys

import numpy as np
from hip import hip


def hip_check(call_result):
    err = call_result[0]
    result = call_result[1:]
    if len(result) == 1:
        result = result[0]
    if isinstance(err, hip.hipError_t) and err != hip.hipError_t.hipSuccess:
        raise RuntimeError(str(err))
    return result


def device_properties(number):
    try:
        return hip_check(hip.hipGetDeviceProperties(number))
    except TypeError:  # before hip-python 10 the struct is the caller's
        props = hip.hipDeviceProp_t()
        hip_check(hip.hipGetDeviceProperties(props, number))
        return props


def main():
    props = device_properties(0)
    for attrib in ("warpSize", "multiProcessorCount", "maxThreadsPerBlock", "gcnArchName"):
        print(f"props.{attrib}={getattr(props, attrib)}")
    attribute = hip.hipDeviceAttribute_t.hipDeviceAttributeMaxSharedMemoryPerBlock
    print(f"shared memory per block: {hip_check(hip.hipDeviceGetAttribute(attribute, 0))}")

    module = hip_check(hip.hipModuleLoad(sys.argv[1].encode()))
    kernel = hip_check(hip.hipModuleGetFunction(module, b"scale"))

    n, factor = 10000, 1.23
    x_h = np.random.default_rng(1).random(n, dtype=np.float32)
    x_expected = x_h * np.float32(factor)
    num_bytes = x_h.size * x_h.itemsize
    x_d = hip_check(hip.hipMalloc(num_bytes))
    stream = hip_check(hip.hipStreamCreate())
    start, stop = hip_check(hip.hipEventCreate()), hip_check(hip.hipEventCreate())

    hip_check(hip.hipMemcpyAsync(x_d, x_h, num_bytes, hip.hipMemcpyKind.hipMemcpyHostToDevice, stream))
    block = hip.dim3(x=256)
    grid = hip.dim3(x=-(-n // block.x))
    hip_check(hip.hipEventRecord(start, stream))
    hip_check(
        hip.hipModuleLaunchKernel(
            kernel,
            *grid,
            *block,
            sharedMemBytes=0,
            stream=stream,
            kernelParams=None,
            extra=(x_d, ctypes.c_float(factor), ctypes.c_int(n)),
        )
    )
    hip_check(hip.hipEventRecord(stop, stream))
    hip_check(hip.hipMemcpyAsync(x_h, x_d, num_bytes, hip.hipMemcpyKind.hipMemcpyDeviceToHost, stream))
    hip_check(hip.hipStreamSynchronize(stream))
    hip_check(hip.hipEventSynchronize(stop))
    assert hip_check(hip.hipEventElapsedTime(start, stop)) > 0
    if not np.array_equal(x_h, x_expected):
        raise RuntimeError("values do not match")
    print("ok: every value matches")

    for call, what in ((hip.hipEventDestroy, start), (hip.hipEventDestroy, stop), (hip.hipStreamDestroy, stream)):
        hip_check(call(what))
    hip_check(hip.hipFree(x_d))
    hip_check(hip.hipModuleUnload(module))
    return int(sys.argv[2]) if len(sys.argv) > 2 else 0


if __name__ == "__main__":
    sys.exit(main())
