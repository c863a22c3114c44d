"""Plain unsigned 4-bit codes: one to a byte, or two to a byte with the lower k in the low four bits.

No checkpoint's format; for quantisers of one's own. The value is (code - zero) * scale, with zero 8 where there are no zero points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kgen.ops.pack.checks import SCALE_TYPES, Checks, described
from kgen.ops.pack.layout import PackedW4, check_plain, empty_weight, validate, without_symmetric
from kgen.ops.pack.nibbles import pack_columns, pack_words, shuffle, unpack_columns, unpack_words, unshuffle

BYTES = (torch.uint8, torch.int8)


def pack_uint4(codes: Tensor, scales: Tensor, zeros: Tensor | None = None, *, pad: bool = True) -> PackedW4:
    """Codes, one to a byte, in the kernels' layout.

    codes   uint8 or int8 [M, K], 0 to 15
    scales  fp16 or bf16 [M, K / group]
    zeros   uint8 or int8 [M, K / group], 0 to 15; None: 8 throughout
    pad     rows off the 512-byte cache cliff

    Exact. Raises PackError on other types, shapes or group sizes, or a code outside 0 to 15.
    """
    checks = Checks("uint4 codes that cannot be packed")
    checks.matrix("codes", codes, BYTES, "[M, K], one code to a byte")
    K = codes.shape[1]
    zero_words = _check_scales(checks, scales, zeros, codes.shape[0])
    group = checks.group(K, scales.shape[1])
    _check_range(checks, "codes", codes)
    checks.done()
    weight = empty_weight(codes.shape[0], K, pad, codes.device)
    weight.copy_(pack_words(codes))
    return _packed(weight, scales, zero_words, group, K)


def pack_uint4_pairs(pairs: Tensor, scales: Tensor, zeros: Tensor | None = None, *, pad: bool = True) -> PackedW4:
    """Codes, two to a byte, in the kernels' layout.

    pairs  uint8 or int8 [M, K / 2]: byte j of a row holds k = 2j in its low and k = 2j + 1 in its high four bits
    The rest is as in `pack_uint4`; zeros are one to a byte here too.
    """
    checks = Checks("uint4 pairs that cannot be packed")
    checks.matrix("pairs", pairs, BYTES, "[M, K / 2], two codes to a byte, lower k in the low bits")
    K = pairs.shape[1] * 2
    zero_words = _check_scales(checks, scales, zeros, pairs.shape[0])
    group = checks.group(K, scales.shape[1])
    checks.done()
    weight = empty_weight(pairs.shape[0], K, pad, pairs.device)
    weight.copy_(
        shuffle(_contiguous_copy(pairs).view(torch.int32))
    )  # bytes in order of address: a plain word, as every host and GPU here is little-endian
    return _packed(weight, scales, zero_words, group, K)


def unpack_uint4(packed: PackedW4) -> dict[str, Tensor | None]:
    """The inverse of `pack_uint4`: `codes` uint8 [M, K], `scales`, and `zeros` uint8 [M, K / group], None if all are 8."""
    check_plain(packed, "uint4")
    return {"codes": unpack_words(packed.weight), "scales": packed.scales.contiguous(), "zeros": _zero_codes(packed)}


def unpack_uint4_pairs(packed: PackedW4) -> dict[str, Tensor | None]:
    """The inverse of `pack_uint4_pairs`: `pairs` uint8 [M, K / 2], `scales`, and `zeros` uint8 [M, K / group], None if all are 8."""
    check_plain(packed, "uint4")
    pairs = unshuffle(packed.weight).contiguous().view(torch.uint8)
    return {"pairs": pairs, "scales": packed.scales.contiguous(), "zeros": _zero_codes(packed)}


def _check_scales(checks: Checks, scales: Tensor, zeros: Tensor | None, M: int) -> Tensor | None:
    """Scales and zero points checked; the zero points as words."""
    checks.matrix("scales", scales, SCALE_TYPES, "[M, K / group]")
    checks.shape("scales", scales, (M, scales.shape[1]), "[M, K / group]")
    if zeros is None:
        return None
    if zeros.dtype not in BYTES:
        checks.add("zeros", described(zeros), "uint8 or int8 [M, K / group], one zero point to a byte")
    checks.shape("zeros", zeros, (M, scales.shape[1]), "[M, K / group]")
    _check_range(checks, "zeros", zeros)
    checks.done()
    return pack_columns(zeros)


def _check_range(checks: Checks, name: str, codes: Tensor) -> None:
    low, high = (int(value) for value in codes.aminmax())
    if low < 0 or high > 15:
        checks.add(name, f"{low} to {high}", "0 to 15", "add 8 to signed codes")


def _contiguous_copy(pairs: Tensor) -> Tensor:
    """A copy that starts at an address of its own: a slice's might not be a multiple of four bytes."""
    return pairs.clone(memory_format=torch.contiguous_format)


def _packed(weight: Tensor, scales: Tensor, zeros: Tensor | None, group: int, K: int) -> PackedW4:
    M = weight.shape[0]
    kept = None if zeros is None else without_symmetric(zeros, M)
    packed = PackedW4(weight, scales.contiguous(), kept, group, M, K)
    validate(packed)
    return packed


def _zero_codes(packed: PackedW4) -> Tensor | None:
    return None if packed.zeros is None else unpack_columns(packed.zeros, packed.M)
