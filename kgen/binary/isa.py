"""What a kernel's machine code is made of, and what changed between two kernels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from kgen.binary.codeobject import CodeObject, KernelResources
from kgen.binary.disassemble import Tools, disassemble
from kgen.binary.instruction import Instruction
from kgen.binary.loops import count_matching, hot_loop

# First match wins. Widths are bits a lane; AMD spells them b128 (gfx11, gfx12) or dwordx4 (gfx9).
_CATEGORIES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("scratch", r"scratch_|LDL|STL"),
        ("global_to_lds", r"global_load_lds_|buffer_load_\w+_lds|LDGSTS|UBLKCP|UTMALDG"),
        ("global_load_b128", r"(global|flat|buffer)_load_(b128|dwordx4)|LDG\S*\.128"),
        ("global_load_b96", r"(global|flat|buffer)_load_(b96|dwordx3)"),
        ("global_load_b64", r"(global|flat|buffer)_load_(b64|dwordx2)|LDG\S*\.64"),
        ("global_load_small", r"(global|flat|buffer)_load_\w*(byte|short|[uisb](8|16))|LDG\S*\.[US](8|16)"),
        ("global_load_b32", r"(global|flat|buffer)_load_(b32|dword)|LDG"),
        ("global_store", r"(global|flat|buffer)_store_|STG"),
        ("global_atomic", r"(global|flat|buffer)_atomic_|ATOMG|RED\b"),
        ("lds_load", r"ds_(read|load)|LDS"),
        ("lds_exchange", r"ds_(b?permute|swizzle)|SHFL"),
        ("lds_store", r"ds_(write|store)|STS"),
        ("lds_other", r"ds_|ATOMS"),
        ("barrier", r"s_barrier|BAR\b"),
        ("wait", r"s_(wait|nop|delay_alu|sleep|clause)|DEPBAR|NOP|WARPSYNC"),
        ("branch", r"s_(c?branch|endpgm|setpc|swappc|call|trap)|(BRA|BRX|EXIT|RET|BSSY|BSYNC|CALL|BREAK)\b"),
        ("matrix", r"v_s?(wmma|mfma|swmmac|smfmac)|[HIQD]G?MMA"),
        ("scalar_load", r"s_(buffer_)?load_|U?LDC"),
        ("scalar", r"s_|U[A-Z]"),
        ("vector_other", r""),
    )
)


@dataclass(frozen=True)
class LoopReport:
    """The hot loop.

    instructions   all kinds; a dual-issue pair is one
    multiplies     mnemonics that match the caller's pattern
    lane_macs      useful multiply-adds one lane does per iteration
    exact          False if the multiplies found are no whole multiple of the caller's multiplies per step: lane_macs is then an estimate
    opcodes        mnemonic -> count; each half of a pair under its own name
    categories     as in IsaReport
    """

    instructions: int
    multiplies: int
    lane_macs: float
    exact: bool
    opcodes: Counter[str]
    categories: Mapping[str, int]

    @property
    def per_lane_mac(self) -> float:
        """Instructions per multiply-add of a lane; 0.5 is what dot2 alone costs."""
        return self.instructions / self.lane_macs

    def to_json(self) -> dict[str, Any]:
        """As `kgen isa --json` prints it."""
        return {
            "instructions": self.instructions,
            "multiplies": self.multiplies,
            "lane_macs": self.lane_macs,
            "per_lane_mac": round(self.per_lane_mac, 4),
            "exact": self.exact,
            "opcodes": dict(self.opcodes.most_common()),
            "categories": dict(self.categories),
        }


@dataclass(frozen=True)
class IsaReport:
    """One kernel's machine code.

    instructions   in the whole kernel; a dual-issue pair is one
    opcodes        mnemonic -> count; each half of a pair under its own name
    categories     name -> count, only those that occur; each instruction in one (a pair counts as what its first half is). "multiply" are
                   those that match the caller's pattern
    counts         named things to watch: nan_checks (v_cmp_u_f32, from float to bf16 rounding), scratch, waits, barriers, dual_pairs,
                   global_loads and the share of them that are 16 bytes wide (b128_share)
    loop           the hot loop, None if there is none
    code_digest    SHA-256 of the instruction bytes: equal digests are twins
    """

    symbol: str
    arch: str
    resources: KernelResources
    instructions: int
    opcodes: Counter[str]
    categories: Mapping[str, int]
    counts: Mapping[str, float]
    loop: LoopReport | None
    code_digest: str

    def to_json(self) -> dict[str, Any]:
        """As `kgen isa --json` prints it."""
        return {
            "symbol": self.symbol,
            "arch": self.arch,
            "instructions": self.instructions,
            "opcodes": dict(self.opcodes.most_common()),
            "categories": dict(self.categories),
            "counts": dict(self.counts),
            "loop": self.loop.to_json() if self.loop else None,
            "code_digest": self.code_digest,
        }


@dataclass(frozen=True)
class IsaDiff:
    """What changed from kernel a to kernel b.

    identical    the same instruction bytes and the same resources: twins
    resources    field -> (a, b), only those that differ
    opcodes      mnemonic -> (a, b), only those that differ, largest change first
    loop         field -> (a, b) of the hot loops' figures that differ
    loop_opcodes mnemonic -> (a, b) within the hot loops, likewise
    """

    identical: bool
    resources: Mapping[str, tuple[Any, Any]]
    opcodes: Mapping[str, tuple[int, int]]
    loop: Mapping[str, tuple[Any, Any]]
    loop_opcodes: Mapping[str, tuple[int, int]]

    def to_json(self) -> dict[str, Any]:
        """Pairs become {"a": ..., "b": ...}."""
        pairs = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "identical"}
        return {"identical": self.identical} | {
            name: {key: {"a": a, "b": b} for key, (a, b) in table.items()} for name, table in pairs.items()
        }


def isa_report(
    code: CodeObject,
    symbol: str,
    tools: Tools | None = None,
    *,
    multiply_pattern: str,
    multiplies_per_step: float,
    macs_per_step: int,
) -> IsaReport:
    """Disassemble one kernel and count.

    multiply_pattern      regular expression on mnemonics, matched from the start; must name the dual-issue forms too
    multiplies_per_step   how many of those one step of the source's loop makes; the compiler may unroll again, so a whole multiple is fine
    macs_per_step         multiply-adds of one lane in that step

    Raises CodeObjectError and MissingPieceError as kgen.binary.disassemble does.
    """
    instructions = disassemble(code, symbol, tools)
    loop = hot_loop(instructions, multiply_pattern)
    return IsaReport(
        symbol=symbol,
        arch=code.arch,
        resources=code.kernel(symbol),
        instructions=len(instructions),
        opcodes=count_opcodes(instructions),
        categories=categorise(instructions, multiply_pattern),
        counts=watch(instructions),
        loop=loop_report(loop, multiply_pattern, multiplies_per_step, macs_per_step) if loop else None,
        code_digest=code.code(symbol).digest,
    )


def loop_report(
    loop: Sequence[Instruction], multiply_pattern: str, multiplies_per_step: float, macs_per_step: int
) -> LoopReport:
    """Figures of a loop's instructions; see isa_report for the parameters."""
    found = count_matching(loop, multiply_pattern)
    steps = found / multiplies_per_step
    exact = abs(steps - round(steps)) < 1e-9 and round(steps) > 0
    return LoopReport(
        instructions=len(loop),
        multiplies=found,
        lane_macs=macs_per_step * round(steps) if exact else macs_per_step * steps,
        exact=exact,
        opcodes=count_opcodes(loop),
        categories=categorise(loop, multiply_pattern),
    )


def count_opcodes(instructions: Sequence[Instruction]) -> Counter[str]:
    """Mnemonic -> count; each half of a dual-issue pair under its own name."""
    return Counter(name for each in instructions for name in each.names)


def categorise(instructions: Sequence[Instruction], multiply_pattern: str | None = None) -> dict[str, int]:
    """Category -> count, in a fixed order, only those that occur. A pair is "multiply" if either half is."""
    wanted = re.compile(multiply_pattern) if multiply_pattern else None
    found: Counter[str] = Counter()
    for each in instructions:
        if wanted and any(wanted.match(name) for name in each.names):
            found["multiply"] += 1
        else:
            found[category(each.mnemonic)] += 1
    return {name: found[name] for name in ("multiply", *(name for name, _ in _CATEGORIES)) if found[name]}


@lru_cache(maxsize=4096)
def category(mnemonic: str) -> str:
    """The one category of a mnemonic, apart from "multiply", which only the caller's pattern decides."""
    return next(name for name, pattern in _CATEGORIES if pattern.match(mnemonic))


def watch(instructions: Sequence[Instruction]) -> dict[str, float]:
    """The counts of IsaReport.counts."""
    kinds, opcodes = categorise(instructions), count_opcodes(instructions)
    loads = sum(count for name, count in kinds.items() if name.startswith("global_load"))
    return {
        "nan_checks": sum(count for name, count in opcodes.items() if name.startswith("v_cmp_u_f32")),
        "scratch": kinds.get("scratch", 0),
        "waits": sum(count for name, count in opcodes.items() if name.startswith("s_wait")),
        "barriers": kinds.get("barrier", 0),
        "dual_pairs": sum(1 for each in instructions if len(each.names) == 2),
        "global_loads": loads,
        "b128_share": round(kinds.get("global_load_b128", 0) / loads, 4) if loads else 0.0,
    }


def diff(a: IsaReport, b: IsaReport) -> IsaDiff:
    """Resource and opcode-count changes from kernel a to kernel b."""
    skipped = ("symbol", "args")
    resources = {
        f.name: (getattr(a.resources, f.name), getattr(b.resources, f.name))
        for f in fields(KernelResources)
        if f.name not in skipped and getattr(a.resources, f.name) != getattr(b.resources, f.name)
    }
    identical = a.arch == b.arch and a.code_digest == b.code_digest and not resources
    figures = ("instructions", "multiplies", "lane_macs", "per_lane_mac")
    in_a = {name: getattr(a.loop, name) for name in figures} if a.loop else {}
    in_b = {name: getattr(b.loop, name) for name in figures} if b.loop else {}
    return IsaDiff(
        identical=identical,
        resources=resources,
        opcodes=_changes(a.opcodes, b.opcodes),
        loop={name: (in_a.get(name), in_b.get(name)) for name in figures if in_a.get(name) != in_b.get(name)},
        loop_opcodes=_changes(a.loop.opcodes if a.loop else Counter(), b.loop.opcodes if b.loop else Counter()),
    )


def _changes(a: Counter[str], b: Counter[str]) -> dict[str, tuple[int, int]]:
    changed = [name for name in a.keys() | b.keys() if a[name] != b[name]]
    return {name: (a[name], b[name]) for name in sorted(changed, key=lambda n: (-abs(a[n] - b[n]), n))}
