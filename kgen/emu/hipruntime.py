"""The emulated HIP runtime of this process: one library, its devices, its callbacks."""

from __future__ import annotations

import atexit
import ctypes as c
import threading
from collections.abc import Sequence

from kgen import settings
from kgen.emu import hiplibrary, hiprecords
from kgen.emu.hipcalls import Calls, Occupancy
from kgen.emu.hipdevice import DeviceFacts, device_record
from kgen.emu.options import Region
from kgen.errors import KgenError, MissingPieceError

_MOST_DEVICES = 16
_running: HipRuntime | None = None
_lock = threading.Lock()


class HipRuntime:
    """The library with its devices. Made by `start`; one per process, for its lifetime."""

    def __init__(self, occupancy: Occupancy):
        self.library = hiplibrary.load()
        self.arches: list[str] = []
        self._calls = Calls(self.library.kgenEmuSay, self.arches, occupancy)
        self._lock = threading.Lock()
        self._rooms = threading.local()
        self.library.kgenEmuSetup(self._calls.record, settings.EMU_VERBOSE.value not in (None, "0"))
        atexit.register(self.library.kgenEmuSetup, None, 0)

    def device(self, facts: DeviceFacts) -> int:
        """The number of the device for a target, added when there is none. Raises MissingPieceError beyond 16 of them."""
        with self._lock:
            if facts.arch not in self.arches:
                if len(self.arches) == _MOST_DEVICES:
                    raise MissingPieceError(
                        f"the emulated HIP runtime has {_MOST_DEVICES} devices, {facts.arch} would be one more"
                    )
                number = self.library.kgenEmuAddDevice(device_record(facts, len(self.arches)))
                assert number == len(self.arches)
                self.arches.append(facts.arch)
            return self.arches.index(facts.arch)

    def regions(self, regions: Sequence[Region]) -> None:
        """What this thread's next launch may touch, instead of every allocation: byte-exact, with names."""
        room = getattr(self._rooms, "room", None)
        if room is None or len(room) < len(regions):
            room = self._rooms.room = (hiprecords.Region * max(8, len(regions)))()
        for record, region in zip(room, regions, strict=False):
            record.address, record.size, record.writable = region.address, region.size, region.writable
            record.label = region.label.encode()[: hiprecords.LABEL - 1]
        self.library.kgenEmuRegions(room, len(regions))

    def take_error(self) -> KgenError | None:
        """The emulator's exception behind this thread's last failed call, once."""
        return self._calls.take_error()

    def message(self) -> str:
        """The words behind this thread's last failed call."""
        return hiplibrary.last_message()

    def execute(self, on: bool) -> bool:
        """Switch the execution of kernels off or on, for measuring what surrounds it; answers what it was."""
        return bool(self.library.kgenEmuExecute(c.c_int(on)))


def start(occupancy: Occupancy) -> HipRuntime:
    """The runtime of this process, made at the first call."""
    global _running
    with _lock:
        if _running is None:
            _running = HipRuntime(occupancy)
        return _running


def running() -> HipRuntime | None:
    """The runtime of this process, if it was started."""
    return _running
