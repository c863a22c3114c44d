"""Accesses one byte too far, in every kind of memory, and what nobody wrote."""

from __future__ import annotations

import numpy as np
import pytest

from kgen.emu import MemoryFault
from tests.emu.harness import on, raises, same


@on()
def test_the_last_byte_is_read_and_the_next_is_a_fault(t):
    a, o = np.arange(100, dtype="u1"), np.zeros(1, "u1")
    t.run("byte_read", 1, 1, a, o, np.int32(99))
    assert o[0] == 99
    words = raises(
        MemoryFault, "1 bytes at offset 100 of argument 0 (100 bytes)", t.run, "byte_read", 1, 1, a, o, np.int32(100)
    )
    assert f"{t.gfx} kernel byte_read+" in words
    assert "work-group (0, 0, 0), wave 0" in words
    assert "lane 0: invalid read" in words
    raises(MemoryFault, "offset -1 of argument 0", t.run, "byte_read", 1, 1, a, o, np.int32(-1))


@on()
def test_the_last_byte_is_written_and_the_next_is_a_fault(t):
    o = np.zeros(100, "u1")
    t.run("byte_write", 1, 1, o, np.int32(99))
    assert o[99] == 1
    raises(
        MemoryFault, "invalid write of 1 bytes at offset 100 of argument 0", t.run, "byte_write", 1, 1, o, np.int32(100)
    )
    assert o.sum() == 1


@on()
def test_a_wave_that_leaves_a_buffer_by_one_byte_names_the_lane(t):
    a, o = np.zeros(16 * t.ws, "u1"), np.zeros(16 * t.ws, "u1")
    t.run("wide_read", 1, t.ws, a, o, np.int32(0))
    words = raises(
        MemoryFault, f"offset {16 * (t.ws - 1) + 1} of argument 0", t.run, "wide_read", 1, t.ws, a, o, np.int32(1)
    )
    assert f"lane {t.ws - 1}" in words


@on()
def test_lds_ends_where_the_launch_says(t):
    o = np.zeros(1, "u1")
    t.run("lds_at", 1, 1, o, np.int32(63), lds=64)
    assert o[0] == 7
    raises(MemoryFault, "LDS access of 1 bytes at 64 beyond 64", t.run, "lds_at", 1, 1, o, np.int32(64), lds=64)


@on()
def test_scratch_ends_where_the_kernel_says(t):
    o = np.zeros(64, "u4")
    t.run("scratch_at", 1, 64, o, np.int32(5))
    same(o, np.full(64, 5, "u4"))
    size = t.mod.kernels["scratch_at"].private_size
    raises(MemoryFault, f"scratch access of 1 bytes at {size}", t.run, "scratch_at", 1, 64, o, np.int32(size))


@on()
def test_registers_and_lds_that_nobody_wrote_hold_the_poison(t):
    o = np.zeros((t.ws, 2), "u4")
    t.run("fresh", 1, t.ws, o, lds=4 * t.ws)
    same(o, np.full((t.ws, 2), 0x7FE17FE1, "u4"))
    assert np.isnan(o.view("f4")).all()
    assert np.isnan(o.view("f2")).all()
    t.run("fresh", 1, t.ws, o, lds=4 * t.ws, poison=0x12345678)
    same(o, np.full((t.ws, 2), 0x12345678, "u4"))


@on("gfx1151", "gfx942")
def test_poison_is_fresh_in_every_work_group(t):
    groups = 40
    o = np.zeros((t.ws, 2), "u4")
    n = 256
    a = np.ones(n * groups, "f4")
    t.run("lds_block", groups, n, a, np.zeros(groups, "f4"), np.int32(a.size))  # leaves numbers in registers and LDS
    t.run("fresh", groups, t.ws, o, lds=4 * t.ws, threads=1)
    same(o, np.full((t.ws, 2), 0x7FE17FE1, "u4"))


@pytest.mark.parametrize("offset", [0, 1, 3])
@on("gfx1151", "gfx942")
def test_bounds_hold_for_buffers_at_odd_addresses(t, offset):
    storage = np.zeros(256, "u1")
    view, o = storage[offset : offset + 100], np.zeros(1, "u1")
    t.run("byte_read", 1, 1, view, o, np.int32(99))
    raises(MemoryFault, "offset 100", t.run, "byte_read", 1, 1, view, o, np.int32(100))
