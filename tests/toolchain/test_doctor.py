import subprocess
import sys

from kgen.toolchain.doctor import checks


def test_a_machine_without_anything_is_described_and_not_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("KGEN_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("ROCM_PATH", "ROCM_HOME", "HIP_PATH", "KGEN_HIPCC", "KGEN_CC"):
        monkeypatch.delenv(name, raising=False)
    found = checks()
    names = {check.name for check in found}
    assert {"AMD compiler", "NVIDIA compiler", "tinygrad", "C compiler", "torch", "cache", "KGEN_ARCH"} <= names
    for check in found:
        assert check.state in ("ok", "missing", "optional")
        assert check.found
        if check.state == "missing":
            assert check.cure, check.name
    own = next(check for check in found if check.name == "kgen's own compiler")
    assert own.state == "optional"
    assert own.cure == "kgen toolchain install"


def test_settings_are_listed_with_their_values(monkeypatch):
    monkeypatch.setenv("KGEN_ARCH", "gfx942")
    monkeypatch.delenv("KGEN_BUILD_DIR", raising=False)
    listed = {check.name: check.found for check in checks() if check.group == "settings"}
    assert listed["KGEN_ARCH"] == "gfx942"
    assert listed["KGEN_BUILD_DIR"].startswith("unset: ")


def test_torch_is_not_imported_unless_asked():
    script = "import sys; from kgen.toolchain.doctor import checks; checks(); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr
