"""What the machine code of wvsplitkq promises, beside the peer's wvSplitKQ (peers_wvsplitkq.csv)."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import pytest

from kgen.spec.arch import ARCHES
from kgen.spec.wvsplitkq import WvSplitKQSpec
from tests.kernels.built import AMD, Built, all_specs, of_family

CDNA, FP8 = ("gfx942", "gfx950"), ("gfx942", "gfx950", "gfx1201")
MATRIX_MACS = {"16x16x32": 16 * 16 * 32, "32x32x16": 32 * 32 * 16}  # of one instruction, wanted or not
pytestmark = pytest.mark.hipcc


def peers(arch: str) -> dict[int, dict[str, str]]:
    """The rows of peers_wvsplitkq.csv by N."""
    lines = (Path(__file__).parent / "peers_wvsplitkq.csv").read_text().splitlines()
    table = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {int(row["N"]): row for row in table if row["arch"] == arch}


def everything(arch: str) -> dict[str, WvSplitKQSpec]:
    """Default kernels and parameters."""
    return {name: spec for name, spec in all_specs(arch).items() if isinstance(spec, WvSplitKQSpec)}


@pytest.mark.parametrize("arch", FP8)
def test_loops_are_below_the_peers_for_the_same_rows(arch, built):
    kernels, theirs, long = built(arch), peers(arch), []
    for name, spec in of_family(WvSplitKQSpec, arch).items():
        loop = kernels.isa(name).loop
        assert loop is not None, f"{name}: no hot loop"
        assert loop.exact, f"{name}: {loop.multiplies} multiplies are no whole number of steps"
        row = theirs.get(spec.N)
        if row and loop.per_lane_mac >= float(row["per_lane_mac"]):
            long.append(f"{name}: {loop.per_lane_mac:.2f} instructions per lane-MAC, the peer {row['per_lane_mac']}")
    assert not long, "\n".join(long)


@pytest.mark.parametrize("arch", FP8)
def test_registers_of_default_kernels_are_below_the_peers_for_the_same_rows(arch, built):
    entries, theirs, more = built(arch).manifest.entries, peers(arch), []
    for name, spec in of_family(WvSplitKQSpec, arch).items():
        row = theirs.get(spec.N)
        if row and entries[name].vgpr >= int(row["vgpr"]):
            more.append(f"{name}: {entries[name].vgpr} VGPRs, the peer {row['vgpr']}")
    assert not more, "\n".join(more)


def test_gfx1201_registers_are_below_the_peers_for_the_same_tile(built):
    entries, theirs = built("gfx1201").manifest.entries, peers("gfx1201")
    same = [
        (name, theirs[spec.N]["vgpr"])
        for name, spec in everything("gfx1201").items()
        if spec.N in theirs and (str(spec.YTILE), str(spec.UNRL)) == (theirs[spec.N]["YTILE"], theirs[spec.N]["UNRL"])
    ]
    assert same
    assert not [(name, vgpr) for name, vgpr in same if entries[name].vgpr >= int(vgpr)]


@pytest.mark.parametrize("arch", CDNA)
def test_the_32x32x16_matrix_costs_registers_and_instructions(arch, built):
    """The same rows, loads in flight and useful products in a trip: 16x16x32 with A_CHUNK 16 and 32x32x16 with A_CHUNK 32."""
    kernels, specs = built(arch), everything(arch)
    pairs = 0
    for spec in specs.values():
        if (spec.MFMA, spec.YTILE, spec.A_CHUNK) != ("16x16x32", 32, 16):
            continue
        other = spec.model_copy(update={"MFMA": "32x32x16", "A_CHUNK": 32})
        small, large = (kernels.manifest.entries[each.name] for each in (spec, other))
        assert spec.macs_per_step == other.macs_per_step
        # 16 accumulators instead of 8; the rest of the difference is the compiler's.
        assert large.vgpr + large.agpr >= small.vgpr + small.agpr + 8, (
            f"{spec.name}: {small.vgpr}, {other.name}: {large.vgpr}"
        )
        loops = [kernels.isa(each.name).loop for each in (spec, other)]
        assert loops[0].instructions <= loops[1].instructions
        pairs += 1
    assert pairs >= 9


@pytest.mark.parametrize("arch", CDNA)
def test_a_useful_multiply_add_issues_sixteen_nths_of_the_peers_multiplies(arch, built):
    """The peer wants the diagonal only: 16 multiplies for one that counts, whatever N. Here N of the 16 columns count, in every row."""
    kernels, wave = built(arch), ARCHES[arch].wave
    for name, spec in everything(arch).items():
        loop = kernels.isa(name).loop
        issued = loop.multiplies * MATRIX_MACS[spec.MFMA] / (spec.macs_per_step * wave)
        assert issued == pytest.approx(spec.lane_rows / spec.N), name
    for N, row in peers(arch).items():
        useful = int(row["YTILE"]) * int(row["UNRL"]) * spec.piece * N * wave
        assert int(row["multiplies"]) * MATRIX_MACS["16x16x32"] / useful == 16


@pytest.mark.parametrize("arch", CDNA)
def test_the_matrix_instruction_sums_over_lanes_so_none_exchanges_anything(arch, built):
    kernels: Built = built(arch)
    for name in everything(arch):
        opcodes = kernels.isa(name).opcodes
        exchanging = ("ds_bpermute", "ds_permute", "ds_swizzle", "v_permlane", "v_mov_b32_dpp", "v_add_f32_dpp")
        assert not [opcode for opcode in opcodes if opcode.startswith(exchanging)], name


@pytest.mark.parametrize("arch", FP8)
def test_products_are_those_of_the_fp8_instruction(arch, built):
    """Nothing is widened: no conversion from fp8 anywhere."""
    kernels: Built = built(arch)
    for name, spec in everything(arch).items():
        opcodes = kernels.isa(name).opcodes
        wanted = f"v_mfma_f32_{spec.MFMA}_fp8_fp8" if spec.MFMA else "v_dot4_f32_fp8_fp8"
        assert opcodes[wanted], name
        assert not [opcode for opcode in opcodes if opcode.startswith(("v_cvt_f32_fp8", "v_cvt_pk_f32_fp8"))], name


@pytest.mark.parametrize("arch", FP8)
def test_weights_are_loaded_sixteen_bytes_at_a_time(arch, built):
    for name in of_family(WvSplitKQSpec, arch):
        loads = {kind for kind in built(arch).isa(name).loop.categories if kind.startswith("global_load")}
        assert loads == {"global_load_b128"}, name


@pytest.mark.parametrize("arch", [*FP8, "sm_90"])
def test_there_are_default_kernels_for_every_n_and_dtype(arch):
    covered = {(spec.dtype, spec.N) for spec in of_family(WvSplitKQSpec, arch).values()}
    assert covered == set(product(("bf16", "fp16"), range(1, 9)))


def test_targets_without_fp8_have_no_kernels():
    for arch in AMD:
        assert bool(everything(arch)) is (arch in FP8)
