"""bitsandbytes' ops on kgen's kernels. A stand-in with the ops' schemas is enough; where the package is installed, it is the package."""

from __future__ import annotations

import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator
from importlib.machinery import ModuleSpec

import pytest
import torch
from torch import Tensor

from kgen.errors import MissingPieceError
from kgen.integrations import bitsandbytes as plug
from kgen.ops.quantise_4bit import Quantised4Bit, dequantise_4bit
from kgen.runtime import session
from kgen.runtime.library import Library
from tests.ops.test_gemm_4bit import BF16, FP32, assert_right, build_small, problem, specs_on

SCHEMAS = {  # bitsandbytes/_ops.py at 0.50.2
    "gemm_4bit": "(Tensor A, Tensor B, int[] shapeB, Tensor absmax, int blocksize, str quant_type, Tensor? bias=None, "
    "Tensor? absmax_8bit=None, Tensor? absmax_code=None, Tensor? absmax_offset=None) -> Tensor",
    "gemv_4bit": "(Tensor A, Tensor B, int[] shapeB, Tensor absmax, Tensor code, int blocksize) -> Tensor",
}
HERE = importlib.util.find_spec("bitsandbytes") is not None


def theirs(A: Tensor, B: Tensor, shapeB: list[int], *rest: object) -> Tensor:
    """Of the stand-in: an answer that is nobody's."""
    return A.new_full((*A.shape[:-1], shapeB[0]), 77.0)


@pytest.fixture(scope="module")
def package() -> Iterator[None]:
    """bitsandbytes, or a module of that name that defines its two ops."""
    if HERE:
        yield
        return
    library = torch.library.Library("bitsandbytes", "DEF")
    for name, schema in SCHEMAS.items():
        library.define(name + schema)
        library.impl(name, theirs, "CPU")
    module = types.ModuleType("bitsandbytes")
    module.__spec__ = ModuleSpec("bitsandbytes", None)
    sys.modules["bitsandbytes"] = module
    yield
    del sys.modules["bitsandbytes"]
    library._destroy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    return build_small(tmp_path_factory.mktemp("bitsandbytes"), specs_on("gfx1151"))


@pytest.fixture
def registered(package: None, folder) -> Iterator[Library]:
    library = session.load(folder, device="emu")
    plug.register("cpu")
    yield library
    plug.unregister()
    session.unload()


def call(x: Tensor, w: Quantised4Bit, bias: Tensor | None = None) -> Tensor:
    nested = (w.absmax_8bit, w.absmax_code, w.absmax_offset)
    out: Tensor = torch.ops.bitsandbytes.gemm_4bit(
        x, w.packed, list(w.shape), w.absmax, w.blocksize, w.code, bias, *nested
    )
    return out


@pytest.mark.hipcc
@pytest.mark.parametrize("nested", [False, True])
def test_gemm_4bit_runs_kgens_kernels(registered, nested):
    x, w = problem(3, 37, 512, BF16, nested=nested)
    before = sum(session.stats().values())
    assert_right(call(x, w), x, w)
    bias = torch.randn(37).to(BF16)
    assert_right(call(x, w, bias), x, w, bias)
    assert sum(session.stats().values()) == before + 2
    assert not any(name.startswith("torch") for name in session.stats())


@pytest.mark.hipcc
@pytest.mark.parametrize("code", ["nf4", "fp4"])
def test_gemv_4bit_tells_the_type_from_the_table(registered, code):
    x, w = problem(1, 37, 512, FP32, code)
    table = dequantise_4bit(Quantised4Bit(torch.arange(16, dtype=torch.uint8) * 17, (16, 2), 32, code, torch.ones(1)))
    for _ in range(2):
        out = torch.ops.bitsandbytes.gemv_4bit(x, w.packed, list(w.shape), w.absmax, table[:, 0].clone(), 64)
        assert_right(out, x, w)


@pytest.mark.hipcc
def test_activations_may_lie_anyhow(registered):
    x, w = problem(4, 37, 512, BF16)
    plain = call(x, w)
    assert torch.equal(call(x.T.contiguous().T, w), plain)
    shifted = torch.cat([x.new_zeros(1), x.reshape(-1)])[1:].reshape(4, 512)
    assert shifted.data_ptr() % 16
    assert torch.equal(call(shifted, w), plain)


@pytest.mark.hipcc
def test_registering_says_nothing_and_can_be_taken_back(registered):
    x, w = problem(2, 37, 512, BF16)
    ours = call(x, w)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plug.register("cpu")
    assert torch.equal(call(x, w), ours)
    plug.unregister()
    before = session.stats()
    assert HERE or bool((call(x, w) == 77).all())
    assert session.stats() == before


def test_without_the_package_the_cure_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPieceError, match=r"kgen\[bitsandbytes\]"):
        plug.register()
