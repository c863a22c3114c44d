"""What the tests of kgen.binary share: samples kept in git, and a compiler where there is one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kgen.errors import ToolchainError
from tests.binary.samples import AMD, DATA


@pytest.fixture(params=AMD)
def sample(request) -> Path:
    """small.hip compiled for one of the five targets."""
    return DATA / f"small.{request.param}.hsaco"


@pytest.fixture
def cubin() -> Path:
    """small.cu compiled for sm_90."""
    return DATA / "small.sm_90.cubin"


@pytest.fixture(scope="session")
def toolchain():
    """An AMD compiler for all five targets, or skip."""
    from kgen.toolchain.find import find_amd

    try:
        return find_amd(AMD)
    except ToolchainError as error:
        pytest.skip(f"no AMD compiler here: {str(error).splitlines()[0]}")


@pytest.fixture(scope="session")
def hip(toolchain, tmp_path_factory) -> Callable[..., tuple[Path, str]]:
    """compile(source, arch, *options) -> (code object, what the compiler said); each pair is compiled once."""
    folder, done = tmp_path_factory.mktemp("hip"), {}

    def compile_one(source: str, arch: str, *options: str) -> tuple[Path, str]:
        key = (source, arch, options)
        if key not in done:
            file = folder / f"{len(done)}.hip"
            file.write_text(source)
            out = file.with_suffix(".hsaco")
            command = [*toolchain.compile_command(arch, file, out), *options]
            run = subprocess.run(
                command,
                env=os.environ | toolchain.env,
                capture_output=True,
                text=True,
                check=False,
            )
            assert run.returncode == 0, run.stderr
            done[key] = out, run.stderr
        return done[key]

    return compile_one


@pytest.fixture(scope="session")
def libllvm():
    """The disassembly tools of a compiler that has a shared LLVM, or skip. Nothing is compiled for it."""
    from kgen.toolchain.find import AmdToolchain, find_amd, find_llvm_tools

    tools = find_llvm_tools()
    if tools.libllvm is None:
        try:
            found = find_amd(AMD)
        except ToolchainError:
            found = None
        tools = found.llvm if isinstance(found, AmdToolchain) else tools
    if tools.libllvm is None:
        pytest.skip("no libLLVM here: `kgen toolchain install` brings one")
    return tools
