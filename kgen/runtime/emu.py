"""The emulator as a device: the code objects of an AMD target, executed on CPU tensors.

A kernel sees the tensors at their own addresses and may touch exactly the bytes that they span: inputs read-only, the output
writable. What a launch is watched for (races, poison, counts) is set around the calls:

    with emulation(Options(races=True, count_ops=True)) as log:
        torch.ops.kgen.wvsplitk(x, weight)
    print(log.instructions, log.ops.most_common(5))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from kgen.emu.watch import EmulationLog, emulation, present_options, record
from kgen.errors import MissingPieceError, SpecError
from kgen.runtime.arguments import ArgumentLayout
from kgen.runtime.driver import Device, LaunchCall
from kgen.spec.arch import arch_facts
from kgen.spec.base import Launch

if TYPE_CHECKING:
    from torch import Tensor

    from kgen.emu import Region

Answer = TypeVar("Answer")
__all__ = ["EmuDriver", "EmulationLog", "emulation", "regions_of"]


class EmuDriver:
    """Kernels of one AMD target on CPU tensors; launches run to their end before they return.

    arch  the target whose code objects are run; its CU count and LDS are those of the part in the table of facts
    """

    def __init__(self, arch: str):
        facts = arch_facts(arch)
        if facts.vendor != "amd":
            raise SpecError(f"the emulator runs AMD targets; {arch} needs an NVIDIA GPU")
        self.device = Device("emu", arch, f"emulated {facts.part}", facts.cu, facts.lds_per_group, -1, "cpu")
        self.stream = lambda: 0  # there are no streams

    def load(self, image: bytes, what: str) -> Any:
        """A module of the emulator."""
        try:
            from kgen.emu import Module
        except ImportError as error:
            raise MissingPieceError(f"the emulator is not complete ({error}); try: pip install 'kgen[emu]'") from error
        return Module(image, name=what)

    def function(self, module: Any, symbol: str, dynamic_lds: int) -> Any:
        """(module, symbol); raises when the module has no such kernel."""
        module.kernel(symbol)
        return module, symbol

    def bind(self, function: Any, geometry: Launch, layout: ArgumentLayout, last: tuple[int, ...] = ()) -> LaunchCall:
        """A launch as one call, which returns when the kernel is done."""
        module, symbol = function

        def launch(stream: int, values: tuple[int, ...], tensors: tuple[Any, ...]) -> None:
            regions = regions_of(layout, tensors)
            stats = module.launch(
                symbol,
                geometry.grid,
                geometry.block,
                layout.struct.pack(*values, *last),
                regions,
                geometry.lds_bytes,
                present_options(),
            )
            record(stats)

        return launch

    def capturing(self) -> bool:
        """False: nothing is captured on the CPU."""
        return False

    def guarded(self, call: Answer) -> Answer:
        """`call` itself."""
        return call

    def unload(self, module: Any) -> None:
        """Nothing: the module's memory goes with its last user."""


def regions_of(layout: ArgumentLayout, tensors: tuple[Tensor | None, ...]) -> list[Region]:
    """What the kernel may touch: for each pointer argument the bytes from the tensor's first to its last element."""
    from kgen.emu import Region

    out = []
    for (name, writable), tensor in zip(layout.pointers, tensors, strict=True):
        if tensor is not None and tensor.numel():
            last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
            out.append(Region(tensor.data_ptr(), (last + 1) * tensor.element_size(), writable, name))
    return out
