"""Compiled kernels read as they are: resources, occupancy, instructions, hot loops. Needs no GPU and no ROCm.

code = read_binary("k.hsaco")                      # or a .cubin
code.arch, code.kernels["k"].vgpr, code.code("k").data
report = isa_report(code, "k", multiply_pattern="v_(dual_)?dot2", multiplies_per_step=16, macs_per_step=32)
"""

from __future__ import annotations

from pathlib import Path

from kgen.binary.codeobject import CodeObject, KernelArg, KernelCode, KernelResources, read_bytes, read_code_object
from kgen.binary.cubin import read_cubin
from kgen.binary.elf import MACHINE_CUDA

__all__ = ["CodeObject", "KernelArg", "KernelCode", "KernelResources", "read_binary", "read_code_object", "read_cubin"]


def read_binary(source: bytes | str | Path, what: str = "") -> CodeObject:
    """Read a .hsaco or a .cubin, whichever it is; raises CodeObjectError for anything else."""
    data, what = read_bytes(source, what)
    if data[:4] == b"\x7fELF" and int.from_bytes(data[18:20], "little") == MACHINE_CUDA:
        return read_cubin(data, what)
    return read_code_object(data, what)
