"""What a build does to a folder, with a compiler that only copies."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import kgen.build.folder
import kgen.build.run
from kgen.binary import CodeObject
from kgen.build import BuildResult, build, dry_run, load_manifest, rows
from kgen.build.entry import mark_twins
from kgen.build.folder import BuildFolder
from kgen.errors import MissingPieceError, SpecError
from kgen.spec.wvsplitk import WvSplitKSpec
from tests.build.fakes import ARCH, FakeTools, a_spec, read_fake, some_specs


def make(tools: FakeTools, folder: Path, specs: list[WvSplitKSpec], **options: object) -> BuildResult:
    return build(specs, arch=ARCH, folder=folder, tools=tools, **options)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file for readers."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and ".work" not in p.parts
    }


def names(specs: list[WvSplitKSpec]) -> list[str]:
    return sorted(spec.name for spec in specs)


def test_builds_sources_code_objects_and_manifest_and_nothing_else(tools: FakeTools, folder: Path):
    result = make(tools, folder, some_specs(3))
    assert (result.compiled, result.failed) == (3, [])
    assert tools.calls() == names(some_specs(3))
    expected = {"manifest.json"}
    for entry in load_manifest(folder).kernels:
        expected |= {entry.path, f"{entry.name}.hip"}
        assert entry.path == f"{entry.name}-{entry.key}.hsaco"
    assert set(contents(folder)) == expected
    assert {p.name for p in (folder / ".work").iterdir()} == {"lock", "stamp.json"}


def test_second_build_does_nothing(tools: FakeTools, folder: Path, monkeypatch: pytest.MonkeyPatch):
    first = make(tools, folder, some_specs(3))
    before = contents(folder)
    tools.calls()
    monkeypatch.setattr("kgen.render.render", lambda spec: pytest.fail("rendered"))
    monkeypatch.setattr("kgen.build.plan.render", lambda spec: pytest.fail("rendered"))
    monkeypatch.setattr(kgen.build.run, "run_ninja", lambda *a: pytest.fail("ran ninja"))
    monkeypatch.setattr(kgen.build.folder, "write_whole", lambda *a: pytest.fail("wrote"))
    again = make(tools, folder, some_specs(3))
    part = make(tools, folder, some_specs(1))  # asking for less is nothing to do either
    assert again.manifest == part.manifest == first.manifest
    assert (again.compiled, tools.calls(), contents(folder)) == (0, [], before)


def test_same_bytes_in_any_folder(tools: FakeTools, tmp_path: Path):
    make(tools, tmp_path / "a" / ARCH, some_specs(3))
    make(tools, tmp_path / "long name" / ARCH, some_specs(3)[::-1])
    assert contents(tmp_path / "a" / ARCH) == contents(tmp_path / "long name" / ARCH)


def test_copied_folder_stays_valid(tools: FakeTools, folder: Path, tmp_path: Path):
    make(tools, folder, some_specs(2))
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)  # new times
    assert make(tools, tmp_path / "copy", some_specs(2)).compiled == 0


def test_one_new_spec_compiles_one_kernel_and_keeps_the_others(tools: FakeTools, folder: Path):
    make(tools, folder, some_specs(3))
    tools.calls()
    result = make(tools, folder, [some_specs(4)[3]])
    assert tools.calls() == [some_specs(4)[3].name]
    assert list(result.manifest.entries) == names(some_specs(4))


def test_failed_variant_keeps_the_compiler_s_words_and_the_rest(tools: FakeTools, folder: Path):
    tools.set("fail", "_N2_")
    seen: list[tuple[int, int, str]] = []
    result = make(
        tools, folder, some_specs(4), progress=lambda done, total, name, left: seen.append((done, total, name))
    )
    (failure,) = result.failed
    bad = result.manifest.entries[failure.name]
    assert "_N2_" in failure.name
    assert failure.error.endswith("error: made to fail")
    assert failure.log == folder / "logs" / f"{failure.name}.log"
    assert failure.log.read_text().startswith("note: a word before")
    assert (bad.status, bad.path, bad.vgpr) == ("failed", None, None)
    assert [e.status for e in result.manifest.kernels].count("ok") == 3
    assert [(done, total) for done, total, _ in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert sorted(name for *_, name in seen) == names(some_specs(4))


def test_failed_variant_is_tried_again_alone_and_its_log_goes_when_it_succeeds(tools: FakeTools, folder: Path):
    tools.set("fail", "_N2_")
    make(tools, folder, some_specs(4))
    tools.calls()
    assert len(make(tools, folder, some_specs(4)).failed) == 1
    tools.unset("fail")
    assert make(tools, folder, some_specs(4)).failed == []
    assert tools.calls() == [some_specs(2)[1].name] * 2
    assert not list((folder / "logs").iterdir())


def test_compiler_that_is_killed_or_missing_is_a_failure_with_words(tools: FakeTools, folder: Path):
    script = folder.parent / "cc"
    folder.parent.mkdir()
    script.write_text("#!/bin/sh\nkill -9 $$\n")
    script.chmod(0o755)

    class Killed(FakeTools):
        command = (str(script),)

    assert "signal 9; is there enough memory?" in make(Killed(tools.folder), folder, some_specs(1)).failed[0].error
    script.unlink()
    assert "not found" in make(Killed(tools.folder), folder, some_specs(1)).failed[0].error


def test_warnings_are_kept(tools: FakeTools, folder: Path):
    tools.set("warn", "1")
    (entry,) = make(tools, folder, some_specs(1)).manifest.kernels
    assert "loop not unrolled" in (folder / entry.log).read_text()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"args": ()}, "template and spec must agree"),
        ({"max_flat_workgroup_size": 64}, "compiled for at most 64 work-items, the spec launches 128"),
        ({"wave": 64}, "waves of 64 lanes, gfx1151 runs 32"),
    ],
)
def test_code_object_that_is_not_what_the_spec_says_is_a_failure(
    tools: FakeTools, folder: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, object], words: str
):
    def misread(image: bytes, what: str) -> CodeObject:
        code = read_fake(image, what)
        (kernel,) = code.kernels.values()
        return replace(code, kernels={kernel.symbol: replace(kernel, **wrong)})

    monkeypatch.setattr("kgen.build.entry.read_binary", misread)
    (failure,) = make(tools, folder, some_specs(1)).failed
    assert words in failure.error


@pytest.mark.parametrize("damage", ["altered", "truncated", "removed"])
@pytest.mark.parametrize("what", ["path", "source_path"])
def test_damaged_file_is_made_again(tools: FakeTools, folder: Path, damage: str, what: str):
    first = make(tools, folder, some_specs(3))
    before = contents(folder)
    tools.calls()
    victim = folder / getattr(first.manifest.kernels[1], what)
    data, times = victim.read_bytes(), (victim.stat().st_atime_ns, victim.stat().st_mtime_ns)
    if damage == "removed":
        victim.unlink()
    else:
        victim.write_bytes(b"~" + data[1:] if damage == "altered" else data[:-1])
        os.utime(victim, ns=times)  # believe contents, not times
    result = make(tools, folder, some_specs(3))
    assert contents(folder) == before
    assert tools.calls() == ([result.manifest.kernels[1].name] if what == "path" else [])


@pytest.mark.parametrize("text", ["", "{", '{"schema": 2}', "\x00" * 100])
def test_damaged_manifest_is_mended_by_building(tools: FakeTools, folder: Path, text: str):
    make(tools, folder, some_specs(2))
    before = contents(folder)
    (folder / "manifest.json").write_text(text)
    make(tools, folder, some_specs(2))
    assert contents(folder) == before


def test_manifest_edited_by_hand_is_put_right_without_compiling(tools: FakeTools, folder: Path):
    make(tools, folder, some_specs(2))
    before = contents(folder)
    tools.calls()
    data = json.loads((folder / "manifest.json").read_text())
    data["kernels"][0]["vgpr"] = 1
    (folder / "manifest.json").write_text(json.dumps(data))
    make(tools, folder, some_specs(2))
    assert (contents(folder), tools.calls()) == (before, [])


def test_another_compiler_rebuilds_and_removes_what_is_stale(tools: FakeTools, folder: Path):
    old = make(tools, folder, some_specs(3)).manifest
    tools.calls()
    new = make(replace(tools, identity="fake 2.0"), folder, some_specs(2)).manifest
    assert tools.calls() == names(some_specs(2))
    assert list(new.entries) == names(some_specs(2))  # the third is not current any more and was not asked for
    assert not any((folder / entry.path).exists() for entry in old.kernels)
    assert not (folder / old.entries[some_specs(3)[2].name].source_path).exists()


def test_changed_code_of_kgen_keeps_kernels_whose_key_is_the_same(
    tools: FakeTools, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    make(tools, folder, some_specs(3))
    before = contents(folder)
    tools.calls()
    monkeypatch.setattr("kgen.build.make.environment_digest", lambda *a: "another")
    result = make(tools, folder, some_specs(1))
    assert (contents(folder), tools.calls(), result.compiled) == (before, [], 0)


def test_files_of_others_are_left_alone(tools: FakeTools, folder: Path):
    theirs = {"dispatch/wvsplitk.json": b"{}", "notes.txt": b"mine", "k.hsaco": b"no key in its name"}
    for name, data in theirs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    make(tools, folder, some_specs(1))
    assert theirs.items() <= contents(folder).items()


def test_half_done_files_of_a_killed_build_are_removed_and_not_believed(tools: FakeTools, folder: Path):
    plan = dry_run(some_specs(2), arch=ARCH, folder=folder, tools=tools)
    assert not folder.exists()  # a dry run touches nothing
    home = BuildFolder(folder)
    home.temp.mkdir(parents=True)
    (home.temp / "cc-123.o").write_text("half")
    (home.work / f"{plan.edges[0].object_file}.part").write_text("half")
    (folder / plan.edges[0].object_file).write_text(
        "half"
    )  # under its final name, but nobody said that it was finished
    (folder / ".manifest.json.part").write_text("half")
    home.journal.write_text("0123 torn")
    assert make(tools, folder, some_specs(2)).compiled == 2
    assert {p.name for p in home.work.iterdir()} == {"lock", "stamp.json"}
    assert not (folder / ".manifest.json.part").exists()


def test_journalled_kernel_is_taken_over_only_if_it_is_whole(tools: FakeTools, folder: Path):
    kernels = make(tools, folder, some_specs(3)).manifest.kernels
    tools.calls()
    home = BuildFolder(folder)
    lines = [f"{entry.digest} {entry.path}\n" for entry in kernels]
    home.journal.write_text("".join(lines)[:-9])  # the last line is torn
    home.manifest.unlink()
    (folder / kernels[1].path).write_bytes(b"altered")
    make(tools, folder, some_specs(3))
    assert tools.calls() == [kernels[1].name, kernels[2].name]


def test_disk_full_under_the_compiler_loses_nothing(tools: FakeTools, folder: Path):
    make(tools, folder, some_specs(2))
    before = contents(folder)
    tools.calls()
    tools.set("full", "_N4_")
    with pytest.raises(MissingPieceError, match=r"gfx1151: no space left on the device"):
        make(tools, folder, some_specs(4))
    assert before.items() <= contents(folder).items()
    assert len(load_manifest(folder).kernels) == 2
    assert not list((folder / ".work").rglob("*.part"))
    tools.calls()
    tools.unset("full")
    assert make(tools, folder, some_specs(4)).failed == []
    assert tools.calls() == [some_specs(4)[3].name]  # the third was finished before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_disk_full_under_the_manifest_keeps_the_old_one(
    tools: FakeTools, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    make(tools, folder, some_specs(2))
    before = contents(folder)

    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MissingPieceError, match="KGEN_BUILD_DIR"):
        make(tools, folder, some_specs(3))
    assert before.items() <= contents(folder).items()
    assert not list(folder.glob(".*.part"))
    assert tools.calls() == names(some_specs(3))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    assert make(tools, folder, some_specs(3)).compiled == 0  # the third was finished before


def test_folder_that_cannot_be_made_is_said(tools: FakeTools, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(MissingPieceError, match="KGEN_BUILD_DIR"):
        make(tools, tmp_path / "file" / ARCH, some_specs(1))


def test_spec_of_another_target_is_refused(tools: FakeTools, folder: Path):
    with pytest.raises(SpecError, match=r"(?s)build for gfx1151.*gfx1100"):
        make(tools, folder, [a_spec(), a_spec(arch="gfx1100")])


def test_kernels_with_the_same_instructions_and_launch_are_twins(tools: FakeTools, folder: Path):
    manifest = make(tools, folder, some_specs(3)).manifest
    assert [entry.twin_of for entry in manifest.kernels] == [None] * 3
    one, two, three = manifest.kernels
    like = two.model_copy(update={"code_digest": one.code_digest})
    other_launch = three.model_copy(update={"code_digest": one.code_digest, "block": (64, 1, 1)})
    assert [e.twin_of for e in mark_twins([other_launch, like, one])] == [None, one.name, None]


def test_rows_lead_to_the_files(tools: FakeTools, folder: Path):
    tools.set("fail", "_N2_")
    result = make(tools, folder, some_specs(2))
    good, bad = rows(result.manifest, result.folder)
    assert Path(good["path"]).is_file()
    assert (bad["path"], bad["status"], bad["error"]) == (None, "failed", result.failed[0].error)
    assert Path(bad["log"]).is_file()
    json.dumps([good, bad])
