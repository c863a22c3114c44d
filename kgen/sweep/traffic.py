"""Bytes that a problem must move once: what a time is held against."""

from __future__ import annotations

from kgen.spec.registry import family_class
from kgen.sweep.workload import Workload


def item_bytes(family: str) -> int:
    """Bytes of a weight element in a dense family: 1 where a 16-byte load holds 16 of them, else 2."""
    return 1 if family_class(family).__name__.endswith("KQSpec") else 2


def bytes_moved(family: str, workload: Workload) -> float:
    """Weights, activations and the 16-bit output, each once."""
    shape, item = workload.shape, item_bytes(family)
    return float(item * shape.K * (shape.M + shape.N) + 2 * shape.M * shape.N)
