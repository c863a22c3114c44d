"""Decoded programs on disk, so that a second process neither decodes nor imports the instruction tables.

A file's name is the digest of the code object and of everything that decides what decoding gives: the engine's sources (operation numbers,
record layout), the decoder's sources, and tinygrad's version. Its content carries a checksum; a file that does not fit is taken for absent.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from kgen import settings
from kgen.emu import library
from kgen.emu.structs import Insn

MAGIC = b"kgen program 2\n"


@functools.cache
def _decoder_version() -> str:
    # not kgen.emu.decode.tables: importing that package is what a warm cache saves
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        tinygrad = installed("tinygrad")
    except PackageNotFoundError:
        tinygrad = "none"
    folder = Path(__file__).resolve().parent / "decode"
    digest = hashlib.sha256(f"{tinygrad}\0{library.version()}".encode())
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def path(digest: str) -> Path:
    """The cache file of a code object, given the digest of its bytes."""
    key = hashlib.sha256(f"{digest}\0{_decoder_version()}".encode()).hexdigest()[:32]
    return settings.cache_dir() / "emulator" / "programs" / f"{key}.bin"


def read(digest: str) -> list[tuple[int, str, str, bytes]]:
    """The instructions kept for a code object, in the order they were decoded; [] if there are none or the file is damaged."""
    import msgpack

    try:
        data = path(digest).read_bytes()
        head, payload = data[: len(MAGIC) + 32], data[len(MAGIC) + 32 :]
        if head != MAGIC + hashlib.sha256(payload).digest():
            return []
        items = [tuple(item) for item in msgpack.unpackb(zlib.decompress(payload))]
    except (OSError, ValueError, TypeError, zlib.error, msgpack.exceptions.UnpackException):
        return []
    size = len(bytes(Insn()))
    return items if all(len(item) == 4 and len(item[3]) in (size, 2 * size) for item in items) else []


def write(digest: str, items: Iterable[Sequence[object]]) -> None:
    """Keep a code object's instructions; a reader sees the old file or the whole new one. A cache that cannot be written is no error."""
    import msgpack

    payload = zlib.compress(msgpack.packb([list(item) for item in items]), 1)
    target = path(digest)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(MAGIC + hashlib.sha256(payload).digest() + payload)
            os.replace(name, target)
        except OSError:
            os.unlink(name)
    except OSError:
        pass
