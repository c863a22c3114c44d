"""A loaded kernel: its function on a device, its argument layout, and how often it answered."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kgen.errors import LaunchError, Problem
from kgen.runtime.arguments import ArgumentLayout
from kgen.runtime.driver import Driver, LaunchCall
from kgen.spec.base import KernelSpec, Launch

if TYPE_CHECKING:
    from torch import Tensor


class Count:
    """A counter that several threads may add to without a lock: `add()` is one C call, which nothing can interrupt."""

    def __init__(self) -> None:
        self.add = itertools.count().__next__
        self._looks = 0
        self._lock = threading.Lock()

    @property
    def value(self) -> int:
        """How often `add` was called."""
        with self._lock:  # looking advances the counter too
            self._looks += 1
            return self.add() - self._looks + 1


class Kernel:
    """One kernel, loaded on one device; made by `Library.kernel`.

    spec      what it was made from; `spec.args` is the order of a launch's arguments
    answered  how often it was launched (replays of a captured graph are not seen)
    """

    def __init__(self, spec: KernelSpec, driver: Driver, function: Any, layout: ArgumentLayout):
        self.spec, self.driver, self.function, self.layout = spec, driver, function, layout
        self.answered = Count()

    @property
    def name(self) -> str:
        """The kernel's symbol."""
        return self.spec.name

    def bind(self, geometry: Launch, last: tuple[int, ...] = ()) -> LaunchCall:
        """A launch geometry as a call: `call(stream, values, tensors)`, everything else decided beforehand.

        last     values of the last arguments, the same at every call: sizes, strides
        values   integers in launch order, those before `last`: addresses (0 for null), or all
        tensors  the tensors behind the pointers, None for null; only the emulator looks at them
        """
        return self.driver.bind(self.function, geometry, self.layout, last)

    def launch(self, geometry: Launch, args: Sequence[Tensor | int | None], stream: int | None = None) -> None:
        """Launch once with tensors, integers and None (a null pointer) in launch order; `stream` as a raw handle, None: torch's current.

        Nothing is checked but the count: the ops check tensors first. Raises LaunchError.
        """
        if len(args) != len(self.layout.args):
            wanted = ", ".join(arg.name for arg in self.layout.args)
            raise LaunchError(f"{self.name} takes {len(self.layout.args)} arguments ({wanted}), got {len(args)}")
        values = tuple(arg if isinstance(arg, int) else 0 if arg is None else arg.data_ptr() for arg in args)
        behind = zip(self.layout.args, args, strict=True)
        tensors = tuple(arg for declared, arg in behind if declared.type.endswith("*"))
        self.bind(geometry)(self.driver.stream() if stream is None else stream, values, tensors)
        self.answered.add()

    def __repr__(self) -> str:
        return f"<{self.name} on {self.driver.device}>"


def argument_problem(spec: KernelSpec, found: Sequence[Any], vendor: str) -> Problem | None:
    """What is wrong between the spec's arguments and those that the code object states, or None.

    found   kgen.binary KernelArg of the explicit arguments, by offset
    vendor  cubins do not say which arguments are pointers; AMD code objects do
    """
    wanted = [(arg.offset, arg.bytes) for arg in spec.args]
    there = [(arg.offset, arg.size) for arg in found]
    if wanted != there:
        return Problem(
            ("args",),
            ", ".join(f"{size} bytes at {offset}" for offset, size in there) or "none",
            ", ".join(f"{arg.name}: {arg.bytes} bytes at {arg.offset}" for arg in spec.args),
            f"`kgen build --arch {spec.arch}`",
        )
    if vendor == "amd":
        for declared, arg in zip(spec.args, found, strict=True):
            if declared.type.endswith("*") != (arg.kind == "global_buffer"):
                return Problem(("args", declared.name), arg.kind, declared.type, f"`kgen build --arch {spec.arch}`")
    return None
