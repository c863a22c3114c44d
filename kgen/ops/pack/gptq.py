"""GPTQ's layout, as AutoGPTQ and GPTQModel write it, with either version of zero points.

qweight  int32 [K / 8, M]      eight consecutive k to a word, in plain order
qzeros   int32 [K / g, M / 8]  eight output features to a word, in plain order
scales   fp16  [K / g, M]
g_idx    int32 [K], optional   the group of each k

The value is (q - z) * scale. Version 2 ("gptq_v2") stores z; version 1 ("gptq") stores z - 1, which has no place for z = 0. What a stored 15 means
in version 1 depends on who wrote it:

- AutoGPTQ subtracts 1 from each zero point and ors the results into words as 32-bit numbers. z = 0 becomes -1, all ones, and the zero points above it
  in the word are lost.
- GPTQModel subtracts 0x11111111 from whole version-2 words, so z = 0 borrows from the zero point above it.
- Readers add 1 to each: some let 15 become 16 (AutoGPTQ's early CUDA path, ExLlama's kernels), some keep four bits and get 0 (AutoGPTQ's later ones),
  GPTQModel adds 0x11111111 to the word, and undoes what it did.

So a version-1 word with a nibble of 15 is refused unless the caller says how it was made (`wrap`); symmetric checkpoints store 7 and never have one.
Sources: AutoGPTQ, auto_gptq/nn_modules/qlinear/qlinear_cuda_old.py (`pack`, `forward`); GPTQModel, gptqmodel/utils/model.py
(`convert_gptq_v1_to_v2_format_module`, `convert_gptq_v2_to_v1_format_module`).

Activation order (g_idx other than k // g) is refused: it would need the activations gathered in another order, which the kernels do not do.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kgen.ops.pack.checks import SCALE_TYPES, Checks, check_order
from kgen.ops.pack.layout import PackedW4, check_plain, empty_weight, validate, without_symmetric, zeros_of
from kgen.ops.pack.nibbles import PER_WORD, shuffle, transposed, unshuffle

Wrap = Literal["refuse", "nibble", "word"]
WRAPS: tuple[Wrap, ...] = ("refuse", "nibble", "word")
_ONES = 0x11111111


def pack_gptq(
    qweight: Tensor,
    qzeros: Tensor,
    scales: Tensor,
    g_idx: Tensor | None = None,
    *,
    version: Literal[1, 2] = 1,
    wrap: Wrap = "refuse",
    pad: bool = True,
) -> PackedW4:
    """One GPTQ layer in the kernels' layout; the tensors are as the module describes them, on one device.

    version  1: zero points are stored minus one; 2: as they are
    wrap     version 1 only, what a stored 15 means. refuse: PackError. nibble: each zero point is (stored + 1) mod 16. word: GPTQModel's own
             inverse, 0x11111111 added to the word mod 2^32. Where no 15 is stored all three are the same
    pad      rows off the 512-byte cache cliff

    Exact: no value changes, and `unpack_gptq` with the same version and wrap gives the same bits back. Raises PackError on other types or shapes,
    activation order, or another group size than 32, 64 or 128.
    """
    checks = Checks("GPTQ layer that cannot be packed")
    checks.matrix("qweight", qweight, (torch.int32,), "[K / 8, M]")
    checks.matrix("scales", scales, SCALE_TYPES, "[K / group, M]")
    checks.matrix("qzeros", qzeros, (torch.int32,), "[K / group, M / 8]")
    K, M, groups = qweight.shape[0] * PER_WORD, qweight.shape[1], scales.shape[0]
    checks.rows_of_eight(M)
    checks.shape("scales", scales, (groups, M), "[K / group, M]")
    checks.shape("qzeros", qzeros, (groups, M // PER_WORD), "[K / group, M / 8]")
    group = checks.group(K, groups)
    check_order(checks, "g_idx", g_idx, K, group)
    checks.done()
    weight = empty_weight(M, K, pad, qweight.device)
    weight.copy_(shuffle(qweight).t())
    raw = _add_one(qzeros, wrap) if version == 1 else qzeros
    zeros = without_symmetric(transposed(raw), M)
    packed = PackedW4(weight, transposed(scales), zeros, group, M, K)
    validate(packed)
    return packed


def unpack_gptq(
    packed: PackedW4, *, version: Literal[1, 2] = 1, wrap: Wrap = "refuse", with_g_idx: bool = True
) -> dict[str, Tensor]:
    """The inverse of `pack_gptq`: `qweight`, `qzeros`, `scales` and, unless it is not wanted, `g_idx` = k // group as int32; contiguous.

    Raises PackError for a stack, if M is not a multiple of 8, or if a zero point is 0, the version is 1 and wrap is refuse.
    """
    checks = check_plain(packed, "GPTQ")
    checks.rows_of_eight(packed.M)
    checks.done()
    zeros = transposed(zeros_of(packed))
    tensors = {
        "qweight": unshuffle(transposed(packed.weight)),
        "qzeros": _subtract_one(zeros, wrap) if version == 1 else zeros,
        "scales": transposed(packed.scales),
    }
    if with_g_idx:
        k = torch.arange(packed.K, dtype=torch.int32, device=packed.weight.device)
        tensors["g_idx"] = k // packed.group
    return tensors


def _add_one(stored: Tensor, wrap: Wrap) -> Tensor:
    """Zero points from version-1 words."""
    if wrap == "word":
        return stored + _ONES
    if wrap == "refuse" and _has(stored, 15):
        checks = Checks("GPTQ layer that cannot be packed")
        checks.add(
            "qzeros",
            "zero points stored as 15 in version 1, which subtracts 1: the writer had a zero point of 0 and no place for it",
            "0 to 14",
            "wrap `word` if GPTQModel made it (its own inverse), `nibble` if each was taken mod 16 by itself; AutoGPTQ's own are damaged",
        )
        checks.done()
    return _each_nibble(stored, 1)


def _subtract_one(zeros: Tensor, wrap: Wrap) -> Tensor:
    """The inverse of `_add_one`."""
    if wrap == "word":
        return zeros - _ONES
    if wrap == "refuse" and _has(zeros, 0):
        checks = Checks("layer that has no form in GPTQ version 1")
        checks.add("zeros", "a zero point of 0", "1 to 15: version 1 stores z - 1", "version 2, which stores z")
        checks.done()
    return _each_nibble(zeros, 15)


def _each_nibble(words: Tensor, amount: int) -> Tensor:
    """Every nibble plus `amount`, mod 16; even and odd nibbles apart, so that a carry falls into a gap that is cleared."""
    even, odd = 0x0F0F0F0F, -0x0F0F0F10  # the second is 0xF0F0F0F0 as int32
    low = ((words & even) + amount * 0x01010101).bitwise_and_(even)
    high = ((words >> 4).bitwise_and_(even) + amount * 0x01010101).bitwise_and_(even)
    return (high << 4).bitwise_and_(odd).bitwise_or_(low)


def _has(words: Tensor, value: int) -> bool:
    """Whether any nibble is `value`."""
    return any(bool(((words >> 4 * nibble).bitwise_and_(15) == value).any()) for nibble in range(PER_WORD))
