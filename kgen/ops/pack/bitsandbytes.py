"""bitsandbytes' 4-bit layers, as transformers saves them: NF4 and FP4, absmax plain or nested.

weight                   two codes to a byte: uint8 [bytes, 1], or fewer elements of another type over the same bytes (quant_storage)
weight.absmax            fp32 [blocks]; nested: uint8 [blocks]
weight.quant_map         fp32 [16], what the codes stand for
weight.quant_state.bitsandbytes__nf4 (or __fp4)
                         uint8, JSON: quant_type, blocksize, dtype, shape; nested: nested_blocksize, nested_dtype, nested_offset
weight.nested_absmax     nested only: fp32 [ceil(blocks / 256)]
weight.nested_quant_map  nested only: fp32 [256], what the 8-bit codes of absmax stand for

torch.ops.kgen.gemm_4bit reads these bytes as they lie, so nothing is put in another order here: a layer is held against what its state says, and
comes out as the op's arguments.
Source: bitsandbytes/functional.py (QuantState.as_dict, from_dict, get_4bit_type) at 0.50.2; kgen.ops.quantise_4bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kgen.errors import PackError, Problem
from kgen.ops.pack.checks import Checks, described
from kgen.ops.pack.files import TensorFiles
from kgen.ops.quantise_4bit import Quantised4Bit, from_state, is_own_table, own_table
from kgen.spec.codes4 import NUMBERS, Code
from kgen.spec.gemm_4bit import BLOCKSIZES, NESTED_BLOCK

STATE = "quant_state.bitsandbytes__"
PLAIN_KEYS = ("absmax", "quant_map")
NESTED_KEYS = ("nested_absmax", "nested_quant_map")
AGAIN = "download the model again, or quantise it again"
WHAT = "bitsandbytes layer that cannot be packed"


@dataclass(frozen=True, eq=False)
class Codes4Layer:
    """One 4-bit layer of the source; headers and its quant state have been read.

    name     of the layer: its weight's name less `.weight`
    tensors  key -> the tensor's full name: weight, absmax, quant_map, quant_state; nested: nested_absmax, nested_quant_map
    M, K     output features and reduction
    bytes    of all its tensors
    """

    name: str
    tensors: Mapping[str, str]
    M: int
    K: int
    blocksize: int
    code: Code
    nested: bool
    bytes: int


@dataclass(frozen=True, eq=False)
class PackedCodes4:
    """A layer for the kernels, and what the way back to the checkpoint needs besides.

    weight   the arguments of torch.ops.kgen.gemm_4bit
    state    the JSON of the quant state, to the letter
    storage  type in which the checkpoint stores the weight's bytes
    sizes    shape in which it does
    """

    weight: Quantised4Bit
    state: str
    storage: torch.dtype
    sizes: tuple[int, ...]


def pack_bitsandbytes(
    weight: Tensor,
    absmax: Tensor,
    quant_map: Tensor,
    quant_state: Tensor,
    nested_absmax: Tensor | None = None,
    nested_quant_map: Tensor | None = None,
) -> PackedCodes4:
    """One layer as the op's arguments; the tensors are as the module describes them, on one device.

    Exact: bytes are taken as they are, and `unpack_bitsandbytes` gives the same bits back. Raises PackError for a state that is none, other types or
    sizes than it asks for, a table of numbers other than the type's own (every bit is compared), or nested blocks of another size than 256.
    """
    checks = Checks(WHAT)
    said = _state_of(quant_state, checks)
    rows, columns = said["shape"]
    blocks = -(-rows * columns // said["blocksize"])
    stored = weight.numel() * weight.element_size()
    if stored != -(-rows * columns // 2):
        found = f"{described(weight)}, {stored} bytes"
        checks.add("weight", found, f"{-(-rows * columns // 2)} bytes for [{rows}, {columns}] at 4 bits", AGAIN)
    nested = "nested_offset" in said
    _check(checks, "absmax", absmax, torch.uint8 if nested else torch.float32, blocks)
    if nested:
        _check(checks, "nested_absmax", nested_absmax, torch.float32, -(-blocks // NESTED_BLOCK))
        _check(checks, "nested_quant_map", nested_quant_map, torch.float32, 256)
    elif nested_absmax is not None or nested_quant_map is not None:
        checks.add("quant_state", "no nested_offset beside nested_absmax", "both or neither", AGAIN)
    if quant_map.dtype != torch.float32 or not is_own_table(said["quant_type"], quant_map):
        found = f"{described(quant_map)}, another table"
        checks.add("quant_map", found, f"{said['quant_type']}'s own 16 numbers, bit for bit", "bitsandbytes itself")
    checks.done()
    state = {"absmax": absmax, "quant_map": quant_map, f"{STATE}{said['quant_type']}": quant_state}
    if nested_absmax is not None and nested_quant_map is not None:
        state |= {"nested_absmax": nested_absmax, "nested_quant_map": nested_quant_map}
    text = bytes(quant_state.cpu().tolist()).decode()
    return PackedCodes4(from_state(weight.contiguous(), state), text, weight.dtype, tuple(weight.shape))


def unpack_bitsandbytes(packed: PackedCodes4) -> dict[str, Tensor]:
    """The inverse of `pack_bitsandbytes`: its arguments by name, contiguous."""
    weight = packed.weight
    codes = weight.packed.contiguous().reshape(-1).view(packed.storage).reshape(packed.sizes)
    text = torch.tensor(list(packed.state.encode()), dtype=torch.uint8, device=codes.device)
    tensors = {"weight": codes, "quant_map": own_table(weight.code, codes.device), "quant_state": text}
    if weight.absmax_8bit is None or weight.absmax_code is None:
        return {**tensors, "absmax": weight.absmax}
    return {
        **tensors,
        "absmax": weight.absmax_8bit,
        "nested_absmax": weight.absmax,
        "nested_quant_map": weight.absmax_code,
    }


def find_layers(files: TensorFiles, problems: list[Problem]) -> Iterator[Codes4Layer]:
    """The 4-bit layers of a checkpoint, by the names of their quant states, which are read; what is wrong goes to `problems`."""
    for tensor in files:
        weight, _, kind = tensor.rpartition(f".{STATE}")
        if weight and kind:
            try:
                yield _layer(files, weight, tensor)
            except PackError as error:
                problems += [replace(problem, where=weight) for problem in error.problems]
        elif tensor.endswith(".SCB"):
            found = "int8 (LLM.int8()), beside a configuration that says load_in_4bit"
            problems.append(Problem((tensor.removesuffix(".SCB"),), found, "4 bits", "a checkpoint of load_in_4bit"))


def _layer(files: TensorFiles, weight: str, state: str) -> Codes4Layer:
    checks = Checks(WHAT)
    said = _state_of(files.read(state), checks)
    nested = "nested_offset" in said
    tensors = {"weight": weight, "quant_state": state}
    tensors |= {key: f"{weight}.{key}" for key in PLAIN_KEYS + (NESTED_KEYS if nested else ())}
    missing = [name for name in tensors.values() if name not in files.tensors]
    if missing:
        checks.add("tensors", f"no {', '.join(missing)}", ", ".join(tensors.values()), AGAIN)
    if state != f"{weight}.{STATE}{said['quant_type']}":
        checks.add("quant_state", f"{said['quant_type']} in {state}", f"{STATE}{said['quant_type']}", AGAIN)
    checks.done()
    size = sum(files.tensors[name].bytes for name in tensors.values())
    M, K = said["shape"]
    name = weight.removesuffix(".weight")
    return Codes4Layer(name, tensors, M, K, said["blocksize"], said["quant_type"], nested, size)


def pack_layer(files: TensorFiles, layer: Codes4Layer) -> PackedCodes4:
    """A layer of the source packed. Raises PackError that names it."""
    try:
        return pack_bitsandbytes(**{key: files.read(name) for key, name in layer.tensors.items()})
    except PackError as error:
        raise PackError(error.what, [replace(problem, where=layer.name) for problem in error.problems]) from error


def _state_of(quant_state: Tensor, checks: Checks) -> dict[str, Any]:
    """What a quant state says, looked at; ends the checks where the rest cannot be judged without it."""
    try:
        said = json.loads(bytes(quant_state.cpu().tolist()).decode())
        shape = said["shape"]
    except (ValueError, TypeError, KeyError) as error:
        checks.add("quant_state", f"{described(quant_state)}: {error}", "a JSON object in UTF-8, with shape", AGAIN)
        checks.done()
    if len(shape) != 2 or not all(isinstance(size, int) and size > 0 for size in shape):
        checks.add("shape", str(shape), "[M, K], two sizes above 0", "a checkpoint of plain linear layers")
    if said.get("quant_type") not in NUMBERS:
        checks.add("quant_type", str(said.get("quant_type")), " or ".join(NUMBERS), "a checkpoint of NF4 or FP4")
    if said.get("blocksize") not in BLOCKSIZES:
        checks.add("blocksize", str(said.get("blocksize")), ", ".join(map(str, BLOCKSIZES)))
    if "nested_offset" in said and said.get("nested_blocksize") != NESTED_BLOCK:
        checks.add("nested_blocksize", str(said.get("nested_blocksize")), str(NESTED_BLOCK))
    if "nested_offset" in said and not isinstance(said["nested_offset"], int | float):
        checks.add("nested_offset", repr(said["nested_offset"]), "a number", AGAIN)
    checks.done()
    return dict(said)


def _check(checks: Checks, name: str, tensor: Tensor | None, dtype: torch.dtype, count: int) -> None:
    if tensor is None or tensor.dtype != dtype or tuple(tensor.shape) != (count,):
        kind = str(dtype).removeprefix("torch.")
        checks.add(name, "none" if tensor is None else described(tensor), f"{kind} [{count}]", AGAIN)
