"""With a real compiler: each AMD target, each front door, the same bytes."""

import os
import subprocess

import pytest

from kgen.spec.arch import ARCHES
from kgen.toolchain import probe
from kgen.toolchain.find import engine_compilers, find_amd
from kgen.toolchain.prefix import installed

AMD = [name for name, facts in ARCHES.items() if facts.vendor == "amd"]
pytestmark = pytest.mark.hipcc


def compile_with(command, flavour, arch, folder):
    folder.mkdir()
    source, out = folder / "k.hip", folder / "k.hsaco"
    source.write_text(probe.PROBE)
    line = [*command, *probe.compile_flags(flavour, arch), str(source), "-o", str(out)]
    subprocess.run(line, env={**os.environ, "HIP_PLATFORM": "amd"}, check=True)
    return out.read_bytes()


@pytest.mark.parametrize("arch", AMD)
def test_every_amd_target_compiles_and_the_folder_leaves_no_trace(arch, tmp_path):
    tool = find_amd([arch])
    one = compile_with(tool.command, tool.flavour, arch, tmp_path / "one")
    two = compile_with(tool.command, tool.flavour, arch, tmp_path / "two and a longer name")
    assert one == two
    assert one[:4] == b"\x7fELF"


@pytest.mark.parametrize("arch", AMD)
def test_hipcc_and_clang_of_the_own_folder_make_the_same_bytes(arch, tmp_path):
    own = installed()
    if own is None or own.hipcc is None:
        pytest.skip("needs `kgen toolchain install`")
    one = compile_with([own.hipcc], "hipcc", arch, tmp_path / "hipcc")
    assert one == compile_with([own.clangxx], "clang", arch, tmp_path / "clang")


def test_the_own_c_compiler_builds_a_shared_library_on_a_bare_machine(tmp_path):
    if not engine_compilers():
        pytest.skip("needs `kgen toolchain install`")
    (tmp_path / "f.c").write_text("#include <stdint.h>\nuint32_t f(uint32_t x) { return x + 1; }\n")
    line = [*engine_compilers()[0], "-O2", "-shared", "-fPIC", "-nostdlib", "f.c", "-o", "f.so"]
    run = subprocess.run(line, cwd=tmp_path, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
