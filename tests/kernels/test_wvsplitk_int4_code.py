"""What the machine code of wvsplitk_int4 promises: the bars, and what each way of dequantising is worth."""

from __future__ import annotations

import pytest

from kgen.binary.isa import IsaReport
from kgen.spec.wvsplitk_int4 import WvSplitKInt4Spec
from tests.kernels.built import Built, of_family

RDNA, CDNA = ("gfx1151", "gfx1100", "gfx1201"), ("gfx942", "gfx950")
# Hot-loop instructions per lane-MAC at N = 1, at most: (target, zero points) -> by dtype. The peer (vLLM 0.33.0, production tiles, group 128):
# gfx1151 2.19 / 2.80 in 168 VGPRs; gfx1100 and gfx1201 3.45 to 3.56 symmetric, 4.00 to 6.07 with zero points.
BARS = {
    ("gfx1151", False): {"fp16": 1.9, "bf16": 2.1},
    ("gfx1100", False): {"fp16": 2.5, "bf16": 2.5},
    ("gfx1201", False): {"fp16": 2.5, "bf16": 2.5},
    ("gfx1151", True): {"fp16": 2.9, "bf16": 2.9},
    ("gfx1100", True): {"fp16": 2.9, "bf16": 2.9},
    ("gfx1201", True): {"fp16": 2.9, "bf16": 2.9},
}
# The peer's N = 2 and N = 4 on gfx1151 without zero points, (fp16, bf16): tiles (2, 2) and (4, 1), group 128.
PEER = {2: {"fp16": 1.69, "bf16": 1.99}, 4: {"fp16": 0.98, "bf16": 1.28}}
MOST_VGPRS = 128
WAYS = ("scalar", "magic", "finite", "truncate", "actsum")  # in the order of the published steps
pytestmark = pytest.mark.hipcc


def loop_of(kernels: Built, name: str) -> IsaReport:
    report = kernels.isa(name)
    assert report.loop is not None, f"{name}: no hot loop"
    assert report.loop.exact, f"{name}: {report.loop.multiplies} multiplies are no whole number of steps"
    return report


def staged_whole(arch: str, N: int) -> dict[str, WvSplitKInt4Spec]:
    """Default kernels for N rows with all activations in LDS and waves that share no rows: the peer's ground."""
    specs = of_family(WvSplitKInt4Spec, arch).items()
    return {name: spec for name, spec in specs if spec.N == N and spec.STAGING == "lds" and spec.K_WAVES == 1}


@pytest.mark.parametrize("arch", RDNA)
def test_one_row_stays_below_the_bars(arch, built):
    kernels, long = built(arch), []
    specs = staged_whole(arch, 1)
    assert len(specs) == 12, "two types, three groups, with and without zero points"
    for name, spec in specs.items():
        found, bar = loop_of(kernels, name).loop.per_lane_mac, BARS[arch, spec.HAS_ZP][spec.dtype]
        if found > bar:
            long.append(f"{name}: {found:.2f} instructions per lane-MAC, at most {bar}")
    assert not long, "\n".join(long)


@pytest.mark.parametrize("N", PEER)
def test_more_rows_stay_below_the_peer_on_gfx1151(N, built):
    kernels = built("gfx1151")
    for name, spec in staged_whole("gfx1151", N).items():
        if not spec.HAS_ZP:
            assert loop_of(kernels, name).loop.per_lane_mac < PEER[N][spec.dtype], name


def test_one_symmetric_row_takes_at_most_128_vgprs_on_gfx1151(built):
    entries = built("gfx1151").manifest.entries
    found = {
        name: entries[name].vgpr
        for name, spec in of_family(WvSplitKInt4Spec, "gfx1151").items()
        if spec.N == 1 and not spec.HAS_ZP
    }
    assert max(found.values()) <= MOST_VGPRS, found


@pytest.mark.parametrize("arch", [*RDNA, *CDNA])
def test_codes_are_loaded_sixteen_bytes_at_a_time(arch, built):
    kernels, wrong = built(arch), []
    for name, spec in of_family(WvSplitKInt4Spec, arch).items():
        loads = {kind: count for kind, count in kernels.isa(name).loop.categories.items() if "global_load" in kind}
        wide = loads.get("global_load_b128", 0)
        narrow = loads.keys() - {
            "global_load_b128",
            "global_load_small",
            "global_load_b32",
        }  # scales, words of zero points
        codes = spec.UNRL * spec.row_tiles * spec.rows_of_lane
        if wide < codes or narrow:
            wrong.append(f"{name}: {loads}, {codes} loads of codes")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("arch", RDNA)
def test_rdna_multiplies_by_dot2_and_cdna_by_its_matrix_instruction(arch, built):
    for name, spec in of_family(WvSplitKInt4Spec, arch).items():
        opcodes = built(arch).isa(name).loop.opcodes
        dots = sum(count for opcode, count in opcodes.items() if "dot2" in opcode and spec.dtype[-2:] in opcode)
        assert dots == built(arch).isa(name).loop.multiplies, name


@pytest.mark.parametrize("arch", CDNA)
def test_cdna_multiplies_by_the_16x16_matrix_instruction(arch, built):
    numbers = "f32_16x16x32" if arch == "gfx950" else "f32_16x16x16"
    for name, spec in of_family(WvSplitKInt4Spec, arch).items():
        opcodes = built(arch).isa(name).loop.opcodes
        kind = "i32_16x16x32_i8" if spec.digits else numbers
        assert sum(count for opcode, count in opcodes.items() if f"v_mfma_{kind}" in opcode), name


# ---- the published steps: bf16 on gfx1151, one row, YTILE 2, WvPrGrp 16, A_CHUNK 16, UNRL 2, group 128, symmetric


def report_of(way: str, kernels: Built) -> IsaReport:
    spec = WvSplitKInt4Spec(
        arch="gfx1151", dtype="bf16", N=1, THRDS=32, YTILE=2, WvPrGrp=16, A_CHUNK=16, UNRL=2, DEQUANT=way
    )
    return loop_of(kernels, spec.name)


def count(report: IsaReport, *words: str) -> int:
    return sum(number for opcode, number in report.loop.opcodes.items() if any(word in opcode for word in words))


def test_each_way_of_dequantising_has_the_published_effect(built):
    reports = {way: report_of(way, built("gfx1151")) for way in WAYS}
    weights = 2 * 2 * 16  # of a lane in one trip: rows, slabs, chunk
    for way, report in reports.items():
        nan_tests = count(report, "v_cmp_u_f32", "v_cmp_o_f32", "v_cmp_class")
        assert nan_tests == (weights if way in ("scalar", "magic") else 0), way
        assert count(report, "v_dot2_f32_bf16") == (0 if way == "scalar" else weights // 2), way
        assert count(report, "v_cvt_f32") == (weights if way == "scalar" else 0), way
    assert count(reports["finite"], "v_add3_u32") == weights, "rounding to nearest even"
    assert count(reports["truncate"], "v_add3_u32") == 0
    assert count(reports["truncate"], "v_perm_b32") == weights // 2, "cutting off is one permutation for two"
    assert count(reports["actsum"], "v_perm_b32", "v_add_f32", "v_bfe_u32", "v_cndmask") == 0, "nothing is subtracted"
    per_mac = [reports[way].loop.per_lane_mac for way in WAYS]
    assert per_mac == sorted(per_mac, reverse=True)
    assert per_mac[0] > 12, "the peer started at 47"
    assert per_mac[-1] < 2.2, "the peer ended at 3.64"
