"""When two compiles are the same: keys of kernels, and the digest of all that decides them.

The key of a kernel covers its rendered source, the compiler's flags and the compiler's identity; no path and no file time, so a copied
or restored build folder stays valid. The environment digest covers what rendering and reading depend on besides the spec: as long as it
stands, a kernel that is in the manifest needs no rendering to be known as current.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # rendering is not imported where nothing is rendered
    from kgen.render.source import Source

_KEY_DIGITS = 16  # 64 bits: among a million kernels the chance of one collision is below 1e-7


class Toolchain(Protocol):
    """What a build asks of a compiler (kgen.toolchain.find)."""

    @property
    def command(self) -> tuple[str, ...]: ...
    @property
    def env(self) -> Mapping[str, str]: ...
    @property
    def flavour(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def identity(self) -> str: ...

    def flags(self, arch: str) -> Sequence[str]: ...
    def compile_command(self, arch: str, source: Path | str, out: Path | str) -> Sequence[str]: ...


def key_of(source: Source, tools: Toolchain) -> str:
    """The key of one kernel: 16 hexadecimal digits over source text, flags and compiler identity."""
    return _digest([source.digest, source.arch, tools.identity, *tools.flags(source.arch)])[:_KEY_DIGITS]


def environment_digest(tools: Toolchain, arch: str, files: Iterable[Path]) -> str:
    """SHA-256 over the compiler's identity, its flags and the contents of `files` (templates, code), whatever their folders are."""
    parts = [arch, tools.identity, *tools.flags(arch)]
    for path in sorted(files):
        parts += ["/".join(path.parts[-2:]), hashlib.sha256(path.read_bytes()).hexdigest()]
    return _digest(parts)


def deciding_files(modules: Iterable[str]) -> list[Path]:
    """The files that decide a rendered source and a manifest entry: all templates, kgen's own code, and the given modules' files."""
    import sys

    from kgen.settings import data_dir

    package = Path(__file__).resolve().parent.parent
    files = {path for path in data_dir("templates").rglob("*") if path.is_file()}
    for room in ("spec", "render", "build", "binary"):
        files.update((package / room).glob("*.py"))
    for name in modules:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file:
            files.add(Path(file).resolve())
    return sorted(files)


def _digest(parts: Iterable[str]) -> str:
    """SHA-256 of a list of strings; lengths go in, so that no two lists can read alike."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode()
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()
