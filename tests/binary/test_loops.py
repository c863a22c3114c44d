"""Control flow on small hand-made listings, and the hot loop of the samples."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgen.binary import read_binary
from kgen.binary.disassemble import disassemble
from kgen.binary.instruction import Instruction
from kgen.binary.loops import Block, blocks_of, count_matching, hot_loop, immediate_dominators, natural_loops
from tests.binary.samples import DATA

MULTIPLY = r"v_(dual_)?fmac_f32"


def listing(text: str) -> list[Instruction]:
    """Instructions of 4 bytes from lines "[label:] mnemonic [label]"."""
    rows, labels = [], {}
    for line in filter(None, (raw.strip() for raw in text.splitlines())):
        label, found, rest = line.rpartition(":") if re.match(r"\w+:", line) else ("", "", line)
        if found:
            labels[label] = 4 * len(rows)
        rows.append(rest.split())
    return [
        Instruction(4 * i, row[0], "", 4, labels.get(row[1]) if len(row) > 1 else None) for i, row in enumerate(rows)
    ]


NESTED = """
    s_mov
outer: global_load_b128
    s_cbranch_scc0 skip
inner: global_load_b128
    v_fmac_f32
    v_fmac_f32
    s_cbranch_vccz past
    v_fmac_f32
past: s_add
    s_cbranch_scc1 inner
skip: v_fmac_f32
    s_cbranch_scc1 outer
    s_endpgm
"""


def test_blocks_split_at_branches_and_targets():
    blocks = blocks_of(listing(NESTED))
    assert [(b.first, b.end) for b in blocks] == [(0, 1), (1, 3), (3, 7), (7, 8), (8, 10), (10, 12), (12, 13)]
    assert [b.successors for b in blocks] == [(1,), (2, 5), (3, 4), (4,), (5, 2), (6, 1), ()]


def test_loops_nest():
    blocks = blocks_of(listing(NESTED))
    assert [(loop.header, sorted(loop.blocks), loop.depth) for loop in natural_loops(blocks)] == [
        (1, [1, 2, 3, 4, 5], 1),
        (2, [2, 3, 4], 2),
    ]


def test_hot_loop_is_the_inner_one_with_its_conditional_block():
    loop = hot_loop(listing(NESTED), MULTIPLY)
    assert [i.address // 4 for i in loop] == [3, 4, 5, 6, 7, 8, 9]


def test_a_loop_with_global_loads_is_preferred_to_one_inside_it_without():
    text = NESTED.replace("inner: global_load_b128", "inner: ds_load_b128")
    loop = hot_loop(listing(text), MULTIPLY)
    assert [i.address // 4 for i in loop] == list(range(1, 12))


def test_without_any_global_load_the_innermost_is_taken():
    loop = hot_loop(listing(NESTED.replace("global_load", "ds_load")), MULTIPLY)
    assert [i.address // 4 for i in loop] == [3, 4, 5, 6, 7, 8, 9]


def test_of_two_loops_side_by_side_the_one_that_multiplies_more_is_hot():
    """The bulk of K and its rest: the rest is the smaller loop, and not the hot one."""
    text = """
    bulk: global_load_b128
        v_fmac_f32
        v_fmac_f32
        s_cbranch_scc1 bulk
    rest: global_load_b128
        v_fmac_f32
        s_cbranch_scc1 rest
        s_endpgm
    """
    assert [i.address // 4 for i in hot_loop(listing(text), MULTIPLY)] == [0, 1, 2, 3]


def test_a_loop_with_less_than_a_quarter_of_the_multiplies_is_not_hot():
    outside = "v_fmac_f32\n" * 13
    assert hot_loop(listing(NESTED.replace("s_endpgm", outside + "s_endpgm")), MULTIPLY) is None
    outside = "v_fmac_f32\n" * 8
    assert hot_loop(listing(NESTED.replace("s_endpgm", outside + "s_endpgm")), MULTIPLY) is not None


def test_two_back_edges_to_one_header_are_one_loop():
    blocks = blocks_of(listing("a: v_fmac_f32\ns_cbranch_scc0 a\ns_cbranch_scc1 a\ns_endpgm"))
    assert [(loop.header, sorted(loop.blocks)) for loop in natural_loops(blocks)] == [(0, [0, 1])]


def test_no_multiplies_or_no_loop_gives_none():
    assert hot_loop(listing("v_fmac_f32\ns_endpgm"), MULTIPLY) is None
    assert hot_loop(listing(NESTED), "v_dot2") is None
    assert hot_loop([], MULTIPLY) is None


def test_code_after_the_end_is_not_reached():
    blocks = blocks_of(listing("s_endpgm\nx: v_fmac_f32\ns_branch x"))
    assert immediate_dominators(blocks) == [0, None]
    assert natural_loops(blocks) == []


def test_both_halves_of_a_pair_count():
    pair = Instruction(0, "v_dual_fmac_f32", "v0, v1, v2 :: v_dual_fmac_f32 v3, v4, v5", 8)
    assert count_matching([pair], MULTIPLY) == 2
    assert count_matching([pair], "v_fmac") == 0


GRAPHS = st.integers(1, 9).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, n - 1), max_size=2, unique=True), min_size=n, max_size=n)
)


@given(GRAPHS)
def test_dominators_are_what_cutting_a_block_shows(edges):
    """a dominates b exactly if b cannot be reached once a is taken out: the definition, tried on every pair."""
    blocks = [Block(i, i + 1, tuple(to)) for i, to in enumerate(edges)]
    idom = immediate_dominators(blocks)

    def reached(without: int | None) -> set[int]:
        seen: set[int] = set()
        pending = [0]
        while pending:
            b = pending.pop()
            if b != without and b not in seen:
                seen.add(b)
                pending += blocks[b].successors
        return seen

    for b in range(len(blocks)):
        chain = set()
        at = b if idom[b] is not None else None
        while at is not None and at not in chain:
            chain.add(at)
            at = idom[at]
        expected = {a for a in range(len(blocks)) if b in reached(None) and b not in reached(a)}
        assert chain == expected


@given(GRAPHS)
def test_every_cycle_through_a_loop_header_stays_in_the_loop(edges):
    """A natural loop is closed: whatever enters its body does so through the header."""
    blocks = [Block(i, i + 1, tuple(to)) for i, to in enumerate(edges)]
    idom = immediate_dominators(blocks)
    for loop in natural_loops(blocks):
        entering = {
            b for b, block in enumerate(blocks) if idom[b] is not None for s in block.successors
            if s in loop.blocks and b not in loop.blocks and s != loop.header
        }  # fmt: skip
        assert not entering


@pytest.mark.parametrize(
    ("arch", "instructions"), [("gfx1151", 21), ("gfx1100", 21), ("gfx1201", 23), ("gfx942", 15), ("gfx950", 15)]
)
def test_hot_loop_of_the_samples(arch, instructions, libllvm):
    """Counted by hand in the listing: from the first address computation to the branch back, two 16-byte loads and four fmac."""
    code = read_binary(DATA / f"small.{arch}.hsaco")
    loop = hot_loop(disassemble(code, "dot", libllvm), MULTIPLY)
    assert len(loop) == instructions
    assert count_matching(loop, MULTIPLY) == 4
    assert count_matching(loop, "global_load_(b128|dwordx4)") == 2
    assert loop[-1].mnemonic == "s_cbranch_execnz"
    assert loop[-1].target == loop[0].address
    assert all(a.address + a.size == b.address for a, b in pairwise(loop))
