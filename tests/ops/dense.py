"""A small build with kernels of several dense families, for the tests of their ops and of what calls them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from kgen.build import build
from kgen.errors import MissingPieceError
from kgen.spec.linear import LinearSpec
from kgen.spec.llmm1 import Llmm1Spec
from kgen.spec.wvsplitk import WvSplitKSpec
from tests.runtime.tiny import ARCH, BECAUSE, spec

LLMM1 = [
    Llmm1Spec(arch=ARCH, dtype="bf16", THRDS=32, ROWS_PER_BLOCK=4, WvPrGrp=4, UNRL=2),
    Llmm1Spec(arch=ARCH, dtype="fp16", THRDS=32, ROWS_PER_BLOCK=8, WvPrGrp=2, UNRL=1),
]
WVSPLITK: list[WvSplitKSpec] = [spec(dtype, n, "window") for dtype in ("bf16", "fp16") for n in range(1, 5)]
FAMILIES: Mapping[str, Sequence[LinearSpec]] = {"llmm1": LLMM1, "wvsplitk": WVSPLITK}


def build_dense(folder: Path, families: Mapping[str, Sequence[LinearSpec]] = FAMILIES) -> Path:
    """Build `families`, all of one target, into `folder`, with a table each that picks a kernel by dtype and N and torch for the rest."""
    arch = next(spec.arch for specs in families.values() for spec in specs)
    specs = [one for family in families.values() for one in family]
    try:
        result = build(specs, arch=arch, jobs=1, folder=folder)
    except MissingPieceError as error:
        pytest.skip(str(error))
    assert not result.failed, result.failed
    for family, specs in families.items():
        rows = [{"when": f"K % {specs[0].piece} != 0", "use": "torch", "because": BECAUSE}]
        rows += [
            {"when": f'dtype == "{one.dtype}" and N == {one.N}', "use": one.name, "because": BECAUSE} for one in specs
        ]
        rows.append({"when": "true", "use": "torch", "because": BECAUSE})
        table = {"schema": 1, "arch": arch, "family": family, "row": rows}
        (folder / "dispatch").mkdir(exist_ok=True)
        (folder / "dispatch" / f"{family}.json").write_text(json.dumps(table))
    return folder
