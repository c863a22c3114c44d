"""Linear layers through torch.ops.kgen.wvsplitk, one to eight rows at a time, each result judged against the exact one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kgen.demo.encoder import Layer, torch_linear
from kgen.ops import check as op_check
from kgen.runtime.library import Library
from kgen.spec.problem import GemmShape
from kgen.verify.accuracy import Accumulation, Verdict, fp32_accumulation, judge, tolerance
from kgen.verify.cases import accumulation

if TYPE_CHECKING:
    from kgen.dispatch import Pick
    from kgen.spec.base import Dtype

FAMILY = "wvsplitk"
ROWS = range(
    1, 9
)  # activation rows that the family has kernels for; calls take these many in turn, so that each has its say


@dataclass
class LayerResult:
    """One linear layer of one transformer layer.

    verdicts       one per call, by the accuracy rules of `kgen check`
    nearest        the largest error as a share of its element's tolerance; above 1 is counted, above 3 is never allowed
    rounded_right  outputs that are the exact result correctly rounded, bit for bit; torch_right: the same of torch's linear
    """

    dtype: str
    number: int
    name: str
    M: int
    K: int
    rows: int = 0
    outputs: int = 0
    rounded_right: int = 0
    torch_right: int = 0
    nearest: float = 0.0
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every call passed."""
        return all(verdict.ok for verdict in self.verdicts)

    @property
    def words(self) -> str:
        """What the rules say: of the first call that failed, else of the first."""
        return next((verdict.words for verdict in self.verdicts if not verdict.ok), self.verdicts[0].words)

    @property
    def max_abs_err(self) -> float:
        """Over all calls."""
        return max(verdict.max_abs_err for verdict in self.verdicts)

    @property
    def mean_abs_err(self) -> float:
        """Over all calls; they have nearly the same number of outputs."""
        return sum(verdict.mean_abs_err for verdict in self.verdicts) / len(self.verdicts)


@dataclass
class PickResult:
    """One problem that occurred: what the table picked and why, how often it was launched.

    instructions  wave instructions of one launch in the emulator (the same every time), None on a GPU
    """

    dtype: str
    shape: GemmShape
    kernel: str
    row: int
    why: str
    calls: int = 0
    instructions: int | None = None


class KgenLinears:
    """The encoder's linear layers by kgen. `library` is what kgen.load() answered; results pile up in `layers` and `picks`.

    progress  called with the number of rows done after every call
    """

    def __init__(self, library: Library, dtype: Dtype, log: Any = None, progress: Callable[[int], None] | None = None):
        self.library, self.dtype, self.log, self.progress = library, dtype, log, progress
        self.layers: dict[tuple[int, str], LayerResult] = {}
        self.picks: dict[GemmShape, PickResult] = {}
        self._picked: dict[GemmShape, Pick] = {}

    def __call__(self, layer: Layer, x: Tensor) -> Tensor:
        """x [rows, K] to [rows, M], in calls of 1, 2, ... 8 rows, then again from 1. Raises what the op raises."""
        M, K = layer.weight.shape
        key = layer.number, layer.name
        result = self.layers.setdefault(key, LayerResult(self.dtype, layer.number, layer.name, M, K))
        exact, size = _exact(layer, x), _magnitude(layer, x)
        outs = []
        for part in parts_of(len(x)):
            out = self._launch(layer, x[part])
            self._judge(result, layer, x[part], out, exact[part], size[part])
            outs.append(out)
        return torch.cat(outs)

    def _launch(self, layer: Layer, x: Tensor) -> Tensor:
        shape = GemmShape(layer.weight.shape[0], len(x), layer.weight.shape[1])
        pick = self._picked.get(shape)
        if pick is None:
            pick = self._picked[shape] = self.library.picker(FAMILY).pick(shape, self.dtype)
            why = pick.row.because.words()
            self.picks[shape] = PickResult(self.dtype, shape, pick.kernel or "torch", pick.row.number, why)
        out: Tensor = torch.ops.kgen.wvsplitk(x, layer.weight, layer.bias)
        entry = self.picks[shape]
        entry.calls += 1
        if self.log is not None and self.log.launches and pick.kernel:
            entry.instructions = self.log.launches[-1].instructions
        if self.progress:
            self.progress(len(x))
        return out

    def _judge(
        self, result: LayerResult, layer: Layer, x: Tensor, out: Tensor, exact: Tensor, magnitude: Tensor
    ) -> None:
        right = exact.to(out.dtype)
        result.rows += len(x)
        result.outputs += out.numel()
        result.rounded_right += int((out == right).sum())
        result.torch_right += int((torch_linear(layer, x) == right).sum())
        model = self._accumulation(GemmShape(result.M, len(x), result.K))
        bits = out.contiguous().view(torch.int16).cpu().numpy().view("uint16")
        reference, size = exact.cpu().numpy(), magnitude.cpu().numpy()
        result.verdicts.append(judge(bits, reference, size, self.dtype, model))
        error = abs(out.double().cpu().numpy() - reference) / tolerance(reference, size, self.dtype, model)
        result.nearest = max(result.nearest, float(error.max()))

    def _accumulation(self, shape: GemmShape) -> Accumulation:
        spec = self._picked[shape].spec
        return accumulation(spec, shape) if spec is not None else fp32_accumulation(shape.K + 1)  # torch: any order


def parts_of(rows: int) -> list[slice]:
    """Rows in parts of 1, 2, ... 8, 1, 2, ...; the last part is what is left."""
    out: list[slice] = []
    start = 0
    for size in itertools.cycle(ROWS):
        if start >= rows:
            return out
        out.append(slice(start, min(start + size, rows)))
        start += size
    raise AssertionError("cycle never ends")


def _exact(layer: Layer, x: Tensor) -> Tensor:
    return x.double() @ layer.weight.double().T + layer.bias.double()


def _magnitude(layer: Layer, x: Tensor) -> Tensor:
    return x.double().abs() @ layer.weight.double().abs().T + layer.bias.double().abs()


DTYPES: dict[str, torch.dtype] = {name: dtype for dtype, name in op_check.DTYPES.items()}
