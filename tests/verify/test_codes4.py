"""The data of gemm_4bit's cases, against what torch makes of the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kgen.ops.quantise_4bit import Quantised4Bit, dequantise_4bit
from kgen.spec.codes4 import table_error
from kgen.spec.gemm_4bit import BLOCKSIZES, Gemm4BitSpec
from kgen.spec.problem import GemmShape
from kgen.verify.cases import Case, cases
from kgen.verify.codes4 import blocksize_of, code4_operands
from kgen.verify.elements import from_bits


def spec(dtype: str = "bf16", group: int = 32, fp4: bool = False, nested: bool = False) -> Gemm4BitSpec:
    own = {"TABLE": "lds", "COPIES": 1} if dtype == "fp32" else {}
    return Gemm4BitSpec.checked(
        {"arch": "gfx1151", "dtype": dtype, "N": 2, "GROUP_SIZE": group, "FP4": fp4, "NESTED": nested, **own}
    )


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize(("fp4", "nested"), [(False, False), (False, True), (True, False)])
def test_the_reference_is_the_dequantised_weight_but_for_the_rounded_table(dtype, fp4, nested):
    one, case = spec(dtype, fp4=fp4, nested=nested), Case("x", GemmShape(5, 2, 96), seed=3)
    data = code4_operands(one, case)
    arrays = {name: None if x is None else torch.from_numpy(np.array(x)) for name, x in data.absmax.arrays.items()}
    offset = arrays["absmax_offset"]
    weight = Quantised4Bit(
        torch.from_numpy(data.weight), (5, 96), blocksize_of(one, case), "fp4" if fp4 else "nf4",
        arrays["absmax"], arrays["absmax_codes"], arrays["absmax_table"], None if offset is None else offset[0],
    )  # fmt: skip
    dense = dequantise_4bit(weight).double().numpy()
    act = from_bits(data.act, dtype).reshape(2, 96)
    size = np.abs(act) @ np.abs(dense).T
    # What is left: fp32's rounding of number times absmax, and of nested absmax, whose parts may cancel.
    left = (table_error("fp4" if fp4 else "nf4", dtype) + 2.0**-23) * size + 2.0**-23 * data.magnitude
    assert (np.abs(data.reference - act @ dense.T) <= left).all()
    assert (data.magnitude >= size * (1 - 2.0**-6)).all()


def test_blocks_lie_in_rows_are_rows_and_cross_rows():
    one = spec(group=64)
    sizes = {blocksize_of(one, case) for case in cases(one, "full")}
    assert sizes == {size for size in BLOCKSIZES if size >= 64}
    data = code4_operands(one, Case("x", GemmShape(7, 1, 192), seed=7))
    assert (blocksize_of(one, Case("x", GemmShape(7, 1, 192), seed=7)), data.block_shift) == (4096, 6)
    assert data.absmax.values.size == 1


def test_cases_bring_fewer_rows_than_a_pass_and_more():
    counts = {case.shape.N for case in cases(spec(), "quick")}
    assert counts >= {1, 2, 5}
