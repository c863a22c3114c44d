"""kgen pack."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.ops.pack.checkpoints import NAMES, moe_config, moe_model, write, write_kind
from tests.ops.pack.test_bitsandbytes import CONFIG, model


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_kind(tmp_path / "in", "awq", shards=2)


def test_a_checkpoint_is_packed_with_progress_and_checked(run: Run, source: Path, tmp_path: Path):
    out = tmp_path / "out"
    ran = run("pack", str(source), str(out))
    assert ran.code == 0
    assert "1 of 1" in ran.err
    assert "3 layers packed, 4 other tensors copied" in ran.out
    head, first, second, _ = ran.out.splitlines()
    assert head.split() == ["layers", "E", "M", "K", "group", "row", "words", "zeros", "layer"]
    assert sorted([first.split(), second.split()]) == [
        ["1", "-", "16", "1024", "128", "160", "no", "model.layers.*.mlp.down_proj"],
        ["2", "-", "16", "1024", "128", "160", "yes", "model.layers.*.self_attn.q_proj"],
    ]
    ran = run("pack", str(source), str(out), "--check")
    assert ran.code == 0
    assert "3 layers" in ran.out
    assert "bit for bit" in ran.out


def test_json_has_one_object_per_layer(run: Run, source: Path, tmp_path: Path):
    words = ("pack", str(source), str(tmp_path / "out"), "--json")
    keys = {"name", "M", "K", "group", "row_stride", "E"}
    planned = json.loads(run(*words, "--dry-run", "--no-pad").out)
    assert {row["name"] for row in planned} == set(NAMES)
    assert all(row.keys() == keys and row["row_stride"] == 128 for row in planned)
    rows = json.loads(run(*words).out)
    assert all(row.keys() == keys | {"symmetric"} and row["row_stride"] == 160 for row in rows)
    assert json.loads(run(*words, "--check").out) == {"layers": 3, "copied": 4, "equal": True}


def test_a_dry_run_writes_nothing(run: Run, source: Path, tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))
    ran = run("pack", str(source), str(tmp_path / "out"), "--dry-run")
    assert ran.code == 0
    assert "awq: 3 layers would be packed, 4 other tensors copied; 1 file" in ran.out
    assert sorted(tmp_path.rglob("*")) == before


def test_experts_are_stacked_on_request(run: Run, tmp_path: Path):
    source = write(tmp_path / "in", moe_model("gptq"), moe_config("gptq"))
    rows = json.loads(run("pack", str(source), str(tmp_path / "a"), "--stack-experts", "--json").out)
    assert {(row["E"], row["M"], row["K"]) for row in rows} == {(3, 32, 64), (3, 64, 64)}
    apart = ("--stack-experts", "--no-fuse-gate-up", "--json")
    rows = json.loads(run("pack", str(source), str(tmp_path / "b"), *apart).out)
    assert sorted(row["name"].rsplit(".", 1)[1] for row in rows[:3]) == ["down_proj", "gate_proj", "up_proj"]


def test_layers_of_bitsandbytes_have_columns_of_their_own(run: Run, tmp_path: Path):
    words = ("pack", str(write(tmp_path / "in", model(), CONFIG)), str(tmp_path / "out"))
    planned = json.loads(run(*words, "--dry-run", "--json").out)
    ran = run(*words)
    assert ran.code == 0
    assert "3 layers packed, 4 other tensors copied" in ran.out
    head, *lines = ran.out.splitlines()[:3]
    assert head.split() == ["layers", "M", "K", "blocksize", "code", "nested", "layer"]
    assert ["2", "16", "1024", "64", "nf4", "yes", "model.layers.*.self_attn.q_proj"] in [
        line.split() for line in lines
    ]
    rows = json.loads(run(*words, "--force", "--json").out)
    assert sorted(rows, key=lambda row: row["name"]) == sorted(planned, key=lambda row: row["name"])
    assert json.loads(run(*words, "--check", "--json").out) == {"layers": 3, "copied": 4, "equal": True}


def test_a_folder_that_is_full_is_replaced_with_force(run: Run, source: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("x")
    for more in ((), ("--dry-run",)):
        ran = run("pack", str(source), str(out), *more)
        assert ran.code == 1
        assert "is not empty" in ran.err
    assert run("pack", str(source), str(out), "--force").code == 0
    assert not (out / "mine").exists()


def test_input_that_cannot_be_packed_ends_with_1(run: Run, source: Path, tmp_path: Path):
    ran = run("pack", str(tmp_path / "none"), str(tmp_path / "out"))
    assert (ran.code, ran.err.partition(":")[0]) == (1, "PackError")
    assert run("pack", str(source), str(tmp_path / "out"), "--gptq-wrap", "other").code == 1
    assert run("pack", str(source), str(source), "--check").code == 1


def test_a_missing_package_ends_with_2_and_its_cure(run: Run, source: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    ran = run("pack", str(source), str(tmp_path / "out"))
    assert ran.code == 2
    assert 'pip install "kgen[pack]"' in ran.err
