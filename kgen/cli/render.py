"""`kgen render`: the HIP source of a kernel, before any compiler sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgen.cli import show
from kgen.cli.options import AsJson, DryRun, Families, OneArch
from kgen.cli.targets import one_arch, specs_of
from kgen.errors import MissingPieceError, Problem, SpecError


def render(
    name: Annotated[
        str | None, typer.Argument(help="Kernel name, such as wvsplitk_bf16_N1_...", metavar="[NAME]")
    ] = None,
    arch: OneArch = None,
    spec_set: Annotated[
        str | None, typer.Option("--set", metavar="NAME", help="Instead of a name: all kernels of a spec set.")
    ] = None,
    family: Families = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for NAME.hip files. Default: print the source.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Print the source of one kernel, or write those of a set."""
    from kgen.render import render as render_spec
    from kgen.spec.registry import spec_from_name

    target = one_arch(arch)
    if (name is None) == (spec_set is None):
        raise SpecError("what to render", [Problem(("NAME", "--set"), "both or none", "one of them")])
    specs = [spec_from_name(name, target)] if name else specs_of(target, spec_set or "", family)
    if spec_set and out is None and not as_json:
        raise SpecError("where to", [Problem(("--out",), "not given", "a folder: a set is many files")])
    sources = [render_spec(spec) for spec in specs]
    if as_json:
        show.print_json([{"name": s.name, "arch": s.arch, "digest": s.digest, "text": s.text} for s in sources])
    for source in sources if out else ():
        assert out is not None
        path = out / f"{source.name}.hip"
        print(path)
        if not dry_run:
            _write(path, source.text)
    if out is None and not as_json:
        print(sources[0].text, end="")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MissingPieceError(f"{path}: cannot be written: {error.strerror}\n  try: another --out") from error
