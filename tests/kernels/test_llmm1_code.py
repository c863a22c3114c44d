"""What the machine code of llmm1 promises, beside the peer's LLMM1 (peers_llmm1.csv)."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from kgen.spec.linear import PIECE
from kgen.spec.llmm1 import Llmm1Spec
from kgen.spec.problem import GemmShape
from kgen.verify.cases import Case
from kgen.verify.devices import CheckOptions, EmulatedDevice
from kgen.verify.run import check_kernel
from tests.kernels.built import AMD, Built, all_specs, of_family

RDNA, CDNA = ("gfx1151", "gfx1100", "gfx1201"), ("gfx942", "gfx950")
pytestmark = pytest.mark.hipcc


def peer(arch: str, rows: int) -> dict[str, str]:
    """The row of peers_llmm1.csv."""
    lines = (Path(__file__).parent / "peers_llmm1.csv").read_text().splitlines()
    table = csv.DictReader(line for line in lines if not line.startswith("#"))
    return next(row for row in table if (row["arch"], row["rows"]) == (arch, str(rows)))


def everything(arch: str) -> dict[str, Llmm1Spec]:
    """Default kernels and parameters, those with as many rows as the peer has."""
    return {n: s for n, s in all_specs(arch).items() if isinstance(s, Llmm1Spec) and s.ROWS_PER_BLOCK > 1}


@pytest.mark.parametrize("arch", AMD)
def test_a_loop_takes_a_fifth_of_the_peers_instructions_per_multiply_add(arch, built):
    """All of the peer's instructions are spent on 8 elements of each row and lane; ours on those are a trip of the loop."""
    kernels, long = built(arch), []
    for name, spec in everything(arch).items():
        loop = kernels.isa(name).loop
        assert loop is not None, f"{name}: no hot loop"
        assert loop.exact, f"{name}: {loop.multiplies} multiplies are no whole number of steps"
        theirs = int(peer(arch, spec.ROWS_PER_BLOCK)[f"instructions_{spec.dtype}"]) / (PIECE * spec.ROWS_PER_BLOCK)
        if loop.per_lane_mac > theirs / 5:
            long.append(f"{name}: {loop.per_lane_mac:.2f} instructions per lane-MAC, the peer {theirs:.2f}")
    assert not long, "\n".join(long)


@pytest.mark.parametrize("arch", AMD)
def test_fewer_than_six_tenths_of_the_peers_instructions_are_executed_at_its_own_size(arch, built):
    """K = 4096, in the emulator. The peer's groups have K / 8 lanes, each of which runs through the whole kernel once."""
    kernels, long = built(arch), []
    for name, spec in of_family(Llmm1Spec, arch).items():
        case = Case("peer's size", GemmShape(4 * spec.ROWS_PER_BLOCK, 1, 4096))
        image = kernels.manifest.entries[name].image(kernels.folder)
        (ran,) = check_kernel(spec, image, EmulatedDevice(arch), [case], CheckOptions(bits=False))
        waves = 4 * 4096 // PIECE // spec.THRDS
        theirs = waves * int(peer(arch, spec.ROWS_PER_BLOCK)[f"instructions_{spec.dtype}"])
        assert ran.ok, ran.why
        if ran.instructions > 0.6 * theirs:
            long.append(f"{name}: {ran.instructions} wave instructions, the peer {theirs}")
    assert not long, "\n".join(long)


@pytest.mark.parametrize("arch", CDNA)
def test_registers_are_at_or_below_the_peers_for_the_same_rows_and_loads(arch, built):
    entries, more = built(arch).manifest.entries, []
    for name, spec in everything(arch).items():
        theirs = int(peer(arch, spec.ROWS_PER_BLOCK)[f"vgpr_{spec.dtype}"])
        if spec.UNRL == 1 and entries[name].vgpr > theirs:
            more.append(f"{name}: {entries[name].vgpr} VGPRs, the peer {theirs}")
    assert not more, "\n".join(more)


@pytest.mark.parametrize("arch", AMD)
def test_lds_holds_one_sum_per_wave_and_row_and_is_a_quarter_of_the_peers(arch, built):
    entries = built(arch).manifest.entries
    for name, spec in of_family(Llmm1Spec, arch).items():
        assert entries[name].lds_bytes == 4 * spec.WvPrGrp * spec.ROWS_PER_BLOCK
        assert 4 * entries[name].lds_bytes <= int(peer(arch, spec.ROWS_PER_BLOCK)["lds"])


@pytest.mark.parametrize("arch", AMD)
def test_weights_are_loaded_sixteen_bytes_at_a_time(arch, built):
    for name in of_family(Llmm1Spec, arch):
        loads = {kind for kind in built(arch).isa(name).loop.categories if kind.startswith("global_load")}
        assert loads == {"global_load_b128"}, name


@pytest.mark.parametrize("arch", AMD)
def test_products_are_summed_in_fp32(arch, built):
    """By dot products or the matrix instruction with fp32 sums; never by packed 16-bit multiply-adds, as the peer does."""
    kernels: Built = built(arch)
    wanted = ("v_dot2_f32_", "v_dot2acc_f32_", "v_dual_dot2acc_f32_") if arch in RDNA else ("v_mfma_f32_4x4x4",)
    for name in everything(arch):
        opcodes = kernels.isa(name).opcodes
        assert sum(count for opcode, count in opcodes.items() if opcode.startswith(wanted)), name
        assert not [opcode for opcode in opcodes if opcode.startswith(("v_pk_fma_f16", "v_pk_mul_f16"))], name
