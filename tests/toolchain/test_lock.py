import re
from dataclasses import replace

import pytest

from kgen.errors import ToolchainError
from kgen.toolchain.archive import Index
from kgen.toolchain.lock import LOCK_FILE, Locked, read_lock, refresh_lock, resolve_again, write_lock
from kgen.toolchain.prefix import PLACES
from kgen.toolchain.sources import Archives
from tests.toolchain.fake_archive import lock_of, plain_verify


def test_the_shipped_lock_is_complete():
    lock = read_lock()
    names = {locked.package.name for locked in lock.packages}
    assert {"clang-22", "libllvm22", "lld-22", "hipcc", "rocm-device-libs-22"} <= names
    for locked in lock.packages:
        assert re.fullmatch(r"[0-9a-f]{64}", locked.package.sha256)
        assert locked.archive in ("main", "security")
        assert locked.room in PLACES
        assert locked.package.size > 0


def test_the_lock_holds_no_address():
    assert "://" not in LOCK_FILE.read_text()


def test_a_lock_reads_back_and_its_id_follows_the_content(tmp_path, archive):
    lock = lock_of((archive.add("a", "1-1", {"./a": b"a"}), "suite", "llvm"))
    write_lock(lock, tmp_path / "lock.toml")
    assert read_lock(tmp_path / "lock.toml") == lock
    other = lock_of((archive.add("a", "1-1", {"./a": b"b"}), "suite", "llvm"))
    assert other.id != lock.id


@pytest.mark.parametrize("text", ["", "schema = 1\n[[package]]\nname = 'a'\n", "not toml at all ["])
def test_a_damaged_lock_is_said_to_be_one(tmp_path, text):
    path = tmp_path / "lock.toml"
    path.write_text(text)
    with pytest.raises(ToolchainError, match=r"lock\.toml is not a lock file"):
        read_lock(path)


def test_a_lock_of_another_version_is_refused(tmp_path):
    path = tmp_path / "lock.toml"
    path.write_text("schema = 99\n")
    with pytest.raises(ToolchainError, match="schema 99, expected 1"):
        read_lock(path)


def test_one_suite_is_resolved_as_a_whole_and_others_stay(archive):
    old = [archive.add(name, "22.1-1", {"./a": name.encode()}) for name in ("clang", "lld", "other")]
    new = [archive.add(name, "22.2-1", {"./a": b"new" + name.encode()}) for name in ("clang", "lld")]
    archive.publish("suite", new)
    lock = lock_of((old[0], "suite", "llvm"), (old[1], "suite", "llvm"), (old[2], "elsewhere", "llvm"))
    fresh = resolve_again(lock, ["suite"], Archives(archive.url, archive.url), Index(plain_verify))
    assert [locked.package.version for locked in fresh.packages] == ["22.2-1", "22.2-1", "22.1-1"]


def test_another_major_version_is_not_taken(archive):
    lock = lock_of((archive.add("clang", "22.1-1", {"./a": b"a"}), "suite", "llvm"))
    archive.publish("suite", [archive.add("clang", "23.1-1", {"./a": b"b"})])
    with pytest.raises(ToolchainError, match=r"has no clang 22 \(found: 23.1-1\)"):
        resolve_again(lock, ["suite"], Archives(archive.url, archive.url), Index(plain_verify))


def test_refreshing_writes_the_lock_and_says_what_changed(archive, tmp_path):
    old = archive.add("clang", "22.1-1", {"./a": b"a"})
    new = replace(archive.add("clang", "22.2-1", {"./a": b"b"}))
    archive.publish("suite", [new])
    path = tmp_path / "lock.toml"
    write_lock(lock_of((old, "suite", "llvm")), path)
    said = []
    refresh_lock(Archives(archive.url, archive.url), Index(plain_verify), said.append, path)
    assert said == ["clang: 22.1-1 -> 22.2-1"]
    assert read_lock(path).packages == (Locked(new, "main", "suite", "llvm"),)
