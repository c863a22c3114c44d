"""Streams, events, capture and replay through hip-python."""

from __future__ import annotations

import ctypes as c
import threading
from typing import Any

import numpy as np
import pytest

from tests.emu_hip.conftest import Hip, address

pytestmark = pytest.mark.hipcc
N = 512


class Scaler:
    """The kernel `scale` on one buffer of ones."""

    def __init__(self, api: Hip):
        self.api, self.kernel = api, api.function("scale")
        self.data = np.ones(N, np.float32)
        self.memory = api.upload(self.data)

    def __call__(self, factor: float, stream: Any = None) -> str:
        return self.api.launch(self.kernel, N // 256, 256, (self.memory, c.c_float(factor), c.c_int(N)), stream)

    @property
    def value(self) -> float:
        got = self.api.download(self.memory, self.data)
        assert (got == got[0]).all()
        return float(got[0])


@pytest.fixture
def scaler(api: Hip) -> Any:
    one = Scaler(api)
    yield one
    api.ok("hipFree", one.memory)


def mode(api: Hip, name: str = "Global") -> Any:
    return getattr(api.hip.hipStreamCaptureMode, f"hipStreamCaptureMode{name}")


def captured(api: Hip, stream: Any) -> bool:
    return api.ok("hipStreamIsCapturing", stream) != api.hip.hipStreamCaptureStatus.hipStreamCaptureStatusNone


def instantiate(api: Hip, graph: Any) -> Any:
    return api.ok("hipGraphInstantiateWithFlags", graph, 0)


# ---- streams and events


def test_work_on_streams_is_done_in_order(api: Hip, scaler: Scaler) -> None:
    one, two = api.ok("hipStreamCreate"), api.ok("hipStreamCreateWithFlags", 1)
    event = api.ok("hipEventCreateWithFlags", 2)
    assert scaler(3, one) == "hipSuccess"
    api.ok("hipEventRecord", event, one)
    api.ok("hipStreamWaitEvent", two, event, 0)
    api.ok("hipMemsetD32Async", scaler.memory, int(np.float32(5).view(np.uint32)), N, two)
    assert scaler(7, two) == "hipSuccess"
    out = np.zeros(N, np.float32)
    api.ok("hipMemcpyAsync", out, scaler.memory, out.nbytes, api.hip.hipMemcpyKind.hipMemcpyDeviceToHost, two)
    api.ok("hipStreamSynchronize", two)
    assert (out == 35).all()
    api.ok("hipStreamQuery", one)
    for stream in (one, two):
        api.ok("hipStreamDestroy", stream)
    api.ok("hipEventDestroy", event)


def test_bad_streams_and_events_are_refused(api: Hip) -> None:
    stream, event = api.ok("hipStreamCreate"), api.ok("hipEventCreate")
    api.ok("hipStreamDestroy", stream)
    api.ok("hipEventDestroy", event)
    assert api.status("hipStreamSynchronize", stream) == "hipErrorContextIsDestroyed"
    assert api.status("hipStreamDestroy", stream) == "hipErrorContextIsDestroyed"
    assert api.status("hipStreamDestroy", None) == "hipErrorInvalidHandle"
    assert api.status("hipEventRecord", event, None) == "hipErrorInvalidHandle"
    assert api.status("hipEventSynchronize", event) == "hipErrorInvalidHandle"
    assert api.status("hipStreamWaitEvent", None, event, 0) == "hipErrorInvalidHandle"


def test_events_measure_time_between_them(api: Hip, scaler: Scaler) -> None:
    start, stop, never, silent = (api.ok("hipEventCreateWithFlags", flags) for flags in (0, 0, 0, 2))
    api.ok("hipEventRecord", start, None)
    scaler(1)
    api.ok("hipEventRecord", stop, None)
    api.ok("hipEventRecord", silent, None)
    api.ok("hipEventSynchronize", stop)
    assert 0 < api.ok("hipEventElapsedTime", start, stop) < 60e3
    assert api.status("hipEventElapsedTime", start, never) == "hipErrorInvalidHandle"
    assert api.status("hipEventElapsedTime", start, silent) == "hipErrorInvalidHandle"


def test_threads_share_the_device_one_kernel_at_a_time(api: Hip, scaler: Scaler) -> None:
    device, failures = api.ok("hipGetDevice"), []

    def work() -> None:
        try:
            api.ok("hipSetDevice", device)
            stream = api.ok("hipStreamCreate")
            for factor in (2, 0.5) * 5:
                assert scaler(factor, stream) == "hipSuccess"
                api.ok("hipStreamSynchronize", stream)
            api.ok("hipStreamDestroy", stream)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)
    assert scaler.value == 1  # powers of two, multiplied one kernel after the other: exact in any order


# ---- capture and replay


def test_a_captured_graph_runs_when_it_is_replayed(api: Hip, scaler: Scaler) -> None:
    stream = api.ok("hipStreamCreate")
    api.ok("hipStreamBeginCapture", stream, mode(api))
    assert captured(api, stream)
    one = int(np.float32(1).view(np.uint32))
    api.ok("hipMemsetD32Async", scaler.memory, one, N, stream)
    for factor in (2, 5):
        assert scaler(factor, stream) == "hipSuccess"
    graph = api.ok("hipStreamEndCapture", stream)
    assert not captured(api, stream)
    assert scaler.value == 1
    replay = instantiate(api, graph)
    api.ok("hipGraphDestroy", graph)
    for _ in range(3):
        api.ok("hipGraphLaunch", replay, stream)
        assert scaler.value == 10
    api.ok("hipGraphExecDestroy", replay)
    assert api.status("hipGraphLaunch", replay, stream) == "hipErrorInvalidValue"
    api.ok("hipStreamDestroy", stream)


def test_arguments_are_those_of_the_capture(api: Hip, scaler: Scaler) -> None:
    stream = api.ok("hipStreamCreate")
    api.ok("hipStreamBeginCapture", stream, mode(api))
    values = [c.c_void_p(address(scaler.memory)), c.c_float(4), c.c_int(N)]
    params = (c.c_void_p * 3)(*[c.addressof(value) for value in values])
    api.ok("hipModuleLaunchKernel", scaler.kernel, 2, 1, 1, 256, 1, 1, 0, stream, c.addressof(params), None)
    graph = api.ok("hipStreamEndCapture", stream)
    values[1].value = 9.0
    api.ok("hipGraphLaunch", instantiate(api, graph), stream)
    assert scaler.value == 4


def test_a_second_stream_joins_by_events_and_has_to_come_back(api: Hip, scaler: Scaler) -> None:
    one, two = api.ok("hipStreamCreate"), api.ok("hipStreamCreate")
    fork, join = api.ok("hipEventCreate"), api.ok("hipEventCreate")
    for comes_back in (True, False):
        api.ok("hipMemsetD32", scaler.memory, int(np.float32(1).view(np.uint32)), N)
        api.ok("hipStreamBeginCapture", one, mode(api))
        scaler(2, one)
        api.ok("hipEventRecord", fork, one)
        api.ok("hipStreamWaitEvent", two, fork, 0)
        assert captured(api, two)
        scaler(3, two)
        api.ok("hipEventRecord", join, two)
        if not comes_back:
            scaler(5, two)  # behind the event: nobody waits for it
        api.ok("hipStreamWaitEvent", one, join, 0)
        scaler(7, one)
        if comes_back:
            api.ok("hipGraphLaunch", instantiate(api, api.ok("hipStreamEndCapture", one)), one)
            assert scaler.value == 42
        else:
            assert api.status("hipStreamEndCapture", one) == "hipErrorStreamCaptureUnjoined"
            assert scaler.value == 1
        assert not captured(api, two)
    assert api.status("hipEventSynchronize", join) == "hipErrorCapturedEvent"


def test_what_cannot_be_captured_is_refused(api: Hip, scaler: Scaler) -> None:
    stream, other = api.ok("hipStreamCreate"), api.ok("hipStreamCreate")
    assert api.status("hipStreamBeginCapture", None, mode(api)) == "hipErrorStreamCaptureUnsupported"
    assert api.status("hipStreamEndCapture", stream) == "hipErrorIllegalState"
    api.ok("hipStreamBeginCapture", stream, mode(api))
    assert api.status("hipStreamBeginCapture", stream, mode(api)) == "hipErrorIllegalState"
    assert api.status("hipMalloc", 16) == "hipErrorStreamCaptureUnsupported"
    assert api.status("hipDeviceSynchronize") == "hipErrorStreamCaptureUnsupported"
    assert api.status("hipStreamDestroy", stream) == "hipErrorStreamCaptureUnsupported"
    assert scaler(2, other) == "hipSuccess"  # another stream is not concerned
    assert api.status("hipStreamSynchronize", stream) == "hipErrorStreamCaptureUnsupported"
    assert scaler(2, stream) == "hipErrorStreamCaptureInvalidated"
    assert api.status("hipStreamEndCapture", stream) == "hipErrorStreamCaptureInvalidated"
    api.ok("hipStreamBeginCapture", stream, mode(api))
    assert scaler(2) == "hipErrorStreamCaptureImplicit"  # the null stream would have to wait for the capture
    assert api.status("hipStreamEndCapture", stream) == "hipErrorStreamCaptureInvalidated"
    assert scaler.value == 2


def test_a_relaxed_capture_lets_others_allocate(api: Hip) -> None:
    stream = api.ok("hipStreamCreate")
    api.ok("hipStreamBeginCapture", stream, mode(api, "Relaxed"))
    api.ok("hipFree", api.ok("hipMalloc", 16))
    api.ok("hipStreamEndCapture", stream)


def test_a_replay_reports_what_a_launch_would(api: Hip, scaler: Scaler) -> None:
    stream, memory = api.ok("hipStreamCreate"), api.ok("hipMalloc", 256)
    overrun = api.function("overrun")
    api.ok("hipStreamBeginCapture", stream, mode(api))
    assert api.launch(overrun, 1, 256, (memory, c.c_int(1)), stream) == "hipSuccess"  # nothing ran yet
    replay = instantiate(api, api.ok("hipStreamEndCapture", stream))
    assert api.status("hipGraphLaunch", replay, stream) == "hipErrorIllegalAddress"
    assert "offset 256 of argument 0" in api.runtime.message()
    api.ok("hipFree", memory)
    assert api.status("hipGraphLaunch", replay, stream) == "hipErrorIllegalAddress"  # freed memory is no memory


# ---- split-K: a workspace per stream that the kernel arms again


def test_a_split_k_workspace_per_stream_is_right_again_and_again_and_in_graphs(api: Hip) -> None:
    split, k = api.function("split_dot"), 1000
    groups = -(-k // 256)
    generator = np.random.default_rng(3)
    a, b = (generator.integers(-8, 8, k).astype(np.float32) for _ in range(2))  # sums of small integers are exact
    at_a, at_b, jobs = api.upload(a), api.upload(b), []
    for _ in range(2):
        workspace = [
            api.upload(np.zeros(1, np.float32)),
            api.ok("hipMalloc", 4 * groups),
            api.upload(np.zeros(1, np.uint32)),
        ]
        jobs.append((api.ok("hipStreamCreate"), workspace))
    for _ in range(3):
        for stream, workspace in jobs:
            assert api.launch(split, groups, 256, (at_a, at_b, *workspace, c.c_int(k)), stream) == "hipSuccess"
    replays = []
    for stream, workspace in jobs:
        api.ok("hipStreamBeginCapture", stream, mode(api))
        for _ in range(2):
            assert api.launch(split, groups, 256, (at_a, at_b, *workspace, c.c_int(k)), stream) == "hipSuccess"
        replays.append(instantiate(api, api.ok("hipStreamEndCapture", stream)))
    for _ in range(2):
        for replay, (stream, (out, parts, arrived)) in zip(replays, jobs, strict=True):
            api.ok("hipMemset", out, 0xFF, 4)
            api.ok("hipMemset", parts, 0xFF, 4 * groups)  # NaN: a sum that uses a stale part cannot pass
            api.ok("hipGraphLaunch", replay, stream)
            assert api.download(out, np.empty(1, np.float32))[0] == (a * b).sum()
            assert api.download(arrived, np.empty(1, np.uint32))[0] == 0
