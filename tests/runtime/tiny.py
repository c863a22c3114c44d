"""A tiny build: one kernel per staging form and number of rows that the tests need, with its own dispatch table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kgen.build import build
from kgen.errors import MissingPieceError
from kgen.ops.reference import linear_reference
from kgen.spec.arch import arch_facts
from kgen.spec.wvsplitk import WvSplitKSpec
from kgen.toolchain.find import find_amd

ARCH, OTHER = "gfx1151", "gfx942"
BECAUSE = {"kind": "default", "why": "made for the tests"}


def spec(dtype: str, N: int, staging: str, K: int | None = None, arch: str = ARCH) -> WvSplitKSpec:
    """A kernel that is possible on `arch` with the given rows and staging."""
    facts = arch_facts(arch)
    rows = 4 if facts.mfma_4x4x4 else 2
    return WvSplitKSpec(
        arch=arch, dtype=dtype, N=N, THRDS=facts.wave, YTILE=rows, WvPrGrp=4, UNRL=1, STAGING=staging, K=K
    )


def specs_on(arch: str) -> list[WvSplitKSpec]:
    """The tiny set of a target."""
    return [
        spec("bf16", 1, "lds", arch=arch),
        spec("bf16", 2, "lds", arch=arch),
        spec("fp16", 3, "window", arch=arch),
        spec("bf16", 4, "global", arch=arch),
        spec("fp16", 1, "lds", K=256, arch=arch),
    ]


SPECS = specs_on(ARCH)
OTHER_SPECS = specs_on(OTHER)[:1]


def build_tiny(root: Path) -> Path:
    """Build both targets below `root`; answers the folder of ARCH. Skips where no compiler is found."""
    try:
        find_amd([ARCH])
    except MissingPieceError as error:
        pytest.skip(str(error))
    for arch, specs in ((ARCH, SPECS), (OTHER, OTHER_SPECS)):
        result = build(specs, arch=arch, jobs=1, folder=root / arch)
        assert not result.failed, result.failed
        write_table(root / arch, arch, specs)
    return root / ARCH


def write_table(folder: Path, arch: str, specs: list[WvSplitKSpec]) -> None:
    """A table that picks each kernel for its dtype, N and fixed K, and torch for the rest of N 1..8; no row for N = 7."""
    rows = [{"when": "K % 8 != 0", "use": "torch", "because": BECAUSE}]
    for one in specs:
        when = f'dtype == "{one.dtype}" and N == {one.N}' + (f" and K == {one.K}" if one.K else "")
        rows.append({"when": when, "use": one.name, "because": BECAUSE})
    rows.append({"when": "N != 7", "use": "torch", "because": BECAUSE})
    table = {"schema": 1, "arch": arch, "family": "wvsplitk", "row": rows}
    (folder / "dispatch").mkdir(exist_ok=True)
    (folder / "dispatch" / "wvsplitk.json").write_text(json.dumps(table))


def assert_close(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
    """Compare with the fp64 reference.

    Bound: the kernel adds K exact products in fp32 in some order, each addition off by at most 2^-24 of a partial sum, which is at most
    sum |x||w| + |bias| (twice that with the products' own rounding where they are not exact); then one rounding to the output's type, half
    a unit in the last of its 8 (bf16) or 11 (fp16) bits. 2^-24 is added for fp16's subnormals.
    """
    reference = linear_reference(x, weight, bias)
    size = linear_reference(x.abs(), weight.abs(), None if bias is None else bias.abs())
    last = 2.0**-8 if out.dtype == torch.bfloat16 else 2.0**-11
    K = x.shape[-1]
    summed = (K + 2) * 2.0**-23 * size
    allowed = last * (reference.abs() + summed) + summed + 2.0**-24
    error = (out.double() - reference).abs()
    assert out.shape == reference.shape
    assert bool((error <= allowed).all()), f"off by {(error / allowed).max().item():.2f} of the bound"


def tensors(N: int, M: int, K: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """x [N, K] and weight [M, K], normal, from a seed."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, K, generator=generator).to(dtype)
    weight = torch.randn(M, K, generator=generator).to(dtype)
    return x, weight
