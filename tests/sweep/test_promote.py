"""Which rows paired times support, which are refused, and what becomes of the table's text."""

from __future__ import annotations

import math
import random

import pytest

from kgen.dispatch import load_table, parse_table, pick, table_path
from kgen.dispatch.check import check
from kgen.errors import KgenError
from kgen.spec.problem import GemmShape
from kgen.sweep.promote import outranking, promote
from kgen.sweep.rows import draft_rows
from kgen.sweep.stats import interval, pooled
from kgen.sweep.workload import Workload

ARCH = "gfx1151"
NEW = "wvsplitk_{}_N{}_THRDS32_YTILE1_WvPrGrp8_A_CHUNK8_UNRL8_STAGINGlds"
OTHER = "wvsplitk_{}_N{}_THRDS32_YTILE2_WvPrGrp8_A_CHUNK8_UNRL2_STAGINGlds"
NOISE = random.Random(3)


def problem(m: int, k: int, n: int = 1, dtype: str = "bf16") -> Workload:
    return Workload(GemmShape(m, n, k), dtype)


def around(ratio: float, pairs: int = 11, noise: float = 0.002) -> tuple[float, ...]:
    return tuple(ratio * (1 + NOISE.uniform(-noise, noise)) for _ in range(pairs))


def drafted(ratios: dict[Workload, dict[str, float | tuple]], gain: float = 0.02, present: str = "torch"):
    table = {
        w.key: {name: around(r) if isinstance(r, float) else r for name, r in found.items()}
        for w, found in ratios.items()
    }
    return draft_rows(list(ratios), table, {w.key: present for w in ratios}, gain), table


# ---- intervals


def test_the_interval_of_eleven_pairs_is_the_second_to_the_tenth():
    values = [float(i) for i in range(1, 12)]
    found = interval(values)
    assert (found.median, found.low, found.high, found.pairs) == (6.0, 2.0, 10.0, 11)
    ten = interval(values[:10])
    assert (ten.low, ten.high) == (2.0, 9.0)
    assert (interval(values[:5]).low, interval(values[:5]).high) == (1.0, 5.0)


def test_the_interval_holds_the_true_median_as_often_as_it_says():
    rng, held = random.Random(11), 0
    for _ in range(2000):
        found = interval([rng.lognormvariate(0, 1) for _ in range(11)])
        held += found.low <= 1.0 <= found.high
    assert held / 2000 > 0.95


def test_pooled_gains_are_geometric_means_round_by_round():
    found = pooled([[0.5] * 11, [2.0] * 11])
    assert math.isclose(found.median, 1.0)
    assert found.pairs == 11


# ---- drafts


def test_wins_over_several_shapes_become_one_range_within_what_was_measured():
    ratios = {problem(m, k): {NEW.format("bf16", 1): 0.9} for m in (2048, 4096, 8192) for k in (2048, 4096)}
    drafts, _ = drafted(ratios)
    (row,) = drafts.rows
    assert row.when == 'N == 1 and dtype == "bf16" and 2048 <= M <= 8192 and 2048 <= K <= 4096 and K % 2048 == 0'
    assert row.gain.words().startswith("+10.")
    assert drafts.refused == ()


def test_a_loss_inside_a_range_breaks_it_and_is_said():
    ratios = {problem(m, k): {NEW.format("bf16", 1): 0.9} for m in (2048, 8192) for k in (2048, 4096)}
    ratios[problem(4096, 4096)] = {NEW.format("bf16", 1): 1.05}
    drafts, _ = drafted(ratios)
    assert any("slower than the present pick at M4096 N1 K4096" in words for words in drafts.refused)
    whens = [row.when for row in drafts.rows]
    assert 'N == 1 and dtype == "bf16" and 2048 <= M <= 8192 and K == 2048' in whens
    assert not any(row.ms[0] <= 4096 <= row.ms[1] and row.ks[0] <= 4096 <= row.ks[1] for row in drafts.rows)
    assert {w.sizes["M"] for row in drafts.rows if row.exact for w in row.problems} == {2048, 8192}
    assert [row.exact for row in drafts.rows] == [True, True, False], "exact rows come first"


def test_a_shape_that_was_not_timed_in_pairs_breaks_a_range():
    ratios = {problem(m, 2048): {NEW.format("bf16", 1): 0.9} for m in (2048, 8192)}
    ratios[problem(4096, 2048)] = {OTHER.format("bf16", 1): 1.0}
    drafts, _ = drafted(ratios)
    assert all(row.exact for row in drafts.rows)
    assert any("not timed in pairs" in words for words in drafts.refused)


def test_an_odd_k_inside_the_range_is_not_spoken_for():
    ratios = {problem(4096, k): {NEW.format("bf16", 1): 0.9} for k in (2048, 6144)}
    ratios[problem(4096, 4608)] = {OTHER.format("bf16", 1): 1.0}
    drafts, _ = drafted(ratios)
    (row,) = drafts.rows
    assert row.when.endswith("K % 2048 == 0"), "4608 was not shown to win, and the row does not hold there"


def test_a_gain_that_is_not_sure_or_too_small_promotes_nothing():
    unsure = tuple(0.9 if i % 2 else 1.05 for i in range(11))
    few = (0.8,) * 5
    for ratio in (0.99, unsure, few):
        drafts, _ = drafted({problem(4096, 4096): {NEW.format("bf16", 1): ratio}})
        assert drafts.rows == ()
    assert (
        "not sure enough"
        in drafted({problem(4096, 4096): {NEW.format("bf16", 1): (0.9,) * 6 + (1.05,) * 5}})[0].refused[0]
    )


def test_torch_takes_what_torch_wins():
    drafts, _ = drafted(
        {problem(4096, 4096): {"torch": 0.8, NEW.format("bf16", 1): 0.95}}, present=OTHER.format("bf16", 1)
    )
    (row,) = drafts.rows
    assert row.use == "torch"


def test_both_types_with_one_answer_share_a_row():
    ratios = {problem(m, 2048, dtype=d): {NEW.format(d, 1): 0.9} for d in ("bf16", "fp16") for m in (1024, 2048)}
    drafts, _ = drafted(ratios)
    (row,) = drafts.rows
    assert "dtype" not in row.when
    assert row.use == NEW.format("{dtype}", 1)
    assert len(row.problems) == 4


# ---- the table's text


def promotion_of(ratios, kind="measured", name="wvsplitk", present=None):
    table = load_table(name, ARCH)
    text = table_path(name, ARCH).read_text(encoding="utf-8")
    picks = {w.key: pick(table, w.shape, w.dtype).kernel or "torch" for w in ratios}
    paired = {w.key: {n: around(r) for n, r in found.items()} for w, found in ratios.items()}
    protected = outranking(table, list(ratios)) if kind == "model" else {}
    drafts = draft_rows(list(ratios), paired, picks, 0.02, protected=protected)
    return promote(table, text, table_path(name, ARCH), drafts, kind, "Some GPU", paired), table


def test_a_promoted_table_is_in_order_and_answers_as_it_should():
    ratios = {problem(m, 4096, n): {NEW.format("bf16", n): 0.93} for n in (1, 2) for m in (4096, 8192, 16384)}
    found, old = promotion_of(ratios)
    new = parse_table(found.new)
    assert [f for f in check(new).findings if f.severity == "error" or f.kind == "stale"] == []
    for workload in ratios:
        assert pick(new, workload.shape, "bf16").kernel == NEW.format("bf16", workload.sizes["N"])
        assert pick(new, workload.shape, "fp16").kernel == pick(old, workload.shape, "fp16").kernel, (
            "fp16 was not measured"
        )
    outside = GemmShape(4095, 1, 4096)
    assert pick(new, outside, "bf16").kernel == pick(old, outside, "bf16").kernel
    row = pick(new, GemmShape(8192, 1, 4096), "bf16").row
    assert row.because.kind == "measured"
    assert row.because.pairs == 11
    assert row.because.shapes == 3
    assert row.because.device == "Some GPU"
    assert row.because.gain.startswith("+7")


def test_the_rest_of_the_text_stays_as_it_was_typed():
    found, _ = promotion_of({problem(4096, 4096): {NEW.format("bf16", 1): 0.9}})
    removed = [line for line in found.diff().splitlines() if line.startswith("-") and not line.startswith("---")]
    assert removed == []
    assert found.gain.words().startswith("+10.")


def test_rows_that_new_ones_leave_nothing_are_taken_out():
    text = """schema = 1
arch = "gfx1151"
family = "wvsplitk"

# a remark that stays
[[row]]
when = 'N == 1 and dtype == "bf16" and M == 4096 and K == 4096'
use = "wvsplitk_bf16_N1_THRDS32_YTILE2_WvPrGrp8_A_CHUNK8_UNRL2_STAGINGlds"
because = { kind = "default", why = "an earlier sweep's" }

[[row]]
when = "true"
use = "torch"
because = { kind = "default", why = "the rest" }
"""
    table = parse_table(text)
    one = problem(4096, 4096)
    paired = {one.key: {NEW.format("bf16", 1): around(0.9)}}
    drafts = draft_rows([one], paired, {one.key: OTHER.format("bf16", 1)}, 0.02)
    found = promote(table, text, table_path("wvsplitk", ARCH), drafts, "measured", "Some GPU", paired)
    assert found.removed == (table.rows[0].when,)
    assert len(parse_table(found.new).rows) == 2
    assert "a remark that stays" in found.new


def test_a_model_does_not_outrank_a_measurement_and_says_so():
    published, default = problem(152064, 2048), problem(8192, 3072)
    found, _ = promotion_of(
        {published: {NEW.format("bf16", 1): 0.5}, default: {NEW.format("bf16", 1): 0.5}}, kind="model"
    )
    assert [row.problems for row in found.rows] == [(default,)]
    assert any("published, which a model does not outrank" in words for words in found.refused)
    because = pick(parse_table(found.new), default.shape, "bf16").row.because
    assert because.kind == "model"


def test_a_table_that_changed_meanwhile_is_not_overwritten(tmp_path):
    found, _ = promotion_of({problem(4096, 4096): {NEW.format("bf16", 1): 0.9}})
    path = tmp_path / ARCH / "wvsplitk.toml"
    moved = type(found)(path, *(getattr(found, name) for name in ("old", "new", "rows", "removed", "refused", "gain")))
    moved.write()
    assert path.read_text() == found.new
    with pytest.raises(KgenError, match="changed while the sweep ran"):
        moved.write()
