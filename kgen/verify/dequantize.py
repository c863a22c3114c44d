"""Cases and data for kernels that write 4-bit weights out as numbers: what comes out is known to the bit.

The difference of a code and a zero point has 4 bits and a scale at most 11, so their product is exact in fp64 (and in fp32); rounding it once to
nearest even is all that happens to it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from kgen.spec.base import Dtype
from kgen.spec.dequantize_w4a16 import QUAD_K, DequantizeW4A16Spec
from kgen.spec.problem import GemmShape
from kgen.spec.w4 import WORD
from kgen.verify.cases import Case
from kgen.verify.data import Extra
from kgen.verify.dense import padded
from kgen.verify.elements import Bits, Doubles, from_bits, to_bits
from kgen.verify.int4 import int4_weights, pack_codes, pack_zeros, pad_words

Scales = Literal["usual", "extreme"]
# By type: the smallest number, one below the smallest normal one, one whose products round, the largest of which products are numbers, the largest.
_EXTREME: dict[Dtype, tuple[float, ...]] = {
    "bf16": (2.0**-133, 3 * 2.0**-128, 1.9921875, 2.0**124, 255 * 2.0**120),
    "fp16": (2.0**-24, 5 * 2.0**-18, 1.9990234375, 2.0**12, 65504.0),
}


@dataclass(frozen=True)
class DequantizeCase(Case):
    """`weight_pad` is in elements, a multiple of GROUP_SIZE. scales: around 0.05, or the smallest and largest that there are, where products
    have fewer bits or none.
    """

    scales: Scales = "usual"

    def title(self) -> str:
        pad = f", weight +{self.weight_pad}" if self.weight_pad else ""
        return f"{self.words}: M{self.shape.M} K{self.shape.K}, {self.scales} scales{pad}"


@dataclass(frozen=True)
class DequantizeOperands:
    """codes, zeros: words; scales: bit patterns; all flat, with padding between rows. expected [M, K], bit patterns."""

    codes: Any
    scales: Bits
    zeros: Any
    strides: dict[str, int]
    expected: Bits
    reference: Doubles

    @property
    def magnitude(self) -> Doubles:
        """Nothing is summed."""
        return np.abs(self.reference)

    @property
    def extras(self) -> dict[str, Extra]:
        """None: the output is all that is written."""
        return {}

    @property
    def out_shape(self) -> tuple[int, int]:
        """[M, K]."""
        return self.expected.shape[0], self.expected.shape[1]

    def arrays(self) -> dict[str, Any]:
        """By argument name, None for a null pointer."""
        return {"codes": self.codes, "scales": self.scales, "zeros": self.zeros}

    def sizes(self) -> dict[str, int]:
        """Strides by argument name."""
        return self.strides


@np.errstate(over="ignore")  # some products are infinite
def dequantize_operands(spec: DequantizeW4A16Spec, case: DequantizeCase) -> DequantizeOperands:
    """The data of a case; paddings do not change any value."""
    shape, dtype, group = case.shape, spec.dtype, spec.GROUP_SIZE
    rng = np.random.default_rng([case.seed, shape.M, shape.K, group])
    weights = int4_weights(rng, shape.M, shape.K, group, spec.HAS_ZP, dtype)
    if case.scales == "extreme":
        values = rng.choice(_EXTREME[dtype], weights.scales.shape) * rng.choice((1, -1), weights.scales.shape)
        bits = to_bits(values, dtype)
        weights = replace(weights, scale_bits=bits, scales=from_bits(bits, dtype))
    reference = weights.values()
    pad, groups = case.weight_pad // group, shape.K // group
    return DequantizeOperands(
        codes=pad_words(pack_codes(weights.codes), case.weight_pad // WORD),
        scales=padded(weights.scale_bits, pad, dtype),
        zeros=None if weights.zeros is None else pad_words(pack_zeros(weights.zeros), pad),
        strides={
            "code_stride": (shape.K + case.weight_pad) // WORD,
            "scale_stride": groups + pad,
            "zero_stride": groups + pad,
        },
        expected=to_bits(reference, dtype),
        reference=reference,
    )


def dequantize_cases(spec: DequantizeW4A16Spec, full: bool) -> list[DequantizeCase]:
    """Problems of a kernel: less than a wave, rows that end inside of a quad, several work-groups with a ragged last one, padding, extreme scales."""
    group = spec.GROUP_SIZE
    ragged = 3 * QUAD_K + group  # the last quad of a row is full for groups of 128 only
    many = max(2, 2 * spec.quads // 4 + 1)  # rows of four quads for two work-groups and a bit
    out = [
        _case(spec, "groups", many, ragged, weight_pad=QUAD_K, seed=1),
        _case(spec, "one group", 1, group, seed=2),
        _case(spec, "extreme", 9, ragged + group, "extreme", weight_pad=2 * QUAD_K, seed=3),
        _case(spec, "rows", 17, QUAD_K, seed=4),
    ]
    if full:
        ks = (group, QUAD_K - QUAD_K % group or QUAD_K, QUAD_K + group, 5 * QUAD_K, 4096)
        ms = (1, 7, 8, 9, spec.quads // 2 + 1)
        kinds: itertools.cycle[Scales] = itertools.cycle(("usual", "extreme"))
        pads = itertools.cycle((0, QUAD_K, 3 * QUAD_K))
        for number, (k, m) in enumerate(itertools.product(ks, ms)):
            out.append(_case(spec, "size", m, k, next(kinds), weight_pad=next(pads), seed=100 + number))
    return [case for case in out if spec.fits(case.shape) is None]


def _case(
    spec: DequantizeW4A16Spec, words: str, M: int, K: int, scales: Scales = "usual", weight_pad: int = 0, seed: int = 0
) -> DequantizeCase:
    shape: GemmShape = spec.shape_of(M, 1, K)
    return DequantizeCase(words, shape, weight_pad=weight_pad, seed=seed, scales=scales)
