"""What the expert layer of a decode step costs on the GPU that is here: one token after the other through `torch.ops.kgen.moe_decode_int4`.

A captured graph holds one call per token. Tokens differ, so that the router sends them to different experts and the weights of a call are mostly
cold: of the default layer 48 tokens use each of 128 experts three times on average, with some 300 MB of others in between. The
floor is the time in which the device reads as many cold bytes as one call must: router, codes and scales of the chosen experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kgen.bench.ceilings import ReadFloor
from kgen.bench.kernels import library_on_gpu
from kgen.bench.timing import ROUNDS, compare, weight_sets
from kgen.errors import KgenError, Problem, SpecError
from kgen.spec.w4 import GROUP_SIZES

if TYPE_CHECKING:
    from torch import Tensor

TOKENS = 48


@dataclass(frozen=True)
class Layer:
    """A layer's sizes; the default is Qwen3-30B-A3B's. group: K elements that share a scale; codes have no zero points."""

    experts: int = 128
    top_k: int = 8
    hidden: int = 2048
    inner: int = 768
    group: int = 128
    dtype: str = "bf16"

    def __post_init__(self) -> None:
        problems = [
            Problem((name,), str(value), "a positive integer")
            for name, value in asdict(self).items()
            if name != "dtype" and value < 1
        ]
        if self.dtype not in ("bf16", "fp16"):
            problems.append(Problem(("dtype",), self.dtype, "bf16, fp16"))
        if self.group not in GROUP_SIZES:
            problems.append(Problem(("group",), str(self.group), ", ".join(map(str, GROUP_SIZES))))
        elif self.hidden % self.group or self.inner % self.group:
            problems.append(Problem(("hidden", "inner"), f"{self.hidden}, {self.inner}", f"multiples of {self.group}"))
        if self.top_k > self.experts:
            problems.append(Problem(("top_k",), str(self.top_k), f"at most {self.experts}, the experts"))
        if problems:
            raise SpecError("no such layer", problems)

    @property
    def bytes_read(self) -> int:
        """Of one token: the router, and codes and scales of its experts."""
        weights = self.top_k * 3 * self.hidden * self.inner
        return 2 * self.experts * self.hidden + weights // 2 + 2 * weights // self.group

    @property
    def tolerance(self) -> float:
        """Of an output vector, relative to its norm: two roundings to dtype, and as much again for logits at a tie."""
        return 4 * (2.0**-9 if self.dtype == "bf16" else 2.0**-12)


@dataclass(frozen=True)
class LayerTiming:
    """A layer's times.

    us, low, high  microseconds a token where one layer follows the other: median, smallest and largest replay
    apart_us       median with a kernel of one element of torch's in front of each layer, as a norm stands there in a model; that kernel included
    other_us       that kernel alone
    error          largest of three tokens, relative to the output's norm
    """

    us: float
    low: float
    high: float
    apart_us: float
    other_us: float
    floor_us: float
    megabytes: float
    error: float
    kernels: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def operands(layer: Layer, device: str, seed: int = 1) -> tuple[list[Tensor], dict[str, Any]]:
    """(tokens [1, hidden], the op's other tensors by name), random."""
    import torch

    generator = torch.Generator(device).manual_seed(seed)
    dtype = torch.bfloat16 if layer.dtype == "bf16" else torch.float16

    def normal(*size: int) -> Tensor:
        return torch.randn(size, device=device, generator=generator)

    def weights(rows: int, K: int) -> tuple[Tensor, Tensor]:
        size = (layer.experts, rows, K // 8)
        codes = torch.randint(-(2**31), 2**31 - 1, size, dtype=torch.int32, device=device, generator=generator)
        scales = torch.rand((layer.experts, rows, K // layer.group), device=device, generator=generator)
        return codes, (0.05 * (0.5 + scales)).to(dtype)

    w13, w13_scales = weights(2 * layer.inner, layer.hidden)
    w2, w2_scales = weights(layer.hidden, layer.inner)
    router = (0.05 * normal(layer.experts, layer.hidden)).to(dtype)
    tokens = [normal(1, layer.hidden).to(dtype) for _ in range(TOKENS)]
    return tokens, {
        "router": router,
        "w13": w13,
        "w13_scales": w13_scales,
        "w13_zeros": None,
        "w2": w2,
        "w2_scales": w2_scales,
        "w2_zeros": None,
    }


def exact_layer(layer: Layer, token: Tensor, tensors: dict[str, Any]) -> Tensor:
    """The layer's output in fp64, behind logits rounded to dtype as the router's kernel rounds them."""
    from kgen.ops.reference_moe import moe_layer_reference

    logits = (token.double() @ tensors["router"].double().T).to(token.dtype)
    w13, w2 = ((tensors[name], tensors[f"{name}_scales"], tensors[f"{name}_zeros"]) for name in ("w13", "w2"))
    return moe_layer_reference(token, logits, w13, w2, layer.top_k)


def relative_error(out: Tensor, exact: Tensor) -> float:
    """How far an output is from the exact one, relative to the norm of the exact one."""
    return float((out.double() - exact).norm() / exact.norm())


def bench_layer(layer: Layer, rounds: int = ROUNDS, kernels: Sequence[str] = ()) -> LayerTiming:
    """Time a layer on the current library's GPU; `kernels` by name answer before their tables wherever they fit.

    Raises MissingPieceError if the loaded library is not on a GPU, KgenError if a result is wrong (nothing wrong is ever timed) or if one of
    `kernels` had no part in it.
    """
    import torch

    import kgen.ops  # noqa: F401 - registers the ops

    library = library_on_gpu()
    library.prefer(kernels)
    tokens, tensors = operands(layer, library.driver.device.torch_name)

    def call(token: Tensor) -> Any:
        return torch.ops.kgen.moe_decode_int4(token, **tensors, top_k=layer.top_k)

    error = max(relative_error(call(token), exact_layer(layer, token, tensors)) for token in tokens[:3])
    if not error <= layer.tolerance:
        raise KgenError(
            f"{layer}: wrong result, not timed: off by {error:.2e} of its norm, allowed {layer.tolerance:.2e}"
        )
    calls = [partial(call, token) for token in tokens]
    one = torch.zeros(1, device=tokens[0].device)
    other = partial(one.add_, 1)
    apart = [step for layer_call in calls for step in (other, layer_call)]
    times = compare({"layer": calls, "apart": apart, "other": [other] * TOKENS}, rounds)
    size = layer.bytes_read // 16 * 16
    cold = [torch.zeros(size // 4, dtype=torch.int32, device=tokens[0].device) for _ in range(weight_sets(size))]
    floor_us = ReadFloor(library.driver).microseconds(cold)
    answered = tuple(library.answered())
    if idle := [name for name in kernels if name not in answered]:
        raise KgenError(f"{layer}: not asked for in this layer: {', '.join(idle)}")
    layers, apart_us = times["layer"], 2 * times["apart"].us  # two calls to a layer
    span = (layers.us, layers.low, layers.high)
    return LayerTiming(*span, apart_us, times["other"].us, floor_us, size / 1e6, error, answered)
