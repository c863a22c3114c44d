"""A tiny build of the expert kernels with tables that pick them, random stacks of int4 weights, and bounds for what comes out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kgen.build import build
from kgen.errors import MissingPieceError
from kgen.ops.reference_moe import moe_down_reference, moe_up_reference
from kgen.spec.base import KernelSpec
from kgen.spec.moe_down_reduce import MoeDownReduceSpec
from kgen.spec.moe_wvsplitk_int4 import MoeWvSplitKInt4Spec
from kgen.spec.wvsplitk import WvSplitKSpec
from kgen.toolchain.find import find_amd
from tests.runtime.tiny import BECAUSE

ARCH = "gfx1151"


def up_spec(N: int, **more: Any) -> MoeWvSplitKInt4Spec:
    """A first GEMM of group 128 without zero points, but for what `more` says."""
    values = dict(arch=ARCH, dtype="bf16", N=N, THRDS=32, YTILE=2, UNRL=1, DEQUANT="actsum") | more
    return MoeWvSplitKInt4Spec.checked(values)


def down_spec(**more: Any) -> MoeDownReduceSpec:
    """The second GEMM likewise."""
    values = dict(arch=ARCH, dtype="bf16", THRDS=32, YTILE=2, WvPrGrp=4, K_WAVES=4, A_CHUNK=8, UNRL=1, DEQUANT="actsum")
    return MoeDownReduceSpec.checked(values | more)


UPS = {
    "dtype == 'bf16' and GROUP_SIZE == 128 and N == 1 and not HAS_ZP and not RANK": [up_spec(1), up_spec(1, SILU=True)],
    "dtype == 'bf16' and GROUP_SIZE == 128 and N == 4 and not HAS_ZP and not RANK": [
        up_spec(4, GRID="persistent"),
        up_spec(4, GRID="persistent", SILU=True),
    ],
    "dtype == 'fp16' and GROUP_SIZE == 32 and N == 2 and HAS_ZP and not RANK and SILU": [
        up_spec(2, dtype="fp16", GROUP_SIZE=32, HAS_ZP=True, SILU=True)
    ],
    "dtype == 'bf16' and GROUP_SIZE == 128 and N == 1 and not HAS_ZP and RANK and SILU": [
        up_spec(1, SILU=True, RANK=True)
    ],
    "dtype == 'fp16' and GROUP_SIZE == 64 and N == 1 and HAS_ZP and not RANK and not SILU": [
        up_spec(1, dtype="fp16", GROUP_SIZE=64, HAS_ZP=True, ROWS="contiguous")
    ],
}
DOWNS = {
    "dtype == 'bf16' and GROUP_SIZE == 128 and not HAS_ZP": [down_spec(), down_spec(FUSE_SILU=True)],
    "dtype == 'fp16' and GROUP_SIZE == 32 and HAS_ZP and not FUSE_SILU": [
        down_spec(dtype="fp16", GROUP_SIZE=32, HAS_ZP=True)
    ],
}
ROUTER = WvSplitKSpec(arch=ARCH, dtype="bf16", N=1, THRDS=32, YTILE=2, WvPrGrp=4, UNRL=1)


def build_moe(root: Path) -> Path:
    """The build folder; skips where no compiler is found."""
    specs: list[KernelSpec] = [ROUTER, *(spec for table in (UPS, DOWNS) for specs in table.values() for spec in specs)]
    try:
        find_amd([ARCH])
    except MissingPieceError as error:
        pytest.skip(str(error))
    result = build(specs, arch=ARCH, jobs=1, folder=root / ARCH)
    assert not result.failed, result.failed
    _write_table(root / ARCH, "wvsplitk", {"dtype == 'bf16' and N == 1 and K % 8 == 0": [ROUTER]})
    _write_table(root / ARCH, "moe_wvsplitk_int4", UPS)
    _write_table(root / ARCH, "moe_down_reduce", DOWNS)
    return root / ARCH


def _write_table(folder: Path, family: str, kernels: dict[str, Any]) -> None:
    """A row per condition, whose kernels differ in the last trait only, and torch for the rest."""
    rows = []
    for when, specs in kernels.items():
        use = specs[0].name
        if len(specs) > 1:
            use += "{SILU}" if family == "moe_wvsplitk_int4" else "{FUSE_SILU}"
        rows.append({"when": when.replace("'", '"'), "use": use, "because": BECAUSE})
    rows.append({"when": "true", "use": "torch", "because": BECAUSE})
    (folder / "dispatch").mkdir(exist_ok=True)
    table = {"schema": 1, "arch": ARCH, "family": family, "row": rows}
    (folder / "dispatch" / f"{family}.json").write_text(json.dumps(table))


@dataclass(frozen=True)
class Weights:
    """A stack: `args` in the ops' order; `sizes` the same weights with every code offset as actsum multiplies them, for bounds."""

    weight: Tensor
    scales: Tensor
    zeros: Tensor | None

    @property
    def args(self) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.weight, self.scales, self.zeros


def stack(
    E: int, rows: int, K: int, group: int = 128, zeros: bool = False, dtype: torch.dtype = torch.bfloat16, seed: int = 0
) -> Weights:
    """Random experts."""
    make = torch.Generator().manual_seed(seed)
    low, high = -(1 << 31), 1 << 31
    weight = torch.randint(low, high, (E, rows, K // 8), dtype=torch.int64, generator=make).int()
    scales = (0.02 * (0.5 + torch.rand(E, rows, K // group, generator=make))).to(dtype)
    shape = (E, -(-rows // 8), K // group)
    return Weights(
        weight, scales, torch.randint(low, high, shape, dtype=torch.int64, generator=make).int() if zeros else None
    )


def assert_up(out: Tensor, x: Tensor, weights: Weights, *lists: Tensor | None, **how: Any) -> None:
    """Every slot that a block holds is right; bound: 1 % of an output's own size and 2 % of the outputs' rms, far above one rounding to bf16
    and far below what a wrong expert, row or scale makes. The accuracy rules themselves are applied by the kernels' checks.
    """
    _assert_near(out, moe_up_reference(x, *weights.args, *lists, **how))


def assert_down(out: Tensor, x: Tensor, weights: Weights, ids: Tensor, topk_weights: Tensor, **how: Any) -> None:
    """The same for the second GEMM."""
    _assert_near(out, moe_down_reference(x, *weights.args, ids, topk_weights, **how))


def _assert_near(out: Tensor, reference: Tensor) -> None:
    here = ~reference.isnan()
    assert here.any()
    assert out.shape == reference.shape
    rms = reference[here].square().mean().sqrt()
    error = (out.double() - reference)[here].abs()
    assert (error <= 0.01 * reference[here].abs() + 0.02 * rms).all(), float(error.max() / rms)
