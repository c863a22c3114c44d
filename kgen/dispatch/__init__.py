"""Which kernel answers which problem: ordered rows of conditions, reviewed as TOML, compiled to JSON and C++.

    table = load_table("wvsplitk", "gfx1151")
    answer = pick(table, GemmShape(M=4096, N=1, K=2048), "bf16", cu=20)     # answer.kernel is None for torch
    print(explain(table, GemmShape(M=4096, N=1, K=2048)).text())

`check_tables` finds what is wrong with a target's tables, `compile_tables` writes them beside the kernels.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kgen.dispatch.age import freshness
from kgen.dispatch.explain import Explanation, explain
from kgen.dispatch.match import Pick, Picker, pick
from kgen.dispatch.table import DispatchTable, Row, has_table, kernels_named, load_table, parse_table, table_path

if TYPE_CHECKING:
    from kgen.dispatch.check import check_tables
    from kgen.dispatch.emit import compile_tables

__all__ = [
    "DispatchTable",
    "Explanation",
    "Pick",
    "Picker",
    "Row",
    "check_tables",
    "compile_tables",
    "explain",
    "freshness",
    "has_table",
    "kernels_named",
    "load_table",
    "parse_table",
    "pick",
    "table_path",
]

# imported when asked for: a launch needs neither, and the command line starts sooner
_LATER = {"check_tables": "check", "compile_tables": "emit"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"kgen.dispatch.{_LATER[name]}"), name)
    raise AttributeError(f"module 'kgen.dispatch' has no attribute {name!r}")
