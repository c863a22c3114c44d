"""llmm1 specs that nobody chose: any that the rules let through must compile, stay within registers, and be right."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgen.build import build
from kgen.spec.arch import ARCHES
from kgen.spec.llmm1 import Llmm1Spec
from kgen.verify.devices import EmulatedDevice
from kgen.verify.run import check_manifest
from tests.kernels.built import AMD, compiler


@st.composite
def specs(draw: st.DrawFn) -> Llmm1Spec:
    """A spec without problems, on any AMD target."""
    arch = draw(st.sampled_from(AMD))
    values = {
        "arch": arch,
        "dtype": draw(st.sampled_from(("bf16", "fp16"))),
        "THRDS": ARCHES[arch].wave,
        "ROWS_PER_BLOCK": draw(st.sampled_from((4, 8, 16) if ARCHES[arch].mfma_4x4x4 else (1, 2, 4, 8, 16))),
        "WvPrGrp": draw(st.integers(1, 1024 // ARCHES[arch].wave)),
        "UNRL": draw(st.sampled_from((1, 2, 4))),
    }
    while Llmm1Spec.problems_of(values):  # the rules say what is too much; less of it is a spec
        values = {**values, "UNRL": max(1, values["UNRL"] // 2), "WvPrGrp": max(1, values["WvPrGrp"] // 2)}
    return Llmm1Spec(**values)


@pytest.mark.hipcc
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=specs())
def test_any_spec_that_the_rules_allow_compiles_without_spills_and_is_right(spec, tmp_path):
    folder = tmp_path / spec.arch
    result = build([spec], arch=spec.arch, folder=folder, tools=compiler())
    assert not result.failed, result.failed[0].error
    entry = result.manifest.entries[spec.name]
    assert (entry.scratch_bytes, entry.vgpr_spills, entry.sgpr_spills) == (0, 0, 0), spec.name
    results = check_manifest(folder, EmulatedDevice(spec.arch), "full", names=[spec.name])
    assert results
    assert not [f"{case.words}: {case.why}" for case in results if not case.ok], spec.name
