"""`kgen isa`: machine code of one kernel, or what changed between two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kgen.cli import show
from kgen.cli.options import AsJson, OneArch
from kgen.cli.targets import built, find_kernel, one_arch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kgen.binary import CodeObject
    from kgen.binary.isa import IsaDiff, IsaReport
    from kgen.spec.base import KernelSpec

TOP = 12
RESOURCES = ("vgpr", "agpr", "sgpr", "lds_bytes", "scratch_bytes", "vgpr_spills", "code_bytes")


def isa(
    a: Annotated[str, typer.Argument(help="Kernel: its name, words of it (N1,YTILE4), or ARCH/NAME.", metavar="A")],
    b: Annotated[
        str | None, typer.Argument(help="Second kernel: print what changes from A to B.", metavar="[B]")
    ] = None,
    arch: OneArch = None,
    full: Annotated[bool, typer.Option("--full", help="Print the whole disassembly, not only the hot loop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Machine code of a kernel, or what differs between two.

    Resources, opcode counts and the hot loop.
    """
    first = _load(a, arch)
    if b is None:
        _print_one(first, full, as_json)
        return
    from kgen.binary.isa import diff

    second = _load(b, arch)
    change = diff(first.report, second.report)
    if as_json:
        both = {"a": first.report.to_json(), "b": second.report.to_json()}
        show.print_json(
            change.to_json()
            | {side: {"name": r["symbol"], "arch": r["arch"], "loop": r["loop"]} for side, r in both.items()}
        )
    else:
        _print_diff(first, second, change)


class _Loaded:
    """A built kernel with its machine code counted."""

    def __init__(self, spec: KernelSpec, code: CodeObject, report: IsaReport, tools: Any):
        self.spec, self.code, self.report, self.tools = spec, code, report, tools


def _load(pattern: str, arch: str | None) -> _Loaded:
    from kgen.binary import read_binary
    from kgen.binary.isa import isa_report
    from kgen.spec.registry import family_class
    from kgen.toolchain.find import find_llvm_tools

    target, slash, rest = pattern.rpartition("/")
    manifest, folder = built(one_arch(target if slash else arch))
    entry = find_kernel(manifest, rest)
    code = read_binary(entry.image(folder), str(folder / str(entry.path)))
    spec: Any = family_class(entry.family)(**entry.spec)
    tools = find_llvm_tools()
    report = isa_report(
        code,
        entry.symbol,
        tools,
        multiply_pattern=spec.multiply_pattern,
        multiplies_per_step=spec.multiplies_per_step,
        macs_per_step=spec.macs_per_step,
    )
    return _Loaded(spec, code, report, tools)


def _print_one(kernel: _Loaded, full: bool, as_json: bool) -> None:
    report = kernel.report
    if as_json:
        resources = {name: getattr(report.resources, name) for name in RESOURCES}
        show.print_json({"name": report.symbol} | resources | report.to_json())
        return
    print(f"{report.arch}  {report.symbol}")
    print("  " + "  ".join(f"{name} {getattr(report.resources, name)}" for name in RESOURCES))
    print(f"  {report.instructions} instructions: " + _counts(report.categories))
    print("  " + _counts(report.counts))
    print(
        "  opcodes: " + _counts(dict(report.opcodes.most_common(TOP))) + (", ..." if len(report.opcodes) > TOP else "")
    )
    if report.loop is None:
        print("no hot loop: nothing here multiplies in a loop")
    else:
        loop = report.loop
        about = "" if loop.exact else " (estimated: the multiplies are no whole number of steps)"
        print(f"hot loop: {loop.instructions} instructions for {loop.lane_macs:g} multiply-adds of a lane{about}")
        print(f"  {loop.per_lane_mac:.3f} instructions per multiply-add of a lane")
        print("  " + _counts(loop.categories))
        print("  opcodes: " + _counts(dict(loop.opcodes.most_common())))
    _print_code(kernel, full)


def _print_code(kernel: _Loaded, full: bool) -> None:
    from kgen.binary.disassemble import disassemble
    from kgen.binary.loops import hot_loop

    code = disassemble(kernel.code, kernel.report.symbol, kernel.tools)
    inside = {each.address for each in hot_loop(code, kernel.spec.multiply_pattern) or ()}  # type: ignore[attr-defined]
    print()
    for each in code:
        if full or each.address in inside:
            mark = "|" if full and each.address in inside else " "
            boards = each.scoreboards.text if each.scoreboards else ""
            print(f"{mark} {each.address:06x}  {each.text}" + (f"  ; {boards}" if boards else ""))


def _print_diff(a: _Loaded, b: _Loaded, change: IsaDiff) -> None:
    print(f"A  {a.report.arch}  {a.report.symbol}")
    print(f"B  {b.report.arch}  {b.report.symbol}")
    if change.identical:
        print("the same machine code and the same resources: twins")
        return
    for title, table in (("resources", change.resources), ("hot loop", change.loop)):
        _print_pairs(title, table, len(table))
    _print_pairs("opcodes in the hot loop", change.loop_opcodes, TOP)
    _print_pairs("opcodes in the kernel", change.opcodes, TOP)


def _print_pairs(title: str, table: Mapping[str, tuple[Any, Any]], limit: int) -> None:
    if not table:
        return
    print(f"\n{title}")
    rows = [{"A": a, "B": b, "delta": _delta(a, b), "name": f"{name}"} for name, (a, b) in list(table.items())[:limit]]
    show.print_table(rows, ("A", "B", "delta", "name"), {"name": ""})
    if len(table) > limit:
        print(f"... and {len(table) - limit} more (--json has all)")


def _delta(a: Any, b: Any) -> str:
    if not isinstance(a, int | float) or not isinstance(b, int | float):
        return ""
    return f"{b - a:+.4g}"


def _counts(table: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count}" for name, count in table.items())
