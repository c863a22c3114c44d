"""What is said of a GPU's clocks, with what says it in the place of nvidia-smi."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgen.sweep.clocks import clock_state


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    return path


def test_clocks_are_those_of_the_device_that_is_used(tool, monkeypatch):
    tool.write_text('#!/bin/sh\ncase "$1" in --id=5) echo "1980, 2619, P0, 41, 0x0";; *) exit 1;; esac\n')
    tool.chmod(0o755)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert clock_state("nvidia", 0) == "sm 1980 MHz, mem 2619 MHz, P0, 41 C, throttle 0x0"
    assert clock_state("nvidia", 1) == "unknown"


def test_without_a_tool_or_with_one_that_says_nothing_they_are_unknown(tool):
    assert clock_state("nvidia") == "unknown"
    tool.write_text("#!/bin/sh\necho\n")
    tool.chmod(0o755)
    assert clock_state("nvidia") == "unknown"
    assert clock_state("amd", 99) == "unknown"


def test_clocks_of_an_amd_gpu_are_those_of_the_one_that_is_visible(tmp_path, monkeypatch):
    for card, mhz in enumerate((500, 2900)):
        folder = tmp_path / f"card{card}" / "device"
        folder.mkdir(parents=True)
        (folder / "pp_dpm_sclk").write_text(f"0: 300Mhz\n1: {mhz}Mhz *\n")
        (folder / "pp_dpm_mclk").write_text("0: 1000Mhz *\n")
    monkeypatch.setattr("kgen.sweep.clocks.Path", lambda _: tmp_path)
    monkeypatch.delenv("HIP_VISIBLE_DEVICES", raising=False)
    assert clock_state("amd", 0) == "core 500 MHz, mem 1000 MHz"
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    assert clock_state("amd", 0) == "core 2900 MHz, mem 1000 MHz"
