"""What a demonstration found, as data: `kgen run demo` prints it, `--json` writes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kgen.demo.linears import LayerResult, PickResult


@dataclass(frozen=True)
class Similarity:
    """Cosine of two sentences' embeddings (numbers of the sentences, from 1): through kgen, through torch, and by the fp32 model."""

    first: int
    second: int
    kgen: float
    torch: float
    fp32: float


@dataclass
class DtypeResult:
    """One pass of the model in one element type.

    to_torch, to_fp32   smallest cosine between a sentence's embedding through kgen and through torch in the same type, and by the fp32 model
    torch_to_fp32       the same between torch in this type and the fp32 model: what the element type alone costs
    instructions        wave instructions of all launches in the emulator, None on a GPU
    """

    dtype: str
    layers: list[LayerResult]
    picks: list[PickResult]
    similarities: list[Similarity]
    to_torch: float
    to_fp32: float
    torch_to_fp32: float
    launches: int
    instructions: int | None
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every linear layer is within its tolerance."""
        return all(layer.ok for layer in self.layers)


@dataclass
class DemoResult:
    """A whole run; `checks` says what the device watched."""

    device: str
    arch: str
    checks: str
    sentences: list[str]
    tokens: int
    results: list[DtypeResult] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every linear layer of every pass is within its tolerance."""
        return all(result.ok for result in self.results)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        out = asdict(self) | {"ok": self.ok}
        for data, result in zip(out["results"], self.results, strict=True):
            data["ok"] = result.ok
            data["layers"] = [_layer_json(layer) for layer in result.layers]
        return out


def _layer_json(layer: LayerResult) -> dict[str, Any]:
    kept = {name: value for name, value in asdict(layer).items() if name != "verdicts"}
    judged = {name: getattr(layer, name) for name in ("ok", "max_abs_err", "mean_abs_err", "words")}
    return kept | judged
