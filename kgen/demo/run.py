"""A real model's sentence embeddings through kgen, beside torch."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import kgen.ops  # noqa: F401 - registers the ops
from kgen.demo.checkpoint import Checkpoint, load_checkpoint
from kgen.demo.encoder import Encoder, torch_linear
from kgen.demo.linears import DTYPES, KgenLinears
from kgen.demo.report import DemoResult, DtypeResult, Similarity
from kgen.demo.wordpiece import WordPiece
from kgen.runtime import session

if TYPE_CHECKING:
    from kgen.runtime.driver import Kind
    from kgen.runtime.library import Library
    from kgen.spec.base import Dtype

SENTENCES = (  # 36 tokens: one call each of 1, 2, ... 8 rows
    "How long does the parcel take to Berlin?",
    "When will my small package arrive in Berlin?",
    "A wave streams weight rows; its lanes split the reduction.",
)
LINEARS_PER_LAYER = 6

Progress = Callable[[int, int, str], None]
"""(rows through linear layers so far, all of them, element type)."""


def run_demo(
    what: str | None = None,
    *,
    device: Kind | None = None,
    dtypes: Sequence[Dtype] = ("bf16", "fp16"),
    sentences: Sequence[str] = SENTENCES,
    progress: Progress | None = None,
    races: bool = True,
) -> DemoResult:
    """Embed the sentences with every linear layer through torch.ops.kgen.wvsplitk, and with torch, and compare.

    what, device   as kgen.load takes them
    races          in the emulator, also watch LDS for data races; accesses out of bounds always stop a kernel

    Raises MissingPieceError when the model is not installed or nothing is built, and what a launch raises: a fault stops the run.
    """
    checkpoint = load_checkpoint()
    library = session.load(what, device=device)
    place = library.driver.device
    tokeniser = WordPiece(checkpoint.vocabulary)
    tokens = [tokeniser.encode(text, checkpoint.config.max_position_embeddings) for text in sentences]
    count = sum(map(len, tokens))
    emulated = place.tensors == "cpu"
    watched = "every access to the byte, NaN in unwritten registers and LDS" + (", LDS races" if races else "")
    result = DemoResult(
        str(place), library.arch, watched if emulated else "none: the GPU runs free", list(sentences), count
    )
    plain = Encoder(checkpoint, torch.float32, place.torch_name).embed(tokens, torch_linear)
    total = count * LINEARS_PER_LAYER * checkpoint.config.num_hidden_layers * len(dtypes)
    counter = _Counter(total, progress)
    for dtype in dtypes:
        counter.what = dtype
        result.results.append(_one_pass(library, checkpoint, dtype, tokens, plain, counter, races))
    return result


class _Counter:
    """Adds up rows for a progress callback."""

    def __init__(self, total: int, progress: Progress | None):
        self.total, self.done, self.what, self.progress = total, 0, "", progress

    def add(self, rows: int) -> None:
        self.done += rows
        if self.progress:
            self.progress(self.done, self.total, self.what)


def _one_pass(
    library: Library,
    checkpoint: Checkpoint,
    dtype: Dtype,
    tokens: Sequence[Sequence[int]],
    plain: Tensor,
    counter: _Counter,
    races: bool,
) -> DtypeResult:
    encoder = Encoder(checkpoint, DTYPES[dtype], library.driver.device.torch_name)
    begun = time.monotonic()
    with torch.inference_mode(), _watching(library, races) as log:
        linears = KgenLinears(library, dtype, log, counter.add)
        ours = encoder.embed(tokens, linears)
        seconds = time.monotonic() - begun
        theirs = encoder.embed(tokens, torch_linear)
    picks = list(linears.picks.values())
    return DtypeResult(
        dtype=dtype,
        layers=list(linears.layers.values()),
        picks=picks,
        similarities=_similarities(ours, theirs, plain),
        to_torch=_smallest(ours, theirs),
        to_fp32=_smallest(ours, plain),
        torch_to_fp32=_smallest(theirs, plain),
        launches=sum(pick.calls for pick in picks if pick.kernel != "torch"),
        instructions=log.instructions if log is not None else None,
        seconds=seconds,
    )


@contextlib.contextmanager
def _watching(library: Library, races: bool) -> Iterator[Any]:
    """The emulator's log with its checks on; None on a GPU."""
    if library.driver.device.tensors != "cpu":
        yield None
        return
    from kgen.emu import Options
    from kgen.runtime.emu import emulation

    with emulation(Options(races=races)) as log:
        yield log


def _similarities(ours: Tensor, theirs: Tensor, plain: Tensor) -> list[Similarity]:
    pairs = itertools.combinations(range(len(ours)), 2)
    return [Similarity(i + 1, j + 1, *(float(set_[i] @ set_[j]) for set_ in (ours, theirs, plain))) for i, j in pairs]


def _smallest(a: Tensor, b: Tensor) -> float:
    return float((a.double() * b.double()).sum(dim=1).min())
