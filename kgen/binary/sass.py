"""Instructions of sm_ kernels, by NVIDIA's own nvdisasm or cuobjdump (there is no open disassembler of this code).

They come with the CUDA toolkit's binary utilities, and with the triton package that torch brings along on CUDA. What they do not print, which
scoreboards an instruction uses, is read from its bytes: the control field of instruction words since Volta, as Jia, Maggioni, Staiger and
Scarpazza published it (Dissecting the NVIDIA Volta GPU Architecture via Microbenchmarking, 2018).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from kgen.binary.codeobject import CodeObject
from kgen.binary.instruction import Instruction, Scoreboards
from kgen.binary.process import run
from kgen.errors import MissingPieceError

_SIZE = 16  # bytes of every instruction since sm_70
_LINE = re.compile(r"^\s*/\*([0-9a-f]+)\*/\s+(.*?)\s*;")
_LABEL = re.compile(r"^(\.L\w+):")
_JUMP = re.compile(r"BRA\b.*?(?:`\((\.L\w+)\)|(0x[0-9a-f]+))$")
_TOOLS = ("nvdisasm", "cuobjdump")
_RESULT, _OPERANDS, _WAITS = 110, 113, 116  # first bits of an instruction's fields; 7 in one of the first two: none
_SCOREBOARDS = 6


def disassemble(code: CodeObject, symbol: str) -> list[Instruction]:
    """One kernel's instructions; addresses count from the function's start, as in the cubin. Raises MissingPieceError."""
    tool = find()
    if tool is None:
        raise MissingPieceError(
            f"no disassembler for {code.arch}: neither nvdisasm nor cuobjdump is on PATH, beside nvcc or in the triton package;"
            " install the CUDA toolkit's binary utilities, or `pip install triton`"
        )
    found = parse(_listing(str(tool), code.digest, code.data), symbol)
    text = code.code(symbol)
    words = ((each, text.data[each.address - text.address :][:_SIZE]) for each in found)
    return [dataclasses.replace(each, scoreboards=scoreboards(word)) for each, word in words]


def scoreboards(word: bytes) -> Scoreboards:
    """What an instruction word of 16 bytes says of scoreboards."""
    bits = int.from_bytes(word, "little")
    result, operands = (number if (number := bits >> first & 7) != 7 else None for first in (_RESULT, _OPERANDS))
    return Scoreboards(result, operands, tuple(i for i in range(_SCOREBOARDS) if bits >> (_WAITS + i) & 1))


def find() -> Path | None:
    """nvdisasm, else cuobjdump: on PATH, beside nvcc, in the usual CUDA folder, in the triton package."""
    nvcc = shutil.which("nvcc")
    folders = [Path(os.path.realpath(nvcc)).parent] if nvcc else []
    folders.append(Path("/usr/local/cuda/bin"))
    triton = importlib.util.find_spec("triton")
    if triton is not None and triton.submodule_search_locations:
        folders += [Path(place) / "backends/nvidia/bin" for place in triton.submodule_search_locations]
    for name in _TOOLS:
        places = [shutil.which(name), *(folder / name for folder in folders)]
        for place in places:
            if place and os.access(place, os.X_OK):
                return Path(place)
    return None


def parse(listing: str, symbol: str) -> list[Instruction]:
    """Instructions of one function in what `nvdisasm -c` or `cuobjdump -sass` prints. A guard (@P0) stays in front of the operands."""
    lines: list[tuple[int, str]] = []
    labels: dict[str, int] = {}
    inside, waiting = False, []
    for line in listing.splitlines():
        if line.startswith((".text.", "\t.section\t")):
            inside = line.rstrip().rstrip(":") == f".text.{symbol}"
        elif "Function :" in line:
            inside = line.split(":", 1)[1].strip() == symbol
        if label := _LABEL.match(line):
            waiting.append(label[1])
        match = _LINE.match(line) if inside else None
        if match:
            address = int(match[1], 16)
            labels.update(dict.fromkeys(waiting, address))
            waiting = []
            lines.append((address, match[2]))
    return [_instruction(address, text, labels) for address, text in lines]


def _instruction(address: int, text: str, labels: dict[str, int]) -> Instruction:
    words = text.split(maxsplit=2 if text.startswith("@") else 1)
    guard = [words.pop(0)] if text.startswith("@") else []
    jump = _JUMP.search(text)
    target = None
    if jump:
        target = labels.get(jump[1]) if jump[1] else int(jump[2], 16)
    return Instruction(address, words[0], " ".join(guard + words[1:]), _SIZE, target)


@lru_cache(maxsize=4)
def _listing(tool: str, digest: str, data: bytes) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(data)
        file.flush()
        options = ["-c"] if Path(tool).name == "nvdisasm" else ["-sass"]
        return run([tool, *options, file.name])
