"""From a shape to a row: the first row whose condition holds and whose kernel fits.

A condition must imply that its kernel fits; `check` proves it over a grid of shapes. Should one be missed, the row is passed over at run time,
and counted: nothing falls through silently.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from kgen.dispatch.quantities import CU_MAX, SIZE_MAX
from kgen.dispatch.table import DispatchTable, Row, key_of, rows_range
from kgen.errors import MissingPieceError, NoRowError, Problem
from kgen.spec.arch import arch_facts
from kgen.spec.base import KernelSpec
from kgen.spec.problem import GemmShape
from kgen.spec.registry import tabled

MEMO_LIMIT = 1 << 14  # shapes remembered by a picker; prompts of every length would fill memory otherwise


@dataclass(frozen=True)
class Skipped:
    """A row whose condition held, but whose kernel cannot do the shape."""

    row: Row
    kernel: str
    problem: Problem


@dataclass(frozen=True)
class Pick:
    """The answer for a shape: the row, the kernel's name and spec (both None for torch), and rows that were passed over as unfit.

    Where the table is that of an op with several families, the answer is a family: `family`, whose own table has the kernel.
    """

    row: Row
    kernel: str | None
    spec: KernelSpec | None
    skipped: tuple[Skipped, ...] = ()

    @property
    def torch(self) -> bool:
        """Whether torch is the answer."""
        return self.row.torch

    @property
    def family(self) -> str | None:
        """The family that an op's table names; None for torch, and in a family's own table."""
        return self.row.family


def pick(table: DispatchTable, shape: GemmShape, dtype: str, cu: int | None = None) -> Pick:
    """The first row that answers, for a device of `cu` CUs (None: the target's part).

    Raises NoRowError when no row does, or when the sizes are outside 1 to 2^31 - 1.
    """
    cu = cu if cu is not None else family_cu(table)
    _check_problem(table, shape, dtype, cu)
    env = table.scope.environment(shape, dtype, cu)
    skipped: list[Skipped] = []
    for row in table.rows:
        if not row.holds(env):
            continue
        if row.torch or row.family:
            return Pick(row, None, None, tuple(skipped))
        name, spec, problem = _fitting(table, row, shape, dtype)
        if problem is None:
            return Pick(row, name, spec, tuple(skipped))
        skipped.append(Skipped(row, name, problem))
    raise _no_row(table, shape, dtype, cu, skipped, env)


def family_cu(table: DispatchTable) -> int:
    """CUs of the part that the target's facts describe."""
    return arch_facts(table.arch).cu


def _fitting(
    table: DispatchTable, row: Row, shape: GemmShape, dtype: str
) -> tuple[str, KernelSpec | None, Problem | None]:
    """The row's kernel for the shape, and why it cannot do it, or None."""
    name = row.kernels.get(key_of(table.family, dtype, shape))
    if name is None:
        span = rows_range(table.family)
        if shape.N not in span:
            return row.use, None, Problem(("N",), str(shape.N), f"{span.start} to {span.stop - 1}: {row.use}")
        found = f"no kernel for {dtype} and N {shape.N}, which an earlier row was to answer always"
        return row.use, None, Problem(("use",), found, "a kernel that fits, in the earlier row")
    spec = table.specs[name]
    problem: Problem | None = spec.fits(shape)  # type: ignore[attr-defined]
    if problem is None and spec.dtype != dtype:
        problem = Problem(("dtype",), dtype, f"{spec.dtype}, fixed in {name}")
    return name, spec, problem


def _check_problem(table: DispatchTable, shape: GemmShape, dtype: str, cu: int) -> None:
    problems = [
        Problem((name,), str(size), "1 to 2^31 - 1", "an empty problem needs no kernel" if size < 1 else "split it")
        for name, size in (("M", shape.M), ("N", shape.N), ("K", shape.K))
        if not 1 <= size <= SIZE_MAX
    ]
    for name, values in tabled(table.family).traits.items():
        found = shape.traits.get(name)
        if found not in values:
            allowed = ", ".join(map(str, values))
            problems.append(Problem((name,), "not given" if found is None else str(found), allowed, "use torch"))
    dtypes = tabled(table.family).dtypes()
    if dtype not in dtypes:
        problems.append(Problem(("dtype",), repr(dtype), ", ".join(dtypes)))
    if not 1 <= cu <= CU_MAX:
        problems.append(Problem(("cu",), str(cu), f"1 to {CU_MAX}"))
    if problems:
        raise NoRowError(f"{table.family} on {table.arch}: no table answers this", problems)


def _no_row(
    table: DispatchTable, shape: GemmShape, dtype: str, cu: int, skipped: list[Skipped], env: dict[str, Any]
) -> NoRowError:
    derived = ", ".join(f"{quantity.name} {env[quantity.name]}" for quantity in table.scope.quantities)
    sizes = ", ".join(f"{name} {value}" for name, value in shape_values(shape).items())
    found = f"{sizes}, {dtype}, {cu} CUs ({derived})"
    covered = f"{len(table.rows)} rows: " + "; ".join(row.when for row in table.rows[:4])
    covered += "; ..." if len(table.rows) > 4 else ""
    hint = f'end {table.where or "the table"} with a row  when = "true", use = "torch"'
    problems = [Problem(("M", "N", "K", "dtype"), found, covered, hint)]
    problems += [
        Problem((f"row {s.row.number}",), f"{s.kernel} does not fit: {s.problem.found}", s.problem.allowed)
        for s in skipped
    ]
    return NoRowError(
        f"{table.family} on {table.arch}: no row for this shape in {table.where or 'the table'}", problems
    )


def shape_values(shape: GemmShape) -> dict[str, int | bool]:
    """The sizes and traits of a problem by name."""
    return {"M": shape.M, "N": shape.N, "K": shape.K, **shape.traits}


class Picker:
    """`pick` for one device, remembering its answers and counting them.

    built     names of the kernels that exist; None: do not ask
    counts    calls per row number
    fallen    calls per (row number, kernel, sentence) that passed over a row because its kernel does not fit

    After the first call with a shape the answer is a dictionary hit. Safe for several threads.
    """

    def __init__(self, table: DispatchTable, cu: int | None = None, built: Container[str] | None = None):
        self.table, self.built = table, built
        self.cu = cu if cu is not None else family_cu(table)
        self.counts: Counter[int] = Counter()
        self.fallen: Counter[tuple[int, str, str]] = Counter()
        self._memo: dict[tuple[GemmShape, str], Pick] = {}
        self._lock = threading.Lock()

    def pick(self, shape: GemmShape, dtype: str) -> Pick:
        """The answer for a shape. Raises NoRowError, or MissingPieceError when the row's kernel was not built."""
        key = (shape, dtype)
        answer = self._memo.get(key)
        if answer is None:
            answer = pick(self.table, shape, dtype, self.cu)
            self._need_built(answer)
            if len(self._memo) >= MEMO_LIMIT:
                self._memo.clear()
            self._memo[key] = answer
        with self._lock:
            self.counts[answer.row.number] += 1
            for skip in answer.skipped:
                self.fallen[skip.row.number, skip.kernel, f"{skip.problem.found}; {skip.problem.allowed}"] += 1
        return answer

    def _need_built(self, answer: Pick) -> None:
        if answer.kernel is None or self.built is None or answer.kernel in self.built:
            return
        table = self.table
        raise MissingPieceError(
            f"kernel not built: {answer.kernel} for {table.arch}, which row {answer.row.number} of {table.where or 'the table'} picks\n"
            f"  try: kgen build --arch {table.arch} --family {table.family}"
        )

    def report(self) -> list[str]:
        """What was picked so far, in words: calls per row, torch and default rows marked, and every row passed over."""
        lines = []
        for number, calls in sorted(self.counts.items()):
            row = self.table.rows[number - 1]
            lines.append(f"row {number} ({row.because.kind})  {calls} calls  {row.use}")
        for (number, kernel, words), calls in sorted(self.fallen.items()):
            lines.append(f"row {number} passed over  {calls} calls  {kernel} does not fit: {words}")
        return lines
