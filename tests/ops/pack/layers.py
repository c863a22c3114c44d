"""Random layers in each format, as hypothesis draws their sizes and seeds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

WORD = (-(2**31), 2**31)


@dataclass(frozen=True)
class Sizes:
    """A layer to be made: M, K = groups * group, and what decides its contents."""

    M: int
    groups: int
    group: int
    seed: int
    scale_type: torch.dtype

    @property
    def K(self) -> int:
        return self.groups * self.group

    def words(self, *shape: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 16 + seed)
        return torch.randint(*WORD, shape, generator=generator, dtype=torch.int64).to(torch.int32)

    def scales(self, *shape: int) -> Tensor:
        """Finite, of both signs, subnormals too: random bits with the exponents of infinity cut off."""
        generator = torch.Generator().manual_seed(self.seed * 16 + 15)
        bits = torch.randint(-(2**15), 2**15, shape, generator=generator, dtype=torch.int64).to(torch.int16)
        return (bits & ~0x4000).view(
            self.scale_type
        )  # without the top bit of the exponent: at most 2, never inf or NaN


def sizes(rows: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[Sizes]:
    return st.builds(
        Sizes,
        M=rows if rows is not None else st.integers(1, 4).map(lambda count: 8 * count),
        groups=st.integers(1, 3),
        group=st.sampled_from([32, 64, 128]),
        seed=st.integers(0, 10**6),
        scale_type=st.sampled_from([torch.float16, torch.bfloat16]),
    )


def awq_layer(size: Sizes, symmetric: bool = False) -> dict[str, Tensor]:
    zeros = torch.full((size.groups, size.M // 8), -0x77777778, dtype=torch.int32)
    return {
        "qweight": size.words(size.K, size.M // 8),
        "qzeros": zeros if symmetric else size.words(size.groups, size.M // 8, seed=1),
        "scales": size.scales(size.groups, size.M),
    }


def gptq_layer(size: Sizes, stored: int | None = None, with_g_idx: bool = True) -> dict[str, Tensor]:
    """`stored`: one word for all zero points instead of random ones."""
    shape = (size.groups, size.M // 8)
    tensors = {
        "qweight": size.words(size.K // 8, size.M),
        "qzeros": size.words(*shape, seed=1) if stored is None else torch.full(shape, stored, dtype=torch.int32),
        "scales": size.scales(size.groups, size.M),
    }
    if with_g_idx:
        tensors["g_idx"] = torch.arange(size.K, dtype=torch.int32) // size.group
    return tensors


def compressed_layer(size: Sizes, zero_point: bool = False) -> dict[str, Tensor]:
    tensors = {
        "weight_packed": size.words(size.M, size.K // 8),
        "weight_scale": size.scales(size.M, size.groups),
        "weight_shape": torch.tensor([size.M, size.K]),
    }
    if zero_point:
        words = size.words(-(-size.M // 8), size.groups, seed=1)
        if size.M % 8:  # nibbles beyond the last row are 0, as the package pads
            words[-1] &= (1 << 4 * (size.M % 8)) - 1
        tensors["weight_zero_point"] = words
    return tensors


def same_bits(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    """Names, types, shapes and every bit."""
    return found.keys() == expected.keys() and all(
        found[name].dtype == tensor.dtype
        and found[name].shape == tensor.shape
        and found[name].is_contiguous()
        and torch.equal(found[name].contiguous().view(torch.uint8), tensor.contiguous().view(torch.uint8))
        for name, tensor in expected.items()
    )
