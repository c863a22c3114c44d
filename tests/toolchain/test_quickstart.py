import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STDLIB_ONLY = (
    "quickstart.py",
    *(f"kgen/toolchain/{name}.py" for name in ("sources", "fetch", "deb", "archive")),
    "kgen/errors.py",
)


@pytest.fixture
def quickstart(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("quickstart", ROOT / "quickstart.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / ".venv").mkdir()
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv/stamp.json")
    monkeypatch.setattr(module, "gpu_extras", lambda: [])
    return module


@pytest.mark.parametrize("file", STDLIB_ONLY)
def test_what_runs_before_the_packages_are_there_needs_none(file):
    """Imports at the top and inside functions alike; kgen's own modules only where they are in this list."""
    allowed = set(sys.stdlib_module_names)
    own = {name.removesuffix(".py").replace("/", ".") for name in STDLIB_ONLY}
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{a.name}" if node.module == "kgen.toolchain" else node.module for a in node.names]
        else:
            continue
        for name in names:
            assert name.split(".")[0] in allowed or name in own, f"{file} imports {name}"


def test_ci_runs_the_two_commands_and_nothing_else():
    script = (ROOT / ".ci/run").read_text().splitlines()
    work = [line for line in script if line.strip() and not line.startswith(("#", "set ", "cd "))]
    assert sorted(work) == ["python3 quickstart.py demo", "python3 quickstart.py test"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_packages_are_installed_once_for_one_pyproject(quickstart, monkeypatch):
    ran = []
    monkeypatch.setattr(quickstart, "run", lambda title, command: ran.append(str(command[-1])))
    quickstart.install_packages("demo")
    quickstart.install_packages("demo")
    assert ran == [".[demo,emu]"]
    quickstart.install_packages("test")
    quickstart.install_packages("demo")
    assert ran == [".[demo,emu]", ".[demo,emu,test]"]
    (quickstart.ROOT / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    quickstart.install_packages("demo")
    assert len(ran) == 3


def test_an_installation_that_failed_is_not_taken_for_done(quickstart, monkeypatch):
    def fail(title, command):
        raise quickstart.StepFailedError("no network")

    monkeypatch.setattr(quickstart, "run", fail)
    for _ in range(2):
        with pytest.raises(quickstart.StepFailedError):
            quickstart.install_packages("demo")
    quickstart.STAMP.write_text("{half")
    assert quickstart.read_stamp() == {}


@pytest.mark.parametrize(("code", "ours"), [(1, 1), (2, 2), (3, 3), (-9, 1)])
def test_the_exit_code_of_a_step_is_passed_on(quickstart, code, ours):
    end = f"import os; os.kill(os.getpid(), {-code})" if code < 0 else f"raise SystemExit({code})"
    with pytest.raises(quickstart.StepFailedError) as caught:
        quickstart.run("a step", [sys.executable, "-c", end])
    assert caught.value.code == ours
    assert "a step: exit code" in str(caught.value)


def test_a_failed_step_does_not_hide_the_next_one(quickstart, monkeypatch):
    ran = []

    def run(title, command):
        ran.append(title)
        if command:
            raise quickstart.StepFailedError(f"{title} went wrong", command[0])

    monkeypatch.setattr(quickstart, "run", run)
    with pytest.raises(quickstart.StepFailedError, match="two went wrong\nthree went wrong") as caught:
        quickstart.do_all([("one", []), ("two", [3]), ("three", [1])], go_on=True)
    assert ran == ["one", "two", "three"]
    assert caught.value.code == 3
    ran.clear()
    with pytest.raises(quickstart.StepFailedError, match="two went wrong"):
        quickstart.do_all([("one", []), ("two", [3]), ("three", [1])], go_on=False)
    assert ran == ["one", "two"]


def test_pip_is_taken_from_the_machine_where_debian_put_it(quickstart, monkeypatch, tmp_path):
    wheels = tmp_path / "python-wheels"
    wheels.mkdir()
    (wheels / "pip-23.0.1-py3-none-any.whl").write_bytes(b"")
    real = quickstart.Path
    monkeypatch.setattr(
        quickstart, "Path", lambda path: wheels if str(path) == "/usr/share/python-wheels" else real(path)
    )
    assert quickstart.find_pip_wheel(tmp_path, None, None).name == "pip-23.0.1-py3-none-any.whl"


def test_an_unknown_command_is_refused_with_the_choices():
    run = subprocess.run([sys.executable, ROOT / "quickstart.py", "dance"], capture_output=True, text=True)
    assert run.returncode == 2
    assert "demo" in run.stderr
