"""gemm_4bit and what a user would call instead: bitsandbytes, by its own pick and each of its two paths forced, or dequantising and torch's linear.

bitsandbytes is an option of the user's: where it is not installed or has no library for the device, dequantising is kgen.ops.quantise_4bit's.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kgen.bench.contest import Answer, Contest
from kgen.ops.check import ALL_DTYPES
from kgen.ops.quantise_4bit import Quantised4Bit, absmax_of, dequantise_4bit, nest_absmax
from kgen.spec.codes4 import SCALES, Code, element_value, table_bits
from kgen.spec.gemm_4bit import Gemm4BitSpec
from kgen.spec.problem import Code4Shape

if TYPE_CHECKING:
    from torch import Tensor

    from kgen.runtime.launch import Kernel
    from kgen.runtime.library import Library

_SEED = 20


@dataclass(frozen=True)
class Weight:
    """A quantised weight; `arena` holds its codes and absmax, which every call reads."""

    quantised: Quantised4Bit
    arena: Tensor

    @cached_property
    def args(self) -> tuple[Any, ...]:
        """What bitsandbytes' ops take after the activations; made once, as a layer would."""
        q = self.quantised
        return (
            q.packed,
            list(q.shape),
            q.absmax,
            q.blocksize,
            q.code,
            None,
            q.absmax_8bit,
            q.absmax_code,
            q.absmax_offset,
        )


@dataclass(frozen=True)
class Code4Contest(Contest):
    """`weights` are of type Weight."""

    @property
    def cold(self) -> list[Tensor]:
        """Codes and absmax of each weight."""
        return [weight.arena for weight in self.weights]

    def wide_rows(self, rows: int) -> Iterator[Tensor]:
        """The first weight in fp64 as the answer multiplies it: the kernels' table, or rounded to the activations' type."""
        weight = self.weights[0].quantised
        plain = self.kernel is None
        dense = dequantise_4bit(weight, self.act.dtype) if plain else _table_weight(weight, self.dtype)
        for block in dense.split(rows):
            yield block.double()


def code4_contest(
    library: Library, shape: Code4Shape, dtype: str, sets: int, kernel: str | None = None
) -> Code4Contest:
    """The contest on the library's device, with `sets` weights whose blocksize is the shape's GROUP_SIZE; `kernel` by name past the table."""
    import torch
    from torch.nn.functional import linear

    kind = {name: kind for kind, name in ALL_DTYPES.items()}[dtype]
    device = torch.device(library.driver.device.torch_name)
    generator = torch.Generator(device).manual_seed(_SEED)
    weights = [_weight(shape, generator) for _ in range(sets)]
    act = torch.empty(shape.N, shape.K, dtype=kind, device=device).normal_(generator=generator)
    picked = library.kernel(kernel) if kernel else library.pick("gemm_4bit", shape, dtype)
    op = torch.ops.kgen.gemm_4bit
    answers: dict[str, Answer] = {"kgen": lambda w: op(act, *w.args)}
    if kernel:
        assert picked is not None
        answers["kgen"] = _direct(picked, shape, act, library.driver)
    answers |= _bitsandbytes(act)
    if len(answers) == 1:
        answers["dequant + linear"] = lambda w: linear(act, dequantise_4bit(w.quantised, kind))
    return Code4Contest("gemm_4bit", dtype, shape, act, weights, answers, picked)


def _weight(shape: Code4Shape, generator: Any) -> Weight:
    """Random codes, absmax around 0.05, in one piece of memory."""
    import torch

    M, K, block, device = shape.M, shape.K, shape.GROUP_SIZE, generator.device
    code: Code = "fp4" if shape.FP4 else "nf4"
    count, blocks = M * K // 2, -(-M * K // block)
    plain = 0.05 * (0.5 + torch.rand(blocks, device=device, generator=generator))
    weight = Quantised4Bit(torch.empty(0, device=device), (M, K), block, code, plain)
    weight = nest_absmax(weight) if shape.NESTED else weight
    first = weight.absmax if weight.absmax_8bit is None else weight.absmax_8bit
    start = -(-count // 256) * 256
    arena = torch.randint(
        0, 256, (start + first.numel() * first.element_size(),), dtype=torch.uint8, device=device, generator=generator
    )
    kept = arena[start:].view(first.dtype)
    kept.copy_(first)
    name = "absmax_8bit" if shape.NESTED else "absmax"
    fields = {"packed": arena[:count].view(-1, 1), name: kept}
    return Weight(Quantised4Bit(**{**vars(weight), **fields}), arena)


def _table_weight(weight: Quantised4Bit, dtype: str) -> Tensor:
    """table[q] * absmax / SCALE in fp64, [M, K]."""
    import torch

    numbers = [element_value(bits, dtype) / SCALES[weight.code, dtype] for bits in table_bits(weight.code, dtype)]
    table = torch.tensor(numbers, dtype=torch.float64, device=weight.packed.device)
    bytes_ = weight.packed.reshape(-1).int()
    codes = torch.stack([bytes_ >> 4, bytes_ & 15], dim=1).reshape(-1)
    absmax = absmax_of(weight).double().repeat_interleave(weight.blocksize)[: codes.numel()]
    return (table[codes] * absmax).reshape(weight.shape)


def _bitsandbytes(act: Tensor) -> dict[str, Answer]:
    """Its op as its users meet it, and each of the two paths that the op picks from."""
    if not importlib.util.find_spec("bitsandbytes"):
        return {}
    import bitsandbytes  # noqa: F401 - defines the ops
    import torch

    def auto(weight: Any) -> Tensor:
        return torch.ops.bitsandbytes.gemm_4bit.default(act, *weight.args)

    out: dict[str, Answer] = {"bitsandbytes": auto}
    if act.is_cuda:
        from bitsandbytes.backends.cuda import ops

        for name, path in (
            ("bnb kernel", "_gemm_4bit_kernel_impl"),
            ("bnb dequant + linear", "_dequant_linear_fallback"),
        ):
            if function := getattr(ops, path, None):
                out[name] = _path(function, act)
    return out


def _path(function: Any, act: Tensor) -> Answer:
    return lambda weight: function(act, *weight.args)


def _direct(kernel: Kernel, shape: Code4Shape, act: Tensor, driver: Any) -> Answer:
    """A kernel called by name, past the table."""
    import torch

    spec = kernel.spec
    assert isinstance(spec, Gemm4BitSpec)
    geometry = spec.launch(shape, driver.device.cu)
    launch, shift = kernel.bind(geometry), (shape.GROUP_SIZE // spec.GROUP_SIZE).bit_length() - 1

    def call(weight: Any) -> Tensor:
        q = weight.quantised
        out = torch.empty(shape.N, shape.M, dtype=act.dtype, device=act.device)
        tensors = (q.packed, q.absmax, q.absmax_8bit, q.absmax_code, q.absmax_offset, act, None, out)
        at = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
        sizes = (shape.M, shape.K, shape.N, act.stride(0), 0, geometry.grid[0])
        launch(driver.stream(), (*at[:5], shift, *at[5:], *sizes), tensors)
        return out

    return call
