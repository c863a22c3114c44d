"""What the families say alike that multiply 16 x 16 tiles by matrix instructions: sizes, and what the machine code should show."""

from __future__ import annotations

from kgen.spec.arch import ArchFacts

TILE = 16  # rows of either operand in one matrix instruction
BLOCK_K = 32  # K elements of a block in LDS: what one multiplication of tiles takes
COUNT = 16  # bytes of LDS in which the first lane tells the others how many shards had arrived

_PATTERNS = {
    "wmma_gfx11": r"v_wmma_f32_16x16x16",
    "wmma_gfx12": r"v_wmma_f32_16x16x16",
    "mfma_16x16x16": r"v_mfma_f32_16x16x16",
    "mfma_16x16x32": r"v_mfma_f32_16x16x32",
    "mma_m16n8k16": r"HMMA\.16816",
}


def multiply_pattern(arch: ArchFacts) -> str:
    """Mnemonics (regular expression) that multiply tiles."""
    return _PATTERNS[arch.matrix]


def multiplies_of_block(arch: ArchFacts) -> int:
    """Instructions that one multiplication of 16 x 16 tiles over BLOCK_K elements takes."""
    return {"mfma_16x16x32": 1, "mma_m16n8k16": 4}.get(arch.matrix, 2)


def additions_over(arch: ArchFacts, K: int) -> int:
    """The most additions that a product passes through in a sum over K: those inside of an instruction, in any order, and one for each after it."""
    inside = 32 if arch.matrix == "mfma_16x16x32" else 16
    return inside + -(-K // inside)
