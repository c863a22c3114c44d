"""Counts, categories, loop figures and differences."""

from __future__ import annotations

import json

import pytest

from kgen.binary import KernelResources, read_binary
from kgen.binary.codeobject import CodeObject, KernelCode
from kgen.binary.disassemble import available
from kgen.binary.instruction import Instruction
from kgen.binary.isa import categorise, count_opcodes, diff, isa_report, loop_report, watch
from tests.binary.samples import AMD, DATA

FMAC = {"multiply_pattern": r"v_(dual_)?fmac_f32", "multiplies_per_step": 4, "macs_per_step": 4}
needs_tables = pytest.mark.skipif("tinygrad" not in available(None), reason="needs the tinygrad package (extra emu)")


def made(*mnemonics: str) -> list[Instruction]:
    """One instruction per mnemonic; "a :: b" makes a pair."""
    return [
        Instruction(4 * i, first, f"v0 :: {second} v1" if second else "v0", 4)
        for i, (first, _, second) in enumerate(m.partition(" :: ") for m in mnemonics)
    ]


def test_pairs_are_one_instruction_and_two_opcodes():
    loop = made("v_dual_fmac_f32 :: v_dual_mov_b32", "v_fmac_f32", "s_cbranch_scc1")
    report = loop_report(loop, r"v_(dual_)?fmac_f32", 2, 2)
    assert report.instructions == 3
    assert report.opcodes == {"v_dual_fmac_f32": 1, "v_dual_mov_b32": 1, "v_fmac_f32": 1, "s_cbranch_scc1": 1}
    assert (report.multiplies, report.lane_macs, report.per_lane_mac, report.exact) == (2, 2, 1.5, True)


@pytest.mark.parametrize(
    ("multiplies", "per_step", "macs", "lane_macs", "exact"),
    [(8, 8, 16, 16, True), (16, 8, 16, 32, True), (12, 8, 16, 24, False), (4, 8, 16, 8, False), (6, 1.5, 3, 12, True)],
)
def test_unrolling_is_a_whole_multiple_or_said_not_to_be(multiplies, per_step, macs, lane_macs, exact):
    report = loop_report(made(*["v_dot2_f32_f16"] * multiplies), "v_dot2", per_step, macs)
    assert (report.lane_macs, report.exact) == (lane_macs, exact)


@pytest.mark.parametrize(
    ("mnemonic", "category"),
    [
        ("global_load_b128", "global_load_b128"),
        ("global_load_dwordx4", "global_load_b128"),
        ("buffer_load_dwordx4", "global_load_b128"),
        ("flat_load_b64", "global_load_b64"),
        ("global_load_dwordx2", "global_load_b64"),
        ("global_load_dword", "global_load_b32"),
        ("global_load_b32", "global_load_b32"),
        ("global_load_d16_b16", "global_load_small"),
        ("global_load_u16", "global_load_small"),
        ("global_load_ushort", "global_load_small"),
        ("global_load_short_d16", "global_load_small"),
        ("global_load_ubyte_d16_hi", "global_load_small"),
        ("global_load_lds_dwordx4", "global_to_lds"),
        ("global_store_b16", "global_store"),
        ("global_atomic_add_u32", "global_atomic"),
        ("scratch_load_b32", "scratch"),
        ("scratch_store_dwordx2", "scratch"),
        ("ds_read_b128", "lds_load"),
        ("ds_load_2addr_b32", "lds_load"),
        ("ds_store_b32", "lds_store"),
        ("ds_bpermute_b32", "lds_exchange"),
        ("ds_add_u32", "lds_other"),
        ("s_waitcnt", "wait"),
        ("s_wait_loadcnt", "wait"),
        ("s_delay_alu", "wait"),
        ("s_clause", "wait"),
        ("s_barrier_signal", "barrier"),
        ("s_cbranch_execz", "branch"),
        ("s_endpgm", "branch"),
        ("s_load_b128", "scalar_load"),
        ("s_add_u32", "scalar"),
        ("v_wmma_f32_16x16x16_f16", "matrix"),
        ("v_mfma_f32_4x4x4_16b_f16", "matrix"),
        ("v_fmac_f32", "vector_other"),
        ("LDG.E.128", "global_load_b128"),
        ("LDG.E.U16", "global_load_small"),
        ("LDG.E", "global_load_b32"),
        ("LDGSTS.E.128", "global_to_lds"),
        ("LDS.128", "lds_load"),
        ("STG.E", "global_store"),
        ("STL", "scratch"),
        ("BAR.SYNC", "barrier"),
        ("LDC.64", "scalar_load"),
        ("ULDC", "scalar_load"),
        ("UIADD3", "scalar"),
        ("BRA", "branch"),
        ("HMMA.16816.F32", "matrix"),
        ("HFMA2.MMA", "vector_other"),
        ("FFMA", "vector_other"),
    ],
)
def test_each_instruction_has_its_category(mnemonic, category):
    assert categorise(made(mnemonic)) == {category: 1}


def test_multiplies_are_taken_out_of_their_other_category():
    both = made("v_dual_mov_b32 :: v_dual_fmac_f32", "v_mov_b32", "FFMA")
    assert categorise(both, r"v_(dual_)?fmac|FFMA") == {"multiply": 2, "vector_other": 1}


def test_watched_counts():
    found = watch(
        made("v_cmp_u_f32", "global_load_b128", "global_load_b32", "s_waitcnt", "scratch_load_b32", "s_barrier")
    )
    assert found == {
        "nan_checks": 1, "scratch": 1, "waits": 1, "barriers": 1, "dual_pairs": 0, "global_loads": 2, "b128_share": 0.5,
    }  # fmt: skip
    assert watch([])["b128_share"] == 0.0


@needs_tables
def test_report_of_a_sample(sample):
    code = read_binary(sample)
    report = isa_report(code, "dot", **FMAC)
    assert report.arch == code.arch
    assert sum(report.categories.values()) == report.instructions
    assert sum(report.opcodes.values()) == report.instructions + report.counts["dual_pairs"]
    assert (report.loop.multiplies, report.loop.lane_macs, report.loop.exact) == (4, 4, True)
    assert report.loop.per_lane_mac == report.loop.instructions / 4
    assert report.counts["b128_share"] == 1.0
    said = json.loads(json.dumps(report.to_json()))
    assert {"opcodes", "loop"} <= said.keys()
    assert {"instructions", "lane_macs", "per_lane_mac", "opcodes"} <= said["loop"].keys()


@needs_tables
def test_a_kernel_without_a_loop_has_no_loop_report(sample):
    report = isa_report(read_binary(sample), "axpy", **FMAC)
    assert report.loop is None
    assert report.to_json()["loop"] is None


@needs_tables
def test_the_same_code_is_a_twin_whatever_its_name_and_address(sample):
    code = read_binary(sample)
    moved = CodeObject(
        code.arch,
        code.kernels,
        "other",
        code.size,
        {"dot": KernelCode(0x5000, code.code("dot").data), "axpy": code.code("axpy")},
    )
    found = diff(isa_report(code, "dot", **FMAC), isa_report(moved, "dot", **FMAC))
    assert found.identical
    assert not found.resources | found.opcodes | found.loop | found.loop_opcodes


@needs_tables
def test_difference_of_two_kernels():
    code = read_binary(DATA / "small.gfx1151.hsaco")
    found = diff(isa_report(code, "axpy", **FMAC), isa_report(code, "dot", **FMAC))
    assert not found.identical
    assert found.resources["lds_bytes"] == (0, 512)
    assert found.resources["max_flat_workgroup_size"] == (256, 128)
    assert found.opcodes["s_barrier"] == (0, 1)
    assert found.loop["lane_macs"] == (None, 4)
    changes = [abs(a - b) for a, b in found.opcodes.values()]
    assert changes == sorted(changes, reverse=True)
    assert found.to_json()["resources"]["lds_bytes"] == {"a": 0, "b": 512}


@needs_tables
def test_equal_bytes_for_two_targets_are_no_twins():
    a, b = (isa_report(read_binary(DATA / f"small.{arch}.hsaco"), "dot", **FMAC) for arch in ("gfx942", "gfx950"))
    assert a.code_digest == b.code_digest
    assert not diff(a, b).identical


def test_resources_that_differ_are_no_twins():
    """The same instructions with another LDS reservation run differently."""
    code = read_binary(DATA / "small.gfx1151.hsaco")
    base = KernelResources("k", 8, 0, 8, 0, 0, 0, 0, 0, 32, 256, 4)
    more = KernelResources("k", 8, 0, 8, 65536, 0, 0, 0, 0, 32, 256, 4)
    nop = {"k": KernelCode(0, bytes.fromhex("000080bf"))}
    a, b = (CodeObject("gfx1151", {"k": r}, "d", 4, nop) for r in (base, more))
    assert code.arch == "gfx1151"
    pytest.importorskip("tinygrad")
    found = diff(isa_report(a, "k", **FMAC), isa_report(b, "k", **FMAC))
    assert found.resources == {"lds_bytes": (0, 65536)}
    assert not found.identical


@pytest.mark.hipcc
@pytest.mark.parametrize("arch", AMD)
def test_dot2_and_dual_issue_on_a_real_loop(hip, libllvm, arch):
    """fp16 dot products of 8 elements a step: four dot2 a step, whatever the compiler unrolls."""
    source = """
typedef _Float16 h2 __attribute__((ext_vector_type(2)));
typedef unsigned u4 __attribute__((ext_vector_type(4)));
extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(256, 256)))
void k(const u4* w, const u4* x, float* y, int n) {
  unsigned t = __builtin_amdgcn_workitem_id_x();
  float s = 0;
#pragma unroll 2
  for (int i = 0; i < n; i++) {
    u4 a = w[i * 256 + t], b = x[i * 256 + t];
    for (int j = 0; j < 4; j++) {
      unsigned p = a[j], q = b[j];  // a bit cast of a vector's element itself takes element 0 (clang 22)
      s = __builtin_amdgcn_fdot2(__builtin_bit_cast(h2, p), __builtin_bit_cast(h2, q), s, false);
    }
  }
  y[t] = s;
}
"""
    code = read_binary(hip(source, arch)[0])
    report = isa_report(
        code, "k", libllvm, multiply_pattern=r"v_(dual_)?dot2(acc|c)?_f32_f16", multiplies_per_step=4, macs_per_step=8
    )
    assert report.loop.exact
    assert report.loop.lane_macs == 16
    assert report.loop.categories["global_load_b128"] == 4
    assert report.opcodes == count_opcodes(disassembly(code, libllvm))


def disassembly(code, tools):
    from kgen.binary.disassemble import disassemble

    return disassemble(code, "k", tools)
