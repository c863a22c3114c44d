"""A BERT sentence encoder in plain torch whose linear layers are computed by a function that is passed in.

Sentences are not padded: the tokens of all of them are the rows of one matrix, and only attention looks at one sentence at a time.
Everything but the linear layers is fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kgen.demo.checkpoint import Checkpoint


@dataclass(frozen=True)
class Layer:
    """One linear layer: its transformer layer, its name, weight [M, K] and bias [M] in the element type of the run."""

    number: int
    name: str
    weight: Tensor
    bias: Tensor


Linear = Callable[[Layer, Tensor], Tensor]
"""(layer, x [rows, K] in the layer's element type) -> [rows, M] in the same type."""

LINEARS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention out": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}


class Encoder:
    """The encoder with its linear layers in `dtype` on `device`; the rest stays in fp32 there."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype, device: str = "cpu"):
        self.config, self.dtype, self.device = checkpoint.config, dtype, device
        self._weights = {name: tensor.to(device) for name, tensor in checkpoint.weights.items()}
        self.layers = [
            {name: self._layer(number, name, path) for name, path in LINEARS.items()}
            for number in range(self.config.num_hidden_layers)
        ]

    def _layer(self, number: int, name: str, path: str) -> Layer:
        prefix = f"encoder.layer.{number}.{path}"
        weight, bias = (self._weights[f"{prefix}.{part}"].to(self.dtype) for part in ("weight", "bias"))
        return Layer(number, name, weight.contiguous(), bias.contiguous())

    def embed(self, sentences: Sequence[Sequence[int]], linear: Linear) -> Tensor:
        """Sentence embeddings [sentences, hidden] of unit length in fp32, from token numbers.

        The mean of the last hidden states, as the model's 1_Pooling/config.json says, divided by its length.
        """
        hidden = self.hidden(sentences, linear)
        means = torch.stack([part.mean(dim=0) for part in hidden.split([len(sentence) for sentence in sentences])])
        return functional.normalize(means, dim=1)

    def hidden(self, sentences: Sequence[Sequence[int]], linear: Linear) -> Tensor:
        """Last hidden states [tokens of all sentences, hidden] in fp32, from token numbers."""
        hidden = self._embeddings(sentences)
        sizes = [len(sentence) for sentence in sentences]
        for number in range(self.config.num_hidden_layers):
            hidden = self._transform(number, hidden, sizes, linear)
        return hidden

    def _embeddings(self, sentences: Sequence[Sequence[int]]) -> Tensor:
        tokens = torch.tensor([number for sentence in sentences for number in sentence], device=self.device)
        places = torch.cat([torch.arange(len(sentence), device=self.device) for sentence in sentences])
        prefix = "embeddings."
        summed = (
            self._weights[f"{prefix}word_embeddings.weight"][tokens]
            + self._weights[f"{prefix}position_embeddings.weight"][places]
            + self._weights[f"{prefix}token_type_embeddings.weight"][0]
        )
        return self._norm(summed, f"{prefix}LayerNorm")

    def _transform(self, number: int, hidden: Tensor, sizes: list[int], linear: Linear) -> Tensor:
        layer = self.layers[number]

        def apply(name: str, x: Tensor) -> Tensor:
            return linear(layer[name], x.to(self.dtype).contiguous()).float()

        prefix = f"encoder.layer.{number}."
        query, key, value = (apply(name, hidden) for name in ("query", "key", "value"))
        mixed = torch.cat(
            [
                self._attend(*parts)
                for parts in zip(query.split(sizes), key.split(sizes), value.split(sizes), strict=True)
            ]
        )
        hidden = self._norm(apply("attention out", mixed) + hidden, f"{prefix}attention.output.LayerNorm")
        inner = functional.gelu(apply("intermediate", hidden))
        return self._norm(apply("output", inner) + hidden, f"{prefix}output.LayerNorm")

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Full attention within one sentence; all three are [tokens, hidden]."""
        heads = self.config.num_attention_heads
        q, k, v = (part.view(len(part), heads, -1).transpose(0, 1) for part in (query, key, value))
        out = functional.scaled_dot_product_attention(q, k, v)
        return out.transpose(0, 1).reshape(len(query), -1)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(x, weight.shape, weight, bias, self.config.layer_norm_eps)


def torch_linear(layer: Layer, x: Tensor) -> Tensor:
    """torch's own linear, in the layer's element type."""
    return functional.linear(x, layer.weight, layer.bias)
