"""W4: the layout that the int4 kernels read, as a type, with its reference dequantiser.

weight  int32 [M, K / 8]. Word j of row m holds k = 8j .. 8j + 7 as unsigned codes q in shuffled order (`nibbles`):
        value i at bit 4 * (i // 2) + 16 * (i % 2). Rows may be further apart than K / 8 words, by a multiple of 16 bytes.
scales  fp16 or bf16 [M, K / group], row-major
zeros   None: the value is (q - 8) * scale; or int32 [ceil(M / 8), K / group]: row m in word m // 8 at bits 4 * (m % 8), the value is (q - z) * scale

Experts of a mixture have all three with a leading dimension E. M counts output features, K the reduction. See docs/packing.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kgen.ops.pack.checks import GROUP_WORDS, GROUPS, REQUANTISE, SCALE_TYPES, Checks, described
from kgen.ops.pack.nibbles import PER_WORD, pack_columns, unpack_columns, unpack_words

SYMMETRIC = 8
"""The zero point where there is none."""
ALL_SYMMETRIC = -0x77777778  # 0x88888888 as int32: eight zero points of 8
CLIFF_BYTES = 512
"""Rows that are a multiple of this many bytes apart meet a cache cliff on gfx1151; vLLM's weight loader pads such rows too, from 1024 bytes on."""
PAD_WORDS = 32  # 128 bytes, one cache line
ALIGN_WORDS = 4  # 16 bytes: rows are read 16 bytes at a time


@dataclass(frozen=True, eq=False)
class PackedW4:
    """One layer, or E experts of one layer, in the kernels' layout; the tensors are as the module describes them.

    group  elements of K under one scale: 32, 64 or 128
    M, K   output features (of one expert) and reduction
    """

    weight: Tensor
    scales: Tensor
    zeros: Tensor | None
    group: int
    M: int
    K: int

    @property
    def E(self) -> int | None:
        """Experts; None for a plain layer, whose tensors have no such dimension."""
        return self.weight.shape[0] if self.weight.dim() == 3 else None

    @property
    def row_stride(self) -> int:
        """Words from one row of `weight` to the next."""
        return self.weight.stride(-2)

    @property
    def symmetric(self) -> bool:
        """Whether every zero point is 8."""
        return self.zeros is None

    def expert(self, index: int) -> PackedW4:
        """One expert as a plain layer; views, not copies."""
        zeros = None if self.zeros is None else self.zeros[index]
        return replace(self, weight=self.weight[index], scales=self.scales[index], zeros=zeros)


def row_stride(K: int, pad: bool = True) -> int:
    """Words from row to row for a reduction of K: K / 8, and with `pad` 32 more (128 bytes) where a row is a multiple of 512 bytes."""
    on_cliff = (K // 2) % CLIFF_BYTES == 0
    return K // PER_WORD + (PAD_WORDS if pad and on_cliff else 0)


def empty_weight(M: int, K: int, pad: bool, device: torch.device, experts: int | None = None) -> Tensor:
    """int32 [M, K / 8] (or [E, M, K / 8]) with rows `row_stride(K, pad)` apart; the padding is 0, the rest whatever was there."""
    lead = () if experts is None else (experts,)
    words = K // PER_WORD
    rows = torch.empty((*lead, M, row_stride(K, pad)), dtype=torch.int32, device=device)
    rows[..., words:] = 0
    return rows[..., :words]


def padded_rows(packed: PackedW4) -> Tensor:
    """The weight as a contiguous int32 [M, row_stride] ([E, M, row_stride]) whose padding is 0; what a file can store."""
    extra = packed.row_stride - packed.K // PER_WORD
    return torch.nn.functional.pad(packed.weight, (0, extra)) if extra else packed.weight.contiguous()


def same_zeros(M: int, groups: int, zero: int, device: torch.device) -> Tensor:
    """int32 [ceil(M / 8), groups] with every zero point equal; nibbles beyond row M are 0, as the packers of all formats leave them."""
    codes = torch.full((M, 1), zero, dtype=torch.uint8, device=device)
    return pack_columns(codes).repeat(1, groups)


def without_symmetric(zeros: Tensor, M: int) -> Tensor | None:
    """None if every zero point is 8, so that nothing has to be read for them; else `zeros`. Exact: (q - 8) is what they say."""
    if M % PER_WORD == 0:
        return None if bool((zeros == ALL_SYMMETRIC).all()) else zeros
    return None if torch.equal(zeros, same_zeros(M, zeros.shape[-1], SYMMETRIC, zeros.device)) else zeros


def zeros_of(packed: PackedW4) -> Tensor:
    """Zero points of a plain layer as a tensor, also where they are all 8."""
    if packed.zeros is not None:
        return packed.zeros
    return same_zeros(packed.M, packed.K // packed.group, SYMMETRIC, packed.weight.device)


def validate(packed: PackedW4) -> None:
    """Raise PackError with all that is wrong with types, shapes, strides and group; contents are not looked at."""
    checks = Checks("int4 weights that the kernels do not take")
    if packed.group not in GROUPS or packed.K <= 0 or packed.K % packed.group:
        checks.add("group", f"{packed.group} for K = {packed.K}", f"{GROUP_WORDS}; K a multiple of it", REQUANTISE)
        checks.done()
    lead = () if packed.E is None else (packed.E,)
    groups, words = packed.K // packed.group, packed.K // PER_WORD
    _check(checks, "weight", packed.weight, (torch.int32,), (*lead, packed.M, words))
    _check(checks, "scales", packed.scales, SCALE_TYPES, (*lead, packed.M, groups))
    if packed.zeros is not None:
        _check(checks, "zeros", packed.zeros, (torch.int32,), (*lead, -(-packed.M // PER_WORD), groups))
    checks.done()
    if packed.M > 1 and (packed.row_stride < words or packed.row_stride % ALIGN_WORDS):
        allowed = f"at least {words} words, a multiple of {ALIGN_WORDS} (16 bytes)"
        checks.add("weight", f"rows {packed.row_stride} words apart", allowed, "`empty_weight` makes such rows")
    checks.done()


def _check(checks: Checks, name: str, tensor: Tensor, types: Sequence[torch.dtype], shape: tuple[int, ...]) -> None:
    side_by_side = tensor.dim() == len(shape) and tensor.stride(-1) == 1
    if tuple(tensor.shape) != shape or tensor.dtype not in types or not (side_by_side or shape[-1] == 1):
        kinds = " or ".join(str(kind).removeprefix("torch.") for kind in types)
        strides = f" with strides {list(tensor.stride())}" if tensor.dim() else ""
        checks.add(name, described(tensor) + strides, f"{kinds} {list(shape)}, a row's elements side by side")


def dequantise(packed: PackedW4, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weights as numbers, [M, K] or [E, M, K]: (q - z) * scale.

    Exact in fp32 and fp64: q - z has five bits and a scale at most eleven, so the product fits into 24. The reference for the kernels and the
    packers; it takes `dtype` times M * K of memory, and reads nothing but what `validate` describes. Raises PackError as `validate` does.
    """
    validate(packed)
    codes = unpack_words(packed.weight).unflatten(-1, (-1, packed.group)).to(torch.int8)
    zero: Tensor | int = SYMMETRIC
    if packed.zeros is not None:
        zero = unpack_columns(packed.zeros, packed.M).to(torch.int8).unsqueeze(-1)
    return ((codes - zero).to(dtype) * packed.scales.to(dtype).unsqueeze(-1)).flatten(-2)


def join_rows(parts: Sequence[PackedW4], pad: bool = True) -> PackedW4:
    """Layers over the same K as one, row after row: a gate's rows, then the up projection's.

    Exact. Parts of which only some are symmetric get zero points of 8 there. Raises PackError if K, group, scale type or device differ.
    """
    first = _alike(parts, "layers that cannot be joined", with_rows=False)
    M = sum(part.M for part in parts)
    weight = empty_weight(M, first.K, pad, first.weight.device)
    torch.cat([part.weight for part in parts], out=weight)
    scales = torch.cat([part.scales for part in parts])
    zeros = None
    if not all(part.symmetric for part in parts):
        zeros = pack_columns(torch.cat([unpack_columns(zeros_of(part), part.M) for part in parts]))
    return PackedW4(weight, scales, zeros, first.group, M, first.K)


def stack_experts(parts: Sequence[PackedW4], pad: bool = True) -> PackedW4:
    """E layers of one shape as [E, ...]. Exact; zero points, PackError and padding as in `join_rows`, and M must agree too."""
    first = _alike(parts, "experts that cannot be stacked", with_rows=True)
    weight = empty_weight(first.M, first.K, pad, first.weight.device, experts=len(parts))
    for index, part in enumerate(parts):
        weight[index] = part.weight
    scales = torch.stack([part.scales for part in parts])
    zeros = None if all(part.symmetric for part in parts) else torch.stack([zeros_of(part) for part in parts])
    return PackedW4(weight, scales, zeros, first.group, first.M, first.K)


def _alike(parts: Sequence[PackedW4], what: str, with_rows: bool) -> PackedW4:
    """The first part, once all of them are known to agree with it."""
    checks = Checks(what)
    if not parts or any(part.E is not None for part in parts):
        checks.add("parts", "none, or already stacked", "at least one plain layer")
        checks.done()
    kinds = [_kind(part, with_rows) for part in parts]
    for index, kind in enumerate(kinds):
        if kind != kinds[0]:
            checks.add(f"part {index}", kind, f"{kinds[0]}, as part 0")
    checks.done()
    return parts[0]


def _kind(part: PackedW4, with_rows: bool) -> str:
    rows = f"M = {part.M}, " if with_rows else ""
    return f"{rows}K = {part.K}, group {part.group}, scales {part.scales.dtype}, on {part.weight.device}"


def check_plain(packed: PackedW4, form: str) -> Checks:
    """Raise PackError unless this is one valid layer: formats know no stacks. Else what further checks for `form` go on with."""
    validate(packed)
    checks = Checks(f"layer that has no form in {form}")
    if packed.E is not None:
        checks.add("packed", f"a stack of {packed.E} experts", "one layer", "`packed.expert(e)` for each e")
    checks.done()
    return checks
