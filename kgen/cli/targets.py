"""Which targets, kernels and code objects the words on the command line mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kgen.cli import show
from kgen.errors import Problem, SpecError
from kgen.settings import ARCH, build_dir

if TYPE_CHECKING:
    from kgen.build.manifest import KernelEntry, Manifest
    from kgen.spec.base import KernelSpec

DEFAULT_SET = "default"


def arches_of(words: Sequence[str] | None) -> list[str]:
    """Targets of `--arch A,B --arch C`, `all`, or KGEN_ARCH; SpecError for unknown ones, all at once, or for none at all."""
    from kgen.spec.arch import ARCHES

    text = ",".join(words) if words else ARCH.value or ""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if names == ["all"]:
        return list(ARCHES)
    hint = "`kgen doctor` shows the device that is here"
    if not names:
        raise SpecError("no target", [Problem(("--arch",), "not given", ", ".join(ARCHES) + ", all", hint)])
    unknown = [name for name in names if name not in ARCHES]
    if unknown:
        allowed = ", ".join(ARCHES) + ", all"
        raise SpecError("unknown target", [Problem(("--arch",), repr(name), allowed, hint) for name in unknown])
    return names


def one_arch(word: str | None) -> str:
    """The one target of a command; SpecError for none or several."""
    names = arches_of([word] if word else None)
    if len(names) != 1:
        raise SpecError("one target at a time", [Problem(("--arch",), ", ".join(names), "one of them")])
    return names[0]


def specs_of(arch: str, spec_set: str, families: Sequence[str] | None) -> list[KernelSpec]:
    """The kernels of a set for one target; `default` is what the dispatch tables name.

    SpecError when there are none, unless tables say so: one that answers torch throughout needs no kernel, which is remarked.
    """
    from kgen.dispatch import has_table, load_table
    from kgen.spec.registry import FAMILIES, family_class
    from kgen.spec.sets import load_set

    wanted = list(dict.fromkeys(families or FAMILIES))
    for family in wanted:
        family_class(family)
    if spec_set != DEFAULT_SET:
        specs = load_set(spec_set, [arch], wanted)
    else:
        tables = [load_table(family, arch) for family in wanted if families or has_table(family, arch)]
        specs = [spec for table in tables for spec in table.specs.values()]
        if tables and not specs:
            names = ", ".join(table.family for table in tables)
            show.note(
                f"{arch}: torch answers every problem of {names}, as the dispatch table says; there is no kernel to build"
            )
            return []
    if not specs:
        words = f"no kernels in set {spec_set!r} for {arch}"
        raise SpecError(words, [Problem(("--set",), spec_set, "a set with variants for this target", "specs/*.toml")])
    return specs


def built(arch: str) -> tuple[Manifest, Path]:
    """The manifest of a target's build folder, and the folder; ManifestError when nothing is built."""
    from kgen.build.manifest import load_manifest

    folder = build_dir(arch)
    return load_manifest(folder), folder


def find_kernels(manifest: Manifest, pattern: str | None) -> list[KernelEntry]:
    """Entries whose name is the pattern or contains all its words (separated by spaces or commas); SpecError for none."""
    if not pattern:
        return list(manifest.kernels)
    if pattern in manifest.entries:
        return [manifest.entries[pattern]]
    words = pattern.replace(",", " ").split()
    # a word ends where a parameter ends, so that N1 is not N16; only if that finds nothing may it end anywhere
    whole = [entry for entry in manifest.kernels if all(f"{word}_" in f"{entry.name}_" for word in words)]
    found = whole or [entry for entry in manifest.kernels if all(word in entry.name for word in words)]
    if not found:
        known = ", ".join(entry.name for entry in manifest.kernels[:3])
        more = f" and {len(manifest.kernels) - 3} more" if len(manifest.kernels) > 3 else ""
        hint = f"`kgen report --arch {manifest.arch}` lists them"
        problem = Problem(("kernel",), repr(pattern), f"{known}{more}", hint)
        raise SpecError(f"no kernel of {manifest.arch} has this in its name", [problem])
    return found


def find_kernel(manifest: Manifest, pattern: str) -> KernelEntry:
    """The one entry that a pattern means; SpecError for none or several."""
    found = find_kernels(manifest, pattern)
    if len(found) > 1:
        names = _listed(entry.name for entry in found)
        problem = Problem(("kernel",), repr(pattern), names, "name more of it: words are separated by commas")
        raise SpecError(f"{len(found)} kernels of {manifest.arch} have this in their names", [problem])
    return found[0]


def _listed(names: Iterable[str], limit: int = 8) -> str:
    every = list(names)
    return ", ".join(every[:limit]) + (f" and {len(every) - limit} more" if len(every) > limit else "")
