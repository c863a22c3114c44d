"""BERT's uncased tokeniser: words and punctuation, then the longest pieces that the vocabulary has.

Source: the tokenizer of the published BERT code (BasicTokenizer, WordpieceTokenizer). Compared with the `tokenizers` package, where that
is installed, in tests/demo/test_wordpiece.py.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

START, END, UNKNOWN = "[CLS]", "[SEP]", "[UNK]"
LONGEST_WORD = 100  # characters; a longer word is unknown
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPiece:
    """Text to token numbers. `vocabulary` lists the pieces in the order of their numbers; `##` marks the middle of a word."""

    def __init__(self, vocabulary: Sequence[str]):
        self.numbers = {piece: number for number, piece in enumerate(vocabulary)}

    def encode(self, text: str, longest: int = 512) -> list[int]:
        """Token numbers with the marks for start and end; at most `longest` of them."""
        pieces = [piece for word in split_words(text) for piece in self.pieces(word)]
        return [self.numbers[piece] for piece in (START, *pieces[: longest - 2], END)]

    def pieces(self, word: str) -> list[str]:
        """The word as pieces, longest first from the left; one unknown piece if it cannot be put together."""
        out: list[str] = []
        start = 0
        while start < len(word):
            mark = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if mark + word[start:end] in self.numbers), None)
            if end is None or len(word) > LONGEST_WORD:
                return [UNKNOWN]
            out.append(mark + word[start:end])
            start = end
        return out


def split_words(text: str) -> list[str]:
    """Lower-case words without accents; every punctuation mark and every ideograph is a word."""
    return "".join(_spaced(text)).split()


def _spaced(text: str) -> Iterator[str]:
    # ideographs are set apart before decomposition, which would change some of them
    apart = "".join(f" {char} " if _is_ideograph(char) else char for char in text)
    for char in unicodedata.normalize("NFD", apart.lower()):
        kind = unicodedata.category(char)
        if (
            kind == "Mn"
            or char == "\ufffd"
            or (kind in ("Cc", "Cf", "Co", "Cs") and char not in "\t\n\r")
            or char == "\0"
        ):
            continue
        yield f" {char} " if _is_punctuation(char, kind) else " " if char.isspace() else char


def _is_punctuation(char: str, kind: str) -> bool:
    """Unicode punctuation, and every ASCII sign that is no letter, digit or space."""
    return kind.startswith("P") or (char.isascii() and char.isprintable() and not char.isalnum() and char != " ")


def _is_ideograph(char: str) -> bool:
    return any(low <= ord(char) <= high for low, high in _IDEOGRAPHS)
