"""Logits judged as a language model would feel them: the rules, and a real model's output projection through the kernels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kgen.verify.logprobs import judge_logprobs, logprobs

RNG = np.random.default_rng(5)
LOGITS = 3 * RNG.standard_normal((200, 1000))


def test_the_same_logits_pass_exactly():
    verdict = judge_logprobs(LOGITS, LOGITS)
    assert (verdict.ok, verdict.top1, verdict.top5, verdict.nats) == (True, 1.0, 1.0, 0.0)


def test_logprobs_are_normalised_and_survive_large_logits():
    assert np.allclose(np.exp(logprobs(LOGITS + 5000)).sum(axis=-1), 1)


def test_a_shift_of_all_logits_changes_nothing():
    verdict = judge_logprobs(LOGITS + 2, LOGITS)
    assert verdict.ok
    assert verdict.nats < 1e-12


def test_two_of_a_hundred_rows_with_another_first_token_fail():
    wrong = LOGITS.copy()
    for row in range(4):
        wrong[row, wrong[row].argsort()[-2]] = wrong[row].max() + 1e-9
    verdict = judge_logprobs(wrong, LOGITS)
    assert verdict.top1 == 0.98
    assert not verdict.ok


def test_a_tie_for_the_first_place_is_no_other_token():
    tied = LOGITS.copy()
    tied[:, 0] = tied.max(axis=-1)
    assert judge_logprobs(tied, LOGITS).top1 == 1.0


def test_one_of_the_first_five_lost_in_every_third_row_fails():
    wrong = LOGITS.copy()
    for row in range(0, 200, 3):
        wrong[row, wrong[row].argsort()[-4]] = -20
    verdict = judge_logprobs(wrong, LOGITS)
    assert verdict.top5 < 0.95
    assert not verdict.ok


def test_a_hundredth_of_a_nat_is_the_limit_in_every_row():
    best = LOGITS.argmax(axis=-1)
    for shift, ok in ((0.009, True), (0.02, False)):
        wrong = LOGITS.copy()
        wrong[7, best[7]] += shift
        assert judge_logprobs(wrong, LOGITS).ok is ok


def test_nan_fails():
    wrong = LOGITS.copy()
    wrong[3, 3] = np.nan
    assert not judge_logprobs(wrong, LOGITS).ok


# ---- a real model: its word embeddings [30522, 384] as a tied output projection, its own hidden states


SENTENCE = "the wave of lanes reads every weight once"
CALLS = [  # family, element type of the logits, activation rows of one call
    ("wvsplitk", "bf16", 4),
    ("wvsplitk", "fp16", 4),
    ("llmm1", "bf16", 1),
    ("llmm1", "fp16", 1),
    ("wvsplitkrc", "bf16", 10),
    ("wvsplitkq", "bf16", 1),
    ("wvsplitkq", "fp16", 3),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Family -> build folder, each of them small."""
    pytest.importorskip("torch")
    from tests.ops.dense import build_dense
    from tests.ops.splitk import build_splitk
    from tests.ops.test_wvsplitkq import specs_on
    from tests.runtime.tiny import ARCH

    root = tmp_path_factory.mktemp("logprobs")
    dense = build_dense(root / "dense" / ARCH)
    scaled = build_dense(root / "gfx1201", {"wvsplitkq": specs_on("gfx1201")})
    return {"wvsplitk": dense, "llmm1": dense, "wvsplitkrc": build_splitk(root), "wvsplitkq": scaled}


@pytest.fixture(scope="module")
def projection() -> Iterator[tuple[object, object]]:
    """(hidden states [rows, 384], word embeddings [30522, 384]), fp32."""
    torch = pytest.importorskip("torch")
    from kgen.demo.checkpoint import load_checkpoint
    from kgen.demo.encoder import Encoder, torch_linear
    from kgen.demo.wordpiece import WordPiece
    from kgen.errors import MissingPieceError

    try:
        checkpoint = load_checkpoint()
    except MissingPieceError as error:
        pytest.skip(str(error))
    encoder = Encoder(checkpoint, torch.float32)
    with torch.no_grad():
        tokens = [WordPiece(checkpoint.vocabulary).encode(SENTENCE)]
        yield encoder.hidden(tokens, torch_linear), checkpoint.weights["embeddings.word_embeddings.weight"]


def quantised(values: Any) -> tuple[Any, Any]:
    """e4m3fn with a scale for the whole tensor."""
    import torch

    scale = values.float().abs().max() / 448
    return (values.float() / scale).to(torch.float8_e4m3fn), scale


@pytest.mark.hipcc
@pytest.mark.parametrize(("family", "dtype", "rows"), CALLS)
def test_a_real_models_next_tokens_are_those_of_exact_arithmetic(family, dtype, rows, folders, projection):
    import torch

    from kgen.ops.reference import linear_reference, scaled_linear_reference
    from kgen.runtime import session

    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    hidden, embeddings = (tensor.to(kind) for tensor in projection)
    hidden, op = hidden[: max(6, rows)], getattr(torch.ops.kgen, family)
    if family == "wvsplitkq":
        (hidden, hidden_scale), (embeddings, scale) = quantised(hidden), quantised(embeddings)
        calls = [(part, embeddings, hidden_scale, scale, None, kind) for part in hidden.split(rows)]
        exact = scaled_linear_reference(hidden, embeddings, hidden_scale, scale)
        references = {"rounded": exact.to(kind).double()}
    else:
        calls = [(part, embeddings) for part in hidden.split(rows) if len(part) == rows]
        hidden = hidden[: rows * len(calls)]
        exact = linear_reference(hidden, embeddings)
        torchs = torch.nn.functional.linear(hidden, embeddings)
        references = {"rounded": exact.to(kind).double(), "torch": torchs.double()}
    if dtype == "fp16":
        references["exact"] = exact
    session.load(folders[family], device="emu")
    try:
        out = torch.cat([op(*call) for call in calls])
        assert not [name for name in session.stats() if name.startswith("torch")]
    finally:
        session.unload()
    assert len(out) >= 4
    for name, reference in references.items():
        verdict = judge_logprobs(out.double().numpy(), reference.numpy())
        assert verdict.ok, f"against {name}: {verdict.words}"
