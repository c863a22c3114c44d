"""Workers for the devices that are there."""

from __future__ import annotations

import pytest

from kgen.errors import MissingPieceError
from kgen.sweep.conduct import Request, worker_plans


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
