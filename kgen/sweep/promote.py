"""From drafted rows to a reviewed table: new rows where they are reached, old ones that they replace taken out, the rest as it was typed.

The text of the table is edited, not written anew, so that comments and the order of the other rows stay. The new text is read back and
checked as `kgen dispatch check` does before anything is written; a row that does not pass is refused, with the finding.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgen.build.folder import write_whole
from kgen.dispatch import DispatchTable, parse_table, pick
from kgen.dispatch.age import rendered_digest
from kgen.dispatch.because import evidence_digest
from kgen.dispatch.check import Finding, check
from kgen.errors import KgenError
from kgen.spec.base import HALVES
from kgen.spec.registry import spec_from_name
from kgen.sweep.farm import device_lock
from kgen.sweep.records import TORCH, Kind
from kgen.sweep.rows import Draft, Drafts
from kgen.sweep.stats import Interval, pooled
from kgen.sweep.workload import Workload

GAIN = 0.02  # least share of time saved; ROCm/vllm PR 978's rule
STRONGER = ("measured", "published")  # evidence that a model does not outrank
_ROW = re.compile(r"^\[\[row\]\]", re.M)
_PLACEHOLDER = "0" * 12


@dataclass(frozen=True)
class Promotion:
    """What promotion would make of a table.

    old, new  its text; equal when nothing is promoted
    rows      the drafts that became rows
    removed   rows of the old table that the new ones leave nothing, as their conditions
    refused   what was not said, and why
    gain      time of the new picks over the old ones, all problems pooled, None where nothing changes
    """

    path: Path
    old: str
    new: str
    rows: tuple[Draft, ...]
    removed: tuple[str, ...]
    refused: tuple[str, ...]
    gain: Interval | None

    def diff(self) -> str:
        """The change as a unified diff, empty for none."""
        names = (f"a/{self.path.name}", f"b/{self.path.name}")
        return "".join(difflib.unified_diff(self.old.splitlines(True), self.new.splitlines(True), *names))

    def write(self) -> None:
        """Replace the table, if it is still the one that was read. Raises KgenError when another sweep changed it meanwhile."""
        with device_lock(f"table {self.path.resolve()}"):
            now = self.path.read_text(encoding="utf-8") if self.path.is_file() else self.old
            if now != self.old:
                raise KgenError(
                    f"{self.path}: changed while the sweep ran\n  try: the same command again; what is measured is kept"
                )
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, self.new.encode())


def promote(
    table: DispatchTable, text: str, path: Path, drafts: Drafts, kind: Kind, device: str, ratios: Mapping[str, Any]
) -> Promotion:
    """Put drafted rows into a table's text.

    table, text  the present table and the text it was read from
    path         where the new text shall go
    ratios       as for draft_rows, for the gain over everything
    """
    refused = list(drafts.refused)
    rows = list(drafts.rows)
    while True:
        edit = _edited(table, text, rows, kind, device)
        bad = _first_bad(edit, rows, refused)
        if bad is None:
            break
        rows = [row for row in rows if row is not bad]
    removed = [row.when for row in table.rows if row.number in edit.gone]
    new = _with_digests(edit.text, table.arch, rows, kind).rstrip("\n") + "\n" if rows else text
    each = [ratios[w.key][_kernel_for(row, w)] for row in rows for w in row.problems]
    return Promotion(path, text, new, tuple(rows), tuple(removed), tuple(refused), pooled(each) if each else None)


def _kernel_for(row: Draft, workload: Any) -> str:
    return row.use.replace("{dtype}", workload.dtype)


def outranking(table: DispatchTable, workloads: Sequence[Workload]) -> dict[str, str]:
    """The problems whose present row rests on a measurement, which a model does not outrank: workload key -> words."""
    out = {}
    for workload in workloads:
        row = pick(table, workload.shape, workload.dtype).row
        if row.because.kind in STRONGER:
            out[workload.key] = f"row {row.number} is {row.because.kind}, which a model does not outrank"
    return out


# ---- text


@dataclass(frozen=True)
class _Edit:
    """A table's text with new rows and without the old ones that nothing reaches any more, `gone`; what its check found, with each row's `when`."""

    text: str
    gone: frozenset[int] = frozenset()
    findings: tuple[tuple[str, Finding], ...] = ()


def _edited(table: DispatchTable, text: str, rows: Sequence[Draft], kind: Kind, device: str) -> _Edit:
    if not rows:
        return _Edit(text)
    head, blocks = _split(text)
    assert len(blocks) == len(table.rows), "one block per row"
    place = min(pick(table, w.shape, w.dtype).row.number for row in rows for w in row.problems) - 1
    fresh = [_row_text(row, kind, device) for row in rows]
    gone: frozenset[int] = frozenset()
    while True:
        kept = [block for number, block in enumerate(blocks, 1) if number not in gone]
        before = sum(1 for number in range(1, place + 1) if number not in gone)
        new = head + "".join([*kept[:before], *fresh, *kept[before:]])
        parsed = parse_table(new, table.where)
        findings = check(parsed, digest_of=lambda spec: _PLACEHOLDER).findings
        found = [(each.row, each) for each in findings if each.row]
        ours = range(before + 1, before + len(fresh) + 1)
        dead = {row for row, each in found if each.kind == "unreached" and row not in ours}
        numbers = [number for number in range(1, len(blocks) + 1) if number not in gone]
        order = [*numbers[:before], *([0] * len(fresh)), *numbers[before:]]
        old = {order[number - 1] for number in dead}
        if not old:
            return _Edit(new, gone, tuple((parsed.rows[row - 1].when, each) for row, each in found))
        gone |= old


def _split(text: str) -> tuple[str, list[str]]:
    """What stands before the first row, and the rows, each with the lines up to the next."""
    starts = [match.start() for match in _ROW.finditer(text)]
    ends = [*starts[1:], len(text)]
    blocks = [text[a:b] for a, b in zip(starts, ends, strict=True)]
    return text[: starts[0]], [block if block.endswith("\n\n") else block.rstrip("\n") + "\n\n" for block in blocks]


def _first_bad(edit: _Edit, rows: Sequence[Draft], refused: list[str]) -> Draft | None:
    """A new row that the table's check has an error against, noted as refused."""
    by_when = {row.when: row for row in rows}
    for when, finding in edit.findings:
        row = by_when.get(when)
        if row is not None and finding.severity == "error":
            refused.append(f"{row.use} when {row.when}: {finding.problem.found}")
            return row
    return None


def _row_text(row: Draft, kind: Kind, device: str) -> str:
    """A row as a table writes it; its source digest is filled in later."""
    over = row.over[0] if len(row.over) == 1 else "the picks before"
    shapes = len({(w.sizes["M"], w.sizes["K"]) for w in row.problems})
    lines = ["[[row]]", f"when = '{row.when}'" if '"' in row.when else f'when = "{row.when}"', f'use = "{row.use}"']
    lines += ["[row.because]", f'kind = "{kind}"']
    if kind == "measured":
        gains = sorted(100 * each.gain for each in row.each)
        why = (
            f"kgen sweep; by shape from {gains[0]:+.1f} % to {gains[-1]:+.1f} %"
            if shapes > 1
            else "kgen sweep; this problem alone"
        )
        lines += [f'gain = "{row.gain.words()}"', f'over = "{over}"', f"pairs = {row.gain.pairs}", f"shapes = {shapes}"]
        lines += [f'device = "{device}"', f"date = {datetime.date.today().isoformat()}", f'source = "{_PLACEHOLDER}"']
    else:
        why = "kgen sweep --model: by instruction counts and rates, not by time"
        lines += [
            f'source = "{_PLACEHOLDER}"',
            f'gain = "{100 * row.gain.gain:+.1f} %"',
            f'over = "{over}"',
            f"shapes = {shapes}",
        ]
        lines += [f"date = {datetime.date.today().isoformat()}"]
    return "\n".join([*lines, f'why = "{why}"']) + "\n\n"


def _with_digests(text: str, arch: str, rows: Sequence[Draft], kind: Kind) -> str:
    """The digests of the new rows' kernels in place of the placeholders; a torch row's is that of what lost."""
    for row in rows:
        names = row.over if row.kernel == TORCH else _names(row)
        digests = [rendered_digest(spec_from_name(name, arch)) for name in names if name != TORCH]
        text = text.replace(f'source = "{_PLACEHOLDER}"', f'source = "{evidence_digest(digests)}"', 1)
    return text


def _names(row: Draft) -> list[str]:
    """The kernels that a row names, in the order in which its evidence is digested: by type."""
    types = [row.dtype] if row.dtype is not None else list(HALVES)
    return [row.use.replace("{dtype}", str(dtype)) for dtype in types]
