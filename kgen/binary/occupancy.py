"""How many work-groups of a kernel fit on a CU, and what stops one more.

AMD: registers by waves, registers are handed out in granules per lane; LDS by groups; whole work-groups only. Source: LLVM's AMDGPU back
end (AMDGPUBaseInfo: getNumWavesPerEUWithNumVGPRs, getMaxWorkGroupsPerCU; GCNSubtarget: getOccupancyWithNumSGPRs); the register
part is compared with the compiler's own kernel-resource-usage remark in tests/binary/test_occupancy.py.
NVIDIA, compute capability 9.0: CUDA C++ Programming Guide, technical specifications (64 Ki registers, 64 warps, 32 blocks and 228 KiB shared
memory a multiprocessor, 1 KiB of it reserved per block); the rules are those of the toolkit's cuda_occupancy.h, and
tests/binary/test_occupancy.py compares with it where the toolkit is installed.
"CU" is what HIP reports: a WGP on RDNA, a multiprocessor on NVIDIA. The numbers themselves are kgen.spec.arch's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kgen.binary.codeobject import KernelResources
    from kgen.spec.arch import ArchFacts

# gfx9 has 800 SGPRs a SIMD; with at most 8 waves, only a kernel of more than 100 feels it (LLVM getOccupancyWithNumSGPRs)
_GFX9_SGPR_FILE = 800


@dataclass(frozen=True)
class Occupancy:
    """Whole work-groups resident on one CU.

    waves_per_simd       resident waves, averaged over the SIMDs of a CU (whole groups: 3 groups of 6 waves on 4 SIMDs are 4.5)
    groups_per_cu        resident work-groups
    limited_by           "waves" (the machine's own limit: as good as it gets), "vgpr", "sgpr", "lds", "groups", or "threads" (a group too big
                         to run at all)
    waves_by_vgpr        waves a SIMD could hold if only registers counted
    limits               groups per CU that each resource alone would allow
    """

    waves_per_simd: float
    groups_per_cu: int
    limited_by: str
    waves_by_vgpr: int
    limits: Mapping[str, int]


def waves_by_vgpr(facts: ArchFacts, vgprs: int) -> int:
    """Waves per SIMD that the register file allows: min(max waves, file // VGPRs rounded up to the granule); 0 if it cannot run."""
    if vgprs > facts.max_vgprs:
        return 0
    return min(facts.max_waves_per_simd, facts.vgpr_file // _round_up(max(vgprs, 1), facts.vgpr_granule))


def occupancy(facts: ArchFacts, kernel: KernelResources, threads: int, dynamic_lds: int = 0) -> Occupancy:
    """Occupancy of a kernel launched with `threads` work-items a group and `dynamic_lds` bytes on top of its static LDS.

    A launch that the target refuses (too many threads, too much LDS, too many registers) gives 0 groups and says which. A model: it says
    what can be resident, not what a launch of few groups puts there.
    """
    waves = -(-threads // facts.wave)
    by_vgpr = waves_by_vgpr(facts, kernel.vgpr)
    lds = kernel.lds_bytes + dynamic_lds
    limits = {
        "waves": facts.simds_per_cu * facts.max_waves_per_simd // waves,
        "vgpr": _groups_by_vgpr(facts, by_vgpr, waves),
        "sgpr": facts.simds_per_cu * _waves_by_sgpr(facts, kernel.sgpr) // waves,
        "lds": _groups_by_lds(facts, lds),
        "groups": facts.max_groups_per_cu,
        "threads": 0
        if threads > min(facts.max_threads, kernel.max_flat_workgroup_size)
        else facts.max_groups_per_cu * facts.max_threads,
    }
    groups = min(limits.values())
    # of several equal limits the first named is the one to look at: what cannot run at all, then the machine's own, then ours
    order = ("threads", "waves", "groups", "vgpr", "lds", "sgpr")
    limited_by = next(name for name in order if limits[name] == groups)
    return Occupancy(groups * waves / facts.simds_per_cu, groups, limited_by, by_vgpr, limits)


def _groups_by_vgpr(facts: ArchFacts, by_vgpr: int, waves: int) -> int:
    # NVIDIA refuses a block whose warps, counted in fours, do not fit at once, though single warps would (cuda_occupancy.h)
    if facts.vendor == "nvidia" and by_vgpr < -(-waves // facts.simds_per_cu):
        return 0
    return facts.simds_per_cu * by_vgpr // waves


def _groups_by_lds(facts: ArchFacts, lds: int) -> int:
    if lds > facts.lds_per_group:
        return 0
    taken = _round_up(lds + facts.lds_reserved_per_group, facts.lds_granule)
    return facts.lds_per_cu // taken if taken else facts.max_groups_per_cu * facts.max_threads


def _waves_by_sgpr(facts: ArchFacts, sgprs: int) -> int:
    if not facts.name.startswith("gfx9"):
        return facts.max_waves_per_simd  # gfx10 and later give every wave a fixed share
    return min(facts.max_waves_per_simd, _GFX9_SGPR_FILE // max(sgprs, 1))


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
