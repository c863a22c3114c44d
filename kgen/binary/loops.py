"""Control flow of a kernel and its hot loop.

Blocks from branch targets, dominators by iteration in reverse post-order (Cooper, Harvey, Kennedy: "A Simple, Fast Dominance Algorithm"),
natural loops from back edges; loops with one header are one loop. The hot loop is the innermost one that holds at least a quarter of the
multiply work, preferring one with global loads; of several side by side, the one with the most multiplies. Conditional blocks inside a
loop belong to it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kgen.binary.instruction import Instruction

_HOT_SHARE = 0.25
_GLOBAL_LOAD = re.compile(r"(global|flat|buffer)_load_|LDG|UTMALDG")


@dataclass(frozen=True)
class Block:
    """A straight line of instructions: indices [first, end) of the kernel's list, and the blocks that may follow."""

    first: int
    end: int
    successors: tuple[int, ...]


@dataclass(frozen=True)
class Loop:
    """A natural loop: its header block and all blocks of its body, header included; `depth` 1 is outermost."""

    header: int
    blocks: frozenset[int]
    depth: int


def blocks_of(instructions: Sequence[Instruction]) -> list[Block]:
    """Basic blocks in address order. A branch out of the kernel, or to no instruction's start, leads nowhere."""
    index = {each.address: i for i, each in enumerate(instructions)}
    starts = {0} if instructions else set()
    for i, each in enumerate(instructions):
        if each.target is not None or each.ends_path:
            starts.add(i + 1)
        if each.target in index:
            starts.add(index[each.target])
    order = sorted(s for s in starts if s < len(instructions))
    number = {start: b for b, start in enumerate(order)}
    out = []
    for b, first in enumerate(order):
        end = order[b + 1] if b + 1 < len(order) else len(instructions)
        last, after = instructions[end - 1], []
        if not last.ends_path and end < len(instructions):
            after.append(b + 1)
        if last.target in index:
            after.append(number[index[last.target]])
        out.append(Block(first, end, tuple(dict.fromkeys(after))))
    return out


def immediate_dominators(blocks: Sequence[Block]) -> list[int | None]:
    """For each block the closest block that every path from the entry to it passes; None if it cannot be reached. The entry: itself."""
    order = _reverse_post_order(blocks)
    rank = {b: i for i, b in enumerate(order)}
    before: dict[int, list[int]] = {b: [] for b in order}
    for b in order:
        for successor in blocks[b].successors:
            before[successor].append(b)
    idom: list[int | None] = [None] * len(blocks)
    if order:
        idom[0] = 0
    changed = True
    while changed:
        changed = False
        for b in order[1:]:
            known = [p for p in before[b] if idom[p] is not None]
            new = known[0]
            for other in known[1:]:
                new = _meet(new, other, idom, rank)
            if idom[b] != new:
                idom[b], changed = new, True
    return idom


def natural_loops(blocks: Sequence[Block]) -> list[Loop]:
    """All natural loops, outermost first. Jumps into the middle of a cycle (irreducible control flow) make none."""
    idom = immediate_dominators(blocks)
    before: list[list[int]] = [[] for _ in blocks]
    for b, block in enumerate(blocks):
        if idom[b] is not None:
            for successor in block.successors:
                before[successor].append(b)
    bodies: dict[int, set[int]] = {}
    for header in range(len(blocks)):
        for tail in before[header]:
            if _dominates(header, tail, idom):
                body = bodies.setdefault(header, {header})
                pending = [tail]
                while pending:
                    b = pending.pop()
                    if b not in body:
                        body.add(b)
                        pending += before[b]
    loops = []
    for header, body in bodies.items():
        depth = sum(1 for other in bodies.values() if body <= other)
        loops.append(Loop(header, frozenset(body), depth))
    return sorted(loops, key=lambda loop: (loop.depth, loop.header))


def loop_instructions(loop: Loop, blocks: Sequence[Block], instructions: Sequence[Instruction]) -> list[Instruction]:
    """The instructions of a loop in address order."""
    return [each for b in sorted(loop.blocks) for each in instructions[blocks[b].first : blocks[b].end]]


def count_matching(instructions: Sequence[Instruction], pattern: str) -> int:
    """How many mnemonics match a regular expression from their start; each half of a dual-issue pair counts."""
    wanted = re.compile(pattern)
    return sum(1 for each in instructions for name in each.names if wanted.match(name))


def hot_loop(instructions: Sequence[Instruction], multiply_pattern: str) -> list[Instruction] | None:
    """The instructions of the hot loop, or None if no loop holds a quarter of the multiplies.

    multiply_pattern   regular expression on mnemonics, matched from the start, e.g. "v_(dual_)?dot2" (it must name the dual forms)
    """
    total = count_matching(instructions, multiply_pattern)
    if not total:
        return None
    blocks = blocks_of(instructions)
    found = []
    for loop in natural_loops(blocks):
        body = loop_instructions(loop, blocks, instructions)
        multiplies = count_matching(body, multiply_pattern)
        if multiplies >= _HOT_SHARE * total:
            loads = any(_GLOBAL_LOAD.match(each.mnemonic) for each in body)
            found.append((loop, body, multiplies, loads))
    loading = [entry for entry in found if entry[3]] or found
    innermost = [entry for entry in loading if not any(other[0].blocks < entry[0].blocks for other in loading)]
    # a kernel may have a loop for the bulk and another for the rest of K: the bulk has more to multiply
    return max(innermost, key=lambda entry: (entry[2], -len(entry[1])))[1] if innermost else None


def _reverse_post_order(blocks: Sequence[Block]) -> list[int]:
    if not blocks:
        return []
    seen, done = {0}, []
    stack = [(0, iter(blocks[0].successors))]
    while stack:
        b, rest = stack[-1]
        following = next((s for s in rest if s not in seen), None)
        if following is None:
            done.append(b)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(blocks[following].successors)))
    return done[::-1]


def _meet(a: int, b: int, idom: Sequence[int | None], rank: dict[int, int]) -> int:
    while a != b:
        while rank[a] > rank[b]:
            a = idom[a]  # type: ignore[assignment]
        while rank[b] > rank[a]:
            b = idom[b]  # type: ignore[assignment]
    return a


def _dominates(a: int, b: int, idom: Sequence[int | None]) -> bool:
    if idom[b] is None:
        return False
    while b != a and idom[b] != b:
        b = idom[b]  # type: ignore[assignment]
    return a == b
