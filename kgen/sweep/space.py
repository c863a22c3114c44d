"""Which values each parameter of a family takes in a sweep: from the spec class itself, narrowed by data files and by the user.

Nothing here knows a family. A field's values are its `among`, its range, or both truth values; long ranges are walked in powers of two. What
is sensible per target lies in specs/sweeps/FAMILY.toml:

    schema = 1
    family = "FAMILY"
    rows = [1, 2, 4]            # activation rows where the user says none

    [sizes]                     # what the family's problems have besides M, N, K and traits; most have nothing
    experts = [128]

    [axes]                      # for every target; a parameter that is not named has all its values
    YTILE = [1, 2, 4]

    [arch.gfx942.axes]          # instead, on one target
    YTILE = [4, 8]

    [[arch.gfx942.forms]]       # values that go together: where there are forms, the space is all of their products and nothing else
    dtype = ["fp16"]            # what a form does not name is as above; one that names types is for those
    STAGING = ["lds"]
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from kgen.errors import Problem, SpecError
from kgen.settings import data_dir
from kgen.spec.arch import arch_facts
from kgen.spec.base import KernelSpec
from kgen.spec.registry import family_class
from kgen.spec.sets import read_toml

LONG = 8  # a range of more values than this is walked in powers of two
_WORDS: dict[str, Any] = {"none": None, "true": True, "false": False}


Axes = Mapping[str, tuple[Any, ...]]  # parameter -> values, in the order of the spec class, dtype first


@dataclass(frozen=True)
class Space:
    """What is to be explored: the products of all forms, each point once."""

    family: str
    arch: str
    forms: tuple[Axes, ...]

    @cached_property
    def axes(self) -> Axes:
        """Parameter -> the values that it has in any form."""
        return {
            name: tuple(dict.fromkeys(value for form in self.forms for value in form[name])) for name in self.forms[0]
        }

    @property
    def traits(self) -> dict[str, tuple[Any, ...]]:
        """The axes that are the problem's to say and not the kernel's to choose, such as GROUP_SIZE."""
        cls = family_class(self.family)
        return {name: self.axes[cls.trait_fields.get(name, name)] for name in cls.traits}

    def points(self) -> Iterator[dict[str, Any]]:
        """Every combination, as a spec's values."""
        combinations = (itertools.product(*form.values()) for form in self.forms)
        for combination in dict.fromkeys(itertools.chain.from_iterable(combinations)):
            yield {"arch": self.arch, **dict(zip(self.axes, combination, strict=True))}


@dataclass(frozen=True)
class Defaults:
    """What specs/sweeps/FAMILY.toml says for one target: axes, forms, the numbers of activation rows, and sizes besides M, N and K."""

    axes: Mapping[str, tuple[Any, ...]]
    forms: tuple[Mapping[str, tuple[Any, ...]], ...]
    rows: tuple[int, ...]
    sizes: Mapping[str, tuple[int, ...]]


def space_of(
    family: str,
    arch: str,
    dtypes: Sequence[str],
    rows: Sequence[int],
    asked: Mapping[str, Sequence[Any] | None] | None = None,
) -> Space:
    """The space of a family on a target.

    dtypes  element types
    rows    activation rows of the problems; they are the values of a parameter N that has a range, and choose from one that has a list
    asked   the user's axes: parameter -> values, or None for all that the spec class allows, in every form; others are as in specs/sweeps

    Raises SpecError with every parameter or value that cannot be.
    """
    cls = family_class(family)
    arch_facts(arch)
    asked = asked or {}
    defaults = defaults_of(family, arch)
    wanted: list[dict[str, Sequence[Any] | None]] = [
        {**defaults.axes, **form, **asked} for form in defaults.forms or ({},)
    ]
    problems = [
        Problem((name,), "no such parameter", ", ".join(cls.parameters()), "check the spelling; case matters")
        for name in dict.fromkeys(name for form in wanted for name in form)
        if name not in cls.parameters() and (name != "dtype" or name in asked)
    ]
    problems += _wrong_values(cls, "dtype", dtypes)
    forms = []
    for form in wanted:
        types = form.get("dtype") or ()
        problems += _wrong_values(cls, "dtype", types)
        axes: dict[str, tuple[Any, ...]] = {"dtype": tuple(dtype for dtype in dtypes if not types or dtype in types)}
        for name in cls.parameters():
            values = form.get(name)
            if values is None:
                axes[name] = _own_values(cls, arch, name, rows)
                if name == "N" and rows and name not in asked:
                    axes[name] = _enough(axes[name], rows)
            else:
                axes[name] = tuple(dict.fromkeys(values))
                problems += _wrong_values(cls, name, axes[name])
        if axes["dtype"]:
            forms.append(axes)
    if not forms:
        of_forms = ", ".join(dict.fromkeys(dtype for form in wanted for dtype in form.get("dtype") or ()))
        problems.append(
            Problem(("dtype",), ", ".join(dtypes), f"{of_forms}: specs/sweeps/{family}.toml has forms of these")
        )
    if problems:
        raise SpecError(f"{family} on {arch}: these axes cannot be", list(dict.fromkeys(problems)))
    return Space(family, arch, tuple(forms))


def defaults_of(family: str, arch: str) -> Defaults:
    """The file's axes for a target; empty where there is no file. Raises SpecError for a file that is wrong."""
    path = data_dir("specs") / "sweeps" / f"{family}.toml"
    if not path.is_file():
        return Defaults({}, (), (), {})
    data = read_toml(path)
    if data.get("schema") != 1 or data.get("family") != family:
        found = f"schema {data.get('schema')!r}, family {data.get('family')!r}"
        raise SpecError(f"{path}: not a sweep space", [Problem(("schema", "family"), found, f"1 and {family!r}")])
    here = data.get("arch", {}).get(arch, {})
    axes = {**data.get("axes", {}), **here.get("axes", {})}
    sizes = {name: tuple(values) for name, values in data.get("sizes", {}).items()}
    return Defaults(_read(axes), tuple(map(_read, here.get("forms", ()))), tuple(data.get("rows", ())), sizes)


def _read(axes: Mapping[str, Sequence[Any]]) -> dict[str, tuple[Any, ...]]:
    """TOML has no null."""
    return {name: tuple(None if value == "none" else value for value in values) for name, values in axes.items()}


def parse_axes(words: Sequence[str]) -> dict[str, tuple[Any, ...] | None]:
    """`NAME=V1,V2` narrows an axis, `NAME` alone opens it to all that the spec allows. Raises SpecError for words that are neither."""
    out: dict[str, tuple[Any, ...] | None] = {}
    for word in words:
        name, equals, text = word.partition("=")
        values = tuple(_value(item.strip()) for item in text.split(",") if item.strip())
        if not name.isidentifier() or (equals and not values):
            hint = "NAME=V1,V2 (only these values) or NAME (all values of the spec)"
            raise SpecError("not an axis", [Problem(("--axes",), repr(word), hint)])
        out[name] = values if equals else None
    return out


def _value(word: str) -> Any:
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    return int(word) if word.lstrip("-").isdigit() else word


def _own_values(cls: type[KernelSpec], arch: str, name: str, rows: Sequence[int]) -> tuple[Any, ...]:
    """All values that a field may have, by its declaration."""
    info = cls.model_fields[name]
    extra: Any = info.json_schema_extra
    limits = {key: getattr(limit, key) for limit in info.metadata for key in ("ge", "le") if hasattr(limit, key)}
    if name == "THRDS":
        return (arch_facts(arch).wave,)  # a rule of every family; other values would only be pruned
    if isinstance(extra, dict) and extra.get("among"):
        return tuple(extra["among"])
    if info.annotation is bool:
        return (False, True)
    if type(None) in get_args(info.annotation):
        return (None,)  # a size fixed at compile time: only when asked for
    if get_origin(info.annotation) is None and {"ge", "le"} <= limits.keys():
        span = range(limits["ge"], limits["le"] + 1)
        if name == "N" and rows:
            return tuple(n for n in dict.fromkeys(rows) if n in span)
        if len(span) <= LONG:
            return tuple(span)
        return tuple(1 << bit for bit in range(limits["le"].bit_length()) if (1 << bit) in span)
    return (info.default,)


def _enough(among: Sequence[int], rows: Sequence[int]) -> tuple[int, ...]:
    """Of the values of N the smallest that holds each number of rows; all where none does."""
    held = {min(n for n in among if n >= row) for row in rows if row <= max(among, default=0)}
    return tuple(n for n in among if n in held) or tuple(among)


def _wrong_values(cls: type[KernelSpec], name: str, values: Sequence[Any]) -> list[Problem]:
    """What the field's own type, range and list say against the values; rules are asked point by point."""
    info = cls.model_fields[name]
    extra: Any = info.json_schema_extra
    allowed = extra.get("among") if isinstance(extra, dict) else None
    adapter: TypeAdapter[Any] = TypeAdapter(_annotated(info))
    out = []
    for value in values:
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            out.append(Problem((name,), repr(value), _say(allowed) or error.errors()[0]["msg"]))
            continue
        if allowed is not None and value not in allowed:
            out.append(Problem((name,), repr(value), _say(allowed)))
    return out


def _annotated(info: Any) -> Any:
    from typing import Annotated

    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


def _say(allowed: Sequence[Any] | None) -> str:
    return "one of " + ", ".join(map(str, allowed)) if allowed else ""
