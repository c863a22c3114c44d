"""What must be compiled. Pure: files and processes are touched elsewhere."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from kgen.build.key import Toolchain, key_of
from kgen.render import Source, render
from kgen.spec.base import KernelSpec


@dataclass(frozen=True)
class Variant:
    """One kernel that the folder shall hold: its spec, its source and the key that names its code object."""

    spec: KernelSpec
    source: Source
    key: str

    @property
    def name(self) -> str:
        """Kernel name."""
        return self.source.name

    @property
    def source_file(self) -> str:
        """Name of the rendered source in the build folder."""
        return f"{self.name}.hip"

    @property
    def object_file(self) -> str:
        """Name of the code object in the build folder."""
        return object_file(self.name, self.key, self.source.arch)


@dataclass(frozen=True)
class BuildPlan:
    """`variants` is everything wanted, by name; `edges` is the part of it that must be compiled."""

    arch: str
    variants: tuple[Variant, ...]
    edges: tuple[Variant, ...]


def plan_build(arch: str, specs: Iterable[KernelSpec], tools: Toolchain, have: Container[str]) -> BuildPlan:
    """Decide what must be compiled for `specs`, all of one target; equal specs collapse.

    `have` holds the names of code objects that are there and whole. A variant whose object file is among them is skipped: the name
    carries the key, and the key covers source, flags and compiler, so file times never matter. Raises KgenError for a broken template.
    """
    wanted = {}
    for spec in specs:
        assert spec.arch == arch, f"{spec.name} is for {spec.arch}, planned for {arch}"
        source = render(spec)
        wanted[source.name] = Variant(spec, source, key_of(source, tools))
    variants = tuple(wanted[name] for name in sorted(wanted))
    return BuildPlan(arch, variants, tuple(v for v in variants if v.object_file not in have))


def object_file(name: str, key: str, arch: str) -> str:
    """File name of a code object: NAME-KEY.hsaco, or NAME-KEY.cubin on NVIDIA."""
    return f"{name}-{key}.{'cubin' if arch.startswith('sm_') else 'hsaco'}"
