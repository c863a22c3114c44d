"""What the machine code of wvsplitkrc promises, beside the peer's (peers_wvsplitkrc.csv)."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from kgen.spec.wvsplitkrc import WvSplitKrcSpec
from tests.kernels.built import AMD, all_specs, of_family

MATRIX = {
    "gfx1151": ("v_wmma_f32_16x16x16_bf16", "v_wmma_f32_16x16x16_f16"),
    "gfx1100": ("v_wmma_f32_16x16x16_bf16", "v_wmma_f32_16x16x16_f16"),
    "gfx1201": ("v_wmma_f32_16x16x16_bf16", "v_wmma_f32_16x16x16_f16"),
    "gfx942": ("v_mfma_f32_16x16x16_bf16", "v_mfma_f32_16x16x16_f16"),
    "gfx950": ("v_mfma_f32_16x16x32_bf16", "v_mfma_f32_16x16x32_f16"),
}
pytestmark = pytest.mark.hipcc


def everything(arch: str) -> dict[str, WvSplitKrcSpec]:
    """Default kernels and parameters."""
    return {name: spec for name, spec in all_specs(arch).items() if isinstance(spec, WvSplitKrcSpec)}


def peers() -> dict[tuple[int, ...], dict[str, str]]:
    """The rows of peers_wvsplitkrc.csv by (N, G, CHUNKK, deterministic)."""
    lines = (Path(__file__).parent / "peers_wvsplitkrc.csv").read_text().splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {tuple(int(row[key]) for key in ("N", "G", "CHUNKK", "deterministic")): row for row in rows}


def same_tile(spec: WvSplitKrcSpec) -> dict[str, str]:
    return peers()[spec.N, spec.GrpsShrB, spec.CHUNKK, int(spec.DETERMINISTIC)]


def test_every_tile_of_the_peer_is_a_default_on_gfx950():
    ours = {(s.N, s.GrpsShrB, s.CHUNKK, int(s.DETERMINISTIC)) for s in of_family(WvSplitKrcSpec, "gfx950").values()}
    assert ours == peers().keys()


def test_registers_are_at_or_below_the_peers_for_the_same_tile(built):
    entries = built("gfx950").manifest.entries
    more = [
        f"{name}: {entries[name].vgpr} VGPRs, the peer {same_tile(spec)['vgpr']}"
        for name, spec in of_family(WvSplitKrcSpec, "gfx950").items()
        if entries[name].vgpr > int(same_tile(spec)["vgpr"])
    ]
    assert not more, "\n".join(more)


def test_whole_kernels_are_shorter_than_the_peers_and_multiply_as_often(built):
    long = []
    for name, spec in of_family(WvSplitKrcSpec, "gfx950").items():
        opcodes = built("gfx950").isa(name).opcodes
        theirs = int(same_tile(spec)[f"instructions_{spec.dtype}"])
        if opcodes.total() > theirs:
            long.append(f"{name}: {opcodes.total()} instructions, the peer {theirs}")
        matrix = sum(count for opcode, count in opcodes.items() if opcode.startswith("v_mfma"))
        assert matrix == int(same_tile(spec)["mfma"]), name
    assert not long, "\n".join(long)


def test_gfx950_stages_by_dma_of_sixteen_bytes_and_nothing_else(built):
    for name, spec in everything("gfx950").items():
        opcodes = built("gfx950").isa(name).opcodes
        fetches = spec.staged_rows * spec.step // 8 // spec.threads
        assert opcodes["global_load_lds_dwordx4"] == 2 * fetches, name  # whole shards, and the one that K ends in
        assert not [opcode for opcode in opcodes if opcode.startswith("ds_write_b128")], name


@pytest.mark.parametrize("arch", AMD)
def test_tiles_are_multiplied_by_the_targets_matrix_instruction(arch, built):
    for name, spec in everything(arch).items():
        opcodes = built(arch).isa(name).opcodes
        wanted = MATRIX[arch][spec.dtype == "fp16"]
        matrix = {opcode for opcode in opcodes if opcode.startswith(("v_mfma", "v_wmma"))}
        assert matrix == {wanted}, name
        assert opcodes[wanted] == spec.multiplies_per_step, name


@pytest.mark.parametrize("arch", AMD)
def test_only_the_fast_kernels_add_floats_in_memory_and_without_a_loop(arch, built):
    for name, spec in everything(arch).items():
        opcodes = built(arch).isa(name).opcodes
        floats = sum(count for opcode, count in opcodes.items() if opcode.startswith("global_atomic_add_f32"))
        assert floats == (0 if spec.DETERMINISTIC else spec.wave_tiles * spec.tile_registers), name
        assert not [opcode for opcode in opcodes if "cmpswap" in opcode], name
        assert sum(count for opcode, count in opcodes.items() if opcode.startswith("global_atomic_add_u32")) + opcodes[
            "global_atomic_add"
        ] == (1), name


@pytest.mark.parametrize("arch", AMD)
def test_lds_holds_a_step_and_one_count(arch, built):
    entries = built(arch).manifest.entries
    for name, spec in everything(arch).items():
        assert entries[name].lds_bytes == spec.static_lds, name
        assert entries[name].lds_expr == "0", name
