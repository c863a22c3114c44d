import random
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kgen.dispatch import compile_tables, kernels_named, load_table, parse_table, pick
from kgen.dispatch.emit import compile_table, to_header, to_json
from kgen.dispatch.predicate import to_text
from kgen.errors import NoRowError
from kgen.spec.arch import ARCHES
from kgen.spec.problem import GemmShape

from .strategies import conditions
from .tables import GLOBAL, LAST, LDS, ONE, SOUND, boundary_shapes, table_of

COMPILER = next((path for name in ("g++", "c++", "clang++") if (path := shutil.which(name))), None)
needs_cxx = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler for this machine: g++, c++ or clang++")

MAIN = """
#include <cstdio>
#include <cstring>
int main() {
  long long M, N, K, cu;
  char dtype[8];
  while (std::scanf("%lld %lld %lld %7s %lld", &M, &N, &K, dtype, &cu) == 5) {
    const auto p = table::pick(M, N, K, std::strcmp(dtype, "bf16") ? table::Dtype::fp16 : table::Dtype::bf16, cu);
    std::printf("%d %s\\n", p.row, p.kernel ? p.kernel : "torch");
  }
}
"""


def build(folder, table):
    """A program that reads problems and prints the header's picks; compiled with every warning an error."""
    (folder / "table.h").write_text(to_header(table))
    source = folder / "main.cpp"
    source.write_text(f'#include "table.h"\nnamespace table = kgen::dispatch::{table.arch}::{table.family};\n{MAIN}')
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", "-Wno-tautological-compare"]
    subprocess.run([COMPILER, *flags, str(source), "-o", str(folder / "main")], check=True)
    return folder / "main"


def picks_of_cxx(program, problems) -> list[tuple[int, str]]:
    text = "".join(f"{s.M} {s.N} {s.K} {dtype} {cu}\n" for s, dtype, cu in problems)
    out = subprocess.run([program], input=text, capture_output=True, text=True, check=True).stdout
    return [(int(row), name) for row, name in (line.split() for line in out.splitlines())]


def picks_of_python(table, problems) -> list[tuple[int, str]]:
    out = []
    for shape, dtype, cu in problems:
        try:
            answer = pick(table, shape, dtype, cu)
            out.append((answer.row.number, answer.kernel or "torch"))
        except NoRowError:
            out.append((0, "torch"))
    return out


def problems_for(table, count: int, seed: int = 0):
    """Shapes at the table's own boundaries, and random ones; several CU counts; both dtypes."""
    rng = random.Random(seed)
    edges = [shape for shape, _ in boundary_shapes(table)]
    shapes = rng.sample(edges, min(count, len(edges)))
    shapes += [
        GemmShape(rng.randrange(1, 1 << rng.randrange(1, 31)), rng.randrange(1, 12), 8 * rng.randrange(1, 9000))
        for _ in range(count)
    ]
    return [(shape, rng.choice(("bf16", "fp16")), rng.choice((16, 20, 48, 132, 304))) for shape in shapes]


@needs_cxx
@pytest.mark.parametrize("arch", ARCHES)
def test_header_of_a_shipped_table_picks_as_python_does(arch, tmp_path):
    table = load_table("wvsplitk", arch)
    problems = problems_for(table, 2000)
    assert picks_of_cxx(build(tmp_path, table), problems) == picks_of_python(table, problems)


@needs_cxx
def test_header_answers_row_zero_where_python_has_no_row(tmp_path):
    table = table_of(("N == 1 and K % 8 == 0", ONE), ("N == 2", "torch"))
    shapes = [GemmShape(8, N, 64) for N in (1, 2, 3)] + [
        GemmShape(0, 1, 8),
        GemmShape(1, -1, 8),
        GemmShape(1 << 31, 1, 8),
    ]
    problems = [(shape, "bf16", 20) for shape in shapes] + [(shapes[0], "bf16", 0), (shapes[0], "bf16", 4097)]
    found = picks_of_cxx(build(tmp_path, table), problems)
    assert found == picks_of_python(table, problems)
    assert [row for row, _ in found] == [1, 2, 0, 0, 0, 0, 0, 0]


@needs_cxx
def test_header_computes_every_operator_as_python_does(tmp_path):
    """One row per random condition; each is torch, so that the row's number alone tells which condition held."""
    texts: list[str] = []

    @settings(max_examples=60, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(conditions(), min_size=4, max_size=4))
    def collect(nodes):
        texts.extend(to_text(node) for node in nodes)

    collect()
    texts = [text for text in dict.fromkeys(texts) if text not in ("true",)][:120]
    assert len(texts) > 50
    # the row wins for one N only, so each condition is asked although those before it hold too
    rows = [(f"N == {n} and ({text})", "torch") for n, text in enumerate(texts, 20)]
    table = table_of(*rows, LAST)
    rng = random.Random(1)
    problems = [
        (
            GemmShape(rng.randrange(1, 1 << rng.randrange(1, 31)), n, rng.randrange(1, 1 << 16)),
            dtype,
            rng.choice((1, 20, 304)),
        )
        for n in range(20, 20 + len(texts))
        for dtype in ("bf16", "fp16")
        for _ in range(8)
    ]
    found = picks_of_cxx(build(tmp_path, table), problems)
    assert found == picks_of_python(table, problems)
    assert len({row for row, _ in found}) > len(texts) // 3


@needs_cxx
def test_headers_of_several_targets_go_into_one_program_and_are_constant_expressions(tmp_path):
    for arch in ARCHES:
        compile_tables(arch, tmp_path / arch)
    lines = [f'#include "{arch}/dispatch/wvsplitk.h"' for arch in ARCHES] * 2
    lines += [
        f"static_assert(kgen::dispatch::{a}::wvsplitk::pick(64, 1, 65, kgen::dispatch::{a}::wvsplitk::Dtype::bf16).row == 1);"
        for a in ARCHES
    ]
    (tmp_path / "all.cpp").write_text("\n".join(lines) + "\nint main() {}\n")
    subprocess.run(
        [COMPILER, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(tmp_path / "all.cpp")], check=True
    )


@pytest.mark.parametrize("arch", ARCHES)
def test_json_reads_back_as_the_same_table(arch, tmp_path):
    table = load_table("wvsplitk", arch)
    path, _ = compile_table(table, tmp_path)
    again = load_table("wvsplitk", arch, path)
    assert again.rows == table.rows
    assert kernels_named(again) == kernels_named(table)


def test_measured_evidence_survives_json():
    table = table_of(*SOUND)
    assert parse_table(to_json(table), json_text=True).rows == table.rows


def test_compiling_again_leaves_the_files_alone(tmp_path):
    paths = compile_table(table_of(*SOUND), tmp_path)
    before = [path.stat().st_mtime_ns for path in paths]
    compile_table(table_of(*SOUND), tmp_path)
    assert [path.stat().st_mtime_ns for path in paths] == before
    compile_table(table_of(("N <= 8 and K % 8 == 0", GLOBAL), LAST), tmp_path)
    assert paths[0].stat().st_mtime_ns != before[0]
    assert sorted(path.name for path in (tmp_path / "dispatch").iterdir()) == ["wvsplitk.h", "wvsplitk.json"]


def test_header_is_the_same_bytes_every_time_and_names_no_machine():
    text = to_header(table_of(*SOUND))
    assert text == to_header(table_of(*SOUND))
    assert "Made by kgen from a.toml" in text


def test_evidence_cannot_end_a_comment(tmp_path):
    published = {"kind": "published", "source": "a paper \\\n#error of two lines \\"}
    text = to_header(table_of(("N <= 8 and act_bytes <= 8", LDS, published), LAST))
    assert not any(line.startswith("#error") or line.endswith("\\") for line in text.splitlines())


def test_family_without_a_table_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("kgen.dispatch.emit.has_table", lambda family, arch: False)
    assert compile_tables("gfx1151", tmp_path) == []
