"""The packages that make kgen's own toolchain, pinned: `lock.toml` names each file with its size and SHA256.

The lock is tried first and is proof enough. When the archive has moved on (files are gone, or differ), the packages of that suite
are resolved again from the signed index, of the same major versions. Standard library only.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kgen.errors import ToolchainError
from kgen.toolchain.archive import Index, Package, major_of
from kgen.toolchain.sources import Archives

LOCK_FILE = Path(__file__).with_name("lock.toml")
SCHEMA = 1


@dataclass(frozen=True)
class Locked:
    """One pinned package.

    archive  `main` or `security`: which of the two addresses holds it
    suite    where to resolve it again when the pinned file is gone
    room     which part of the prefix it goes to: llvm, headers or hipcc (see prefix.py)
    """

    package: Package
    archive: str
    suite: str
    room: str


@dataclass(frozen=True)
class Lock:
    """All packages of the toolchain, and what they are called together."""

    name: str
    packages: tuple[Locked, ...]

    @property
    def id(self) -> str:
        """Name of the prefix folder: the set's name and a hash over the packages' own hashes."""
        both = "".join(sorted(locked.package.sha256 for locked in self.packages))
        return f"{self.name}-{hashlib.sha256(both.encode()).hexdigest()[:12]}"

    @property
    def download_bytes(self) -> int:
        """Size of all packages together."""
        return sum(locked.package.size for locked in self.packages)


def read_lock(path: Path = LOCK_FILE) -> Lock:
    """The pinned packages. Raises ToolchainError when the file is not a lock of this version."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise ToolchainError(f"{path}: schema {data['schema']}, expected {SCHEMA}; reinstall kgen")
        packages = tuple(
            Locked(
                Package(row["name"], row["version"], row["file"], int(row["size"]), row["sha256"]),
                row["archive"],
                row["suite"],
                row["room"],
            )
            for row in data["package"]
        )
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise ToolchainError(
            f"{path} is not a lock file: {type(error).__name__} {error}\n  try: reinstall kgen"
        ) from error
    return Lock(data["name"], packages)


def write_lock(lock: Lock, path: Path = LOCK_FILE) -> None:
    """Write a lock file; for maintainers, through `python -m kgen.toolchain lock`."""
    lines = [
        "# The packages of `kgen toolchain install`. Written by `python -m kgen.toolchain lock` from the signed index; not by hand.",
        f"schema = {SCHEMA}",
        f'name = "{lock.name}"',
    ]
    for locked in lock.packages:
        package = locked.package
        lines += ["", "[[package]]", f'name = "{package.name}"', f'version = "{package.version}"']
        lines += [f'archive = "{locked.archive}"', f'suite = "{locked.suite}"', f'room = "{locked.room}"']
        lines += [f'file = "{package.file}"', f"size = {package.size}", f'sha256 = "{package.sha256}"']
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def resolve_again(
    lock: Lock, suites: Sequence[str], archives: Archives, index: Index, *, same_major: bool = True
) -> Lock:
    """The lock with every package of these suites taken from the signed index: one suite is one consistent set of versions.

    Raises ToolchainError when a package is gone or has another major version.
    """
    fresh = []
    for locked in lock.packages:
        if locked.suite in suites:
            major = major_of(locked.package.version) if same_major else None
            package = index.find(archives.base(locked.archive), locked.suite, locked.package.name, major)
            locked = replace(locked, package=package)
        fresh.append(locked)
    return replace(lock, packages=tuple(fresh))


def refresh_lock(archives: Archives, index: Index, say: Callable[[str], None] = print, path: Path = LOCK_FILE) -> Lock:
    """Bring the lock file up to date with the archive, and say what changed; for maintainers."""
    old = read_lock(path)
    new = resolve_again(old, sorted({locked.suite for locked in old.packages}), archives, index)
    for before, after in zip(old.packages, new.packages, strict=True):
        if before != after:
            say(f"{before.package.name}: {before.package.version} -> {after.package.version}")
    write_lock(new, path)
    return new
