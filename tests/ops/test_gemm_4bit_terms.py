"""gemm_4bit with TERMS: fp32 by the matrix instruction, as real code objects in the emulator, is as right as fp32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from kgen.ops.quantise_4bit import Quantised4Bit, dequantise_4bit, quantise_4bit
from kgen.runtime import session
from kgen.runtime.emu import emulation
from kgen.runtime.library import Library
from kgen.spec.gemm_4bit import Gemm4BitSpec
from tests.ops.test_gemm_4bit import build_small, call

ARCHES = ("gfx942", "gfx950")
M, K = 16, 256  # weights of every code in every place
LEFT_OUT = 2.0**-22 + 2 * 2.0**-23  # of a product: that of two second terms, and what both numbers' terms are off by
pytestmark = pytest.mark.hipcc


def spec_on(arch: str) -> Gemm4BitSpec:
    return Gemm4BitSpec.checked(
        dict(
            arch=arch, dtype="fp32", N=8, THRDS=64, YTILE=16, WvPrGrp=2, K_WAVES=2, UNRL=1, A_CHUNK=16, GROUP_SIZE=64,
            TABLE="lds", COPIES=4, STAGING="global", TERMS=2,
        )
    )  # fmt: skip


@pytest.fixture(scope="module", params=ARCHES)
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = build_small(tmp_path_factory.mktemp("terms"), [spec_on(request.param)])
    yield session.load(folder, device="emu")
    session.unload()


def weights() -> Quantised4Bit:
    return quantise_4bit(torch.randn(M, K, generator=torch.Generator().manual_seed(1)), "nf4", 64, False)


@pytest.mark.parametrize("exponent", [-60, -1, 0, 60])
def test_a_product_loses_what_is_left_out_and_three_roundings(library, exponent):
    """One activation of each row, so that no sum hides its error: without the second terms it would be off by 2^-12 and more."""
    w, generator = weights(), torch.Generator().manual_seed(2)
    x = torch.zeros(8, K)
    place = torch.randint(0, K, (8,), generator=generator)
    x[torch.arange(8), place] = torch.ldexp(torch.rand(8, generator=generator) + 1, torch.tensor(exponent))
    exact = x.double() @ dequantise_4bit(w).double().T
    out = call(x, w).double()
    assert ((out - exact).abs() <= (LEFT_OUT + 3 * 2.0**-24) * exact.abs()).all()
    assert (out[exact == 0] == 0).all()
    assert (out[exact != 0] != 0).all()


def test_sums_are_as_near_as_those_of_fp32(library):
    w = weights()
    x = torch.randn(8, K, generator=torch.Generator().manual_seed(3))
    dense = dequantise_4bit(w)
    exact = x.double() @ dense.double().T
    with emulation() as log:
        out = call(x, w)
    assert [launch.kernel for launch in log.launches] == [spec_on(library.arch).name]
    ours, torchs = ((y.double() - exact).norm() / exact.norm() for y in (out, x @ dense.T))
    assert ours < 2 * torchs, (ours, torchs)
    assert ours < 3e-7


def test_the_largest_number_stays_finite_and_infinity_makes_nan_of_its_row_alone(library):
    w = weights()
    x = torch.zeros(4, K)
    x[:, 5] = 1
    x[1, 7], x[2, 7], x[3, 7] = torch.finfo(torch.float32).max, float("inf"), float("nan")
    out = call(x, replace(w, absmax=w.absmax * 2.0**-10))
    assert out[:2].isfinite().all()
    assert out[2:].isnan().all()
