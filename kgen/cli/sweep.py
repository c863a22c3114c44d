"""`kgen sweep FAMILY`: explore a family's kernels on a target, promote what wins, report. And: report again, guard what was promoted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from kgen.cli import show
from kgen.cli.options import AsJson, OneArch, command_group, row_counts
from kgen.cli.progress import Counting
from kgen.cli.targets import one_arch
from kgen.errors import MissingPieceError, Problem, SpecError

if TYPE_CHECKING:
    from kgen.sweep.conduct import Outcome, Request

_UNITS = {"s": 1, "m": 60, "h": 3600}
_MODES = ("auto", "all", "optuna")
_REASONS = 12  # that a plan prints


class Sweeps(TyperGroup):
    """`kgen sweep wvsplitk ...` is `kgen sweep run wvsplitk ...`: families are not commands, and there is one thing to do with them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = command_group(
    "Explore a family's kernels on a target, and promote what wins: `kgen sweep FAMILY --arch A --shapes SET`.",
    cls=Sweeps,
    no_args_is_help=True,
    subcommand_metavar="FAMILY | COMMAND [ARGS]...",
)

Family = Annotated[str, typer.Argument(metavar="FAMILY", help="Kernel family.")]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shapes",
        metavar="SET",
        help="Shape set of `kgen shapes list`, or a .toml file of `kgen shapes capture`; repeatable.",
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="MxK", help="A layer as 4096x2048, or a scan as 4096x1024:8192:256; repeatable."),
]
Rows = Annotated[
    str | None, typer.Option("--rows", "-N", help="Activation rows, such as 1,2,4. Default: the family's own.")
]
Dtypes = Annotated[str, typer.Option("--dtype", help="Element types, such as bf16,fp16.")]
Axes = Annotated[
    list[str] | None,
    typer.Option(
        "--axes",
        metavar="NAME[=V1,V2]",
        help="Only these values of a parameter, or all that its spec allows; repeatable.",
    ),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        metavar="NAME=V1,V2",
        help="What the family's problems have besides M, N, K, such as experts=128; repeatable.",
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Store, kernels and report go below it, by target.")]
Tables = Annotated[
    Path | None,
    typer.Option(
        "--tables",
        metavar="FOLDER",
        help="A folder like specs/dispatch for the promoted table. Default: specs/dispatch.",
    ),
]
Budget = Annotated[
    str | None, typer.Option(metavar="TIME", help="Such as 90s, 10m or 2h. Default: until everything is done.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Worker processes. Default: one per GPU; per processor for --model.")
]
Ray = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Work on this Ray cluster; `local` starts one here.")]
Model = Annotated[
    bool, typer.Option("--model", help="No GPU: rank by machine code, emulator counts and the target's rates.")
]


@app.callback()
def group() -> None:
    """Explore a family's kernels on a target, and promote what wins."""


@app.command("run", hidden=True)
def run(
    family: Family,
    arch: OneArch = None,
    shapes: Shapes = None,
    layers: Layers = None,
    rows: Rows = None,
    dtype: Dtypes = "bf16",
    axes: Axes = None,
    sizes: Sizes = None,
    out: Out = Path("build/sweep"),
    tables: Tables = None,
    budget: Budget = None,
    search: Annotated[str, typer.Option(help="auto (all if the budget allows), all, optuna.")] = "auto",
    workers: Workers = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Compiles at a time. Default: all processors.")] = None,
    ray: Ray = None,
    model: Model = False,
    gain: Annotated[float, typer.Option(min=0.0, help="Percent of time that a promoted row must save.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=10, help="Paired rounds of the best.")] = 11,
    deadline: Annotated[
        float, typer.Option(min=1, help="Seconds after which a worker that does not answer is killed.")
    ] = 120.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Sweep, show the table diff, and leave the table alone.")
    ] = False,
    plan_only: Annotated[bool, typer.Option("--plan", help="Only plan and prune: say what would be explored.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build every point of a family's space, drop twins, check, time in turn with the present pick and torch, and promote what wins.

    Killed or out of budget, the same command goes on where it was. Results: docs/sweep.md says how they are made and what they mean.
    """
    from kgen.sweep.conduct import Request, conduct, planned
    from kgen.sweep.run import SweepOptions
    from kgen.sweep.space import parse_axes

    request = Request(
        family,
        one_arch(arch),
        sets=tuple(shapes or ()) if shapes or layers else _all_sets(),
        layers=tuple(layers or ()),
        rows=row_counts(rows) if rows is not None else None,
        dtypes=tuple(word.strip() for word in dtype.split(",")),
        axes=parse_axes(axes or ()),
        sizes={name: values or () for name, values in parse_axes(sizes or ()).items()},
        out=out,
        tables=tables,
        workers=workers,
        jobs=jobs,
        ray=ray,
        model=model,
        gain=gain / 100,
        deadline=deadline,
        options=SweepOptions(budget=_seconds(budget), mode=_mode(search), final_rounds=rounds),
    )
    if plan_only:
        _print_plan(planned(request), as_json)
        return
    with Counting(f"sweep {family}") as bar:
        outcome = conduct(request, lambda done, total, what, left: bar.step(done, total, what, left), bar.say)
    if not dry_run and outcome.promotion.rows:
        outcome.promotion.write()
    report = _write_report(request, outcome)
    if as_json:
        written = bool(outcome.promotion.rows) and not dry_run
        show.print_json(outcome.as_dict() | {"report": report, "written": written})
    else:
        _print_outcome(outcome, dry_run, report)
    if outcome.counts.get("failed") or outcome.counts.get("wrong"):
        raise typer.Exit(3)


@app.command("report")
def report(
    family: Family, arch: OneArch = None, out: Out = Path("build/sweep"), tables: Tables = None, as_json: AsJson = False
) -> None:
    """Write the report of a family's last sweep again, from its store alone."""
    from kgen.sweep.conduct import Request, recalled
    from kgen.sweep.report import write_report

    outcome = recalled(Request(family, one_arch(arch), out=out, tables=tables))
    path = write_report(outcome.request, outcome)
    if as_json:
        show.print_json(outcome.as_dict() | {"report": str(path)})
    else:
        print(path)


@app.command("guard")
def guard(
    family: Family,
    arch: OneArch = None,
    shapes: Shapes = None,
    layers: Layers = None,
    rows: Rows = None,
    dtype: Dtypes = "bf16",
    sample: Annotated[int, typer.Option(min=1, help="How many (row, problem) pairs to time again.")] = 12,
    seed: Annotated[int, typer.Option(help="Which ones.")] = 0,
    rounds: Annotated[int, typer.Option(min=10, help="Paired rounds of each.")] = 11,
    out: Out = Path("build/sweep"),
    tables: Tables = None,
    as_json: AsJson = False,
) -> None:
    """Time a sample of measured rows again; exit code 3 if one is surely slower than its evidence says, by more than the rounds spread."""
    from kgen.sweep.conduct import Request, guarded

    sets = tuple(shapes or ()) if shapes or layers else _all_sets()
    dtypes = tuple(word.strip() for word in dtype.split(","))
    asked = row_counts(rows) if rows is not None else None
    request = Request(family, one_arch(arch), sets, tuple(layers or ()), asked, dtypes, out=out, tables=tables)
    found, remarks = guarded(request, sample, seed, rounds)
    table = [
        {
            "row": held.row,
            "problem": str(held.workload),
            "expected": held.expected,
            "now": held.now.median if held.now else None,
            "low": held.now.low if held.now else None,
            "tolerance": f"{100 * held.tolerance:.1f} %",
            "verdict": "ok" if held.ok else held.words or "SLOWER",
            "over": held.over,
        }
        for held in found
    ]
    if as_json:
        show.print_json(table)
    else:
        show.print_table(table, ("row", "problem", "expected", "now", "low", "tolerance", "verdict", "over"))
        for words in remarks:
            print(f"note: {words}")
    if not all(held.ok for held in found):
        raise typer.Exit(3)


def _write_report(request: Request, outcome: Outcome) -> str | None:
    """The report's path; None, with a remark, where what draws it is not installed."""
    from kgen.sweep.report import write_report

    try:
        return str(write_report(request, outcome))
    except MissingPieceError as error:
        show.note(f"no report: {error}")
        return None


def _print_plan(whole: Any, as_json: bool) -> None:
    from collections import Counter

    reasons = Counter(point.pruned for point in whole.pruned)
    if as_json:
        counts = {"points": len(whole.points), "alive": len(whole.alive), "pruned": len(whole.pruned)}
        show.print_json(counts | {"problems": len(whole.workloads), "axes": whole.space.axes, "reasons": dict(reasons)})
        return
    show.print_table(
        [{"parameter": name, "values": ", ".join(map(str, values))} for name, values in whole.space.axes.items()],
        ("parameter", "values"),
    )
    print(
        f"\n{len(whole.points)} points for {len(whole.workloads)} problems: {len(whole.alive)} to build, {len(whole.pruned)} pruned"
    )
    for words, count in reasons.most_common(_REASONS):
        print(f"{count:6}  {words}")
    if len(reasons) > _REASONS:
        print(f"        and {len(reasons) - _REASONS} more reasons; --json has them all")


def _print_outcome(outcome: Outcome, dry_run: bool, report: str | None) -> None:
    tally, counts = outcome.tally, outcome.counts
    states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()) if count)
    print(f"{outcome.device.name} ({outcome.kind}; {outcome.device.clock}): {states}")
    done = f"{tally.compiled} compiled, {tally.checks} checks, {tally.timings} batches of times, {tally.lost_workers} lost workers"
    print(
        f"this run: {done}, {tally.seconds:.1f} s"
        + ("; out of budget, the same command goes on" if tally.out_of_budget else "")
    )
    for words in tally.remarks:
        print(f"note: {words}")
    if outcome.idle:
        print(f"changed neither code nor launch: {', '.join(outcome.idle)}")
    promotion = outcome.promotion
    for words in promotion.refused:
        print(f"refused: {words}")
    if promotion.rows:
        assert promotion.gain is not None
        problems = sum(len(row.problems) for row in promotion.rows)
        print(
            f"{show.plural(len(promotion.rows), 'row')} for {problems} problems: {promotion.gain.words()} over the picks before"
        )
        print(promotion.diff(), end="")
    else:
        print(f"nothing to promote: no kernel saves {100 * outcome.request.gain:g} % for sure")
    written = (
        "not written (--dry-run)" if dry_run and promotion.rows else promotion.path if promotion.rows else "unchanged"
    )
    print(f"table: {written}; store: {outcome.store}" + (f"; report: {report}" if report else ""))


# ---- words on the command line


def _all_sets() -> tuple[str, ...]:
    from kgen.spec.shapes import shape_sets

    return tuple(shape_sets())


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None:
        raise SpecError("not a time", [Problem(("--budget",), repr(text), "a number with s, m or h, such as 10m")])
    return float(match[1]) * _UNITS[match[2] or "s"]


def _mode(word: str) -> Any:
    if word not in _MODES:
        raise SpecError("no such search", [Problem(("--search",), repr(word), ", ".join(_MODES))])
    return word
