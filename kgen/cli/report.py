"""`kgen report`: what the built kernels take, as the code objects themselves say."""

from __future__ import annotations

from typing import Any

from kgen.cli import show
from kgen.cli.options import Arches, AsJson, Families
from kgen.cli.targets import arches_of, built
from kgen.errors import ManifestError
from kgen.settings import ARCH, build_dir

COLUMNS = (
    "vgpr",
    "agpr",
    "sgpr",
    "lds_bytes",
    "lds_expr",
    "scratch_bytes",
    "vgpr_spills",
    "occupancy",
    "limited_by",
    "code_bytes",
    "name",
)
HEADS = {
    "lds_bytes": "LDS",
    "lds_expr": "at launch",
    "scratch_bytes": "scratch",
    "vgpr_spills": "spills",
    "occupancy": "waves/SIMD",
    "limited_by": "limited by",
    "code_bytes": "code",
    "name": "kernel",
    "vgpr": "VGPR",
    "agpr": "AGPR",
    "sgpr": "SGPR",
}
LAUNCH = {"0": None}  # nothing comes on top of the static LDS


def report(arch: Arches = None, family: Families = None, as_json: AsJson = False) -> None:
    """Registers, LDS, occupancy and size of what is built.

    As the code objects themselves say; of every target that is built, unless some are named.
    """
    from kgen.build import rows

    every: list[dict[str, Any]] = []
    for name in arches_of(arch) if arch or ARCH.value else _built_arches():
        manifest, folder = built(name)
        found = [row for row in rows(manifest, folder) if not family or row["family"] in family]
        every += found
        if not as_json:
            print(f"{name}   {show.plural(len(found), 'kernel')}   {manifest.compiler.version}")
            print_entries(found)
    if as_json:
        show.print_json(every)


def print_entries(rows: list[dict[str, Any]]) -> None:
    """The resource table; kernels that failed are named below it."""
    done = [row for row in rows if row["status"] == "ok"]
    columns = [name for name in COLUMNS if name != "agpr" or any(row["agpr"] for row in done)]
    show.print_table([row | {"lds_expr": LAUNCH.get(row["lds_expr"], row["lds_expr"])} for row in done], columns, HEADS)
    for row in rows:
        if row["status"] != "ok":
            print(f"failed: {row['name']}")


def _built_arches() -> list[str]:
    from kgen.spec.arch import ARCHES

    found = [name for name in ARCHES if (build_dir(name) / "manifest.json").is_file()]
    if not found:
        raise ManifestError(f"nothing is built in {build_dir('ARCH').parent}; `kgen build --arch ARCH` does it")
    return found
