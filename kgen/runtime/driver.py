"""What a driver is: the one interface behind which HIP, CUDA and the emulator look alike.

A driver belongs to one device. It is used while a library loads (`load`, `function`) and once per launch geometry (`bind`); a launch
itself is one call of what `bind` answered. Drivers keep no state of the kernels, so a library may use one from several threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from kgen.runtime.arguments import ArgumentLayout
from kgen.spec.base import Launch

Kind = Literal["hip", "cuda", "emu"]
KINDS: tuple[Kind, ...] = ("hip", "cuda", "emu")
Answer = TypeVar("Answer", bound=Callable[..., Any])

LaunchCall = Callable[[int, tuple[int, ...], tuple[Any, ...]], None]
"""(raw stream, values of the arguments that were not bound, in launch order, tensors behind the pointers likewise, None for null) -> None."""


@dataclass(frozen=True)
class Device:
    """The device that a driver launches on.

    kind           which driver
    arch           target whose code objects it runs ("gfx1151", "sm_90")
    name           what the device calls itself
    cu             CU count as the runtime reports it: work-group processors on RDNA, multiprocessors on NVIDIA
    lds_per_group  bytes of LDS (shared memory) that one work-group may take, opted in where the runtime wants that
    ordinal        device number in its runtime; -1 for the emulator
    tensors        torch device type whose memory the kernels reach: "cuda" (also for HIP) or "cpu"
    """

    kind: Kind
    arch: str
    name: str
    cu: int
    lds_per_group: int
    ordinal: int
    tensors: Literal["cuda", "cpu"]

    @property
    def torch_name(self) -> str:
        """The device as torch writes it."""
        return self.tensors if self.tensors == "cpu" else f"{self.tensors}:{self.ordinal}"

    def __str__(self) -> str:
        return f"{self.name} ({self.arch}, {self.kind}, tensors on {self.torch_name})"


class Driver(Protocol):
    """One device's way of loading code objects and launching kernels. Every refusal is a kgen error that names the kernel."""

    device: Device
    stream: Callable[[], int]
    """Raw handle of torch's current stream on this device, 0 for none."""

    def load(self, image: bytes, what: str) -> Any:
        """A module from the bytes of a code object; `what` names it in messages. Raises CodeObjectError if the runtime refuses it."""

    def function(self, module: Any, symbol: str, dynamic_lds: int) -> Any:
        """A kernel of a module, ready to be launched with up to `dynamic_lds` bytes of dynamic LDS."""

    def bind(self, function: Any, geometry: Launch, layout: ArgumentLayout, last: tuple[int, ...] = ()) -> LaunchCall:
        """One launch geometry, and the values of the last arguments, as a call. It packs the values before those, launches on the given
        stream and returns: no allocation, no waiting.
        """

    def capturing(self) -> bool:
        """Whether torch's current stream is being captured into a graph."""

    def guarded(self, call: Answer) -> Answer:
        """`call` with this device made current around it, where another one could be."""

    def unload(self, module: Any) -> None:
        """Give a module back; its functions must not be used any more."""
