"""What the machine code of the expert kernels promises, beside the peer's fused MoE kernel (peers_moe.csv)."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from kgen.spec.moe import MoeSpec
from kgen.spec.moe_wvsplitk_int4 import MoeWvSplitKInt4Spec
from tests.kernels.built import AMD, all_specs, of_family

SIXTEEN_WAVES = 96  # VGPRs up to which a gfx11 SIMD still holds sixteen waves
WIDTHS = {8: "global_load_b32", 16: "global_load_b64", 32: "global_load_b128"}
pytestmark = pytest.mark.hipcc


def peers() -> list[dict[str, str]]:
    """The rows of peers_moe.csv."""
    lines = (Path(__file__).parent / "peers_moe.csv").read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def everything(arch: str) -> dict[str, MoeSpec]:
    """Default kernels and parameters."""
    return {name: spec for name, spec in all_specs(arch).items() if isinstance(spec, MoeSpec)}


def same_tile(dtype: str, row: dict[str, str]) -> str:
    """The name of our kernel with a peer's tile."""
    sizes = {key: int(row[key]) for key in ("N", "YTILE", "WvPrGrp", "A_CHUNK", "UNRL")}
    return MoeWvSplitKInt4Spec.checked(
        dict(arch="gfx1151", dtype=dtype, THRDS=32, DEQUANT="actsum", HAS_ZP=row["HAS_ZP"] == "1") | sizes
    ).name


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("row", peers(), ids=lambda row: "-".join(list(row.values())[:6]))
def test_loops_and_registers_are_at_or_below_the_peers_for_the_same_tile(row, dtype, built):
    kernels, name = built("gfx1151"), same_tile(dtype, row)
    loop = kernels.isa(name).loop
    assert loop is not None
    assert loop.exact
    assert loop.per_lane_mac <= float(row[f"per_lane_mac_{dtype}"])
    vgpr = kernels.manifest.entries[name].vgpr
    assert vgpr <= max(int(row[f"vgpr_{dtype}"]), SIXTEEN_WAVES)
    assert vgpr <= 128


@pytest.mark.parametrize("arch", AMD)
def test_a_trip_is_one_loop_or_no_loop(arch, built):
    """Trips of known K that each wave makes once have no loop; all others multiply in one place."""
    kernels = built(arch)
    for name, spec in everything(arch).items():
        if spec.DEQUANT == "scalar":  # conversions and sums are mnemonics of its multiplies too
            continue
        loop = kernels.isa(name).loop
        once = isinstance(spec, MoeWvSplitKInt4Spec) and spec.K is not None and spec.trips(spec.K) <= spec.K_WAVES
        assert (loop is None) or loop.exact, name
        assert (loop is not None) or once, name


@pytest.mark.parametrize("arch", AMD)
def test_products_are_those_of_the_16_bit_instruction_or_of_bytes(arch, built):
    kernels = built(arch)
    for name, spec in everything(arch).items():
        opcodes = kernels.isa(name).opcodes
        wanted = ("v_dot2", "v_dual_dot2")
        if spec.matrix:
            wanted = ("v_mfma_i32_16x16x32_i8",) if spec.digits else ("v_mfma_f32_16x16x",)
        if spec.DEQUANT != "scalar":
            assert any(opcode.startswith(wanted) for opcode in opcodes), name


@pytest.mark.parametrize("arch", ["gfx1151", "gfx1100", "gfx1201"])
def test_codes_are_loaded_a_chunk_at_a_time(arch, built):
    for name, spec in of_family(MoeWvSplitKInt4Spec, arch).items():
        loop = built(arch).isa(name).loop
        assert WIDTHS[spec.A_CHUNK] in loop.categories, name


@pytest.mark.parametrize("arch", AMD)
def test_decode_kernels_are_short(arch, built):
    """A layer runs each kernel once, from a cold instruction cache."""
    entries = built(arch).manifest.entries
    long = {name: entries[name].code_bytes for name in of_family(MoeSpec, arch) if entries[name].code_bytes > 9 * 1024}
    assert not long
