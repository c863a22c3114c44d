"""Building the engine: which compiler, what is said when there is none, and several processes at once."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys

import pytest

from kgen.emu import compilers, library
from kgen.errors import MissingPieceError
from tests.emu.compiler import toolchain

TINY = {"a.c": "int answer(void) { return 42; }\n"}


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine without compilers and with an empty cache folder."""
    empty = tmp_path / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.setenv("KGEN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("KGEN_CC", raising=False)
    monkeypatch.setattr(compilers.importlib.util, "find_spec", lambda name: None)
    return tmp_path


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """One small unit instead of the engine's."""
    folder = tmp_path / "sources"
    folder.mkdir()
    for name, text in TINY.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(compilers, "OPTIMISE", dict.fromkeys(TINY, "-O1"))
    return folder


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_machine_without_a_compiler_hears_the_cures(bare, tiny):
    with pytest.raises(MissingPieceError) as caught:
        compilers.build(tiny, tuple(TINY), "", bare / "out.so")
    words = str(caught.value)
    for cure in ("pip install ziglang", "any C compiler on PATH", "KGEN_CC"):
        assert cure in words
    assert caught.value.exit_code == 2
    assert not (bare / "out.so").exists()


def test_a_compiler_that_fails_is_quoted(bare, tiny, monkeypatch):
    monkeypatch.setenv("KGEN_CC", str(script(bare / "broken", "echo no such luck >&2; exit 3")))
    with pytest.raises(MissingPieceError, match="no such luck"):
        compilers.build(tiny, tuple(TINY), "", bare / "out.so")
    monkeypatch.setenv("KGEN_CC", str(bare / "absent"))
    with pytest.raises(MissingPieceError, match="absent"):
        compilers.build(tiny, tuple(TINY), "", bare / "out.so")


def test_compilers_are_tried_in_the_order_that_the_documentation_gives(bare, monkeypatch):
    for name in ("clang", "gcc", "cc"):
        script(bare / "bin" / name, "exit 0")
    own = bare / "cache" / "toolchain" / "clang22" / "bin"
    own.mkdir(parents=True)
    script(own / "clang", "exit 0")
    monkeypatch.setattr(compilers.importlib.util, "find_spec", lambda name: name == "ziglang")
    found = compilers.candidates()
    names = [os.path.basename(command[0]) for command in found]
    assert names[:4] == ["cc", "gcc", "clang", "clang"]
    assert found[3] == (str(own / "clang"),)
    assert found[-1] == (sys.executable, "-m", "ziglang", "cc")
    monkeypatch.setenv("KGEN_CC", "ccache gcc -g")
    assert compilers.candidates() == [("ccache", "gcc", "-g")]


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler on PATH")
def test_the_next_compiler_is_tried_when_one_fails(bare, tiny, monkeypatch):
    real = shutil.which("cc", path=os.defpath + os.pathsep + "/usr/local/bin")
    if real is None:
        pytest.skip("cc is in no standard folder")
    script(bare / "bin" / "cc", "exit 1")
    script(bare / "bin" / "gcc", f'PATH={os.defpath} exec {real} "$@"')
    compilers.build(tiny, tuple(TINY), "", bare / "out.so")
    assert (bare / "out.so").exists()


def test_a_cache_folder_that_cannot_be_written_is_named(bare, tiny):
    (bare / "file").write_text("")
    with pytest.raises(MissingPieceError, match="KGEN_CACHE_DIR"):
        compilers.build(tiny, tuple(TINY), "", bare / "file" / "below" / "out.so")


def test_the_engine_includes_no_system_header_and_is_linked_against_nothing():
    own = set(library.sources()) | {"ops.h"}
    for name, text in library.sources().items():
        for line in text.splitlines():
            if line.startswith("#include"):
                assert line.split()[1].strip('"') in own, f"{name}: {line}"
    from elftools.elf.elffile import ELFFile

    library.load()
    with open(library.path(), "rb") as file:
        dynamic = ELFFile(file).get_section_by_name(".dynamic")
        needed = [tag.needed for tag in dynamic.iter_tags() if tag.entry.d_tag == "DT_NEEDED"]
    assert needed == []


@pytest.mark.hipcc
def test_clang_accepts_every_unit_without_system_headers(tmp_path):
    tools = toolchain()
    if tools.flavour != "clang":
        pytest.skip("hipcc compiles no C")
    (tmp_path / "ops.h").write_text(library.ops_header())
    for unit in library.UNITS:
        line = [
            *tools.command,
            "-x",
            "c",
            *compilers.FLAGS,
            "-nostdinc",
            "-march=native",
            "-fsyntax-only",
            f"-I{tmp_path}",
        ]
        done = subprocess.run(
            [*line, str(library.SOURCES / unit)], capture_output=True, text=True, env={**os.environ, **tools.env}
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler on PATH")
def test_processes_that_build_at_once_end_with_one_good_library(tiny, tmp_path):
    out = tmp_path / "shared" / "out.so"
    code = (
        "import sys, ctypes, pathlib\n"
        "from kgen.emu import compilers\n"
        "compilers.OPTIMISE = {'a.c': '-O1'}\n"
        f"compilers.build(pathlib.Path({str(tiny)!r}), ('a.c',), '', pathlib.Path({str(out)!r}))\n"
        f"assert ctypes.CDLL({str(out)!r}).answer() == 42\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [p.wait() for p in running] == [0, 0, 0]
    assert [p.name for p in out.parent.iterdir()] == ["out.so"]


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler on PATH")
def test_a_damaged_engine_file_is_built_again(tmp_path, monkeypatch):
    good = library.path()
    library.load()
    whole = good.read_bytes()
    damaged = tmp_path / good.name
    built = []

    def build(sources, units, ops, target):
        built.append(target)
        target.with_suffix(".new").write_bytes(whole)
        os.replace(target.with_suffix(".new"), target)

    monkeypatch.setattr(compilers, "build", build)
    for data in (b"", whole[:1000], whole[:-1], whole[:5000] + b"x" + whole[5001:]):
        damaged.unlink(missing_ok=True)  # a new file: the old one is in use
        damaged.write_bytes(data)
        assert library.open_library(damaged).kgen_emu_sizes(0) > 0
    library.open_library(damaged)
    assert built == [damaged] * 4
