"""What the machine code of moe_gemm_w4a16 promises."""

from __future__ import annotations

import pytest

from kgen.spec.moe_gemm_w4a16 import MoeGemmW4A16Spec
from tests.kernels.built import AMD, all_specs, of_family

pytestmark = pytest.mark.hipcc
BAR = 20.0  # instructions of the loop for each WMMA; the peer's dense kernel on gfx1100 takes 25 (fp16) and 29 (bf16), without zero points


def everything(arch: str) -> dict[str, MoeGemmW4A16Spec]:
    """Default kernels and parameters."""
    return {name: spec for name, spec in all_specs(arch).items() if isinstance(spec, MoeGemmW4A16Spec)}


@pytest.mark.parametrize("arch", AMD)
def test_nothing_spills(arch, built):
    entries = built(arch).manifest.entries
    for name in everything(arch):
        entry = entries[name]
        assert (entry.vgpr_spills, entry.sgpr_spills, entry.scratch_bytes) == (0, 0, 0), name


@pytest.mark.parametrize("arch", AMD)
def test_a_step_is_one_loop_of_matrix_instructions(arch, built):
    """As many of them as the spec says: a loop that was unrolled, or a product done otherwise, would show."""
    kernels = built(arch)
    for name in everything(arch):
        loop = kernels.isa(name).loop
        assert loop is not None, name
        assert loop.exact, name


@pytest.mark.parametrize("arch", ["gfx1151", "gfx1100", "gfx1201"])
def test_large_blocks_take_at_most_twenty_instructions_for_a_wmma(arch, built):
    kernels = built(arch)
    for name, spec in of_family(MoeGemmW4A16Spec, arch).items():
        if spec.BLOCK_N >= 64:
            loop = kernels.isa(name).loop
            assert loop.instructions / spec.multiplies_per_step <= BAR, name


@pytest.mark.parametrize("arch", AMD)
def test_two_groups_share_a_cu(arch, built):
    """One multiplies while the other waits at its barrier."""
    entries = built(arch).manifest.entries
    for name, spec in of_family(MoeGemmW4A16Spec, arch).items():
        waves = spec.WvPrGrp * 2 / spec.facts.simds_per_cu
        assert entries[name].occupancy >= waves or entries[name].lds_bytes > spec.facts.lds_per_group // 2, name
