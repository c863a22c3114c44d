"""One machine instruction, spelled the same whichever disassembler read it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENCODING = re.compile(r"_e(32|64)(?=$|_)")
_PAIR = re.compile(r"\s*::\s*")
_BRANCH = re.compile(r"s_(branch|cbranch_\w+)$")
_END = re.compile(r"s_(endpgm\w*|setpc_b64|trap|branch|code_end|rfe_b64)$|(EXIT|BRA|BRX|RET|KILL)\b")


@dataclass(frozen=True, slots=True)
class Scoreboards:
    """Which of a warp's six counters an NVIDIA instruction uses. Who waits for one waits for all that have raised it.

    result     is raised until the result is there, None for none
    operands   is raised until the operands have been read, None for none
    waits      must be zero before the instruction goes out
    """

    result: int | None
    operands: int | None
    waits: tuple[int, ...]

    @property
    def text(self) -> str:
        """As `kgen isa` prints it, empty where none is used."""
        named = (("result", self.result), ("operands", self.operands))
        words = [f"{name} {number}" for name, number in named if number is not None]
        if self.waits:
            words.append("waits " + " ".join(map(str, self.waits)))
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    address    of its first byte, as linked
    mnemonic   LLVM's name without the encoding suffixes _e32 and _e64 (_dpp and _sdwa stay: they do other things), NVIDIA's as it
               is; the first half of a dual-issue pair; "?" for bytes that are no instruction
    operands   as text; of a pair: both halves' operands, separated by " :: second_mnemonic "
    size       bytes
    target     address that a branch goes to, or None
    scoreboards  NVIDIA's; None on AMD, whose instructions say in so many words what they wait for
    """

    address: int
    mnemonic: str
    operands: str
    size: int
    target: int | None = None
    scoreboards: Scoreboards | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The mnemonic, or both mnemonics of a dual-issue pair."""
        if not self.mnemonic.startswith("v_dual_") or "::" not in self.operands:
            return (self.mnemonic,)
        return self.mnemonic, _PAIR.split(self.operands, maxsplit=1)[1].split(maxsplit=1)[0]

    @property
    def ends_path(self) -> bool:
        """True if control never goes on to the next instruction."""
        return _END.match(self.mnemonic) is not None and not self.operands.startswith("@")

    @property
    def text(self) -> str:
        """Mnemonic and operands as one would read them."""
        return f"{self.mnemonic} {self.operands}".rstrip()


def canonical(mnemonic: str) -> str:
    """LLVM's or AMD's spelling without the encoding: v_add_f32_e64_dpp -> v_add_f32_dpp."""
    return _ENCODING.sub("", mnemonic.lower())


def from_text(address: int, text: str, size: int) -> Instruction:
    """An instruction from LLVM's printed form, e.g. "s_cbranch_scc1 65500"."""
    mnemonic, _, operands = text.strip().partition(" ")
    mnemonic, operands = canonical(mnemonic), operands.strip()
    return Instruction(address, mnemonic, operands, size, branch_target(mnemonic, operands, address, size))


def branch_target(mnemonic: str, operands: str, address: int, size: int) -> int | None:
    """Where a relative branch goes: next address + 4 * signed 16-bit operand (AMD ISA documents, SOPP). None for anything else."""
    if not _BRANCH.match(mnemonic):
        return None
    try:
        words = int(operands.split()[0], 0) & 0xFFFF
    except (ValueError, IndexError):
        return None
    return address + size + 4 * (words - (1 << 16) if words & 0x8000 else words)
