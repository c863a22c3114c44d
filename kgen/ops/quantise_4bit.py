"""bitsandbytes' 4-bit quantisation in torch: NF4 and FP4, absmax per block, plain or nested; the same bits as bitsandbytes 0.50.2.

A weight is flattened row by row and cut into blocks of `blocksize` elements, the last one perhaps shorter. Each element over its block's absmax
becomes the code whose number is nearest, the lower of two equally near (thresholds are midpoints). Two codes make a byte, the even element in the
high bits. Nested: the mean of all absmax is taken off, and what is left is itself quantised in blocks of 256 to 8-bit codes of the signed dynamic
map.

Source: bitsandbytes/backends/default/ops.py and bitsandbytes/functional.py (create_dynamic_map, get_4bit_type, QuantState) at 0.50.2, read and
described in our own words; tests/ops/test_quantise_4bit.py compares bits with the package where it is installed, and with bits it has given where
it is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from kgen.errors import OpError, Problem
from kgen.spec.codes4 import NUMBERS, Code
from kgen.spec.gemm_4bit import BLOCKSIZES, NESTED_BLOCK

_LEAST = 1e-38  # stands for the absmax of a block of zeros, so that nothing is divided by 0
_STATE = "quant_state.bitsandbytes__"


@dataclass(frozen=True)
class Quantised4Bit:
    """A weight in bitsandbytes' layout.

    packed        uint8 [ceil(M * K / 2), 1]: two codes a byte
    shape         of the weight, (M, K): M output features, K reduction
    blocksize     elements of the flattened weight that share an absmax
    code          "nf4" or "fp4"
    absmax        fp32 [blocks]; nested: fp32 [ceil(blocks / 256)], of 256 blocks each
    absmax_8bit   None; nested: uint8 [blocks]
    absmax_code   None; nested: fp32 [256], what the 8-bit codes stand for
    absmax_offset None; nested: fp32 [], added to each absmax
    """

    packed: Tensor
    shape: tuple[int, int]
    blocksize: int
    code: Code
    absmax: Tensor
    absmax_8bit: Tensor | None = None
    absmax_code: Tensor | None = None
    absmax_offset: Tensor | None = None

    @property
    def nested(self) -> bool:
        """Whether absmax is itself quantised."""
        return self.absmax_8bit is not None

    def to(self, device: torch.device | str) -> Quantised4Bit:
        """The same with all tensors on a device."""
        names = ("packed", "absmax", "absmax_8bit", "absmax_code", "absmax_offset")
        moved: dict[str, Any] = {name: None if (x := getattr(self, name)) is None else x.to(device) for name in names}
        return replace(self, **moved)


def quantise_4bit(weight: Tensor, code: Code = "nf4", blocksize: int = 64, nested: bool = False) -> Quantised4Bit:
    """A weight [M, K] of any float type in bitsandbytes' layout. Raises OpError for a blocksize or code that does not exist."""
    _check(code, blocksize)
    if weight.dim() != 2:
        raise _refused(Problem(("weight.shape",), str(list(weight.shape)), "[M, K]"))
    scaled, absmax = _scale(weight.reshape(-1).float(), blocksize)
    numbers = _numbers(code, weight.device)
    order = torch.argsort(numbers)
    bounds = (numbers[order[:-1]] + numbers[order[1:]]) / 2
    codes = order[torch.bucketize(scaled, bounds, out_int32=True)].to(torch.uint8)
    if codes.numel() % 2:
        codes = torch.cat([codes, order[torch.bucketize(scaled.new_zeros(1), bounds)].to(torch.uint8)])
    packed = (codes[0::2] << 4 | codes[1::2]).unsqueeze(1)
    plain = Quantised4Bit(packed, (weight.shape[0], weight.shape[1]), blocksize, code, absmax)
    return nest_absmax(plain) if nested else plain


def nest_absmax(plain: Quantised4Bit) -> Quantised4Bit:
    """The same weight with its absmax quantised."""
    offset = plain.absmax.mean()
    numbers = dynamic_map(plain.absmax.device)
    scaled, second = _scale(plain.absmax - offset, NESTED_BLOCK)
    codes = torch.bucketize(scaled, (numbers[:-1] + numbers[1:]) / 2, out_int32=True).to(torch.uint8)
    return replace(plain, absmax=second, absmax_8bit=codes, absmax_code=numbers, absmax_offset=offset)


def absmax_of(weight: Quantised4Bit) -> Tensor:
    """absmax per block in fp32 [blocks], whether it is nested or not; each product and each sum is rounded once."""
    if weight.absmax_8bit is None:
        return weight.absmax
    assert weight.absmax_code is not None
    assert weight.absmax_offset is not None
    numbers = weight.absmax_code[weight.absmax_8bit.int()]
    return numbers * weight.absmax.repeat_interleave(NESTED_BLOCK)[: numbers.numel()] + weight.absmax_offset


def dequantise_4bit(weight: Quantised4Bit, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weight [M, K]: number times absmax in fp32, rounded to dtype."""
    rows, columns = weight.shape
    count = rows * columns
    pairs = _pairs(weight.code, weight.packed.device)
    numbers = torch.nn.functional.embedding(weight.packed.reshape(-1).int(), pairs).reshape(-1)[:count]
    absmax, whole = absmax_of(weight), count - count % weight.blocksize
    out = numbers[:whole].reshape(-1, weight.blocksize) * absmax[: whole // weight.blocksize, None]
    out = out.reshape(-1).to(dtype)
    if whole < count:
        out = torch.cat([out, (numbers[whole:] * absmax[-1]).to(dtype)])
    return out.reshape(rows, columns)


def from_state(packed: Tensor, state: Mapping[str, Tensor]) -> Quantised4Bit:
    """A weight of a checkpoint that bitsandbytes saved.

    packed  the tensor under the weight's own name, in whichever type its bytes are stored (quant_storage)
    state   the tensors beside it by what follows the weight's name and a dot: absmax, quant_map, quant_state.bitsandbytes__nf4 (or __fp4), and
            with nested absmax nested_absmax and nested_quant_map
    Raises OpError for a state that is not complete, a table of another kind, or blocks of nested absmax other than 256.
    """
    key = next((name for name in state if name.startswith(_STATE)), None)
    if key is None or "absmax" not in state:
        raise _refused(
            Problem(("state",), ", ".join(state) or "nothing", f"absmax, quant_map and {_STATE}nf4 or {_STATE}fp4")
        )
    said = json.loads(bytes(state[key].cpu().tolist()).decode())
    code, blocksize = said["quant_type"], int(said["blocksize"])
    _check(code, blocksize)
    _check_map(code, state.get("quant_map"))
    rows, columns = said["shape"]
    raw = packed if packed.dtype == torch.uint8 else packed.contiguous().view(torch.uint8)
    plain = Quantised4Bit(raw.reshape(-1, 1), (rows, columns), blocksize, code, state["absmax"])
    if "nested_absmax" not in state:
        return plain
    if said.get("nested_blocksize") != NESTED_BLOCK:
        raise _refused(Problem(("nested_blocksize",), str(said.get("nested_blocksize")), str(NESTED_BLOCK)))
    offset = torch.tensor(float(said["nested_offset"]), device=raw.device)
    return replace(
        plain,
        absmax=state["nested_absmax"],
        absmax_8bit=state["absmax"],
        absmax_code=state["nested_quant_map"],
        absmax_offset=offset,
    )


def _kept(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep what is made, by arguments; but not under a mode such as FakeTensorMode, whose tensors are of no use to others."""
    kept = cache(make)

    @wraps(make)
    def get(*key: Any) -> Tensor:
        return make(*key) if _get_current_dispatch_mode() is not None else kept(*key)

    return get


@_kept
def dynamic_map(device: torch.device | None = None) -> Tensor:
    """The 256 numbers of the signed dynamic 8-bit type, sorted, fp32.

    Seven decades 10^-6 .. 1; decade i is cut into 2^i equal parts of [0.1, 1], whose middles count, with both signs; and 0 and 1.
    """
    numbers = [0.0, 1.0]
    for i in range(7):
        bounds = torch.linspace(0.1, 1, 2**i + 1, dtype=torch.float32)
        middles = (bounds[:-1] + bounds[1:]) / 2.0
        numbers += (10.0 ** (i - 6) * middles).tolist()
        numbers += (-(10.0 ** (i - 6)) * middles).tolist()
    return torch.tensor(sorted(numbers), dtype=torch.float32, device=device)


def own_table(code: Code, device: torch.device | None = None) -> Tensor:
    """What bitsandbytes saves as `quant_map` of a type: its 16 numbers, fp32 [16]."""
    return torch.tensor(NUMBERS[code], dtype=torch.float32, device=device)


def is_own_table(code: Code, found: Tensor) -> bool:
    """Whether a `quant_map` holds the type's own numbers, every bit of them in fp32."""
    bits = found.cpu().float().reshape(-1).view(torch.int32)
    return torch.equal(bits, own_table(code).view(torch.int32))


@_kept
def _numbers(code: Code, device: torch.device) -> Tensor:
    """What the 16 codes stand for, fp32."""
    return torch.tensor(NUMBERS[code], dtype=torch.float32, device=device)


@_kept
def _pairs(code: Code, device: torch.device) -> Tensor:
    """What the two codes of each byte stand for, the even element first: fp32 [256, 2]."""
    numbers, byte = _numbers(code, device), torch.arange(256, device=device)
    return torch.stack([numbers[byte >> 4], numbers[byte & 15]], dim=1)


def _scale(flat: Tensor, blocksize: int) -> tuple[Tensor, Tensor]:
    """Elements over the absmax of their block, within -1 and 1, and absmax [blocks].

    Whole blocks are multiplied by the inverse, a last part is divided.
    """
    whole = flat.numel() - flat.numel() % blocksize
    blocks = flat[:whole].reshape(-1, blocksize)
    absmax = blocks.abs().amax(dim=-1)
    scaled = (blocks * (1.0 / absmax.clamp(min=_LEAST))[:, None]).clamp(-1, 1).reshape(-1)
    if whole < flat.numel():
        last = flat[whole:].abs().max().clamp(min=_LEAST)
        absmax = torch.cat([absmax, last[None]])
        scaled = torch.cat([scaled, (flat[whole:] / last).clamp(-1, 1)])
    return scaled, absmax


def _check(code: str, blocksize: int) -> None:
    problems = []
    if code not in NUMBERS:
        problems.append(Problem(("quant_type",), repr(code), " or ".join(NUMBERS)))
    if blocksize not in BLOCKSIZES:
        problems.append(Problem(("blocksize",), str(blocksize), ", ".join(map(str, BLOCKSIZES))))
    if problems:
        raise OpError("4-bit quantisation: not possible", problems)


def _check_map(code: Code, found: Tensor | None) -> None:
    """Refuse a table other than the type's own."""
    if found is not None and not is_own_table(code, found):
        raise _refused(
            Problem(("quant_map",), "another table", f"{code}'s own 16 numbers", "use bitsandbytes itself for it")
        )


def _refused(problem: Problem) -> OpError:
    return OpError("a 4-bit weight that cannot be taken", [problem])
