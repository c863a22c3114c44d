"""Forms: spaces of several products."""

from __future__ import annotations

import pytest

from kgen.errors import SpecError
from kgen.spec.registry import family_class
from kgen.spec.wvsplitk import WvSplitKSpec
from kgen.sweep.plan import plan
from kgen.sweep.space import space_of
from kgen.sweep.workload import layers_of, workloads

FILE = """
schema = 1
family = "wvsplitk"
[axes]
YTILE = [1, 2]
UNRL = [1]
A_CHUNK = [8]
[[arch.gfx1151.forms]]
STAGING = ["lds"]
WvPrGrp = [8, 16]
[[arch.gfx1151.forms]]
dtype = ["fp16"]
STAGING = ["lds", "window"]
WvPrGrp = [16]
"""
VARIED = ("YTILE", "UNRL", "A_CHUNK", "STAGING", "WvPrGrp")


@pytest.fixture
def space(monkeypatch, tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "wvsplitk.toml").write_text(FILE)
    monkeypatch.setattr("kgen.sweep.space.data_dir", lambda _: tmp_path)

    parameters = family_class("wvsplitk").parameters()
    alone = {name: [WvSplitKSpec.model_fields[name].default] for name in parameters if name not in VARIED}

    def of(*dtypes, arch="gfx1151", **asked):
        return space_of("wvsplitk", arch, dtypes, [1], {**alone, **asked})

    return of


def combinations(space, *names):
    return [tuple(point[name] for name in names) for point in space.points()]


def test_a_space_is_the_products_of_its_forms_each_point_once(space):
    both = space("bf16", "fp16")
    found = combinations(both, "dtype", "STAGING", "WvPrGrp", "YTILE")
    assert sorted(found) == sorted(
        {(dtype, "lds", waves, rows) for dtype in ("bf16", "fp16") for waves in (8, 16) for rows in (1, 2)}
        | {("fp16", "window", 16, rows) for rows in (1, 2)}
    )
    assert both.axes["STAGING"] == ("lds", "window")
    assert both.axes["WvPrGrp"] == (8, 16)
    assert both.axes["UNRL"] == (1,)


def test_a_form_of_other_types_is_left_out(space):
    assert set(combinations(space("bf16"), "STAGING")) == {("lds",)}


def test_what_the_user_asks_for_stands_in_every_form(space):
    assert sorted(combinations(space("fp16", WvPrGrp=[4]), "STAGING", "WvPrGrp", "YTILE")) == [
        (staging, 4, rows) for staging in ("lds", "window") for rows in (1, 2)
    ]


def test_targets_without_forms_have_one_product(space):
    one = space("bf16", arch="gfx1100", WvPrGrp=[8], STAGING=["lds"])
    assert combinations(one, "YTILE") == [(1,), (2,)]
    assert len(one.forms) == 1


def test_types_that_no_form_is_for_are_said(space, tmp_path):
    path = tmp_path / "sweeps" / "wvsplitk.toml"
    path.write_text(
        FILE.replace(
            '[[arch.gfx1151.forms]]\nSTAGING = ["lds"]\n',
            '[[arch.gfx1151.forms]]\ndtype = ["fp16"]\nSTAGING = ["lds"]\n',
        )
    )
    with pytest.raises(SpecError, match=r"fp16: specs/sweeps/wvsplitk.toml has forms of these"):
        space("bf16")


def test_a_wrong_value_of_a_form_is_said_once(space, tmp_path):
    path = tmp_path / "sweeps" / "wvsplitk.toml"
    path.write_text(FILE.replace("YTILE = [1, 2]", "YTILE = [1, 99]").replace("UNRL = [1]", "UNROL = [1]"))
    with pytest.raises(SpecError) as error:
        space("bf16", "fp16")
    assert sorted(problem.fields for problem in error.value.problems) == [("UNROL",), ("YTILE",)]


def test_types_of_a_form_and_of_the_user_are_checked(space, tmp_path):
    (tmp_path / "sweeps" / "wvsplitk.toml").write_text(FILE.replace('["fp16"]', '["fp61"]'))
    with pytest.raises(SpecError, match="fp61"):
        space("bf16")
    with pytest.raises(SpecError, match="dtype"):
        space("bf16", dtype=["bf16"])


def test_points_of_forms_are_planned_as_others(space):
    whole = plan(space("fp16"), workloads(layers_of([], ["4096x4096"]), [1], ["fp16"]))
    assert set(whole.axes) == {"YTILE", "WvPrGrp", "STAGING"}
    assert len(whole.points) == 6
