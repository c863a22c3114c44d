"""Tables of ops that several families answer, and of families whose kernels take any number of rows."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from kgen.dispatch import explain, load_table, pick
from kgen.dispatch.emit import compile_table, to_json
from kgen.dispatch.table import ANY_N, table_from
from kgen.errors import TableError
from kgen.spec.arch import ARCHES
from kgen.spec.problem import W4Shape
from tests.dispatch.test_emit import COMPILER, needs_cxx

BECAUSE = {"kind": "default", "why": "a test"}
SHAPE = W4Shape(4096, 100, 4096, 128, True)


def table(family: str, *rows: tuple[str, str]) -> dict[str, Any]:
    entries = [{"when": when, "use": use, "because": BECAUSE} for when, use in rows]
    return {"schema": 1, "arch": "gfx1151", "family": family, "row": entries}


@pytest.mark.parametrize("arch", ARCHES)
def test_few_rows_are_the_skinny_familys_and_many_the_tiles(arch):
    routes = load_table("w4a16_linear", arch)
    for rows, family in ((1, "wvsplitk_int4"), (8, "wvsplitk_int4"), (9, "gemm_w4a16"), (8192, "gemm_w4a16")):
        answer = pick(routes, W4Shape(4096, rows, 4096, 128, False), "bf16")
        if arch != "sm_90" or rows <= 8:  # where it was measured, torch may be better
            assert (answer.family, answer.kernel, answer.torch) == (family, None, False)
    assert pick(routes, W4Shape(4096, 1 << 21, 4096, 128, False), "bf16").torch


def test_the_explanation_goes_on_with_the_familys_own():
    found = explain(load_table("w4a16_linear", "gfx1151"), SHAPE, "fp16")
    assert found.inner is not None
    assert found.kernel == found.inner.pick.kernel
    assert found.kernel.startswith("gemm_w4a16_fp16_")
    lines = found.text().splitlines()
    assert lines[0].endswith("gemm_w4a16")
    assert "gemm_w4a16:" in lines
    data = found.as_data()
    assert (data["kernel"], data["answer"]["family"]) == (found.kernel, "gemm_w4a16")


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ("wvsplitkrc", "wvsplitk_int4, gemm_w4a16, torch"),
        ("gemm_w4a16_bf16_BLOCK_N64", "wvsplitk_int4, gemm_w4a16, torch"),
    ],
)
def test_an_ops_row_names_one_of_its_families(use, words):
    with pytest.raises(TableError) as error:
        table_from(table("w4a16_linear", ("true", use)))
    assert words in str(error.value)


def test_kernels_of_any_number_of_rows_are_looked_up_without_it():
    loaded = load_table("gemm_w4a16", "gfx1151")
    keys = {key[1] for row in loaded.rows for key in row.kernels}
    assert keys == {ANY_N}
    assert pick(loaded, SHAPE, "bf16").kernel == pick(loaded, W4Shape(4096, 101, 4096, 128, True), "bf16").kernel


def test_such_a_name_has_no_place_for_n():
    with pytest.raises(TableError) as error:
        table_from(table("gemm_w4a16", ("true", "gemm_w4a16_{dtype}_BLOCK_N{N}")))
    assert "{dtype}, {GROUP_SIZE}, {HAS_ZP}" in str(error.value)


@needs_cxx
@pytest.mark.parametrize("family", ["gemm_w4a16", "w4a16_linear"])
def test_the_header_picks_as_python_does(family, tmp_path):
    loaded = load_table(family, "gfx1151")
    _, header = compile_table(loaded, tmp_path)
    shapes = [
        W4Shape(M, N, K, g, z)
        for M in (64, 6144)
        for N in (1, 6, 33, 4096)
        for K in (4096, 4100)
        for g, z in ((32, True), (128, False))
    ]
    place = f"kgen::dispatch::gfx1151::{family}"
    calls = [
        f"{{ auto p = {place}::pick({s.M}, {s.N}, {s.K}, {place}::Dtype::fp16, {s.GROUP_SIZE}, {str(s.HAS_ZP).lower()}); "
        'std::printf("%d %s\\n", p.row, p.kernel ? p.kernel : "torch"); }'
        for s in shapes
    ]
    source = tmp_path / "picks.cpp"
    source.write_text(f'#include "{header}"\n#include <cstdio>\nint main() {{ ' + "\n".join(calls) + " }\n")
    subprocess.run([COMPILER, "-std=c++17", "-Wall", "-Werror", str(source), "-o", str(tmp_path / "picks")], check=True)
    out = subprocess.run([str(tmp_path / "picks")], check=True, capture_output=True, text=True).stdout.splitlines()
    answers = [pick(loaded, shape, "fp16") for shape in shapes]
    assert out == [f"{each.row.number} {each.kernel or each.family or 'torch'}" for each in answers]


def test_a_compiled_table_of_an_op_reads_back(tmp_path):
    loaded = load_table("w4a16_linear", "gfx1100")
    path = tmp_path / "w4a16_linear.json"
    path.write_text(to_json(loaded))
    again = load_table("w4a16_linear", "gfx1100", path)
    assert [(row.when, row.family) for row in again.rows] == [(row.when, row.family) for row in loaded.rows]
