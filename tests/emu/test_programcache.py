"""Decoded programs on disk: a second process needs no instruction tables, and damage is silently repaired."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from kgen.emu import Module, library, programcache
from kgen.emu.decode import tables
from kgen.errors import MissingPieceError
from tests.emu.compiler import compiled
from tests.emu.harness import on, same


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A cache folder without decoded programs (the engine stays where it is)."""
    library.load()
    monkeypatch.setenv("KGEN_CACHE_DIR", str(tmp_path))
    return tmp_path / "emulator" / "programs"


def add(module):
    a, c = np.arange(64, dtype="f4"), np.zeros(64, "f4")
    stats = module.run("vadd", 1, 64, [a, a, c, np.int32(64)])
    same(c, 2 * a)
    return stats.instructions


@on("gfx1151")
def test_a_second_process_does_not_import_tinygrad(t, tmp_path):
    file = tmp_path / "k.hsaco"
    file.write_bytes(compiled(t.gfx))
    add(Module(file.read_bytes()))
    code = (
        "import sys, numpy as np\n"
        "from kgen.emu import Module\n"
        f"m = Module.from_file({str(file)!r})\n"
        "a = np.ones(64, 'f4')\n"
        "m.run('vadd', 1, 64, [a, a, a, np.int32(64)])\n"
        "assert (a == 2).all()\n"
        "assert not [m for m in sys.modules if m.startswith('tinygrad')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@on("gfx1151", "gfx942")
def test_a_cached_program_runs_like_a_decoded_one(t, empty_cache):
    first = Module(compiled(t.gfx))
    count = add(first)
    assert len(list(empty_cache.iterdir())) == 1
    second = Module(compiled(t.gfx))
    assert [i for i in second.program.items if i] == [i for i in first.program.items if i]
    assert add(second) == count


@on("gfx1151")
def test_a_damaged_cache_file_is_decoded_again(t, empty_cache):
    add(Module(compiled(t.gfx)))
    (file,) = empty_cache.iterdir()
    good = file.read_bytes()
    rng = np.random.default_rng(0)
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for damaged in (b"", b"x", good[:-1], good[: len(good) // 2], good + b"y", bytes(flipped), rng.bytes(len(good))):
        file.write_bytes(damaged)
        module = Module(compiled(t.gfx))
        assert not module.program.items
        add(module)
        assert file.read_bytes() == good
    file.unlink()
    file.mkdir()  # not even a file
    add(Module(compiled(t.gfx)))


@on("gfx1151")
def test_a_cache_that_cannot_be_written_is_no_error(t, tmp_path, monkeypatch):
    library.load()
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("KGEN_CACHE_DIR", str(blocker))
    add(Module(compiled(t.gfx)))


@on("gfx1151")
def test_another_decoder_version_reads_nothing(t, empty_cache, monkeypatch):
    add(Module(compiled(t.gfx)))
    monkeypatch.setattr(programcache, "_decoder_version", lambda: "another")
    assert not Module(compiled(t.gfx)).program.items


def test_a_missing_tinygrad_is_answered_with_the_cure(monkeypatch):
    def absent(name):
        raise ImportError(f"No module named {name!r}")

    def not_found(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(tables.importlib, "import_module", absent)
    monkeypatch.setattr(tables.importlib.metadata, "version", not_found)
    with pytest.raises(MissingPieceError, match=r"pip install kgen\[emu\]") as caught:
        tables.Tables("rdna3")
    assert "tinygrad none" in str(caught.value)
    assert caught.value.exit_code == 2


def test_importing_the_emulator_is_light():
    heavy = "numpy torch tinygrad elftools msgpack subprocess"
    code = f"import sys, kgen.emu\nassert not set({heavy!r}.split()) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
