"""Read Debian packages with the standard library alone: an `ar` archive that holds a compressed tar.

Extraction trusts nothing: a member whose path is absolute or climbs out of the package is refused, device nodes are ignored, and
links are rewritten to where their target was placed, so that none can point outside the destination.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import posixpath
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from kgen.errors import ToolchainError

AR_MAGIC = b"!<arch>\n"
_HEADER = 60  # bytes of an ar member header: name 16, time 12, uid 6, gid 6, mode 8, size 10, magic 2

Place = Callable[[str], str | None]
"""Maps a path inside a package to one below the destination; None leaves the member out."""


class _Window(io.RawIOBase):
    """A read-only slice of an open file."""

    def __init__(self, file: BinaryIO, start: int, size: int):
        self._file, self._left = file, size
        file.seek(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)


def ar_members(file: BinaryIO, name: str = "archive") -> Iterator[tuple[str, int, int]]:
    """Members of an `ar` archive as (name, offset of the content, size).

    Raises ToolchainError when it is not one or ends in the middle.
    """
    file.seek(0, os.SEEK_END)
    end = file.tell()
    file.seek(0)
    if file.read(len(AR_MAGIC)) != AR_MAGIC:
        raise ToolchainError(f"{name} is not a Debian package: it does not start with the ar magic")
    at = len(AR_MAGIC)
    while at < end:
        file.seek(at)
        header = file.read(_HEADER)
        size_text = header[48:58].decode("ascii", "replace").strip()
        if len(header) < _HEADER or header[58:60] != b"`\n" or not size_text.isdigit():
            raise ToolchainError(f"{name} is damaged: no ar member header at byte {at}")
        size = int(size_text)
        if at + _HEADER + size > end:
            raise ToolchainError(f"{name} is cut short: a member of {size} bytes at {at} passes the end at {end}")
        yield header[:16].decode("ascii", "replace").strip().rstrip("/"), at + _HEADER, size
        at += _HEADER + size + size % 2


@contextmanager
def open_data(deb: Path) -> Iterator[tarfile.TarFile]:
    """The package's file tree (data.tar.*) as a streaming tar; members must be read in order."""
    with deb.open("rb") as file:
        for name, start, size in ar_members(file, deb.name):
            if not name.startswith("data.tar"):
                continue
            window = cast(BinaryIO, io.BufferedReader(_Window(file, start, size), 1 << 20))
            with _decompressed(window, name, deb.name) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
                yield tar
            return
    raise ToolchainError(f"{deb.name} holds no data.tar: not a Debian package")


def _decompressed(raw: BinaryIO, member: str, deb: str) -> BinaryIO:
    suffix = member.removeprefix("data.tar")
    if suffix == ".xz":
        return cast(BinaryIO, lzma.open(raw))
    if suffix == ".gz":
        return cast(BinaryIO, gzip.open(raw))
    if suffix == ".bz2":
        return cast(BinaryIO, bz2.open(raw))
    if suffix == "":
        return raw
    raise ToolchainError(f"{deb}: {member} is compressed in a way that Python's standard library cannot read")


def unpack(deb: Path, root: Path, place: Place = lambda path: path) -> int:
    """Unpack a package below `root`, each member where `place` puts it; returns the bytes written.

    Files become 0755 or 0644; owners, times, device nodes and set-id bits are dropped. Raises ToolchainError for a damaged package
    or a member that would land outside `root`, OSError when the disk is full.
    """
    written = 0
    try:
        with open_data(deb) as tar:
            for member in tar:
                path = clean_path(member.name, deb.name)
                target = place(path) if path else None
                if target is None or member.isdir():
                    continue
                goal = root / clean_path(target, deb.name)
                goal.parent.mkdir(parents=True, exist_ok=True)
                if member.isreg():
                    written += _write_file(tar, member, goal)
                elif member.issym() or member.islnk():
                    _write_link(member, path, target, root, place, deb.name)
    except (lzma.LZMAError, tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise ToolchainError(f"{deb.name} is damaged: {error}") from error
    return written


def clean_path(path: str, where: str) -> str:
    """The path without `./`; refuses absolute paths and paths that climb."""
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ToolchainError(
            f"{where} was refused: it wants to write to {path!r}, outside the folder it is unpacked into"
        )
    plain = posixpath.normpath(path)
    return "" if plain == "." else plain


def _write_file(tar: tarfile.TarFile, member: tarfile.TarInfo, goal: Path) -> int:
    source = tar.extractfile(member)
    assert source is not None, "regular members have content"
    mode = 0o755 if member.mode & 0o111 else 0o644
    descriptor = os.open(goal, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
    return member.size


def _write_link(member: tarfile.TarInfo, path: str, target: str, root: Path, place: Place, where: str) -> None:
    """Recreate a link so that it points at where its target was placed; drop it when the target was left out or is itself."""
    if member.islnk():
        inside = clean_path(member.linkname, where)
    else:
        link = member.linkname
        inside = posixpath.normpath(
            link.lstrip("/") if link.startswith("/") else posixpath.join(posixpath.dirname(path), link)
        )
        if inside.startswith(".."):
            raise ToolchainError(f"{where} was refused: its link {path!r} points to {link!r}, outside the package")
    placed = place(inside)
    goal = root / target
    if placed is None or placed == target or goal.is_symlink():
        return
    if member.islnk():
        os.link(root / placed, goal)
    else:
        goal.symlink_to(posixpath.relpath(placed, posixpath.dirname(target) or "."))
