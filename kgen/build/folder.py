"""A build folder on disk: paths, the lock, whole-file writes, the journal of finished compiles, and what may be thrown away."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kgen.errors import MissingPieceError

WORK = ".work"
"""Folder inside a build folder that holds what is under way."""

_OURS = re.compile(r".+-[0-9a-f]{16}\.(hsaco|cubin)|.+\.hip")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


class BuildFolder:
    """The folder of one target's build.

    manifest.json, NAME.hip, NAME-KEY.hsaco, logs/NAME.log are for readers; .work/ is the build's own: lock, build.ninja, half-done
    outputs, temporary files of compilers, the journal and the stamp.
    """

    def __init__(self, path: Path):
        self.path = path
        self.work = path / WORK
        self.manifest = path / "manifest.json"
        self.logs = path / "logs"
        self.journal = self.work / "journal"
        self.stamp = self.work / "stamp.json"
        self.ninja_file = self.work / "build.ninja"
        self.temp = self.work / "tmp"

    @contextlib.contextmanager
    def locked(self, waiting: Callable[[str], None] | None = None) -> Iterator[int]:
        """Hold the folder; yields the lock's descriptor. One build at a time, another one waits here.

        The kernel drops the lock when the last holder of the descriptor ends, however it ends. Compilers inherit it: where a build is
        killed, the next one starts when the last orphan of it is gone, so that nobody writes beside it.
        """
        with disk_errors(self.path):
            self.work.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.work / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is not None:
                    waiting(f"{self.path}: another build is at work here; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)

    def clean_work(self) -> None:
        """Throw away what a killed build left half-done; the lock, the journal and the stamp stay."""
        keep = {"lock", self.journal.name, self.stamp.name}
        for path in self.work.iterdir():
            if path.name not in keep:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        for path in self.path.glob(".*.part"):
            path.unlink(missing_ok=True)

    def remove_stale(self, keep: Iterable[str]) -> None:
        """Remove sources and code objects that are not in `keep` (file names), and logs that no file there belongs to."""
        kept = set(keep)
        for path in self.path.iterdir():
            if path.name not in kept and _OURS.fullmatch(path.name):
                path.unlink(missing_ok=True)
        if self.logs.is_dir():
            for path in self.logs.glob("*.log"):
                if f"{path.stem}.hip" not in kept:
                    path.unlink(missing_ok=True)

    def whole(self, name: str, digest: str | None) -> bool:
        """Whether the file is there with exactly the content of this SHA-256."""
        return digest is not None and file_digest(f"{self.path}/{name}") == digest

    # ---- journal: what this build has finished, should it be killed before the manifest is written

    def journalled(self) -> dict[str, str]:
        """Code object file name -> SHA-256 of every finished compile since the last manifest."""
        out = {}
        try:
            lines = self.journal.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return {}
        for line in lines:
            match = re.fullmatch(r"([0-9a-f]{64}) (\S+)", line)
            if match:  # a torn last line does not match
                out[match[2]] = match[1]
        return out

    def note(self, name: str, digest: str) -> None:
        """Add a finished code object to the journal."""
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(f"{digest} {name}\n")

    # ---- stamp: the environment in which the manifest was last made in full

    def read_stamp(self) -> tuple[str, str]:
        """(environment digest, SHA-256 of the manifest) of the last build that had nothing left to do, or empty strings."""
        try:
            data = json.loads(self.stamp.read_bytes())
            return str(data["environment"]), str(data["manifest"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", ""

    def write_stamp(self, environment: str, manifest: str) -> None:
        """Remember the environment and the manifest's digest."""
        write_whole(self.stamp, json.dumps({"environment": environment, "manifest": manifest}).encode())


def file_digest(path: Path | str) -> str | None:
    """SHA-256 of a file, or None when it cannot be read. Unbuffered: a build that finds nothing to do spends its time here."""
    try:
        with open(path, "rb", buffering=0) as file:
            return hashlib.sha256(file.readall()).hexdigest()
    except OSError:
        return None


def write_whole(path: Path, data: bytes, durable: bool = True) -> None:
    """Write a file so that a reader finds the old content or the new, never a part; `durable`: not even after a power failure."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems refuse to sync a folder
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full, read-only or forbidden disk into MissingPieceError with the way on."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(path) from error
        if error.errno in _DENIED:
            raise MissingPieceError(
                f"the build in {path} stopped at {error.filename or path}: {error.strerror}\n"
                "  try: another build folder (KGEN_BUILD_DIR), or make this one writable"
            ) from error
        raise


def disk_full(path: Path) -> MissingPieceError:
    """The error for a disk without room for `path`."""
    free = shutil.disk_usage(path if path.exists() else path.parent).free
    return MissingPieceError(
        f"{path}: no space left on the device ({free / 1e6:.1f} MB free)\n"
        "  kept: the last manifest and every kernel that was finished; nothing half-written\n"
        "  try: free some space, or set KGEN_BUILD_DIR to a folder on another disk, and run the same command again"
    )
