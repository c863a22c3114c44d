"""Launches on memory at its own addresses, with a packed argument block."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from kgen.emu import ArgumentError, MemoryFault, Options, Region
from tests.emu.harness import on, raises, same


def region(array, label, writable=True):
    return Region(array.ctypes.data, array.nbytes, writable, label)


def vadd(t, a, b, c, n, regions, kernarg=None, **options):
    packed = struct.pack("<QQQi", a.ctypes.data, b.ctypes.data, c.ctypes.data, n) if kernarg is None else kernarg
    return t.mod.launch("vadd", (-(-n // 256), 1, 1), (256, 1, 1), packed, regions, options=Options(**options))


@on()
def test_the_address_of_a_region_is_its_address_in_this_process(t):
    a, b, c = (t.rng.standard_normal(1000).astype("f4") for _ in "abc")
    vadd(t, a, b, c, 1000, [region(a, "a", False), region(b, "b", False), region(c, "c")])
    same(c, a + b)


@on("gfx1151", "gfx942")
def test_faults_name_the_region(t):
    a, b, c = (np.zeros(1000, "f4") for _ in "abc")
    regions = [region(a, "left", False), region(b[:999], "right", False), region(c, "sum")]
    raises(
        MemoryFault,
        "invalid read of 4 bytes at offset 3996 of right (3996 bytes, read-only)",
        vadd,
        t,
        a,
        b,
        c,
        1000,
        regions,
    )
    regions = [region(a, "left"), region(b, "right"), region(c, "sum", False)]
    raises(
        MemoryFault,
        "invalid write of 4 bytes at offset 0 of sum (4000 bytes, read-only)",
        vadd,
        t,
        a,
        b,
        c,
        1000,
        regions,
    )
    shifted = [region(a, "left"), region(b, "right"), Region(c.ctypes.data + 1, 3999, True, "sum")]
    raises(MemoryFault, "invalid write of 4 bytes at offset -1 of sum (3999 bytes)", vadd, t, a, b, c, 1000, shifted)


@on("gfx1151", "gfx942")
def test_neighbours_are_not_one_region(t):
    storage = np.zeros(3000, "f4")
    a, b, c = storage[:1000], storage[1000:2000], storage[2000:]
    regions = [region(a, "a"), region(b, "b"), region(c, "c")]
    vadd(t, a, b, c, 1000, regions)
    odd = struct.pack("<QQQi", a.ctypes.data + 2, b.ctypes.data, c.ctypes.data, 1000)  # the last element lies half in b
    raises(MemoryFault, "offset 3998 of a (4000 bytes)", vadd, t, a, b, c, 1000, regions, odd)


@on("gfx1151", "gfx942")
def test_overlapping_regions_allow_what_any_of_them_allows(t):
    storage = np.zeros(2000, "f4")
    a, b, c = storage[:1000], storage[500:1500], storage[1000:]
    b[:] = 2
    whole = region(storage, "whole", False)
    vadd(t, a, b, c, 1000, [whole, region(c, "c"), region(b, "b", False)], threads=1)
    same(c[500:], a[500:] + storage[1000:1500])


@on("gfx1151")
def test_a_kernarg_block_of_the_wrong_size_is_refused(t):
    a = np.zeros(256, "f4")
    regions = [region(a, "a")]
    packed = struct.pack("<QQQi", *[a.ctypes.data] * 3, 256)
    whole = t.mod.kernels["vadd"].kernarg_size
    vadd(t, a, a, a, 256, regions, packed.ljust(whole, b"\xff"))  # hidden arguments are ours to fill
    for wrong in (packed[:-1], packed[:-4], b"", packed.ljust(whole + 1, b"\0")):
        raises(
            ArgumentError,
            f"vadd: {len(wrong)} bytes of arguments, the kernel wants 28",
            vadd,
            t,
            a,
            a,
            a,
            256,
            regions,
            wrong,
        )


@on("gfx1151")
def test_a_kernel_that_is_not_there_is_answered_with_what_is(t):
    raises(ArgumentError, "no kernel 'nope'; there are atom, atom2", t.mod.launch, "nope", 1, 1, b"", [])


@on("gfx1151", "gfx942")
def test_memory_traffic_is_counted(t):
    n = 1024
    a, b, c = (np.zeros(n + 64, "f4") for _ in "abc")
    a, b, c = (v[(-v.ctypes.data // 4) % 32 :][:n] for v in (a, b, c))  # on a 128-byte boundary
    waves = n // t.ws
    memory = vadd(t, a, b, c, n, [region(a, "a"), region(b, "b"), region(c, "c")], count_memory=True).memory
    assert (memory.bytes_loaded, memory.bytes_stored, memory.accesses) == (2 * 4 * n, 4 * n, 3 * waves)
    assert (memory.lines64, memory.lines128) == (3 * 4 * n // 64, 3 * 4 * n // 128)


@pytest.mark.parametrize(("stride", "extra"), [(1, 0), (2, 1), (32, 31), (31, 0)])
@on("gfx1151", "gfx942")
def test_bank_conflicts_are_the_cycles_beyond_the_first(t, stride, extra):
    rows = t.ws * 32
    a, o = np.arange(rows, dtype="u4"), np.zeros(t.ws, "u4")
    before = t.run("stride_read", 1, t.ws, a, o, np.int32(0), lds=4 * rows, count_memory=True).memory
    after = t.run("stride_read", 1, t.ws, a, o, np.int32(stride), lds=4 * rows, count_memory=True).memory
    same(o, np.arange(t.ws, dtype="u4") * stride)
    # stride 0: all lanes want one dword, no conflict; the rest of the kernel is the same
    assert after.lds_passes == before.lds_passes == before.lds_accesses * t.ws // 32  # four bytes each
    assert after.lds_conflict_cycles - before.lds_conflict_cycles == extra * t.ws // 32
