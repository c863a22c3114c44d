"""How the kernels of a family are checked: their cases, the data of a case, the order in which they add, and what must not change bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from kgen.spec.base import KernelSpec
from kgen.spec.dequantize_w4a16 import DequantizeW4A16Spec
from kgen.spec.gemm_4bit import Gemm4BitSpec
from kgen.spec.gemm_w4a16 import GemmW4A16Spec
from kgen.spec.linear import LinearSpec
from kgen.spec.moe import MoeSpec
from kgen.spec.moe_down_reduce import MoeDownReduceSpec
from kgen.spec.moe_gemm_w4a16 import MoeGemmW4A16Spec
from kgen.spec.moe_wvsplitk_int4 import MoeWvSplitKInt4Spec
from kgen.spec.problem import GemmShape, MoeShape
from kgen.spec.wvsplitk_int4 import WvSplitKInt4Spec
from kgen.verify.accuracy import Accumulation, fp32_accumulation
from kgen.verify.cases import Case, Level, accumulation, cases
from kgen.verify.codes4 import code4_operands
from kgen.verify.data import OTHER_ORDER, Data, Variant
from kgen.verify.dense import Operands, operands, other_rows
from kgen.verify.dequantize import DequantizeCase, DequantizeOperands, dequantize_cases, dequantize_operands
from kgen.verify.int4 import int4_operands
from kgen.verify.moe import moe_cases, moe_operands, moe_probe
from kgen.verify.moe_data import MoeCase, MoeOperands
from kgen.verify.moe_gemm import gemm_cases, gemm_operands, gemm_probe


class Kind(Protocol):
    """What a check asks of a family."""

    def cases(self, spec: KernelSpec, level: Level) -> list[Case]:
        """Problems of a kernel, each of which it can take."""

    def probe(self, spec: KernelSpec, shape: GemmShape) -> Case:
        """The problem of these sizes, one that the kernel can take, on a device of one CU: there its work is counted."""

    def data(self, spec: KernelSpec, case: Case) -> Data:
        """The memory of a case: the same bytes every time."""

    def accumulation(self, spec: KernelSpec, shape: GemmShape) -> Accumulation:
        """The order in which a kernel adds, as its spec promises it."""

    def variants(self, spec: KernelSpec, case: Case, data: Data) -> Sequence[Variant]:
        """Launches that must give the same bits as the case."""


class Linear:
    """act @ weight.T + bias, whatever the weights are made of."""

    def cases(self, spec: KernelSpec, level: Level) -> list[Case]:
        """See kgen.verify.cases."""
        return cases(spec, level)

    def probe(self, spec: KernelSpec, shape: GemmShape) -> Case:
        """Without bias or padding."""
        return Case("probe", shape, cu=1)

    def data(self, spec: KernelSpec, case: Case) -> Operands:
        """See kgen.verify.dense, kgen.verify.int4 and kgen.verify.codes4."""
        if isinstance(spec, Gemm4BitSpec):
            return code4_operands(spec, case)
        if isinstance(spec, WvSplitKInt4Spec | GemmW4A16Spec):
            return int4_operands(spec, case)
        return operands(case, spec.dtype, getattr(spec, "element", None))

    def accumulation(self, spec: KernelSpec, shape: GemmShape) -> Accumulation:
        """See kgen.verify.cases."""
        return accumulation(spec, shape)

    def variants(self, spec: KernelSpec, case: Case, data: Data) -> list[Variant]:
        """In another order of waves, without padding, and with other rows beside."""
        assert isinstance(data, Operands)
        bare = replace(case, weight_pad=0, act_pad=0, bias_pad=0)
        out = [
            Variant("same bits in another order", data, OTHER_ORDER),
            Variant("same bits without padding", self.data(spec, bare)),
        ]
        if case.shape.N > 1:
            beside = other_rows(case, data)
            out.append(Variant("same bits beside other rows", beside, ours=slice(0, 1), theirs=slice(-1, None)))
        return out


class Moe:
    """Experts' weights, chosen on the device."""

    def cases(self, spec: KernelSpec, level: Level) -> list[Case]:
        """See kgen.verify.moe."""
        assert isinstance(spec, MoeSpec)
        return list(moe_cases(spec, level == "full"))

    def probe(self, spec: KernelSpec, shape: GemmShape) -> Case:
        """See kgen.verify.moe."""
        assert isinstance(spec, MoeSpec)
        assert isinstance(shape, MoeShape)
        return moe_probe(spec, shape)

    def data(self, spec: KernelSpec, case: Case) -> MoeOperands:
        """See kgen.verify.moe."""
        assert isinstance(spec, MoeSpec)
        assert isinstance(case, MoeCase)
        return moe_operands(spec, case)

    def accumulation(self, spec: KernelSpec, shape: GemmShape) -> Accumulation:
        """fp32 sums, as deep as the spec says."""
        assert isinstance(spec, MoeWvSplitKInt4Spec | MoeDownReduceSpec)
        assert isinstance(shape, MoeShape)
        return fp32_accumulation(spec.additions(shape))

    def variants(self, spec: KernelSpec, case: Case, data: Data) -> list[Variant]:
        """In another order of waves, and without padding."""
        bare = self.data(spec, replace(case, weight_pad=0, act_pad=0))
        return [Variant("same bits in another order", data, OTHER_ORDER), Variant("same bits without padding", bare)]


class MoeGemm(Moe):
    """Experts' weights by matrix tiles, on blocks of slots."""

    def cases(self, spec: KernelSpec, level: Level) -> list[Case]:
        """See kgen.verify.moe_gemm."""
        assert isinstance(spec, MoeGemmW4A16Spec)
        return list(gemm_cases(spec, level == "full"))

    def probe(self, spec: KernelSpec, shape: GemmShape) -> Case:
        """See kgen.verify.moe_gemm."""
        assert isinstance(shape, MoeShape)
        return gemm_probe(shape)

    def data(self, spec: KernelSpec, case: Case) -> MoeOperands:
        """See kgen.verify.moe_gemm."""
        assert isinstance(spec, MoeGemmW4A16Spec)
        assert isinstance(case, MoeCase)
        return gemm_operands(spec, case)

    def accumulation(self, spec: KernelSpec, shape: GemmShape) -> Accumulation:
        """fp32 sums, as deep as the spec says."""
        assert isinstance(spec, MoeGemmW4A16Spec)
        assert isinstance(shape, MoeShape)
        return fp32_accumulation(spec.additions(shape))


class Dequantize:
    """Weights that are written out."""

    def cases(self, spec: KernelSpec, level: Level) -> list[Case]:
        """See kgen.verify.dequantize."""
        assert isinstance(spec, DequantizeW4A16Spec)
        return list(dequantize_cases(spec, level == "full"))

    def probe(self, spec: KernelSpec, shape: GemmShape) -> Case:
        """Without padding."""
        return DequantizeCase("probe", shape, cu=1)

    def data(self, spec: KernelSpec, case: Case) -> DequantizeOperands:
        """See kgen.verify.dequantize."""
        assert isinstance(spec, DequantizeW4A16Spec)
        assert isinstance(case, DequantizeCase)
        return dequantize_operands(spec, case)

    def accumulation(self, spec: KernelSpec, shape: GemmShape) -> Accumulation:
        """Nothing is added."""
        return fp32_accumulation(0)

    def variants(self, spec: KernelSpec, case: Case, data: Data) -> list[Variant]:
        """In another order of waves, and without padding."""
        bare = self.data(spec, replace(case, weight_pad=0))
        return [Variant("same bits in another order", data, OTHER_ORDER), Variant("same bits without padding", bare)]


_KINDS: tuple[tuple[type[KernelSpec], Kind], ...] = (
    (LinearSpec, Linear()),
    (MoeSpec, Moe()),
    (MoeGemmW4A16Spec, MoeGemm()),
    (DequantizeW4A16Spec, Dequantize()),
)


def kind_of(spec: KernelSpec) -> Kind:
    """How the kernels of a spec's family are checked."""
    return next(kind for cls, kind in _KINDS if isinstance(spec, cls))
