"""A kernel's name says everything about it and can be read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgen.errors import SpecError
from kgen.spec.arch import ARCHES
from kgen.spec.registry import spec_from_name
from kgen.spec.wvsplitk import WvSplitKSpec

specs = st.builds(
    lambda arch, **values: WvSplitKSpec(arch=arch, THRDS=ARCHES[arch].wave, **values),
    arch=st.sampled_from(sorted(ARCHES)),
    dtype=st.sampled_from(("bf16", "fp16")),
    N=st.integers(1, 8),
    YTILE=st.sampled_from((*range(1, 9), 16, 32)),
    WvPrGrp=st.integers(1, 32),
    K_WAVES=st.sampled_from((1, 2, 8)),
    K_GROUPS=st.sampled_from((1, 1, 4)),
    A_CHUNK=st.sampled_from((8, 16, 32)),
    UNRL=st.sampled_from((1, 2, 4, 8)),
    STAGING=st.sampled_from(("lds", "window", "global")),
    MATRIX16=st.booleans(),
    EARLY=st.booleans(),
    K=st.none() | st.integers(8, 1 << 20),
)


@given(specs)
def test_a_name_parses_back(spec):
    if spec.problems():
        with pytest.raises(SpecError):
            WvSplitKSpec.from_name(spec.name, spec.arch)
    else:
        assert WvSplitKSpec.from_name(spec.name, spec.arch) == spec
        assert spec_from_name(spec.name, spec.arch) == spec


@given(specs, specs)
def test_different_specs_have_different_names(a, b):
    assert (a.name == b.name) is (a.model_copy(update={"arch": b.arch}) == b)


def test_a_name_is_a_c_identifier_in_the_order_of_the_fields():
    spec = WvSplitKSpec(arch="gfx1151", dtype="bf16", N=1, THRDS=32, YTILE=4, WvPrGrp=8, A_CHUNK=8, UNRL=2)
    assert spec.name == "wvsplitk_bf16_N1_THRDS32_YTILE4_WvPrGrp8_A_CHUNK8_UNRL2_STAGINGlds"
    assert spec.model_copy(update={"K": 4096}).name == spec.name + "_K4096"
    assert spec.model_copy(update={"K_WAVES": 4, "MATRIX16": True}).name == (
        "wvsplitk_bf16_N1_THRDS32_YTILE4_WvPrGrp8_K_WAVES4_A_CHUNK8_UNRL2_STAGINGlds_MATRIX16"
    )
    assert spec.name.isidentifier()


GOOD = "wvsplitk_bf16_N1_THRDS32_YTILE4_WvPrGrp8_A_CHUNK8_UNRL2_STAGINGlds"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "wvsplitk",
        "nothing_bf16_N1",
        GOOD.replace("bf16", "fp64"),
        GOOD.replace("N1", "N9"),
        GOOD.replace("N1", "N01"),
        GOOD.replace("UNRL2", "UNRL3"),
        GOOD.replace("YTILE4_", ""),
        GOOD.replace("WvPrGrp8", "WvPrGrp8_K_WAVES1"),  # names were without it before the parameter was there
        GOOD.replace("WvPrGrp8", "WvPrGrp8_K_WAVES16"),
        GOOD + "_MATRIX16",
        GOOD + "_K",
        GOOD + "_K12",
        GOOD + "_SPEED9",
        GOOD + "_N2",
        GOOD.replace("N1_THRDS32", "THRDS32_N1"),
        GOOD + ".hsaco",
        GOOD + "\n",
    ],
)
def test_what_is_no_kernel_name_is_refused(name):
    with pytest.raises(SpecError):
        spec_from_name(name, "gfx1151")
