"""Problem sizes: what a caller brings, as opposed to what a kernel was compiled for."""

from __future__ import annotations

from dataclasses import dataclass


def ceil_div(a: int, b: int) -> int:
    """The smallest integer at or above a / b, for positive b."""
    return -(-a // b)


@dataclass(frozen=True)
class Workspace:
    """Bytes of scratch memory that a launch needs: fp32 partial sums, and arrival counters that are zero before and after."""

    partial_bytes: int
    counter_bytes: int


@dataclass(frozen=True)
class GemmShape:
    """out[N, M] = act[N, K] @ weight[M, K].T: M output features, N activation rows, K reduction."""

    M: int
    N: int
    K: int


@dataclass(frozen=True)
class W4Shape(GemmShape):
    """The same on 4-bit weights: GROUP_SIZE elements of K share a scale, and with HAS_ZP a zero point."""

    GROUP_SIZE: int = 128
    HAS_ZP: bool = False


@dataclass(frozen=True)
class Code4Shape(GemmShape):
    """The same on codes of 4 bits that stand for the numbers of a table: BLOCK consecutive elements of the flattened weight share an absmax."""

    CODE: str = "nf4"
    BLOCK: int = 64
    NESTED: bool = False
