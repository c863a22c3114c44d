"""Every exception that kgen raises on purpose; one class per thing a caller may want to catch.

A message says what failed, where, what was found, what is allowed and what to do next. `Problem` is that sentence as data: specs,
tables and ops report lists of them, so that one run shows everything that is wrong. Internal slips are assertions and never appear here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an input, in the words that the user sees.

    fields    the fields, arguments or columns concerned
    found     what was given
    allowed   what would have been accepted
    next      what to try
    where     file, row or variant; empty if there is only one place it can be
    """

    fields: tuple[str, ...]
    found: str
    allowed: str = ""
    next: str = ""
    where: str = ""

    def lines(self, indent: str = "  ") -> list[str]:
        """The problem as aligned text lines."""
        head = ", ".join(self.fields)
        pad = indent + " " * (len(head) + 2)
        out = [f"{indent}{head}  {self.found}"]
        if self.allowed:
            out.append(f"{pad}allowed: {self.allowed}")
        if self.next:
            out.append(f"{pad}try:     {self.next}")
        return out


class KgenError(Exception):
    """Base of all kgen errors. `exit_code` is what the command line returns for it (1 your input, 2 this machine, 3 variants)."""

    exit_code = 1


class ProblemsError(KgenError):
    """An error that carries one or more `Problem`s; its text lists all of them."""

    def __init__(self, what: str, problems: Sequence[Problem] = ()):
        self.what = what
        self.problems = tuple(problems)
        lines = [what]
        place = ""
        for problem in self.problems:
            if problem.where and problem.where != place:
                lines.append(f" {problem.where}")
                place = problem.where
            lines += problem.lines()
        super().__init__("\n".join(lines))


class SpecError(ProblemsError):
    """A kernel spec, spec set or shape file that cannot be."""


class TableError(ProblemsError):
    """A dispatch table that cannot be read, or that contradicts itself."""


class NoRowError(ProblemsError):
    """No row of a dispatch table answers the problem."""


class OpError(ProblemsError):
    """Tensors that an op does not take: dtype, shape, stride, device."""


class PackError(ProblemsError):
    """Quantised weights that cannot be packed: another bit width, group, order or shape than the kernels read, or a damaged checkpoint."""


class ManifestError(KgenError):
    """A build folder's manifest that is missing, damaged or of another version."""


class CodeObjectError(KgenError):
    """A .hsaco or .cubin that is truncated, altered, of another architecture, or does not hold the kernel that was asked for."""


class WrongArchError(CodeObjectError):
    """A code object built for one architecture, asked to run on another; both are named."""


class LaunchError(KgenError):
    """The driver refused a launch, or a kernel failed."""


class EmulatorError(LaunchError):
    """The emulator stopped a kernel: fault, race, limit, or an instruction that it does not know."""


class MissingPieceError(KgenError):
    """This machine lacks something; the message names it and the cure."""

    exit_code = 2


class ToolchainError(MissingPieceError):
    """No usable compiler, or an installation that failed its verification."""


class BuildError(KgenError):
    """Compilation failed for some variants; the rest are done."""

    exit_code = 3
