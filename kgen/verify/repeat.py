"""The same bits on every run, while the device is busy with other work.

A kernel whose order of additions depends on timing (atomics, arrival counters without an order) passes a quiet run and fails a busy one. So
one case is run RUNS times while other launches of the same kernel, on other data and in another order of waves, come and go beside it: in
other threads of the emulator, on other streams of a GPU.
"""

from __future__ import annotations

import itertools
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from kgen.spec.base import KernelSpec
from kgen.verify.accuracy import Verdict, judge_exact
from kgen.verify.cases import Case
from kgen.verify.data import OTHER_ORDER, Data
from kgen.verify.devices import CheckDevice, CheckOptions, GpuDevice
from kgen.verify.kinds import kind_of

RUNS = 10
BESIDE = 2  # threads of other work


def promises_same_bits(spec: KernelSpec) -> bool:
    """Whether the rule applies: all kernels but those whose spec says that their order of additions may change."""
    return spec.same_bits


def judge_repeats(
    spec: KernelSpec,
    image: bytes,
    device: CheckDevice,
    case: Case | None = None,
    runs: int = RUNS,
    beside: int = BESIDE,
    options: CheckOptions | None = None,
) -> Verdict:
    """Run one case (default: the first quick one) `runs` times beside `beside` threads of other launches; all bits must be equal.

    Raises what the runs raise; a failure of the other work is raised too, after it has ended.
    """
    chosen = case or kind_of(spec).cases(spec, "quick")[0]
    options = options or CheckOptions(races=False)  # what is watched is not timing, and is watched elsewhere
    kernel = device.load(spec, image)
    data = kind_of(spec).data(spec, chosen)
    with _Beside(spec, device, kernel, chosen, options, beside) as other:
        other.wait_until_running()
        outs = [_run(spec, device, kernel, chosen, data, options) for _ in range(runs)]
    for number, out in enumerate(outs[1:], 2):
        verdict = judge_exact(out, outs[0], spec.dtype)
        if not np.array_equal(out, outs[0]):
            words = f"run {number} of {runs} differs from the first: {verdict.words}"
            return Verdict(False, verdict.max_abs_err, verdict.mean_abs_err, 0.0, words)
    return Verdict(True, 0.0, 0.0, 0.0, f"{runs} runs of the same bits beside {other.launches} other launches")


class _Beside:
    """Threads that launch the kernel on other data until the context ends; at least one launch each."""

    def __init__(
        self, spec: KernelSpec, device: CheckDevice, kernel: Any, case: Case, options: CheckOptions, threads: int
    ):
        self._ended, self._failures, self.launches = threading.Event(), list[BaseException](), 0
        self._counted, self._running = threading.Lock(), threading.Semaphore(0)
        self._threads = [
            threading.Thread(target=self._work, args=(spec, device, kernel, replace(case, seed=1000 + n), options))
            for n in range(threads)
        ]

    def __enter__(self) -> _Beside:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def wait_until_running(self) -> None:
        """Until every thread has begun its first launch."""
        for _ in self._threads:
            self._running.acquire()

    def _work(self, spec: KernelSpec, device: CheckDevice, kernel: Any, case: Case, options: CheckOptions) -> None:
        started = False
        try:
            data = kind_of(spec).data(spec, case)
            with _own_stream(device):
                for order in itertools.cycle((OTHER_ORDER, "linear")):
                    if not started:
                        started = True
                        self._running.release()
                    _run(spec, device, kernel, case, data, options, order)
                    with self._counted:
                        self.launches += 1
                    if self._ended.is_set():
                        return
        except BaseException as error:
            self._failures.append(error)
        finally:
            if not started:
                self._running.release()


def _own_stream(device: CheckDevice) -> AbstractContextManager[Any]:
    """On a GPU, a stream of the calling thread's own; the emulator's launches are alone in their thread anyway."""
    if not isinstance(device, GpuDevice):
        return nullcontext()
    import torch

    return torch.cuda.stream(torch.cuda.Stream(device.driver.device.torch_name))


def _run(
    spec: KernelSpec,
    device: CheckDevice,
    kernel: Any,
    case: Case,
    data: Data,
    options: CheckOptions,
    order: str = "linear",
) -> Any:
    geometry = spec.launch(case.shape, case.cu or device.cu)
    return device.run(kernel, geometry, case.shape, data, options, order).out
