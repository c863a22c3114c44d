"""Workers for the devices that are there."""

from __future__ import annotations

import pytest

from kgen.errors import KgenError, MissingPieceError
from kgen.spec.registry import family_class
from kgen.sweep.conduct import Request, conduct, recalled, worker_plans


def gpus(monkeypatch, count: int) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)


def test_one_worker_for_each_gpu_that_may_be_used(monkeypatch):
    gpus(monkeypatch, 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    plans = worker_plans(Request("wvsplitk", "sm_90"))
    assert [dict(plan.env) for plan in plans] == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert [plan.env["CUDA_VISIBLE_DEVICES"] for plan in worker_plans(Request("wvsplitk", "sm_90"))] == ["5", "7"]
    assert len(worker_plans(Request("wvsplitk", "sm_90", workers=1))) == 1
    monkeypatch.delenv("HIP_VISIBLE_DEVICES", raising=False)
    assert "HIP_VISIBLE_DEVICES" in worker_plans(Request("wvsplitk", "gfx1151"))[0].env


def test_one_gpu_is_taken_as_it_is(monkeypatch):
    gpus(monkeypatch, 1)
    (plan,) = worker_plans(Request("wvsplitk", "sm_90"))
    assert dict(plan.env) == {}


def test_without_a_gpu_the_cure_is_the_model(monkeypatch):
    gpus(monkeypatch, 0)
    with pytest.raises(MissingPieceError, match="--model"):
        worker_plans(Request("wvsplitk", "gfx1151"))
    assert len(worker_plans(Request("wvsplitk", "gfx1151", model=True, workers=3))) == 3


@pytest.mark.parametrize("family", ["moe_wvsplitk_int4", "moe_down_reduce"])
def test_a_family_that_kgen_bench_has_no_operands_for_is_said_before_anything_is_built(family, tmp_path):
    request = Request(family, "sm_90", layers=("768x2048",), out=tmp_path)
    with pytest.raises(KgenError, match=f"{family} cannot be timed on a GPU"):
        conduct(request)
    assert not list(tmp_path.rglob("*.co"))
    assert not list(tmp_path.rglob("kernels"))


@pytest.mark.hipcc
@pytest.mark.parametrize(("family", "layer"), [("moe_wvsplitk_int4", "768x2048"), ("moe_down_reduce", "2048x768")])
def test_expert_kernels_are_swept_by_the_model_from_end_to_end(family, layer, tmp_path, real_tools):
    axes = {"YTILE": (4,), "WvPrGrp": (8,), "K_WAVES": (1, 8), "A_CHUNK": (16,), "UNRL": (2,), "GRID": ("blocks",)}
    known = {name: values for name, values in axes.items() if name in family_class(family).parameters()}
    request = Request(
        family,
        "gfx1151",
        layers=(layer,),
        axes=known,
        out=tmp_path,
        tables=tmp_path / "t",
        model=True,
        workers=1,
        jobs=1,
    )
    outcome = conduct(request)
    assert {state for state, count in outcome.counts.items() if count} <= {"timed", "promoted", "pruned"}
    assert outcome.counts["timed"] >= 2
    assert (
        recalled(Request(family, "gfx1151", out=tmp_path, tables=tmp_path / "t")).plan.workloads
        == outcome.plan.workloads
    )
