"""Run compiled AMD kernels on the CPU, instruction by instruction, and watch what they do.

    from kgen.emu import Module, Options

    module = Module(Path("k.hsaco").read_bytes())
    stats = module.run("vadd", grid=4, block=256, args=[a, b, c, np.int32(n)])    # numpy arrays, changed in place

`Module.launch` is the same for memory at its own addresses. See docs/emulator.md for what is modelled.
"""

from kgen.emu.codeobject import KernelInfo
from kgen.emu.errors import (
    ArgumentError,
    DataRace,
    EmulatorError,
    KernelTrap,
    LimitExceeded,
    MemoryFault,
    UnsupportedInstruction,
)
from kgen.emu.memory import Memory
from kgen.emu.module import Module
from kgen.emu.options import MemoryCounts, Options, Region, Stats

__all__ = [
    "ArgumentError",
    "DataRace",
    "EmulatorError",
    "KernelInfo",
    "KernelTrap",
    "LimitExceeded",
    "Memory",
    "MemoryCounts",
    "MemoryFault",
    "Module",
    "Options",
    "Region",
    "Stats",
    "UnsupportedInstruction",
]
