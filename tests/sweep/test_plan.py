"""Spaces from spec classes, and how fast points are planned and pruned."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from kgen.errors import SpecError
from kgen.spec.arch import ARCHES
from kgen.spec.problem import GemmShape, MoeDownShape, MoeUpShape
from kgen.spec.registry import FAMILIES
from kgen.sweep import prune
from kgen.sweep.conduct import Request, planned
from kgen.sweep.plan import plan
from kgen.sweep.space import defaults_of, parse_axes, space_of
from kgen.sweep.traffic import bytes_moved, weight_bytes
from kgen.sweep.workload import Workload, layers_of, rows_of, workloads

ALL = {"YTILE": None, "WvPrGrp": None, "A_CHUNK": None, "UNRL": None, "STAGING": None}


def test_a_thousand_points_are_planned_and_pruned_in_two_seconds():
    problems = workloads(layers_of(["qwen3-omni", "llama-3.1-8b", "deepseek-v3"]), [1, 2, 4], ["bf16", "fp16"])
    space = space_of("wvsplitk", "gfx1151", ["bf16", "fp16"], [1, 2, 4], ALL)
    begun = time.perf_counter()
    whole = plan(space, problems)
    per_thousand = (time.perf_counter() - begun) / len(whole.points) * 1000
    assert len(whole.points) > 5000
    assert per_thousand < 2.0  # measured: 0.15 s


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("arch", ARCHES)
def test_every_family_has_a_space_on_every_target_without_knowing_it(family, arch):
    whole = planned(Request(family, arch, sets=("qwen3-8b",)))
    assert 0 < len(whole.points) < 50_000  # some 10,000 are planned in a second
    assert whole.alive or all(point.pruned for point in whole.points)
    for point in whole.pruned:
        assert ":" in point.pruned, "a rule's sentence names its fields"


def test_a_pruned_point_says_what_a_rejected_spec_says():
    space = space_of("wvsplitk", "gfx1151", ["bf16"], [8], {"YTILE": [8], "A_CHUNK": [32], "UNRL": [8]})
    whole = plan(space, workloads(layers_of([], ["4096x4096"]), [8], ["bf16"]))
    assert whole.pruned
    for point in whole.pruned:
        problem = point.spec.problems()[0]
        assert problem.found in point.pruned
        assert problem.allowed in point.pruned


def test_axes_narrow_and_open():
    assert parse_axes(["YTILE=1,2", "STAGING=lds,global", "K=none,4096", "UNRL"]) == {
        "YTILE": (1, 2),
        "STAGING": ("lds", "global"),
        "K": (None, 4096),
        "UNRL": None,
    }
    narrow = space_of("wvsplitk", "gfx1151", ["bf16"], [1], parse_axes(["YTILE=1,2", "UNRL=4"]))
    assert narrow.axes["YTILE"] == (1, 2)
    assert narrow.axes["UNRL"] == (4,)
    assert narrow.axes["A_CHUNK"] == defaults_of("wvsplitk", "gfx1151").axes["A_CHUNK"]
    assert space_of("wvsplitk", "gfx1151", ["bf16"], [1], {"A_CHUNK": None}).axes["A_CHUNK"] == (8, 16, 32)


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"YTIL": [1]}, "no such parameter"),
        ({"YTILE": [99]}, "99"),
        ({"A_CHUNK": [9]}, "8, 16, 32"),
        ({"STAGING": ["ldz"]}, "ldz"),
    ],
)
def test_axes_that_cannot_be_are_all_said(axes, words):
    with pytest.raises(SpecError, match=words):
        space_of("wvsplitk", "gfx1151", ["bf16"], [1], axes)


def test_words_that_are_no_axes_are_refused():
    for word in ("=1", "YTILE=", "1,2"):
        with pytest.raises(SpecError, match="not an axis"):
            parse_axes([word])


def test_long_ranges_are_walked_in_powers_of_two():
    assert space_of("wvsplitk", "gfx1151", ["bf16"], [1], {"WvPrGrp": None}).axes["WvPrGrp"] == (1, 2, 4, 8, 16, 32)


def test_rows_that_the_family_is_not_for_are_refused():
    with pytest.raises(SpecError, match="1 to 8"):
        rows_of("wvsplitk", "gfx1151", [1, 9])


def test_layers_by_set_beginning_file_and_size(tmp_path):
    (tmp_path / "mine.toml").write_text(
        'schema = 1\nmodel = "M"\nsource = "here"\n[[layer]]\nname = "a"\nM = 8\nK = 16\n'
    )
    layers = layers_of(["qwen3-omni", str(tmp_path / "mine.toml")], ["24x32"])
    assert (layers[0].M, layers[0].K) == (5120, 2048)
    assert [(layer.M, layer.K) for layer in layers[-2:]] == [(8, 16), (24, 32)]
    with pytest.raises(SpecError, match="no such file"):
        layers_of(["qwen3"])  # three sets begin so
    with pytest.raises(SpecError, match="not a layer"):
        layers_of([], ["24*32"])


def test_a_range_of_sizes_is_a_scan():
    layers = layers_of([], ["4096x1024:2048:512", "128:256:128x64"])
    assert [(layer.M, layer.K) for layer in layers] == [(4096, 1024), (4096, 1536), (4096, 2048), (128, 64), (256, 64)]


def test_spills_and_empty_chips_are_pruned_by_the_code_object():
    from types import SimpleNamespace

    def entry(**more):
        plain = {
            "vgpr_spills": 0,
            "sgpr_spills": 0,
            "scratch_bytes": 0,
            "groups_per_cu": 4,
            "occupancy": 8.0,
            "limited_by": "waves",
        }
        return SimpleNamespace(**(plain | more))

    assert prune.against(entry()) == ""
    assert "spills: 3 vector" in prune.against(entry(vgpr_spills=3))
    assert "scratch: 64" in prune.against(entry(scratch_bytes=64))
    assert "no work-group fits" in prune.against(entry(groups_per_cu=0, limited_by="lds"))
    assert "0.5 waves per SIMD" in prune.against(entry(occupancy=0.5))
    assert prune.against(entry(occupancy=0.5), 0.25) == ""


def test_problems_may_have_more_than_three_sizes():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Mixture(GemmShape):
        experts: int = 1

    found = workloads(layers_of([], ["64x128"]), [1], ["bf16"], Mixture, {"experts": (8, 128)})
    assert [w.sizes["experts"] for w in found] == [8, 128]
    assert len({w.key for w in found}) == len({w.kind for w in found}) == 2


def test_sizes_that_the_familys_problems_do_not_have_are_refused():
    with pytest.raises(SpecError, match="experts"):
        planned(Request("wvsplitk", "gfx1151", layers=("64x128",), sizes={"experts": (8,)}))


def test_traits_of_a_problem_are_no_choice_of_the_kernel():
    whole = planned(
        Request("wvsplitk_int4", "gfx1151", layers=("4096x4096",), rows=(1,), axes={"GROUP_SIZE": (32, 128)})
    )
    assert {w.sizes["GROUP_SIZE"] for w in whole.workloads} == {32, 128}
    assert "GROUP_SIZE" in whole.axes
    assert "GROUP_SIZE" not in whole.choices
    for point in whole.alive:
        assert {w.sizes["GROUP_SIZE"] for w in point.takes} == {point.spec.GROUP_SIZE}


def test_sizes_that_make_no_problem_are_left_out():
    asked = Request("moe_wvsplitk_int4", "gfx1151", layers=("768x2048",), sizes={"tokens": (1, 4), "blocks": (8, 32)})
    sizes = {(w.sizes["tokens"], w.sizes["blocks"]) for w in planned(asked).workloads}
    assert sizes == {(1, 8), (1, 32), (4, 32)}, "with one slot to a block, four tokens at eight experts have 32"
    with pytest.raises(SpecError, match="at least 32 blocks"):
        planned(replace(asked, sizes={"tokens": (4,)}))
    for family in ("moe_wvsplitk_int4", "moe_down_reduce"):
        with pytest.raises(SpecError, match="8 of 4"):
            planned(replace(asked, family=family, sizes={"experts": (4,)}))


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_listed_numbers_of_rows_follow_those_of_the_problems(rows):
    asked = Request("moe_wvsplitk_int4", "gfx1151", layers=("768x2048",), rows=(rows,))
    assert {point.spec.N for point in planned(asked).points} == {rows}
    opened = planned(replace(asked, axes={"N": None}))
    assert {point.spec.N for point in opened.points} == {1, 2, 4}
    assert {point.spec.N for point in opened.alive} == {rows}


def test_bytes_of_a_mixture_are_those_of_the_experts_with_slots():
    up = MoeUpShape(768, 1, 2048, experts=128, top_k=8, tokens=1, blocks=8, SILU=True)
    codes = 768 * 2048 // 2
    assert weight_bytes("moe_wvsplitk_int4", "gfx1151", Workload(up, "bf16")) == 2 * 8 * codes
    assert bytes_moved("moe_wvsplitk_int4", "gfx1151", Workload(up, "bf16")) == 16 * codes + 2 * (2048 + 8 * 768)
    many = replace(up, N=4, tokens=64, blocks=200, SILU=False)
    assert weight_bytes("moe_wvsplitk_int4", "gfx1151", Workload(many, "bf16")) == 128 * codes, "none is read twice"
    down = MoeDownShape(2048, 1, 768, experts=128, top_k=8, tokens=1, FUSE_SILU=True)
    assert bytes_moved("moe_down_reduce", "gfx1151", Workload(down, "bf16")) == 8 * codes + 2 * (16 * 768 + 2048)
    plain = Workload(GemmShape(64, 2, 128), "bf16")
    assert bytes_moved("wvsplitk", "gfx1151", plain) == 2 * (64 * 128 + 2 * 128 + 2 * 64)
