import importlib.util
import subprocess

import pytest

from kgen.errors import ToolchainError
from kgen.toolchain import nvidia
from kgen.toolchain.find import find_toolchain
from kgen.toolchain.nvidia import find_nvidia, nvrtc_libraries

KERNEL = 'extern "C" __global__ void k(float* p) { p[threadIdx.x] = 2.0f; }\n'
ELF_CUDA = 190  # e_machine


@pytest.fixture
def bare_machine(tmp_path, monkeypatch):
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nvidia, "nvrtc_libraries", lambda: iter(()))
    real = nvidia.Path.is_dir
    monkeypatch.setattr(nvidia.Path, "is_dir", lambda self: str(self) != "/usr/local/cuda" and real(self))


def fake_nvcc(folder, codes="sm_80 sm_90"):
    path = folder / "bin/nvcc"
    path.parent.mkdir(parents=True)
    path.write_text(
        f'#!/bin/sh\ncase $1 in --version) echo "Cuda compilation tools, release 13.0, V13.0.88";; *) echo "{codes}";; esac\n'
    )
    path.chmod(0o755)
    return path


def test_a_machine_without_cuda_is_told_the_cure(bare_machine):
    with pytest.raises(ToolchainError, match=r"(?s)no compiler on this machine makes code for sm_90.*kgen\[cuda\]"):
        find_nvidia(["sm_90"])


def test_nvcc_is_found_and_told_to_write_a_cubin(bare_machine, tmp_path, monkeypatch):
    path = fake_nvcc(tmp_path / "cuda")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    tool = find_toolchain("sm_90")
    assert (tool.flavour, tool.version, tool.source) == ("nvcc", "nvcc 13.0.88", "CUDA_HOME")
    line = tool.compile_command("sm_90", "in.hip", "out.cubin")
    assert line[0] == str(path)
    assert {"-x", "cu", "--cubin", "-arch=sm_90"} <= set(line)


def test_a_target_that_nvcc_does_not_know_is_named(bare_machine, tmp_path, monkeypatch):
    fake_nvcc(tmp_path / "cuda", codes="sm_80")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    with pytest.raises(ToolchainError, match=r"(?s)nvcc \(CUDA_HOME\)\s+does not know sm_90"):
        find_nvidia(["sm_90"])


def test_a_library_that_cannot_be_loaded_is_refused_in_words(bare_machine, tmp_path, monkeypatch):
    broken = tmp_path / "libnvrtc.so.13"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(nvidia, "nvrtc_libraries", lambda: iter([(broken, "wheel")]))
    with pytest.raises(ToolchainError, match="cannot be loaded"):
        find_nvidia(["sm_90"])


@pytest.mark.skipif(importlib.util.find_spec("nvidia") is None, reason="needs the wheel nvidia-cuda-nvrtc (extra cuda)")
def test_nvrtc_compiles_in_a_process_of_its_own(tmp_path):
    if not any(True for _ in nvrtc_libraries()):
        pytest.skip("needs the wheel nvidia-cuda-nvrtc (extra cuda)")
    tool = find_nvidia(["sm_90"])
    assert tool.flavour == "nvrtc"
    source, out = tmp_path / "k.hip", tmp_path / "k.cubin"
    source.write_text(KERNEL)
    assert subprocess.run(tool.compile_command("sm_90", source, out)).returncode == 0
    assert int.from_bytes(out.read_bytes()[18:20], "little") == ELF_CUDA
    source.write_text(KERNEL.replace("2.0f", "oops"))
    failed = subprocess.run(tool.compile_command("sm_90", source, tmp_path / "none"), capture_output=True, text=True)
    assert failed.returncode == 1
    assert 'identifier "oops" is undefined' in failed.stderr
    assert not (tmp_path / "none").exists()
