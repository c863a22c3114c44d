"""Facts per target: one table, each fact with its source.

"CU" is what HIP reports as multiProcessorCount: a work-group processor (WGP, two compute units) on RDNA, a compute unit on CDNA and a
multiprocessor on NVIDIA. Everything that is said "per CU" follows that count.

Sources
[isa]    AMD instruction set documents: RDNA3 / RDNA3.5 / RDNA4 and CDNA3 / CDNA4 (register file, LDS, waves, instructions)
[llvm]   LLVM's AMDGPU back end, GCNSubtarget and AMDGPUBaseInfo (allocation granules, addressable registers), checked against the
         compiler's kernel-resource-usage remark in tests/binary
[prod]   the vendor's product page of the part in `part` (CU count, memory bandwidth)
[cuda]   CUDA C++ programming guide, table of technical specifications for compute capability 9.0
[test]   compiled here for the target and read back from the code object
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from kgen.errors import Problem, SpecError

Vendor = Literal["amd", "nvidia"]
Matrix = Literal["wmma_gfx11", "wmma_gfx12", "mfma_16x16x16", "mfma_16x16x32", "mma_m16n8k16"]


class ArchFacts(BaseModel):
    """What kgen needs to know about one target. Sizes are bytes; registers are 32-bit and counted per lane.

    name, vendor, part           the target, and the part that the counts below describe
    wave                         lanes of a wave (warp) as our kernels are compiled                                [isa] [cuda]
    cu                           CU count of `part`; a launch uses the device's own count when there is a device    [prod]
    bandwidth_gbs                peak memory bandwidth of `part`, 1e9 bytes/s                                       [prod]
    lds_per_group                LDS (shared memory) one work-group may take                                        [isa] [cuda]
    static_lds                   LDS of those that a kernel may declare at compile time; the rest has to be asked for by the launch   [isa] [cuda]
    lds_per_cu                   LDS pool that the resident groups of a CU share                                    [isa] [cuda]
    lds_granule                  LDS is handed out in multiples of this                                             [llvm] [cuda]
    lds_reserved_per_group       what the system takes of the pool for each group                                   [cuda]
    simds_per_cu                 SIMDs (schedulers) per CU                                                          [isa] [cuda]
    max_waves_per_simd           waves one SIMD can hold                                                            [isa] [cuda]
    max_groups_per_cu            work-groups one CU can hold                                                        [isa] [cuda]
    vgpr_file, vgpr_granule      registers per lane that the waves of a SIMD share, and the allocation step         [llvm] [cuda]
    max_vgprs                    registers one lane can address (gfx9: VGPR + AGPR)                                 [llvm] [cuda]
    max_threads                  work-items per group                                                               [isa] [cuda]
    dot2_f16, dot2_bf16          2-element dot product with fp32 accumulation                                       [test]
    mfma_4x4x4                   the 16-block 4x4x4 matrix multiply: four rows meet four columns in each lane group  [test]
    matrix                       which instruction multiplies 16x16 tiles with fp32 sums; the preludes know each     [test]
    lds_dma16                    16 bytes per lane from global memory into LDS without passing registers            [test]
    clusters                     work-groups may form clusters that run at the same time and read each other's LDS   [cuda]
    pk_fma_f32                   packed fp32 multiply-add                                                           [test]
    fp8                          meaning of 8-bit floats: "ocp" (e4m3fn), "fnuz" (e4m3fnuz), or None: no fp8 instructions   [isa] [cuda]
    mfma_fp8                     matrix multiplies 16x16x32 and 32x32x16 of fp8                                     [test]
    dot4_fp8                     4-element fp8 dot product with fp32 accumulation                                   [test]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    vendor: Vendor
    part: str
    wave: Literal[32, 64]
    cu: int
    bandwidth_gbs: float
    lds_per_group: int
    static_lds: int
    lds_per_cu: int
    lds_granule: int
    lds_reserved_per_group: int = 0
    simds_per_cu: int = 4
    max_waves_per_simd: int
    max_groups_per_cu: int = 32
    vgpr_file: int
    vgpr_granule: int
    max_vgprs: int
    max_threads: int = 1024
    dot2_f16: bool
    dot2_bf16: bool
    mfma_4x4x4: bool = False
    matrix: Matrix
    lds_dma16: bool = False
    clusters: bool = False
    pk_fma_f32: bool = False
    fp8: Literal["ocp", "fnuz"] | None = None
    mfma_fp8: bool = False
    dot4_fp8: bool = False


_KIB = 1024
# RDNA in WGP mode: four SIMDs share two 64 KiB LDS halves; one group may take 64 KiB. The register file holds 1536 wave32 registers
# per SIMD on these parts, handed out in steps of 24.
_RDNA: dict[str, Any] = dict(
    vendor="amd",
    wave=32,
    lds_per_group=64 * _KIB,
    static_lds=64 * _KIB,
    lds_per_cu=128 * _KIB,
    lds_granule=1024,
    max_waves_per_simd=16,
    vgpr_file=1536,
    vgpr_granule=24,
    max_vgprs=256,
    dot2_f16=True,
    dot2_bf16=True,
)
# CDNA3/4: 512 unified registers per lane and SIMD (VGPR + AGPR) in steps of 8, at most 8 waves.
_CDNA: dict[str, Any] = dict(
    vendor="amd",
    wave=64,
    max_waves_per_simd=8,
    vgpr_file=512,
    vgpr_granule=8,
    max_vgprs=512,
    dot2_f16=True,
    mfma_4x4x4=True,
    mfma_fp8=True,
    pk_fma_f32=True,
)

_TABLE = (
    ArchFacts(name="gfx1151", part="Radeon 8060S (Strix Halo)", cu=20, bandwidth_gbs=256, matrix="wmma_gfx11", **_RDNA),
    ArchFacts(name="gfx1100", part="Radeon RX 7900 XTX", cu=48, bandwidth_gbs=960, matrix="wmma_gfx11", **_RDNA),
    ArchFacts(
        name="gfx1201",
        part="Radeon AI PRO R9700",
        cu=32,
        bandwidth_gbs=640,
        matrix="wmma_gfx12",
        fp8="ocp",
        dot4_fp8=True,
        **_RDNA,
    ),
    ArchFacts(
        name="gfx942",
        part="Instinct MI300X",
        cu=304,
        bandwidth_gbs=5300,
        lds_per_group=64 * _KIB,
        static_lds=64 * _KIB,
        lds_per_cu=64 * _KIB,
        lds_granule=512,
        dot2_bf16=False,
        matrix="mfma_16x16x16",
        fp8="fnuz",
        **_CDNA,
    ),
    ArchFacts(
        name="gfx950",
        part="Instinct MI355X",
        cu=256,
        bandwidth_gbs=8000,
        lds_per_group=160 * _KIB,
        static_lds=160 * _KIB,
        lds_per_cu=160 * _KIB,
        lds_granule=1280,
        dot2_bf16=True,
        matrix="mfma_16x16x32",
        lds_dma16=True,
        fp8="ocp",
        **_CDNA,
    ),
    ArchFacts(
        name="sm_90",
        vendor="nvidia",
        part="H200",
        wave=32,
        cu=132,
        bandwidth_gbs=4800,
        lds_per_group=227 * _KIB,
        static_lds=48 * _KIB,
        lds_per_cu=228 * _KIB,
        lds_granule=128,
        lds_reserved_per_group=1024,
        max_waves_per_simd=16,
        vgpr_file=512,
        vgpr_granule=8,
        max_vgprs=255,
        dot2_f16=False,
        dot2_bf16=False,
        matrix="mma_m16n8k16",
        clusters=True,
        fp8="ocp",
    ),
)

ARCHES: dict[str, ArchFacts] = {facts.name: facts for facts in _TABLE}


def arch_facts(name: str) -> ArchFacts:
    """The facts of a target; raises SpecError that lists the known ones."""
    if name not in ARCHES:
        problem = Problem(("arch",), f"{name!r}", ", ".join(ARCHES), "`kgen doctor` shows the device that is here")
        raise SpecError("unknown target", [problem])
    return ARCHES[name]
