"""The tables in specs/dispatch, as they are."""

import pytest

from kgen.dispatch import explain, has_table, kernels_named, load_table, pick
from kgen.dispatch.check import check_tables
from kgen.spec.arch import ARCHES
from kgen.spec.problem import GemmShape
from kgen.spec.registry import tabled_names
from kgen.spec.shapes import all_shapes

TABLES = [(family, arch) for family in tabled_names() for arch in ARCHES if has_table(family, arch)]
DECODE = [
    (family, arch) for family, arch in TABLES if family == "wvsplitk" or (family == "wvsplitkq" and ARCHES[arch].fp8)
]


@pytest.mark.parametrize(("family", "arch"), TABLES)
def test_check_finds_nothing(family, arch):
    (report,) = check_tables(arch, [family])
    assert [finding.lines() for finding in report.findings] == []


@pytest.mark.parametrize(("family", "arch"), TABLES)
def test_last_row_is_an_explicit_torch(family, arch):
    last = load_table(family, arch).rows[-1]
    assert (last.when, last.use) == ("true", "torch")


@pytest.mark.parametrize(("family", "arch"), DECODE)
def test_no_decode_layer_of_a_model_falls_through_to_the_last_row(family, arch):
    """1 to 8 rows of K in whole pieces always have a kernel that fits; torch may be the better answer, by a row that says so."""
    table = load_table(family, arch)
    for layer in all_shapes():
        for N in range(1, 9):
            answer = pick(table, GemmShape(layer.M, N, layer.K), "bf16")
            assert answer.row is not table.rows[-1], (layer, N)
            assert answer.skipped == ()


@pytest.mark.parametrize(("family", "arch"), TABLES)
def test_both_dtypes_have_the_same_kernels_where_rows_do_not_ask_for_one(family, arch):
    rows = [row for row in load_table(family, arch).rows if "dtype" not in row.when]
    names = {name for row in rows for name in row.kernels.values()}
    assert {name.replace("_bf16_", "_fp16_") for name in names if "_bf16_" in name} == {
        n for n in names if "_fp16_" in n
    }


@pytest.mark.parametrize(("family", "arch"), TABLES)
def test_rows_that_are_not_measured_give_their_reason_or_source(family, arch):
    for row in load_table(family, arch).rows:
        assert row.because.kind == "measured" or row.because.why or row.because.kind == "published"


def test_published_decode_pick_of_gfx1151_serves_the_layers_it_was_measured_on():
    table = load_table("wvsplitk", "gfx1151")
    for M in (152064, 128):
        answer = explain(table, GemmShape(M, 1, 2048))
        assert "YTILE2_WvPrGrp4_A_CHUNK16_UNRL4" in (answer.pick.kernel or "")
        assert "PR 908" in answer.pick.row.because.source


def test_small_m_is_a_kernel_and_not_torch():
    for family, arch in DECODE:
        for M in (1, 2, 8, 9):
            assert pick(load_table(family, arch), GemmShape(M, 1, 2048), "bf16").kernel


@pytest.mark.parametrize("arch", [arch for arch, facts in ARCHES.items() if not facts.fp8])
def test_targets_without_fp8_say_so(arch):
    table = load_table("wvsplitkq", arch)
    assert kernels_named(table) == []
    answer = explain(table, GemmShape(4096, 1, 4096))
    assert answer.pick.torch
    assert "no fp8 instructions on RDNA 3" in answer.text()


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_fp8_rows_of_cdna_that_rest_on_the_publication_say_what_is_theirs(arch):
    row = pick(load_table("wvsplitkq", arch), GemmShape(8192, 4, 8192), "bf16").row
    assert row.because.kind == "published"
    assert "PR 34100" in row.because.source
    assert "not measured" in row.because.why
    assert "MFMA16x16x32" in row.use
