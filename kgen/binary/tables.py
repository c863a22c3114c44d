"""The last resort of disassembly: the instruction tables of the tinygrad package (extra `emu`), pure Python.

Good for mnemonics, sizes and branch targets. Operands are in its own notation. About 0.1 ms for an instruction not seen before.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from functools import lru_cache
from typing import Any

from kgen.binary.instruction import Instruction, branch_target, canonical
from kgen.errors import MissingPieceError

_LONGEST = 20  # bytes of the longest instruction, with its literal
# formats that tinygrad's own decoder leaves out
_EXTRA = {"rdna3": ("MUBUF",), "rdna4": ("VBUFFER",), "cdna": ()}
# names that its tables spell unlike LLVM
_LLVM_NAME = {"v_accvgpr_write": "v_accvgpr_write_b32", "v_accvgpr_read": "v_accvgpr_read_b32"}


def installed() -> bool:
    """True if the tinygrad package is here (it is not imported)."""
    return importlib.util.find_spec("tinygrad") is not None


def family(arch: str) -> str:
    """tinygrad's name of the instruction set; raises MissingPieceError for a target it has no tables of."""
    for pattern, name in ((r"gfx11", "rdna3"), (r"gfx120", "rdna4"), (r"gfx9(4|5)", "cdna")):
        if re.match(pattern, arch):
            return name
    raise MissingPieceError(
        f"tinygrad has no instruction tables of {arch}; `kgen toolchain install` brings libLLVM, which has"
    )


def disassemble(arch: str, data: bytes, address: int) -> list[Instruction]:
    """All instructions of `data`, which begins at `address`; unknown bytes become "?" of 4 bytes. Raises MissingPieceError."""
    name, at, out = family(arch), 0, []
    while at < len(data):
        instruction = _decode(name, data[at : at + _LONGEST].ljust(_LONGEST, b"\0"))
        if instruction is None:
            size, mnemonic, operands = 4, "?", data[at : at + 4].hex()
        else:
            size, mnemonic, operands = instruction.size(), _mnemonic(instruction), _operands(instruction)
        out.append(
            Instruction(address + at, mnemonic, operands, size, branch_target(mnemonic, operands, address + at, size))
        )
        at += size
    return out


@lru_cache(maxsize=1)
def _decoder() -> Any:
    try:
        return importlib.import_module("tinygrad.renderer.amd")
    except ImportError as error:
        raise MissingPieceError(
            f"this tinygrad has no AMD instruction tables ({error}); `pip install -U tinygrad`"
        ) from error


@lru_cache(maxsize=4)
def _extra_formats(name: str) -> tuple[Any, ...]:
    module = importlib.import_module(f"tinygrad.runtime.autogen.amd.{name}.ins")
    return tuple(getattr(module, each) for each in _EXTRA[name] if hasattr(module, each))


@lru_cache(maxsize=1 << 14)
def _decode(name: str, data: bytes) -> Any | None:
    decoder = _decoder()
    try:
        return decoder.decode_inst(data, name)
    except ValueError:
        for extra in _extra_formats(name):
            if decoder._matches(data, extra):
                return extra.from_bytes(data)
    return None


def _mnemonic(instruction: Any) -> str:
    kind = type(instruction).__name__
    if hasattr(instruction, "opx"):
        return canonical(instruction.opx.name)
    suffix = "_sdwa" if "SDWA" in kind else "_dpp" if "DPP" in kind else ""
    name = canonical(instruction.op.name)
    name = _LLVM_NAME.get(name, name)
    return name if name.endswith(suffix) else name + suffix


def _operands(instruction: Any) -> str:
    inner = repr(instruction).partition("(")[2].rpartition(")")[0]
    if hasattr(instruction, "opy"):
        return f"{inner} :: {canonical(instruction.opy.name)} "
    return inner
