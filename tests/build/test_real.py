"""The same with a real compiler: entries agree with their specs, a killed build resumes, bytes do not depend on the folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kgen.build import build, load_manifest
from kgen.spec.wvsplitk import WvSplitKSpec
from kgen.toolchain.find import AmdToolchain
from tests.build.fakes import ARCH, a_spec

pytestmark = pytest.mark.hipcc

SPECS = [a_spec(N=n, STAGING=staging) for n in (1, 2) for staging in ("lds", "window", "global")]


def test_entries_say_what_the_code_object_is(real_tools: AmdToolchain, tmp_path: Path):
    manifest = build(SPECS, arch=ARCH, folder=tmp_path / ARCH, tools=real_tools).manifest
    for spec in SPECS:
        entry = manifest.entries[spec.name]
        assert entry.built, entry.error
        assert WvSplitKSpec(**entry.spec) == spec
        assert entry.symbol == spec.name
        assert entry.lds_bytes == spec.static_lds
        assert entry.block == (spec.threads, 1, 1)
        assert entry.kernarg_bytes == 56
        assert 0 < entry.vgpr <= spec.facts.max_vgprs
        assert 0 < entry.occupancy <= spec.facts.max_waves_per_simd
        assert entry.vgpr_spills == entry.scratch_bytes == 0
        assert entry.image(tmp_path / ARCH)[:4] == b"\x7fELF"


def test_code_objects_and_manifest_do_not_depend_on_the_folder(real_tools: AmdToolchain, tmp_path: Path):
    for name in ("a", "a longer name"):
        build(SPECS[:2], arch=ARCH, folder=tmp_path / name / ARCH, tools=real_tools)
    one, other = (load_manifest(tmp_path / name / ARCH) for name in ("a", "a longer name"))
    assert one == other


def test_source_that_does_not_compile_keeps_the_compiler_s_words(
    real_tools: AmdToolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from dataclasses import replace

    import kgen.build.plan
    from kgen.render import render

    def broken(spec: WvSplitKSpec):
        source = render(spec)
        return replace(source, text=source.text + "\nint f() { return nowhere; }\n") if spec.N == 2 else source

    monkeypatch.setattr(kgen.build.plan, "render", broken)
    result = build(SPECS[::3], arch=ARCH, folder=tmp_path / ARCH, tools=real_tools)
    (failure,) = result.failed
    assert "use of undeclared identifier 'nowhere'" in failure.error
    assert failure.log is not None
    assert "return nowhere" in failure.log.read_text()
    assert [entry.status for entry in result.manifest.kernels] == ["ok", "failed"]


def test_killed_build_resumes(real_tools: AmdToolchain, tmp_path: Path):
    folder = tmp_path / ARCH
    code = (
        "from pathlib import Path; from kgen.build import build; from tests.build.test_real import SPECS, ARCH;"
        f"build(SPECS, arch=ARCH, folder=Path({str(folder)!r}), jobs=1, progress=lambda *a: print(*a, flush=True))"
    )
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("2 "):
            break
    process.kill()
    process.wait()
    result = build(SPECS, arch=ARCH, folder=folder, tools=real_tools)
    assert result.failed == []
    assert 0 < result.compiled < len(SPECS)
    assert all(entry.image(folder) for entry in result.manifest.kernels)
