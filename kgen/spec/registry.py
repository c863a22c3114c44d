"""Families by name: the one list of spec classes."""

from __future__ import annotations

from kgen.errors import Problem, SpecError
from kgen.spec.base import KernelSpec
from kgen.spec.dequantize_w4a16 import DequantizeW4A16Spec
from kgen.spec.gemm_4bit import Gemm4BitSpec
from kgen.spec.gemm_w4a16 import GemmW4A16Spec
from kgen.spec.llmm1 import Llmm1Spec
from kgen.spec.moe_down_reduce import MoeDownReduceSpec
from kgen.spec.moe_gemm_w4a16 import MoeGemmW4A16Spec
from kgen.spec.moe_wvsplitk_int4 import MoeWvSplitKInt4Spec
from kgen.spec.route import ROUTES, Route
from kgen.spec.wvsplitk import WvSplitKSpec
from kgen.spec.wvsplitk_int4 import WvSplitKInt4Spec
from kgen.spec.wvsplitkq import WvSplitKQSpec
from kgen.spec.wvsplitkrc import WvSplitKrcSpec

FAMILIES: dict[str, type[KernelSpec]] = {
    cls.family: cls
    for cls in (
        *(WvSplitKSpec, Llmm1Spec, WvSplitKQSpec, WvSplitKrcSpec, WvSplitKInt4Spec, Gemm4BitSpec),
        *(MoeWvSplitKInt4Spec, MoeDownReduceSpec, GemmW4A16Spec, MoeGemmW4A16Spec, DequantizeW4A16Spec),
    )
}


def family_class(family: str) -> type[KernelSpec]:
    """The spec class of a family; raises SpecError that lists the known ones."""
    if family not in FAMILIES:
        raise SpecError("unknown kernel family", [Problem(("family",), repr(family), ", ".join(FAMILIES))])
    return FAMILIES[family]


def tabled_names() -> tuple[str, ...]:
    """Everything that may have dispatch tables: the families, and the ops that choose among families."""
    return (*FAMILIES, *ROUTES)


def tabled(name: str) -> type[KernelSpec] | Route:
    """What the table of this name is of; raises SpecError that lists the known ones."""
    if name in ROUTES:
        return ROUTES[name]
    if name not in FAMILIES:
        raise SpecError("unknown kernel family", [Problem(("family",), repr(name), ", ".join(tabled_names()))])
    return FAMILIES[name]


def spec_from_name(name: str, arch: str) -> KernelSpec:
    """The spec that a kernel name stands for on a target; the family is the part before the first underscore."""
    return family_class(family_of(name)).from_name(name, arch)


def family_of(name: str) -> str:
    """The longest known family that the name starts with (families may share beginnings), else its first word."""
    known = [family for family in FAMILIES if name.startswith(family + "_")]
    return max(known, key=len) if known else name.split("_")[0]
