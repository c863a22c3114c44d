"""Specs that nobody chose: any that the rules let through must compile, stay within registers, and be right."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgen.build import build
from kgen.spec.arch import ARCHES
from kgen.spec.gemm_4bit import ROWS, Gemm4BitSpec
from kgen.spec.gemm_w4a16 import GemmW4A16Spec
from kgen.spec.moe_gemm_w4a16 import MoeGemmW4A16Spec
from kgen.spec.w4 import Dequant
from kgen.spec.wvsplitk import WvSplitKSpec
from kgen.spec.wvsplitk_int4 import WvSplitKInt4Spec
from kgen.spec.wvsplitkq import WvSplitKQSpec
from kgen.verify.devices import EmulatedDevice
from kgen.verify.run import check_manifest
from tests.kernels.built import AMD, compiler


@st.composite
def specs(draw: st.DrawFn) -> WvSplitKSpec:
    """A wvsplitk spec without problems, on any AMD target."""
    arch = draw(st.sampled_from(AMD))
    matrix = ARCHES[arch].mfma_4x4x4 and draw(st.booleans())
    k_waves = draw(st.sampled_from((1, 1, 2, 4, 8)))
    ytile = (16, 32) if matrix else (4, 8) if ARCHES[arch].mfma_4x4x4 else range(1, 9)
    values = {
        "arch": arch,
        "dtype": draw(st.sampled_from(("bf16", "fp16"))),
        "N": draw(st.integers(1, 8)),
        "THRDS": ARCHES[arch].wave,
        "YTILE": draw(st.sampled_from(ytile)),
        "WvPrGrp": k_waves * draw(st.integers(1, 1024 // ARCHES[arch].wave // k_waves)),
        "K_WAVES": k_waves,
        "A_CHUNK": 8 if matrix else draw(st.sampled_from((8, 16, 32))),
        "UNRL": draw(st.sampled_from((1, 2, 4, 8))),
        "STAGING": draw(st.sampled_from(("lds", "window", "global"))),
        "MATRIX16": matrix,
        "K": draw(st.none() | st.integers(1, 600).map(lambda k: 8 * k)),
    }
    while WvSplitKSpec.problems_of(values):  # the rules say what is too much; less of it is a spec
        values = {**values, "UNRL": max(1, values["UNRL"] // 2), "A_CHUNK": 8, "N": max(1, values["N"] - 1)}
    return WvSplitKSpec(**values)


@st.composite
def fp8_specs(draw: st.DrawFn) -> WvSplitKQSpec:
    """A wvsplitkq spec without problems, on any AMD target with fp8."""
    arch = draw(st.sampled_from([name for name in AMD if ARCHES[name].fp8]))
    mfma = draw(st.sampled_from(("16x16x32", "32x32x16"))) if ARCHES[arch].mfma_fp8 else None
    rows = int(mfma.split("x")[0]) if mfma else 1
    values = {
        "arch": arch,
        "dtype": draw(st.sampled_from(("bf16", "fp16"))),
        "N": draw(st.integers(1, 8)),
        "THRDS": ARCHES[arch].wave,
        "YTILE": draw(st.sampled_from([size for size in (1, 2, 4, 8, 16, 32) if size % rows == 0])),
        "WvPrGrp": draw(st.integers(1, 16)),
        "A_CHUNK": draw(st.sampled_from((16, 32))),
        "UNRL": draw(st.sampled_from((1, 2, 4))),
        "MFMA": mfma,
    }
    while WvSplitKQSpec.problems_of(values):
        smaller = max(rows, values["YTILE"] // 2)
        values = {**values, "UNRL": 1, "A_CHUNK": 16, "N": max(1, values["N"] - 1), "YTILE": smaller}
    return WvSplitKQSpec(**values)


@st.composite
def int4_specs(draw: st.DrawFn) -> WvSplitKInt4Spec:
    """A wvsplitk_int4 spec without problems, on any AMD target."""
    arch = draw(st.sampled_from(AMD))
    matrix = not ARCHES[arch].matrix.startswith("wmma")
    values = {
        "arch": arch,
        "dtype": draw(st.sampled_from(("bf16", "fp16"))),
        "N": draw(st.integers(1, 8)),
        "THRDS": ARCHES[arch].wave,
        "YTILE": draw(st.sampled_from((16, 32) if matrix else (1, 2, 3, 4, 6, 8))),
        "WvPrGrp": draw(st.sampled_from((1, 2, 4, 8, 16))),
        "K_WAVES": draw(st.sampled_from((1, 2, 4))),
        "A_CHUNK": draw(st.sampled_from((8, 16, 32))),
        "UNRL": draw(st.sampled_from((1, 2, 4, 8))),
        "GROUP_SIZE": draw(st.sampled_from((32, 64, 128))),
        "HAS_ZP": draw(st.booleans()),
        "DEQUANT": draw(st.sampled_from([way for way in get_args(Dequant) if way != "digits"])),
        "STAGING": draw(
            st.sampled_from(
                ("lds", "window", "prefix", "global", "wave") if matrix else ("lds", "window", "prefix", "global")
            )
        ),
        "K": draw(st.none() | st.integers(1, 20).map(lambda k: 128 * k)),
    }
    smaller = {"YTILE": 16 if matrix else 1, "K_WAVES": 1, "A_CHUNK": 8, "STAGING": "window"}
    if matrix and draw(st.booleans()):
        kept = draw(st.booleans())  # for the group's next tiles: K is whole trips of all waves
        of_wave = {"STAGING": "own", "K_WAVES": values["WvPrGrp"], "K": None} if kept else {"STAGING": "wave"}
        values |= {"DEQUANT": "digits", "GROUP_SIZE": 128, "A_CHUNK": 32, **of_wave}
        smaller = {"YTILE": 16} if kept else {"YTILE": 16, "K_WAVES": 1}
    while WvSplitKInt4Spec.problems_of(values):
        values = {**values, **smaller, "UNRL": max(1, values["UNRL"] // 2), "N": max(1, values["N"] - 1)}
    return WvSplitKInt4Spec(**values)


@st.composite
def code4_specs(draw: st.DrawFn) -> Gemm4BitSpec:
    """A gemm_4bit spec without problems, on any AMD target."""
    arch = draw(st.sampled_from(AMD))
    dtype = draw(st.sampled_from(("bf16", "fp16", "fp32")))
    matrix = dtype != "fp32" and not ARCHES[arch].matrix.startswith("wmma")
    table = "lds" if dtype == "fp32" else draw(st.sampled_from(("perm", "lds")))
    values = {
        "arch": arch,
        "dtype": dtype,
        "N": draw(st.sampled_from(ROWS if matrix else ROWS[:8])),
        "THRDS": ARCHES[arch].wave,
        "YTILE": draw(st.sampled_from((16, 32) if matrix else (1, 2, 3, 4, 6, 8))),
        "WvPrGrp": draw(st.sampled_from((1, 2, 4, 8, 16))),
        "K_WAVES": draw(st.sampled_from((1, 2, 4))),
        "A_CHUNK": draw(st.sampled_from((8, 16, 32))),
        "UNRL": draw(st.sampled_from((1, 2, 4))),
        "GROUP_SIZE": draw(st.sampled_from((32, 64, 128))),
        "FP4": draw(st.booleans()),
        "NESTED": draw(st.booleans()),
        "TABLE": table,
        "COPIES": draw(st.sampled_from((1, 2, 8))) if table == "lds" else None,
        "STAGING": draw(
            st.sampled_from(("lds", "window", "global", "wave") if matrix else ("lds", "window", "global"))
        ),
        "SKEW": draw(st.none() | st.integers(1, 8)),
    }
    while Gemm4BitSpec.problems_of(values):
        smaller = {"YTILE": 16 if matrix else 1, "K_WAVES": 1, "A_CHUNK": 8, "STAGING": "window", "SKEW": None}
        values = {
            **values,
            **smaller,
            "UNRL": max(1, values["UNRL"] // 2),
            "N": ROWS[max(0, ROWS.index(values["N"]) - 1)],
        }
    return Gemm4BitSpec(**values)


@st.composite
def tile_specs(draw: st.DrawFn) -> GemmW4A16Spec:
    """A gemm_w4a16 spec without problems, on any AMD target; blocks of at most 64 x 128 on four waves, which never come near the registers."""
    arch = draw(st.sampled_from(AMD))
    dtype = draw(st.sampled_from(("bf16", "fp16")))
    values = {
        "arch": arch,
        "dtype": dtype,
        "THRDS": ARCHES[arch].wave,
        "BLOCK_N": draw(st.sampled_from((16, 32, 64))),
        "BLOCK_M": draw(st.sampled_from((64, 128))),
        "BLOCK_K": draw(st.sampled_from((32, 64, 128))),
        "WvPrGrp": draw(st.sampled_from((4, 8))),
        "WAVES_N": draw(st.sampled_from((1, 2, 4))),
        "ScaleBlockK": draw(st.sampled_from((32, 64, 128))),
        "HAS_ZP": draw(st.booleans()),
        "SUBTRACT": draw(st.sampled_from(("integer", "float"))),
        "TruncateBf16Round": dtype == "bf16" and draw(st.booleans()),
        "PreDequantToLDS": draw(st.booleans()),
        "DoubleBuffer": draw(st.booleans()),
        "K_SPLIT": draw(st.sampled_from((1, 2, 4, 8))),
    }
    while GemmW4A16Spec.problems_of(values):
        values = {**values, "BLOCK_K": 32, "WAVES_N": max(1, values["WAVES_N"] // 2), "WvPrGrp": 4}
    return GemmW4A16Spec(**values)


@st.composite
def expert_tile_specs(draw: st.DrawFn) -> MoeGemmW4A16Spec:
    """A moe_gemm_w4a16 spec without problems: as those, and with gates."""
    tile = draw(tile_specs())
    values = {name: getattr(tile, name) for name in ("arch", "dtype", *tile.parameters()) if name != "K_SPLIT"}
    values["SILU"] = draw(st.booleans())
    while MoeGemmW4A16Spec.problems_of(values):  # one tile of weights to a wave holds no gates beside what they gate
        values = {**values, "BLOCK_M": 128, "BLOCK_K": 32, "WvPrGrp": 4}
    return MoeGemmW4A16Spec(**values)


@pytest.mark.hipcc
@settings(max_examples=28, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=specs() | fp8_specs() | int4_specs() | code4_specs() | tile_specs() | expert_tile_specs())
def test_any_spec_that_the_rules_allow_compiles_and_is_right(spec, tmp_path):
    folder = tmp_path / spec.arch
    result = build([spec], arch=spec.arch, folder=folder, tools=compiler())
    assert not result.failed, result.failed[0].error
    results = check_manifest(folder, EmulatedDevice(spec.arch), names=[spec.name])
    assert results
    assert not [f"{case.words}: {case.why}" for case in results if not case.ok], spec.name
