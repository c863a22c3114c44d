"""`kgen bench host`: the parts are measured, and kernels run again afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kgen.cli.main import main
from tests.emu_hip.conftest import Hip
from tests.runtime.conftest import built, clean_environment
from tests.runtime.tiny import ARCH

__all__ = ["built", "clean_environment"]


@pytest.mark.hipcc
def test_the_host_cost_is_measured_with_nothing_run(
    built: Path, api: Hip, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KGEN_BUILD_DIR", str(built.parent))
    assert main(["bench", "host", "--arch", ARCH, "--calls", "10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["us"]) == {"bare", "driver", "plan", "op", "empty"}
    assert all(value > 0 for value in found["us"].values())
    assert found["bar_us"] == 6
    assert api.runtime.execute(True) is True
    assert main(["bench", "host", "--arch", ARCH, "--calls", "10"]) == 0
    assert "kgen's hip driver" in capsys.readouterr().out


def test_without_a_build_the_command_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGEN_BUILD_DIR", str(tmp_path))
    assert main(["bench", "host", "--arch", ARCH]) == 2
