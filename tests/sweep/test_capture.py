"""What a program calls is what the shape file says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from kgen.spec.shapes import parse_shapes

PROGRAM = """
import sys, torch
from torch import nn
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32, bias=False)).to(torch.bfloat16)
with torch.inference_mode():
    for rows in (1, 1, 1, 5):
        model(torch.randn(1, rows, 64, dtype=torch.bfloat16))
    torch.nn.functional.linear(torch.randn(2, 8), torch.randn(16, 8))
    torch.randn(4, 7) @ torch.randn(7, 3)
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("code", [0, 5])
def test_the_layers_of_a_program_become_a_shape_file(tmp_path, code):
    (tmp_path / "model.py").write_text(PROGRAM, encoding="utf-8")
    out = tmp_path / "mine.toml"
    command = [
        sys.executable,
        "-m",
        "kgen",
        "shapes",
        "capture",
        "-o",
        str(out),
        "--",
        str(tmp_path / "model.py"),
        str(code),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    layers = {(layer.M, layer.K) for layer in parse_shapes(out)}
    assert layers == {(128, 64), (32, 128), (16, 8), (3, 7)}
    text = out.read_text(encoding="utf-8")
    assert "bfloat16; 1 rows 3 times, 5 rows 1 times" in text
    assert "activation rows 1, 2, 4, 5" in done.stderr


def test_a_captured_file_can_be_swept(tmp_path, capsys):
    from kgen.cli.main import main

    out = tmp_path / "mine.toml"
    out.write_text('schema = 1\nmodel = "m"\nsource = "s"\n[[layer]]\nname = "a"\nM = 128\nK = 64\n', encoding="utf-8")
    assert main(["sweep", "wvsplitk", "--arch", "gfx1151", "--shapes", str(out), "-N", "1", "--plan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == 1


def test_kgens_own_ops_are_seen(tmp_path):
    import torch

    import kgen.ops  # noqa: F401 - registers the ops
    from kgen.sweep.capture import Called, capturing

    with torch.inference_mode(), capturing() as log, pytest.raises(Exception, match="no kernels are loaded"):
        torch.ops.kgen.wvsplitk(torch.randn(2, 64).half(), torch.randn(8, 64).half())
    assert log.calls == {Called(8, 2, 64, "float16"): 1}
