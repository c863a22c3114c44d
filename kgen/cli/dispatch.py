"""`kgen dispatch`: which kernel answers a problem, why, and whether the tables are in order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kgen.cli import show
from kgen.cli.options import Arches, AsJson, Families, OneArch, command_group
from kgen.cli.targets import arches_of, built, one_arch
from kgen.errors import Problem, SpecError, TableError
from kgen.settings import build_dir

if TYPE_CHECKING:
    from kgen.dispatch import Explanation

app = command_group("Dispatch tables: explain, check and show them.", no_args_is_help=True)
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
    from kgen.spec.registry import tabled

    spec = tabled(family)
    values = _problem_of(problem, tuple(spec.traits))
    loaded = load_table(family, one_arch(arch), table)
    traits = {name: _trait(values[name]) for name in spec.traits if name in values}
    sizes = spec.shape(*(int(values[name]) for name in SIZES), **traits)
    cu = int(values["cu"]) if "cu" in values else None
    answer = explain_pick(loaded, sizes, str(values.get("dtype", "bf16")), cu)
    if as_json:
        show.print_json(answer.as_data())
    else:
        print(answer.text(_freshness(answer)))


def _freshness(answer: Explanation) -> str:
    """Whether the kernels' source has changed since the evidence; nothing is rendered for rows that rest on no source."""
    if answer.pick.row.because.kind not in ("measured", "model"):
        return ""
    from kgen.dispatch import freshness

    return freshness(answer.table, answer.pick.row)


def _trait(word: str) -> int | bool:
    """A trait's value: a number, true or false."""
    return {"true": True, "false": False}[word] if word in ("true", "false") else int(word)


def _problem_of(words: list[str], traits: tuple[str, ...]) -> dict[str, str]:
    """`M=1 N=2 ...` as a dict; SpecError with everything that is wrong with it."""
    allowed = (*SIZES, *traits, "dtype", "cu")
    values: dict[str, str] = {}
    problems = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in allowed:
            problems.append(Problem((word,), "not understood", "KEY=VALUE with KEY one of " + ", ".join(allowed)))
        elif key in traits and value in ("true", "false"):
            values[key] = value
        elif key != "dtype" and not value.removeprefix("-").isdigit():
            problems.append(
                Problem((key,), repr(value), "a whole number" + (", true or false" if key in traits else ""))
            )
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
    from kgen.dispatch.check import check_tables

    reports = [
        report
        for name in arches_of(arch)
        for report in check_tables(name, family, table, built=_built_names(name, quiet=as_json))
    ]
    if as_json:
        show.print_json([report.as_data() for report in reports])
    else:
        for report in reports:
            print("\n".join(report.lines()))
    wrong = [report for report in reports if not report.ok]
    if wrong:
        raise TableError(f"not in order: {', '.join(report.where for report in wrong)}")


def _built_names(arch: str, quiet: bool) -> set[str] | None:
    """Kernels that are built for a target; None, with a remark, when there is no build to compare with."""
    if not (build_dir(arch) / "manifest.json").is_file():
        if not quiet:
            show.note(f"{arch}: nothing is built, so it is not checked whether the kernels are")
        return None
    manifest, _ = built(arch)
    return {entry.name for entry in manifest.kernels if entry.built}


@app.command("show")
def show_table(arch: OneArch = None, family: Families = None, table: TableFile = None, as_json: AsJson = False) -> None:
    """The rows of a table in their order."""
    from kgen.dispatch.table import families_of, load_table

    target = one_arch(arch)
    tables = [load_table(name, target, table) for name in family or families_of(target, table)]
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
        show.print_table(rows, ("family", "row", "kind", "when", "use"))
