"""Spec sets: named lists of kernels as data, in specs/FAMILY.toml.

    schema = 1
    family = "wvsplitk"

    [[variants]]
    set = "sweep-small"
    arch = ["gfx1151", "gfx1100"]      # every list is expanded; the variants are the product
    dtype = ["bf16", "fp16"]
    N = [1, 2]

THRDS may be left out: it is then the target's wave. All problems of a file are reported at once.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kgen.errors import Problem, SpecError
from kgen.settings import data_dir
from kgen.spec.arch import ARCHES
from kgen.spec.base import KernelSpec
from kgen.spec.registry import FAMILIES, family_class

_HEAD = ("set", "arch")


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dict; SpecError when it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.toml"))) or "none"
        raise SpecError(f"no such file: {path}", [Problem(("file",), path.name, f"one of {known}")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} is not valid TOML", [Problem(("file",), str(error))]) from None


def load_set(name: str, arches: Iterable[str], families: Sequence[str] | None = None) -> list[KernelSpec]:
    """The kernels of a named set for some targets, in file order, without repeats.

    Raises SpecError with every problem of every file concerned, or when no file knows the set.
    """
    wanted = list(arches)
    specs: dict[tuple[str, str], KernelSpec] = {}
    known: set[str] = set()
    for family in families or FAMILIES:
        path = data_dir("specs") / f"{family}.toml"
        for spec_set, spec in parse_set_file(path, family_class(family)):
            known.add(spec_set)
            if spec_set == name and spec.arch in wanted:
                specs[spec.arch, spec.name] = spec
    if name not in known:
        raise SpecError("unknown spec set", [Problem(("set",), repr(name), ", ".join(sorted({"default", *known})))])
    return list(specs.values())


def parse_set_file(path: Path, cls: type[KernelSpec]) -> list[tuple[str, KernelSpec]]:
    """All (set name, spec) pairs of a file; SpecError lists every bad variant and says how many are fine."""
    data = read_toml(path)
    problems: list[Problem] = []
    for key, allowed in (("schema", 1), ("family", cls.family)):
        if data.get(key) != allowed:
            problems.append(Problem((key,), repr(data.get(key)), repr(allowed)))
    problems += [
        Problem((key,), "no such key", "schema, family, variants")
        for key in data.keys() - {"schema", "family", "variants"}
    ]
    specs = []
    for number, entry in enumerate(data.get("variants", ()), 1):
        for values, where in _expand(entry, f"variant {number}", problems):
            spec, found = cls.tried(values, where)
            problems += found
            if spec is not None and not found:
                specs.append((entry["set"], spec))
    if problems:
        raise SpecError(f"{path}: {len(problems)} problems ({len(specs)} kernels are fine)", problems)
    return specs


def _expand(entry: Mapping[str, Any], where: str, problems: list[Problem]) -> list[tuple[dict[str, Any], str]]:
    """The product of an entry's lists, THRDS filled in, each with the place it came from."""
    if missing := [key for key in _HEAD if not entry.get(key)]:
        problems.append(Problem(tuple(missing), "not given", "a value", where=where))
        return []
    lists = {key: value if isinstance(value, list) else [value] for key, value in entry.items() if key != "set"}
    out = []
    for combination in itertools.product(*lists.values()):
        values = dict(zip(lists, combination, strict=True))
        if "THRDS" not in values and values["arch"] in ARCHES:
            values["THRDS"] = ARCHES[values["arch"]].wave
        words = ", ".join(f"{key} {values[key]}" for key in lists if len(lists[key]) > 1)
        out.append((values, f"{where} ({words})" if words else where))
    return out
