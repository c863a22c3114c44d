"""The tokeniser."""

from __future__ import annotations

import pytest

from kgen.demo.checkpoint import find_checkpoint
from kgen.demo.wordpiece import WordPiece, split_words
from kgen.errors import MissingPieceError

VOCABULARY = ("[CLS]", "[SEP]", "[UNK]", "kern", "##el", "##els", "a", ",", "中")
HARD = (
    "The weights stream from memory once.",
    "Émile's naïve café—costs $5.00 (or €4,50)! 中文字 test\tx_y  z\u200b\u00a0q",
    "unaffable Antidisestablishmentarianism xyzzy‑foo `code` ^~ |",
    "",
    " a\x00b\ufffd ÅÄÖ ﬁ ½ ① İstanbul ß ǅ",
    "한국어 텍스트 日本語 テキスト",
    "x" * 150,
)


def test_words_become_their_longest_pieces_between_the_marks():
    assert WordPiece(VOCABULARY).encode("A kernel, kernels") == [0, 6, 3, 4, 7, 3, 5, 1]


def test_a_word_that_cannot_be_put_together_is_unknown():
    assert WordPiece(VOCABULARY).pieces("kerning") == ["[UNK]"]


def test_a_long_text_is_cut_and_still_ended():
    assert WordPiece(VOCABULARY).encode("a " * 50, longest=5) == [0, 6, 6, 6, 1]


def test_accents_go_punctuation_and_ideographs_stand_alone():
    assert split_words("Café, x_y 中文") == ["cafe", ",", "x", "_", "y", "中", "文"]


@pytest.mark.parametrize("text", HARD)
def test_agrees_with_the_tokenizers_package(text: str):
    tokenizers = pytest.importorskip("tokenizers")
    try:
        folder = find_checkpoint()
    except MissingPieceError as error:
        pytest.skip(str(error))
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.no_padding()
    theirs.no_truncation()
    vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert WordPiece(vocabulary).encode(text) == theirs.encode(text).ids
