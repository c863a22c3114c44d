import os
import stat
import subprocess
import sys

import pytest

from kgen.errors import ToolchainError
from kgen.toolchain import find
from kgen.toolchain.find import candidates, find_amd, find_llvm_tools, llvm_tools, rocm_folders
from kgen.toolchain.prefix import has_space

AMD_ELF = r"\177ELF" + r"\0" * 14 + r"\340\0" + r"\0" * 4  # e_machine 224


@pytest.fixture(autouse=True)
def bare_machine(tmp_path, monkeypatch):
    """No compiler anywhere: what a test adds is all there is."""
    for name in ("KGEN_HIPCC", *find.ROCM_VARIABLES, *find.OUTPUT_CHANGING_ENV):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("KGEN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(find, "ROCM_PACKAGES", ())
    monkeypatch.setattr(find, "rocm_folders", lambda opt: rocm_folders(tmp_path / "opt"))


def compiler(path, *, arches=("gfx1151",), version="22.1.8", log=None):
    """A pretended compiler: knows some targets, writes the start of an AMD code object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    asked = f'echo "$*" >> {log}' if log else ":"
    path.write_text(f"""#!/bin/sh
{asked}
case "$*" in *--version*) echo "clang version {version}"; echo "InstalledDir: {path.parent}"; exit 0;; esac
for a in "$@"; do case $a in --offload-arch=*) arch=${{a#--offload-arch=}};; esac; out=$a; done
case " {" ".join(arches)} " in *" $arch "*) printf '{AMD_ELF}' > "$out";; *)
  echo "warning: something else" >&2; echo "error: unsupported HIP gpu architecture: $arch" >&2; exit 1;; esac
""")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_an_empty_machine_is_told_the_cure():
    with pytest.raises(ToolchainError) as caught:
        find_amd(["gfx1151"])
    text = str(caught.value)
    assert "no compiler on this machine makes code for gfx1151" in text
    assert "kgen toolchain install" in text
    assert caught.value.exit_code == 2


def test_the_users_own_rocm_comes_first_and_debian_after(tmp_path, monkeypatch):
    places = [
        compiler(tmp_path / "mine/bin/hipcc"),
        compiler(tmp_path / "mine/lib/llvm/bin/clang++"),
        compiler(tmp_path / "opt/rocm/bin/hipcc"),
        compiler(tmp_path / "opt/rocm-10.0.0/bin/hipcc"),
        compiler(tmp_path / "opt/rocm-7.2.0/bin/hipcc"),
        compiler(tmp_path / "bin/hipcc"),
        compiler(tmp_path / "bin/clang++-22"),
        compiler(tmp_path / "bin/clang++-19"),
    ]
    monkeypatch.setenv("ROCM_PATH", str(tmp_path / "mine"))
    assert [candidate.command for candidate in candidates()] == places
    found = find_amd(["gfx1151"])
    assert (found.command, found.flavour, found.source) == ((str(places[0]),), "hipcc", "ROCM_PATH")


def test_a_setting_is_obeyed_or_refused_but_never_passed_over(tmp_path, monkeypatch):
    compiler(tmp_path / "bin/hipcc")
    other = compiler(tmp_path / "own/my-clang")
    monkeypatch.setenv("KGEN_HIPCC", str(other))
    assert find_amd(["gfx1151"]).command == (str(other),)
    assert find_amd(["gfx1151"]).flavour == "clang"
    monkeypatch.setenv("KGEN_HIPCC", str(tmp_path / "nothing"))
    with pytest.raises(ToolchainError, match=r"(?s)nothing \(KGEN_HIPCC\)\s+is not there.*unset it"):
        find_amd(["gfx1151"])


def test_a_compiler_is_passed_over_when_it_lacks_one_wanted_target(tmp_path):
    compiler(tmp_path / "bin/hipcc", arches=("gfx1151",), version="5.2")
    compiler(tmp_path / "bin/clang++-22", arches=("gfx1151", "gfx950"))
    assert find_amd(["gfx1151"]).flavour == "hipcc"
    assert find_amd(["gfx1151", "gfx950"]).flavour == "clang"
    with pytest.raises(ToolchainError) as caught:
        find_amd(["gfx1151", "gfx950", "gfx999"])
    text = str(caught.value)
    assert "makes code for gfx1151, gfx950, gfx999" in text
    assert "hipcc (PATH)\n      gfx950: error: unsupported HIP gpu architecture: gfx950; gfx999: error:" in text
    assert "clang++-22 (PATH)\n      gfx999: error: unsupported" in text


def test_verdicts_are_kept_until_the_compiler_changes(tmp_path):
    log = tmp_path / "log"
    path = compiler(tmp_path / "bin/hipcc", log=log)
    first = find_amd(["gfx1151"])
    asked = log.read_text().count("\n")
    assert find_amd(["gfx1151"]) == first
    assert log.read_text().count("\n") == asked
    compiler(path, arches=("gfx1151", "gfx942"), version="23.0.0", log=log)
    second = find_amd(["gfx1151", "gfx942"])
    assert log.read_text().count("\n") > asked
    assert second.identity != first.identity
    assert "23.0.0" in second.version


def test_a_refusal_is_kept_too(tmp_path):
    log = tmp_path / "log"
    compiler(tmp_path / "bin/hipcc", arches=(), log=log)
    for _ in range(2):
        with pytest.raises(ToolchainError, match="unsupported HIP gpu architecture"):
            find_amd(["gfx1151"])
    assert log.read_text().count("--offload-arch=gfx1151") == 1


def test_damaged_verdicts_are_asked_for_again(tmp_path):
    compiler(tmp_path / "bin/hipcc")
    first = find_amd(["gfx1151"])
    (tmp_path / "cache/compilers.json").write_text('{"schema": 1, "compilers": {"x": {"half')
    assert find_amd(["gfx1151"]) == first
    (tmp_path / "cache/compilers.json").write_text('{"schema": 1, "compilers": {"x": {"unknown": 1}}}')
    assert find_amd(["gfx1151"]) == first


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    compiler(tmp_path / "bin/hipcc")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KGEN_CACHE_DIR", str(tmp_path / "file"))
    assert find_amd(["gfx1151"]).version == "clang 22.1.8"


def test_hipcc_in_a_path_with_a_space_gives_way_to_clang(tmp_path, monkeypatch):
    compiler(tmp_path / "my rocm/bin/hipcc")
    clang = compiler(tmp_path / "my rocm/lib/llvm/bin/clang++")
    monkeypatch.setenv("ROCM_PATH", str(tmp_path / "my rocm"))
    assert find_amd(["gfx1151"]).command == (str(clang),)
    assert has_space(tmp_path / "my rocm")
    monkeypatch.setenv("KGEN_HIPCC", str(tmp_path / "my rocm/bin/hipcc"))
    with pytest.raises(ToolchainError, match="path with a space"):
        find_amd(["gfx1151"])


def test_output_that_is_no_amd_code_is_refused(tmp_path):
    path = compiler(tmp_path / "bin/hipcc")
    path.write_text(path.read_text().replace(r"\340", r"\076"))  # x86-64
    with pytest.raises(ToolchainError, match="not an AMD code object"):
        find_amd(["gfx1151"])


def test_a_file_that_is_not_a_program_is_refused_in_words(tmp_path, monkeypatch):
    (tmp_path / "text").write_text("words")
    monkeypatch.setenv("KGEN_HIPCC", str(tmp_path / "text"))
    with pytest.raises(ToolchainError, match="not an executable file"):
        find_amd(["gfx1151"])
    (tmp_path / "text").chmod(0o755)
    with pytest.raises(ToolchainError, match="cannot be started"):
        find_amd(["gfx1151"])


def test_the_identity_does_not_know_where_the_compiler_lies(tmp_path, monkeypatch):
    identities = []
    for place in ("one", "two"):
        monkeypatch.setenv("KGEN_HIPCC", str(compiler(tmp_path / place / "clang++")))
        identities.append(find_amd(["gfx1151"]).identity)
    assert identities[0] == identities[1]
    assert str(tmp_path) not in identities[0]


def test_environment_that_changes_the_output_changes_the_identity(tmp_path, monkeypatch):
    compiler(tmp_path / "bin/hipcc")
    plain = find_amd(["gfx1151"]).identity
    monkeypatch.setenv("HIPCC_COMPILE_FLAGS_APPEND", "-O0")
    assert find_amd(["gfx1151"]).identity != plain


def test_the_command_names_one_target_and_makes_a_raw_code_object(tmp_path):
    compiler(tmp_path / "bin/hipcc")
    tool = find_amd(["gfx1151"])
    line = tool.compile_command("gfx1151", "in.hip", "out.hsaco")
    assert line[0] == str(tmp_path / "bin/hipcc")
    assert line[1:] == [*tool.flags("gfx1151"), "in.hip", "-o", "out.hsaco"]
    assert {"--genco", "--offload-arch=gfx1151", "--no-gpu-bundle-output", "-fuse-cuid=none"} <= set(line)
    assert tool.env == {"HIP_PLATFORM": "amd"}


def test_rocm_versions_are_ordered_as_numbers(tmp_path):
    for name in ("rocm-7.2.0", "rocm-10.0.1", "rocm-7.10.0", "rocm"):
        (tmp_path / name).mkdir()
    assert [path.name for path in rocm_folders(tmp_path)] == ["rocm", "rocm-10.0.1", "rocm-7.10.0", "rocm-7.2.0"]


def test_libllvm_is_found_beside_its_programs_with_what_it_loads(tmp_path):
    assert llvm_tools([]).libllvm is None
    lib = tmp_path / "llvm/lib"
    lib.mkdir(parents=True)
    (tmp_path / "llvm/bin").mkdir()
    (tmp_path / "llvm/bin/llvm-objdump").write_text("")
    for name in ("libLLVM.so.22.1", "libicuuc.so.72", "libicudata.so.72", "libxml2.so.2"):
        (lib / name).write_text("")
    tools = llvm_tools([tmp_path / "llvm/bin"])
    assert tools.libllvm == lib / "libLLVM.so.22.1"
    assert tools.disassembler == tmp_path / "llvm/bin/llvm-objdump"
    assert [path.name for path in tools.preload] == ["libicudata.so.72", "libicuuc.so.72", "libxml2.so.2"]


def test_a_machine_without_llvm_has_no_disassembler():
    assert find_llvm_tools().libllvm is None


def test_a_known_compiler_is_found_without_starting_anything(tmp_path):
    compiler(tmp_path / "bin/hipcc")
    find_amd(["gfx1151"])
    script = (
        "import subprocess\n"
        "subprocess.Popen = None\n"
        "from kgen.toolchain.find import find_amd\n"
        "print(find_amd(['gfx1151']).version)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ))
    assert run.stdout == "clang 22.1.8\n", run.stderr
