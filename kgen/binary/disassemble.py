"""Instructions of a compiled kernel, by whichever disassembler this machine has.

    instructions = disassemble(read_binary("k.hsaco"), "k", tools)

AMD, in this order: libLLVM by its C API (one helper process for all requests: 0.1 s once, then about 12 us an instruction), llvm-objdump
(one process per code object), the decoding tables of the tinygrad package (mnemonics and branch targets; operands in its own notation).
NVIDIA: nvdisasm or cuobjdump (see sass.py). All spell mnemonics alike; tests/binary/test_disassemble.py compares them.
`tools` is anything with attributes `libllvm` and `disassembler` (paths or None), such as kgen.toolchain's; optionally `preload`,
the libraries to load before libllvm.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from kgen.binary import llvm_c, sass, tables
from kgen.binary.codeobject import CodeObject
from kgen.binary.instruction import Instruction, from_text
from kgen.binary.process import run as run_tool
from kgen.errors import CodeObjectError, MissingPieceError

_OBJDUMP_LINE = re.compile(r"^\t(.*?)\s*// ([0-9A-F]+): ((?:[0-9A-F]{8} ?)+)")
BACKENDS = ("libllvm", "objdump", "tinygrad")


class Tools(Protocol):
    """What a toolchain must offer to be asked for disassembly."""

    @property
    def libllvm(self) -> Path | None:
        """Path of libLLVM.so, or None."""

    @property
    def disassembler(self) -> Path | None:
        """Path of llvm-objdump, or None."""


def disassemble(
    code: CodeObject, symbol: str, tools: Tools | None = None, backend: str | None = None
) -> list[Instruction]:
    """The instructions of one kernel, in address order, without the padding after it.

    `backend` forces one of BACKENDS. Raises CodeObjectError for a symbol the file lacks, MissingPieceError if no disassembler is here or
    the one that is here does not know the target.
    """
    text = code.code(symbol)
    if code.arch.startswith("sm_"):
        return [i for i in sass.disassemble(code, symbol) if i.address < text.address + len(text.data)]
    end = text.address + len(text.data)
    reasons = []
    for name in (backend,) if backend else BACKENDS:
        run = _backend(name, tools)
        if run is None:
            reasons.append(f"{name}: not here")
            continue
        try:
            out = run(code, symbol)
        except MissingPieceError as error:
            reasons.append(f"{name}: {error}")
            continue
        if not out or out[0].address != text.address or out[-1].address + out[-1].size != end:
            raise CodeObjectError(
                f"{code.what}: {name} does not cover {symbol}: altered, or code that {name} cannot follow"
            )
        return out
    raise MissingPieceError(
        f"no disassembler for {code.arch}:\n  "
        + "\n  ".join(reasons)
        + "\nThe cure: `kgen toolchain install` (brings libLLVM), or a ROCm's llvm-objdump, or `pip install tinygrad`"
    )


def available(tools: Tools | None = None) -> tuple[str, ...]:
    """The AMD backends that are here, best first (by presence; whether one knows a target shows when it is used)."""
    return tuple(name for name in BACKENDS if _backend(name, tools) is not None)


def _backend(name: str, tools: Tools | None) -> Callable[[CodeObject, str], list[Instruction]] | None:
    tools = getattr(tools, "llvm", tools)  # a toolchain holds its LLVM apart, with what must be loaded before it
    if name == "libllvm":
        library = getattr(tools, "libllvm", None)
        preload = tuple(getattr(tools, "preload", ()))
        return (lambda code, symbol: _by_libllvm(Path(library), preload, code, symbol)) if library else None
    if name == "objdump":
        objdump = getattr(tools, "disassembler", None)
        return (lambda code, symbol: _by_objdump(str(objdump), code, symbol)) if objdump else None
    if name == "tinygrad":
        return _by_tables if tables.installed() else None
    raise AssertionError(f"unknown disassembler {name!r}; there are {BACKENDS}")


def _by_libllvm(library: Path, preload: tuple[Path, ...], code: CodeObject, symbol: str) -> list[Instruction]:
    text = code.code(symbol)
    return llvm_c.disassemble(library, code.arch, text.data, text.address, preload)


def _by_tables(code: CodeObject, symbol: str) -> list[Instruction]:
    text = code.code(symbol)
    return tables.disassemble(code.arch, text.data, text.address)


def _by_objdump(objdump: str, code: CodeObject, symbol: str) -> list[Instruction]:
    text = code.code(symbol)
    end = text.address + len(text.data)
    return [i for i in _objdump(objdump, _Whole(code)) if text.address <= i.address < end]


class _Whole:
    """A code object as a cache key: equal when the files are."""

    def __init__(self, code: CodeObject):
        self.code = code

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Whole) and self.code.digest == other.code.digest

    def __hash__(self) -> int:
        return hash(self.code.digest)


@lru_cache(maxsize=4)
def _objdump(objdump: str, whole: _Whole) -> tuple[Instruction, ...]:
    """All instructions of a file, by one llvm-objdump process."""
    output = run_tool([objdump, "-d", "-z", "-"], whole.code.data)
    out = []
    for line in output.splitlines():
        match = _OBJDUMP_LINE.match(line)
        if match:
            address, size = int(match[2], 16), 4 * len(match[3].split())
            bad = match[1].startswith((".long", "<unknown>"))
            out.append(Instruction(address, "?", match[3], size) if bad else from_text(address, match[1], size))
    return tuple(out)
