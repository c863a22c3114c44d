"""Small tables for the tests."""

from collections.abc import Iterator

from kgen.dispatch.grid import boundary_blocks
from kgen.dispatch.table import DispatchTable, table_from
from kgen.spec.problem import GemmShape

DEFAULT = {"kind": "default", "why": "made up for a test"}
MEASURED = {
    "kind": "measured",
    "gain": "+8.1 % [6.9, 9.3]",
    "over": "torch",
    "pairs": 10,
    "shapes": 14,
    "device": "Radeon 8060S",
    "date": "2026-11-21",
    "source": "3fa9c1",
}
LDS = "wvsplitk_{dtype}_N{N}_THRDS32_YTILE2_WvPrGrp4_A_CHUNK8_UNRL4_STAGINGlds"
ONE = "wvsplitk_{dtype}_N1_THRDS32_YTILE1_WvPrGrp4_A_CHUNK8_UNRL4_STAGINGlds"
GLOBAL = "wvsplitk_{dtype}_N{N}_THRDS32_YTILE2_WvPrGrp4_A_CHUNK8_UNRL4_STAGINGglobal"
LAST = ("true", "torch")


def data_of(*rows: tuple, arch: str = "gfx1151") -> dict:
    """A table's data from (when, use) or (when, use, because)."""
    entries = [dict(zip(("when", "use", "because"), (*row, DEFAULT)[:3], strict=True)) for row in rows]
    return {"schema": 1, "arch": arch, "family": "wvsplitk", "row": entries}


def table_of(*rows: tuple, arch: str = "gfx1151") -> DispatchTable:
    """A table from (when, use) or (when, use, because)."""
    return table_from(data_of(*rows, arch=arch), "a.toml")


SOUND = (
    ("K % 8 != 0", "torch"),
    ("N == 1 and K <= 2048 and 1 < tiles_per_cu <= 26", ONE, MEASURED),
    ("N <= 8 and act_bytes <= lds_per_group", LDS),
    ("N <= 8", GLOBAL),
    LAST,
)


def boundary_shapes(table: DispatchTable) -> Iterator[tuple[GemmShape, str]]:
    """The problems at a table's boundaries, one by one, each with its type."""
    for block in boundary_blocks(table):
        yield from ((block.shape(M, K), block.dtype) for M, K in block.sizes)
