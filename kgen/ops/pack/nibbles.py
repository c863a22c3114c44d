"""Eight 4-bit codes in an int32 word: the two orders in use, and turning a matrix of them by 90 degrees without unpacking it.

plain     value i of a word at bit 4 * i
shuffled  value i at bit 4 * (i // 2) + 16 * (i % 2): from the lowest bits v0 v2 v4 v6 | v1 v3 v5 v7, so that `(word >> 4 * p) & 0x000F000F` is the
          pair v(2p), v(2p + 1), one in each half of a register. ExLlama's order along K, and AWQ's order along M.

Everything works on words as they are, on any device; 4-bit codes are spread to bytes only where a caller wants bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor

PER_WORD = 8
SHUFFLE = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which value lies at nibble 0, 1, ... of a shuffled word."""
_SLAB_WORDS = (
    1 << 20
)  # words that `turn` works on at a time: fewer leave too short runs to write, more fall out of the cache (measured: least time of 2^17 to 2^24)


def shuffle(words: Tensor) -> Tensor:
    """Plain words int32, any shape -> the same values in shuffled order, a new tensor."""
    return _swap(_swap(words, 4, 0x00F000F0), 8, 0x0000FF00)


def unshuffle(words: Tensor) -> Tensor:
    """The inverse of `shuffle`."""
    return _swap(_swap(words, 8, 0x0000FF00), 4, 0x00F000F0)


def _swap(words: Tensor, distance: int, low: int) -> Tensor:
    """Exchange the bits of `low` with those `distance` above them. An arithmetic shift's copies of the sign never reach `low`."""
    differ = (words >> distance).bitwise_xor_(words).bitwise_and_(low)
    return (differ << distance).bitwise_xor_(differ).bitwise_xor_(words)


def transposed(matrix: Tensor) -> Tensor:
    """[R, C] -> [C, R], copied, with the strides of a new tensor: `.t().contiguous()` leaves odd ones where a size is 1."""
    return torch.empty(matrix.shape[::-1], dtype=matrix.dtype, device=matrix.device).copy_(matrix.t())


def unpack_words(words: Tensor, order: tuple[int, ...] = SHUFFLE) -> Tensor:
    """Words int32 [..., C] -> codes uint8 [..., 8 * C], 0 to 15."""
    codes = torch.empty((*words.shape, PER_WORD), dtype=torch.uint8, device=words.device)
    for nibble, value in enumerate(order):
        codes[..., value] = (words >> 4 * nibble).bitwise_and_(15)
    return codes.flatten(-2)


def pack_words(codes: Tensor, order: tuple[int, ...] = SHUFFLE) -> Tensor:
    """Codes uint8 [..., 8 * C], 0 to 15, -> words int32 [..., C]."""
    values = codes.unflatten(-1, (-1, PER_WORD))
    words = values[..., order[0]].to(torch.int32)
    for nibble, value in enumerate(order[1:], start=1):
        words |= values[..., value].to(torch.int32) << 4 * nibble
    return words


def unpack_columns(words: Tensor, rows: int) -> Tensor:
    """Plain words int32 [..., ceil(rows / 8), C], packed along the second last dimension, -> codes uint8 [..., rows, C]."""
    shape = (*words.shape[:-1], PER_WORD, words.shape[-1])
    codes = torch.empty(shape, dtype=torch.uint8, device=words.device)
    for nibble in range(PER_WORD):
        codes[..., nibble, :] = (words >> 4 * nibble).bitwise_and_(15)
    return codes.flatten(-3, -2)[..., :rows, :]


def pack_columns(codes: Tensor) -> Tensor:
    """Codes uint8 [..., rows, C] -> plain words int32 [..., ceil(rows / 8), C]; nibbles beyond the last row are 0."""
    *lead, rows, columns = codes.shape
    count = -(-rows // PER_WORD)
    words = torch.zeros((*lead, count, columns), dtype=torch.int32, device=codes.device)
    for nibble in range(PER_WORD):
        values = codes[..., nibble::PER_WORD, :].to(torch.int32)
        words[..., : values.shape[-2], :] |= values << 4 * nibble
    return words


def turn(words: Tensor, out: Tensor) -> None:
    """Transpose a matrix of codes: shuffled words along columns -> shuffled words along rows. Its own inverse.

    words  int32 [R, C / 8], any strides; R and C multiples of 8
    out    int32 [C, R / 8], any strides; overwritten

    Every 8 x 8 block of codes is eight words; three rounds of exchanges between them (4, 2, then 1 apart) transpose it. The words are taken in the
    order SHUFFLE and leave in it, which makes nibble p value SHUFFLE[p] on both sides at no cost.
    """
    blocks = words.unflatten(0, (-1, PER_WORD))  # [R / 8, 8, C / 8]
    target = out.unflatten(0, (-1, PER_WORD))  # [C / 8, 8, R / 8]
    step = max(1, _SLAB_WORDS // max(1, PER_WORD * words.shape[1]))
    for first in range(0, blocks.shape[0], step):
        slab = blocks[first : first + step]
        rows = [slab[:, value].clone() for value in SHUFFLE]
        for apart, low in ((4, 0x0000FFFF), (2, 0x00FF00FF), (1, 0x0F0F0F0F)):
            for i in (i for i in range(PER_WORD) if not i & apart):
                differ = (rows[i] >> 4 * apart).bitwise_xor_(rows[i + apart]).bitwise_and_(low)
                rows[i + apart].bitwise_xor_(differ)
                rows[i].bitwise_xor_(differ.bitwise_left_shift_(4 * apart))
        for value, row in zip(SHUFFLE, rows, strict=True):
            target[:, value, first : first + step] = row.t()
