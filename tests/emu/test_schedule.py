"""Work-groups over threads, waves in different orders, limits."""

from __future__ import annotations

import numpy as np
import pytest

from kgen.emu import ArgumentError, DataRace, LimitExceeded, MemoryFault
from tests.emu.harness import on, raises, same

K = 520
RNG = np.random.default_rng(3)
WEIGHT, ACTIVATION = (RNG.integers(0, 1 << 16, s, dtype="u2") & 0xBFFF for s in ((96, K), (K,)))  # finite bf16
OUT = np.zeros(96, "f4")


def gemv(t, m=96, **options):
    a, x, k, o = WEIGHT[:m], ACTIVATION, K, OUT[:m]
    o[:] = np.nan
    stats = t.run("gemv_bf16", -(-m * t.ws // 256), 256, a, x, o, np.int32(m), np.int32(k), lds=2 * k, **options)
    return o.copy(), stats


@on("gfx1151", "gfx942")
def test_any_number_of_threads_gives_the_same_bits_and_counts(t):
    one, stats = gemv(t, threads=1, count_ops=True, count_memory=True)
    for threads in (2, 3, 8):
        many, others = gemv(t, threads=threads, count_ops=True, count_memory=True)
        same(many.view("u4"), one.view("u4"))
        assert others.ops == stats.ops
        assert others.memory == stats.memory
        assert (others.instructions, others.waves, others.groups) == (stats.instructions, stats.waves, stats.groups)


@on()
def test_counts_add_up(t):
    _, stats = gemv(t, count_ops=True)
    assert stats.ops.total() == stats.instructions
    assert stats.groups == 96 * t.ws // 256
    assert stats.waves == stats.groups * 256 // t.ws
    assert stats.ops["S_ENDPGM"] == stats.waves


@on("gfx1151", "gfx942")
def test_counting_does_not_change_the_result(t):
    plain, stats = gemv(t)
    for options in ({"count_ops": True}, {"count_memory": True}, {"races": True}):
        counted, others = gemv(t, **options)
        same(counted.view("u4"), plain.view("u4"))
        assert others.instructions == stats.instructions


@on("gfx1151", "gfx942")
def test_every_schedule_gives_the_same_result(t):
    want, _ = gemv(t)
    for schedule in ("linear", "reverse", "random:1", "random:2"):
        for quantum in (None, 1, 17):
            got, _ = gemv(t, m=16, schedule=schedule, quantum=quantum)
            same(got.view("u4"), want[:16].view("u4"), f"{schedule} {quantum}")


@on("gfx1151", "gfx942")
def test_a_random_schedule_repeats(t):
    def order(seed):
        o = np.zeros(256, "f4")
        t.run("race", 1, 256, o, schedule=f"random:{seed}")
        return o.tobytes()

    assert order(4) == order(4)
    assert len({order(seed) for seed in range(12)}) > 1


@on()
def test_groups_that_wait_for_all_others_finish_when_enough_are_in_flight(t):
    for threads in (1, 2):
        count, o = np.zeros(1, "u4"), np.zeros((6, 64), "u4")
        t.run("rendezvous", 6, 64, count, o, concurrent=6, threads=threads)
        assert count[0] == 6
        same(o, np.repeat(np.arange(6, dtype="u4")[:, None] + 6, 64, axis=1))


@on("gfx1151", "gfx942")
def test_groups_that_wait_in_vain_reach_the_limit(t):
    count, o = np.zeros(1, "u4"), np.zeros((6, 64), "u4")
    words = raises(
        LimitExceeded, "more than 30000 wave instructions", t.run, "rendezvous", 6, 64, count, o, max_instructions=30000
    )
    assert "kernel rendezvous+" in words


@on("gfx1151", "gfx942")
def test_the_limit_counts_exactly_on_one_thread(t):
    _, stats = gemv(t, threads=1)
    gemv(t, threads=1, max_instructions=stats.instructions)
    with pytest.raises(LimitExceeded):
        gemv(t, threads=1, max_instructions=stats.instructions - 1)


@on()
def test_atomics_of_several_threads_lose_nothing(t):
    count = np.zeros(1, "u4")
    t.run("count_to", 64, t.ws, count, np.int32(5), threads=4)
    assert count[0] == 64 * t.ws * 5


@on("gfx1151", "gfx942")
def test_atomics_run_on_one_thread_unless_told(t):
    count = np.zeros(1, "u4")
    assert t.run("count_to", 4, 32, count, np.int32(1)).threads == 1
    assert t.run("count_to", 4, 32, count, np.int32(1), threads=2).threads == 2


@on("gfx1151", "gfx942")
def test_the_first_faulting_work_group_is_reported_on_any_number_of_threads(t):
    n = 16 * 256
    a, c = np.zeros(n, "f4"), np.zeros(9 * 256 + 3, "f4")  # group 9 leaves c
    for threads in (1, 2, 7):
        words = raises(
            MemoryFault, "work-group (9, 0, 0)", t.run, "vadd", 16, 256, a, a, c, np.int32(n), threads=threads
        )
        assert f"offset {c.nbytes} of argument 2" in words


@on("gfx1151", "gfx942")
def test_a_race_is_found_in_whatever_group_it_is(t):
    o = np.zeros(256, "f4")
    for threads in (1, 2):
        raises(DataRace, "work-group (0, 0, 0)", t.run, "race", 8, 256, o, races=True, threads=threads)


@on("gfx1151")
def test_options_that_cannot_be_are_refused(t):
    o = np.zeros(256, "f4")
    raises(ArgumentError, "allowed: linear, reverse, random:<seed>", t.run, "race2", 1, 256, o, schedule="fast")
    raises(ArgumentError, "'x' is not a number", t.run, "race2", 1, 256, o, schedule="random:x")
    raises(ArgumentError, "option threads is 0", t.run, "race2", 1, 256, o, threads=0)
    raises(ArgumentError, "grid is 0", t.run, "race2", 0, 256, o)
    raises(ArgumentError, "block of 2048 work-items", t.run, "race2", 1, 2048, o)
    raises(ArgumentError, "bytes of LDS", t.run, "race2", 1, 256, o, lds=65536)
