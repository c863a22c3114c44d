"""The engine's failure record -> an exception that says what, where and in which buffer."""

from __future__ import annotations

from collections.abc import Sequence

from kgen.emu import errors
from kgen.emu.codeobject import KernelInfo
from kgen.emu.errors import EmulatorError
from kgen.emu.memory import Mapping, explain
from kgen.emu.program import Program
from kgen.emu.structs import Failure, Launch

(NONE, UNSUPPORTED, MEM_READ, MEM_WRITE, LDS, SCRATCH, TRAP, MODIFIER, WMMA_DUP, RACE, ALIGN, LIMIT, NO_MEMORY) = range(
    13
)


def error(launch: Launch, kernel: KernelInfo, program: Program, mappings: Sequence[Mapping]) -> EmulatorError:
    """The exception for the failure that a launch came back with."""
    f = launch.failure
    if f.code == NO_MEMORY:
        return EmulatorError(f"{kernel.name}: this machine has not enough memory for the work-groups in flight")
    address = f.pc - program.image.base
    item = program.at(address)
    name, text = (item.name, item.text) if item else ("?", "not decoded")
    x, y = launch.grid[0], launch.grid[1]
    group = f.group % x, f.group // x % y, f.group // (x * y)
    spot = f"{program.image.target} kernel {kernel.name}+{address - kernel.entry:#x}, work-group {group}, wave {f.wave}"
    if f.code == LIMIT:
        return errors.LimitExceeded(f"{spot}: more than {launch.limit} wave instructions in this launch")
    if f.code in (UNSUPPORTED, MODIFIER):
        raw = bytes(program.image.bytes[address : address + max(4, program.insns[program.index(address)].size)]).hex()
        why = (
            "is not supported"
            if f.code == UNSUPPORTED
            else f"has an unsupported modifier or mode ({f.addr:#x}, {f.size})"
        )
        return errors.UnsupportedInstruction(f"{spot}: instruction {name} {why} ({text or name}; bytes {raw})")
    if f.code == TRAP:
        return errors.KernelTrap(f"{spot}: s_trap {f.addr} (assert, __builtin_trap or unreachable code)")
    if f.code == WMMA_DUP:
        return EmulatorError(
            f"{spot}: {name}: operand {'AB'[f.addr]} differs between lane {f.lane} and lane {f.lane + 16}; RDNA3 needs both halves equal"
        )
    if f.code == RACE:
        return errors.DataRace(f"{spot}: {name} lane {f.lane}: {_race(f)}")
    return errors.MemoryFault(f"{spot}: {name} lane {f.lane}: {_fault(f, launch, mappings)}")


def _race(f: Failure) -> str:
    other, wrote, kind = f.aux & 0xFFFF, f.aux >> 16 & 1, ("read", "write", "atomic")[f.aux >> 20]
    return f"{kind} of {f.size} LDS bytes at {f.addr} that wave {other} {'wrote' if wrote else 'read'} since the last barrier"


def _fault(f: Failure, launch: Launch, mappings: Sequence[Mapping]) -> str:
    if f.code == LDS:
        return f"LDS access of {f.size} bytes at {f.addr} beyond {launch.lds_size}"
    if f.code == SCRATCH:
        return f"scratch access of {f.size} bytes at {f.addr} beyond {launch.priv_size}"
    if f.code == ALIGN:
        return f"misaligned atomic of {f.size} bytes at {f.addr:#x}"
    return f"invalid {'read' if f.code == MEM_READ else 'write'} of {explain(mappings, f.addr, f.size)}"
