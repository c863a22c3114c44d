"""Asks LLVM's disassembler, from a libLLVM that lies beside a compiler, for instructions; llvm_worker.py runs it, one process for all requests.

A toolchain folder that is not on the loader's path also carries the libraries that libLLVM needs (z3, xml2, icu, edit ...). They are
loaded first; the loader then finds them by name.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path

from kgen.binary.instruction import Instruction, from_text
from kgen.errors import CodeObjectError, MissingPieceError

_CURE = "`kgen toolchain install` brings one that can"


def disassemble(path: Path, arch: str, data: bytes, address: int, preload: tuple[Path, ...] = ()) -> list[Instruction]:
    """All instructions of `data`, which begins at `address`; bytes that are no instruction become "?" of 4 bytes.

    preload   libraries to load before libLLVM, in that order; default: those that lie beside it
    Raises MissingPieceError if libLLVM cannot be loaded or does not know the target, CodeObjectError if it crashes on the code.
    """
    # the process is part of the key: a forked child must not talk to its parent's worker
    worker = _worker(os.getpid(), path, preload)
    out, at = [], 0
    for size, text in worker.ask(arch, address, data):
        if text:
            out.append(from_text(address + at, text, size))
        else:
            out.append(Instruction(address + at, "?", data[at : at + size].hex(), size))
        at += size
    return out


@lru_cache(maxsize=4)
def _worker(_: int, path: Path, preload: tuple[Path, ...]) -> _Worker:
    return _Worker(path, preload or _beside(path.parent))


def _beside(folder: Path) -> tuple[Path, ...]:
    """The libraries that libLLVM may need, where they lie in its own folder; in the order in which they need each other."""
    names = (
        "libmd.so.*",
        "libbsd.so.*",
        "libedit.so.*",
        "libicudata.so.*",
        "libicuuc.so.*",
        "libxml2.so.*",
        "libz3.so.*",
    )
    return tuple(file for name in names for file in sorted(folder.glob(name))[:1])


class _Worker:
    """One llvm_worker process and its pipes; started anew after a crash."""

    def __init__(self, path: Path, preload: tuple[Path, ...]):
        program = str(Path(__file__).with_name("llvm_worker.py"))
        self._command = [sys.executable, "-I", "-S", program, str(path), *map(str, preload)]
        self._path = path
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(self, arch: str, address: int, data: bytes) -> list[tuple[int, str]]:
        """(bytes, text) of each instruction."""
        with self._lock:
            alive = self._process is not None and self._process.poll() is None
            process = self._process if alive and self._process else self._start()
            try:
                return self._ask(process, arch, address, data)
            except (OSError, ValueError) as error:
                self._stop(process)
                raise CodeObjectError(
                    f"{self._path} crashed on code of {arch} at {address:#x}: the code is altered"
                ) from error

    def _ask(self, process: subprocess.Popen[bytes], arch: str, address: int, data: bytes) -> list[tuple[int, str]]:
        assert process.stdin is not None, "it is a pipe"
        assert process.stdout is not None, "it is a pipe"
        process.stdin.write(b"%s %d %d\n" % (arch.encode(), address, len(data)) + data)
        process.stdin.flush()
        if process.stdout.readline() != b"known\n":
            self._stop(process)
            raise MissingPieceError(f"{self._path}: knows no target {arch}; {_CURE}")
        count = int(process.stdout.readline())
        out = []
        for _ in range(count):
            size, _, text = process.stdout.readline().decode("latin-1").partition("\t")
            out.append((int(size), text.strip()))
        return out

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise MissingPieceError(f"{self._command[0]}: cannot be started as a disassembler ({error})") from error
        assert process.stdout is not None, "it is a pipe"
        said = process.stdout.readline().decode("utf-8", "replace").strip()
        if said != "ready":
            self._stop(process)
            raise MissingPieceError(f"{self._path}: cannot be used as a disassembler ({said or 'it crashed'}); {_CURE}")
        self._process = process
        return process

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        self._process = None
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def __del__(self) -> None:
        # ends the worker when the last reference goes; at interpreter exit its input ends anyway
        process = self.__dict__.get("_process")
        if process is not None and process.returncode is None:
            with contextlib.suppress(Exception):
                self._stop(process)
