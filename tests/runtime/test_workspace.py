"""The pool of split-K workspaces: who gets which slot, and that there are never more than it says."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from kgen.errors import LaunchError
from kgen.runtime.driver import Device
from kgen.runtime.workspace import CAPTURES, SHARED, STREAMS, Slot, WorkspacePool, pool_of
from kgen.spec.problem import SLOT, Workspace


class Driver:
    """A device that has streams but no memory of its own."""

    def __init__(self, tensors: str = "cuda", ordinal: int = 0):
        self.device = Device("cuda", "sm_90", "none", 132, 1 << 17, ordinal, tensors)  # type: ignore[arg-type]
        self.captured = False

    def capturing(self) -> bool:
        return self.captured


class Events:
    """torch.cuda.Event in a log: ("record" | "wait", event)."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []

    def __call__(self) -> Any:
        events = self

        class Event:
            def record(self) -> None:
                events.log.append(("record", self))

            def wait(self) -> None:
                events.log.append(("wait", self))

        return Event()


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    log = Events()
    monkeypatch.setattr(torch.cuda, "Event", log)
    return log


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> WorkspacePool:
    monkeypatch.setattr(WorkspacePool, "_settle", lambda self: None)
    return WorkspacePool(Driver(), make=lambda: Slot(torch.zeros(4), torch.zeros(4, dtype=torch.int32)))  # type: ignore[arg-type]


def slot_of(pool: WorkspacePool, stream: int) -> Slot:
    used: list[Slot] = []
    pool.launch(stream, used.append)
    (slot,) = used
    return slot


def test_a_stream_keeps_its_slot_and_shares_it_with_no_other(pool: WorkspacePool) -> None:
    first = [slot_of(pool, stream) for stream in range(1, STREAMS + 1)]
    assert len({id(slot) for slot in first}) == STREAMS
    assert [slot_of(pool, stream) for stream in range(1, STREAMS + 1)] == first
    assert pool.slots == STREAMS + CAPTURES


def test_further_streams_take_turns_each_behind_the_last_launch_in_its_slot(
    pool: WorkspacePool, events: Events
) -> None:
    own = [slot_of(pool, stream) for stream in range(STREAMS)]
    assert events.log == []
    later = [slot_of(pool, 100 + number % 5) for number in range(12)]
    assert not {id(slot) for slot in later} & {id(slot) for slot in own}
    assert len({id(slot) for slot in later}) == SHARED
    assert pool.slots == STREAMS + SHARED + CAPTURES
    for slot in later[:SHARED]:
        mine = [what for what, event in events.log if event is slot.done]
        uses = sum(slot is other for other in later)
        assert mine == ["record", *["wait", "record"] * (uses - 1)]


@pytest.mark.parametrize("warm", [True, False])
def test_a_capture_gets_a_slot_that_no_eager_launch_uses(pool: WorkspacePool, warm: bool) -> None:
    if warm:
        pool.warm_up()
    eager = slot_of(pool, 1)  # makes the slots for captures too, where nobody did
    pool.driver.captured = True  # type: ignore[attr-defined]
    captured = slot_of(pool, 1)
    assert captured is not eager
    assert slot_of(pool, 1) is captured
    pool.driver.captured = False  # type: ignore[attr-defined]
    assert slot_of(pool, 1) is eager


def test_one_capturing_stream_too_many_is_an_error_that_says_what_to_do(pool: WorkspacePool) -> None:
    pool.warm_up()
    pool.warm_up()  # once is enough
    pool.driver.captured = True  # type: ignore[attr-defined]
    slots = [slot_of(pool, stream) for stream in range(CAPTURES)]
    assert len({id(slot) for slot in slots}) == CAPTURES == pool.slots
    with pytest.raises(LaunchError, match="capture on fewer streams"):
        slot_of(pool, CAPTURES)
    assert slot_of(pool, 0) is slots[0]


def test_a_capture_without_a_workspace_is_an_error_that_names_warm_up(pool: WorkspacePool) -> None:
    pool.driver.captured = True  # type: ignore[attr-defined]
    for attempt in (lambda: slot_of(pool, 1), pool.warm_up):
        with pytest.raises(LaunchError, match=r"kgen\.warm_up\(\) before the capture"):
            attempt()
    assert pool.slots == 0


def test_a_lent_slot_is_the_one_that_a_launch_would_get(pool: WorkspacePool, events: Events) -> None:
    given: list[tuple[int, tuple[int, ...], tuple[Any, ...]]] = []
    launch = pool.lend(lambda stream, values, tensors: given.append((stream, values, tensors)))
    first = torch.zeros(1)

    def lent(stream: int) -> torch.Tensor:
        launch(stream, (7, 8), (first, None))
        now, values, (x, none, partial, counter) = given.pop()
        assert (now, x, none) == (stream, first, None)
        assert values == (7, 8, partial.data_ptr(), counter.data_ptr())
        return partial

    for stream in range(STREAMS):
        for _ in range(2):  # the slot is made, then found
            assert lent(stream) is slot_of(pool, stream).partial
    assert events.log == []
    turns = [lent(STREAMS) for _ in range(2 * SHARED)]
    assert len({partial.data_ptr() for partial in turns}) == SHARED
    assert [what for what, _ in events.log].count("record") == 2 * SHARED
    pool.driver.captured = True  # type: ignore[attr-defined]
    captured = lent(1)
    assert captured is slot_of(pool, 1).partial
    pool.driver.captured = False  # type: ignore[attr-defined]
    assert lent(1) is not captured


def test_a_launch_that_was_refused_leaves_the_slot_usable(pool: WorkspacePool, events: Events) -> None:
    def refuse(slot: Slot) -> None:
        raise LaunchError("no")

    for stream in range(STREAMS + 1):
        with pytest.raises(LaunchError, match="no"):
            pool.launch(stream, refuse)
        slot_of(pool, stream)


def test_emulated_threads_have_slots_of_their_own_or_wait() -> None:
    pool = WorkspacePool(Driver("cpu", -1), Workspace(64, 64))  # type: ignore[arg-type]
    inside: dict[int, int] = {}
    met: list[int] = []

    def run(slot: Slot) -> None:
        inside[id(slot)] = inside.get(id(slot), 0) + 1
        if inside[id(slot)] > 1:
            met.append(id(slot))
        threading.Event().wait(0.002)
        inside[id(slot)] -= 1

    threads = [threading.Thread(target=lambda: [pool.launch(0, run) for _ in range(3)]) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not met
    assert pool.slots <= STREAMS + SHARED


def test_an_emulated_launch_that_stopped_has_its_slot_zeroed() -> None:
    pool = WorkspacePool(Driver("cpu", -1), Workspace(64, 64))  # type: ignore[arg-type]

    def spoil(slot: Slot) -> None:
        slot.counter.fill_(3)
        slot.partial.fill_(1.0)
        raise LaunchError("stopped")

    with pytest.raises(LaunchError):
        pool.launch(0, spoil)
    slot = slot_of(pool, 0)
    assert not slot.counter.any()
    assert not slot.partial.any()


def test_slots_are_zero_and_of_the_stated_size() -> None:
    slot = slot_of(WorkspacePool(Driver("cpu", -1)), 0)  # type: ignore[arg-type]
    assert slot.partial.nbytes == SLOT.partial_bytes
    assert slot.counter.nbytes == SLOT.counter_bytes
    assert not slot.partial.any()
    assert not slot.counter.any()


def test_there_is_one_pool_per_device_and_order_of_addition() -> None:
    one, other = Driver("cpu", -1), Driver("cpu", -1)
    assert pool_of(one, True) is pool_of(other, True)  # type: ignore[arg-type]
    assert pool_of(one, True) is not pool_of(one, False)  # type: ignore[arg-type]
