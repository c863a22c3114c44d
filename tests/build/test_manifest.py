"""A manifest that is not whole is refused with what, where and what to do; so is a code object that is not the one built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kgen.build import build
from kgen.build.manifest import Manifest, load_manifest
from kgen.errors import CodeObjectError, ManifestError
from tests.build.fakes import ARCH, FakeTools, some_specs


@pytest.fixture
def built(tools: FakeTools, folder: Path) -> Manifest:
    return build(some_specs(2), arch=ARCH, folder=folder, tools=tools).manifest


def edit(folder: Path, change: object) -> None:
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    change(data)  # type: ignore[operator]
    path.write_text(json.dumps(data))


def test_loads_as_written(built: Manifest, folder: Path):
    assert load_manifest(folder) == built
    assert set(built.entries) == {spec.name for spec in some_specs(2)}


def test_holds_all_that_a_launch_without_kgen_needs(built: Manifest, folder: Path):
    entry = json.loads((folder / "manifest.json").read_text())["kernels"][0]
    said = "name family arch spec symbol path digest vgpr agpr sgpr lds_bytes scratch_bytes vgpr_spills sgpr_spills"
    said += " occupancy limited_by code_bytes status error block args grid lds_expr"
    assert set(said.split()) <= set(entry)
    assert entry["block"] == [128, 1, 1]
    assert entry["args"][0] == {"name": "weight", "type": "const T*", "bytes": 8, "offset": 0}
    assert set(entry["grid"]) == {"rule", "expr"}
    assert (folder / entry["path"]).is_file()


def test_names_no_folder_and_no_compiler_path(built: Manifest, folder: Path, tmp_path: Path):
    assert str(tmp_path) not in (folder / "manifest.json").read_text()


def test_missing_manifest_says_what_to_run(tmp_path: Path):
    with pytest.raises(ManifestError, match=r"gfx1151/manifest.json: not there.*`kgen build --arch gfx1151`"):
        load_manifest(tmp_path / ARCH)


@pytest.mark.parametrize("keep", [0, 1, 100, -2])
def test_truncated_manifest_is_refused(built: Manifest, folder: Path, keep: int):
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ManifestError, match=r"manifest.json: damaged: .*`kgen build --arch gfx1151`"):
        load_manifest(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(schema=2), "schema 2, this kgen reads schema 1"),
        (lambda d: d.pop("schema"), "not a manifest: it has no schema"),
        (lambda d: d.pop("kernels"), "kernels: Field required"),
        (lambda d: d["kernels"][0].update(vgpr="many"), r"kernels.0.vgpr"),
        (lambda d: d["kernels"][1].pop("args"), r"kernels.1.args"),
        (lambda d: d["kernels"][0].update(digest="0"), r"kernels.0.digest"),
        (lambda d: d["kernels"][0].update(path=None), "path or digest is missing"),
        (lambda d: d["kernels"][0].update(path="../../elsewhere"), r"kernels.0.path"),
        (lambda d: d["kernels"].append(d["kernels"][0]), "listed twice: wvsplitk"),
        (lambda d: d.update(arch="gfx1100"), "for another target than gfx1100"),
    ],
)
def test_damaged_manifest_says_where(built: Manifest, folder: Path, change: object, words: str):
    edit(folder, change)
    with pytest.raises(ManifestError, match=words):
        load_manifest(folder)


@pytest.mark.parametrize("text", ["[]", '"x"', "{}", "\x00\x00"])
def test_something_else_is_refused(tmp_path: Path, text: str):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ManifestError, match=str(tmp_path)):
        load_manifest(tmp_path)


def test_unknown_keys_of_a_later_kgen_are_let_through(built: Manifest, folder: Path):
    edit(folder, lambda d: d["kernels"][0].update(more=1))
    assert load_manifest(folder) == built


def test_image_is_the_file_that_was_built(built: Manifest, folder: Path):
    entry = built.kernels[0]
    assert entry.image(folder) == (folder / entry.path).read_bytes()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "bytes, .* were built: truncated or altered"),
        (lambda p: p.write_bytes(b"~" + p.read_bytes()[1:]), "altered since it was built"),
        (lambda p: p.write_bytes(b""), "0 bytes"),
        (lambda p: p.unlink(), "cannot be read: No such file"),
    ],
)
def test_altered_code_object_is_refused(built: Manifest, folder: Path, damage: object, words: str):
    entry = built.kernels[0]
    damage(folder / entry.path)  # type: ignore[operator]
    with pytest.raises(CodeObjectError, match=words) as caught:
        entry.image(folder)
    assert entry.path in str(caught.value)
    assert f"`kgen build --arch {ARCH}`" in str(caught.value)


def test_kernel_that_failed_has_no_image(tools: FakeTools, folder: Path):
    tools.set("fail", "_N1_")
    manifest = build(some_specs(2), arch=ARCH, folder=folder, tools=tools).manifest
    failed = next(entry for entry in manifest.kernels if not entry.built)
    with pytest.raises(CodeObjectError, match=r"not built for gfx1151: .*made to fail"):
        failed.image(folder)
