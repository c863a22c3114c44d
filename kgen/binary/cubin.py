"""NVIDIA cubins as they are: target, kernels, registers, shared memory, stack, parameters, instruction bytes. No GPU, no CUDA.

NVIDIA documents the ELF container only through its tools; the attribute numbers (EIATTR_*) are those that `cuobjdump -elf` prints by
name. They were read off files of CUDA 13.0 made here and compared with what `ptxas -v` says (tests/binary/test_cubin.py).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

from kgen.binary.codeobject import CodeObject, KernelArg, KernelCode, KernelResources, read_bytes
from kgen.binary.elf import MACHINE_AMDGPU, MACHINE_CUDA, STT_FUNC, Elf, machine_name

_INFO = ".nv.info"
_MAX_THREADS, _CBANK_PARAM_SIZE, _KPARAM_INFO, _FRAME_SIZE, _MIN_STACK_SIZE, _REGCOUNT = (
    0x05,
    0x19,
    0x17,
    0x11,
    0x12,
    0x2F,
)
_FORMAT_SIZED = 4  # attribute with a size and that many bytes; other formats carry two bytes in place
_OSABI_CUDA13 = 0x41  # from then on the SM number is in bits 8..15 of e_flags; before, in bits 0..7
_NOP_OPCODE, _INSTRUCTION_BYTES = 0x918, 16  # sm_70 and later: 12-bit opcode, 16-byte instructions
_SYSTEM_SHARED = 1024  # the CUDA runtime's own share, which the .nv.shared section of sm_90 and later counts in


def read_cubin(source: bytes | str | Path, what: str = "") -> CodeObject:
    """Read a cubin from a path or from its bytes; `what` names it in messages.

    `lds_bytes` is static shared memory, `scratch_bytes` the stack frame per thread; spills are 0 without a stack frame and else None:
    the file does not tell spills from local arrays. Raises CodeObjectError as kgen.binary.codeobject.read_code_object does.
    """
    data, what = read_bytes(source, what)
    elf = Elf(data, what)
    if elf.machine != MACHINE_CUDA:
        hint = "; read it with kgen.binary.codeobject" if elf.machine == MACHINE_AMDGPU else ""
        raise elf.error(f"made for {machine_name(elf.machine)}, not a cubin{hint}")
    number = elf.flags >> 8 & 0xFF if elf.os_abi == _OSABI_CUDA13 else elf.flags & 0xFF
    if not 70 <= number <= 130:
        raise elf.error(f"target number {number} is not an sm_ that kgen knows (70 and later)")
    symbols = _symbol_table(elf)
    if not any(section.name == _INFO for section in elf.sections):
        raise elf.error("no metadata: section .nv.info is missing; was it stripped, or not linked?")
    per_symbol = _per_symbol(elf, symbols)
    kernels, codes = {}, {}
    for section in elf.sections:
        if section.name.startswith(_INFO + "."):
            kernel, code = _kernel(elf, section.name[len(_INFO) + 1 :], per_symbol, number)
            kernels[kernel.symbol], codes[kernel.symbol] = kernel, code
    return CodeObject(f"sm_{number}", kernels, hashlib.sha256(data).hexdigest(), len(data), codes, what, data)


def _symbol_table(elf: Elf) -> list[str]:
    """Symbol names by their number, which the attributes use; unnamed ones are empty."""
    table = next((s for s in elf.sections if s.name == ".symtab"), None)
    if table is None or table.link >= len(elf.sections):
        raise elf.error("altered: it has no symbol table")
    raw, strings = elf.contents(table), elf.contents(elf.sections[table.link])
    names = []
    for at in range(0, len(raw) - 23, 24):
        start = int.from_bytes(raw[at : at + 4], "little")
        names.append(strings[start : max(strings.find(b"\0", start), start)].decode("utf-8", "replace"))
    return names


def _attributes(elf: Elf, name: str) -> Iterator[tuple[int, bytes]]:
    """(attribute, payload) of one .nv.info section."""
    section = next((s for s in elf.sections if s.name == name), None)
    raw, at = (elf.contents(section) if section else b""), 0
    while at + 4 <= len(raw):
        kind, attribute, value = struct.unpack_from("<BBH", raw, at)
        at += 4
        if kind != _FORMAT_SIZED:
            yield attribute, struct.pack("<H", value)
            continue
        if at + value > len(raw):
            raise elf.error(f"altered: an attribute in {name} reaches past its section")
        yield attribute, raw[at : at + value]
        at += value


def _per_symbol(elf: Elf, symbols: list[str]) -> dict[tuple[int, str], int]:
    """(attribute, function) -> value, from the file-wide .nv.info."""
    out = {}
    for attribute, payload in _attributes(elf, _INFO):
        if attribute in (_REGCOUNT, _FRAME_SIZE, _MIN_STACK_SIZE) and len(payload) == 8:
            index, value = struct.unpack("<II", payload)
            if index >= len(symbols):
                raise elf.error(f"altered: an attribute names symbol {index} of {len(symbols)}")
            out[attribute, symbols[index]] = value
    return out


def _kernel(
    elf: Elf, name: str, per_symbol: dict[tuple[int, str], int], number: int
) -> tuple[KernelResources, KernelCode]:
    function = elf.symbol(name)
    if function.type != STT_FUNC or function.section >= len(elf.sections):
        raise elf.error(f"altered: {name} is not a function")
    if (_REGCOUNT, name) not in per_symbol:
        raise elf.error(f"altered: no register count for {name}")
    text = elf.contents(elf.sections[function.section])
    if function.value + function.size > len(text):
        raise elf.error(f"altered: {name} reaches past its section")
    code = _without_padding(text[function.value : function.value + function.size])
    parameter_bytes, max_threads, args = 0, 1024, []
    for attribute, payload in _attributes(elf, f"{_INFO}.{name}"):
        if attribute == _CBANK_PARAM_SIZE:
            parameter_bytes = int.from_bytes(payload, "little")
        elif attribute == _MAX_THREADS and len(payload) == 12:
            x, y, z = struct.unpack("<III", payload)
            max_threads = min(x * y * z, 1024)
        elif attribute == _KPARAM_INFO and len(payload) == 12:
            _, ordinal, offset, bits = struct.unpack("<IHHI", payload)
            args.append((ordinal, KernelArg("", offset, bits >> 18, "by_value")))
    shared = next((s.size for s in elf.sections if s.name == f".nv.shared.{name}"), 0)
    stack = max(per_symbol.get((_MIN_STACK_SIZE, name), 0), per_symbol.get((_FRAME_SIZE, name), 0))
    kernel = KernelResources(
        symbol=name,
        vgpr=per_symbol[_REGCOUNT, name],
        agpr=0,
        sgpr=0,
        lds_bytes=max(0, shared - _SYSTEM_SHARED) if number >= 90 else shared,
        scratch_bytes=stack,
        vgpr_spills=0 if stack == 0 else None,
        sgpr_spills=0 if stack == 0 else None,
        kernarg_bytes=parameter_bytes,
        wave=32,
        max_flat_workgroup_size=max_threads,
        code_bytes=len(code),
        args=tuple(arg for _, arg in sorted(args, key=lambda pair: pair[0])),
    )
    return kernel, KernelCode(function.value, code)


def _without_padding(code: bytes) -> bytes:
    """The code up to the last instruction that is no NOP: functions are filled up with them to 128 bytes."""
    end = len(code) // _INSTRUCTION_BYTES * _INSTRUCTION_BYTES
    while (
        end
        and int.from_bytes(code[end - _INSTRUCTION_BYTES : end - _INSTRUCTION_BYTES + 2], "little") & 0xFFF
        == _NOP_OPCODE
    ):
        end -= _INSTRUCTION_BYTES
    return code[:end]
