"""Occupancy against worked examples, and against the compiler's own remark."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kgen.binary import KernelResources, read_code_object
from kgen.binary.occupancy import occupancy, waves_by_vgpr
from kgen.spec.arch import arch_facts
from tests.binary.samples import AMD


def kernel(vgpr: int = 24, lds: int = 0, sgpr: int = 16, threads: int = 1024) -> KernelResources:
    return KernelResources("k", vgpr, 0, sgpr, lds, 0, 0, 0, 0, 32, threads, 100)


@pytest.mark.parametrize(
    ("arch", "vgprs", "waves"),
    [
        # the published table of the peers: gfx11/12 1536 registers in 24s, at most 16; gfx942/950 512 in 8s, at most 8
        ("gfx1151", 28, 16),
        ("gfx1151", 96, 16),
        ("gfx1151", 97, 12),
        ("gfx1151", 168, 9),
        ("gfx1151", 169, 8),
        ("gfx1201", 256, 5),
        ("gfx942", 64, 8),
        ("gfx942", 70, 7),
        ("gfx942", 94, 5),
        ("gfx942", 88, 5),
        ("gfx950", 124, 4),
        ("gfx950", 512, 1),
        ("gfx942", 513, 0),
        ("gfx1100", 257, 0),
    ],
)
def test_waves_by_registers(arch, vgprs, waves):
    assert waves_by_vgpr(arch_facts(arch), vgprs) == waves


@pytest.mark.parametrize(
    ("arch", "vgpr", "static", "dynamic", "threads", "waves", "groups", "limited"),
    [
        ("gfx1151", 28, 65536, 0, 512, 8, 2, "lds"),  # the peers' 64 KiB reservation
        ("gfx1151", 28, 0, 65536, 512, 8, 2, "lds"),
        ("gfx1151", 28, 8192, 0, 512, 16, 4, "waves"),
        ("gfx1151", 168, 8192, 0, 512, 8, 2, "vgpr"),  # 9 waves by registers, whole groups of 16 waves: 2
        ("gfx1151", 24, 0, 0, 32, 8, 32, "groups"),  # one wave a group
        ("gfx942", 39, 65536, 0, 1024, 4, 1, "lds"),
        ("gfx950", 124, 0, 0, 256, 4, 4, "vgpr"),
        ("gfx950", 88, 163840, 0, 256, 1, 1, "lds"),
        ("gfx942", 39, 0, 65537, 256, 0, 0, "lds"),
        ("gfx942", 39, 0, 0, 2048, 0, 0, "threads"),
        ("sm_90", 32, 0, 0, 256, 16, 8, "waves"),
        ("sm_90", 33, 0, 0, 256, 12, 6, "vgpr"),  # 40 after rounding: 12 warps a scheduler
        ("sm_90", 255, 0, 0, 256, 2, 1, "vgpr"),
        ("sm_90", 32, 49152, 0, 256, 8, 4, "lds"),  # 48 KiB + 1 KiB reserved: 4 of 228 KiB
        ("sm_90", 32, 0, 232448, 256, 2, 1, "lds"),
        ("sm_90", 32, 0, 232449, 256, 0, 0, "lds"),
        ("sm_90", 16, 0, 0, 32, 8, 32, "groups"),
    ],
)
def test_whole_groups_that_fit(arch, vgpr, static, dynamic, threads, waves, groups, limited):
    found = occupancy(arch_facts(arch), kernel(vgpr, static), threads, dynamic)
    assert (found.waves_per_simd, found.groups_per_cu, found.limited_by) == (waves, groups, limited)


def test_groups_of_three_waves_give_an_average():
    found = occupancy(arch_facts("gfx1151"), kernel(240), 96)
    assert (found.waves_by_vgpr, found.groups_per_cu, found.waves_per_simd) == (6, 8, 6.0)
    found = occupancy(arch_facts("gfx1151"), kernel(240), 160)
    assert (found.groups_per_cu, found.waves_per_simd) == (4, 5.0)


def test_a_kernel_compiled_for_fewer_threads_does_not_run_with_more():
    found = occupancy(arch_facts("gfx1151"), kernel(threads=256), 512)
    assert (found.groups_per_cu, found.limited_by) == (0, "threads")


@pytest.mark.parametrize(("arch", "sgprs", "waves"), [("gfx942", 100, 8), ("gfx942", 106, 7), ("gfx1151", 106, 16)])
def test_many_scalar_registers_cost_a_wave_on_gfx9_only(arch, sgprs, waves):
    """106 and 100 are what the compiler's remark calls 7 and 8 waves for kernels made to need them."""
    found = occupancy(arch_facts(arch), kernel(8, sgpr=sgprs), arch_facts(arch).wave)
    assert found.limits["sgpr"] == 4 * waves


SOURCE = """
extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(%(threads)d, %(threads)d)))
void k(const float* x, float* y, int n) {
  __attribute__((shared)) static float part[%(lds)d + 1];
  unsigned t = __builtin_amdgcn_workitem_id_x();
  if (%(lds)d) { part[t %% (%(lds)d + 1)] = x[t]; __builtin_amdgcn_s_barrier(); y[t] = part[n]; }
  float v[%(live)d];
  for (int i = 0; i < %(live)d; i++) v[i] = x[i * 1024 + t];
  for (int r = 0; r < n; r++) for (int i = 0; i < %(live)d; i++) v[i] = v[i] * v[(i + 1) %% %(live)d] + 1.0f;
  for (int i = 0; i < %(live)d; i++) y[i * 1024 + t] = v[i];
}
"""


@pytest.mark.hipcc
@pytest.mark.parametrize("arch", AMD)
@pytest.mark.parametrize(
    ("live", "lds", "threads"), [(4, 0, 256), (90, 0, 256), (130, 0, 128), (20, 8191, 256), (4, 2047, 64)]
)
def test_agrees_with_the_compilers_remark(hip, arch, live, lds, threads):
    """The remark counts waves by registers, and whole groups by LDS without its granule (1280 bytes on gfx950). Ours is both, rounded as
    the hardware allocates: the same parts must give the remark's number, and ours must not be above it."""
    file, said = hip(
        SOURCE % {"live": live, "lds": lds, "threads": threads}, arch, "-Rpass-analysis=kernel-resource-usage"
    )
    remark = int(re.search(r"Occupancy \[waves/SIMD\]: (\d+)", said)[1])
    facts, resources = arch_facts(arch), read_code_object(file).kernels["k"]
    found = occupancy(facts, resources, threads)
    waves = threads // facts.wave
    by_lds = facts.lds_per_cu // resources.lds_bytes if resources.lds_bytes else facts.max_groups_per_cu
    by_lds = min(by_lds, facts.max_groups_per_cu) * waves / facts.simds_per_cu
    assert min(found.waves_by_vgpr, math.ceil(by_lds)) == remark
    assert found.waves_per_simd <= remark
    assert resources.lds_bytes == (4 * (lds + 1) if lds else 0)


NVIDIA_PROGRAM = r"""
#include <stdio.h>
#include <string.h>
#include "cuda_occupancy.h"
int main(void) {
  cudaOccDeviceProp h100 = {0};  /* compute capability 9.0, the programming guide's table */
  h100.computeMajor = 9; h100.maxThreadsPerBlock = 1024; h100.maxThreadsPerMultiprocessor = 2048;
  h100.regsPerBlock = 65536; h100.regsPerMultiprocessor = 65536; h100.warpSize = 32; h100.sharedMemPerBlock = 49152;
  h100.sharedMemPerMultiprocessor = 233472; h100.numSms = 132; h100.sharedMemPerBlockOptin = 232448;
  h100.reservedSharedMemPerBlock = 1024;
  int regs, threads, shared;
  while (scanf("%d %d %d", &regs, &threads, &shared) == 3) {
    cudaOccFuncAttributes kernel = {0};
    cudaOccDeviceState state = {0};
    state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
    cudaOccResult result;
    kernel.maxThreadsPerBlock = 1024; kernel.numRegs = regs; kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.maxDynamicSharedSizeBytes = 232448; kernel.numBlockBarriers = 1;
    int bad = cudaOccMaxActiveBlocksPerMultiprocessor(&result, &h100, &kernel, &state, threads, shared);
    printf("%d\n", bad ? -1 : result.activeBlocksPerMultiprocessor);
  }
  return 0;
}
"""


def test_agrees_with_nvidias_calculator(tmp_path):
    """cuda_occupancy.h of the toolkit is NVIDIA's own arithmetic; every combination below must give the same number of blocks."""
    nvcc, cc = shutil.which("nvcc"), shutil.which("cc")
    roots = [
        Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")),
        *([Path(nvcc).resolve().parent.parent] if nvcc else []),
    ]
    include = next((root / "include" for root in roots if (root / "include/cuda_occupancy.h").exists()), None)
    if include is None or cc is None:
        pytest.skip("needs a CUDA toolkit's cuda_occupancy.h and a C compiler")
    source = tmp_path / "occupancy.c"
    source.write_text(NVIDIA_PROGRAM)
    program = tmp_path / "occupancy"
    subprocess.run([cc, "-w", "-D__inline=static inline", f"-I{include}", source, "-o", program, "-lm"], check=True)
    cases = [
        (regs, threads, shared)
        for regs in (1, 8, 16, 24, 32, 33, 40, 64, 65, 80, 96, 128, 168, 200, 255)
        for threads in (32, 64, 96, 128, 160, 256, 288, 512, 768, 1024)
        for shared in (0, 1, 1024, 8192, 20000, 48 * 1024, 75000, 113 * 1024, 227 * 1024)
    ]
    text = "\n".join(" ".join(map(str, case)) for case in cases)
    said = subprocess.run([program], input=text, capture_output=True, text=True, check=True).stdout.split()
    facts = arch_facts("sm_90")
    ours = [occupancy(facts, kernel(regs), threads, shared).groups_per_cu for regs, threads, shared in cases]
    assert [(*case, a, b) for case, a, b in zip(cases, ours, map(int, said), strict=True) if a != b] == []
