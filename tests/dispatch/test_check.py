import pytest

from kgen.dispatch import freshness, kernels_named
from kgen.dispatch.age import current_digest
from kgen.dispatch.because import evidence_digest
from kgen.dispatch.check import check, check_tables
from kgen.errors import TableError
from kgen.render.source import render
from kgen.spec.problem import GemmShape

from .tables import DEFAULT, GLOBAL, LAST, LDS, MEASURED, ONE, SOUND, boundary_shapes, table_of

LAYERS = [(4096, 4096), (12288, 4096), (4096, 12288)]
RAGGED = ("K % 8 != 0", "torch")


def findings(table, **options) -> list[tuple[str, str, int | None]]:
    options.setdefault("digest_of", lambda spec: MEASURED["source"])
    report = check(table, layers=LAYERS, **options)
    assert report.ok == all(finding.severity != "error" for finding in report.findings)
    return [(finding.severity, finding.kind, finding.row) for finding in report.findings]


def one_row_digest(*digests: str) -> str:
    return evidence_digest(digests)


def sound(source: str | None = None):
    """SOUND with evidence that is of the present source unless another is given."""
    rows = list(SOUND)
    rows[1] = (*SOUND[1][:2], MEASURED | {"source": source or one_row_digest("3fa9c1", "3fa9c1")})
    return table_of(*rows)


def test_sound_table_has_no_findings_and_reaches_every_row():
    report = check(sound(), layers=LAYERS, digest_of=lambda spec: "3fa9c1")
    assert report.findings == ()
    assert set(report.rows) == {1, 2, 3, 4, 5}


def test_evidence_counts_how_many_layers_rest_on_what():
    report = check(sound(), layers=LAYERS, digest_of=lambda spec: "3fa9c1")
    assert report.layers == len(LAYERS) * 9
    assert report.evidence == {"default": len(LAYERS) * 8, "torch": len(LAYERS)}


@pytest.mark.parametrize(
    ("rows", "row"),
    [
        ((RAGGED, ("N <= 8", GLOBAL), ("N == 1", ONE), LAST), 3),  # an earlier row takes all
        ((RAGGED, ("N <= 4", GLOBAL), ("N <= 8", GLOBAL), ("2 <= N <= 6", GLOBAL), LAST), 4),  # several do together
        ((RAGGED, ("N == 1 and K < 64 and K > 64", ONE), ("N <= 8", GLOBAL), LAST), 2),  # it contradicts itself
        ((RAGGED, ("N == 1 and K == 2049", ONE), ("N <= 8", GLOBAL), LAST), 2),  # only for K that another takes
        (
            (RAGGED, ("tiles_per_cu <= 26", "torch"), ("M <= 2080 and N == 1", GLOBAL), ("N <= 8", GLOBAL), LAST),
            3,
        ),  # the same by another name
        ((("true", "torch"), ("N == 1", "torch")), 2),
    ],
)
def test_row_that_is_never_reached_is_found(rows, row):
    assert ("error", "unreached", row) in findings(table_of(*rows))


def test_row_that_holds_for_a_single_size_is_reached():
    rows = (RAGGED, ("N == 3 and M == 77777 and K == 12344", GLOBAL), ("N <= 8", GLOBAL), LAST)
    assert findings(table_of(*rows)) == []


def test_row_that_holds_for_one_residue_is_reached():
    rows = (
        RAGGED,
        ("N <= 8 and K % 1000 == 168 and K > 3000 and tiles_per_cu == 13", GLOBAL),
        ("N <= 8", GLOBAL),
        LAST,
    )
    assert findings(table_of(*rows)) == []


@pytest.mark.parametrize(
    "rows",
    [
        (("N <= 8 and K % 8 == 0", GLOBAL), ("K % 8 != 0", "torch")),  # N above 8
        ((RAGGED, ("N <= 8 and M < 152000", GLOBAL), ("N > 8", "torch")),),  # large M
        ((RAGGED, ("N <= 8 and K != 4608", GLOBAL), ("N > 8", "torch")),),  # one K
    ],
)
def test_shape_without_a_row_is_found(rows):
    rows = rows if isinstance(rows[0][0], str) else rows[0]
    assert ("error", "no_row", None) in findings(table_of(*rows))


@pytest.mark.parametrize(
    ("rows", "row"),
    [
        ((RAGGED, ("N <= 8", LDS), LAST), 2),  # LDS too small for many long rows
        (
            (RAGGED, ("N <= 8 and act_bytes <= lds_per_group + 16", LDS), ("N <= 8", GLOBAL), LAST),
            2,
        ),  # one piece too much
        ((("N <= 8", GLOBAL), LAST), 1),  # K that is not whole pieces
        ((RAGGED, ("N <= 9", GLOBAL), LAST), 2),  # more rows than kernels exist for
        ((RAGGED, ("N <= 2", ONE), ("N <= 8", GLOBAL), LAST), 2),  # a kernel of another N
        ((RAGGED, ("N == 1", ONE.format(dtype="fp16")), ("N <= 8", GLOBAL), LAST), 2),  # of another dtype
        ((RAGGED, ("N == 1 and K >= 4096", ONE + "_K4096"), ("N <= 8", GLOBAL), LAST), 2),  # of another K
    ],
)
def test_kernel_that_does_not_fit_where_its_row_holds_is_found(rows, row):
    assert ("error", "unfit", row) in findings(table_of(*rows))


def test_kernels_that_are_not_built_are_found():
    table = sound()
    built = [name for name in kernels_named(table) if "global" not in name]
    assert findings(table, built=built, digest_of=lambda spec: "3fa9c1") == [("error", "not_built", 4)]


def test_kernels_outside_the_default_set_are_found():
    table = sound()
    names = set(kernels_named(table)) - {ONE.format(dtype="fp16")}
    report = check(table, layers=LAYERS, in_set=names, digest_of=lambda spec: "3fa9c1")
    assert [(f.kind, f.row) for f in report.findings] == [("not_in_set", 2)]
    assert ONE.format(dtype="fp16") in report.findings[0].problem.found


def test_evidence_older_than_the_source_is_a_warning():
    table = sound(source="0123456789ab")
    assert findings(table) == [("warning", "stale", 2)]
    assert check(table, layers=LAYERS, digest_of=lambda spec: "3fa9c1").ok


def test_evidence_of_the_rendered_source_is_fresh():
    rows = (RAGGED, ("N == 1", ONE.format(dtype="bf16"), MEASURED), LAST)
    table = table_of(*rows)
    digest = render(table.specs[ONE.format(dtype="bf16")]).digest
    assert freshness(table, table.rows[1]) == "the kernel source has changed since"
    assert current_digest(table, table.rows[1]) == digest[:12]
    fresh = table_of(RAGGED, ("N == 1", ONE.format(dtype="bf16"), MEASURED | {"source": digest[:8]}), LAST)
    assert freshness(fresh, fresh.rows[1]) == "kernel source unchanged since"
    assert freshness(fresh, fresh.rows[2]) == ""


def test_digest_of_a_row_changes_with_any_of_its_kernels():
    assert evidence_digest(["a" * 64]) == "a" * 12
    assert len({evidence_digest(digests) for digests in (["aa", "bb"], ["aa", "bc"], ["bb", "aa"])}) == 3


def test_grid_stands_on_both_sides_of_every_boundary():
    table = table_of(RAGGED, ("N == 1 and tiles_per_cu <= 26 and act_bytes <= lds_per_group", ONE), LAST)
    shapes = {(shape.M, shape.N, shape.K) for shape, _ in boundary_shapes(table)}
    assert {(2080, 1, 32768), (2081, 1, 32768), (2080, 1, 32776)} <= shapes


def test_one_dtype_is_enough_unless_a_row_tells_them_apart():
    assert {dtype for _, dtype in boundary_shapes(table_of(*SOUND))} == {"bf16"}
    assert {dtype for _, dtype in boundary_shapes(table_of(("dtype == 'fp16'", "torch"), LAST))} == {"bf16", "fp16"}


def test_findings_say_what_where_and_next():
    report = check(table_of(RAGGED, ("N <= 8", LDS), LAST), layers=LAYERS)
    (finding,) = report.findings
    assert finding.lines()[0] == "error: row 2"
    assert "does not fit" in finding.problem.found
    assert finding.problem.next == "say so in `when`"
    assert finding.as_data()["kind"] == "unfit"
    assert report.lines()[0].startswith("a.toml: 1 finding over ")


def test_unreached_row_names_the_rows_that_take_its_shapes():
    report = check(table_of(RAGGED, ("N <= 8", GLOBAL), ("N == 1", ONE, DEFAULT), LAST), layers=[])
    assert "rows 1, 2 take every shape where it holds" in report.findings[0].problem.found


def test_named_family_without_a_table_is_an_error():
    with pytest.raises(TableError, match="no dispatch table"):
        check_tables("gfx9999", ["wvsplitk"])


def test_grid_sizes_are_positive():
    assert all(min(s.M, s.N, s.K) >= 1 for s, _ in boundary_shapes(table_of(*SOUND)))
    assert isinstance(next(boundary_shapes(table_of(LAST)))[0], GemmShape)
