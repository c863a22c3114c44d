"""What a family is measured on, and against: operands, the op, and what a user would call instead.

wvsplitk, wvsplitkrc   torch's linear; for wvsplitkrc also its faster, order-dependent sums ("fast"), so that determinism has a price
llmm1                  torch's linear, and wvsplitk's own answer for one row
wvsplitk_int4          torch's own int4 kernel, torch's linear on 16-bit weights, GemLite where it is installed (kgen.bench.int4)
gemm_w4a16, w4a16_linear   the same for many rows, and dequantising and torch's linear: by dequantize_w4a16's kernel, and by torch alone
gemm_4bit              bitsandbytes where it is installed, by its own pick and each of its two paths; else dequantising and torch's linear
(kgen.bench.codes4)
wvsplitkq              torch's scaled matrix multiply (fp8), and torch's linear on the same weights in the output's type
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from kgen.errors import KgenError
from kgen.ops.check import DTYPES
from kgen.ops.reference import scaled_linear_torch
from kgen.spec.arch import arch_facts
from kgen.spec.linear import LinearSpec
from kgen.spec.problem import Code4Shape, GemmShape, W4Shape
from kgen.spec.registry import FAMILIES, family_class
from kgen.spec.route import ROUTES
from kgen.verify.accuracy import Verdict, fp32_accumulation, judge
from kgen.verify.cases import accumulation

if TYPE_CHECKING:
    from torch import Tensor

    from kgen.runtime.launch import Kernel
    from kgen.runtime.library import Library

_SEED = 20
_REFERENCE_ELEMENTS = 1 << 27  # weights widened to fp64 at a time: 1 GiB

Answer = Callable[[Any], "Tensor"]
"""Of a weight: the output [N, M]."""


@dataclass(frozen=True)
class Contest:
    """One shape's operands and contenders.

    act        [N, K]; weights: [M, K] each, `len` of them
    answers    name -> contender, "kgen" first; takes one of `weights`
    scale      what a product of act and weight is multiplied with
    kernel     what answers as "kgen", None: torch
    peer_weights  name -> weights of its own, for a contender that cannot take `weights`
    """

    family: str
    dtype: str
    shape: GemmShape
    act: Tensor
    weights: list[Any]
    answers: dict[str, Answer]
    kernel: Kernel | None
    scale: float = 1.0
    peer_weights: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def cold(self) -> list[Tensor]:
        """What each call reads for the first time, as one tensor."""
        return self.weights

    @property
    def weight_bytes(self) -> int:
        """Bytes of one weight, scales and all."""
        return self.cold[0].numel() * self.cold[0].element_size()

    def calls(self, name: str) -> list[Callable[[], Any]]:
        """One call per set of weights."""
        answer = self.answers[name]
        return [partial(answer, w) for w in self.peer_weights.get(name, self.weights)]

    def verdict(self, name: str = "kgen") -> Verdict:
        """Judge one answer by the accuracy rules; the reference is summed in fp64 on the device, block by block."""
        import torch

        out = self.answers[name](self.peer_weights.get(name, self.weights)[0])
        wide = self.act.double() * self.scale
        reference, magnitude = [], []
        for block in self.wide_rows(max(1, _REFERENCE_ELEMENTS // self.shape.K)):
            reference.append((wide @ block.T).cpu())
            magnitude.append((wide.abs() @ block.abs().T).cpu())
        spec = self.kernel.spec if self.kernel and name == "kgen" else None
        model = accumulation(spec, self.shape) if spec else fp32_accumulation(self.shape.K + 2)  # others: in any order
        integers, patterns = (torch.int32, "uint32") if self.dtype == "fp32" else (torch.int16, "uint16")
        bits = out.contiguous().view(integers).cpu().numpy().view(patterns)
        dtype: Any = self.dtype
        return judge(bits, torch.cat(reference, 1).numpy(), torch.cat(magnitude, 1).numpy(), dtype, model)

    def wide_rows(self, rows: int) -> Iterator[Tensor]:
        """The first weight in fp64, so many rows at a time."""
        for block in self.weights[0].split(rows):
            yield block.double()


def contested_families() -> list[str]:
    """The families that there are contests of: those whose problems are one weight and its activations."""
    return [name for name in FAMILIES if issubclass(family_class(name), LinearSpec)]


def contest(
    library: Library, family: str, shape: GemmShape, dtype: str, sets: int, kernel: str | None = None
) -> Contest:
    """The contest of a family on the library's device, with `sets` weights; `kernel` by name in place of the table's pick.

    Raises KgenError for a kernel by name that an op's pick decides about more than its table (workspaces, scales).
    """
    import torch
    from torch.nn.functional import linear

    known = [*contested_families(), *ROUTES]
    if family not in known:  # a mixture's problems are W4Shapes, too
        raise KgenError(f"{family} is no linear family\n  try: one of {', '.join(known)}")
    if isinstance(shape, W4Shape):
        from kgen.bench.int4 import int4_contest

        return int4_contest(library, family, shape, dtype, sets, kernel)
    if isinstance(shape, Code4Shape):
        from kgen.bench.codes4 import code4_contest

        return code4_contest(library, shape, dtype, sets, kernel)
    kind = {name: kind for kind, name in DTYPES.items()}[dtype]
    device = torch.device(library.driver.device.torch_name)
    generator = torch.Generator(device).manual_seed(_SEED)
    weights = list(torch.empty(sets, shape.M, shape.K, dtype=kind, device=device).normal_(generator=generator))
    act = torch.empty(shape.N, shape.K, dtype=kind, device=device).normal_(generator=generator)
    picked = library.kernel(kernel) if kernel else library.pick(family, shape, dtype)
    if family == "wvsplitkq":
        _refuse_by_name(family, kernel)
        return _fp8_contest(library, shape, dtype, act, weights, picked)
    op = getattr(torch.ops.kgen, family)
    answers: dict[str, Answer] = {"kgen": lambda w: op(act, w), "torch linear": lambda w: linear(act, w)}
    if family == "wvsplitkrc":
        _refuse_by_name(family, kernel)
        answers["kgen"] = lambda w: op(act, w, deterministic=True)
        answers["fast"] = lambda w: op(act, w, deterministic=False)
    elif kernel:
        assert picked is not None
        answers["kgen"] = _direct(picked, shape, act, library.driver)
    if family == "llmm1" and _answers(library, "wvsplitk", shape, dtype):
        answers["wvsplitk"] = lambda w: torch.ops.kgen.wvsplitk(act, w)
    return Contest(family, dtype, shape, act, weights, answers, picked)


def _fp8_contest(
    library: Library, shape: GemmShape, dtype: str, act: Tensor, weights: list[Tensor], picked: Kernel | None
) -> Contest:
    """8-bit floats of the same values times a scale, so that most of the type's range is used; the peer with 16-bit weights keeps its own."""
    import torch
    from torch.nn.functional import linear

    fp8 = arch_facts(library.arch).fp8
    element = torch.float8_e4m3fnuz if fp8 == "fnuz" else torch.float8_e4m3fn
    factor = 16.0  # normal values reach 5: 80 of at least 240
    small = [(w * factor).to(element) for w in weights]
    x = (act * factor).to(element)
    scale, x_scale = (torch.full((), 1 / factor, dtype=torch.float32, device=act.device) for _ in range(2))
    op = torch.ops.kgen.wvsplitkq
    answers: dict[str, Answer] = {
        "kgen": lambda w: op(x, w, x_scale, scale, None, act.dtype),
        "torch scaled_mm": lambda w: scaled_linear_torch(x, w, x_scale, scale, None, act.dtype, fp8 is not None),
        "torch linear": lambda w: linear(act, w),
    }
    return Contest(
        "wvsplitkq", dtype, shape, x, small, answers, picked, 1 / factor**2, peer_weights={"torch linear": weights}
    )


def _refuse_by_name(family: str, kernel: str | None) -> None:
    if kernel:
        raise KgenError(f"{family}: only what its table picks can be timed\n  try: without --kernel")


def _answers(library: Library, family: str, shape: GemmShape, dtype: str) -> bool:
    """Whether a kernel of another family is built for the shape."""
    try:
        return library.pick(family, shape, dtype) is not None
    except KgenError:
        return False


def _direct(kernel: Kernel, shape: GemmShape, act: Tensor, driver: Any) -> Answer:
    """A kernel called by name, past the table."""
    import torch

    geometry = kernel.spec.launch(shape, driver.device.cu)
    launch = kernel.bind(geometry)

    def call(weight: Tensor) -> Tensor:
        out = torch.empty(shape.N, shape.M, dtype=act.dtype, device=act.device)
        sizes = (shape.M, shape.K, weight.stride(0), act.stride(0), 0, geometry.grid[0])
        launch(
            driver.stream(), (weight.data_ptr(), act.data_ptr(), 0, out.data_ptr(), *sizes), (weight, act, None, out)
        )
        return out

    return call
