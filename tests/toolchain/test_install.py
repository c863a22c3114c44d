import errno
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kgen.errors import ToolchainError
from kgen.toolchain import install as module
from kgen.toolchain.install import install, remove
from kgen.toolchain.lock import Lock, Locked, write_lock
from kgen.toolchain.prefix import installed, read_prefix
from tests.toolchain.fake_archive import lock_of, plain_verify, toolchain_tree


@pytest.fixture
def packages(archive):
    """Two packages of one suite and one of another, published and locked."""
    clang = archive.add("clang-22", "1:22.1.8-1", toolchain_tree())
    lld = archive.add("lld-22", "1:22.1.8-1", {"./usr/lib/llvm-22/bin/lld": b"#!/bin/sh\n"})
    hipcc = archive.add(
        "hipcc", "7.2.4-1", {"./usr/bin/hipcc": b"#!/bin/sh\n", "./usr/lib/x86_64-linux-gnu/libc.so.6": b"c"}
    )
    archive.publish("suite", [clang, lld])
    archive.publish("new", [hipcc])
    return clang, lld, hipcc


@pytest.fixture
def lock(packages):
    clang, lld, hipcc = packages
    return lock_of((clang, "suite", "llvm"), (lld, "suite", "llvm"), (hipcc, "new", "hipcc"))


def run(archive, lock, root, **more):
    options = {"verify": plain_verify, "check": lambda prefix: None, **more}
    return install(archive=archive.url, root=root, lock=lock, **options)


def leftovers(root):
    return sorted(path.name for path in root.iterdir() if path.name != ".lock")


def test_an_installation_is_whole_and_nothing_else_stays(archive, lock, tmp_path):
    done = run(archive, lock, tmp_path)
    assert done.fresh
    assert done.notes == ()
    assert leftovers(tmp_path) == [lock.id]
    root = done.prefix.root
    assert (root / "usr/lib/llvm-22/bin/clang++").resolve() == root / "usr/lib/llvm-22/bin/clang"
    assert (root / "usr/lib/llvm-22/lib/libLLVM.so.22.1").read_bytes().startswith(b"one")
    assert (root / "hipcc/libc.so.6").is_file()
    assert not (root / "usr/share").exists()
    for script in ("bin/clang", "bin/clang++", "bin/hipcc"):
        assert os.access(root / script, os.X_OK)
    assert installed(tmp_path) == done.prefix


def test_the_start_script_works_from_a_moved_folder_with_a_space(archive, lock, tmp_path):
    root = run(archive, lock, tmp_path).prefix.root
    moved = tmp_path / "another place"
    root.rename(moved)
    assert subprocess.run([moved / "bin/clang"], capture_output=True, text=True).stdout == "fake\n"
    assert read_prefix(moved).hipcc is None  # hipcc does not quote paths


def test_what_is_installed_is_not_fetched_again(archive, lock, tmp_path):
    run(archive, lock, tmp_path)
    archive.asked.clear()
    assert not run(archive, lock, tmp_path).fresh
    assert archive.asked == []
    assert run(archive, lock, tmp_path, force=True).fresh


def test_the_lock_alone_is_proof_enough(archive, lock, tmp_path):
    def refuse(signed, where):
        raise AssertionError("no index is needed")

    run(archive, lock, tmp_path, verify=refuse)
    assert all(path.startswith("pool/") for path, _ in archive.asked)


def test_a_file_that_is_gone_is_resolved_from_the_signed_index_with_its_suite(archive, lock, packages, tmp_path):
    clang, lld, _ = packages
    del archive.files[clang.file]
    fresh = [
        archive.add("clang-22", "1:22.1.9-1", toolchain_tree(b"two")),
        archive.add("lld-22", "1:22.1.9-1", {"./usr/lib/llvm-22/bin/lld": b"#!/bin/sh\n# newer\n"}),
    ]
    archive.publish("suite", [*fresh, clang, lld])
    done = run(archive, lock, tmp_path)
    assert done.prefix.versions == {"clang-22": "1:22.1.9-1", "lld-22": "1:22.1.9-1", "hipcc": "7.2.4-1"}
    assert "clang-22: not in the archive as locked" in done.notes[0]
    assert done.prefix.id != lock.id
    assert installed(tmp_path) == done.prefix  # found although the lock names another one


def test_a_tampered_package_is_refused(archive, lock, packages, tmp_path):
    clang = packages[0]
    data = archive.files[clang.file]
    archive.files[clang.file] = data[:-10] + bytes(10)
    with pytest.raises(
        ToolchainError, match=rf"(?s)clang-22.*was refused: expected {clang.size} bytes, SHA256 {clang.sha256}"
    ):
        run(archive, lock, tmp_path)
    assert installed(tmp_path) is None
    assert leftovers(tmp_path) == [".downloads"]


def test_a_bad_signature_is_refused(archive, lock, packages, tmp_path):
    del archive.files[packages[0].file]
    archive.files["dists/suite/InRelease"] += b"tampered"
    with pytest.raises(ToolchainError, match="InRelease was refused"):
        run(archive, lock, tmp_path)
    assert installed(tmp_path) is None


def test_a_real_signature_is_checked_by_gpgv(archive, key, tmp_path):
    archive.sign = key.sign
    old = archive.add("clang-22", "22.1-1", toolchain_tree())
    archive.publish("suite", [archive.add("clang-22", "22.2-1", toolchain_tree(b"two"))])
    lock = lock_of((old, "suite", "llvm"))
    del archive.files[old.file]
    done = run(archive, lock, tmp_path / "good", verify=None, keyring=key.keyring)
    assert done.prefix.versions == {"clang-22": "22.2-1"}
    archive.files["dists/suite/InRelease"] = archive.files["dists/suite/InRelease"].replace(
        b"Suite: suite", b"Suite: other"
    )
    with pytest.raises(ToolchainError, match="refused"):
        run(archive, lock, tmp_path / "bad", verify=None, keyring=key.keyring)


def test_a_guessed_security_archive_is_named_when_it_fails(archive, packages, tmp_path):
    lock = Lock("fake", (Locked(packages[0], "security", "suite", "llvm"),))
    main = f"{archive.url}/debian"  # its neighbour debian-security is not there
    with pytest.raises(ToolchainError, match=r"(?s)debian-security/dists.*address was guessed.*--security-archive URL"):
        install(archive=main, root=tmp_path, lock=lock, verify=plain_verify)


def test_a_compiler_that_does_not_run_here_is_not_installed(archive, lock, tmp_path):
    def check(prefix):
        raise ToolchainError("the unpacked clang++ does not work on this machine")

    with pytest.raises(ToolchainError, match="does not work on this machine"):
        run(archive, lock, tmp_path, check=check)
    assert installed(tmp_path) is None
    assert leftovers(tmp_path) == [".downloads"]
    archive.asked.clear()
    run(archive, lock, tmp_path)
    assert archive.asked == []  # the downloads were kept


def test_the_real_trial_refuses_a_compiler_that_makes_no_code_object(archive, lock, tmp_path):
    with pytest.raises(ToolchainError, match="not an AMD code object"):
        run(archive, lock, tmp_path, check=None)


def test_a_full_disk_is_said_and_leaves_nothing(archive, lock, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "unpack", full)
    with pytest.raises(ToolchainError, match=r"(?s)the disk is full.*KGEN_CACHE_DIR"):
        run(archive, lock, tmp_path)
    assert leftovers(tmp_path) == []


def test_too_little_space_is_said_before_anything_is_fetched(archive, lock, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100})())
    with pytest.raises(ToolchainError, match=r"the disk is full: 0 MB are free"):
        run(archive, lock, tmp_path)
    assert archive.asked == []


def test_a_cache_folder_that_cannot_be_made_is_said(archive, lock, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ToolchainError, match=r"(?s)cannot be used.*KGEN_CACHE_DIR"):
        run(archive, lock, tmp_path / "file" / "below")


def test_two_installations_at_once_do_the_work_once(archive, lock, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: run(archive, lock, tmp_path), range(2)))
    assert sorted(one.fresh for one in done) == [False, True]
    assert len(archive.asked) == len(lock.packages)


KILLED = """
import sys
sys.path.insert(0, {repo!r})
from tests.toolchain.fake_archive import plain_verify
from kgen.toolchain.install import install
from kgen.toolchain.lock import read_lock
from pathlib import Path
install(archive={url!r}, root=Path({root!r}), lock=read_lock(Path({lock!r})), verify=plain_verify, check=lambda prefix: None)
"""


def test_a_killed_installation_leaves_none_and_the_next_one_goes_on(archive, lock, packages, tmp_path):
    root, lock_file = tmp_path / "root", tmp_path / "lock.toml"
    write_lock(lock, lock_file)
    archive.pause, archive.cut[packages[0].file] = threading.Event(), 200
    repo = str(Path(__file__).parents[2])
    script = KILLED.format(repo=repo, url=archive.url, root=str(root), lock=str(lock_file))
    child = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "no_proxy": "127.0.0.1"})
    part = root / ".downloads" / f"{packages[0].sha256}.deb.part"
    for _ in range(600):
        if child.poll() is not None or (part.is_file() and part.stat().st_size == 0 and len(archive.asked) == 3):
            break
        threading.Event().wait(0.05)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it was still at work"
    archive.pause.set()
    archive.pause = None
    (root / ".unpack-1").mkdir()  # as a run killed later would leave it
    assert installed(root) is None
    part.write_bytes(archive.files[packages[0].file][:200])  # what the dead run's buffer may or may not have written
    archive.asked.clear()
    assert run(archive, lock, root).fresh
    assert leftovers(root) == [lock.id]
    assert (packages[0].file, "bytes=200-") in archive.asked


def test_removing_takes_everything(archive, lock, tmp_path):
    done = run(archive, lock, tmp_path)
    assert remove(tmp_path) == [done.prefix.root]
    assert installed(tmp_path) is None
    assert remove(tmp_path) == []
    assert remove(tmp_path / "never was") == []


def test_a_folder_without_its_mark_is_no_installation(archive, lock, tmp_path):
    done = run(archive, lock, tmp_path)
    (done.prefix.root / "kgen-toolchain.json").write_text("{half")
    assert installed(tmp_path) is None
    assert run(archive, lock, tmp_path).fresh
