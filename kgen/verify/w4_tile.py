"""The weights that tile kernels multiply by: 4-bit integers dequantised and rounded once to the element type."""

from __future__ import annotations

from typing import Any

import numpy as np

from kgen.spec.w4_tile import W4TileSpec
from kgen.verify.elements import from_bits, to_bits
from kgen.verify.int4 import Int4Weights


def tile_weights(spec: W4TileSpec, weights: Int4Weights) -> Any:
    """(q - z) * scale, [M, K] in fp64, rounded to nearest even or, with TruncateBf16Round, cut off: as the kernel promises, bit for bit."""
    exact = weights.values().astype(np.float32)  # 5 bits times 11
    if spec.TruncateBf16Round:
        return (exact.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)
    return from_bits(to_bits(exact, spec.dtype), spec.dtype)
