"""A checksum behind the end of the engine's file, so that a damaged one is never loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

SEAL = b"kgen engine "


def seal(file: Path) -> None:
    """Append a checksum, which a shared library may carry behind its end."""
    data = file.read_bytes()
    file.write_bytes(data + SEAL + hashlib.sha256(data).digest())


def is_whole(file: Path) -> bool:
    """Whether a sealed file is there as it was written: loading a truncated library would end the process."""
    try:
        data = file.read_bytes()
    except OSError:
        return False
    at = len(data) - 32 - len(SEAL)
    return at > 0 and data[at:] == SEAL + hashlib.sha256(data[:at]).digest()
