import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgen.dispatch import kernels_named, load_table, parse_table, table_path
from kgen.dispatch.table import table_from
from kgen.errors import TableError

from .tables import DEFAULT, GLOBAL, LAST, LDS, MEASURED, ONE, SOUND, data_of, table_of


def test_rows_keep_the_order_of_the_file():
    table = table_of(*SOUND)
    assert [(row.number, row.when) for row in table.rows] == [(i, row[0]) for i, row in enumerate(SOUND, 1)]


def test_kernels_named_fills_in_dtype_and_every_n_that_the_condition_allows():
    names = kernels_named(table_of(("2 <= N <= 3 and K % 8 == 0", LDS), LAST))
    assert names == [LDS.format(dtype=dtype, N=N) for dtype in ("bf16", "fp16") for N in (2, 3)]


def test_kernels_named_leaves_out_what_an_earlier_row_always_answers():
    names = kernels_named(table_of(("N == 1", ONE), ("N <= 2", LDS), LAST))
    assert names == [
        ONE.format(dtype="bf16"),
        ONE.format(dtype="fp16"),
        LDS.format(dtype="bf16", N=2),
        LDS.format(dtype="fp16", N=2),
    ]


def test_kernels_named_keeps_what_an_earlier_row_only_sometimes_answers():
    names = kernels_named(table_of(("N == 1 and K > 8", ONE), ("N <= 1", LDS), LAST))
    assert LDS.format(dtype="bf16", N=1) in names


def test_condition_on_dtype_limits_the_kernels():
    names = kernels_named(table_of(("N == 2 and dtype == 'fp16'", LDS), LAST))
    assert names == [LDS.format(dtype="fp16", N=2)]


def test_date_may_be_a_toml_date():
    text = f"""
    schema = 1
    arch = "gfx1151"
    family = "wvsplitk"
    [[row]]
    when = "N == 1"
    use = "{ONE}"
    because = {{ kind = "measured", gain = "+8.1 %", over = "torch", pairs = 10, shapes = 1, device = "8060S", date = 2026-11-21, source = "3fa9c1" }}
    """
    assert parse_table(text).rows[0].because.words().endswith("on 8060S, 2026-11-21")


def problems_of(data) -> list[tuple[str, str]]:
    with pytest.raises(TableError) as caught:
        table_from(data, "a.toml")
    assert str(caught.value).startswith("a.toml: ")
    return [(problem.where, ", ".join(problem.fields)) for problem in caught.value.problems]


def without(row: dict, *keys: str) -> dict:
    return {key: value for key, value in row.items() if key not in keys}


BAD_HEADS = [
    ({"schema": 2}, "schema"),
    ({"schema": True}, "schema"),
    ({"schema": None}, "schema"),
    ({"arch": "gfx9999"}, "arch"),
    ({"arch": ["gfx1151"]}, "arch"),
    ({"family": "gemm"}, "family"),
    ({"row": []}, "row"),
    ({"row": "none"}, "row"),
    ({"rows": []}, "rows"),
]


@pytest.mark.parametrize(("change", "field"), BAD_HEADS)
def test_bad_head_is_named(change, field):
    data = {key: value for key, value in (data_of(*SOUND) | change).items() if value is not None}
    assert problems_of(data) == [("", field)]


KERNEL = ONE.format(dtype="bf16")
BAD_ROWS = [
    ({"when": "N == "}, "when"),
    ({"when": "k == 8"}, "when"),
    ({"when": "N"}, "when"),
    ({"when": ""}, "when"),
    ({"when": 1}, "when"),
    ({"when": "N == 9", "use": LDS}, "when"),
    ({"use": ""}, "use"),
    ({"use": None}, "use"),
    ({"use": "cublas"}, "use"),
    ({"use": "wvsplitk"}, "use"),
    ({"use": "wvsplitk_bf16_N1"}, "use"),
    ({"use": "wvsplitk_{type}_N1_THRDS32"}, "use"),
    ({"use": KERNEL.replace("THRDS32", "THRDS64")}, "use"),
    ({"use": KERNEL.replace("YTILE1", "YTILE9")}, "use"),
    ({"use": KERNEL.replace("lds", "ldss")}, "use"),
    ({"because": None}, "because"),
    ({"because": "because"}, "because"),
    ({"because": {"kind": "guess"}}, "because"),
    ({"because": {"kind": ["default"]}}, "because"),
    ({"because": {"kind": "default"}}, "because.why"),
    ({"because": DEFAULT | {"gain": "lots"}}, "because.gain"),
    ({"because": {"kind": "published"}}, "because.source"),
    ({"because": {"kind": "published", "source": "web"}}, "because.source"),
    ({"because": {"kind": "model"}}, "because.source"),
    ({"because": MEASURED | {"pairs": 0}}, "because.pairs"),
    ({"because": MEASURED | {"pairs": "ten"}}, "because.pairs"),
    ({"because": MEASURED | {"date": "yesterday"}}, "because.date"),
    ({"because": MEASURED | {"source": "not hex"}}, "because.source"),
    *(({"because": without(MEASURED, key)}, f"because.{key}") for key in MEASURED if key != "kind"),
    ({"because": without(MEASURED, "kind")}, "because"),
    ({"When": "true"}, "When"),
]


@pytest.mark.parametrize(("change", "field"), BAD_ROWS)
def test_bad_row_is_named(change, field):
    data = data_of(("K % 8 != 0", "torch"), ("N == 1", ONE), LAST)
    row = data["row"][1]
    row.update(change)
    data["row"][1] = {key: value for key, value in row.items() if value is not None}
    assert problems_of(data) == [("row 2", field)]


def test_row_that_is_no_table_is_named():
    data = data_of(*SOUND)
    data["row"][2] = "torch"
    assert problems_of(data) == [("row 3", "row")]


def test_all_problems_are_reported_at_once():
    data = data_of(("N = 1", "torch", {"kind": "guess"}), ("N == 1", KERNEL.replace("YTILE1", "YTILE9")), LAST) | {
        "schema": 7
    }
    assert problems_of(data) == [("", "schema"), ("row 1", "because"), ("row 1", "when"), ("row 2", "use")]


def test_message_says_row_found_allowed_and_next():
    with pytest.raises(TableError) as caught:
        table_of(("N == 1 and tile_per_cu <= 4", ONE), LAST)
    text = str(caught.value)
    assert "a.toml: 1 problem (1 of 2 rows are fine)" in text
    assert "row 1" in text
    assert "column 12: no name 'tile_per_cu'" in text
    assert "allowed: " in text
    assert "try:     `tiles_per_cu`?" in text


def test_kernel_that_the_target_cannot_have_is_refused_once_for_both_dtypes():
    with pytest.raises(TableError) as caught:
        table_of(("N == 1", LDS), LAST, arch="gfx942")
    assert [problem.fields for problem in caught.value.problems] == [("use",), ("use",)]
    assert "THRDS of wvsplitk_bf16_N1_" in str(caught.value)
    assert "YTILE of wvsplitk_bf16_N1_" in str(caught.value)


@pytest.mark.parametrize("text", ["row = [", "\x00", 'when = "', "schema = 1\nschema = 1", "[[row]\n"])
def test_text_that_is_not_toml_is_a_table_error(text):
    with pytest.raises(TableError, match="not valid TOML"):
        parse_table(text, "a.toml")


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1', "[" * 100000])
def test_text_that_is_not_json_is_a_table_error(text):
    with pytest.raises(TableError, match="not valid JSON"):
        parse_table(text, "a.json", json_text=True)


def test_json_that_is_no_object_is_a_table_error():
    with pytest.raises(TableError, match="not a table"):
        parse_table("[]", "a.json", json_text=True)


def test_file_that_is_not_text_is_a_table_error(tmp_path):
    path = tmp_path / "wvsplitk.toml"
    path.write_bytes(b"\xff\xfe\x00schema")
    with pytest.raises(TableError, match="cannot be read"):
        load_table("wvsplitk", "gfx1151", path)


def test_truncated_file_is_a_table_error(tmp_path):
    text = table_path("wvsplitk", "gfx1151").read_text()
    path = tmp_path / "wvsplitk.toml"
    path.write_text(text[: text.rindex("use =") + 6])
    with pytest.raises(TableError, match="not valid TOML"):
        load_table("wvsplitk", "gfx1151", path)


def test_missing_table_names_those_that_exist():
    with pytest.raises(TableError, match=r"tables of wvsplitk: .*gfx1151"):
        load_table("wvsplitk", "gfx9999")


def test_table_of_another_target_is_refused(tmp_path):
    with pytest.raises(TableError, match="'gfx1100', which the file is the table of"):
        load_table("wvsplitk", "gfx1100", table_path("wvsplitk", "gfx1151"))


def test_global_staging_row_needs_no_lds_condition():
    assert len(kernels_named(table_of(("N <= 8", GLOBAL), LAST))) == 16


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(("torch", "default", ONE)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("when", "kind", "source", "x")), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.data(), JUNK)
def test_any_damaged_value_is_a_table_error_and_nothing_else(data, junk):
    table = copy.deepcopy(data_of(*SOUND))
    place, key = data.draw(
        st.sampled_from(
            [(table, key) for key in table]
            + [(row, key) for row in table["row"] for key in row]
            + [(table["row"], index) for index in range(len(table["row"]))]
            + [(table["row"][1]["because"], key) for key in MEASURED]
        )
    )
    place[key] = junk
    try:
        table_from(table)
    except TableError as error:
        assert error.problems  # noqa: PT017


TEXT = table_path("wvsplitk", "gfx1151").read_text()


@settings(max_examples=40)
@given(st.integers(0, len(TEXT) - 1), st.integers(0, 3), st.text('"=[]{}N8 \n\\', max_size=2))
def test_any_damaged_text_is_a_table_error_and_nothing_else(at, cut, put):
    try:
        parse_table(TEXT[:at] + put + TEXT[at + cut :])
    except TableError as error:
        assert error.problems  # noqa: PT017
