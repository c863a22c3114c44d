"""The demonstration, with one short sentence."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from kgen.demo.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from kgen.demo.encoder import Encoder, torch_linear
from kgen.demo.linears import LayerResult, PickResult, parts_of
from kgen.demo.report import DemoResult, DtypeResult, Similarity
from kgen.demo.wordpiece import WordPiece
from kgen.errors import MissingPieceError
from kgen.spec.problem import GemmShape
from kgen.verify.accuracy import Verdict
from tests.cli.conftest import ARCH, Run
from tests.cli.conftest import run as run  # the fixture

SENTENCE = "a wave of lanes"
LAYERS = ((384, 384), (1536, 384), (384, 1536))


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """The real model."""
    try:
        return load_checkpoint()
    except MissingPieceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels that the table picks for one sentence, and no others."""
    from kgen.build import build
    from kgen.dispatch import load_table, pick
    from kgen.spec.problem import GemmShape
    from kgen.toolchain.find import find_amd

    try:
        tools = find_amd([ARCH])
    except MissingPieceError as error:
        pytest.skip(str(error))
    table = load_table("wvsplitk", ARCH)
    answers = [pick(table, GemmShape(M, N, K), "bf16") for M, K in LAYERS for N in (1, 2, 3)]
    specs = {answer.kernel: answer.spec for answer in answers if answer.spec}
    folder = tmp_path_factory.mktemp("demo")
    assert not build(specs.values(), arch=ARCH, folder=folder / ARCH, tools=tools).failed
    return folder


def test_rows_come_in_parts_of_one_to_eight():
    sizes = [part.stop - part.start for part in parts_of(40)]
    assert sizes == [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 1]
    assert parts_of(0) == []


def test_sentences_of_one_meaning_are_near_and_others_far(checkpoint: Checkpoint):
    tokens = [
        WordPiece(checkpoint.vocabulary).encode(text) for text in ("A dog runs.", "The dog is running.", "Tax law")
    ]
    near, far = _cosines(Encoder(checkpoint, torch.float32).embed(tokens, torch_linear))
    assert near > 0.8 > 0.3 > far


def _cosines(embeddings: torch.Tensor) -> tuple[float, float]:
    return float(embeddings[0] @ embeddings[1]), float(embeddings[0] @ embeddings[2])


def test_embeddings_are_those_of_the_transformers_package(checkpoint: Checkpoint):
    transformers = pytest.importorskip("transformers")
    numbers = WordPiece(checkpoint.vocabulary).encode(SENTENCE)
    ours = Encoder(checkpoint, torch.float32).embed([numbers], torch_linear)[0]
    model = transformers.BertModel.from_pretrained(str(find_checkpoint())).eval()
    with torch.no_grad():
        theirs = model(torch.tensor([numbers])).last_hidden_state[0].mean(dim=0)
    # two fp32 evaluations of one 6-layer network; measured: 1.6e-7
    torch.testing.assert_close(ours, theirs / theirs.norm(), atol=2e-6, rtol=0)


def test_a_missing_model_is_this_machine_and_has_a_cure(run: Run, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ran = run("run", "demo", "--arch", ARCH)
    assert ran.code == 2
    assert 'pip install "kgen[demo]"' in ran.err


def test_an_unknown_element_type_is_your_input(run: Run):
    ran = run("run", "demo", "--arch", ARCH, "--dtype", "fp8")
    assert ran.code == 1
    assert "'fp8'" in ran.err


def test_a_demonstration_without_a_build_says_what_to_build(
    run: Run, checkpoint: Checkpoint, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("KGEN_BUILD_DIR", str(tmp_path))
    ran = run("run", "demo", "--arch", ARCH)
    assert ran.code == 2
    assert f"kgen build --arch {ARCH}" in ran.err


@pytest.mark.hipcc
@pytest.mark.skipif(sys.platform != "linux", reason="the emulator's memory map is Linux's")
def test_every_linear_layer_of_a_real_model_is_within_tolerance(run: Run, checkpoint, built: Path, monkeypatch):
    monkeypatch.setenv("KGEN_BUILD_DIR", str(built))
    words = ("run", "demo", "--arch", ARCH, "--device", "emu", "--dtype", "bf16", "--sentence", SENTENCE)
    ran = run(*words, "--json")
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    (bf16,) = result["results"]
    assert result["ok"]
    assert len(bf16["layers"]) == 36
    assert all(layer["ok"] and layer["nearest"] <= 1 for layer in bf16["layers"])
    assert {pick["shape"]["N"] for pick in bf16["picks"]} == {1, 2, 3}
    assert bf16["instructions"] > 0
    assert bf16["to_torch"] > 0.9999


def made_up(verdict: Verdict) -> DemoResult:
    """A result of one layer, as a run would give it."""
    layer = LayerResult("bf16", 3, "query", 384, 384, 1, 384, 380, 381, 0.5, [verdict])
    pick = PickResult("bf16", GemmShape(384, 1, 384), "wvsplitk_bf16_N1_X", 6, "default, not measured", 1, 36576)
    similar = [Similarity(1, 2, 0.5, 0.5, 0.5)]
    one = DtypeResult("bf16", [layer], [pick], similar, 0.99, 0.98, 0.97, 1, 36576, 0.1)
    return DemoResult("a device", ARCH, "everything", ["one", "two"], 9, [one])


def test_what_is_printed_names_kernels_errors_and_similarities(run: Run, monkeypatch):
    result = made_up(Verdict(True, 1e-3, 1e-4, 2e-3, "worst 0.50 of the tolerance"))
    monkeypatch.setattr("kgen.demo.run.run_demo", lambda *_, **__: result)
    ran = run("run", "demo", "--arch", ARCH)
    assert ran.code == 0
    for words in (
        "wvsplitk_DTYPE_N1_X",
        "row 6: default",
        "98.96%",
        "36,576 wave instructions",
        "all within tolerance",
    ):
        assert words in ran.out


def test_a_layer_beyond_its_tolerance_is_named_and_fails_the_run(run: Run, monkeypatch):
    result = made_up(Verdict(False, 1.0, 0.1, 2e-3, "500 x the tolerance at (0, 0)"))
    monkeypatch.setattr("kgen.demo.run.run_demo", lambda *_, **__: result)
    ran = run("run", "demo", "--arch", ARCH)
    assert ran.code == 1
    assert "WRONG" in ran.out
    assert "bf16 layer 3 query: 500 x the tolerance" in ran.err
