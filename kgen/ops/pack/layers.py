"""One layer of a checkpoint: its tensors packed, and a packed layer held against them. The only place that knows all formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from kgen.errors import PackError
from kgen.ops.pack.awq import pack_awq, unpack_awq
from kgen.ops.pack.checks import ordered
from kgen.ops.pack.compressed_tensors import pack_compressed_tensors, unpack_compressed_tensors
from kgen.ops.pack.config import Quantisation
from kgen.ops.pack.files import TensorFiles
from kgen.ops.pack.gptq import pack_gptq, unpack_gptq
from kgen.ops.pack.layout import PackedW4, join_rows, stack_experts, without_symmetric
from kgen.ops.pack.nibbles import pack_columns, unpack_columns
from kgen.ops.pack.plan import Layer, Options, Target

UNCOMPARED = ("g_idx", "weight_g_idx", "weight_shape")  # what they say is in the packed layer's sizes


def read_layer(files: TensorFiles, layer: Layer) -> dict[str, Tensor]:
    """The layer's tensors by key, such as `qweight`."""
    return {key: files.read(name) for key, name in layer.tensors.items()}


def pack_layer(tensors: Mapping[str, Tensor], quantisation: Quantisation, options: Options) -> PackedW4:
    """Tensors of one layer of any format as W4. Raises PackError as the format's packer does."""
    if quantisation.format == "awq":
        return pack_awq(**tensors, pad=options.pad)
    if quantisation.format == "gptq":
        version: Literal[1, 2] = 2 if quantisation.version == 2 else 1
        return pack_gptq(**tensors, version=version, wrap=options.wrap, pad=options.pad)
    return pack_compressed_tensors(**tensors, pad=options.pad)


def unpack_layer(
    packed: PackedW4, like: Mapping[str, Tensor], quantisation: Quantisation, options: Options
) -> dict[str, Tensor]:
    """W4 as the tensors of the format, those of `like`."""
    if quantisation.format == "awq":
        return unpack_awq(packed)
    if quantisation.format == "gptq":
        version: Literal[1, 2] = 2 if quantisation.version == 2 else 1
        return unpack_gptq(packed, version=version, wrap=options.wrap, with_g_idx="g_idx" in like)
    return unpack_compressed_tensors(packed, zero_point=True if "weight_zero_point" in like else None)


def pack_target(files: TensorFiles, target: Target, quantisation: Quantisation, options: Options) -> PackedW4:
    """A layer or a stack of the output, made from the source's files. Raises PackError that names the source's layer."""
    experts = []
    for parts in target.experts:
        packed = [_named(files, part, quantisation, options) for part in parts]
        experts.append(packed[0] if len(packed) == 1 else join_rows(packed, options.pad))
    return stack_experts(experts, options.pad) if target.stacked else experts[0]


def _named(files: TensorFiles, layer: Layer, quantisation: Quantisation, options: Options) -> PackedW4:
    try:
        return pack_layer(read_layer(files, layer), quantisation, options)
    except PackError as error:
        raise PackError(error.what, [replace(problem, where=layer.name) for problem in error.problems]) from error


def differences(
    packed: PackedW4, tensors: Mapping[str, Tensor], quantisation: Quantisation, options: Options
) -> list[str]:
    """Which of a source layer's tensors do not come back from `packed` bit for bit; empty if all do."""
    if packed.zeros is not None:  # a symmetric layer among others was given zero points of 8
        packed = replace(packed, zeros=without_symmetric(packed.zeros, packed.M))
    back = unpack_layer(packed, tensors, quantisation, options)
    wrong = sorted(back.keys() - tensors.keys() - {*UNCOMPARED})
    for key, tensor in tensors.items():
        if key in UNCOMPARED:
            wrong += [] if _agrees(key, tensor, packed) else [key]
        elif key == "weight_zero_point":  # nibbles beyond the last row say nothing
            pair = (unpack_columns(words, packed.M) for words in (tensor, back[key]))
            wrong += [] if torch.equal(*pair) else [key]
        elif back[key].dtype != tensor.dtype or not same_bits(back[key], tensor):
            wrong.append(key)
    return wrong


def _agrees(key: str, tensor: Tensor, packed: PackedW4) -> bool:
    if key == "weight_shape":
        return tensor.tolist() == [packed.M, packed.K]
    return bool((tensor == -1).any()) or ordered(tensor, packed.K, packed.group)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Equal shape and memory; NaN equals itself, and -0 is not 0."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    flat = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return one.numel() == 0 or torch.equal(*flat)


def rows_of(packed: PackedW4, first: int, count: int) -> PackedW4:
    """Some rows of a plain layer as a layer: one part of what `join_rows` joined."""
    rows = slice(first, first + count)
    zeros = None if packed.zeros is None else pack_columns(unpack_columns(packed.zeros, packed.M)[rows])
    return PackedW4(packed.weight[rows], packed.scales[rows], zeros, packed.group, count, packed.K)
