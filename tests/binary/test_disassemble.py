"""Disassembly: backends agree with each other, branches lead where they say, and a missing disassembler is said with its cure."""

from __future__ import annotations

import random
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from kgen.binary import llvm_c, read_binary, sass
from kgen.binary.codeobject import CodeObject, KernelCode
from kgen.binary.disassemble import BACKENDS, available, disassemble
from kgen.binary.instruction import Instruction, Scoreboards, branch_target, canonical, from_text
from kgen.errors import CodeObjectError, MissingPieceError
from tests.binary.samples import AMD, DATA

NOTHING = SimpleNamespace(libllvm=None, disassembler=None)
needs_tables = pytest.mark.skipif("tinygrad" not in available(None), reason="needs the tinygrad package (extra emu)")

# matrix instructions, dual issue, dot products, DPP, packed maths, atomics, conversions, LDS, scratch: many encodings in one kernel
MANY = """
typedef float f4 __attribute__((ext_vector_type(4)));
typedef unsigned u4 __attribute__((ext_vector_type(4)));
typedef _Float16 h2 __attribute__((ext_vector_type(2)));
typedef _Float16 h4 __attribute__((ext_vector_type(4)));
typedef _Float16 h16 __attribute__((ext_vector_type(16)));
typedef float f8 __attribute__((ext_vector_type(8)));
#define DPP(x, c) __builtin_amdgcn_update_dpp(0, x, c, 15, 15, true)
extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(256, 256)))
void k(const u4* x, const h2* h, float* y, unsigned long* q, double* d, int n, float a) {
  __attribute__((shared)) static float part[512];
  unsigned t = __builtin_amdgcn_workitem_id_x();
  float s = 0; volatile float spilled[8]; unsigned long w = q[t];
  for (int i = t; i < n; i += 256) {
    u4 v = x[i]; h2 g = h[i];
    for (int j = 0; j < 4; j++) s = __builtin_amdgcn_fdot2(__builtin_bit_cast(h2, v[j]), g, s, false);
    spilled[i & 7] = s; w = w * 3 + i; d[i] = __builtin_fma(d[i], 2.0, (double)s);
  }
  int b = __builtin_bit_cast(int, s);
  b += DPP(b, 0x111); b += DPP(b, 0x112); b ^= __builtin_amdgcn_ds_bpermute(4 * (t ^ 1), b); b += DPP(b, 0xB1);
  part[t] = __builtin_bit_cast(float, b) + spilled[n & 7];
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup"); __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
  float m = part[t ^ 7]; m = m < 0 ? -m : m; m = __builtin_amdgcn_exp2f(m) + __builtin_amdgcn_rcpf(m) + (float)(_Float16)m + (float)(signed char)t;
  for (int i = 0; i < 64; i++) { m = m * a + part[i]; s = s * m - a; if (m > 1e9f) break; }
#if defined(__gfx942__) || defined(__gfx950__)
  f4 c = {m, m, m, m}; h4 o = {(_Float16)m, 1, 2, 3};
  c = __builtin_amdgcn_mfma_f32_16x16x16f16(o, o, c, 0, 0, 0); m += c[0] + c[3];
#elif !defined(__gfx1201__)
  h16 o = {(_Float16)m, 1, 2, 3}; f8 c = {m, m};
  c = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(o, o, c); m += c[0] + c[7];
#endif
  __atomic_fetch_add((unsigned*)y + 4096, t, __ATOMIC_RELAXED);
  q[t] = w; y[t] = m + s; ((short*)y)[9000 + t] = (short)b; ((char*)y)[30000 + t] = (char)b;
}
"""


def shape(instructions: list[Instruction]) -> list[tuple]:
    """What backends must agree about."""
    return [(i.address, i.size, i.names, i.target) for i in instructions]


@needs_tables
def test_without_a_toolchain_the_tables_do(sample):
    code = read_binary(sample)
    instructions = disassemble(code, "dot")
    assert instructions[0].address == code.code("dot").address
    assert instructions[-1].mnemonic == "s_endpgm"
    assert all(a.address + a.size == b.address for a, b in pairwise(instructions))
    assert "?" not in {i.mnemonic for i in instructions}


@needs_tables
def test_tables_and_libllvm_agree_on_the_samples(sample, libllvm):
    code = read_binary(sample)
    for symbol in code.kernels:
        by_llvm, by_tables = (disassemble(code, symbol, libllvm, backend=name) for name in ("libllvm", "tinygrad"))
        assert shape(by_llvm) == shape(by_tables)


@pytest.mark.hipcc
@pytest.mark.parametrize("arch", AMD)
@pytest.mark.parametrize("level", ["-O3", "-O0"])
def test_all_backends_agree_on_many_encodings(hip, libllvm, arch, level):
    code = read_binary(hip(MANY, arch, level)[0])
    found = {name: shape(disassemble(code, "k", libllvm, backend=name)) for name in available(libllvm)}
    first = found.pop("libllvm")
    assert len(first) > 150
    for name, other in found.items():
        differ = [(a, b) for a, b in zip(first, other, strict=False) if a != b]
        assert not differ, f"{name}: {differ[:5]}"
        assert len(other) == len(first)


@needs_tables
@pytest.mark.parametrize("arch", ["gfx1151", "gfx942"])
def test_objdumps_listing_is_read_like_the_tables(arch, tmp_path):
    """A stand-in that prints what llvm-objdump 22 printed for the sample, and that insists on the options it was printed with."""
    tool = tmp_path / "llvm-objdump"
    listing = DATA / f"small.{arch}.objdump.txt"
    tool.write_text(f'#!/bin/sh\n[ "$*" = "-d -z -" ] && cat > /dev/null && cat "{listing}"\n')
    tool.chmod(0o755)
    code = read_binary(DATA / f"small.{arch}.hsaco")
    tools = SimpleNamespace(libllvm=None, disassembler=tool)
    for symbol in code.kernels:
        assert shape(disassemble(code, symbol, tools, backend="objdump")) == shape(disassemble(code, symbol))


def test_branches_lead_to_instructions(sample, libllvm):
    code = read_binary(sample)
    for symbol in code.kernels:
        instructions = disassemble(code, symbol, libllvm)
        starts = {i.address for i in instructions}
        targets = [i.target for i in instructions if i.mnemonic.startswith(("s_branch", "s_cbranch"))]
        assert targets
        assert set(targets) <= starts


def test_missing_symbol_is_a_code_object_error(sample):
    with pytest.raises(CodeObjectError, match="no kernel 'gemm'"):
        disassemble(read_binary(sample), "gemm")


@pytest.mark.parametrize("backend", BACKENDS[:2])
def test_a_backend_that_is_not_here_is_said_with_a_cure(sample, backend):
    with pytest.raises(MissingPieceError, match=rf"(?s){backend}: not here.*kgen toolchain install"):
        disassemble(read_binary(sample), "dot", NOTHING, backend=backend)


def test_a_library_that_is_no_llvm_is_said(sample, tmp_path):
    file = tmp_path / "libLLVM.so"
    file.write_bytes(b"not a library")
    with pytest.raises(MissingPieceError, match=r"libLLVM\.so: cannot be used as a disassembler"):
        disassemble(read_binary(sample), "dot", SimpleNamespace(libllvm=file, disassembler=None), backend="libllvm")


def test_a_crash_of_llvm_is_a_code_object_error_and_the_next_request_works(sample, libllvm):
    """LLVM has byte sequences that crash it; it runs apart, so that they end neither this process nor what comes after."""
    code = read_binary(sample)
    worker = llvm_c._Worker(libllvm.libllvm, libllvm.preload)
    command, worker._command = worker._command, [sys.executable, "-c", "print('ready\\nknown', flush=True); input()"]
    with pytest.raises(CodeObjectError, match=rf"crashed on code of {code.arch} at 0x100: the code is altered"):
        worker.ask(code.arch, 0x100, code.code("dot").data)
    worker._command = command
    assert worker.ask(code.arch, 0x100, code.code("axpy").data)[-1][1] == "s_endpgm"


def test_random_bytes_disassemble_or_raise_code_object_error(libllvm):
    rng = random.Random(0)
    for arch in AMD:
        for _ in range(10):
            data = rng.randbytes(4000)
            try:
                found = llvm_c.disassemble(libllvm.libllvm, arch, data, 0, libllvm.preload)
            except CodeObjectError:
                continue
            assert sum(i.size for i in found) == len(data)


def test_a_target_that_llvm_does_not_know_is_said(libllvm):
    with pytest.raises(MissingPieceError, match="knows no target nothing"):
        llvm_c.disassemble(libllvm.libllvm, "nothing", b"\0\0\0\0", 0, libllvm.preload)


def test_an_objdump_that_fails_is_said_in_its_own_words(sample, tmp_path):
    file = tmp_path / "llvm-objdump"
    file.write_text("#!/bin/sh\necho no such target >&2\nexit 1\n")
    file.chmod(0o755)
    with pytest.raises(MissingPieceError, match="no such target"):
        disassemble(read_binary(sample), "dot", SimpleNamespace(libllvm=None, disassembler=file), backend="objdump")


@needs_tables
def test_a_broken_first_backend_falls_back_to_the_next(sample, tmp_path):
    tools = SimpleNamespace(libllvm=tmp_path / "libLLVM.so", disassembler=tmp_path / "llvm-objdump")
    assert shape(disassemble(read_binary(sample), "dot", tools)) == shape(disassemble(read_binary(sample), "dot"))


@needs_tables
def test_a_target_without_tables_is_said(sample):
    code = read_binary(sample)
    other = CodeObject("gfx1030", code.kernels, code.digest, code.size, code.codes, "k.hsaco")
    with pytest.raises(MissingPieceError, match="no instruction tables of gfx1030"):
        disassemble(other, "dot")


def test_bytes_that_are_no_instruction_become_question_marks(sample, libllvm):
    code = read_binary(sample)
    junk = bytes.fromhex("ffffffff") * 2 + code.code("axpy").data
    altered = CodeObject(
        code.arch, code.kernels, "x", 0, {**code.codes, "axpy": KernelCode(code.code("axpy").address, junk)}
    )
    instructions = disassemble(altered, "axpy", libllvm)
    assert instructions[0].mnemonic == "?"
    assert instructions[-1].mnemonic == "s_endpgm"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("v_add_f32_e32 v0, v1, v2", ("v_add_f32",)),
        ("v_add_f32_e64 v0, |v1|, v2", ("v_add_f32",)),
        ("v_add_f32_e64_dpp v0, v1, v2 row_shr:1", ("v_add_f32_dpp",)),
        ("v_mov_b32_dpp v0, v1 row_shr:1", ("v_mov_b32_dpp",)),
        ("v_add_u32_sdwa v0, v1, v2", ("v_add_u32_sdwa",)),
        ("v_dual_fmac_f32 v1, v2, v3 :: v_dual_mov_b32 v4, 0", ("v_dual_fmac_f32", "v_dual_mov_b32")),
        ("s_endpgm", ("s_endpgm",)),
    ],
)
def test_one_spelling_for_all_encodings(text, names):
    assert from_text(0, text, 8).names == names
    assert canonical("V_ADD_F32_E64") == "v_add_f32"


@pytest.mark.parametrize(
    ("operand", "target"), [("0", 0x104), ("1", 0x108), ("65535", 0x100), ("-2", 0xFC), ("0xfffe", 0xFC)]
)
def test_branch_targets_are_relative_to_the_next_instruction(operand, target):
    assert branch_target("s_cbranch_scc1", operand, 0x100, 4) == target
    assert branch_target("v_mov_b32", operand, 0x100, 4) is None


@pytest.mark.parametrize("tool", ["nvdisasm", "cuobjdump"])
def test_sass_listings_of_both_tools_read_the_same(tool, cubin):
    instructions = sass.parse((DATA / f"dot.{tool}.txt").read_text(), "dot")
    code = read_binary(cubin).code("dot")
    inside = [i for i in instructions if i.address < len(code.data)]
    assert [i.address for i in inside] == list(range(0, len(code.data), 16))
    jumps = {i.address: (i.mnemonic, i.operands.split()[0], i.target) for i in inside if i.mnemonic == "BRA"}
    assert jumps[0x160] == ("BRA", "@!P0", 0xC0)
    assert jumps[0x70][2] == 0x170
    assert not next(i for i in inside if i.address == 0x160).ends_path
    assert next(i for i in inside if i.mnemonic == "EXIT" and not i.operands).ends_path
    assert inside[14].text == "LDG.E.128 R4, desc[UR6][R4.64]"
    assert sass.parse((DATA / f"dot.{tool}.txt").read_text(), "axpy") == []


def test_sm_90_without_nvidias_tools_is_said_with_a_cure(cubin, monkeypatch):
    monkeypatch.setattr(sass, "find", lambda: None)
    with pytest.raises(MissingPieceError, match=r"(?s)sm_90: neither nvdisasm nor cuobjdump.*install"):
        disassemble(read_binary(cubin), "dot")


@pytest.mark.skipif(sass.find() is None, reason="needs nvdisasm or cuobjdump")
def test_sm_90_disassembles_where_the_tools_are(cubin):
    instructions = disassemble(read_binary(cubin), "dot")
    assert sum(i.mnemonic == "FFMA" for i in instructions) == 4
    assert isinstance(sass.find(), Path)


def test_scoreboards_are_read_from_nvidia_instruction_words(cubin):
    """`pick` begins with two loads of parameters on scoreboards 0 and 1; loads of what they point to wait for 1 and are waited for by 2."""
    text = read_binary(cubin).code("pick")
    used = [sass.scoreboards(text.data[i : i + 16]) for i in range(0, len(text.data), 16)]
    assert used[0] == Scoreboards(0, None, ())
    assert used[1] == Scoreboards(1, None, ())
    assert used[2].text == ""
    assert used[3] == Scoreboards(None, None, (0,))
    assert used[5].text == "result 2, waits 1"
    assert used[37] == Scoreboards(None, 1, (2,))  # a store: others may write its operands once it has read them
    assert used[37].text == "operands 1, waits 2"


@pytest.mark.skipif(sass.find() is None, reason="no disassembler of sm_ code")
def test_instructions_of_sm_code_know_their_scoreboards(cubin):
    code = read_binary(cubin)
    found = disassemble(code, "pick")
    assert len(found) == len(code.code("pick").data) // 16
    assert (found[5].mnemonic, found[5].scoreboards) == ("LDG.E", Scoreboards(2, None, (1,)))
