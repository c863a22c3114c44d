"""What a built code object says against a kernel before anything runs: spills, and too few waves to hide a load behind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kgen.build.manifest import KernelEntry
from kgen.spec.base import KernelSpec
from kgen.sweep.workload import Workload

MIN_WAVES = 1.0  # waves per SIMD; below, a SIMD idles while its only neighbours wait for memory


def against(entry: KernelEntry, min_waves: float = MIN_WAVES) -> str:
    """Why a built kernel is not worth running, or an empty string."""
    if entry.vgpr_spills or entry.sgpr_spills:
        return f"spills: {entry.vgpr_spills or 0} vector and {entry.sgpr_spills or 0} scalar registers go to memory"
    if entry.scratch_bytes:
        return f"scratch: {entry.scratch_bytes} bytes per lane live in memory"
    if entry.groups_per_cu == 0:
        return f"cannot run: no work-group fits on a CU (limited by {entry.limited_by})"
    if entry.occupancy is not None and entry.occupancy < min_waves:
        return (
            f"occupancy: {entry.occupancy:g} waves per SIMD, fewer than {min_waves:g} (limited by {entry.limited_by})"
        )
    return ""


def runnable(
    entry: KernelEntry, spec: KernelSpec, cu: int, takes: Iterable[Workload], min_waves: float = MIN_WAVES
) -> tuple[list[Workload], str]:
    """The problems for which enough waves are resident once a launch's dynamic LDS is added, and the words against the first other one."""
    kept, words = [], ""
    for workload in takes:
        waves = waves_per_simd(entry, spec, cu, workload)
        if waves >= min_waves:
            kept.append(workload)
        else:
            words = words or f"occupancy: {waves:g} waves per SIMD for {workload}, fewer than {min_waves:g}"
    return kept, words


def waves_per_simd(entry: KernelEntry, spec: KernelSpec, cu: int, workload: Workload) -> float:
    """Waves resident on a SIMD when the kernel is launched for a problem, its dynamic LDS included."""
    from types import SimpleNamespace

    from kgen.binary.occupancy import occupancy

    geometry = spec.launch(workload.shape, cu)
    threads = geometry.block[0] * geometry.block[1] * geometry.block[2]
    resources: Any = SimpleNamespace(
        vgpr=entry.vgpr, sgpr=entry.sgpr or 0, lds_bytes=entry.lds_bytes, max_flat_workgroup_size=threads
    )
    return occupancy(spec.facts, resources, threads, geometry.lds_bytes).waves_per_simd
