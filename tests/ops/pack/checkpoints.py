"""Small checkpoints of every format, written to a folder as the packages write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.ops.pack.layers import Sizes, awq_layer, compressed_layer, gptq_layer

SIZE = Sizes(M=16, groups=8, group=128, seed=1, scale_type=torch.float16)  # K = 1024: rows on the cliff
NAMES = ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj", "model.layers.1.self_attn.q_proj")
PLAIN = {
    "model.embed_tokens.weight": torch.randn(32, 64, generator=torch.Generator().manual_seed(0)).half(),
    "model.layers.0.input_layernorm.weight": torch.tensor([1.0, float("nan"), -0.0, 0.0], dtype=torch.bfloat16),
    f"{NAMES[0]}.bias": torch.ones(16, dtype=torch.float16),
    "model.step": torch.tensor(7),
}
"""Tensors that are not quantised: several types, NaN, -0, no dimension."""
SCHEME = {
    "targets": ["Linear"],
    "weights": {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 128},
    "input_activations": None,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"},
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "checkpoint_format": "gptq"},
    "gptq_v2": {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": 128,
        "desc_act": False,
        "checkpoint_format": "gptq_v2",
    },
    "compressed-tensors": {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": SCHEME},
        "ignore": ["lm_head"],
    },
}


def make_layer(kind: str, size: Sizes, symmetric: bool = False) -> dict[str, Tensor]:
    """Tensors of one layer of a kind of CONFIGS."""
    if kind == "awq":
        return awq_layer(size, symmetric)
    if kind == "gptq":
        tensors = gptq_layer(size, stored=0x77777777 if symmetric else None)
        return {**tensors, "qzeros": tensors["qzeros"] & 0x77777777}  # no 15
    if kind == "gptq_v2":
        return gptq_layer(size, stored=-0x77777778 if symmetric else None)
    return compressed_layer(size, zero_point=not symmetric)


def dense_model(kind: str, size: Sizes = SIZE) -> dict[str, Tensor]:
    """Three layers, the second of them symmetric, between tensors that are not quantised."""
    tensors = dict(PLAIN)
    for number, name in enumerate(NAMES):
        layer = make_layer(kind, replace(size, seed=number), symmetric=number == 1)
        tensors |= {f"{name}.{key}": tensor for key, tensor in layer.items()}
    return tensors


def moe_model(
    kind: str, experts: int = 3, names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"), rows: int = 16
) -> dict[str, Tensor]:
    """Two decoder layers with experts; gate and up [rows, 64], down [64, 64], group 32; a few parts symmetric."""
    tensors: dict[str, Tensor] = {"model.embed_tokens.weight": torch.ones(4, 8)}
    for depth in range(2):
        for expert in range(experts):
            for number, name in enumerate(names):
                size = Sizes(64 if number == 2 else rows, 2, 32, 100 * depth + 10 * expert + number, torch.bfloat16)
                layer = make_layer(kind, size, symmetric=depth == 1 or (expert, number) == (1, 0))
                prefix = f"model.layers.{depth}.mlp.experts.{expert}.{name}"
                tensors |= {f"{prefix}.{key}": tensor for key, tensor in layer.items()}
    return tensors


def moe_config(kind: str) -> dict[str, Any]:
    """The configuration of `moe_model`, whose group is 32."""
    text = json.dumps(CONFIGS[kind]).replace('"group_size": 128', '"group_size": 32')
    return json.loads(text)


def write(folder: Path, tensors: Mapping[str, Tensor], quantisation: Mapping[str, Any] | None, shards: int = 1) -> Path:
    """A checkpoint folder. With more than one shard an index, and the tensors dealt out one by one, so that layers lie across files."""
    folder.mkdir(parents=True)
    config = {"architectures": ["TestForCausalLM"], "hidden_size": 64}
    config |= {} if quantisation is None else {"quantization_config": dict(quantisation)}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text('{"words": "é"}')
    index = {}
    for number in range(shards):
        name = "model.safetensors" if shards == 1 else f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {key: value.contiguous() for key, value in list(tensors.items())[number::shards]}
        index |= dict.fromkeys(part, name)
        save_file(part, folder / name, {"format": "pt"})
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def write_kind(folder: Path, kind: str, shards: int = 1) -> Path:
    return write(folder, dense_model(kind), CONFIGS[kind], shards)
