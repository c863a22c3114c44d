"""Instructions of a compiled kernel, by whichever disassembler this machine has.

    instructions = disassemble(read_binary("k.hsaco"), "k", tools)

AMD, in this order: libLLVM by its C API (in this process: 0.06 s once, then about 12 us an instruction), llvm-objdump (one process per code
object), the decoding tables of the tinygrad package (mnemonics and branch targets; operands in its own notation). NVIDIA: nvdisasm or
cuobjdump. All spell mnemonics alike; tests/binary/test_disassemble.py compares them.
`tools` is anything with attributes `libllvm` and `disassembler` (paths or None), such as kgen.toolchain's Toolchain.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from kgen.binary import llvm_c, tables
from kgen.binary.codeobject import CodeObject
from kgen.binary.instruction import Instruction, from_text
from kgen.errors import CodeObjectError, MissingPieceError

_OBJDUMP_LINE = re.compile(r"^\t(.*?)\s*// ([0-9A-F]+): ((?:[0-9A-F]{8} ?)+)")
_NVDISASM_LINE = re.compile(r"^\s*/\*([0-9a-f]+)\*/\s+(.*?)\s*;")
_NVDISASM_BRANCH = re.compile(r"BRA\S*\s+.*?(0x[0-9a-f]+)$")
_SECONDS = 60
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
        return [i for i in _nvidia(code, symbol) if i.address < text.address + len(text.data)]
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


def _backend(name: str, tools: Tools | None) -> Callable[[CodeObject, str], Sequence[Instruction]] | None:
    if name == "libllvm":
        library = getattr(tools, "libllvm", None)
        return (lambda code, symbol: _by_libllvm(Path(library), code, symbol)) if library else None
    if name == "objdump":
        objdump = getattr(tools, "disassembler", None)
        return (lambda code, symbol: _by_objdump(str(objdump), code, symbol)) if objdump else None
    if name == "tinygrad":
        return _by_tables if tables.installed() else None
    raise AssertionError(f"unknown disassembler {name!r}; there are {BACKENDS}")


def _by_libllvm(library: Path, code: CodeObject, symbol: str) -> list[Instruction]:
    text = code.code(symbol)
    return llvm_c.disassemble(library, code.arch, text.data, text.address)


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
    output = _run([objdump, "-d", "-z", "-"], whole.code.data)
    out = []
    for line in output.splitlines():
        match = _OBJDUMP_LINE.match(line)
        if match:
            address, size = int(match[2], 16), 4 * len(match[3].split())
            bad = match[1].startswith((".long", "<unknown>"))
            out.append(Instruction(address, "?", match[3], size) if bad else from_text(address, match[1], size))
    return tuple(out)


def _nvidia(code: CodeObject, symbol: str) -> list[Instruction]:
    """SASS by nvdisasm or cuobjdump; addresses count from the start of the function, as in the cubin."""
    tool = (
        shutil.which("nvdisasm") or shutil.which("cuobjdump") or _beside_nvcc("nvdisasm") or _beside_nvcc("cuobjdump")
    )
    if tool is None:
        raise MissingPieceError(
            f"no disassembler for {code.arch}: nvdisasm and cuobjdump are not on PATH; install the CUDA toolkit's binary utilities"
        )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code.data)
        file.flush()
        options = ["-c"] if Path(tool).name == "nvdisasm" else ["-sass"]
        output = _run([tool, *options, file.name])
    return parse_sass(output, symbol)


def parse_sass(text: str, symbol: str) -> list[Instruction]:
    """Instructions of one function in nvdisasm -c or cuobjdump -sass output. Predicates (@P0) stay in front of the operands."""
    out, inside = [], False
    for line in text.splitlines():
        if ".section\t.text." in line or (".text." in line and line.rstrip().endswith(":")):
            inside = f".text.{symbol}" in re.split(r"[\s,:]+", line)
        elif "Function :" in line:
            inside = line.split(":", 1)[1].strip() == symbol
        match = _NVDISASM_LINE.match(line) if inside else None
        if match:
            words = match[2].split(maxsplit=2 if match[2].startswith("@") else 1)
            guard = [words.pop(0)] if words[0].startswith("@") else []
            branch = _NVDISASM_BRANCH.search(match[2])
            out.append(
                Instruction(
                    int(match[1], 16),
                    words[0].lower(),
                    " ".join(guard + words[1:]),
                    16,
                    int(branch[1], 16) if branch else None,
                )
            )
    return out


def _beside_nvcc(name: str) -> str | None:
    nvcc = shutil.which("nvcc")
    file = Path(os.path.realpath(nvcc)).parent / name if nvcc else None
    return str(file) if file and file.exists() else None


def _run(command: list[str], stdin: bytes | None = None) -> str:
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingPieceError(f"{command[0]}: does not run ({error})") from error
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip()[-500:]
        raise MissingPieceError(f"{command[0]}: failed with {done.returncode}: {words or 'no message'}")
    return done.stdout.decode("utf-8", "replace")
