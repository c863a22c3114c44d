"""Argument buffers: the bytes that a kernel is handed."""

from __future__ import annotations

import struct
import threading

from kgen.runtime.arguments import ArgumentBuffers, ArgumentLayout
from kgen.spec.base import layout_args
from tests.runtime.fakes import read_extra
from tests.runtime.tiny import SPECS


def test_wvsplitk_arguments_are_four_pointers_and_six_words() -> None:
    layout = ArgumentLayout(SPECS[0].args)
    packed = layout.struct.pack(1 << 47, 2, 0, 3, 4, 5, 6, 7, 8, 9)
    assert packed == struct.pack("<QQQQIIIIII", 1 << 47, 2, 0, 3, 4, 5, 6, 7, 8, 9)
    assert layout.size == 56
    assert layout.pointers == (("weight", False), ("act", False), ("bias", False), ("out", True))


def test_holes_before_aligned_arguments_are_left() -> None:
    layout = ArgumentLayout(layout_args(("u32", "a"), ("T*", "b"), ("f32", "c"), ("i32", "d")))
    assert layout.struct.pack(1, 2, 0.5, -1) == struct.pack("<I4xQfi", 1, 2, 0.5, -1)


def test_the_extra_list_leads_to_what_was_packed() -> None:
    layout = ArgumentLayout(SPECS[0].args)
    mine = ArgumentBuffers(3, lambda: None).of(layout)
    layout.struct.pack_into(mine.data, 0, *range(10))
    assert read_extra(mine.extra, 3) == layout.struct.pack(*range(10))


def test_threads_share_no_buffer_and_kernels_do() -> None:
    layout, entered = ArgumentLayout(SPECS[0].args), []
    buffers = ArgumentBuffers(3, lambda: entered.append(threading.get_ident()))
    assert buffers.of(layout) is buffers.of(ArgumentLayout(SPECS[1].args))
    mine, theirs = buffers.of(layout), []
    layout.struct.pack_into(mine.data, 0, *range(10))

    def other() -> None:
        layout.struct.pack_into(mine.data, 0, *range(10, 20))
        theirs.append((mine.extra, read_extra(mine.extra, 3)))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert theirs[0] == (theirs[0][0], layout.struct.pack(*range(10, 20)))
    assert theirs[0][0] != mine.extra
    assert read_extra(mine.extra, 3) == layout.struct.pack(*range(10))
    assert len(set(entered)) == len(entered) == 2  # once per thread
