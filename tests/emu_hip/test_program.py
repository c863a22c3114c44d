"""`kgen emu -- PROGRAM`, in processes of its own: somebody else's hip-python script finds a device."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.emu.compiler import compiled
from tests.emu_hip.conftest import ARCH, PROGRAMS, SOURCE

ROOT = Path(__file__).resolve().parents[2]


def kgen(*words: str, cwd: Path = ROOT, **settings: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("hip")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("KGEN_EMU", "KGEN_ARCH"))}
    env["PYTHONPATH"] = os.pathsep.join([*filter(None, [env.get("PYTHONPATH")]), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "kgen", *words], cwd=cwd, env=env | settings, capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "scale.hsaco"
    file.write_bytes(compiled(ARCH, SOURCE))
    return file


def script(folder: Path, text: str) -> str:
    file = folder / "program.py"
    file.write_text(text)
    return str(file)


@pytest.mark.hipcc
def test_a_program_as_hip_pythons_guide_has_them_runs_unchanged(image: Path) -> None:
    done = kgen("emu", "--counts", "--", str(PROGRAMS / "scale_vector.py"), str(image))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "ok: every value matches"), done.stderr
    assert "props.warpSize=32" in done.stdout
    assert "props.multiProcessorCount=20" in done.stdout
    assert "shared memory per block: 65536" in done.stdout
    assert done.stderr.startswith("scale: 1 launches, ")


@pytest.mark.hipcc
def test_the_target_is_chosen_and_the_programs_exit_code_handed_on(image: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.hsaco"
    other.write_bytes(compiled("gfx942", SOURCE))
    done = kgen("emu", "--arch", "gfx942", "--", str(PROGRAMS / "scale_vector.py"), str(other), "2")
    assert done.returncode == 2, done.stderr
    assert "props.warpSize=64" in done.stdout
    done = kgen("emu", str(PROGRAMS / "scale_vector.py"), str(image), KGEN_EMU_ARCH="gfx942")
    assert done.returncode == 1
    assert "RuntimeError: 209" in done.stderr  # hipErrorNoBinaryForGpu


@pytest.mark.hipcc
def test_a_kernel_that_does_not_end_is_stopped_by_ctrl_c(image: Path, tmp_path: Path) -> None:
    pytest.importorskip("hip")
    program = script(
        tmp_path,
        "import sys\nfrom hip import hip\n"
        "module = hip.hipModuleLoad(sys.argv[1].encode())[1]\n"
        "kernel = hip.hipModuleGetFunction(module, b'endless')[1]\n"
        "flag = hip.hipMalloc(4)[1]\nhip.hipMemset(flag, 0, 4)\nprint('launching', flush=True)\n"
        "print(hip.hipModuleLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, None, None, (flag,))[0].name, flush=True)\n"
        "import time\ntime.sleep(60)\n",
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)])}
    words = [sys.executable, "-m", "kgen", "emu", "--", program, str(image)]
    with subprocess.Popen(
        words, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "launching\n"
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=120)
    assert running.returncode == 130, err
    assert err.strip() == "kgen: stopped"


def test_arguments_path_and_module_are_the_programs_own(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("here = 'found'\n")
    program = script(tmp_path, "import sys, beside\nprint(__name__, sys.argv[1:], beside.here)\n")
    done = kgen("emu", "--", program, "--debug", "-x", "--", "y")
    assert done.stdout == "__main__ ['--debug', '-x', '--', 'y'] found\n", done.stderr
    done = kgen("emu", "--", "-m", "program", "z", cwd=tmp_path)
    assert done.stdout == "__main__ ['z'] found\n", done.stderr


def test_two_targets_are_two_devices(tmp_path: Path) -> None:
    program = script(tmp_path, "from hip import hip\nprint(int(hip.hipGetDeviceCount()[1]))\n")
    assert kgen("emu", "--arch", "gfx1151,gfx942", "--", program).stdout == "2\n"


def test_other_libraries_of_that_name_and_rocm_path_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libamdhip64.so").write_bytes(b"not even a library")
    program = script(tmp_path, "from hip import hip\nprint(hip.hipGetDeviceCount()[0].name)\n")
    lib = str(tmp_path / "lib")
    done = kgen("emu", "--", program, ROCM_PATH=str(tmp_path), ROCM_HOME=str(tmp_path), LD_LIBRARY_PATH=lib)
    assert done.stdout == "hipSuccess\n", done.stderr


def test_missing_functions_name_themselves_when_asked(tmp_path: Path) -> None:
    program = script(
        tmp_path, "from hip import hip\nprint(hip.hipDeviceGetLimit(hip.hipLimit_t.hipLimitStackSize)[0].name)\n"
    )
    quiet, talking = kgen("emu", "--", program), kgen("emu", "--verbose", "--", program)
    assert quiet.stdout == talking.stdout == "hipErrorNotSupported\n"
    assert quiet.stderr == ""
    assert "hipDeviceGetLimit" in talking.stderr


def test_an_exception_ends_with_its_traceback_and_a_missing_program_with_ours(tmp_path: Path) -> None:
    done = kgen("emu", "--", script(tmp_path, "raise ZeroDivisionError('mine')\n"))
    assert done.returncode == 1
    assert "ZeroDivisionError: mine" in done.stderr
    done = kgen("emu", "--", str(tmp_path / "none.py"))
    assert done.returncode == 1
    assert done.stderr.startswith("SpecError: no program to run")
    assert kgen("emu", "--arch", "sm_90", "--", script(tmp_path, "")).returncode == 1
