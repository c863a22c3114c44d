"""Tables, JSON and numbers on stdout: plain aligned text that a pipe, a narrow terminal and grep all take."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_NUMBER = re.compile(r"[-+]?[0-9][0-9,]*(\.[0-9]+)?(e[-+]?[0-9]+)?%?")


def print_json(data: Any) -> None:
    """Data as indented JSON."""
    print(json.dumps(data, indent=1, ensure_ascii=False, default=str))


def print_table(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str], heads: Mapping[str, str] | None = None
) -> None:
    """Rows as aligned columns; numbers to the right. `heads` renames columns. Long names belong into the last column."""
    heads = heads or {}
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    titles = [heads.get(column, column) for column in columns]
    numeric = [all(_is_number(row[i]) for row in cells) and bool(cells) for i in range(len(columns))]
    widths = [max(len(line[i]) for line in [titles, *cells]) for i in range(len(columns))]
    for line in [titles, *cells]:
        padded = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        )
        print("  ".join(padded).rstrip())


def note(words: str) -> None:
    """A remark on stderr, so that stdout stays data."""
    print(words, file=sys.stderr, flush=True)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _is_number(text: str) -> bool:
    return text == "-" or _NUMBER.fullmatch(text) is not None


def plural(count: int, noun: str) -> str:
    """`1 kernel`, `2 kernels`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
