"""Spec sets and model shapes are data: what is shipped loads, and a bad file says everything that is wrong with it."""

from __future__ import annotations

import pytest

from kgen.errors import SpecError
from kgen.spec.arch import ARCHES
from kgen.spec.sets import load_set, parse_set_file
from kgen.spec.shapes import all_shapes, load_shapes, parse_shapes, shape_sets
from kgen.spec.wvsplitk import WvSplitKSpec


@pytest.mark.parametrize("arch", sorted(ARCHES))
def test_the_parameters_set_of_wvsplitk_holds_every_value_of_every_parameter(arch):
    specs = load_set("parameters", [arch], families=["wvsplitk"])
    for field in WvSplitKSpec.parameters():
        seen = {getattr(spec, field) for spec in specs}
        extra = WvSplitKSpec.model_fields[field].json_schema_extra
        wanted = set(extra["among"]) if isinstance(extra, dict) and extra.get("among") else set()
        if field == "THRDS":
            wanted = {ARCHES[arch].wave}
        if field == "N":
            wanted = set(range(1, 9))
        if field == "YTILE":
            side_by_side = {4, 8, 16, 32} if ARCHES[arch].mfma_4x4x4 else {1, 2, 8, 16, 32}
            wanted = set(range(1, 9)) if ARCHES[arch].matrix.startswith("wmma") else side_by_side
        if field == "K_WAVES" and ARCHES[arch].wave == 64:
            wanted -= {32}  # more work-items than a group may have
        if field == "K_GROUPS" and not ARCHES[arch].clusters:
            wanted = {1}
        if field == "MATRIX16":
            wanted = {False, not ARCHES[arch].matrix.startswith("wmma")}
        if field == "K":
            assert None in seen
            wanted = {1048}
        assert wanted <= seen, f"{field}: {sorted(wanted - seen)} missing"


def test_kernels_of_a_set_come_once_and_only_for_the_targets_asked_for():
    specs = load_set("parameters", ["gfx942", "sm_90"])
    assert {spec.arch for spec in specs} == {"gfx942", "sm_90"}
    assert len({(spec.arch, spec.name) for spec in specs}) == len(specs)


def test_an_unknown_set_lists_the_known_ones():
    with pytest.raises(SpecError, match="parameters"):
        load_set("everything", ["gfx1151"])


def write(tmp_path, text):
    path = tmp_path / "wvsplitk.toml"
    path.write_text(text)
    return path


HEAD = 'schema = 1\nfamily = "wvsplitk"\n'


def test_all_problems_of_a_file_are_reported_at_once(tmp_path):
    text = HEAD + (
        'colour = "red"\n'
        '[[variants]]\nset = "a"\narch = ["gfx1151", "gfx9000"]\ndtype = ["bf16", "fp64"]\nN = [1, 9]\n'
        '[[variants]]\narch = "gfx1151"\ndtype = "bf16"\n'
        '[[variants]]\nset = "b"\narch = "gfx942"\ndtype = "bf16"\nYTILE = 3\nSPEED = 1\n'
    )
    with pytest.raises(SpecError) as caught:
        parse_set_file(write(tmp_path, text), WvSplitKSpec)
    text = str(caught.value)
    for words in (
        "colour",
        "gfx9000",
        "'fp64'",
        "variant 1",
        "N 9",
        "variant 2",
        "set  not given",
        "variant 3",
        "SPEED",
    ):
        assert words in text, words
    assert "1 kernels are fine" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schema = 2\nfamily = 'wvsplitk'\n", "schema"),
        ("schema = 1\nfamily = 'other'\n", "family"),
        ("schema = \n", "TOML"),
        ("", "schema"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, text, words):
    with pytest.raises(SpecError, match=words):
        parse_set_file(write(tmp_path, text), WvSplitKSpec)


def test_lists_are_expanded_and_threads_filled_in(tmp_path):
    text = HEAD + '[[variants]]\nset = "a"\narch = ["gfx1151", "gfx942"]\ndtype = "bf16"\nN = [1, 2]\nYTILE = 4\n'
    found = parse_set_file(write(tmp_path, text), WvSplitKSpec)
    assert [(name, spec.arch, spec.N, spec.THRDS) for name, spec in found] == [
        ("a", "gfx1151", 1, 32),
        ("a", "gfx1151", 2, 32),
        ("a", "gfx942", 1, 64),
        ("a", "gfx942", 2, 64),
    ]


@pytest.mark.parametrize("name", shape_sets())
def test_shape_files_load_and_say_where_they_come_from(name):
    shapes = load_shapes(name)
    assert shapes
    assert len({shape.name for shape in shapes}) == len(shapes)
    assert all(shape.M >= 1 and shape.K >= 1 for shape in shapes)


def test_there_are_shapes_of_several_models():
    assert len({shape.model for shape in all_shapes()}) >= 5


def test_a_bad_shape_file_says_everything(tmp_path):
    path = tmp_path / "model.toml"
    path.write_text('schema = 3\n[[layer]]\nname = "qkv"\nM = -1\nK = "many"\n[[layer]]\nM = 8\nK = 8\n')
    with pytest.raises(SpecError) as caught:
        parse_shapes(path)
    for words in ("schema", "model", "source", "layer 1", "layer 2", "name"):
        assert words in str(caught.value)


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(SpecError, match=r"qwen3-8b|qwen3-4b"):
        load_shapes("gpt-9000")
