"""What a launch takes and gives back: `Region`, `Options`, `Stats`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

POISON = 0x7FE17FE1
"""A NaN as f32, as two f16 and as two bf16: what fresh registers, LDS and scratch hold."""


@dataclass(frozen=True)
class Region:
    """Memory that a kernel may touch. The address that the kernel sees is the address in this process.

    address   first byte
    size      bytes; every access is checked against it to the byte
    writable  False: a store is a fault
    label     what an error message calls it
    """

    address: int
    size: int
    writable: bool = True
    label: str = "buffer"


@dataclass(frozen=True)
class Options:
    """How a launch runs and what it watches.

    races             stop with DataRace when two waves touch an LDS byte between two barriers and one of them changes it
    count_ops         fill `Stats.ops`
    count_memory      fill `Stats.memory`
    poison            32-bit pattern in fresh VGPRs, SGPRs, LDS and scratch
    max_instructions  limit over the whole launch, in wave instructions
    schedule          order of the waves of a work-group: "linear", "reverse" or "random:<seed>"
    quantum           switch waves after this many instructions; None: at barriers, yields and the end (1000 when concurrent > 1)
    concurrent        work-groups in flight, for kernels whose work-groups wait for each other
    threads           None: every core, or one where more could change the result's bits (float atomics on global memory, concurrent > 1)
    """

    races: bool = False
    count_ops: bool = False
    count_memory: bool = False
    poison: int = POISON
    max_instructions: int = 2_000_000_000
    schedule: str = "linear"
    quantum: int | None = None
    concurrent: int = 1
    threads: int | None = None


@dataclass(frozen=True)
class MemoryCounts:
    """Traffic of a launch, as the kernel's instructions ask for it (no cache is modelled).

    bytes_loaded, bytes_stored   global memory, active lanes only; scalar loads are not in here
    accesses                     wave instructions that touched global memory
    lines64, lines128            different lines of 64 and 128 bytes touched, summed over those instructions
    lds_accesses                 wave instructions that touched LDS (two-address forms count twice)
    lds_passes                   passes of 128 bytes that these take: 32 lanes of 4 bytes each, 16 of 8, 8 of 16
    lds_conflict_cycles          cycles beyond the first of each pass over 32 four-byte banks: lanes wanting different dwords of a bank
    """

    bytes_loaded: int = 0
    bytes_stored: int = 0
    lines64: int = 0
    lines128: int = 0
    accesses: int = 0
    lds_accesses: int = 0
    lds_passes: int = 0
    lds_conflict_cycles: int = 0


@dataclass
class Stats:
    """What a launch did. `instructions` are wave instructions; `ops` counts them by mnemonic when `count_ops` is set."""

    kernel: str
    target: str
    instructions: int = 0
    waves: int = 0
    groups: int = 0
    seconds: float = 0.0
    threads: int = 1
    ops: Counter[str] = field(default_factory=Counter)
    memory: MemoryCounts | None = None
