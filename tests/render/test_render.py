"""Rendering is pure: same spec, same bytes, nothing of the machine in them; whole sources are reviewed as goldens.

After a wanted change of a template, look at the difference and write the goldens again:

    KGEN_WRITE_GOLDENS=1 python -m pytest tests/render
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import jinja2
import pytest

from kgen.render import render
from kgen.render.environment import environment
from kgen.spec.arch import ARCHES
from kgen.spec.dequantize_w4a16 import DequantizeW4A16Spec
from kgen.spec.gemm_4bit import Gemm4BitSpec
from kgen.spec.llmm1 import Llmm1Spec
from kgen.spec.moe_down_reduce import MoeDownReduceSpec
from kgen.spec.moe_wvsplitk_int4 import MoeWvSplitKInt4Spec
from kgen.spec.sets import load_set
from kgen.spec.wvsplitk import WvSplitKSpec
from kgen.spec.wvsplitk_int4 import WvSplitKInt4Spec
from kgen.spec.wvsplitkq import WvSplitKQSpec
from kgen.spec.wvsplitkrc import WvSplitKrcSpec

GOLDEN = Path(__file__).parent / "golden"
SPECS = [
    WvSplitKSpec(arch="gfx1151", dtype="bf16", N=1, THRDS=32, YTILE=2, WvPrGrp=4, A_CHUNK=16, UNRL=4),
    WvSplitKSpec(arch="gfx942", dtype="fp16", N=4, THRDS=64, YTILE=4, WvPrGrp=8, UNRL=2, STAGING="window"),
    WvSplitKSpec(arch="sm_90", dtype="bf16", N=2, THRDS=32, YTILE=2, WvPrGrp=4, UNRL=2, STAGING="global", K=4096),
    WvSplitKSpec(arch="gfx1100", dtype="bf16", N=1, THRDS=32, WvPrGrp=8, K_WAVES=8, UNRL=4, STAGING="global"),
    WvSplitKSpec(
        **dict(arch="sm_90", dtype="bf16", N=4, THRDS=32, YTILE=16, WvPrGrp=8, K_WAVES=8, UNRL=8),
        **dict(STAGING="global", MATRIX16=True),
    ),
    WvSplitKSpec(
        **dict(arch="sm_90", dtype="fp16", N=3, THRDS=32, YTILE=2, WvPrGrp=4, K_WAVES=2, K_GROUPS=8, UNRL=2),
        **dict(STAGING="global", MATRIX16=True),
    ),
    WvSplitKSpec(
        **dict(arch="gfx950", dtype="fp16", N=6, THRDS=64, YTILE=16, WvPrGrp=4, UNRL=4),
        **dict(STAGING="window", MATRIX16=True),
    ),
    Llmm1Spec(arch="gfx1151", dtype="bf16", THRDS=32, ROWS_PER_BLOCK=4, WvPrGrp=4, UNRL=2),
    Llmm1Spec(arch="gfx942", dtype="fp16", THRDS=64, ROWS_PER_BLOCK=8, WvPrGrp=4, UNRL=1),
    WvSplitKQSpec(arch="gfx942", dtype="bf16", N=4, THRDS=64, YTILE=16, WvPrGrp=4, UNRL=2, MFMA="16x16x32"),
    WvSplitKQSpec(arch="gfx1201", dtype="fp16", N=2, THRDS=32, YTILE=4, WvPrGrp=4, UNRL=1),
    WvSplitKQSpec(arch="sm_90", dtype="bf16", N=1, THRDS=32, YTILE=2, WvPrGrp=4, UNRL=1),
    WvSplitKInt4Spec(arch="gfx1151", dtype="bf16", N=1, THRDS=32, YTILE=2, WvPrGrp=8, UNRL=2, DEQUANT="actsum"),
    WvSplitKInt4Spec(
        arch="gfx942",
        dtype="fp16",
        N=5,
        THRDS=64,
        YTILE=16,
        WvPrGrp=4,
        K_WAVES=2,
        GROUP_SIZE=32,
        HAS_ZP=True,
        STAGING="window",
    ),
    WvSplitKInt4Spec(
        arch="sm_90", dtype="bf16", N=1, THRDS=32, YTILE=16, WvPrGrp=8, K_WAVES=8, UNRL=2, GrpsPerCU=2, STAGING="wave"
    ),
    WvSplitKInt4Spec(
        arch="sm_90",
        dtype="fp16",
        N=2,
        THRDS=32,
        YTILE=16,
        WvPrGrp=4,
        K_WAVES=4,
        UNRL=1,
        HAS_ZP=True,
        DEQUANT="digits",
        STAGING="own",
    ),
    WvSplitKInt4Spec(
        **dict(arch="sm_90", dtype="bf16", N=2, THRDS=32, YTILE=16, WvPrGrp=8, K_WAVES=8, UNRL=2, GROUP_SIZE=128),
        **dict(HAS_ZP=True, DEQUANT="digits2", STAGING="own"),
    ),
    WvSplitKInt4Spec(
        arch="gfx942",
        dtype="bf16",
        N=4,
        THRDS=64,
        YTILE=16,
        WvPrGrp=8,
        K_WAVES=8,
        UNRL=2,
        DEQUANT="digits",
        STAGING="wave",
    ),
    WvSplitKrcSpec(arch="gfx950", dtype="bf16", N=64, THRDS=64, GrpsShrB=4, DETERMINISTIC=True),
    WvSplitKrcSpec(arch="gfx1151", dtype="fp16", N=16, THRDS=32),
    WvSplitKrcSpec(arch="sm_90", dtype="bf16", N=32, THRDS=32, GrpsShrB=2, CHUNKK=2, DETERMINISTIC=True),
    MoeWvSplitKInt4Spec(
        arch="gfx1151", dtype="bf16", N=2, THRDS=32, YTILE=4, DEQUANT="actsum", GRID="persistent", SILU=True
    ),
    MoeWvSplitKInt4Spec(
        **dict(arch="sm_90", dtype="bf16", THRDS=32, YTILE=32, WvPrGrp=8, K_WAVES=8, A_CHUNK=32, UNRL=2, GrpsPerCU=2),
        **dict(STAGING="wave", SILU=True, RANK=True, K=2048),
    ),
    MoeDownReduceSpec(
        arch="gfx942", dtype="fp16", THRDS=64, YTILE=16, WvPrGrp=8, K_WAVES=8, HAS_ZP=True, FUSE_SILU=True
    ),
    MoeDownReduceSpec(
        **dict(arch="sm_90", dtype="bf16", THRDS=32, YTILE=16, WvPrGrp=8, K_WAVES=8, A_CHUNK=32, UNRL=6, GrpsPerCU=3),
        **dict(DEQUANT="digits", STAGING="wave", EARLY=True, K=768),
    ),
    Gemm4BitSpec(arch="gfx1151", dtype="bf16", N=1, THRDS=32, YTILE=2, WvPrGrp=16, UNRL=1),
    Gemm4BitSpec(
        **dict(arch="sm_90", dtype="fp32", N=16, THRDS=32, YTILE=32, WvPrGrp=8, K_WAVES=8, A_CHUNK=16, NESTED=True),
        **dict(TABLE="pages", COPIES=16, STAGING="global", TERMS=2),
    ),
    Gemm4BitSpec(
        **dict(arch="sm_90", dtype="bf16", N=1, THRDS=32, YTILE=8, WvPrGrp=8, K_WAVES=4, A_CHUNK=16, UNRL=1),
        **dict(TABLE="pages", COPIES=32, STAGING="global", K_PARTS=8, AHEAD=True),
    ),
    DequantizeW4A16Spec(arch="gfx1151", dtype="bf16", THRDS=32, GROUP_SIZE=64, HAS_ZP=True),
    DequantizeW4A16Spec(arch="sm_90", dtype="bf16", THRDS=32),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.arch}-{spec.family}")
def test_the_source_is_the_reviewed_one(spec):
    path = GOLDEN / f"{spec.arch}-{spec.name}.hip"
    text = render(spec).text
    if os.environ.get("KGEN_WRITE_GOLDENS"):
        path.write_text(text)
    assert text == path.read_text(), "if this change is wanted, see the module's first lines"


@pytest.mark.parametrize("arch", sorted(ARCHES))
def test_sources_hold_nothing_of_the_machine_and_no_leftovers(arch):
    here = str(Path(__file__).resolve().parents[2])
    for spec in load_set("parameters", [arch]):
        text = render(spec).text
        assert here not in text
        assert not re.search(r"\b20\d\d-\d\d-\d\d\b|/home/|/tmp/|/root/", text)
        assert not re.search(r"\{\{|\{%|\{#|None|True|False", text), f"{spec.name}: a piece of the template is left"
        assert "\n\n\n" not in text
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), f"{spec.name}: blanks at a line's end"
        assert text.endswith("}\n")


def test_the_same_spec_gives_the_same_bytes_and_digest():
    first, again = render(SPECS[0]), render(WvSplitKSpec.from_name(SPECS[0].name, "gfx1151"))
    assert first == again
    assert len(first.digest) == 64
    assert first.symbol == SPECS[0].name


def test_different_specs_give_different_sources():
    specs = load_set("parameters", ["gfx1151", "gfx1100"])
    assert len({render(spec).digest for spec in specs}) == len(specs)


def test_a_name_that_a_template_does_not_know_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        environment().from_string("{{ spec.NO_SUCH_FIELD }}").render(spec=SPECS[0])


def test_templates_mention_no_vendor_and_preludes_no_family():
    loader = environment()
    for name in loader.list_templates():
        text = Path(str(loader.get_template(name).filename)).read_text()
        if name.startswith("prelude/"):
            assert "wvsplitk" not in text.lower(), name
            assert "spec." not in text, name
        else:
            code = re.sub(r"//.*", "", re.sub(r"\{#.*?#\}", "", text, flags=re.DOTALL))
            assert not re.search(r"__builtin_amdgcn|threadIdx|__shfl|\basm\b", code), name
