"""Download files whole or not at all: resumed after a break, checked for size and SHA256, moved into place when right.

Standard library only.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, urlsplit

from kgen.errors import ToolchainError
from kgen.toolchain.sources import apt_proxy

Advance = Callable[[int], None]
"""Told how many more bytes have arrived; negative when bytes turn out to be worthless."""

_ATTEMPTS = 4
_TIMEOUT_S = 60
_PAUSE_S = 0.5  # before the second attempt; a little longer before each further one


class GoneError(ToolchainError):
    """The archive no longer has this file."""


class MismatchError(ToolchainError):
    """The file that the archive sent is not the one that was asked for."""


@lru_cache(maxsize=1)
def _opener() -> urllib.request.OpenerDirector:
    proxies = {scheme: proxy for scheme in ("http", "https") if (proxy := apt_proxy(scheme))}
    return urllib.request.build_opener(urllib.request.ProxyHandler({**proxies, **urllib.request.getproxies()}))


def sha256_of(path: Path) -> str:
    """SHA256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def join(base: str, path: str) -> str:
    """An address below `base`, with `+`, `~` and `:` as archives spell them."""
    return f"{base.rstrip('/')}/{quote(path.lstrip('/'), safe='/+~:')}"


def fetch_bytes(url: str, limit: int = 64 << 20) -> bytes:
    """A small file as bytes. Raises GoneError for 404, ToolchainError for anything else that goes wrong."""
    last: Exception | None = None
    for attempt in range(_ATTEMPTS):
        try:
            with _opener().open(url, timeout=_TIMEOUT_S) as reply:
                data = bytes(reply.read(limit + 1))
                if len(data) > limit:
                    raise ToolchainError(f"{url} is larger than {limit} bytes; refused")
                return data
        except (OSError, http.client.HTTPException) as error:
            last = error
            _raise_if_final(url, error)
            time.sleep(_PAUSE_S * attempt)
    raise ToolchainError(_words(url, last))


def fetch_file(url: str, goal: Path, size: int, sha256: str, advance: Advance = lambda count: None) -> Path:
    """Fetch `url` to `goal` and prove it. A part left by an earlier run is continued; `goal` appears only when it is right.

    Raises GoneError (404), MismatchError (wrong size or SHA256; nothing is kept), ToolchainError (network), OSError (disk).
    """
    if goal.is_file() and goal.stat().st_size == size and sha256_of(goal) == sha256:
        advance(size)
        return goal
    part = goal.with_name(goal.name + ".part")
    advance(_held(part))
    last: Exception | None = None
    for attempt in range(_ATTEMPTS):
        try:
            _fetch_rest(url, part, size, advance)
            break
        except (OSError, http.client.HTTPException) as error:
            if _is_local(error):
                raise
            last = error
            _raise_if_final(url, error)
            time.sleep(_PAUSE_S * attempt)
    else:
        raise ToolchainError(_words(url, last))
    found = sha256_of(part)
    if part.stat().st_size != size or found != sha256:
        got = f"{part.stat().st_size} bytes, SHA256 {found}"
        advance(-part.stat().st_size)
        part.unlink()
        raise MismatchError(f"{url} was refused: expected {size} bytes, SHA256 {sha256}; got {got}")
    os.replace(part, goal)
    return goal


def _held(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _is_local(error: Exception) -> bool:
    """Whether the disk failed, not the network (urllib's own errors are OSErrors with a file name, too)."""
    if not isinstance(error, OSError) or isinstance(error, urllib.error.URLError):
        return False
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) or error.filename is not None


def _fetch_rest(url: str, part: Path, size: int, advance: Advance) -> None:
    """Append what is missing to `part`. Raises http.client.IncompleteRead when the archive sends too little."""
    have = _held(part)
    if have >= size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with _opener().open(request, timeout=_TIMEOUT_S) as reply:
        if have and getattr(reply, "status", None) != 206:
            advance(-have)  # the server starts from the beginning
            have = 0
        with part.open("r+b" if part.is_file() else "wb") as out:
            out.truncate(have)
            out.seek(have)
            while have <= size and (chunk := reply.read(1 << 18)):  # more than promised: the caller refuses it
                out.write(chunk)
                have += len(chunk)
                advance(len(chunk))
    if have < size:
        raise http.client.IncompleteRead(b"", size - have)


def _raise_if_final(url: str, error: Exception) -> None:
    """Errors that trying again does not cure."""
    if isinstance(error, urllib.error.HTTPError) and error.code in (404, 410):
        raise GoneError(f"{url} is not there (HTTP {error.code})") from error
    if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 416, 429):
        raise ToolchainError(_words(url, error)) from error
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, FileNotFoundError):
        raise GoneError(f"{url} is not there") from error


def _words(url: str, error: Exception | None) -> str:
    host = urlsplit(url).netloc or "the archive"
    return f"{url} could not be fetched: {error}\n  try: check that {host} can be reached, or name another one with --archive URL"
