"""The names that a condition may use: problem sizes, facts of the target, and derived quantities, declared here once per family.

A quantity's formula is written in the language of the conditions, so that `pick`, `explain` and the C++ header compute the same thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from kgen.dispatch.evaluate import Domain, Range, Value, closure, possible
from kgen.dispatch.predicate import Node, parse
from kgen.spec.arch import ArchFacts, arch_facts
from kgen.spec.problem import GemmShape
from kgen.spec.registry import tabled

SIZE_MAX = (
    1 << 31
) - 1  # of M, N and K each: what a 32-bit kernel argument can say, and what keeps conditions inside 64 bits
CU_MAX = 4096
Traits = tuple[int | bool, ...]
"""Values of a family's traits, in its order."""

VARIABLES: dict[str, str] = {
    "M": "output features: rows of the weight",
    "N": "activation rows",
    "K": "reduction length",
    "dtype": '"bf16" or "fp16"; "fp32" in gemm_4bit',
    "cu": "CUs of the device as HIP reports them (on RDNA: work-group processors); without a device, those of the target's part",
}


@dataclass(frozen=True)
class Quantity:
    """A derived quantity: its name, its formula in the language of the conditions, and what it means."""

    name: str
    formula: str
    doc: str


def _skinny(bytes_per_element: str) -> tuple[Quantity, ...]:
    """Of a linear layer; `bytes_per_element` is a factor and its times sign, empty for 8-bit elements."""
    return (
        Quantity(
            "tiles_per_cu",
            "ceil_div(M, 4 * cu)",
            "output features per CU in fours, rounded up: 1 while four rows per CU suffice",
        ),
        Quantity(
            "act_bytes", f"{bytes_per_element}N * K", "bytes of the activations; STAGING lds keeps them whole in LDS"
        ),
        Quantity(
            "weight_bytes", f"{bytes_per_element}M * K", "bytes of the weights, which bound the time of a decode step"
        ),
    )


_TILES = (
    Quantity("blocks_64", "ceil_div(N, 64) * ceil_div(M, 128)", "blocks of 64 activation rows by 128 output features"),
    Quantity("blocks_128", "ceil_div(N, 128) * ceil_div(M, 128)", "blocks of 128 by 128"),
    Quantity("strips_128", "ceil_div(M, 128)", "output features in 128s: blocks of one block of activation rows"),
)

QUANTITIES: dict[str, tuple[Quantity, ...]] = {
    "wvsplitk": _skinny("2 * "),
    "llmm1": _skinny("2 * "),
    "wvsplitkq": _skinny(""),
    "gemm_4bit": (
        *_skinny("2 * ")[:1],
        Quantity("weight_bytes", "M * K // 2", "bytes of the codes, which bound the time of a decode step"),
    ),
    "wvsplitk_int4": (
        *_skinny("2 * ")[:2],
        Quantity("weight_bytes", "M * K // 2", "bytes of the codes, which bound the time of a decode step"),
    ),
    "moe_wvsplitk_int4": (
        Quantity("act_bytes", "2 * N * K", "bytes of a block's activations; STAGING lds keeps them whole in LDS"),
        Quantity("expert_bytes", "M * K // 2", "bytes of one expert's codes, of the gates alone where there are gates"),
    ),
    "moe_down_reduce": (
        Quantity("slot_bytes", "2 * K", "bytes of one slot's activations; STAGING lds keeps those of all slots in LDS"),
        Quantity("expert_bytes", "M * K // 2", "bytes of one expert's codes"),
    ),
    "moe_gemm_w4a16": (
        Quantity("expert_bytes", "M * K // 2", "bytes of one expert's codes, of the gates alone where there are gates"),
    ),
    "gemm_w4a16": _TILES,
    "dequantize_w4a16": (Quantity("weight_bytes", "M * K // 2", "bytes of the codes; four times as many are written"),),
    "w4a16_linear": (
        *_TILES,
        Quantity("act_bytes", "2 * N * K", "bytes of the activations"),
        Quantity("weight_bytes", "M * K // 2", "bytes of the codes"),
    ),
    "moe_w4a16": (
        Quantity("rows_per_expert", "ceil_div(N, 16)", "slots that an expert gets on average: N counts those of 16"),
        Quantity("expert_bytes", "M * K // 2", "bytes of a third of one expert's codes: its gates"),
    ),
    "wvsplitkrc": (
        Quantity("strips", "ceil_div(M, 64)", "output features in 64s: what one work-group's four waves make together"),
        Quantity(
            "shards", "ceil_div(K, 512)", "work-groups that share a tile's K with CHUNKK 1; CHUNKK 2 has twice as many"
        ),
    ),
}


@dataclass(frozen=True)
class Scope:
    """Names of one family on one target: facts as constants, quantities as formulas over sizes and facts."""

    family: str
    arch: str
    facts: Mapping[str, int | bool]
    quantities: tuple[Quantity, ...]
    trees: Mapping[str, Node]
    formulas: tuple[tuple[str, Callable[[Mapping[str, Any]], Any]], ...]

    def environment(self, shape: GemmShape, dtype: str, cu: int) -> dict[str, Any]:
        """The value of every name for one problem."""
        env = {**self.values(shape.N, dtype, shape.traits, cu), "M": shape.M, "K": shape.K}
        for name, formula in self.formulas:
            env[name] = formula(env)
        return env

    def values(self, N: int, dtype: str, traits: Mapping[str, int | bool], cu: int) -> dict[str, Any]:
        """The value of every name but M, K and the quantities; traits by name."""
        return {**self.facts, "N": N, "dtype": dtype, "cu": cu, **traits}

    def domain(self, N: int | None = None, dtype: str | None = None, traits: Traits | None = None) -> Domain:
        """What each name can be, for every problem or for those of one N, dtype or set of traits (values in the family's order)."""
        return _domain(self.family, self.arch, N, dtype, traits)


@cache
def _domain(family: str, arch: str, N: int | None, dtype: str | None, traits: Traits | None) -> Domain:
    names_of = scope(family, arch)
    size = Range(1, SIZE_MAX)
    names: dict[str, Value] = {"M": size, "N": size if N is None else Range(N, N), "K": size, "cu": Range(1, CU_MAX)}
    names["dtype"] = frozenset(tabled(family).dtypes() if dtype is None else (dtype,))
    for index, (name, values) in enumerate(tabled(family).traits.items()):
        names[name] = _values(values if traits is None else (traits[index],))
    for name, value in names_of.facts.items():
        names[name] = frozenset((value,)) if isinstance(value, bool) else Range(value, value)
    for name, tree in names_of.trees.items():
        names[name] = possible(tree, names)
    return names


def _values(values: tuple[int | bool, ...]) -> Value:
    """Values of a trait as a domain."""
    if all(isinstance(value, bool) for value in values):
        return frozenset(bool(value) for value in values)
    return Range(min(values), max(values))


def trait_values(family: str) -> list[Traits]:
    """Every combination of a family's traits, in the order in which the family names them; one empty one where it has none."""
    return list(product(*tabled(family).traits.values()))


def facts_named(facts: ArchFacts) -> dict[str, int | bool]:
    """The facts that a condition may use: whole numbers and yes/no, except `cu`, which the device decides."""
    values = {name: getattr(facts, name) for name in type(facts).model_fields if name != "cu"}
    return {name: value for name, value in values.items() if isinstance(value, int)}


@cache
def scope(family: str, arch: str) -> Scope:
    """The names that the conditions of a family's table may use on a target."""
    quantities = QUANTITIES[family]
    trees = {quantity.name: parse(quantity.formula) for quantity in quantities}
    formulas = tuple((name, closure(tree)) for name, tree in trees.items())
    return Scope(family, arch, facts_named(arch_facts(arch)), quantities, trees, formulas)
