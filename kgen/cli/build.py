"""`kgen build`: specs to code objects, a resource table and compiled dispatch tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kgen.cli import show
from kgen.cli.options import Arches, AsJson, DryRun, Families, SpecSet
from kgen.cli.progress import Counting
from kgen.cli.report import print_entries
from kgen.cli.targets import DEFAULT_SET, arches_of, specs_of
from kgen.errors import BuildError

if TYPE_CHECKING:
    from kgen.build import BuildResult
    from kgen.spec.base import KernelSpec


def build(
    arch: Arches = None,
    spec_set: SpecSet = DEFAULT_SET,
    family: Families = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Compiles at a time. Default: all cores.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Compile kernels and dispatch tables into build/ARCH.

    What is current is kept; a variant that fails does not stop the rest. Safe to stop at any time and to run twice at once.
    """
    specs = {name: specs_of(name, spec_set, family) for name in arches_of(arch)}
    if dry_run:
        _print_plans(specs, as_json)
        return
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    for name, wanted in specs.items():
        result = _build_one(name, wanted, jobs)
        rows += _report(result, wanted, as_json)
        failed += [_words(failure.name, failure.error, failure.log) for failure in result.failed]
    if as_json:
        show.print_json(rows)
    if failed:
        raise BuildError(
            f"{show.plural(len(failed), 'kernel')} could not be built; the rest are done\n" + "\n".join(failed)
        )


def _build_one(arch: str, specs: list[KernelSpec], jobs: int | None) -> BuildResult:
    from kgen.build import build as build_kernels
    from kgen.dispatch.emit import compile_tables

    with Counting(f"build {arch}") as bar:
        result = build_kernels(specs, arch=arch, jobs=jobs, progress=bar.step, waiting=bar.say)
    compile_tables(arch, result.folder)
    return result


def _report(result: BuildResult, wanted: list[KernelSpec], as_json: bool) -> list[dict[str, Any]]:
    """Rows of the asked kernels; printed as a table unless JSON is wanted."""
    from kgen.build import rows

    names = {spec.name for spec in wanted}
    asked = [row for row in rows(result.manifest, result.folder) if row["name"] in names]
    if not as_json:
        print_entries(asked)
        arch, count = result.manifest.arch, len(asked)
        print(
            f"{arch}: {show.plural(count, 'kernel')}, {result.compiled} compiled now, {result.seconds:.1f} s; {result.folder}"
        )
    return asked


def _print_plans(specs: dict[str, list[KernelSpec]], as_json: bool) -> None:
    from kgen.build import dry_run

    plans = {arch: dry_run(wanted, arch=arch) for arch, wanted in specs.items()}
    edges = [{"arch": arch, "name": variant.name} for arch, plan in plans.items() for variant in plan.edges]
    if as_json:
        show.print_json(edges)
        return
    for edge in edges:
        print(f"{edge['arch']}/{edge['name']}")
    print(f"{show.plural(len(edges), 'kernel')} would be compiled")


def _words(name: str, error: str, log: Path | None) -> str:
    lines = "\n".join(f"    {line}" for line in error.splitlines())
    return f"  {name}\n{lines}" + (f"\n    all of it: {log}" if log else "")
