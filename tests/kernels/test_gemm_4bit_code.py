"""What the machine code of gemm_4bit promises, beside bitsandbytes' kernel (peers_gemm_4bit.csv)."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from kgen.binary import read_binary, sass
from kgen.binary.disassemble import disassemble
from kgen.binary.instruction import Instruction
from kgen.binary.loops import hot_loop
from kgen.build import build
from kgen.errors import ToolchainError
from kgen.spec.gemm_4bit import Gemm4BitSpec
from kgen.toolchain.nvidia import find_nvidia
from tests.kernels.built import AMD, Built, all_specs, of_family

RDNA, CDNA = ("gfx1151", "gfx1100", "gfx1201"), ("gfx942", "gfx950")
ONE_ROW = dict.fromkeys(RDNA, 4.0) | dict.fromkeys(CDNA, 6.0)  # loop instructions per lane-MAC, 16-bit
EIGHT_ROWS = 1.7
pytestmark = pytest.mark.hipcc


def peers(arch: str) -> dict[int, dict[str, str]]:
    """The rows of peers_gemm_4bit.csv by N."""
    lines = (Path(__file__).parent / "peers_gemm_4bit.csv").read_text().splitlines()
    table = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {int(row["N"]): row for row in table if row["arch"] == arch}


def everything(arch: str) -> dict[str, Gemm4BitSpec]:
    """Default kernels and parameters."""
    return {name: spec for name, spec in all_specs(arch).items() if isinstance(spec, Gemm4BitSpec)}


def per_lane_mac(kernels: Built, name: str, spec: Gemm4BitSpec) -> float:
    """Loop instructions for each multiply-add of a lane, by the trip that the loop is; CDNA's packed fp32 multiplies count two each."""
    loop = kernels.isa(name).loop
    assert loop is not None, f"{name}: no hot loop"
    return loop.instructions / spec.macs_per_step


@pytest.mark.parametrize("arch", AMD)
def test_the_loop_of_kernels_of_16_bits_and_of_terms_is_exactly_one_trip(arch, built):
    kernels = built(arch)
    for name, spec in everything(arch).items():
        if spec.dtype != "fp32" or spec.TERMS:
            loop = kernels.isa(name).loop
            assert loop is not None, name
            assert loop.exact, f"{name}: {loop.multiplies} multiplies are no whole number of trips"


@pytest.mark.parametrize("arch", AMD)
def test_one_row_takes_few_instructions(arch, built):
    found = {
        name: per_lane_mac(built(arch), name, spec)
        for name, spec in of_family(Gemm4BitSpec, arch).items()
        if (spec.N, spec.GROUP_SIZE) == (1, 64)
    }
    assert len(found) >= 6
    assert not {name: value for name, value in found.items() if value > ONE_ROW[arch]}


@pytest.mark.parametrize("arch", AMD)
def test_eight_rows_take_fewer_for_each(arch, built):
    found = {
        name: per_lane_mac(built(arch), name, spec)
        for name, spec in of_family(Gemm4BitSpec, arch).items()
        if spec.N == 8 and spec.dtype != "fp32"
    }
    assert len(found) >= 8
    assert not {name: value for name, value in found.items() if value > EIGHT_ROWS}


@pytest.mark.parametrize("arch", AMD)
def test_every_default_kernel_is_below_the_peer_for_the_same_rows(arch, built):
    kernels, theirs, long = built(arch), peers(arch), []
    for name, spec in of_family(Gemm4BitSpec, arch).items():
        row = theirs.get(spec.N)
        if row and per_lane_mac(kernels, name, spec) >= float(row[spec.dtype]):
            long.append(
                f"{name}: {per_lane_mac(kernels, name, spec):.2f} instructions per lane-MAC, the peer {row[spec.dtype]}"
            )
    assert not long, "\n".join(long)


@pytest.mark.parametrize("arch", AMD)
def test_nothing_spills(arch, built):
    entries = built(arch).manifest.entries
    for name, spec in everything(arch).items():
        entry = entries[name]
        assert (entry.scratch_bytes, entry.vgpr_spills, entry.sgpr_spills) == (0, 0, 0), name
        assert entry.lds_bytes == spec.static_lds, name


@pytest.mark.parametrize("arch", RDNA)
def test_a_code_costs_permutes_and_no_memory(arch, built):
    """NF4: for four codes two permutes of each byte plane, two of halves together; FP4 one of each plane that is not zero. No LDS but activations."""
    kernels = built(arch)
    for name, spec in of_family(Gemm4BitSpec, arch).items():
        if spec.TABLE != "perm" or spec.STAGING == "global":
            continue
        loop = kernels.isa(name).loop
        codes = spec.A_CHUNK * spec.UNRL * spec.YTILE
        planes = (1 if spec.dtype == "fp16" else 2) if spec.FP4 else 4
        assert loop.opcodes["v_perm_b32"] == codes // 4 * (planes + 2), name
        reads = sum(count for opcode, count in loop.opcodes.items() if opcode.startswith("ds_load"))
        nested = spec.UNRL * spec.YTILE if spec.NESTED else 0
        assert reads <= spec.A_CHUNK // 8 * spec.UNRL * spec.N + nested, name


@pytest.mark.parametrize("arch", AMD)
def test_a_table_in_lds_is_read_once_for_two_codes(arch, built):
    kernels = built(arch)
    for name, spec in everything(arch).items():
        if spec.TABLE == "lds" and spec.dtype != "fp32":
            loop = kernels.isa(name).loop
            pairs = spec.A_CHUNK * spec.UNRL * spec.YTILE // spec.lane_rows // 2
            reads = sum(
                count
                for opcode, count in loop.opcodes.items()
                if opcode in ("ds_load_b32", "ds_read_b32", "ds_read2_b32", "ds_load_2addr_b32")
            )
            fill = 2 if spec.late_tables else 0  # numbers of the table, which the first trip of the loop fills
            scales = max(spec.groups_of_slab, spec.rows_of_lane) * spec.UNRL * spec.YTILE // spec.lane_rows
            nested = scales if spec.NESTED else 0  # absmax that codes stand for
            assert reads <= pairs + fill + nested, name


@pytest.mark.parametrize("arch", AMD)
def test_codes_are_loaded_sixteen_bytes_at_a_time_by_default(arch, built):
    for name, spec in of_family(Gemm4BitSpec, arch).items():
        if spec.A_CHUNK == 32:
            loads = {kind for kind in built(arch).isa(name).loop.categories if kind.startswith("global_load")}
            assert "global_load_b128" in loads, name


@pytest.mark.parametrize("arch", [*AMD, "sm_90"])
def test_there_are_default_kernels_for_every_type_and_code(arch):
    covered = {(spec.dtype, spec.FP4, spec.NESTED) for spec in of_family(Gemm4BitSpec, arch).values()}
    assert covered == {(d, f, n) for d in ("bf16", "fp16", "fp32") for f in (False, True) for n in (False, True)}


def trip_on_sm_90(spec: Gemm4BitSpec, folder: Path) -> list[Instruction]:
    """The loop of a compiled sm_90 kernel, less the filling of tables that all trips but the first jump over."""
    if sass.find() is None:
        pytest.skip("no disassembler of sm_ code")
    try:
        tools = find_nvidia(["sm_90"])
    except ToolchainError as error:
        pytest.skip(f"no NVIDIA compiler: {str(error).splitlines()[0]}")
    (entry,) = build([spec], arch="sm_90", folder=folder, tools=tools).manifest.kernels
    assert entry.scratch_bytes == 0
    loop = hot_loop(disassemble(read_binary(entry.image(folder)), spec.name), spec.multiply_pattern)
    assert loop is not None
    fills = spec.late_tables and not spec.AHEAD  # which fills them in front of the loop
    over = next((each for each in loop if (each.target or 0) > each.address), None) if fills else None
    return [each for each in loop if over is None or each.address <= over.address or each.address >= (over.target or 0)]


SM_90 = dict(arch="sm_90", THRDS=32, WvPrGrp=8, A_CHUNK=16, TABLE="pages", COPIES=32)
MATRIX = SM_90 | dict(dtype="bf16", YTILE=16, K_WAVES=8, UNRL=4, GrpsPerCU=2)


PARTS = SM_90 | dict(N=1, UNRL=1, STAGING="global", K_PARTS=8, AHEAD=True)


@pytest.mark.parametrize(
    ("values", "loads", "most"),
    [
        (PARTS | dict(dtype="bf16", YTILE=8, K_WAVES=2, GrpsPerCU=2), 8 + 4 + 2, 250),
        (PARTS | dict(dtype="fp16", YTILE=4, K_WAVES=8, GrpsPerCU=2), 4 + 2 + 2, 140),
        (PARTS | dict(dtype="bf16", YTILE=8, WvPrGrp=14, GrpsPerCU=1, FP4=True), 8 + 4 + 2, 250),
        (PARTS | dict(dtype="bf16", YTILE=8, K_WAVES=4, GrpsPerCU=2, NESTED=True), 8 + 2 * 4 + 2, 275),
    ],
)
def test_a_trip_over_the_whole_wave_is_two_rows_to_an_absmax_and_asks_for_the_next_one(values, loads, most, tmp_path):
    """Two trips by turns, in each the loads of the other, in front of its last products; at the end of K they are left out without a branch."""
    spec = Gemm4BitSpec.checked(values)
    trip = trip_on_sm_90(spec, tmp_path)
    asked = [index for index, each in enumerate(trip) if each.mnemonic.startswith("LDG")]
    products = [index for index, each in enumerate(trip) if each.mnemonic.startswith("HMMA")]
    assert len(asked) == 2 * loads
    assert (
        sum(each.mnemonic.startswith("BRA") for each in trip) <= 3
    )  # none around the loads: between the trips, and at the end
    assert len(products) == 2 * spec.multiplies_per_step
    for half in (0, 1):
        last = asked[(half + 1) * loads - 1]
        assert last < products[(half + 1) * spec.multiplies_per_step - 2]
    pairs = spec.A_CHUNK * spec.YTILE // 2
    assert sum(each.mnemonic == "PRMT" and "0x55" in each.operands for each in trip) == 2 * pairs
    assert len(trip) <= 2 * most, len(trip)


@pytest.mark.parametrize(
    ("values", "loads", "most"),
    [
        (MATRIX | dict(N=1, ABSMAX=4, STAGING="global"), 8 + 2 + 8, 205),
        (MATRIX | dict(N=8, ABSMAX=4, STAGING="global", GrpsPerCU=1), 8 + 2 + 8, 215),
        (MATRIX | dict(N=1, ABSMAX=1, STAGING="columns"), 8 + 2 + 1, 200),
        (MATRIX | dict(N=4, ABSMAX=4, STAGING="columns"), 8 + 2 + 4, 200),
        (MATRIX | dict(N=1, A_CHUNK=32, UNRL=2, ABSMAX=1, STAGING="columns"), 4 + 4 + 2, 205),
        (SM_90 | dict(dtype="fp32", N=1, YTILE=2, UNRL=2, WvPrGrp=16, COPIES=16, STAGING="lds"), 4 + 4, 180),
    ],
)
def test_a_paged_table_takes_one_permute_and_one_read_for_a_pair(values, loads, most, tmp_path):
    """Loads of a trip: codes, absmax, activations. What is left beside them and the products: addresses that step, and the loop's end."""
    spec = Gemm4BitSpec.checked(values)
    trip = trip_on_sm_90(spec, tmp_path)
    pairs = spec.A_CHUNK * spec.UNRL * spec.row_tiles * spec.rows_of_lane // 2
    permutes = [each for each in trip if each.mnemonic == "PRMT" and re.search(r"0x55[0123]4", each.operands)]
    reads = [each for each in trip if each.mnemonic == ("LDS.64" if spec.dtype == "fp32" else "LDS")]
    assert len(permutes) == len(reads) == pairs
    assert not {each.mnemonic.split(".")[0] for each in trip} & {"SHL", "BAR", "STL", "LDL"}
    assert sum(each.mnemonic.startswith("LDG") for each in trip) == loads
    multiplies = 0 if spec.dtype == "fp32" else spec.multiplies_per_step
    assert sum(each.mnemonic.startswith("HMMA") for each in trip) == multiplies
    assert len(trip) <= most, len(trip)


SPLIT = SM_90 | dict(dtype="fp32", COPIES=16, STAGING="global", TERMS=2)


@pytest.mark.parametrize(
    ("values", "most"),
    [
        (SPLIT | dict(N=8, YTILE=32, K_WAVES=8, UNRL=1), 500),
        (SPLIT | dict(N=16, YTILE=32, K_WAVES=8, UNRL=2), 1280),
        (SPLIT | dict(N=32, YTILE=32, WvPrGrp=4, K_WAVES=4, A_CHUNK=8, UNRL=1), 620),
    ],
)
def test_fp32_by_terms_is_three_products_and_one_read_for_the_terms_of_a_pair(values, most, tmp_path):
    spec = Gemm4BitSpec.checked(values)
    trip = trip_on_sm_90(spec, tmp_path)
    assert sum(each.mnemonic.startswith("HMMA") for each in trip) == spec.multiplies_per_step
    pairs = spec.words * spec.UNRL * spec.row_tiles * spec.rows_of_lane * 4
    assert sum(each.mnemonic == "PRMT" and "0x55" in each.operands for each in trip) == pairs
    assert sum(each.mnemonic.startswith("LDS") for each in trip) == pairs
    assert sum(each.mnemonic == "LDS.64" for each in trip) == pairs
    assert len(trip) <= most, len(trip)
