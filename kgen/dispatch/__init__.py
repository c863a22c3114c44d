"""Which kernel answers which problem: ordered rows of conditions, reviewed as TOML, compiled to JSON and C++.

    table = load_table("wvsplitk", "gfx1151")
    answer = pick(table, GemmShape(M=4096, N=1, K=2048), "bf16", cu=20)     # answer.kernel is None for torch
    print(explain(table, GemmShape(M=4096, N=1, K=2048)).text())

`check` (kgen.dispatch.check) finds what is wrong with a table, `compile_table` (kgen.dispatch.emit) writes it beside the kernels.
"""

from kgen.dispatch.explain import Explanation, explain
from kgen.dispatch.match import Pick, Picker, pick
from kgen.dispatch.table import DispatchTable, Row, has_table, kernels_named, load_table, parse_table, table_path

__all__ = [
    "DispatchTable",
    "Explanation",
    "Pick",
    "Picker",
    "Row",
    "explain",
    "has_table",
    "kernels_named",
    "load_table",
    "parse_table",
    "pick",
    "table_path",
]
