"""What is wrong with a table that reads well: rows never reached, shapes with no row, kernels that do not fit or do not exist, old evidence.

Rows are judged by evaluating the table over shapes on both sides of every boundary that its conditions draw, and over layers of real models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from kgen.dispatch.age import current_digest, rendered_digest, same_digest
from kgen.dispatch.because import Measured, Model
from kgen.dispatch.compiled import First, first_true
from kgen.dispatch.evaluate import possible
from kgen.dispatch.grid import Block, boundary_blocks, layer_blocks
from kgen.dispatch.match import _fitting, family_cu, shape_values
from kgen.dispatch.table import DispatchTable, Row, families_of, load_table
from kgen.errors import Problem
from kgen.spec.base import KernelSpec
from kgen.spec.problem import GemmShape

Severity = Literal["error", "warning"]
Kind = Literal["unreached", "no_row", "unfit", "not_built", "not_in_set", "stale"]
_EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """One thing that `check` found; `row` is its number, or None when it concerns the table."""

    severity: Severity
    kind: Kind
    row: int | None
    problem: Problem

    def lines(self) -> list[str]:
        """As the command line prints it."""
        place = f"row {self.row}" if self.row else "table"
        return [f"{self.severity}: {place}", *self.problem.lines()]

    def as_data(self) -> dict[str, Any]:
        """For --json."""
        problem = self.problem
        words = {
            "fields": list(problem.fields),
            "found": problem.found,
            "allowed": problem.allowed,
            "next": problem.next,
        }
        return {"severity": self.severity, "kind": self.kind, "row": self.row, **words}


@dataclass(frozen=True)
class Report:
    """What a check of one table saw.

    arch, family, where   the table
    findings   in the order of the rows
    shapes     shapes that were tried, of which `layers` are layers of real models
    rows       row number -> shapes that it answered
    evidence   kind of evidence (or "torch") -> layer shapes answered by it: how much rests on defaults
    """

    arch: str
    family: str
    where: str
    findings: tuple[Finding, ...]
    shapes: int
    layers: int
    rows: dict[int, int]
    evidence: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings may be there."""
        return not any(finding.severity == "error" for finding in self.findings)

    def as_data(self) -> dict[str, Any]:
        """For --json."""
        found = [finding.as_data() for finding in self.findings]
        return {
            "arch": self.arch,
            "family": self.family,
            "table": self.where,
            "ok": self.ok,
            "findings": found,
            "shapes": self.shapes,
            "layers": self.layers,
            "rows": self.rows,
            "evidence": self.evidence,
        }

    def lines(self) -> list[str]:
        """As the command line prints it: the verdict, how much rests on what, the findings."""
        rest = ", ".join(f"{count} {kind}" for kind, count in sorted(self.evidence.items()))
        verdict = (
            "in order"
            if not self.findings
            else "1 finding"
            if len(self.findings) == 1
            else f"{len(self.findings)} findings"
        )
        head = f"{self.where or 'table'}: {verdict} over {self.shapes} shapes; {self.layers} layer shapes answered by: {rest or 'none'}"
        return [head, *(line for finding in self.findings for line in finding.lines())]


@dataclass
class _Seen:
    """What evaluating the grid brought together."""

    answered: Counter[int] = field(default_factory=Counter)  # row -> shapes
    unfit: dict[int, list[tuple[GemmShape, str, Problem]]] = field(default_factory=dict)
    orphans: list[tuple[GemmShape, str]] = field(default_factory=list)
    shapes: int = 0


def check(
    table: DispatchTable,
    *,
    layers: Iterable[tuple[int, int]] | None = None,
    built: Container[str] | None = None,
    in_set: Container[str] | None = None,
    digest_of: Callable[[KernelSpec], str] | None = None,
) -> Report:
    """Check a table.

    layers      (M, K) of layers to try; None: all of specs/shapes
    built       names of the kernels that are built; None: do not ask
    in_set      names of the kernels of the default spec set; None: do not ask
    digest_of   digest of a spec's source as it is now; None: render it
    """
    layer_problems = list(layer_blocks(table, _shipped_layers() if layers is None else layers))
    asked, seen, kinds = _Asked(table), _Seen(), Counter[str]()
    for block in layer_problems:
        _try_block(asked, block, seen)
    for number, count in seen.answered.items():
        row = table.rows[number - 1]
        kinds["torch" if row.torch else row.because.kind] += count
    tried = seen.shapes
    for block in boundary_blocks(table):
        _try_block(asked, block, seen)
    findings = [
        *_coverage(asked, seen, layer_problems),
        *_existence(table, built, in_set),
        *_ages(table, digest_of or rendered_digest),
    ]
    findings.sort(key=lambda finding: finding.row or 0)
    counts = dict(sorted(seen.answered.items()))
    place = (table.arch, table.family, table.where)
    return Report(*place, tuple(findings), seen.shapes, tried, counts, dict(sorted(kinds.items())))


def check_tables(
    arch: str,
    families: Iterable[str] | None = None,
    path: Path | None = None,
    *,
    built: Container[str] | None = None,
    in_set: Container[str] | None = None,
) -> list[Report]:
    """Check the tables of a target: of these families (None: every family that has one), or the one file at `path`.

    Raises TableError for a table that cannot be read, or that is missing for a family that was named.
    """
    names = list(families) if families else families_of(arch, path)
    return [check(load_table(family, arch, path), built=built, in_set=in_set) for family in names]


def _shipped_layers() -> list[tuple[int, int]]:
    from kgen.spec.shapes import all_shapes

    return [(shape.M, shape.K) for shape in all_shapes()]


class _Asked:
    """A table that is asked for block after block. Of a long one only some rows can hold for an N, and for a type and traits."""

    def __init__(self, table: DispatchTable):
        self.table = table
        self._numbers: dict[tuple[Any, ...], frozenset[int]] = {}

    def first(self, block: Block) -> tuple[list[Row], First]:
        """The rows that may hold for a problem of the block, and which of them takes one, by its index; their number for none."""
        of_n, of_traits = self._possible(block.N, None, None), self._possible(None, block.dtype, block.traits)
        rows = [row for row in self.table.rows if row.number in of_n and row.number in of_traits]
        return rows, self.compiled(block, rows)

    def compiled(self, block: Block, rows: Sequence[Row]) -> First:
        """The same for any rows."""
        values = self.table.scope.values(block.N, block.dtype, block.shape(1, 1).traits, family_cu(self.table))
        return first_true([row.condition for row in rows], self.table.scope.trees, values)

    def _possible(self, *known: Any) -> frozenset[int]:
        """Numbers of the rows that can hold where this is known: N, type, traits."""
        if known not in self._numbers:
            domain = self.table.scope.domain(*known)
            rows = (row for row in self.table.rows if possible(row.condition, domain) != {False})
            self._numbers[known] = frozenset(row.number for row in rows)
        return self._numbers[known]


def _try_block(asked: _Asked, block: Block, seen: _Seen) -> None:
    """Evaluate the rows for a block's problems, and note what happens."""
    rows, first = asked.first(block)
    for M, K in block.sizes:
        index = first(M, K)
        if index == len(rows):
            seen.orphans.append((block.shape(M, K), block.dtype))
            continue
        row = rows[index]
        seen.answered[row.number] += 1
        if row.kernels:
            shape = block.shape(M, K)
            name, _, problem = _fitting(asked.table, row, shape, block.dtype)
            if problem is not None:
                seen.unfit.setdefault(row.number, []).append((shape, name, problem))
    seen.shapes += len(block.sizes)


def _takers(asked: _Asked, blocks: Iterable[Block], numbers: Container[int]) -> dict[int, set[int]]:
    """Of rows that are never reached: the rows before each that take the problems for which it holds."""
    out: dict[int, set[int]] = {}
    for block in blocks:
        rows, first = asked.first(block)
        for row in rows:
            if row.number in numbers:
                holds = asked.compiled(block, [row])
                takers = {rows[first(M, K)].number for M, K in block.sizes if holds(M, K) == 0}
                out.setdefault(row.number, set()).update(takers)
    return out


def _words(shape: GemmShape) -> str:
    return " ".join(f"{name} {value}" for name, value in shape_values(shape).items())


def _coverage(asked: _Asked, seen: _Seen, layer_problems: Iterable[Block]) -> Iterable[Finding]:
    dead = [row for row in asked.table.rows if row.number not in seen.answered]
    blocks = chain(layer_problems, boundary_blocks(asked.table)) if dead else ()
    taken = _takers(asked, blocks, {row.number for row in dead})
    for row in dead:
        takers = sorted(taken.get(row.number, ()))
        if takers:
            found = f"never reached: rows {', '.join(map(str, takers))} take every shape where it holds"
        else:
            found = f"never holds over {seen.shapes} shapes: {row.when}"
        problem = Problem(("when",), found, "a row that answers some shape", "move it up, correct it, or delete it")
        yield Finding("error", "unreached", row.number, problem)
    for number, cases in seen.unfit.items():
        shape, name, problem = cases[0]
        found = f"holds for {_words(shape)} and {len(cases) - 1} more shapes, but {name} does not fit: {problem.found}"
        cure = Problem(("when",), found, problem.allowed, "say so in `when`")
        yield Finding("error", "unfit", number, cure)
    if seen.orphans:
        few = "; ".join(f"{_words(shape)} {dtype}" for shape, dtype in seen.orphans[:_EXAMPLES])
        found = f"no row for {len(seen.orphans)} of {seen.shapes} shapes: {few}"
        cure = Problem(("row",), found, "an answer for every shape", 'end with a row  when = "true", use = "torch"')
        yield Finding("error", "no_row", None, cure)


def _existence(table: DispatchTable, built: Container[str] | None, in_set: Container[str] | None) -> Iterable[Finding]:
    asked: tuple[tuple[Kind, Container[str] | None, str, str], ...] = (
        ("not_built", built, "not built", f"kgen build --arch {table.arch} --family {table.family}"),
        ("not_in_set", in_set, "not in the default spec set", f"add it to specs/{table.family}.toml"),
    )
    for kind, names, words, cure in asked:
        if names is None:
            continue
        for row in table.rows:
            missing = [name for name in dict.fromkeys(row.kernels.values()) if name not in names]
            if missing:
                more = f" and {len(missing) - 1} more of this row" if len(missing) > 1 else ""
                yield Finding("error", kind, row.number, Problem(("use",), f"{missing[0]}{more}: {words}", "", cure))


def _ages(table: DispatchTable, digest_of: Callable[[KernelSpec], str]) -> Iterable[Finding]:
    for row in table.rows:
        now = current_digest(table, row, digest_of)
        evidence = row.because
        if now is None or not isinstance(evidence, (Measured, Model)) or same_digest(now, evidence.source):
            continue
        found = f"{evidence.kind} with source {evidence.source}; the kernels' source is {now} now"
        cure = "measure again, then write the new digest"
        yield Finding("warning", "stale", row.number, Problem(("because.source",), found, now, cure))
