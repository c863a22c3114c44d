"""Dispatch tables: ordered rows of `when` (a condition), `use` (a kernel, or torch) and `because` (the evidence).

The reviewed text is specs/dispatch/ARCH/FAMILY.toml. Reading it checks everything that needs no shape: names, types, kernels that can exist
on the target, evidence that each kind must show. All problems of a file are reported at once.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kgen.dispatch.because import KINDS, Because
from kgen.dispatch.evaluate import Value, check_condition, closure, possible
from kgen.dispatch.predicate import Node, PredicateError, names_reached, parse
from kgen.dispatch.quantities import QUANTITIES, Scope, scope, trait_values
from kgen.errors import Problem, SpecError, TableError
from kgen.settings import data_dir
from kgen.spec.arch import ARCHES
from kgen.spec.base import KernelSpec
from kgen.spec.problem import GemmShape
from kgen.spec.registry import spec_from_name, tabled, tabled_names
from kgen.spec.route import ROUTES

SCHEMA = 1
TORCH = "torch"
Key = tuple[str | int | bool, ...]
"""dtype, N and the values of the family's traits: what a kernel is looked up by; N is ANY_N where kernels take any."""
ANY_N = 0
_ROW_KEYS = ("when", "use", "because")
_HEAD_KEYS = ("schema", "arch", "family", "row")


@dataclass(frozen=True)
class Row:
    """One row. `kernels` maps (dtype, N, the family's traits) to the kernel's name wherever the condition can hold; it is empty for torch.

    family  in the table of an op with several families: the one that the row names, None for torch
    """

    number: int
    when: str
    use: str
    because: Because
    condition: Node = field(repr=False)
    holds: Callable[[Mapping[str, Any]], bool] = field(repr=False, compare=False)
    kernels: Mapping[Key, str] = field(repr=False)
    family: str | None = None

    @property
    def torch(self) -> bool:
        """Whether the row steps aside for torch."""
        return self.use == TORCH


@dataclass(frozen=True)
class DispatchTable:
    """A family's table for one target; `where` is the file it came from, as errors name it."""

    arch: str
    family: str
    rows: tuple[Row, ...]
    where: str = ""
    specs: Mapping[str, KernelSpec] = field(default_factory=dict, repr=False, compare=False)

    @property
    def scope(self) -> Scope:
        """The names that the conditions use."""
        return scope(self.family, self.arch)


def kernels_named(table: DispatchTable) -> list[str]:
    """Every kernel that the table can pick, without repeats, in the order of the rows; `{dtype}` and `{N}` are filled in."""
    return list(table.specs)


def rows_range(family: str) -> range:
    """The N that kernels of the family exist for."""
    return tabled(family).row_counts()


def key_rows(family: str) -> range:
    """The N of the family's keys: one that stands for all where kernels take any number of rows."""
    return range(ANY_N, ANY_N + 1) if tabled(family).any_rows else rows_range(family)


def key_of(family: str, dtype: str, shape: GemmShape) -> Key:
    """What the problem's kernel is looked up by."""
    return (dtype, ANY_N if tabled(family).any_rows else shape.N, *shape.traits.values())


def fill(use: str, values: Mapping[str, str | int | bool]) -> str:
    """A row's `use` with its placeholders filled in; one that is true or false stands for `_NAME` or nothing."""
    for name, value in values.items():
        words = (f"_{name}" if value else "") if isinstance(value, bool) else str(value)
        use = use.replace(f"{{{name}}}", words)
    return use


# ---- files


def table_path(family: str, arch: str) -> Path:
    """Where the reviewed table of a family lies."""
    return data_dir("specs") / "dispatch" / arch / f"{family}.toml"


def has_table(family: str, arch: str) -> bool:
    """Whether a table is shipped for the family on the target."""
    return table_path(family, arch).is_file()


def families_of(arch: str, path: Path | None = None) -> list[str]:
    """The families that have a table on a target; with a file, the one that it says it is the table of.

    A file that says none is taken for wvsplitk's: reading it says what is wrong with it.
    """
    if path is None:
        return [family for family in tabled_names() if has_table(family, arch)]
    try:
        text = path.read_text(encoding="utf-8")
        family = (json.loads(text) if path.suffix == ".json" else tomllib.loads(text))["family"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        family = None
    return [family if family in tabled_names() else tabled_names()[0]]


def load_table(family: str, arch: str, path: Path | None = None) -> DispatchTable:
    """The reviewed table of a family on a target, or the file at `path`; a .json file is the compiled form.

    Raises TableError with every problem of the file, or when there is none.
    """
    path = path or table_path(family, arch)
    where = f"specs/dispatch/{arch}/{path.name}" if path == table_path(family, arch) else str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = sorted(p.parent.name for p in (data_dir("specs") / "dispatch").glob(f"*/{family}.toml"))
        problem = Problem(
            ("table",), "no such file", f"tables of {family}: {', '.join(known) or 'none'}", "check the spelling"
        )
        raise TableError(f"{where}: no dispatch table", [problem]) from None
    except (UnicodeDecodeError, OSError) as error:
        raise TableError(f"{where} cannot be read", [Problem(("table",), str(error))]) from None
    table = _parse_once(text, where, path.suffix == ".json")
    wrong = [
        Problem((key,), repr(found), f"{wanted!r}, which the file is the table of", "correct the file, or move it")
        for key, found, wanted in (("arch", table.arch, arch), ("family", table.family, family))
        if found != wanted
    ]
    if wrong:
        raise TableError(f"{where}: a table of something else", wrong)
    return table


def parse_table(text: str, where: str = "table", *, json_text: bool = False) -> DispatchTable:
    """A table from its text; raises TableError with all problems, each with its row, field, what was found and what would do."""
    try:
        data = json.loads(text) if json_text else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, RecursionError) as error:
        kind = "JSON" if json_text else "TOML"
        problem = Problem(
            (kind,), str(error), "", "`kgen build` writes it anew" if json_text else "quotes and brackets there"
        )
        raise TableError(f"{where} is not valid {kind}", [problem]) from None
    if not isinstance(data, dict):
        raise TableError(f"{where}: not a table", [Problem(("table",), type(data).__name__, "an object")])
    return table_from(data, where)


@lru_cache(maxsize=32)
def _parse_once(text: str, where: str, json_text: bool) -> DispatchTable:
    """For a build, which reads the tables of a target for their kernels and again to compile them."""
    return parse_table(text, where, json_text=json_text)


def table_from(data: Mapping[str, Any], where: str = "table") -> DispatchTable:
    """A table from the data of its file; see `parse_table`."""
    problems = _head_problems(data)
    family, arch = str(data.get("family")), str(data.get("arch"))
    entries = data.get("row")
    rows: list[Row] = []
    specs: dict[str, KernelSpec] = {}
    answered: set[Key] = set()
    if isinstance(entries, list) and family in QUANTITIES and arch in ARCHES:
        for number, entry in enumerate(entries, 1):
            reader = _RowReader(family, arch, number, entry, specs, answered)
            row = reader.read()
            problems += reader.problems
            rows += [row] if row else []
    if problems:
        fine = f" ({len(rows)} of {len(entries)} rows are fine)" if isinstance(entries, list) and entries else ""
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise TableError(f"{where}: {count}{fine}", problems)
    return DispatchTable(arch, family, tuple(rows), where, specs)


def _head_problems(data: Mapping[str, Any]) -> list[Problem]:
    out = []
    schema = data.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        found = "not given" if schema is None else repr(schema)
        out.append(Problem(("schema",), found, str(SCHEMA), "another schema needs another kgen"))
    for key, known in (("arch", ARCHES), ("family", tabled_names())):
        value = data.get(key)
        if not isinstance(value, str) or value not in known:
            out.append(Problem((key,), "not given" if value is None else repr(value), ", ".join(known)))
    rows = data.get("row")
    if not isinstance(rows, list) or not rows:
        out.append(
            Problem(("row",), "none" if not rows else repr(rows)[:60], "one [[row]] or more", "end with a torch row")
        )
    for key in data:
        if key not in _HEAD_KEYS and not key.startswith("_"):
            out.append(Problem((str(key),), "no such key", ", ".join(_HEAD_KEYS), "check the spelling; case matters"))
    return out


class _RowReader:
    """Reads one row, collecting its problems.

    specs      kernels of the table so far; the row's are added
    answered   keys for which an earlier row always holds, so that this row needs no kernel for them; the row's are added
    """

    def __init__(
        self,
        family: str,
        arch: str,
        number: int,
        entry: Any,
        specs: dict[str, KernelSpec],
        answered: set[Key],
    ):
        self.family, self.arch, self.number, self.entry = family, arch, number, entry
        self.specs, self.answered = specs, answered
        self.scope = scope(family, arch)
        self.problems: list[Problem] = []

    def complain(self, field: str, found: str, allowed: str = "", next: str = "") -> None:
        self.problems.append(Problem((field,), found, allowed, next, where=f"row {self.number}"))

    def read(self) -> Row | None:
        if not isinstance(self.entry, dict):
            self.complain("row", repr(self.entry)[:60], "a table with when, use and because")
            return None
        for key in self.entry.keys() - {*_ROW_KEYS}:
            self.complain(str(key), "no such key", ", ".join(_ROW_KEYS), "check the spelling; case matters")
        because = self.because()
        when, use = self.text("when"), self.text("use")
        condition = self.condition(when) if when is not None else None
        kernels = self.kernels(use, condition) if use is not None else {}
        if self.problems or because is None or condition is None or when is None or use is None:
            return None
        family = use if self.family in ROUTES and use != TORCH else None
        return Row(self.number, when, use, because, condition, closure(condition), kernels, family)

    def text(self, key: str) -> str | None:
        value = self.entry.get(key)
        if isinstance(value, str) and value.strip():
            return value.strip()
        hint = {"when": 'a condition, such as "N == 1"; "true" always holds', "use": f'a kernel\'s name, or "{TORCH}"'}[
            key
        ]
        self.complain(key, "not given" if value is None else repr(value)[:60], hint)
        return None

    def condition(self, when: str) -> Node | None:
        try:
            node = parse(when)
            check_condition(node, self.scope.domain())
        except PredicateError as error:
            self.complain("when", f"{when!r}, {error}", error.allowed, error.next)
            return None
        return node

    def because(self) -> Because | None:
        value = self.entry.get("because")
        kind = value.get("kind") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in KINDS:
            found = "not given" if value is None else f"kind {kind!r}" if isinstance(value, dict) else repr(value)[:60]
            self.complain("because", found, "a table with kind = " + ", ".join(KINDS))
            return None
        try:
            return KINDS[kind].model_validate(value)
        except ValidationError as error:
            for entry in error.errors():
                self.evidence_problem(kind, entry)
            return None

    def evidence_problem(self, kind: str, entry: Any) -> None:
        key = str(entry["loc"][-1])
        cls = KINDS[kind]
        if entry["type"] == "extra_forbidden":
            self.complain(f"because.{key}", "no such field", f"{kind} evidence has " + ", ".join(cls.model_fields))
            return
        doc = (cls.model_fields[key].description or "") if key in cls.model_fields else ""
        missing = entry["type"] == "missing"
        found = "not given" if missing else repr(entry.get("input"))
        allowed = f"{kind} evidence needs it: {doc}" if missing else entry["msg"].removeprefix("Input should be ")
        self.complain(f"because.{key}", found, allowed, "" if missing or not doc else f"{key}: {doc}")

    def kernels(self, use: str, condition: Node | None) -> dict[Key, str]:
        """Names by key where the condition can hold; with an unreadable condition, all of them, to check the name at least."""
        kind = tabled(self.family)
        names = ("dtype", "N", *kind.traits)
        filled = use
        for name in (name for name in names if not (name == "N" and kind.any_rows)):
            filled = filled.replace(f"{{{name}}}", "")
        if "{" in filled or "}" in filled:
            known = ", ".join(f"{{{name}}}" for name in names if not (name == "N" and kind.any_rows))
            self.complain("use", repr(use), f"the placeholders {known}, nothing else in braces")
            return {}
        out: dict[Key, str] = {}
        always: set[Key] = set()
        reachable = False
        for key, certain in _keys(self.family, self.scope, condition):
            reachable = True
            if certain and condition is not None:
                always.add(key)
            if key not in self.answered:
                out[key] = fill(use, dict(zip(names, key, strict=True)))
        self.answered |= always
        if use == TORCH:
            return {}
        if not reachable:
            span = rows_range(self.family)
            allowed = f"a condition that can hold for an N of {span.start} to {span.stop - 1}"
            found = f"{self.entry.get('when')!r} holds for no N that {self.family} has"
            self.complain("when", found, allowed, f'use = "{TORCH}"')
        if self.family in ROUTES:
            self.check_family(use)
            return {}
        self.add_specs(out)
        return out

    def check_family(self, use: str) -> None:
        """An op's row names one of its families."""
        known = ROUTES[self.family].families
        if use not in known:
            allowed = ", ".join((*known, TORCH))
            self.complain("use", repr(use), allowed, f"the families of {self.family}; their own tables name kernels")

    def add_specs(self, kernels: Mapping[Key, str]) -> None:
        said: set[tuple[str, ...]] = set()
        for name in dict.fromkeys(kernels.values()):
            if name in self.specs:
                continue
            try:
                if not name.startswith(f"{self.family}_"):
                    raise SpecError("", [Problem(("use",), repr(name), f'a kernel of {self.family}, or "{TORCH}"')])
                spec = self.specs[name] = spec_from_name(name, self.arch)
                self.specs.update((twin.name, twin) for twin in spec.twins())
            except SpecError as error:
                for problem in error.problems:
                    key = (*problem.fields, problem.found, problem.allowed)
                    if key not in said:  # one sentence for both dtypes
                        said.add(key)
                        words = ", ".join(problem.fields)
                        found = problem.found if words in ("use", "name") else f"{words} of {name}: {problem.found}"
                        self.complain("use", found, problem.allowed, problem.next)


def _keys(family: str, names: Scope, condition: Node | None) -> Iterator[tuple[Key, bool]]:
    """The keys for which a condition can hold, in their order, and whether it holds for every M and K; all of them for no condition.

    Most are ruled out by the N alone, or by the type and the traits alone, and what the condition does not name is looked at once.
    """
    kind = tabled(family)
    if condition is None:
        for dtype, N, traits in product(kind.dtypes(), key_rows(family), trait_values(family)):
            yield (dtype, N, *traits), True
        return

    def truth(*known: Any) -> Value:
        return possible(condition, names.domain(*known))

    known_n = {N: None if kind.any_rows else N for N in key_rows(family)}
    of_n = [N for N in known_n if truth(known_n[N], None, None) != {False}]
    reached = names_reached((condition,), names.trees)
    told_apart = [part in reached for part in ("dtype", "N", *kind.traits)]
    truths: dict[tuple[Any, ...], Value] = {}
    for dtype in kind.dtypes():
        of_traits = [traits for traits in trait_values(family) if truth(None, dtype, traits) != {False}]
        for N, traits in product(of_n, of_traits):
            same = tuple(value for value, asked in zip((dtype, N, *traits), told_apart, strict=True) if asked)
            if same not in truths:
                truths[same] = truth(known_n[N], dtype, traits)
            if truths[same] != {False}:
                yield (dtype, N, *traits), truths[same] == {True}
