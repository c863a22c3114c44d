"""Argument buffers: the bytes that a kernel is handed."""

from __future__ import annotations

import struct
import threading

from kgen.runtime.arguments import ArgumentBuffer, ArgumentLayout
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


def test_the_first_arguments_are_packed_without_touching_the_last() -> None:
    layout = ArgumentLayout(layout_args(("T*", "a"), ("u32", "b"), ("T*", "c"), ("u32", "d"), ("u32", "e")))
    data = bytearray(layout.struct.pack(*range(5)))
    layout.first(3).pack_into(data, 0, 10, 11, 12)
    assert bytes(data) == layout.struct.pack(10, 11, 12, 3, 4)


def test_the_extra_list_leads_to_what_was_packed_and_to_what_every_launch_has_in_common() -> None:
    layout = ArgumentLayout(SPECS[0].args)
    buffer = ArgumentBuffer(layout, (4, 5, 6, 7, 8, 9), 3, lambda: None)
    data, extra = buffer.both
    assert read_extra(extra, 3) == layout.struct.pack(0, 0, 0, 0, 4, 5, 6, 7, 8, 9)
    layout.first(4).pack_into(data, 0, *range(4))
    assert read_extra(extra, 3) == layout.struct.pack(*range(10))


def test_threads_share_no_buffer() -> None:
    layout, entered = ArgumentLayout(SPECS[0].args), []
    buffer = ArgumentBuffer(layout, (8, 9), 3, lambda: entered.append(threading.get_ident()))
    mine, theirs = buffer.both, []
    layout.first(8).pack_into(mine[0], 0, *range(8))

    def other() -> None:
        data, extra = buffer.both
        layout.first(8).pack_into(data, 0, *range(10, 18))
        theirs.append((extra, read_extra(extra, 3)))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert theirs[0] == (theirs[0][0], layout.struct.pack(*range(10, 18), 8, 9))
    assert theirs[0][0] != mine[1]
    assert read_extra(mine[1], 3) == layout.struct.pack(*range(10))
    assert len(set(entered)) == len(entered) == 2  # once per thread
