"""wvsplitk_int4, gemm_w4a16, the op over both, and what a user would call instead: torch's int4 kernel (tinygemm), its linear, GemLite.

torch's linear has weights that were 16-bit all along: no dequantising can be faster. For many rows also dequantising and then its linear, which is
what a table's torch row runs: by the kernel of dequantize_w4a16 where that was built, and by a chain of torch operations.

The peers get the same numbers in layouts of their own: tinygemm multiplies (q - 8) * scale + zero with bf16 activations only, GemLite
(q - zero) * scale. GemLite is an option of the user's: where it is not installed, it is left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from kgen.bench.contest import Answer, Contest
from kgen.errors import MissingPieceError
from kgen.ops.check import DTYPES
from kgen.ops.reference import int4_linear_torch, int4_weight
from kgen.spec.dequantize_w4a16 import DequantizeW4A16Spec
from kgen.spec.gemm_w4a16 import GemmW4A16Spec
from kgen.spec.problem import DequantizeShape, W4Shape, ceil_div
from kgen.spec.route import ROUTES
from kgen.spec.wvsplitk_int4 import WvSplitKInt4Spec

if TYPE_CHECKING:
    from torch import Tensor

    from kgen.runtime.launch import Kernel
    from kgen.runtime.library import Library

_SEED = 20
_INNER_K_TILES = 8  # of tinygemm's layout: what torchao and gpt-fast use
_PEER_BYTES = 8 << 30  # weights of a peer with 16 bits are made as long as they fit in this


@dataclass(frozen=True)
class Weight:
    """codes int32 [M, K / 8], scales [M, K / group], zeros None or int32 [ceil(M / 8), K / group]; `arena` holds all three."""

    codes: Tensor
    scales: Tensor
    zeros: Tensor | None
    arena: Tensor

    def wide(self, dtype: Any) -> Tensor:
        """(q - z) * scale, [M, K]."""
        return int4_weight(self.codes, self.scales, self.zeros, dtype)


def _exact(weight: Tensor) -> Tensor:
    return weight


@dataclass(frozen=True)
class Int4Contest(Contest):
    """`weights` are of type Weight. `weight_of` makes the exact weights those that the kernel multiplies: rounded, where it rounds them."""

    weight_of: Callable[[Tensor], Tensor] = field(default=_exact)

    @property
    def cold(self) -> list[Tensor]:
        """Codes, scales and zero points of each weight."""
        return [weight.arena for weight in self.weights]

    def wide_rows(self, rows: int) -> Iterator[Tensor]:
        """The first weight in fp64, so many rows at a time."""
        import torch

        weight, step = self.weights[0], max(8, rows // 8 * 8)
        for first in range(0, self.shape.M, step):
            zeros = None if weight.zeros is None else weight.zeros[first // 8 : (first + step) // 8]
            end = first + step
            exact = int4_weight(weight.codes[first:end], weight.scales[first:end], zeros, torch.float64)
            yield self.weight_of(exact)


def int4_contest(
    library: Library, family: str, shape: W4Shape, dtype: str, sets: int, kernel: str | None = None
) -> Int4Contest:
    """The contest on the library's device, with `sets` weights; `kernel` by name in place of the table's pick.

    family  or the name of an op that chooses among families
    """
    import torch

    kind = {name: kind for kind, name in DTYPES.items()}[dtype]
    device = torch.device(library.driver.device.torch_name)
    generator = torch.Generator(device).manual_seed(_SEED)
    weights = [_weight(shape, kind, generator) for _ in range(sets)]
    act = torch.empty(shape.N, shape.K, dtype=kind, device=device).normal_(generator=generator)
    answering = library.route(family, shape, dtype) if family in ROUTES else family
    if kernel:
        picked: Kernel | None = library.kernel(kernel)
    else:
        picked = None if answering is None else library.pick(answering, shape, dtype)
    op = getattr(torch.ops.kgen, family)
    answers: dict[str, Answer] = {"kgen": lambda w: op(act, w.codes, w.scales, w.zeros)}
    if kernel:
        assert picked is not None
        answers["kgen"] = _direct(picked, shape, act, library.driver)
    peers: dict[str, list[Any]] = {}
    many = family != WvSplitKInt4Spec.family
    if many:
        if _dequantises(library, shape, dtype):
            dequantise, linear = torch.ops.kgen.dequantize_w4a16, torch.nn.functional.linear
            answers["kgen dequantise, linear"] = lambda w: linear(act, dequantise(w.codes, w.scales, w.zeros))
        answers["torch dequantise, linear"] = lambda w: int4_linear_torch(act, w.codes, w.scales, w.zeros)
    for name, (make, answer) in _peers(shape, act).items():
        peers[name] = [make(weight) for weight in weights]
        answers[name] = answer
    rounded = many and (picked is None or isinstance(picked.spec, GemmW4A16Spec))
    weight_of = partial(_rounded, kind, None if picked is None else picked.spec) if rounded else _exact
    return Int4Contest(family, dtype, shape, act, weights, answers, picked, peer_weights=peers, weight_of=weight_of)


def _dequantises(library: Library, shape: W4Shape, dtype: str) -> bool:
    """Whether a kernel writes out the weights of these problems."""
    try:
        wide = DequantizeShape(shape.M, 1, shape.K, shape.GROUP_SIZE, shape.HAS_ZP)
        return library.pick(DequantizeW4A16Spec.family, wide, dtype) is not None
    except MissingPieceError:  # not built
        return False


def _rounded(kind: Any, spec: Any, weight: Tensor) -> Tensor:
    """Weights as matrix tiles multiply them, in fp64: rounded to nearest even, or cut off."""
    import torch

    if spec is None or not spec.TruncateBf16Round:
        return weight.to(kind).double()
    return (weight.float().view(torch.int32) & -65536).view(torch.float32).double()


def _weight(shape: W4Shape, kind: Any, generator: Any) -> Weight:
    """Random codes and zero points, scales around 0.05, in one piece of memory."""
    import torch

    groups, device = shape.K // shape.GROUP_SIZE, generator.device
    words, pairs = shape.M * shape.K // 8, ceil_div(shape.M * groups, 2)
    zero_words = ceil_div(shape.M, 8) * groups if shape.HAS_ZP else 0
    size = ceil_div(words + pairs + zero_words, 4) * 4
    arena = torch.randint(-(1 << 31), (1 << 31) - 1, (size,), dtype=torch.int32, device=device, generator=generator)
    scales = arena[words : words + pairs].view(kind)[: shape.M * groups].view(shape.M, groups)
    scales.copy_(0.05 * (0.5 + torch.rand(shape.M, groups, device=device, generator=generator)))
    zeros = arena[words + pairs :][:zero_words].view(-1, groups) if shape.HAS_ZP else None
    return Weight(arena[:words].view(shape.M, shape.K // 8), scales, zeros, arena)


def _peers(shape: W4Shape, act: Tensor) -> dict[str, tuple[Callable[[Weight], Any], Answer]]:
    """Name -> (its weight from ours, its answer)."""
    import torch
    from torch.nn.functional import linear

    out: dict[str, tuple[Callable[[Weight], Any], Answer]] = {}
    if act.dtype == torch.bfloat16 and shape.M % 8 == 0 and shape.K % (16 * _INNER_K_TILES) == 0:

        def tiny(w: Any) -> Tensor:
            return torch.ops.aten._weight_int4pack_mm(act, w[0], shape.GROUP_SIZE, w[1])

        out["torch tinygemm"] = (lambda w: _tinygemm(w, shape), tiny)
    if 2 * shape.M * shape.K * 2 <= _PEER_BYTES:
        out["torch linear"] = (lambda w: w.wide(act.dtype), lambda w: linear(act, w))
    if importlib.util.find_spec("gemlite"):
        out["GemLite"] = (lambda w: _gemlite(w, shape), lambda layer: layer(act))
    return out


def _plain(weight: Weight, shape: W4Shape) -> tuple[Tensor, Tensor]:
    """Codes [M, K] and zero points [M, K / group] as uint8."""
    import torch

    ones = torch.ones_like(weight.scales, dtype=torch.float32)
    codes = int4_weight(weight.codes, ones, None, torch.float32).add_(8).to(torch.uint8)
    if weight.zeros is None:
        return codes, torch.full_like(weight.scales, 8, dtype=torch.uint8)
    shifts = 4 * torch.arange(8, dtype=torch.int32, device=codes.device)[:, None]
    zeros = (weight.zeros.unsqueeze(1) >> shifts & 15).reshape(-1, weight.zeros.shape[1])
    return codes, zeros[: shape.M].to(torch.uint8)


def _tinygemm(weight: Weight, shape: W4Shape) -> tuple[Tensor, Tensor]:
    """Its packed codes, and scale and zero of each group side by side."""
    import torch

    codes, zeros = _plain(weight, shape)
    packed = torch.ops.aten._convert_weight_to_int4pack(codes[:, ::2] << 4 | codes[:, 1::2], _INNER_K_TILES)
    scales = weight.scales.float()
    both = torch.stack((scales, (8 - zeros.float()) * scales), -1).transpose(0, 1).contiguous()
    return packed, both.to(weight.scales.dtype)


def _gemlite(weight: Weight, shape: W4Shape) -> Any:
    """A layer as its users make it."""
    from gemlite.helper import A16Wn

    codes, zeros = _plain(weight, shape)
    maker = A16Wn(device=str(weight.codes.device), dtype=weight.scales.dtype)
    return maker.from_weights(codes, weight.scales, zeros.to(weight.scales.dtype), 4, shape.GROUP_SIZE)


def _direct(kernel: Kernel, shape: W4Shape, act: Tensor, driver: Any) -> Answer:
    """A kernel called by name, past the table."""
    import torch

    spec: Any = kernel.spec
    geometry = spec.launch(shape, driver.device.cu)
    launch = kernel.bind(geometry)
    need = spec.workspace(shape)
    scratch: tuple[Tensor, ...] = ()
    if need is not None:
        sizes = (need.partial_bytes // 4, need.counter_bytes // 4)
        scratch = tuple(torch.zeros(size, dtype=torch.int32, device=act.device) for size in sizes)
    rows = (shape.N,) if isinstance(spec, GemmW4A16Spec) else ()

    def call(weight: Any) -> Tensor:
        out = torch.empty(shape.N, shape.M, dtype=act.dtype, device=act.device)
        tensors = (weight.codes, weight.scales, weight.zeros, act, None, out, *scratch)
        strides = (weight.codes.stride(0), weight.scales.stride(0), weight.scales.stride(0), act.stride(0), 0)
        addresses = tuple(0 if tensor is None else tensor.data_ptr() for tensor in tensors)
        launch(driver.stream(), (*addresses, shape.M, shape.K, *strides, *rows, geometry.grid[0]), tensors)
        return out

    return call
