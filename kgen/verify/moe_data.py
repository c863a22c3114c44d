"""What cases of all expert families are made of: stacked int4 weights, routing that skips and pads, and silu, in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from kgen.spec.problem import MoeShape
from kgen.spec.w4 import WORD
from kgen.verify.cases import Case
from kgen.verify.data import Extra
from kgen.verify.elements import POISON, Bits, Doubles
from kgen.verify.int4 import Int4Weights, int4_weights, pack_codes, pack_zeros

Skipped = Literal["none", "some", "all"]
BEYOND_LAST = 0x7FFFFFFF  # an expert and a slot that no kernel may follow: what lies behind the filled blocks
QUIET = 0.125  # scale of activations whose two products are multiplied, so that fp16 holds the result


@dataclass(frozen=True)
class MoeCase(Case):
    """A problem of an expert kernel. skipped: experts of another device, -1; listed: whether the slots come as a list, or in order.

    spare: blocks of the launch behind the filled ones, which only the device knows of. routing: seed of the chosen experts; the number of
    blocks follows from it, so that the data may change by its own seed.
    """

    skipped: Skipped = "none"
    listed: bool = True
    spare: int = 0
    routing: int = 0

    @property
    def moe(self) -> MoeShape:
        """The shape by its own type."""
        assert isinstance(self.shape, MoeShape)
        return self.shape

    @property
    def nan_row(self) -> int | None:
        return self.seed % self.moe.tokens if self.values == "nan" else None

    def title(self) -> str:
        shape = self.moe
        return f"{super().title()}, top {shape.top_k} of {shape.experts}, {shape.tokens} tokens, {shape.blocks} blocks, {self.skipped} skipped"


@dataclass(frozen=True)
class MoeOperands:
    """What a launch needs; see kgen.verify.data.Data. Rows of the output that the kernel must leave alone are NaN in `reference`."""

    given: Mapping[str, Any]
    scalars: Mapping[str, int]
    reference: Doubles
    magnitude: Doubles
    expected: Bits | None = None
    extras: Mapping[str, Extra] = field(default_factory=dict)

    @property
    def out_shape(self) -> tuple[int, int]:
        """[slots or tokens, M]."""
        return self.reference.shape[0], self.reference.shape[1]

    def arrays(self) -> dict[str, Any]:
        """By argument name, None for a null pointer."""
        return dict(self.given)

    def sizes(self) -> dict[str, int]:
        """Strides and counts by argument name."""
        return dict(self.scalars)


# ---- weights


class StackSpec(Protocol):
    """What of a spec decides how its weights look."""

    @property
    def GROUP_SIZE(self) -> int: ...
    @property
    def HAS_ZP(self) -> bool: ...
    @property
    def dtype(self) -> Any: ...


@dataclass(frozen=True)
class Experts:
    """Weights of all experts, packed one after the other, and of each its values and sizes in fp64, [rows, K]."""

    each: Sequence[Int4Weights]
    arrays: Mapping[str, Any]
    strides: Mapping[str, int]


def experts_of(spec: StackSpec, case: MoeCase, rng: np.random.Generator, rows: int) -> Experts:
    """`rows` weight rows of every expert; with a row padding also a row of poison between experts."""
    shape, group, dtype = case.moe, spec.GROUP_SIZE, spec.dtype
    each = [int4_weights(rng, rows, shape.K, group, spec.HAS_ZP, dtype) for _ in range(shape.experts)]
    pad, between = case.weight_pad, 1 if case.weight_pad else 0
    word = POISON << 16 | POISON
    codes, code_strides = _stacked([pack_codes(one.codes) for one in each], pad // WORD, between, word, np.uint32)
    scales, scale_strides = _stacked([one.scale_bits for one in each], pad // group, between, POISON, np.uint16)
    zeros, zero_strides = None, (shape.K // group, 0)
    if spec.HAS_ZP:
        zeros, zero_strides = _stacked(
            [pack_zeros(one.zero_points()) for one in each], pad // group, between, word, np.uint32
        )
    names = (("code", code_strides), ("scale", scale_strides), ("zero", zero_strides))
    strides = {
        f"{name}_{what}": value for name, both in names for what, value in zip(("stride", "expert"), both, strict=True)
    }
    return Experts(each, {"codes": codes, "scales": scales, "zeros": zeros}, strides)


def _stacked(parts: Sequence[Any], extra: int, between: int, poison: int, dtype: Any) -> tuple[Any, tuple[int, int]]:
    """Equal matrices in one flat array, poison between rows and experts and none after the last; distances of rows and of experts."""
    rows, width = parts[0].shape
    out = np.full((len(parts), rows + between, width + extra), poison, dtype)
    for at, part in enumerate(parts):
        out[at, :rows, :width] = part
    flat = out.reshape(-1)
    return flat[: flat.size - between * (width + extra) - extra].copy(), (
        width + extra,
        (rows + between) * (width + extra),
    )


# ---- routing


def random_ids(case: MoeCase, rng: np.random.Generator) -> Any:
    """Different experts for the slots of a token, [tokens, top_k]; -1 for those of another device."""
    shape = case.moe
    ids = np.stack([rng.permutation(shape.experts)[: shape.top_k] for _ in range(shape.tokens)]).astype(np.int32)
    away = {"none": 0, "some": max(1, shape.experts // 3), "all": shape.experts}[case.skipped]
    return np.where(ids < away, np.int32(-1), ids)


def aligned(ids: Any, experts: int, N: int) -> tuple[list[int], list[int]]:
    """Expert of every block, slots block by block; incomplete blocks end with slots beyond the last. Slots of expert -1 come last."""
    slots, flat = ids.size, ids.reshape(-1)
    blocks: list[int] = []
    order: list[int] = []
    for expert in (*range(experts), -1):
        mine = np.flatnonzero(flat == expert).tolist()
        mine += [slots] * (-len(mine) % N)
        order += mine
        blocks += [expert] * (len(mine) // N)
    return blocks, order


def blocks_of(shape: MoeShape, routing: int, skipped: Skipped) -> int:
    """How many blocks a case with these numbers has; `shape.blocks` is not looked at."""
    case = MoeCase("", shape, routing=routing, skipped=skipped)
    return len(aligned(random_ids(case, routing_of(case)), shape.experts, shape.N)[0])


def routing_of(case: MoeCase) -> np.random.Generator:
    """What chooses a case's experts."""
    shape = case.moe
    return np.random.default_rng([case.routing, shape.N, shape.experts, shape.top_k, shape.tokens])


# ---- silu


def silu(x: Any) -> Any:
    """x / (1 + exp(-x)), exact where exp overflows."""
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-x))


def gated(gate: Any, up: Any, gate_size: Any, up_size: Any) -> tuple[Any, Any]:
    """silu(gate) * up, and how far errors of both go through it: silu's slope is at most 1.1."""
    return silu(gate) * up, 1.1 * np.abs(up) * gate_size + np.abs(silu(gate)) * up_size
