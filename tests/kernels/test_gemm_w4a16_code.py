"""What the machine code of gemm_w4a16 promises: short loops on gfx1151, and what rounding, subtraction and the place of dequantising cost."""

from __future__ import annotations

import pytest

from kgen.spec.gemm_w4a16 import GemmW4A16Spec
from tests.kernels.built import AMD, Built, all_specs, of_family

PER_WMMA = 20.0  # hot-loop instructions per WMMA on gfx1151, at most. vLLM 0.33.0's best tile without zero points: 25.1 (fp16), 28.1 (bf16)
# One block of 128 x 128, steps of 32, eight waves, group 128, zero points, on gfx1151: hot-loop instructions of its 16 WMMA, as docs/gemm_w4a16.md
# shows them: (dtype, PreDequantToLDS) -> (float, float cut off, integer, integer cut off).
SHOWN = {
    ("bf16", True): (187, 178, 191, 158),
    ("bf16", False): (438, 313, 465, 331),
    ("fp16", True): (150, None, 163, None),
    ("fp16", False): (230, None, 263, None),
}
pytestmark = pytest.mark.hipcc


def per_multiply(kernels: Built, name: str) -> float:
    loop = kernels.isa(name).loop
    assert loop is not None, f"{name}: no hot loop"
    assert loop.exact, f"{name}: {loop.multiplies} multiplies are no whole number of steps"
    return loop.instructions / loop.multiplies


def of_block(like: GemmW4A16Spec) -> list[GemmW4A16Spec]:
    """Kernels of the same block and its waves, in bf16 whatever they do about numbers."""
    same = ("BLOCK_N", "BLOCK_M", "BLOCK_K", "WvPrGrp", "WAVES_N", "PreDequantToLDS", "DoubleBuffer", "K_SPLIT")
    specs = (spec for spec in all_specs("gfx1151").values() if isinstance(spec, GemmW4A16Spec))
    return [spec for spec in specs if all(getattr(spec, name) == getattr(like, name) for name in same)]


def test_default_loops_stay_below_the_bar_on_gfx1151(built):
    """Both types, with and without zero points, all groups; each block of bf16 also cut off instead of rounded."""
    kernels, defaults = built("gfx1151"), of_family(GemmW4A16Spec, "gfx1151")
    assert {spec.dtype for spec in defaults.values() if spec.HAS_ZP} == {"bf16", "fp16"}
    names = set(defaults)
    for spec in defaults.values():
        if spec.dtype == "bf16":
            cut = {one.name for one in of_block(spec) if one.TruncateBf16Round}
            assert cut, f"{spec.name}: no kernel of its block cuts off"
            names |= cut
    long = {name: found for name in names if (found := per_multiply(kernels, name)) > PER_WMMA}
    assert not long


@pytest.mark.parametrize(("dtype", "pre"), SHOWN)
def test_the_page_shows_what_the_choices_cost(dtype, pre, built):
    kernels, shown = built("gfx1151"), iter(SHOWN[dtype, pre])
    found = []
    for subtract in ("float", "integer"):
        for cut in (False, True):
            want = next(shown)
            if want is None:
                continue
            values = dict(BLOCK_N=128, BLOCK_M=128, BLOCK_K=32, WvPrGrp=8, WAVES_N=2, ScaleBlockK=128, HAS_ZP=True)
            spec = GemmW4A16Spec(
                **dict(arch="gfx1151", dtype=dtype, SUBTRACT=subtract, TruncateBf16Round=cut, **values),
                PreDequantToLDS=pre,
                DoubleBuffer=True,
            )
            loop = kernels.isa(spec.name).loop
            assert loop is not None
            assert loop.multiplies == 16
            found.append((loop.instructions, want))
    assert all(abs(instructions - want) <= 8 for instructions, want in found), found


@pytest.mark.parametrize("arch", AMD)
def test_the_promised_instructions_multiply_and_load(arch, built):
    """Loops multiply by the target's matrix instruction, load activations 16 bytes at a time, and test for no NaN."""
    kernels = built(arch)
    for name, spec in of_family(GemmW4A16Spec, arch).items():
        report = kernels.isa(name)
        assert report.loop is not None, name
        assert report.loop.multiplies % spec.multiplies_per_step == 0, name
        dma = report.loop.categories.get("global_to_lds", 0)
        assert dma if spec.facts.lds_dma16 else report.loop.categories.get("global_load_b128", 0) >= spec.act_fetches
        assert not any(opcode.startswith("v_cmp_u_f32") for opcode in report.loop.opcodes), name
