"""The loop over real builds, with the double's times: states, twins, lost workers, budget, search."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import pytest

import kgen.sweep.conduct
from kgen.sweep import analysis
from kgen.sweep.conduct import Request, conduct
from kgen.sweep.plan import plan
from kgen.sweep.records import Origin, Time, rebased
from kgen.sweep.run import SweepOptions
from kgen.sweep.search import Search
from kgen.sweep.space import space_of
from kgen.sweep.store import Store
from kgen.sweep.worker import Worker, WorkerLost, WorkerPlan
from kgen.sweep.workload import layers_of, workloads
from tests.sweep.driver import ARCH, run, small_plan
from tests.sweep.fakes import FakePlan

hipcc = pytest.mark.hipcc


def states(store: Store) -> dict[str, tuple[str, str]]:
    return {point["name"]: (point["state"], point["why"]) for point in store.points("wvsplitk")}


@hipcc
def test_every_point_ends_in_a_state_and_the_best_is_found(tmp_path, real_tools):
    tally, store, sweep = run(tmp_path, FakePlan(torch_us=9.0, extra={"YTILE1_WvPrGrp4": 0.8}))
    mine = {name: state for name, (state, _) in states(store).items() if name in {p.name for p in sweep.plan.points}}
    assert set(mine.values()) == {"timed"}
    assert len(mine) == 12
    assert tally.lost_workers == 0
    finals = store.times("double", "final")
    assert {len(time.rounds) for time in finals} == {11}
    for standing in analysis.standings(sweep.plan, store.times("double"), sweep.picks):
        assert "YTILE1_WvPrGrp4" in standing.best


@hipcc
def test_a_kernel_that_hangs_costs_one_process(tmp_path, real_tools):
    tally, store, _ = run(tmp_path, FakePlan(hang="YTILE2_WvPrGrp8_A_CHUNK8_UNRL2"), deadline=6.0)
    found = states(store)
    (bad,) = [name for name in found if "YTILE2_WvPrGrp8_A_CHUNK8_UNRL2" in name]
    assert found[bad][0] == "failed"
    assert "gave no answer" in found[bad][1]
    assert tally.lost_workers == 1
    assert Counter(state for state, _ in found.values())["timed"] == len(found) - 1
    store.close()
    tally, _, _ = run(tmp_path, FakePlan(hang="YTILE2_WvPrGrp8_A_CHUNK8_UNRL2"), deadline=6.0)
    assert (tally.lost_workers, tally.checks) == (0, 0), "it is not tried again"


@hipcc
def test_a_kernel_that_breaks_its_process_is_named(tmp_path, real_tools):
    tally, store, _ = run(
        tmp_path, FakePlan(crash="YTILE1_WvPrGrp2_A_CHUNK8_UNRL1", crash_timed="YTILE2_WvPrGrp2_A_CHUNK8_UNRL1")
    )
    found = states(store)
    failed = {name: why for name, (state, why) in found.items() if state == "failed"}
    assert len(failed) == 2
    assert any("SIGSEGV" in why and "checked" in why for why in failed.values())
    assert any("SIGKILL" in why and "timed" in why for why in failed.values())
    assert tally.lost_workers >= 2
    assert Counter(state for state, _ in found.values())["timed"] == len(found) - 2


@hipcc
def test_what_is_wrong_is_never_timed(tmp_path, real_tools):
    log = tmp_path / "log"
    _, store, _ = run(tmp_path, FakePlan(wrong="UNRL2", log=str(log)))
    found = states(store)
    wrong = {name for name, (state, _) in found.items() if state == "wrong"}
    assert wrong == {name for name in found if "UNRL2" in name and "UNRL2" in name}
    timed = {json.loads(line)[1] for line in log.read_text().splitlines() if json.loads(line)[0] == "time"}
    assert not timed & wrong


@hipcc
def test_budget_ends_the_search_and_the_next_run_goes_on(tmp_path, real_tools):
    options = SweepOptions(batch=4, side=3, budget=0.01)
    tally, store, _ = run(tmp_path, FakePlan(), options)
    assert tally.out_of_budget
    store.close()
    tally, store, _ = run(tmp_path, FakePlan(), replace(options, budget=None))
    assert not tally.out_of_budget
    assert {state for state, _ in states(store).values()} == {"timed"}


def test_results_of_another_source_are_kept_and_marked_stale(tmp_path):
    store = Store(tmp_path / "s.sqlite", ARCH)
    old, new = Origin("a" * 64, "clang 1"), Origin("b" * 64, "clang 1")
    from kgen.sweep.records import DeviceState, Timed

    for origin, us in ((old, 5.0), (new, 4.0)):
        store.put_built("wvsplitk", "k", origin, {}, {}, "x")
        store.put_timed("explore", Timed("w", "measured", DeviceState("gpu", 1), {"k": (us,)}), "torch", {"k": origin})
    assert [time.us for time in store.times("gpu")] == [4.0]
    assert [p["source"][0] for p in store.points("wvsplitk", stale=True)] == ["a"]
    store.put_built("wvsplitk", "k", old, {}, {}, "x")  # the old source comes back: its results count again
    assert [time.us for time in store.times("gpu")] == [5.0]


def test_times_over_an_earlier_pick_are_formed_over_the_present_one():
    def time(name, us, pick, batch, stage="explore", base=2.0):
        rounds = (us, us * 1.1)
        return Time(
            name,
            "w",
            stage,
            "measured",
            "gpu",
            "",
            rounds,
            (us / base, us / base),
            (us / 8, us * 1.1 / 8),
            None,
            pick,
            {},
            batch,
        )

    side = [
        time("old", 2.0, "old", 1),
        time("new", 1.0, "old", 1),
        time("third", 1.5, "old", 1),
        time("later", 4.0, "old", 2),
    ]
    found = {t.name: t for t in rebased(side, {"w": "new"})}
    assert {t.pick for t in found.values()} == {"new"}
    assert found["third"].over_pick == (1.5, 1.5)
    assert found["new"].score == 1.0
    assert found["later"].score == 4.0, "by way of the old pick"
    finals = [time("new", 1.0, "old", 1, "final"), time("later", 4.0, "old", 2, "final")]
    assert {t.name: t.pick for t in rebased(finals, {"w": "new"})} == {"new": "new", "later": "old"}, (
        "pairs are not made up"
    )
    assert rebased(side, {"w": "torch"})[3].over_pick == (0.5, 4.4 / 8)
    assert {t.pick for t in rebased(side, {"w": "unknown"})} == {"old"}


def test_states_only_move_forward(tmp_path):
    store = Store(tmp_path / "s.sqlite", ARCH)
    origin = Origin("a" * 64, "clang 1")
    store.put_built("wvsplitk", "k", origin, {}, {}, "x")
    for state in ("timed", "right", "built"):
        store.advance("k", origin, state)
    assert store.state("k", origin)[0] == "timed"
    store.advance("k", origin, "promoted")
    assert store.state("k", origin)[0] == "promoted"


def test_the_first_point_with_some_code_owns_it(tmp_path):
    store = Store(tmp_path / "s.sqlite", ARCH)
    origin = Origin("a" * 64, "clang 1")
    store.put_built("f", "first", origin, {}, {}, "same")
    assert store.owner_of("same", "first", "clang 1") is None
    store.put_built("f", "second", Origin("b" * 64, "clang 1"), {}, {}, "same")
    assert store.owner_of("same", "second", "clang 1") == "first"
    assert store.owner_of("same", "second", "clang 2") is None


@hipcc
def test_twins_are_measured_once_and_an_axis_that_changed_nothing_is_said(tmp_path, real_tools, monkeypatch):
    axes = {
        "GrpsPerCU": [1, 2],
        "K_WAVES": [1],
        "YTILE": [1],
        "WvPrGrp": [4],
        "A_CHUNK": [16],
        "UNRL": [1, 2],
        "STAGING": ["global"],
        "DEQUANT": ["magic"],
    }
    fake, log = FakePlan(log=str(tmp_path / "log")), tmp_path / "log"
    monkeypatch.setattr(kgen.sweep.conduct, "worker_plans", lambda request: [WorkerPlan(fake, "double")])
    request = Request(
        "wvsplitk_int4", ARCH, layers=("512x1024",), rows=(1,), axes=axes, out=tmp_path / "out", tables=tmp_path / "t"
    )
    outcome = conduct(request)
    assert outcome.counts["twin"] == 2
    assert outcome.counts["timed"] == 3, "one of each pair, and the present pick"
    assert outcome.idle == ["GrpsPerCU"]
    store = Store(tmp_path / "out" / ARCH / "store.sqlite", ARCH)
    twins = {p["name"]: p["twin_of"] for p in store.points("wvsplitk_int4") if p["state"] == "twin"}
    specs = {point.name: point.spec for point in outcome.plan.points}
    problem = outcome.plan.workloads[0].shape
    for twin, owner in twins.items():
        assert specs[twin].launch(problem, 20) == specs[owner].launch(problem, 20)
    timed = {json.loads(line)[1] for line in log.read_text().splitlines() if json.loads(line)[0] == "time"}
    assert not timed & twins.keys()
    worth = analysis.axis_worth(outcome.plan, store.times("double"), twins)
    assert {v.value: v.problems for v in worth if v.axis == "GrpsPerCU"} == {1: 1, 2: 1}, (
        "a twin counts with its owner's times"
    )


def test_a_store_of_something_else_is_refused(tmp_path):
    from kgen.errors import KgenError

    path = tmp_path / "s.sqlite"
    path.write_bytes(b"not a database at all, but long enough to be read as a header" * 4)
    with pytest.raises(KgenError, match="not a sweep store"):
        Store(path, ARCH)


# ---- search


def search_plan():
    problems = workloads(layers_of([], ["4096x4096"]), [1], ["bf16"])
    return plan(space_of("wvsplitk", ARCH, ["bf16"], [1], {"STAGING": None, "YTILE": None, "WvPrGrp": None}), problems)


def test_optuna_finds_good_points_in_a_fraction_of_the_space():
    whole = search_plan()
    truth = {
        p.name: abs(p.spec.YTILE - 3) * 0.1 + abs(math.log2(p.spec.WvPrGrp) - 2) * 0.1 + (p.spec.UNRL != 4) * 0.2
        for p in whole.alive
    }
    search = Search(whole.alive, whole.choices, "optuna")
    tried = []
    while len(tried) < 120:
        for point in search.next(8):
            tried.append(point.name)
            search.told(point, truth[point.name])
    assert len(set(tried)) == 120, "no point twice"
    assert len(whole.alive) > 500
    ranked = sorted(truth, key=truth.__getitem__)
    assert min(truth[name] for name in tried) <= truth[ranked[8]]
    late, early = tried[60:], tried[:24]
    assert sum(truth[n] for n in late) / len(late) < 0.8 * sum(truth[n] for n in early) / len(early), "it learns"


def test_all_points_come_once_and_optuna_only_when_the_budget_asks():
    whole = small_plan()
    search = Search(whole.alive, whole.choices)
    names = [point.name for point in search.next(5)]
    assert search.settle(1.0, 100.0) == "all"
    names += [point.name for point in search.next(100)]
    assert sorted(names) == sorted(point.name for point in whole.alive)
    tight = Search(whole.alive, whole.choices)
    tight.next(4)
    assert tight.settle(1.0, 2.0) == "optuna"


def test_without_optuna_the_points_come_in_their_order(monkeypatch):
    whole = small_plan()
    tight = Search(whole.alive, whole.choices)
    first = tight.next(4)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert tight.settle(1.0, 2.0) == "all"
    assert tight.blind
    assert len({*first, *tight.next(100)}) == len(whole.alive)


# ---- workers


@hipcc
def test_a_budget_of_nothing_times_nothing_more_than_what_was_begun(tmp_path, real_tools):
    tally, _, _ = run(tmp_path, FakePlan(pause=1.5), SweepOptions(batch=12, side=1, budget=3.0))
    assert tally.out_of_budget
    assert tally.seconds < 18, "36 groups of 1.5 s on two workers are 27 s"


def test_a_worker_that_dies_or_is_late_is_replaced():
    worker = Worker(WorkerPlan(FakePlan(pause=30)))
    from kgen.spec.problem import GemmShape
    from kgen.sweep.workload import Workload

    try:
        assert worker.call("device", deadline=20).name == "double"
        with pytest.raises(WorkerLost, match="gave no answer"):
            worker.call("time", Workload(GemmShape(1, 1, 8), "bf16"), [], "torch", 1, deadline=0.3)
        assert worker.call("device", deadline=20).cu == 20
        assert worker.started == 2
    finally:
        worker.stop()
