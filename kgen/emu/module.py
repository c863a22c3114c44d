"""`Module`: a code object whose kernels can be launched."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgen.emu import arguments, launch
from kgen.emu.codeobject import Image, KernelInfo
from kgen.emu.errors import ArgumentError
from kgen.emu.memory import Mapping, Memory
from kgen.emu.options import Options, Region, Stats
from kgen.emu.program import Program
from kgen.errors import CodeObjectError

if TYPE_CHECKING:
    import numpy as np

DEFAULT = Options()
NOT_CODE = ("S_CODE_END",)  # fills the space behind a kernel


class Module:
    """A loaded code object. Global variables keep their values between launches; launches may come from several threads.

    image    bytes of an .hsaco (or an uncompressed offload bundle that holds one)
    name     what messages call it
    Raises CodeObjectError if it is truncated, damaged, or for a target that is not modelled.
    """

    def __init__(self, image: bytes, *, name: str = "code object"):
        self.name = name
        try:
            self.image = Image(image)
        except CodeObjectError as error:
            raise CodeObjectError(f"{name}: {error}") from error
        self.program = Program(self.image, hashlib.sha256(image).hexdigest())

    @classmethod
    def from_file(cls, path: str | Path) -> Module:
        """Load a code object from a file."""
        return cls(Path(path).read_bytes(), name=str(path))

    @property
    def target(self) -> str:
        """The target it was compiled for, such as "gfx1151"."""
        return self.image.target

    @property
    def kernels(self) -> dict[str, KernelInfo]:
        """Kernels by name."""
        return self.image.kernels

    def kernel(self, name: str) -> KernelInfo:
        """A kernel's metadata. Raises ArgumentError, naming what there is."""
        if name not in self.kernels:
            some = sorted(self.kernels)
            listed = ", ".join(some[:8]) + (f" and {len(some) - 8} more" if len(some) > 8 else "")
            raise ArgumentError(f"{self.name}: no kernel {name!r}; there are {listed}")
        return self.kernels[name]

    def launch(
        self,
        kernel: str,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        kernarg: bytes,
        regions: Sequence[Region],
        lds_bytes: int = 0,
        options: Options = DEFAULT,
    ) -> Stats:
        """Run a kernel over `grid` work-groups of `block` work-items, to the end.

        kernarg    the explicit arguments as they lie in memory, hidden ones are added
        regions    memory that the kernel may touch, at the addresses it has in this process
        lds_bytes  dynamic LDS
        Raises ArgumentError before anything runs, or the `EmulatorError` that stopped the kernel; what it wrote until then stays.
        """
        return self._run(kernel, grid, block, kernarg, [Mapping.of(r) for r in regions], lds_bytes, options)

    def run(
        self,
        kernel: str,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        args: Sequence[Any],
        dyn_lds: int = 0,
        options: Options = DEFAULT,
        memory: Memory | None = None,
    ) -> Stats:
        """Run a kernel on numpy arrays, which change in place and appear at made-up addresses.

        args     one entry per kernel parameter, see `kgen.emu.arguments.pack`
        memory   further mapped arrays, for pointers inside arrays
        """
        mine = Memory() if memory is None else memory
        kept = len(mine.mappings)
        try:
            packed = arguments.pack(self.kernel(kernel), args, mine)
            return self._run(kernel, grid, block, packed, mine.mappings, dyn_lds, options)
        finally:
            del mine.mappings[kept:]

    def _run(
        self,
        name: str,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        kernarg: bytes,
        mappings: Sequence[Mapping],
        lds_bytes: int,
        options: Options,
    ) -> Stats:
        sizes = arguments.dim3(grid, "grid"), arguments.dim3(block, "block")
        return launch.run(self.program, self.kernel(name), *sizes, kernarg, list(mappings), lds_bytes, options)

    def unsupported(self, kernel: str) -> list[str]:
        """Mnemonics in a kernel's code that would stop a run if they were reached."""
        self.kernel(kernel)
        start, size = self.image.symbols[kernel]
        found = {item.name for item, known in self.program.listing(start, size) if not known}
        self.program.save()
        return sorted(found.difference(NOT_CODE))

    def symbol(self, name: str, dtype: Any = "u1") -> np.ndarray:
        """A writable view of a __device__ or __constant__ variable."""
        import numpy as np

        start, size = self.image.symbols[name]
        return np.frombuffer(self.image.bytes, np.uint8)[start : start + size].view(dtype)
