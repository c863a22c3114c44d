"""`kgen dispatch`: which kernel answers a problem, why, and whether the tables are in order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kgen.cli import show
from kgen.cli.options import Arches, AsJson, Families, OneArch
from kgen.cli.targets import arches_of, one_arch
from kgen.errors import Problem, SpecError

app = typer.Typer(help="Dispatch tables: explain, check and show them.", no_args_is_help=True)
SIZES = ("M", "N", "K")
TableFile = Annotated[
    Path | None, typer.Option("--table", help="A table file instead of the shipped one (.toml, or .json as compiled).")
]


@app.command()
def explain(
    family: Annotated[str, typer.Argument(help="Kernel family, such as wvsplitk.")],
    problem: Annotated[
        list[str], typer.Argument(help="M=4096 N=1 K=2048, and dtype=fp16 or cu=40 if wanted.", metavar="KEY=VALUE...")
    ],
    arch: OneArch = None,
    table: TableFile = None,
    as_json: AsJson = False,
) -> None:
    """The row that answers a problem, each of its conditions with the values, and the evidence for it."""
    from kgen.dispatch import explain as explain_pick
    from kgen.dispatch import load_table
    from kgen.spec.problem import GemmShape
    from kgen.spec.registry import family_class

    family_class(family)
    values = _problem_of(problem)
    loaded = load_table(family, one_arch(arch), table)
    sizes = GemmShape(*(int(values[name]) for name in SIZES))
    cu = int(values["cu"]) if "cu" in values else None
    answer = explain_pick(loaded, sizes, str(values.get("dtype", "bf16")), cu)
    if as_json:
        show.print_json(answer.as_data())
    else:
        print(answer.text())


def _problem_of(words: list[str]) -> dict[str, str]:
    """`M=1 N=2 ...` as a dict; SpecError with everything that is wrong with it."""
    allowed = (*SIZES, "dtype", "cu")
    values: dict[str, str] = {}
    problems = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in allowed:
            problems.append(Problem((word,), "not understood", "KEY=VALUE with KEY one of " + ", ".join(allowed)))
        elif key != "dtype" and not value.removeprefix("-").isdigit():
            problems.append(Problem((key,), repr(value), "a whole number"))
        else:
            values[key] = value
    missing = [name for name in SIZES if name not in values and not any(p.fields == (name,) for p in problems)]
    problems += [Problem((name,), "not given", f"{name}=NUMBER") for name in missing]
    if problems:
        raise SpecError("the problem to explain", problems)
    return values


@app.command()
def check(arch: Arches = None, family: Families = None, table: TableFile = None, as_json: AsJson = False) -> None:
    """Rows never reached, shapes without a row, kernels not built, evidence older than the kernels' source."""
    from kgen.dispatch import check_tables

    findings: list[Any] = []
    for name in arches_of(arch):
        findings += check_tables(name, family, table)
    raise NotImplementedError(findings)


@app.command("show")
def show_table(arch: OneArch = None, family: Families = None, table: TableFile = None, as_json: AsJson = False) -> None:
    """The rows of a table in their order."""
    from kgen.dispatch import load_table
    from kgen.spec.registry import FAMILIES

    target = one_arch(arch)
    tables = [load_table(name, target, table) for name in family or FAMILIES]
    rows = [
        {
            "family": t.family,
            "row": r.number,
            "when": r.when,
            "use": r.use,
            "kind": r.because.kind,
            "because": r.because.words(),
        }
        for t in tables
        for r in t.rows
    ]
    if as_json:
        show.print_json(rows)
    else:
        show.print_table(rows, ("row", "kind", "when", "use"))
