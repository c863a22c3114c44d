"""Scratch memory of split-K kernels: a pool of slots per device, one slot for one stream at a time, zeroed once and re-armed by the kernels.

A launch borrows a slot: fp32 partial sums, and arrival counters that are zero before it and after it. Launches of one stream run one after the
other, so they share a slot; two streams never do at the same time:

* the first STREAMS streams each keep a slot of their own, made when they first need it;
* further streams take turns on SHARED slots, each launch waiting on the device for the one that had the slot before;
* streams that are being captured into a graph take one of CAPTURES slots and keep it for good, so that replays meet neither eager launches nor
  graphs captured on another stream. Graphs captured on the same stream share it: replay those one after the other. The slots are made by
  `kgen.warm_up()` or by the first eager launch; a capture before, or one more capturing stream, is an error.

Nothing is freed while the process lives, since graphs hold addresses. The emulator has no streams: each thread counts as one, and a launch that
was stopped has its slot zeroed again.

The two orders of addition have pools of their own: sums that atomics add into are zero between launches, stored ones are not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kgen.errors import LaunchError
from kgen.runtime.driver import Driver, LaunchCall
from kgen.spec.problem import SLOT, Workspace

if TYPE_CHECKING:
    from torch import Tensor

STREAMS = 8
SHARED = 2
CAPTURES = 4

Run = Callable[["Slot"], None]
"""A launch with the slot that it may use."""


@dataclass(eq=False)
class Slot:
    """Scratch memory of one launch at a time: partial sums and counters with their addresses."""

    partial: Tensor
    counter: Tensor

    def __post_init__(self) -> None:
        self.partial_at, self.counter_at = self.partial.data_ptr(), self.counter.data_ptr()
        self.addresses, self.tensors = (self.partial_at, self.counter_at), (self.partial, self.counter)
        self.lock = threading.Lock()
        self.done: Any = None  # event behind the last launch, where streams take turns

    def zero(self) -> None:
        """As it was when it was new."""
        self.partial.zero_()
        self.counter.zero_()


class WorkspacePool:
    """The slots of one device. Safe from several threads.

    driver  of the device; tensors are made on it and its capture state is asked
    size    bytes of a slot
    make    makes a slot; None: zeroed tensors on the driver's device
    """

    def __init__(self, driver: Driver, size: Workspace = SLOT, make: Callable[[], Slot] | None = None):
        self.driver, self.size = driver, size
        self._make = make or self._zeroed
        self._emulated = driver.device.tensors == "cpu"
        self._own: dict[int, Slot] = {}
        self._captured: dict[int, Slot] = {}
        self._reserved: list[Slot] = []
        self._shared: list[Slot] = []
        self._turn = 0
        self._warm = False
        self._lock = threading.Lock()

    @property
    def slots(self) -> int:
        """Slots that exist now; at most STREAMS + SHARED + CAPTURES."""
        return len(self._own) + len(self._shared) + len(self._captured) + len(self._reserved)

    def warm_up(self) -> None:
        """Make the slots for graph captures, and wait until they are zero. Raises LaunchError while a graph is captured."""
        if self.driver.capturing():
            raise LaunchError(_TOO_LATE)
        with self._lock:
            self._reserve_all()

    def lend(self, call: LaunchCall) -> LaunchCall:
        """`call` with a slot's partial sums and counters behind its values and tensors, as the last pointers of a kernel's arguments.

        Raises as `launch` does.
        """
        own, capturing, emulated = self._own, self.driver.capturing, self._emulated

        def launch(stream: int, values: tuple[int, ...], tensors: tuple[Any, ...]) -> None:
            slot = None if emulated or capturing() else own.get(stream)
            if slot is not None:  # what nearly every launch finds; the rest is `launch`'s
                call(stream, values + slot.addresses, tensors + slot.tensors)
            else:
                self.launch(stream, lambda slot: call(stream, values + slot.addresses, tensors + slot.tensors))

        return launch

    def launch(self, stream: int, run: Run) -> None:
        """Call `run` with a slot that the stream may use now. Raises LaunchError when a capture finds none."""
        if self._emulated:
            self._emulate(run)
        elif self.driver.capturing():
            run(self._captured.get(stream) or self._reserve(stream))
        elif (slot := self._own.get(stream) or self._adopt(stream)) is not None:
            run(slot)
        else:
            self._take_turns(run)

    # ---- the four ways

    def _emulate(self, run: Run) -> None:
        """Threads stand for streams; more of them than slots wait here, on the host."""
        me = threading.get_ident()
        slot = self._own.get(me) or self._adopt(me)
        if slot is None:
            slot = self._next_shared()
        with slot.lock:
            try:
                run(slot)
            except BaseException:
                slot.zero()  # what was stopped has not left it as it found it
                raise

    def _adopt(self, stream: int) -> Slot | None:
        """A slot of the stream's own; None when all are taken."""
        with self._lock:
            self._reserve_all()
            if stream not in self._own and len(self._own) < STREAMS:
                self._own[stream] = self._make()  # zeroed on this stream, so before its first launch
            return self._own.get(stream)

    def _reserve_all(self) -> None:
        """The slots for captures, once; called under the lock."""
        if not self._warm and not self._emulated:
            self._reserved = [self._make() for _ in range(CAPTURES)]
            self._settle()
            self._warm = True

    def _reserve(self, stream: int) -> Slot:
        with self._lock:
            if not self._warm:
                raise LaunchError(_TOO_LATE)
            if not self._reserved:
                raise LaunchError(
                    f"{CAPTURES} streams have captured graphs with split-K kernels, and stream {stream:#x} is one more\n"
                    "  try: capture on fewer streams; graphs of one stream share their workspace"
                )
            self._captured[stream] = self._reserved.pop()
            return self._captured[stream]

    def _next_shared(self) -> Slot:
        with self._lock:
            if len(self._shared) < SHARED:
                self._shared.append(self._make())
                self._settle()
                return self._shared[-1]
            self._turn += 1
            return self._shared[self._turn % SHARED]

    def _take_turns(self, run: Run) -> None:
        """On the current stream, behind the slot's last launch; the host does not wait."""
        import torch

        slot = self._next_shared()
        with slot.lock:
            if slot.done is None:
                slot.done = torch.cuda.Event()
            else:
                slot.done.wait()
            run(slot)
            slot.done.record()

    # ---- memory

    def _zeroed(self) -> Slot:
        import torch

        device = self.driver.device.torch_name
        partial = torch.zeros(self.size.partial_bytes // 4, dtype=torch.float32, device=device)
        return Slot(partial, torch.zeros(self.size.counter_bytes // 4, dtype=torch.int32, device=device))

    def _settle(self) -> None:
        """Wait until fresh slots are zero, for streams that know nothing of the one they were made on."""
        if not self._emulated:
            import torch

            torch.cuda.current_stream(self.driver.device.torch_name).synchronize()


_TOO_LATE = (
    "a graph is being captured and there is no workspace for split-K kernels yet\n"
    "  try: kgen.warm_up() before the capture"
)
_lock = threading.Lock()
_pools: dict[tuple[str, int, bool], WorkspacePool] = {}


def pool_of(driver: Driver, deterministic: bool) -> WorkspacePool:
    """The pool of a driver's device for one order of addition: made once per process, whatever is loaded and unloaded."""
    device = driver.device
    key = (device.tensors, device.ordinal, deterministic)
    found = _pools.get(key)
    if found is None:
        with _lock:
            found = _pools.get(key) or _pools.setdefault(key, WorkspacePool(driver))
    return found
