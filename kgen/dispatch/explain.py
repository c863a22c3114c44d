"""Why a shape gets the row it gets: every condition with its values, and for the rows tried before, the first condition that failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kgen.dispatch.age import current_digest, freshness
from kgen.dispatch.evaluate import closure
from kgen.dispatch.match import Pick, family_cu, pick, shape_values
from kgen.dispatch.predicate import Compare, Constant, Junction, Name, Node, names_in, to_text
from kgen.dispatch.table import DispatchTable, Row, load_table
from kgen.spec.problem import GemmShape
from kgen.spec.route import ROUTES


@dataclass(frozen=True)
class Condition:
    """One part of a row's `when`: its text, the value of each name in it, whether it holds, and formulas of derived quantities."""

    text: str
    values: dict[str, Any]
    holds: bool
    formulas: dict[str, str]
    limit: str = ""  # the other side, when the condition is one name compared with constants

    def as_data(self) -> dict[str, Any]:
        """For --json."""
        return {"text": self.text, "values": self.values, "holds": self.holds, "formulas": self.formulas}


@dataclass(frozen=True)
class Explanation:
    """The answer for one shape and the way to it; see `as_data` for what scripts may rely on.

    inner  where the table is an op's: the explanation of the family that it names
    """

    table: DispatchTable
    shape: GemmShape
    dtype: str
    cu: int
    pick: Pick
    conditions: tuple[Condition, ...]
    tried: tuple[tuple[Row, Condition], ...]
    inner: Explanation | None = None

    @property
    def kernel(self) -> str:
        """A kernel's name, or torch: of the table itself, or of the family's that it names."""
        return self.inner.kernel if self.inner else self.pick.kernel or "torch"

    def as_data(self) -> dict[str, Any]:
        """`row` (its number), `kernel` (a name, or torch), `conditions`, `provenance`, and what led there."""
        row = self.pick.row
        evidence = row.because.model_dump(mode="json", exclude_defaults=True) | {"kind": row.because.kind}
        return {
            "family": self.table.family,
            "arch": self.table.arch,
            "problem": {**shape_values(self.shape), "dtype": self.dtype, "cu": self.cu},
            "row": row.number,
            "rows": len(self.table.rows),
            "kernel": self.kernel,
            "when": row.when,
            "conditions": [condition.as_data() for condition in self.conditions],
            "provenance": evidence | {"words": row.because.words(), "source_now": current_digest(self.table, row)},
            "tried": [
                {"row": tried.number, "use": tried.use, "failed": failed.as_data()} for tried, failed in self.tried
            ],
            "passed_over": [
                {"row": s.row.number, "kernel": s.kernel, "found": s.problem.found, "allowed": s.problem.allowed}
                for s in self.pick.skipped
            ],
        } | ({"answer": self.inner.as_data()} if self.inner else {})

    def text(self, note: str | None = None) -> str:
        """As the command line prints it; `note` follows the evidence: by default, whether the kernels' source has changed since."""
        row = self.pick.row
        note = freshness(self.table, row) if note is None else note
        lines = [f"row {row.number} of {len(self.table.rows)}   {self.pick.kernel or self.pick.family or 'torch'}"]
        lines += _aligned(self.conditions)
        lines.append(row.because.words() + (f"; {note}" if note else ""))
        if row.because.why:
            lines.append(row.because.why)
        for skip in self.pick.skipped:
            lines.append(f"row {skip.row.number} holds, but {skip.kernel} does not fit: {skip.problem.found}")
            lines.append(f"  allowed: {skip.problem.allowed}")
        if self.tried:
            lines += ["", "rows tried before:"]
            heads = [f"  row {tried.number}  {short_use(tried, self.table.family)}" for tried, _ in self.tried]
            width = max(map(len, heads))
            for head, (_, failed) in zip(heads, self.tried, strict=True):
                lines.append(f"{head:<{width}}   fails at {_said(failed)}")
        if self.inner:
            lines += ["", f"{self.inner.table.family}:", *self.inner.text().splitlines()]
        return "\n".join(lines)


def explain(table: DispatchTable, shape: GemmShape, dtype: str = "bf16", cu: int | None = None) -> Explanation:
    """Pick for a shape and say why. Raises what `pick` raises."""
    cu = cu if cu is not None else family_cu(table)
    answer = pick(table, shape, dtype, cu)
    env = table.scope.environment(shape, dtype, cu)
    passed = {skip.row.number for skip in answer.skipped}
    tried = []
    for row in table.rows[: answer.row.number - 1]:
        if row.number not in passed:
            tried.append((row, next(c for c in _conditions(table, row, env) if not c.holds)))
    inner = None
    if answer.family:
        family, asked = ROUTES[table.family].answer(answer.family, shape)
        inner = explain(load_table(family, table.arch), asked, dtype, cu)
    return Explanation(table, shape, dtype, cu, answer, tuple(_conditions(table, answer.row, env)), tuple(tried), inner)


def short_use(row: Row, family: str) -> str:
    """A row's kernel without the family and dtype that all share."""
    return row.use.removeprefix(f"{family}_").removeprefix("{dtype}_").removeprefix("N{N}_")


def _parts(node: Node) -> tuple[Node, ...]:
    return node.items if isinstance(node, Junction) and node.op == "and" else (node,)


def _conditions(table: DispatchTable, row: Row, env: dict[str, Any]) -> list[Condition]:
    return [_condition(table, part, env) for part in _parts(row.condition)]


def _condition(table: DispatchTable, node: Node, env: dict[str, Any]) -> Condition:
    names = list(dict.fromkeys(name.id for name in names_in(node)))
    trees = table.scope.trees
    formulas = {name: _with_values(to_text(trees[name]), trees[name], env) for name in names if name in trees}
    values = {name: env[name] for name in names}
    return Condition(to_text(node), values, bool(closure(node)(env)), formulas, _limit(node))


def _with_values(text: str, tree: Node, env: dict[str, Any]) -> str:
    """A formula and the values of its names: `ceil_div(M, 4 * cu), cu 20`; the problem's own sizes need no repeating."""
    known = [f"{name.id} {env[name.id]}" for name in names_in(tree) if name.id not in ("M", "N", "K", "dtype")]
    return ", ".join([text, *dict.fromkeys(known)])


def _limit(node: Node) -> str:
    """`<= 2048` of `K <= 2048`, `2 < .. <= 26` of a chain around a name; empty when the condition is of another form."""
    if not isinstance(node, Compare):
        return ""
    operands = [node.first, *(operand for _, operand in node.rest)]
    named = [index for index, operand in enumerate(operands) if isinstance(operand, Name)]
    if len(named) != 1 or not all(isinstance(o, Constant) for i, o in enumerate(operands) if i != named[0]):
        return ""
    if named == [0] and len(node.rest) == 1:
        return f"{node.rest[0][0]} {to_text(node.rest[0][1])}"
    words = [to_text(operands[0]) if named[0] else ".."]
    for index, (op, operand) in enumerate(node.rest, 1):
        words += [op, ".." if index == named[0] else to_text(operand)]
    return " ".join(words)


def _values(condition: Condition) -> str:
    return ", ".join(f"{name} = {_value(value)}" for name, value in condition.values.items())


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _said(condition: Condition) -> str:
    """One condition on one line: `K = 4096 (<= 2048)`."""
    if condition.limit:
        return f"{_values(condition)} ({condition.limit})"
    return f"{condition.text} ({_values(condition)})" if condition.values else condition.text


def _aligned(conditions: tuple[Condition, ...]) -> list[str]:
    """Columns: what was found, whether it holds, the limit, the formulas."""
    cells = []
    for condition in conditions:
        verdict = "holds" if condition.holds else "fails"
        if condition.limit:
            equal = condition.limit.startswith("== ") and condition.holds
            left, right = _values(condition), "" if equal else f"({condition.limit})"
        else:
            left, right = condition.text, f"({_values(condition)})" if condition.values else ""
        cells.append((left, verdict, right, "   ".join(condition.formulas.values())))
    widths = [max(len(cell[column]) for cell in cells) for column in range(3)]
    rows = ["   ".join(f"{text:<{width}}" for text, width in zip(cell, (*widths, 0), strict=True)) for cell in cells]
    return [f"  {row.rstrip()}" for row in rows]
