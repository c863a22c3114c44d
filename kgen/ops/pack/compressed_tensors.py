"""compressed-tensors' pack-quantized layout, as llm-compressor writes it.

weight_packed      int32 [M, K / 8]                       eight consecutive k to a word, in plain order, each stored as q + 8 with q from -8 to 7
weight_scale       fp16 or bf16 [M, K / g]
weight_zero_point  int32 [ceil(M / 8), K / g], optional   eight output features to a word, in plain order, each stored + 8; absent: symmetric
weight_shape       int64 or int32 [2], optional           M, K
weight_g_idx       int32 [K], optional                    the group of each k; where it holds a -1 it was never set and counts as absent

The value is (q - z) * scale. Weight and zero point carry the same offset of 8, so it cancels: (stored q - stored z) * scale, and without zero points
(stored q - 8) * scale. The zero points are laid out as the kernels' are and pass unchanged.
Source: compressed-tensors, src/compressed_tensors/compressors/pack_quantized (`pack_to_int32` with `packed_dim`, `PackedQuantizationCompressor`);
for g_idx quantization/lifecycle/forward.py (`-1 in g_idx`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from kgen.ops.pack.checks import SCALE_TYPES, Checks, check_order
from kgen.ops.pack.layout import PackedW4, check_plain, empty_weight, validate, without_symmetric, zeros_of
from kgen.ops.pack.nibbles import PER_WORD, shuffle, unshuffle


def pack_compressed_tensors(
    weight_packed: Tensor,
    weight_scale: Tensor,
    weight_zero_point: Tensor | None = None,
    weight_shape: Tensor | None = None,
    weight_g_idx: Tensor | None = None,
    *,
    pad: bool = True,
) -> PackedW4:
    """One pack-quantized layer of 4 bits in the kernels' layout; the tensors are as the module describes them, on one device.

    pad  rows off the 512-byte cache cliff
    Exact: no value changes, and `unpack_compressed_tensors` gives the same bits back. Raises PackError on other types or shapes, a shape that
    contradicts the words, activation order, or another group size than 32, 64 or 128.
    """
    checks = Checks("compressed-tensors layer that cannot be packed")
    checks.matrix("weight_packed", weight_packed, (torch.int32,), "[M, K / 8]")
    checks.matrix("weight_scale", weight_scale, SCALE_TYPES, "[M, K / group]")
    M, K, groups = weight_packed.shape[0], weight_packed.shape[1] * PER_WORD, weight_scale.shape[1]
    if weight_shape is not None and weight_shape.tolist() != [M, K]:
        found = f"{weight_shape.tolist()} beside weight_packed {list(weight_packed.shape)}"
        checks.add("weight_shape", found, f"[{M}, {K}] at 4 bits", "a checkpoint of 4 bits whose K is a multiple of 32")
    checks.shape("weight_scale", weight_scale, (M, groups), "[M, K / group]")
    if weight_zero_point is not None:
        checks.matrix("weight_zero_point", weight_zero_point, (torch.int32,), "[ceil(M / 8), K / group]")
        expected = (-(-M // PER_WORD), groups)
        checks.shape("weight_zero_point", weight_zero_point, expected, "[ceil(M / 8), K / group]")
    group = checks.group(K, groups)
    if weight_g_idx is not None and not bool((weight_g_idx == -1).any()):
        check_order(checks, "weight_g_idx", weight_g_idx, K, group)
    checks.done()
    weight = empty_weight(M, K, pad, weight_packed.device)
    weight.copy_(shuffle(weight_packed))
    zeros = None if weight_zero_point is None else without_symmetric(weight_zero_point.contiguous(), M)
    packed = PackedW4(weight, weight_scale.contiguous(), zeros, group, M, K)
    validate(packed)
    return packed


def unpack_compressed_tensors(
    packed: PackedW4, *, zero_point: bool | None = None, shape_type: torch.dtype = torch.int64
) -> dict[str, Tensor]:
    """The inverse of `pack_compressed_tensors`: `weight_packed`, `weight_scale`, `weight_shape` and perhaps `weight_zero_point`; contiguous.

    zero_point  whether to give zero points. None: where they are not all 8, since the packer drops those that are
    shape_type  type of weight_shape; the package writes int64

    `weight_g_idx` is not given: what the packer takes of it says nothing. Raises PackError for a stack, or if zero points that are not all 8 are to
    be left out.
    """
    checks = check_plain(packed, "compressed-tensors")
    if zero_point is False and not packed.symmetric:
        checks.add("zeros", "zero points other than 8", "none", "zero_point=True")
        checks.done()
    tensors = {
        "weight_packed": unshuffle(packed.weight).contiguous(),
        "weight_scale": packed.scales.contiguous(),
        "weight_shape": torch.tensor([packed.M, packed.K], dtype=shape_type),
    }
    if zero_point or not packed.symmetric:
        tensors["weight_zero_point"] = zeros_of(packed).contiguous()
    return tensors
