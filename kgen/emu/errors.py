"""What can stop an emulated kernel, one class per thing a caller may want to catch; all of them are `kgen.errors.EmulatorError`s."""

from __future__ import annotations

from kgen.errors import EmulatorError


class UnsupportedInstruction(EmulatorError):
    """The kernel reached an instruction, or a form of one, that the engine does not model."""


class MemoryFault(EmulatorError):
    """An access outside every buffer, beyond LDS or scratch, to a read-only buffer, or a misaligned atomic."""


class DataRace(EmulatorError):
    """Two waves touched an LDS byte between two barriers, and one of them changed it."""


class LimitExceeded(EmulatorError):
    """The launch executed more wave instructions than its options allow."""


class KernelTrap(EmulatorError):
    """The kernel executed s_trap: an assert, __builtin_trap or unreachable code."""


class ArgumentError(EmulatorError):
    """A launch that cannot be: wrong kernel name, argument count or size, block, LDS or option."""


__all__ = [
    "ArgumentError",
    "DataRace",
    "EmulatorError",
    "KernelTrap",
    "LimitExceeded",
    "MemoryFault",
    "UnsupportedInstruction",
]
