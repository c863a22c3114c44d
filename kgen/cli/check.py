"""`kgen check`: is everything that was built right?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kgen.cli import show
from kgen.cli.options import Arches, AsJson
from kgen.cli.progress import Counting
from kgen.cli.targets import arches_of, built, find_kernels
from kgen.errors import BuildError

if TYPE_CHECKING:
    from kgen.verify.devices import CheckDevice
    from kgen.verify.run import CaseResult

COLUMNS = ("cases", "wrong", "max error", "mean error", "instructions", "kernel")
TRAFFIC = ("bytes_loaded", "bytes_stored", "lines64", "lds_conflict_cycles")


def check(
    arch: Arches = None,
    kernel: Annotated[
        str | None, typer.Option("--kernel", "-k", help="Only kernels with these words in their names.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full/--quick", help="Many sizes per kernel, or the few that find most.")
    ] = False,
    races: Annotated[bool, typer.Option(help="In the emulator: watch LDS for data races.")] = True,
    counts: Annotated[
        bool, typer.Option("--counts", help="In the emulator: count bytes, cache lines and LDS conflicts.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="hip, cuda or emu. Default: the GPU that is here, else the emulator.")
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Kernels at a time in the emulator.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run what is built against an exact reference.

    Odd shapes, paddings and data, on the GPU that is here or in the emulator, which also watches every access.
    """
    from kgen.verify.devices import CheckOptions
    from kgen.verify.run import check_manifest

    options = CheckOptions(races=races, counts=counts)
    results: list[CaseResult] = []
    for name in arches_of(arch):
        manifest, folder = built(name)
        names = [entry.name for entry in find_kernels(manifest, kernel)]
        with Counting(f"check {name}") as bar:
            found = check_manifest(
                folder, _device(name, device), "full" if full else "quick", names, options, bar.step, jobs
            )
        results += found
        if not as_json:
            _print(name, found, counts)
    if as_json:
        show.print_json([result.as_json() for result in results])
    wrong = [result for result in results if not result.ok]
    if wrong:
        lines = [f"  {r.arch}/{r.kernel}\n    {r.words} (seed {r.seed}): {r.why}" for r in wrong[:20]]
        more = f"\n  and {len(wrong) - 20} more (--json has all)" if len(wrong) > 20 else ""
        raise BuildError(f"{len(wrong)} of {len(results)} cases are wrong\n" + "\n".join(lines) + more)


def _device(arch: str, kind: str | None) -> CheckDevice:
    """Where a target's kernels run. The emulator needs no torch, so torch is only asked where there could be a GPU."""
    from kgen.spec.arch import arch_facts
    from kgen.verify.devices import EmulatedDevice, GpuDevice

    could_be_here = Path("/dev/kfd").exists() or arch_facts(arch).vendor != "amd"
    if kind == "emu" or (kind is None and not could_be_here):
        return EmulatedDevice(arch)
    from kgen.runtime import session

    wanted: Any = kind
    driver = session.load(arch, device=wanted).driver
    return EmulatedDevice(arch) if driver.device.kind == "emu" else GpuDevice(driver)


def _print(arch: str, results: list[CaseResult], counts: bool) -> None:
    kernels: dict[str, list[CaseResult]] = {}
    for result in results:
        kernels.setdefault(result.kernel, []).append(result)
    rows = [_row(name, found) for name, found in kernels.items()]
    show.print_table(rows, (*(TRAFFIC if counts else ()), *COLUMNS))
    device = results[0].device if results else "nothing"
    good = sum(result.ok for result in results)
    print(f"{arch}: {show.plural(len(kernels), 'kernel')}, {good} of {len(results)} cases right, on {device}")


def _row(name: str, results: list[CaseResult]) -> dict[str, Any]:
    """One kernel's cases: the largest errors, and sums of what was counted."""
    ran = [r.instructions for r in results if r.instructions is not None]
    row: dict[str, Any] = {
        "cases": len(results),
        "wrong": sum(not r.ok for r in results),
        "max error": max((r.max_abs_err for r in results if r.max_abs_err is not None), default=None),
        "mean error": max((r.mean_abs_err for r in results if r.mean_abs_err is not None), default=None),
        "instructions": sum(ran) if ran else None,
        "kernel": name,
    }
    traffic = [r.traffic for r in results if r.traffic]
    return row | {key: sum(each[key] for each in traffic) for key in TRAFFIC if traffic}
