"""What the machine code of every kernel promises: no spills, LDS as needed; and of wvsplitk's default kernels: short loops, the right
instructions. Other families have a file of their own beside this one.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from kgen.spec.wvsplitk import WvSplitKSpec
from tests.kernels.built import AMD, Built, all_specs, of_family

# Hot-loop instructions per multiply-add of a lane on gfx1151, (dtype, N) -> at most; the project's own bar, below the peer's.
BARS = {("bf16", 1): 1.4, ("fp16", 1): 1.2, ("bf16", 4): 0.95, ("fp16", 4): 0.75}
RDNA, CDNA = ("gfx1151", "gfx1100", "gfx1201"), ("gfx942", "gfx950")
pytestmark = pytest.mark.hipcc


def peers() -> list[dict[str, str]]:
    """The rows of peers.csv."""
    lines = (Path(__file__).parent / "peers.csv").read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def per_lane_mac(kernels: Built, name: str) -> float:
    loop = kernels.isa(name).loop
    assert loop is not None, f"{name}: no hot loop"
    assert loop.exact, f"{name}: {loop.multiplies} multiplies are no whole number of steps"
    return loop.per_lane_mac


@pytest.mark.parametrize("arch", AMD)
def test_no_scratch_and_no_spills(arch, built):
    entries = built(arch).manifest.entries
    spilling = [
        name
        for name in all_specs(arch)
        if entries[name].scratch_bytes or entries[name].vgpr_spills or entries[name].sgpr_spills
    ]
    assert not spilling


def test_gfx1151_loops_stay_below_the_bars(built):
    kernels, long = built("gfx1151"), []
    for name, spec in of_family(WvSplitKSpec, "gfx1151").items():
        bar = BARS.get((spec.dtype, spec.N))
        if bar is not None and (found := per_lane_mac(kernels, name)) > bar:
            long.append(f"{name}: {found:.2f} instructions per lane-MAC, at most {bar}")
    assert not long, "\n".join(long)


@pytest.mark.parametrize("arch", AMD)
def test_loops_are_at_or_below_the_peers(arch, built):
    """Against the peer's kernels of the same N: those of the same tile where it has that tile, else its best."""
    kernels, long = built(arch), []
    for name, spec in of_family(WvSplitKSpec, arch).items():
        rows = [row for row in peers() if row["arch"] == arch and int(row["N"]) == spec.N]
        same = [row for row in rows if (int(row["YTILE"]), int(row["UNRL"])) == (spec.YTILE, spec.UNRL)]
        theirs = [float(row[f"per_lane_mac_{spec.dtype}"]) for row in same or rows]
        if theirs and (found := per_lane_mac(kernels, name)) > min(theirs):
            long.append(f"{name}: {found:.2f} instructions per lane-MAC, the peer {min(theirs)}")
    assert not long, "\n".join(long)


@pytest.mark.parametrize("arch", AMD)
def test_registers_are_at_or_below_the_peers_for_the_same_tile(arch, built):
    entries, more = built(arch).manifest.entries, []
    theirs = {
        (row["N"], row["YTILE"], row["UNRL"]): row
        for row in peers()
        if row["arch"] == arch and row["kernel"] == "small"
    }
    for name, spec in of_family(WvSplitKSpec, arch).items():
        row = theirs.get((str(spec.N), str(spec.YTILE), str(spec.UNRL)))
        if row and spec.A_CHUNK == 8 and spec.STAGING == "lds" and entries[name].vgpr > int(row[f"vgpr_{spec.dtype}"]):
            more.append(f"{name}: {entries[name].vgpr} VGPRs, the peer {row[f'vgpr_{spec.dtype}']}")
    assert not more, "\n".join(more)


@pytest.mark.parametrize("arch", AMD)
def test_weights_are_loaded_sixteen_bytes_at_a_time(arch, built):
    kernels, narrow = built(arch), []
    for name in of_family(WvSplitKSpec, arch):
        loads = {kind for kind in kernels.isa(name).loop.categories if kind.startswith("global_load")}
        if loads != {"global_load_b128"}:
            narrow.append(f"{name}: {loads}")
    assert not narrow, "\n".join(narrow)


@pytest.mark.parametrize("arch", RDNA)
def test_rdna_multiplies_by_dot2(arch, built):
    kernels, wrong = built(arch), []
    for name, spec in of_family(WvSplitKSpec, arch).items():
        opcodes = kernels.isa(name).loop.opcodes
        wanted = ("v_dot2_f32_bf16",) if spec.dtype == "bf16" else ("v_dot2acc_f32_f16", "v_dual_dot2acc_f32_f16")
        if arch == "gfx1201" and spec.dtype == "fp16":
            wanted = ("v_dot2_f32_f16",)
        if sum(opcodes[name] for name in wanted) != kernels.isa(name).loop.multiplies:
            wrong.append(f"{name}: {dict(opcodes)}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("arch", "share"), [("gfx1151", 1.0), ("gfx1100", 0.9)])
def test_gfx11_issues_fp16_dot2_in_pairs(arch, share, built):
    """Whether two fit into one instruction is up to the compiler's choice of register banks: all on gfx1151, all but one on gfx1100."""
    kernels = built(arch)
    fp16 = [name for name, spec in of_family(WvSplitKSpec, arch).items() if spec.dtype == "fp16"]
    single = [name for name in fp16 if not kernels.isa(name).loop.opcodes["v_dual_dot2acc_f32_f16"]]
    assert len(single) <= (1 - share) * len(fp16), "\n".join(single)


@pytest.mark.parametrize("arch", CDNA)
def test_cdna_multiplies_by_the_4x4x4_matrix_instruction(arch, built):
    kernels, wrong = built(arch), []
    for name in of_family(WvSplitKSpec, arch):
        opcodes = kernels.isa(name).loop.opcodes
        matrix = sum(count for opcode, count in opcodes.items() if opcode.startswith("v_mfma_f32_4x4x4"))
        if not matrix or matrix != sum(count for opcode, count in opcodes.items() if opcode.startswith("v_mfma")):
            wrong.append(f"{name}: {dict(opcodes)}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("arch", AMD)
def test_lds_is_reserved_as_needed(arch, built):
    entries = built(arch).manifest.entries
    for name, spec in all_specs(arch).items():
        assert entries[name].lds_bytes == spec.static_lds, name
        assert entries[name].lds_expr == spec.lds_expr, name
        if isinstance(spec, WvSplitKSpec):
            assert spec.lds_expr == ("2 * N * K" if spec.STAGING == "lds" and spec.K is None else "0"), name
