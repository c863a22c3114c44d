"""Exit codes, and how errors are shown."""

from __future__ import annotations

import subprocess
import sys

import pytest

import kgen
from kgen.cli.main import main
from kgen.errors import BuildError, MissingPieceError, SpecError
from tests.cli.conftest import Run

HEAVY = ("torch", "numpy", "jinja2", "pydantic", "rich", "tinygrad", "hip", "cuda")


def modules_after(code: str) -> set[str]:
    """Names of top-level modules that a fresh Python has imported after `code`."""
    program = (
        f"import sys\n{code}\nprint(' '.join(sorted(name.partition('.')[0] for name in sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_importing_kgen_imports_nothing_heavy():
    assert not modules_after("import kgen") & set(HEAVY)


def test_help_imports_nothing_heavy():
    assert not modules_after("from kgen.cli.main import main\nassert main(['--help']) == 0") & set(HEAVY)


def test_dispatch_explain_imports_no_torch_and_renders_nothing():
    words = "['dispatch', 'explain', 'wvsplitk', '--arch', 'gfx1151', 'M=4096', 'K=2048', 'N=1']"
    found = modules_after(f"from kgen.cli.main import main\nassert main({words}) == 0")
    assert not found & {"torch", "numpy", "jinja2", "rich"}


def test_python_m_kgen_is_kgen():
    done = subprocess.run([sys.executable, "-m", "kgen", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, f"kgen {kgen.__version__}")


def test_every_command_has_help_in_words(run: Run):
    listed = run("--help")
    assert listed.code == 0
    commands = [line.split()[0] for line in listed.out.partition("Commands:")[2].splitlines() if line.startswith("  ")]
    assert {"build", "check", "dispatch", "doctor", "isa", "render", "report", "run", "toolchain"} <= set(commands)
    for name in ("build", "check", "isa", "bench", "run"):
        assert "--help" in run(name, "--help").out


@pytest.mark.parametrize(
    "words", [("nonsense",), ("build", "--nonsense"), ("build", "--jobs", "many"), ("isa",), ("dispatch", "explain")]
)
def test_words_that_make_no_sense_are_your_input(run: Run, words: tuple[str, ...]):
    ran = run(*words)
    assert ran.code == 1
    assert "Error" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("error", "code"), [(SpecError("bad"), 1), (MissingPieceError("none"), 2), (BuildError("3"), 3)]
)
def test_errors_print_their_message_alone_and_end_with_their_code(run: Run, monkeypatch, error, code):
    def fail(*_):
        raise error

    monkeypatch.setattr("kgen.cli.shapes.show.print_json", fail)
    ran = run("shapes", "list", "minilm", "--json")
    assert ran.code == code
    assert ran.err == f"{type(error).__name__}: {error}\n"


def test_a_folder_that_cannot_be_made_is_this_machine_and_no_traceback(run: Run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KGEN_BUILD_DIR", str(tmp_path / "file" / "below"))
    ran = run("build", "--arch", "gfx1151")
    assert ran.code == 2
    assert str(tmp_path / "file") in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("package", "cure"), [("numpy", 'pip install "kgen[emu]"'), ("strange", "pip install strange")]
)
def test_a_package_that_is_not_installed_is_this_machine_and_has_a_cure(run: Run, monkeypatch, package, cure):
    def fail(*_):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr("kgen.cli.shapes.show.print_json", fail)
    ran = run("shapes", "list", "minilm", "--json")
    assert ran.code == 2
    assert f"needs the package {package}" in ran.err
    assert cure in ran.err


def test_debug_shows_where_an_error_comes_from():
    with pytest.raises(SpecError):
        main(["shapes", "list", "no-such-model", "--debug"])


def test_ctrl_c_ends_cleanly(run: Run, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("kgen.cli.shapes.show.print_json", stop)
    ran = run("shapes", "list", "minilm", "--json")
    assert ran.code == 130
    assert ran.err.strip() == "kgen: stopped"
