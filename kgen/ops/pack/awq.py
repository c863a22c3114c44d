"""AWQ's GEMM layout, as the package AutoAWQ writes it.

qweight  int32 [K, M / 8]      eight output features to a word, nibble p holding feature SHUFFLE[p] = 0 2 4 6 1 3 5 7 of the eight
qzeros   int32 [K / g, M / 8]  the same order
scales   fp16  [K / g, M]

The value is (q - z) * scale, z as stored. Source: AutoAWQ, awq/modules/linear/gemm.py (`order_map`) and awq/utils/packing_utils.py (`AWQ_ORDER`,
`dequantize_gemm`). Its other layouts (gemv, gemv_fast, marlin) differ and are not read here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kgen.ops.pack.checks import SCALE_TYPES, Checks
from kgen.ops.pack.layout import PackedW4, check_plain, empty_weight, validate, without_symmetric, zeros_of
from kgen.ops.pack.nibbles import PER_WORD, shuffle, transposed, turn, unshuffle


def pack_awq(qweight: Tensor, qzeros: Tensor, scales: Tensor, *, pad: bool = True) -> PackedW4:
    """One AWQ layer in the kernels' layout; the tensors are as the module describes them, on one device.

    pad  rows off the 512-byte cache cliff
    Exact: no value changes, and `unpack_awq` gives the same bits back. Raises PackError on other types or shapes, K not a multiple of 8, or another
    group size than 32, 64 or 128.
    """
    checks = Checks("AWQ layer that cannot be packed")
    checks.matrix("qweight", qweight, (torch.int32,), "[K, M / 8]")
    checks.matrix("scales", scales, SCALE_TYPES, "[K / group, M]")
    checks.matrix("qzeros", qzeros, (torch.int32,), "[K / group, M / 8]")
    K, M, groups = qweight.shape[0], qweight.shape[1] * PER_WORD, scales.shape[0]
    checks.shape("scales", scales, (groups, M), "[K / group, M]")
    checks.shape("qzeros", qzeros, (groups, M // PER_WORD), "[K / group, M / 8]")
    group = checks.group(K, groups)
    checks.done()
    weight = empty_weight(M, K, pad, qweight.device)
    turn(qweight, weight)
    zeros = without_symmetric(transposed(unshuffle(qzeros)), M)
    packed = PackedW4(weight, transposed(scales), zeros, group, M, K)
    validate(packed)
    return packed


def unpack_awq(packed: PackedW4) -> dict[str, Tensor]:
    """The inverse of `pack_awq`: `qweight`, `qzeros` and `scales`, contiguous. Raises PackError for a stack, or if M is not a multiple of 8."""
    checks = check_plain(packed, "AWQ")
    checks.rows_of_eight(packed.M)
    checks.done()
    qweight = torch.empty((packed.K, packed.M // PER_WORD), dtype=torch.int32, device=packed.weight.device)
    turn(packed.weight, qweight)
    return {
        "qweight": qweight,
        "qzeros": shuffle(transposed(zeros_of(packed))),
        "scales": transposed(packed.scales),
    }
