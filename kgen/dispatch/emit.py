"""Tables compiled beside the kernels: build/ARCH/dispatch/FAMILY.json, and FAMILY.h for engines without Python.

The JSON has the keys of the TOML and is read by the same reader; keys that begin with `_` are for other programs. The header is C++17 without
dependencies; its `pick` agrees with Python's for every table that `check` passes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from kgen.dispatch.evaluate import closure
from kgen.dispatch.match import family_cu
from kgen.dispatch.predicate import (
    Arithmetic,
    Call,
    Compare,
    Constant,
    Junction,
    Member,
    Name,
    Negative,
    Node,
    Not,
    names_in,
    names_reached,
)
from kgen.dispatch.quantities import CU_MAX, SIZE_MAX, Traits, trait_values
from kgen.dispatch.table import SCHEMA, DispatchTable, Row, has_table, kernels_named, key_rows, load_table, rows_range
from kgen.spec.registry import tabled, tabled_names
from kgen.spec.route import ROUTES

_KERNEL = "the kernel's name and symbol, by which manifest.json tells its file and launch"
_OPERATORS = {"and": "&&", "or": "||"}
_FUNCTIONS = {"//": "floor_div", "%": "floor_mod", "ceil_div": "ceil_div", "min": "lesser", "max": "greater"}


def compile_table(table: DispatchTable, folder: Path) -> tuple[Path, Path]:
    """Write FAMILY.json and FAMILY.h into `folder`/dispatch, each moved into place whole, and only when it changes."""
    out = folder / "dispatch"
    out.mkdir(parents=True, exist_ok=True)
    paths = out / f"{table.family}.json", out / f"{table.family}.h"
    for path, text in zip(paths, (to_json(table), to_header(table)), strict=True):
        _write(path, text)
    return paths


def compile_tables(arch: str, folder: Path, families: Iterable[str] | None = None) -> list[Path]:
    """Compile the reviewed tables of a target into its build folder; families without a table are left out. Answers the files."""
    names = [family for family in (families or tabled_names()) if has_table(family, arch)]
    return [path for family in names for path in compile_table(load_table(family, arch), folder)]


def _write(path: Path, text: str) -> None:
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def to_json(table: DispatchTable) -> str:
    """The table as JSON text, with the quantities' formulas and, per row, the kernels that it can pick."""
    rows = [
        {
            "when": row.when,
            "use": row.use,
            "because": row.because.model_dump(mode="json", exclude_defaults=True) | {"kind": row.because.kind},
        }
        for row in table.rows
    ]
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "arch": table.arch,
        "family": table.family,
        "row": rows,
        "_made_from": table.where,
        "_quantities": {quantity.name: quantity.formula for quantity in table.scope.quantities},
        "_kernels": [list(dict.fromkeys(row.kernels.values())) for row in table.rows],
        "_kernels_named": kernels_named(table),
    }
    return json.dumps(data, indent=1) + "\n"


# ---- C++

_HEADER = """\
// {family} on {arch}: which kernel answers a problem. C++17, no dependencies.
// Made by kgen from {where}; edit the table, not this file.
#pragma once
#include <cstdint>

namespace kgen::dispatch::{arch}::{family} {{

enum class Dtype {{ {dtypes} }};

// row      number of the table's row, from 1; 0: no row answers, or a size is outside 1 to {size_max}
// kernel   {what}; nullptr: use torch, or what else multiplies there
struct Pick {{
  int row;
  const char* kernel;
}};

inline constexpr std::int64_t default_cu = {cu};  // CUs of the target's part; pass the device's own

namespace detail {{
using Int = std::int64_t;
constexpr Int floor_div(Int a, Int b) {{ return a / b - (a % b < 0 ? 1 : 0); }}  // b > 0
constexpr Int floor_mod(Int a, Int b) {{ return a % b + (a % b < 0 ? b : 0); }}
constexpr Int ceil_div(Int a, Int b) {{ return -floor_div(-a, b); }}
constexpr Int lesser(Int a, Int b) {{ return a < b ? a : b; }}
constexpr Int greater(Int a, Int b) {{ return a < b ? b : a; }}
constexpr bool size_ok(Int size) {{ return 1 <= size && size <= {size_max}; }}

struct Names {{
  const char* of[{dtype_count}]{trait_dims}[{n_count}];  // by dtype{trait_words}{n_words}
}};
{names}
{trait_index}constexpr const char* at(const Names& names, Dtype dtype{trait_params}, Int N) {{
  return {n_first} <= N && N <= {n_last}{trait_known} ? names.of[static_cast<int>(dtype)]{trait_at}[{n_index}] : nullptr;
}}
}}  // namespace detail

// The first row that holds, for a device of `cu` CUs: out[N, M] = act[N, K] @ weight[M, K]^T{trait_doc}.
constexpr Pick pick(std::int64_t M, std::int64_t N, std::int64_t K, [[maybe_unused]] Dtype dtype{trait_params}, std::int64_t cu = default_cu) {{
  using namespace detail;
  if (!size_ok(M) || !size_ok(N) || !size_ok(K) || cu < 1 || cu > {cu_max}) return {{0, nullptr}};
{body}
  return {{0, nullptr}};
}}

}}  // namespace kgen::dispatch::{arch}::{family}
"""


def to_header(table: DispatchTable) -> str:
    """The table as a C++17 header with `constexpr Pick pick(M, N, K, dtype, cu)`."""
    span, keys, dtypes = rows_range(table.family), key_rows(table.family), tabled(table.family).dtypes()
    body = [*_constants(table), *(line for row in table.rows for line in _row_lines(row, table.family))]
    return _HEADER.format(
        family=table.family,
        arch=table.arch,
        where=_comment(table.where or "a table"),
        dtypes=", ".join(dtypes),
        dtype_count=len(dtypes),
        size_max=SIZE_MAX,
        cu_max=CU_MAX,
        cu=family_cu(table),
        what="the family whose own table names the kernel" if table.family in ROUTES else _KERNEL,
        n_first=span.start,
        n_last=span.stop - 1,
        n_count=len(keys),
        n_index=f"N - {span.start}" if keys == span else "0",
        n_words=f" and N - {span.start}" if keys == span else "",
        **_trait_text(table.family),
        names="\n".join(_names(row, dtypes, keys, trait_values(table.family)) for row in table.rows if row.kernels),
        body="\n".join(f"  {line}" for line in body),
    )


def _comment(text: str) -> str:
    """Text for one `//` line: no line break, no backslash that would continue it."""
    return " ".join(text.replace("\\", "/").split())


def _trait_text(family: str) -> dict[str, str]:
    """What the header says of a family's traits: dimensions, parameters and the place of a combination; nothing where it has none."""
    traits = tabled(family).traits
    if not traits:
        keys = ("dims", "words", "index", "params", "known", "at", "doc")
        return {f"trait_{key}": "" for key in keys}
    kinds = {name: "bool" if isinstance(values[0], bool) else "std::int64_t" for name, values in traits.items()}
    params = "".join(f", {kind} {name}" for name, kind in kinds.items())
    names = ", ".join(traits)
    index = [
        "// The place of a combination among those that kernels exist for, -1 for none.",
        f"constexpr Int trait_index({params[2:]}) {{",
    ]
    tests = [
        " && ".join(_trait_test(name, value) for name, value in zip(traits, values, strict=True))
        for values in trait_values(family)
    ]
    index += [f"  if ({test}) return {place};" for place, test in enumerate(tests)]
    index += ["  return -1;", "}", ""]
    return {
        "trait_dims": f"[{len(tests)}]",
        "trait_words": f", trait_index({names})",
        "trait_index": "\n".join(index),
        "trait_params": params,
        "trait_known": f" && trait_index({names}) >= 0",
        "trait_at": f"[trait_index({names})]",
        "trait_doc": f", for weights with these traits: {names}",
    }


def _trait_test(name: str, value: int | bool) -> str:
    return (name if value else f"!{name}") if isinstance(value, bool) else f"{name} == {value}"


def _names(row: Row, dtypes: Sequence[str], span: range, traits: list[Traits]) -> str:
    rows = []
    for dtype in dtypes:
        lists = [_names_of_one(row, dtype, values, span) for values in traits]
        rows.append("    " + (lists[0] if traits == [()] else "{" + ",\n    ".join(lists) + "}"))
    return f"inline constexpr Names row{row.number} = {{{{\n" + ",\n".join(rows) + "}};"


def _names_of_one(row: Row, dtype: str, traits: Traits, span: range) -> str:
    names = [row.kernels.get((dtype, N, *traits)) for N in span]
    while names and names[-1] is None:  # what is left out is nullptr
        names.pop()
    return "{" + ",\n     ".join(f'"{name}"' if name else "nullptr" for name in names) + "}"


def _constants(table: DispatchTable) -> list[str]:
    """Facts and quantities that the conditions use, quantities after what they rest on."""
    trees = table.scope.trees
    used = names_reached((row.condition for row in table.rows), trees)
    facts = [(name, value) for name, value in table.scope.facts.items() if name in used]
    lines = []
    for name, value in facts:
        kind, text = ("bool", str(value).lower()) if isinstance(value, bool) else ("Int", str(value))
        lines.append(f"constexpr {kind} {name} = {text};")
    docs = {quantity.name: quantity.doc for quantity in table.scope.quantities}
    lines += [f"const Int {name} = {to_cpp(tree)};  // {docs[name]}" for name, tree in trees.items() if name in used]
    return lines


def _row_lines(row: Row, family: str) -> list[str]:
    condition = to_cpp(row.condition)
    note = f"// row {row.number}: {_comment(row.because.words())}"
    if row.torch:
        return [note, f"if ({condition}) return {{{row.number}, nullptr}};"]
    if row.family:
        return [note, f'if ({condition}) return {{{row.number}, "{row.family}"}};']
    traits = "".join(f", {name}" for name in tabled(family).traits)
    answer = f"if (const char* kernel = at(row{row.number}, dtype{traits}, N)) return {{{row.number}, kernel}};"
    return [note, f"if ({condition}) {{", f"  {answer}", "}"]


def to_cpp(node: Node) -> str:
    """A condition or formula as a C++ expression over std::int64_t; every compound operand stands in brackets."""
    if isinstance(node, (Arithmetic, Negative, Call)) and not names_in(node):
        return _number(closure(node)({}))
    match node:
        case Constant(value=bool() as value):
            return str(value).lower()
        case Constant(value=str() as value):
            return f"Dtype::{value}"
        case Constant(value=int() as value):
            return _number(value)
        case Name(id=name):
            return name
        case Negative(operand=operand):
            return f"-{_part(operand)}"
        case Not(operand=operand):
            return f"!{_part(operand)}"
        case Arithmetic(op="//" | "%" as op, left=left, right=right):
            return f"{_FUNCTIONS[op]}({to_cpp(left)}, {to_cpp(right)})"
        case Arithmetic(op=op, left=left, right=right):
            return f"{_part(left)} {op} {_part(right)}"
        case Call(function=function, args=(first, *others)):
            text = to_cpp(first)
            for other in others:
                text = f"{_FUNCTIONS[function]}({text}, {to_cpp(other)})"
            return text
        case Compare(first=first, rest=rest):
            operands = [first, *(operand for _, operand in rest)]
            steps = [f"{_part(a)} {op} {_part(b)}" for (op, _), (a, b) in zip(rest, pairwise(operands), strict=True)]
            return steps[0] if len(steps) == 1 else " && ".join(f"({step})" for step in steps)
        case Member(item=item, options=options, negated=negated):
            text = " || ".join(f"({_part(item)} == {_part(option)})" for option in options)
            return f"!({text})" if negated else text
        case Junction(op=op, items=items):
            return f" {_OPERATORS[op]} ".join(_part(item) for item in items)
    raise AssertionError(node)


def _part(node: Node) -> str:
    """An operand: in brackets unless it is a name, a number or a call."""
    text = to_cpp(node)
    call = isinstance(node, Call) or (isinstance(node, Arithmetic) and node.op in _FUNCTIONS)
    return text if call or isinstance(node, (Name, Constant)) or text.isdigit() else f"({text})"


def _number(value: int) -> str:
    text = str(value) + ("LL" if abs(value) >= 1 << 31 else "")
    return f"({text})" if value < 0 else text
