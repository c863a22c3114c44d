"""kgen build, report, render and isa."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kgen.build import BuildResult, Failure
from kgen.build.manifest import load_manifest
from kgen.dispatch import has_table
from kgen.spec.registry import tabled_names
from tests.cli.conftest import ARCH, NAMES, Run

CONTRACT = [
    "name",
    "family",
    "arch",
    "spec",
    "symbol",
    "path",
    "digest",
    "vgpr",
    "agpr",
    "sgpr",
    "lds_bytes",
    "scratch_bytes",
    "vgpr_spills",
    "sgpr_spills",
    "occupancy",
    "limited_by",
    "code_bytes",
    "status",
    "error",
]


@pytest.mark.hipcc
def test_build_compiles_kernels_and_tables_and_prints_what_they_take(
    run: Run, few_kernels, nothing_built: Path, small_build: Path
):
    shutil.copytree(small_build, nothing_built, dirs_exist_ok=True)
    ran = run("build", "--arch", ARCH)
    assert ran.code == 0
    assert ran.out.splitlines()[0].split()[:2] == ["VGPR", "SGPR"]
    assert all(name in ran.out for name in NAMES)
    assert "3 kernels, 0 compiled now" in ran.out
    tables = nothing_built / ARCH / "dispatch"
    wanted = {f"{family}.{ending}" for family in tabled_names() if has_table(family, ARCH) for ending in ("h", "json")}
    assert {path.name for path in tables.iterdir()} == wanted


@pytest.mark.hipcc
def test_json_has_the_keys_that_scripts_rely_on(run: Run, built: Path):
    rows = json.loads(run("report", "--arch", ARCH, "--json").out)
    assert [row["name"] for row in rows] == sorted(NAMES)
    assert all(set(CONTRACT) <= row.keys() for row in rows)
    assert all(Path(row["path"]).is_file() and row["vgpr_spills"] == 0 for row in rows)


@pytest.mark.hipcc
def test_a_dry_run_names_what_it_would_compile_and_makes_nothing(run: Run, few_kernels, nothing_built: Path):
    ran = run("build", "--arch", ARCH, "--dry-run")
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == "3 kernels would be compiled"
    assert not any(nothing_built.iterdir())


@pytest.mark.hipcc
def test_failed_kernels_end_with_3_and_the_compilers_words(run: Run, few_kernels, built: Path, monkeypatch):
    manifest = load_manifest(built / ARCH)
    failed = [Failure(NAMES[0], "k.hip:3: error: no such thing", built / "log")]
    monkeypatch.setattr("kgen.build.build", lambda *_, **__: BuildResult(built / ARCH, manifest, failed))
    monkeypatch.setattr("kgen.dispatch.emit.compile_tables", lambda *_: [])
    ran = run("build", "--arch", ARCH)
    assert ran.code == 3
    assert "1 kernel could not be built; the rest are done" in ran.err
    assert "error: no such thing" in ran.err
    assert str(built / "log") in ran.err


def test_a_missing_compiler_is_this_machine_and_has_a_cure(run: Run, few_kernels, nothing_built: Path, monkeypatch):
    monkeypatch.setenv("KGEN_HIPCC", str(nothing_built / "hipcc"))
    ran = run("build", "--arch", ARCH)
    assert ran.code == 2
    assert "no compiler on this machine" in ran.err
    assert "KGEN_HIPCC" in ran.err
    assert "Traceback" not in ran.err


def test_an_unknown_target_is_your_input(run: Run):
    ran = run("build", "--arch", "gfx1152,gfx942")
    assert ran.code == 1
    assert "'gfx1152'" in ran.err
    assert "allowed: gfx1151, gfx1100" in ran.err


def test_impossible_parameters_say_what_is_allowed_and_what_to_try(run: Run):
    name = "wvsplitk_bf16_N8_THRDS64_YTILE8_WvPrGrp32_A_CHUNK32_UNRL8_STAGINGlds"
    ran = run("render", name, "--arch", "gfx1151")
    assert ran.code == 1
    for words in ("not a possible kernel", "THRDS", "allowed: 32, the wave of gfx1151", "try:"):
        assert words in ran.err


def test_a_fixed_reduction_that_is_no_multiple_of_eight_is_refused(run: Run):
    ran = run("render", f"{NAMES[0]}_K1001", "--arch", ARCH)
    assert ran.code == 1
    assert "K = 1000" in ran.err


def test_render_prints_the_source(run: Run):
    ran = run("render", NAMES[0], "--arch", ARCH)
    assert ran.code == 0
    assert NAMES[0] in ran.out
    assert "accumulate(sum" in ran.out


def test_render_writes_a_set_and_a_dry_run_does_not(run: Run, tmp_path: Path):
    words = ("render", "--set", "default", "--arch", ARCH, "--out", str(tmp_path / "src"))
    assert run(*words, "--dry-run").code == 0
    assert not (tmp_path / "src").exists()
    ran = run(*words)
    assert sorted(map(str, (tmp_path / "src").iterdir())) == sorted(ran.out.split())


def test_report_of_nothing_names_the_cure(run: Run, nothing_built: Path):
    ran = run("report", "--arch", ARCH)
    assert ran.code == 1
    assert f"`kgen build --arch {ARCH}`" in ran.err


def test_a_corrupt_manifest_is_named(run: Run, nothing_built: Path):
    (nothing_built / ARCH).mkdir()
    (nothing_built / ARCH / "manifest.json").write_text('{"schema": 1, "arch":')
    ran = run("report", "--arch", ARCH)
    assert ran.code == 1
    assert "manifest.json: damaged" in ran.err


@pytest.mark.hipcc
def test_isa_of_one_kernel_counts_its_hot_loop(run: Run, built: Path):
    report = json.loads(run("isa", NAMES[0], "--arch", ARCH, "--json").out)
    assert {"instructions", "lane_macs", "per_lane_mac", "opcodes"} <= report["loop"].keys()
    assert report["opcodes"]["v_dot2_f32_bf16"] > 0
    text = run("isa", NAMES[0], "--arch", ARCH).out
    assert "instructions per multiply-add of a lane" in text
    assert "v_dot2_f32_bf16" in text


@pytest.mark.hipcc
def test_isa_of_two_kernels_is_their_difference(run: Run, built: Path):
    ran = run("isa", f"{ARCH}/bf16,YTILE1", f"{ARCH}/fp16", "--json")
    change = json.loads(ran.out)
    assert not change["identical"]
    assert change["opcodes"]["v_dot2_f32_bf16"]["b"] == 0
    assert {"a", "b", "resources", "loop"} <= change.keys()
    assert "opcodes in the hot loop" in run("isa", f"{ARCH}/bf16,YTILE1", f"{ARCH}/fp16").out


@pytest.mark.hipcc
def test_a_kernel_is_its_own_twin(run: Run, built: Path):
    assert "twins" in run("isa", NAMES[0], NAMES[0], "--arch", ARCH).out


@pytest.mark.hipcc
def test_a_word_that_many_kernels_share_is_your_input(run: Run, built: Path):
    ran = run("isa", "wvsplitk", "--arch", ARCH)
    assert ran.code == 1
    assert "3 kernels" in ran.err
