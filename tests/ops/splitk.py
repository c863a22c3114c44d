"""A tiny wvsplitkrc build: two tiles of rows with both orders of addition, and a table that picks them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kgen.build import build
from kgen.errors import MissingPieceError
from kgen.spec.arch import arch_facts
from kgen.spec.wvsplitkrc import WvSplitKrcSpec
from kgen.toolchain.find import find_amd
from tests.runtime.tiny import BECAUSE

ARCH = "gfx1151"


def spec(N: int, arch: str = ARCH, deterministic: bool = True, dtype: str = "bf16") -> WvSplitKrcSpec:
    """A kernel for up to N rows, shards of 256."""
    sharing = min(4, N // 16)
    return WvSplitKrcSpec.checked(
        dict(arch=arch, dtype=dtype, N=N, THRDS=arch_facts(arch).wave, GrpsShrB=sharing, CHUNKK=2)
        | {"DETERMINISTIC": deterministic}
    )


def build_splitk(root: Path, arch: str = ARCH, jobs: int = 1) -> Path:
    """The build folder; skips where no compiler is found."""
    specs = [one for N in (16, 64) for one in (spec(N, arch), *spec(N, arch).twins())]
    try:
        if arch_facts(arch).vendor == "amd":
            find_amd([arch])
        result = build(specs, arch=arch, jobs=jobs, folder=root / arch)
    except MissingPieceError as error:
        pytest.skip(str(error))
    assert not result.failed, result.failed
    rows = [
        {"when": "K % 8 != 0", "use": "torch", "because": BECAUSE},
        {"when": 'dtype == "bf16" and 9 <= N <= 16', "use": spec(16, arch).name, "because": BECAUSE},
        {"when": 'dtype == "bf16" and 17 <= N <= 64 and M <= 1024', "use": spec(64, arch).name, "because": BECAUSE},
        {"when": "true", "use": "torch", "because": BECAUSE},
    ]
    table = {"schema": 1, "arch": arch, "family": "wvsplitkrc", "row": rows}
    folder = root / arch
    (folder / "dispatch").mkdir(exist_ok=True)
    (folder / "dispatch" / "wvsplitkrc.json").write_text(json.dumps(table))
    return folder
