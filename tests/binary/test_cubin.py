"""What cubins say; the expected figures are those that `ptxas -v` printed when small.cu was compiled (CUDA 13.0)."""

from __future__ import annotations

import random
import struct

import pytest

from kgen.binary import read_binary, read_cubin
from kgen.errors import CodeObjectError


def test_target_and_kernels(cubin):
    code = read_binary(cubin)
    assert code.arch == "sm_90"
    assert set(code.kernels) == {"axpy", "dot", "pick"}


def test_resources_are_what_ptxas_said(cubin):
    kernels = read_cubin(cubin).kernels
    assert {name: k.vgpr for name, k in kernels.items()} == {"axpy": 10, "dot": 20, "pick": 38}
    assert {name: k.lds_bytes for name, k in kernels.items()} == {"axpy": 0, "dot": 512, "pick": 0}
    assert {name: k.scratch_bytes for name, k in kernels.items()} == {"axpy": 0, "dot": 0, "pick": 288}
    assert {name: k.max_flat_workgroup_size for name, k in kernels.items()} == {"axpy": 256, "dot": 128, "pick": 1024}
    assert {k.wave for k in kernels.values()} == {32}


def test_spills_are_unknown_only_where_there_is_a_stack_frame(cubin):
    kernels = read_cubin(cubin).kernels
    assert {name: k.vgpr_spills for name, k in kernels.items()} == {"axpy": 0, "dot": 0, "pick": None}


def test_parameters_in_launch_order(cubin):
    pick = read_cubin(cubin).kernels["pick"]
    assert [(a.offset, a.size) for a in pick.args] == [(0, 8), (8, 20), (28, 1), (32, 4)]
    assert pick.kernarg_bytes == 36


def test_code_is_counted_without_the_nops_after_it(cubin):
    code = read_cubin(cubin)
    for symbol, kernel in code.kernels.items():
        text = code.code(symbol).data
        assert kernel.code_bytes == len(text)
        assert len(text) % 16 == 0
        assert struct.unpack("<H", text[-16:-14])[0] & 0xFFF == 0x947, "the branch to itself that ends every kernel"


def test_missing_symbol_lists_the_kernels(cubin):
    with pytest.raises(CodeObjectError, match="it has: axpy, dot, pick"):
        read_cubin(cubin).kernel("gemm")


def test_code_objects_of_amd_are_named(sample):
    with pytest.raises(CodeObjectError, match="AMDGPU, not a cubin"):
        read_cubin(sample)


def test_truncation_at_every_length_is_found(cubin):
    data = cubin.read_bytes()
    for length in range(len(data)):
        with pytest.raises(CodeObjectError):
            read_binary(data[:length])


def test_damage_reads_or_raises_code_object_error(cubin):
    data = cubin.read_bytes()
    rng = random.Random(0)
    for round_ in range(4000):
        altered = bytearray(data)
        for _ in range(1 if round_ % 2 else rng.randrange(1, 20)):
            altered[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        altered[:4] = b"\x7fELF"
        try:
            read_binary(bytes(altered))
        except CodeObjectError:
            continue
