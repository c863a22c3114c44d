"""`kgen pack`: a 4-bit checkpoint in the kernels' layout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kgen.cli import show
from kgen.cli.options import AsJson, DryRun
from kgen.cli.progress import Counting

if TYPE_CHECKING:
    from kgen.ops.pack.plan import Options, Plan

COLUMNS = ("layers", "E", "M", "K", "group", "row_stride", "zeros", "name")
COLUMNS_CODES4 = ("layers", "M", "K", "blocksize", "code", "nested", "name")
MIB = 1 << 20


def pack(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Folder with config.json and *.safetensors.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make; must be empty or not exist.")],
    no_pad: Annotated[
        bool, typer.Option("--no-pad", help="Leave rows of a multiple of 512 bytes as they are.")
    ] = False,
    stack_experts: Annotated[
        bool, typer.Option("--stack-experts", help="Experts of a mixture as one [E, M, K / 8] per projection.")
    ] = False,
    fuse_gate_up: Annotated[
        bool,
        typer.Option(
            "--fuse-gate-up/--no-fuse-gate-up", help="With --stack-experts: the gate's rows, then up's, as one."
        ),
    ] = True,
    gptq_wrap: Annotated[
        Literal["refuse", "nibble", "word"],
        typer.Option("--gptq-wrap", help="A stored 15 in GPTQ version 1: refuse, nibble or word (GPTQModel's)."),
    ] = "refuse",
    force: Annotated[bool, typer.Option("--force", help="Replace all that is in OUT.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: take OUT back to CHECKPOINT's tensors and compare all bits.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Pack an AWQ, GPTQ, compressed-tensors or bitsandbytes 4-bit checkpoint for the kernels. No value changes; other tensors are copied.

    OUT appears whole when all is done, or not at all.
    """
    from kgen.ops.pack.plan import Options

    if check:
        _check(checkpoint, out, as_json)
        return
    options = Options(not no_pad, stack_experts, fuse_gate_up, gptq_wrap)
    if dry_run:
        _show_plan(checkpoint, out, options, force, as_json)
    else:
        _pack(checkpoint, out, options, force, as_json)


def _pack(checkpoint: Path, out: Path, options: Options, force: bool, as_json: bool) -> None:
    from kgen.ops.pack.checkpoint import pack_checkpoint

    with Counting("pack, MiB") as bar:
        done = pack_checkpoint(checkpoint, out, options, force=force, progress=_in_mib(bar))
    rows = [_shown({"name": name, **entry}) for name, entry in done.layers.items()]
    if as_json:
        show.print_json(rows)
        return
    _print_rows([{**row, "zeros": "no" if row.get("symmetric") else "yes"} for row in rows])
    copied = show.plural(done.copied, "other tensor")
    print(f"{show.plural(len(rows), 'layer')} packed, {copied} copied, {done.bytes / MIB:.1f} MiB; {done.folder}")


def _show_plan(checkpoint: Path, out: Path, options: Options, force: bool, as_json: bool) -> None:
    from kgen.ops.pack.checkpoint import plan_pack

    plan = plan_pack(checkpoint, out, options, force=force)
    rows = _planned(plan)
    if as_json:
        show.print_json(rows)
        return
    _print_rows([{**row, "zeros": "-"} for row in rows])
    source, copied = plan.quantisation.format, show.plural(len(plan.copies), "other tensor")
    where = f"{show.plural(len(plan.shards), 'file')}, at most {plan.bytes / MIB:.1f} MiB"
    print(f"{source}: {show.plural(len(rows), 'layer')} would be packed, {copied} copied; {where}")


def _planned(plan: Plan) -> list[dict[str, Any]]:
    from kgen.ops.pack.layout import row_stride

    codes4 = [{name: getattr(layer, name) for name in COLUMNS_CODES4[1:]} for layer in plan.codes4]
    return codes4 + [
        {
            "name": target.name,
            "M": target.M,
            "K": target.K,
            "group": target.group,
            "row_stride": row_stride(target.K, plan.options.pad),
            "E": target.E,
        }
        for target in plan.targets
    ]


def _shown(entry: dict[str, Any]) -> dict[str, Any]:
    """A layer's entry less what only the way back needs."""
    return {name: entry[name] for name in COLUMNS_CODES4[1:]} if "code" in entry else entry


def _check(checkpoint: Path, out: Path, as_json: bool) -> None:
    from kgen.ops.pack.verify import check_packed

    with Counting("check, MiB") as bar:
        layers, copies = check_packed(checkpoint, out, _in_mib(bar))
    if as_json:
        show.print_json({"layers": layers, "copied": copies, "equal": True})
    else:
        copied = show.plural(copies, "copied tensor")
        print(f"{show.plural(layers, 'layer')} of {checkpoint} and {copied} come back from {out} bit for bit")


def _in_mib(bar: Counting) -> Any:
    """A callback that counts bytes as MiB: layers differ in size, so their number would not tell the time."""

    def step(done: int, total: int, what: str) -> None:
        bar.step(-(-done // MIB), -(-total // MIB), what)

    return step


def _print_rows(rows: list[dict[str, Any]]) -> None:
    """Layers of the same name but for numbers, and of the same sizes, are one line."""
    columns = COLUMNS_CODES4 if any("code" in row for row in rows) else COLUMNS
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        alike = {**row, "name": re.sub(r"\.\d+(?=\.)", ".*", row["name"])}
        alike["nested"] = "yes" if row.get("nested") else "no"
        key = tuple(alike.get(column) for column in columns[1:])
        lines.setdefault(key, {**alike, "layers": 0})["layers"] += 1
    show.print_table(lines.values(), columns, {"row_stride": "row words", "name": "layer"})
