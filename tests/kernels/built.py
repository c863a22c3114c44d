"""The kernels under test, compiled once per checkout and compiler into pytest's cache folder; the build's own lock serves xdist."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from kgen.binary import read_binary
from kgen.binary.isa import IsaReport, isa_report
from kgen.build import build
from kgen.build.manifest import KernelEntry, Manifest
from kgen.dispatch import has_table, load_table
from kgen.errors import ToolchainError
from kgen.spec.base import KernelSpec
from kgen.spec.registry import FAMILIES
from kgen.spec.sets import load_set
from kgen.toolchain.find import AmdToolchain, find_amd

Spec = TypeVar("Spec", bound=KernelSpec)
AMD = ("gfx1151", "gfx1100", "gfx1201", "gfx942", "gfx950")


@functools.cache
def default_specs(arch: str) -> dict[str, KernelSpec]:
    """Every kernel that a dispatch table of the target can pick, by name."""
    tables = (load_table(family, arch) for family in FAMILIES if has_table(family, arch))
    return {name: spec for table in tables for name, spec in table.specs.items()}


def of_family(kind: type[Spec], arch: str) -> dict[str, Spec]:
    """The default kernels of one family, by name."""
    return {name: spec for name, spec in default_specs(arch).items() if isinstance(spec, kind)}


@functools.cache
def all_specs(arch: str) -> dict[str, KernelSpec]:
    """The default kernels and the set `parameters`, by name."""
    return default_specs(arch) | {spec.name: spec for spec in load_set("parameters", [arch])}


@functools.cache
def compiler() -> AmdToolchain:
    """One compiler for all targets, or the test is skipped."""
    try:
        return find_amd(AMD)
    except ToolchainError as error:
        pytest.skip(f"no AMD compiler here: {str(error).splitlines()[0]}")


@dataclass(frozen=True)
class Built:
    """A target's build folder and manifest."""

    arch: str
    folder: Path
    manifest: Manifest

    def isa(self, name: str) -> IsaReport:
        """A kernel's machine code, counted."""
        return _isa(self.arch, self.folder, self.manifest.entries[name])


@functools.cache
def build_all(arch: str, cache: Path) -> Built:
    """Compile what is not there yet. Every kernel must compile."""
    folder = cache / arch
    result = build(all_specs(arch).values(), arch=arch, folder=folder, tools=compiler())
    assert not result.failed, "\n".join(f"{failure.name}: {failure.error}" for failure in result.failed)
    return Built(arch, folder, result.manifest)


@functools.cache
def _isa_cached(arch: str, folder: Path, name: str, digest: str) -> IsaReport:
    spec = all_specs(arch)[name]
    path = next(folder.glob(f"{name}-*.hsaco"))
    return isa_report(
        read_binary(path.read_bytes(), name),
        name,
        compiler().llvm,
        multiply_pattern=spec.multiply_pattern,
        multiplies_per_step=spec.multiplies_per_step,
        macs_per_step=spec.macs_per_step,
    )


def _isa(arch: str, folder: Path, entry: KernelEntry) -> IsaReport:
    return _isa_cached(arch, folder, entry.name, entry.digest or "")
