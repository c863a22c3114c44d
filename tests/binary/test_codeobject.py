"""Resources, arguments and code of AMDGPU code objects; and that a damaged file is always a CodeObjectError."""

from __future__ import annotations

import random
import struct

import pytest

from kgen.binary import read_binary, read_code_object
from kgen.errors import CodeObjectError, WrongArchError


def test_target_comes_from_the_header(sample):
    assert read_code_object(sample).arch == sample.name.split(".")[1]


def test_kernels_and_their_arguments(sample):
    code = read_code_object(sample)
    assert set(code.kernels) == {"axpy", "dot"}
    assert [(a.offset, a.size, a.kind) for a in code.kernels["axpy"].explicit_args] == [
        (0, 8, "global_buffer"),
        (8, 8, "global_buffer"),
        (16, 4, "by_value"),
        (20, 4, "by_value"),
    ]
    assert code.kernels["axpy"].args == code.kernels["axpy"].explicit_args, (
        "a kernel without headers has no hidden arguments"
    )


def test_resources(sample):
    code = read_code_object(sample)
    axpy, dot = code.kernels["axpy"], code.kernels["dot"]
    assert (axpy.lds_bytes, dot.lds_bytes) == (0, 512)
    assert (axpy.kernarg_bytes, dot.kernarg_bytes) == (24, 28)
    assert (axpy.max_flat_workgroup_size, dot.max_flat_workgroup_size) == (256, 128)
    assert {k.wave for k in (axpy, dot)} == {64 if code.arch.startswith("gfx9") else 32}
    for kernel in (axpy, dot):
        assert 0 < kernel.vgpr < 32
        assert 0 < kernel.sgpr < 32
        assert (kernel.agpr, kernel.scratch_bytes, kernel.vgpr_spills, kernel.sgpr_spills) == (0, 0, 0, 0)
        assert not kernel.dynamic_stack


def test_code_bytes_end_with_the_last_instruction(sample):
    """s_endpgm is the last word of both kernels, so no padding is counted."""
    code = read_code_object(sample)
    end = 0xBF810000 if code.arch.startswith("gfx9") else 0xBFB00000
    for symbol, kernel in code.kernels.items():
        text = code.code(symbol)
        assert kernel.code_bytes == len(text.data)
        assert struct.unpack("<I", text.data[-4:]) == (end,)


def test_bytes_and_path_read_the_same(sample):
    by_path, by_bytes = read_binary(sample), read_binary(sample.read_bytes(), "a name")
    assert by_path.kernels == by_bytes.kernels
    assert by_path.digest == by_bytes.digest
    assert by_path.size == sample.stat().st_size
    assert by_bytes.what == "a name"


def test_wrong_arch_names_both(sample):
    code = read_code_object(sample)
    code.require_arch(code.arch)
    with pytest.raises(WrongArchError, match=rf"{code.arch}.*gfx90a"):
        code.require_arch("gfx90a")


def test_missing_symbol_lists_the_kernels(sample):
    code = read_code_object(sample)
    for ask in (code.kernel, code.code):
        with pytest.raises(CodeObjectError, match=r"no kernel 'gemm'; it has: axpy, dot"):
            ask("gemm")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "an empty file"),
        (b"#!/bin/sh\n", "not an ELF file"),
        (b"__CLANG_OFFLOAD_BUNDLE__", "--no-gpu-bundle-output"),
        (b"\x7fELF", "truncated"),
        (b"\x7fELF\x01\x01" + bytes(60), "64-bit"),
    ],
)
def test_other_files_are_refused_in_words(data, says):
    with pytest.raises(CodeObjectError, match=says):
        read_binary(data)


def test_missing_file_is_a_code_object_error(tmp_path):
    with pytest.raises(CodeObjectError, match=r"gone\.hsaco: cannot be read: No such file"):
        read_binary(tmp_path / "gone.hsaco")


def test_other_machines_are_named(sample, cubin):
    host = bytearray(sample.read_bytes())
    host[18:20] = struct.pack("<H", 62)
    with pytest.raises(CodeObjectError, match="x86-64"):
        read_binary(bytes(host))
    with pytest.raises(CodeObjectError, match="NVIDIA CUDA"):
        read_code_object(cubin)


def test_unknown_target_is_named(sample):
    data = bytearray(sample.read_bytes())
    data[48] = 0xEE
    with pytest.raises(CodeObjectError, match=r"target number 0xee"):
        read_binary(bytes(data))


def test_header_and_metadata_must_name_one_target(sample):
    data = sample.read_bytes()
    other = b"gfx1100" if b"gfx1151" in data else b"gfx1151"
    mine = next(name for name in (b"gfx1151", b"gfx1100", b"gfx1201", b"gfx942", b"gfx950") if name in data)
    if len(other) != len(mine):
        other = b"gfx90a"
    with pytest.raises(CodeObjectError, match="its header says"):
        read_binary(data.replace(b"--" + mine, b"--" + other))


def test_stripped_metadata_is_said(sample):
    data = sample.read_bytes()
    with pytest.raises(CodeObjectError, match="no metadata"):
        read_binary(data.replace(b"AMDGPU\0", b"XXXGPU\0"))


def test_descriptor_and_metadata_must_agree(sample):
    """The 512 bytes of LDS stand in the descriptor too; a file that was patched in one place is refused."""
    data = bytearray(sample.read_bytes())
    at = data.find(b"group_segment_fixed_size\xcd\x02\x00") + len(b"group_segment_fixed_size\xcd")
    assert at > 100
    data[at : at + 2] = b"\x04\x00"
    with pytest.raises(CodeObjectError, match="LDS bytes of dot are 512 in the descriptor, 1024 in the metadata"):
        read_binary(bytes(data))


def test_truncation_at_every_length_is_found(sample):
    data = sample.read_bytes()
    for length in range(len(data)):
        with pytest.raises(CodeObjectError):
            read_binary(data[:length])


def test_a_flipped_bit_reads_or_raises_code_object_error(sample):
    """Every bit of the ELF header, one bit of every byte up to the end of the note, and random ones: nothing else may come out."""
    data = sample.read_bytes()
    rng = random.Random(sample.name)
    end_of_note = data.find(b"amdhsa.version") + 32
    places = [*range(8 * 64), *(8 * byte + rng.randrange(8) for byte in range(64, end_of_note))]
    places += [rng.randrange(8 * len(data)) for _ in range(1000)]
    for place in places:
        altered = bytearray(data)
        altered[place // 8] ^= 1 << place % 8
        try:
            code = read_binary(bytes(altered))
        except CodeObjectError:
            continue
        assert all(kernel.code_bytes <= len(data) for kernel in code.kernels.values())


def test_random_damage_reads_or_raises_code_object_error(sample):
    data = sample.read_bytes()
    rng = random.Random(1)
    for _ in range(800):
        altered = bytearray(data)
        for _ in range(rng.randrange(1, 30)):
            altered[rng.randrange(len(data))] = rng.randrange(256)
        altered[:4] = b"\x7fELF"
        try:
            read_binary(bytes(altered))
        except CodeObjectError:
            continue


@pytest.mark.hipcc
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_accumulation_registers_are_counted_in_the_unified_file(hip, arch):
    """What ArchVGPRs and AGPRs the compiler reports, the note holds as their sum, VGPRs rounded up to 4 first."""
    source = """
typedef float f16 __attribute__((ext_vector_type(16)));
typedef _Float16 h4 __attribute__((ext_vector_type(4)));
extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(64, 64))) void k(const h4* a, f16* o) {
  f16 s[18];
  for (int i = 0; i < 18; i++) s[i] = o[i];
  for (int j = 0; j < 100; j++)
    for (int i = 0; i < 18; i++) s[i] = __builtin_amdgcn_mfma_f32_32x32x8f16(a[j], a[j + i], s[i], 0, 0, 0);
  for (int i = 0; i < 18; i++) o[i] = s[i];
}
"""
    file, said = hip(source, arch, "-Rpass-analysis=kernel-resource-usage")
    remark = {key: int(said.split(f"  {key}: ")[1].split()[0]) for key in ("VGPRs", "AGPRs")}
    kernel = read_code_object(file).kernels["k"]
    assert remark["AGPRs"] > 0
    assert kernel.agpr == remark["AGPRs"]
    assert kernel.vgpr == -(-remark["VGPRs"] // 4) * 4 + remark["AGPRs"]
    assert kernel.vgpr > 256


@pytest.mark.hipcc
def test_spills_and_scratch_are_seen(hip):
    """A kernel held to 16 registers must spill; the note says how many and the scratch they take."""
    source = """
extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(64, 64), amdgpu_num_vgpr(16)))
void k(const float* x, float* y) {
  float v[40];
  unsigned t = __builtin_amdgcn_workitem_id_x();
  for (int i = 0; i < 40; i++) v[i] = x[i * 64 + t];
  for (int i = 0; i < 40; i++) for (int j = 0; j < 40; j++) y[(i * 40 + j) * 64 + t] = v[i] * v[j];
}
"""
    for arch in ("gfx1151", "gfx942"):
        kernel = read_code_object(hip(source, arch)[0]).kernels["k"]
        assert kernel.vgpr_spills > 0
        assert kernel.scratch_bytes >= 4 * 20
