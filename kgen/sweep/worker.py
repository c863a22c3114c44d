"""Worker processes that may hang or die: each runs one measurer, answers calls through a pipe, and is killed when it is late.

A kernel that never ends or breaks its process costs that process; the next call gets a new one. Workers end with the process that started
them, however that one ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import queue
import signal
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from kgen.errors import KgenError

START_SECONDS = 300.0  # a worker imports torch, opens its device and builds its read kernels in this time
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class WorkerLost(KgenError):
    """A worker process ended or was killed in the middle of a call; the message says how."""


@dataclass(frozen=True)
class WorkerPlan:
    """How to make a worker: a picklable call that makes the measurer, and environment variables for its process.

    name  of the device that it holds; workers of the same name do not take times at once, in whatever sweep of the machine
    """

    make: Callable[[], Any]
    name: str = "device"
    env: Mapping[str, str] = field(default_factory=dict)


class Worker:
    """One worker process, started at the first call. Use it from one thread, the one that started it."""

    def __init__(self, plan: WorkerPlan):
        self._plan = plan
        self._process: Any = None
        self._pipe: Any = None
        self.name = plan.name
        self.started = 0

    def call(self, method: str, *args: Any, deadline: float) -> Any:
        """`measurer.method(*args)` in the worker. Raises WorkerLost when it dies or is late, and what the method raised.

        After any of them the process is gone and the next call starts another: what broke a method may have broken the device for it.
        """
        if self._process is None:
            self._start()
        try:
            self._pipe.send((method, args))
        except (BrokenPipeError, OSError):
            raise self._lost("had ended") from None
        return self._answer(deadline, method)

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._plan, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()
        self.started += 1
        self._answer(START_SECONDS, "start")

    def _answer(self, deadline: float, what: str) -> Any:
        try:
            if not self._pipe.poll(deadline):
                raise self._lost(f"gave no answer to `{what}` within {deadline:g} s and was killed")
            ok, value = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self._lost(f"ended during `{what}`") from None
        if ok:
            return value
        self.stop()
        raise value

    def _lost(self, words: str) -> WorkerLost:
        self._process.join(timeout=1.0)
        code = self._process.exitcode
        self.stop()
        how = ""
        if code is not None:
            how = f" (signal {signal.Signals(-code).name})" if code < 0 else f" (exit code {code})"
        return WorkerLost(f"worker process {words}{how}")


def _serve(pipe: Any, plan: WorkerPlan, parent: int) -> None:
    """The worker's life: make the measurer, then answer calls until the pipe closes."""
    os.environ.update(plan.env)
    _end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        measurer = plan.make()
        pipe.send((True, None))
    except BaseException as error:
        pipe.send((False, _sendable(error)))
        return
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            method, args = pipe.recv()
            try:
                answer = (True, getattr(measurer, method)(*args))
            except Exception as error:
                answer = (False, _sendable(error))
            pipe.send(answer)


def _end_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent is gone, so that a hung GPU call does not outlive a killed sweep."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it went before we asked
        os._exit(1)


def _sendable(error: BaseException) -> Exception:
    """Errors of ours as they are if they can be pickled, others by their words."""
    import pickle

    with contextlib.suppress(Exception):
        copy = pickle.loads(pickle.dumps(error))
        if isinstance(copy, KgenError) and str(copy) == str(error):
            return copy
    return KgenError(f"{type(error).__name__}: {error}")


class Lanes:
    """Several workers side by side, each driven by a thread of its own; `submit` answers futures, first come first served."""

    def __init__(self, plans: list[WorkerPlan]):
        self._queue: queue.SimpleQueue[tuple[Future[Any], Callable[[Worker], Any]] | None] = queue.SimpleQueue()
        self._threads = [Thread(target=self._drive, args=(plan,), daemon=True) for plan in plans]
        self.workers: list[Worker] = []
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        return len(self._threads)

    def submit(self, job: Callable[[Worker], Any]) -> Future[Any]:
        """Run `job(worker)` on the next free worker."""
        future: Future[Any] = Future()
        self._queue.put((future, job))
        return future

    def stop(self) -> None:
        """End all workers after what they are doing."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _drive(self, plan: WorkerPlan) -> None:
        worker = Worker(plan)
        self.workers.append(worker)
        try:
            while (item := self._queue.get()) is not None:
                future, job = item
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    future.set_result(job(worker))
                except BaseException as error:
                    future.set_exception(error)
        finally:
            worker.stop()
