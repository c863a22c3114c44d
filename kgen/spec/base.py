"""What every kernel spec is: frozen parameters, rules that need the target's facts, derived values, and a name that parses back.

A family is one subclass in one file. Ranges sit on the field (`Param`); what depends on the target or on several fields is a method
marked `@rule` that answers a `Problem` or None. The sweep prunes with the same rules, so a pruned point and a rejected spec read alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kgen.errors import Problem, SpecError
from kgen.spec.arch import ARCHES, ArchFacts, arch_facts
from kgen.spec.problem import GemmShape, Workspace

Dtype = Literal["bf16", "fp16", "fp32"]
HALVES: tuple[Dtype, ...] = ("bf16", "fp16")
F = TypeVar("F", bound=Callable[..., "Problem | None"])

_OMITTED = (None, False)  # values whose part is left out of the name


def Param(
    default: Any = ..., *, doc: str, among: tuple[Any, ...] | None = None, named: bool = True, **limits: Any
) -> Any:
    """A spec parameter: default, range (`ge`, `le`) or the list of allowed values, and what it means.

    named  False: names leave the part out where the value is the default, as they did before the parameter was there
    """
    extra: Any = {"among": list(among)} if among else {}
    if not named:
        extra["unnamed"] = default
    return Field(default, description=doc, json_schema_extra=extra or None, **limits)


def rule(method: F) -> F:
    """Mark a method as a rule: it gets the target's facts and answers a Problem, or None when all is well."""
    method.__rule__ = True  # type: ignore[attr-defined]
    return method


@dataclass(frozen=True)
class Arg:
    """One kernel argument: C type, size in bytes and offset in the argument buffer; order is launch order."""

    name: str
    type: str
    bytes: int
    offset: int


def layout_args(*declarations: tuple[str, str]) -> tuple[Arg, ...]:
    """Offsets of (C type, name) pairs by the C layout rules: each at a multiple of its own size."""
    sizes = {"u32": 4, "i32": 4, "f32": 4, "u64": 8}
    out, offset = [], 0
    for ctype, name in declarations:
        size = 8 if ctype.endswith("*") else sizes[ctype]
        offset = -(-offset // size) * size
        out.append(Arg(name, ctype, size, offset))
        offset += size
    return tuple(out)


@dataclass(frozen=True)
class Launch:
    """Geometry of one launch: work-groups, work-items per group, bytes of dynamic LDS.

    early       the kernel itself waits for what runs before it in the stream, so the device may start it before that has ended
    lds_per_cu  with early: how much of a CU's memory is to be LDS, in bytes, so that kernels that ask alike run side by side; 0: the driver's choice
    """

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    lds_bytes: int
    early: bool = False
    lds_per_cu: int = 0


# What the kernels of a mixture's layer ask a CU to make LDS: it starts none beside another that asks for a different split. The rest is L1, through
# which weights stream: with all that LDS can have, 228 KiB, a layer took a tenth longer on an H200 (docs/performance/moe.md).
LAYER_LDS = 164 << 10


def early_problem(arch: ArchFacts) -> Problem | None:
    """Why a target has no EARLY kernels, or None."""
    if arch.vendor == "nvidia":
        return None
    found = f"true: on {arch.name} a kernel starts when the one before it has ended"
    return Problem(("EARLY",), found, "false; sm_90 has programmatic launches", "leave EARLY out")


class KernelSpec(BaseModel):
    """Base of all specs: the target and the element type of activations, weights and output."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    family: ClassVar[str]
    template: ClassVar[str]
    shape: ClassVar[type[GemmShape]] = GemmShape
    # What a problem brings besides type and sizes that a kernel is compiled for: names of fields, with every value that exists.
    traits: ClassVar[Mapping[str, tuple[int | bool, ...]]] = {}
    # Fields that say a trait under another name.
    trait_fields: ClassVar[Mapping[str, str]] = {}
    # Whether a kernel takes any number of activation rows: tables then look kernels up without it.
    any_rows: ClassVar[bool] = False

    arch: str = Param(doc="target the kernel is compiled for", among=tuple(ARCHES))
    dtype: Dtype = Param(doc="element type of activations, weights, bias and output", among=HALVES)

    # Of every family, with the values that it allows.
    if TYPE_CHECKING:
        THRDS: int
        WvPrGrp: int

    # ---- what each family states; docs are with the families

    @property
    def args(self) -> tuple[Arg, ...]:
        """Kernel arguments in launch order."""
        raise NotImplementedError

    @property
    def threads(self) -> int:
        """Work-items of a group."""
        return self.THRDS * self.WvPrGrp

    @property
    def block(self) -> tuple[int, int, int]:
        """Work-items of a group per dimension."""
        return (self.threads, 1, 1)

    @property
    def persistent(self) -> bool:
        """Whether groups walk over several tiles, so that staging the activations once pays."""
        return False

    @property
    def shard(self) -> int | None:
        """K elements of one work-group where several share the K of a tile, else None."""
        return None

    def workspace(self, shape: Any) -> Workspace | None:
        """Scratch memory of a launch, None where it needs none."""
        return None

    @property
    def grid_rule(self) -> str:
        """The grid in words."""
        raise NotImplementedError

    @property
    def grid_expr(self) -> str:
        """Number of work-groups as an expression of the problem and CU."""
        raise NotImplementedError

    @property
    def lds_expr(self) -> str:
        """Bytes of dynamic LDS as an expression of the problem; "0" for none."""
        raise NotImplementedError

    def launch(self, shape: Any, cu: int) -> Launch:
        """Geometry for a problem that fits, on a device of `cu` CUs."""
        raise NotImplementedError

    def layer_launch(self, shape: Any, cu: int) -> Launch:
        """Geometry right behind the kernel that comes before this one in a layer."""
        return self.launch(shape, cu)

    @property
    def same_bits(self) -> bool:
        """Whether every run gives the same bits."""
        return True

    def twins(self) -> tuple[KernelSpec, ...]:
        """Kernels that an op may take in this one's place at run time; they are built wherever this one is."""
        return ()

    # ---- names

    @classmethod
    def parameters(cls) -> tuple[str, ...]:
        """Names of the fields that stand in the kernel's name after the dtype, in their order."""
        return tuple(name for name in cls.model_fields if name not in ("arch", "dtype"))

    @classmethod
    def dtypes(cls) -> tuple[str, ...]:
        """The element types that kernels of the family exist for."""
        return tuple(_allowed(cls, "dtype") or get_args(Dtype))

    @classmethod
    def row_counts(cls) -> range:
        """The numbers of activation rows that kernels of the family exist for."""
        raise NotImplementedError

    def shape_of(self, M: int, N: int, K: int) -> GemmShape:
        """A problem with the traits that this kernel is compiled for."""
        return type(self).shape(M, N, K, *(getattr(self, name) for name in self.traits))

    def trait_problem(self, shape: GemmShape) -> Problem | None:
        """Why this kernel is none for the problem's traits, or None."""
        given = shape.traits
        for name in self.traits:
            found = given.get(name)
            if not self.serves(name, found):
                return Problem(
                    (name,),
                    "not given" if found is None else str(found),
                    f"{getattr(self, name)}, fixed in {self.name}",
                )
        return None

    def serves(self, trait: str, value: int | bool | None) -> bool:
        """Whether the kernel is one for problems with this value of a trait: where it is compiled for it."""
        return value == getattr(self, trait)

    @property
    def facts(self) -> ArchFacts:
        """Facts of the target."""
        return arch_facts(self.arch)

    @property
    def name(self) -> str:
        """Kernel symbol and file stem, e.g. `wvsplitk_bf16_N1_..._UNRL2`; the target is the build folder's name."""
        parts = [self.family, self.dtype]
        unnamed = _unnamed(type(self))
        for field in self.parameters():
            value = getattr(self, field)
            if field in unnamed and value == unnamed[field]:
                continue
            if value not in _OMITTED or (value == 0 and value is not False):
                parts.append(f"{field}{'' if value is True else value}")
        return "_".join(parts)

    @classmethod
    def from_name(cls, name: str, arch: str) -> Self:
        """The spec that a kernel name stands for; raises SpecError when it is not one of this family."""
        head = f"{cls.family}_"
        values: dict[str, Any] = {"arch": arch}
        rest = name.removeprefix(head)
        fields = "|".join(sorted((re.escape(f) for f in cls.parameters()), key=len, reverse=True))
        match = re.fullmatch(rf"(?P<dtype>[a-z0-9]+)(?P<rest>(_({fields})[A-Za-z0-9]*)*)", rest)
        if not name.startswith(head) or match is None:
            example = f"{cls.family}_DTYPE_" + "_".join(f"{f}VALUE" for f in cls.parameters())
            raise SpecError("not a kernel name", [Problem(("name",), repr(name), example)])
        values["dtype"] = match["dtype"]
        for field, value in re.findall(rf"_({fields})([A-Za-z0-9]*?)(?=_(?:{fields})|$)", match["rest"]):
            values[field] = (int(value) if value.isdigit() else value) if value else True
        spec = cls.checked(values, where=name)
        if spec.name != name:
            raise SpecError(
                "not a kernel name", [Problem(("name",), repr(name), f"the canonical spelling {spec.name!r}")]
            )
        return spec

    @classmethod
    def problems_of(cls, values: Mapping[str, Any], where: str = "") -> list[Problem]:
        """Everything that is wrong with these values: types and ranges first, then the rules; empty when a spec can be made."""
        return cls.tried(values, where)[1]

    @classmethod
    def tried(cls, values: Mapping[str, Any], where: str = "") -> tuple[Self | None, list[Problem]]:
        """A spec from values and what is wrong with it; no spec where types or ranges are."""
        try:
            spec = cls(**values)
        except ValidationError as error:
            found = [_as_problem(cls, entry, where) for entry in error.errors()]
            others = values.keys() & cls.model_fields.keys() - {problem.fields[0] for problem in found}
            unlisted = (
                _among_problem(cls, field, values[field], where) for field in cls.model_fields if field in others
            )
            return None, found + [problem for problem in unlisted if problem]
        return spec, spec.problems(where)

    @classmethod
    def checked(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """A spec from values, or SpecError with all its problems."""
        spec, problems = cls.tried(values, where)
        if problems or spec is None:
            raise SpecError(f"{cls.family} on {values.get('arch', 'no target')}: not a possible kernel", problems)
        return spec

    def problems(self, where: str = "") -> list[Problem]:
        """What the rules say against this spec on its target."""
        if self.arch not in ARCHES:
            return [Problem(("arch",), repr(self.arch), ", ".join(ARCHES), where=where)]
        cls = type(self)
        out = [_among_problem(cls, field, getattr(self, field), where) for field in cls.model_fields]
        if not any(out):
            out += [method(self, self.facts) for method in _rules(type(self))]
        return [_placed(problem, where) for problem in out if problem]


@cache
def _rules(cls: type[KernelSpec]) -> tuple[Callable[..., Problem | None], ...]:
    """The rules of a spec class; looking for them takes longer than asking them."""
    members: list[Any] = [getattr(cls, name, None) for name in dir(cls)]
    return tuple(member for member in members if getattr(member, "__rule__", False))


@cache
def _unnamed(cls: type[KernelSpec]) -> dict[str, Any]:
    """The values that names leave out beside those of _OMITTED, by field."""
    extras = {name: info.json_schema_extra for name, info in cls.model_fields.items()}
    return {name: extra["unnamed"] for name, extra in extras.items() if isinstance(extra, dict) and "unnamed" in extra}


def _placed(problem: Problem, where: str) -> Problem:
    return Problem(problem.fields, problem.found, problem.allowed, problem.next, where or problem.where)


def _allowed(cls: type[KernelSpec], field: str) -> list[Any] | None:
    """The values that a field's `among` lists, or None."""
    info = cls.model_fields.get(field)
    extra: Any = info.json_schema_extra if info else None
    return extra.get("among") if isinstance(extra, dict) else None


def _among_problem(cls: type[KernelSpec], field: str, value: Any, where: str) -> Problem | None:
    allowed = _allowed(cls, field)
    if allowed is None or value in allowed:
        return None
    return Problem((field,), repr(value), "one of " + ", ".join(map(str, allowed)), where=where)


def _as_problem(cls: type[KernelSpec], entry: Any, where: str) -> Problem:
    """A pydantic complaint in our words."""
    field = str(entry["loc"][0]) if entry["loc"] else "spec"
    if entry["type"] == "missing":
        return Problem((field,), "not given", "a value", where=where)
    if entry["type"] == "extra_forbidden":
        return Problem(
            (field,), "no such parameter", ", ".join(cls.model_fields), "check the spelling; case matters", where
        )
    info, allowed = cls.model_fields.get(field), _allowed(cls, field)
    words = "one of " + ", ".join(map(str, allowed)) if allowed else entry["msg"].removeprefix("Input should be ")
    doc = (info.description or "") if info else ""
    return Problem((field,), repr(entry.get("input")), words, f"{field}: {doc}" if doc else "", where)
