"""Install kgen's own compiler into the cache folder: no root, every byte verified, whole or not at all.

One installation runs at a time (a lock that the kernel drops when its holder dies). Downloads go to temporary names and are
continued by the next run; the tree is unpacked into a temporary folder, tried out, and renamed into place.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kgen.errors import ToolchainError
from kgen.toolchain.archive import Index, Verify, machine_keyrings, machine_verifier
from kgen.toolchain.deb import unpack
from kgen.toolchain.fetch import GoneError, MismatchError, fetch_file, join
from kgen.toolchain.lock import Lock, Locked, read_lock, resolve_again
from kgen.toolchain.prefix import PLACES, Prefix, finish, read_prefix, toolchain_dir
from kgen.toolchain.progress import Progress, Quiet
from kgen.toolchain.sources import Archives, find_archives

THREADS = 4
UNPACKED_PER_BYTE = 4.4  # 67 MB of packages make about 290 MB of files


@dataclass(frozen=True)
class Installed:
    """What `install` did. `fresh` is False when it was there already; `notes` holds what is odd but not wrong."""

    prefix: Prefix
    fresh: bool
    notes: tuple[str, ...] = ()


def remove(root: Path | None = None) -> list[Path]:
    """Delete every installation and every left-over download; returns what was deleted."""
    root = root or toolchain_dir()
    if not root.is_dir():
        return []
    with _one_at_a_time(root, Quiet()):
        gone = [path for path in root.iterdir() if path.is_dir()]
        for path in gone:
            _discard(path)
    return [path for path in gone if not path.name.startswith(".")]


def install(
    *,
    archive: str | None = None,
    security_archive: str | None = None,
    keyring: Path | None = None,
    progress: Progress | None = None,
    root: Path | None = None,
    lock: Lock | None = None,
    verify: Verify | None = None,
    check: Callable[[Prefix], None] | None = None,
    force: bool = False,
) -> Installed:
    """Install the toolchain, unless it is there already.

    archive, security_archive  addresses of a Debian mirror; default: this machine's apt sources
    keyring                    Debian keyring for the index's signature; default: this machine's
    root                       folder of installations; default: `toolchain/` in the cache folder
    lock, verify, check        for tests: other packages, another judge of signatures, another trial of the result

    Raises ToolchainError when the archive cannot be reached, a file is not what it should be, the disk is full, or the compiler does
    not run here. Nothing is then left but downloads that the next run continues.
    """
    root, lock, progress = root or toolchain_dir(), lock or read_lock(), progress or Quiet()
    with _clear_disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(root, progress):
            have = read_prefix(root / lock.id)
            if have is not None and not force:
                return Installed(have, fresh=False)
            archives = find_archives(archive, security_archive)
            job = _Job(root, archives, progress, check or _try_out)
            return job.run(lock, lambda: Index(verify or machine_verifier(_keyrings(keyring, archives))))


def _keyrings(keyring: Path | None, archives: Archives) -> list[Path]:
    if keyring is not None and not keyring.is_file():
        raise ToolchainError(f"keyring {keyring} is not a file")
    return [keyring] if keyring else machine_keyrings(archives.keyrings)


def _try_out(prefix: Prefix) -> None:
    """Compile one kernel with the new compiler: a C library that is too old, or a missing one, shows here."""
    from kgen.toolchain.probe import try_compiler

    for name in ("clang++", "hipcc"):
        path = prefix.root / "bin" / name
        if name == "hipcc" and prefix.hipcc is None:
            continue
        reason = try_compiler((str(path),), "hipcc" if name == "hipcc" else "clang", "gfx1151", {"HIP_PLATFORM": "amd"})
        if reason:
            raise ToolchainError(f"the unpacked {name} does not work on this machine\n  {reason}")


class _Job:
    """One installation: fetch and unpack in a few threads, then rename."""

    def __init__(self, root: Path, archives: Archives, progress: Progress, check: Callable[[Prefix], None]):
        self.root, self.archives, self.progress, self.check = root, archives, progress, check
        self.downloads = root / ".downloads"
        self.notes: list[str] = []

    def run(self, lock: Lock, make_index: Callable[[], Index]) -> Installed:
        """Fetch what the lock names, resolving suites again that have moved on; then unpack, try out, rename."""
        self.downloads.mkdir(exist_ok=True)
        _sweep(self.root)
        self._check_space(lock)
        wrong = self._fetch_all(lock)
        if wrong:
            suites = sorted({locked.suite for locked in wrong})
            gone = ", ".join(locked.package.name for locked in wrong)
            self.progress.stage(f"{gone}: not as locked; asking the signed index of {', '.join(suites)}")
            index = make_index()
            try:
                lock = resolve_again(lock, suites, self.archives, index)
            except ToolchainError as error:
                raise ToolchainError(f"{error}{self._about_guess(wrong)}") from error
            self.notes += [f"{gone}: not in the archive as locked; taken from the signed index instead", *index.notes]
            wrong = self._fetch_all(lock, errors_are_final=True)
        goal = self.root / lock.id
        tree = self.root / f".unpack-{os.getpid()}"
        try:
            self._unpack_all(lock, tree)
            finish(tree, lock)
            self.progress.stage("trying the compiler")
            made = read_prefix(tree)
            assert made is not None, "finish wrote the mark"
            self.check(made)
            _discard(goal)
            os.replace(tree, goal)
        finally:
            _discard(tree)
        _discard(self.downloads)
        done = read_prefix(goal)
        assert done is not None, "a whole tree was renamed"
        return Installed(done, fresh=True, notes=tuple(self.notes))

    def _check_space(self, lock: Lock) -> None:
        need = int(lock.download_bytes * (1 + UNPACKED_PER_BYTE))
        free = shutil.disk_usage(self.root).free
        if free < need:
            raise OSError(errno.ENOSPC, f"{free >> 20} MB are free, about {need >> 20} MB are needed")

    def _fetch_all(self, lock: Lock, *, errors_are_final: bool = False) -> list[Locked]:
        """Fetch every package; returns those that the archive no longer has as locked. Other errors are raised."""
        self.progress.stage(f"downloading {len(lock.packages)} packages")
        self.progress.total(lock.download_bytes)
        wrong: list[Locked] = []
        guard = threading.Lock()

        def fetch(locked: Locked) -> None:
            package = locked.package
            url = join(self.archives.base(locked.archive), package.file)
            try:
                fetch_file(
                    url, self.downloads / f"{package.sha256}.deb", package.size, package.sha256, self.progress.advance
                )
            except (GoneError, MismatchError) as error:
                if errors_are_final:
                    raise ToolchainError(f"{error}{self._about_guess([locked])}") from error
                with guard:
                    wrong.append(locked)

        _in_threads(fetch, sorted(lock.packages, key=lambda locked: -locked.package.size))
        return wrong

    def _about_guess(self, wrong: list[Locked]) -> str:
        if not self.archives.guessed or all(locked.archive != "security" for locked in wrong):
            return ""
        return "\n  the security archive's address was guessed from the main one; name it with --security-archive URL"

    def _unpack_all(self, lock: Lock, tree: Path) -> None:
        self.progress.stage("unpacking")
        self.progress.total(lock.download_bytes)
        tree.mkdir()

        def one(locked: Locked) -> None:
            unpack(self.downloads / f"{locked.package.sha256}.deb", tree, PLACES[locked.room])
            self.progress.advance(locked.package.size)

        _in_threads(one, sorted(lock.packages, key=lambda locked: -locked.package.size))


def _in_threads(work: Callable[[Locked], None], items: list[Locked]) -> None:
    """Run the work for every item; the first error stops what has not started and is raised."""
    pool = ThreadPoolExecutor(min(THREADS, len(items) or 1))
    try:
        futures = [pool.submit(work, item) for item in items]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _sweep(root: Path) -> None:
    """Delete trees that a killed run left behind (this process holds the lock, so nobody is at work in them)."""
    for path in root.glob(".unpack-*"):
        _discard(path)
    for path in root.glob(".gone-*"):
        _discard(path)


def _discard(path: Path) -> None:
    """Delete a folder so that nobody ever sees half of it under its name."""
    if not path.is_dir():
        return
    gone = path.with_name(f".gone-{os.getpid()}-{path.name.lstrip('.')}")
    os.replace(path, gone)
    shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def _one_at_a_time(root: Path, progress: Progress) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(root / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.stage("another installation is at work; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _clear_disk_errors(root: Path) -> Iterator[None]:
    """A full or read-only disk becomes one clear sentence, and its downloads do not stay in the way."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            for path in (root / ".downloads", *root.glob(".unpack-*")):
                shutil.rmtree(path, ignore_errors=True)
            raise ToolchainError(
                f"the disk is full: {error.strerror} ({root})\n  try: free some space, or set KGEN_CACHE_DIR to a folder on another disk"
            ) from error
        raise ToolchainError(
            f"{root} cannot be used: {error}\n  try: set KGEN_CACHE_DIR to a folder that you may write to"
        ) from error
