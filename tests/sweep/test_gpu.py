"""The GPU's measurer over the emulated target: everything but the graphs and the clock is the code that a GPU runs."""

from __future__ import annotations

import time

import pytest

import kgen.bench.ceilings
import kgen.bench.timing
from kgen.runtime import session
from kgen.runtime.emu import EmuDriver
from kgen.spec.problem import GemmShape
from kgen.spec.wvsplitk import WvSplitKSpec
from kgen.sweep.farm import build_batch
from kgen.sweep.gpu import GpuMeasurer
from kgen.sweep.workload import Workload
from kgen.verify.devices import EmulatedDevice

pytestmark = pytest.mark.hipcc
ARCH = "gfx1151"
LAUNCHED: list[str] = []


class EagerGraph:
    """In place of a captured graph: the calls are run and timed one by one."""

    def __init__(self, calls):
        self.calls = calls
        for call in calls[:2]:
            call()

    def replay_us(self):
        start = time.perf_counter()
        for call in self.calls:
            call()
        return (time.perf_counter() - start) * 1e6 / len(self.calls)


class Floor:
    def __init__(self, driver):
        pass

    def microseconds(self, sets, replays):
        return 1.0


@pytest.fixture
def measurer(monkeypatch, real_tools):
    monkeypatch.setattr(kgen.bench.timing, "Graph", EagerGraph)
    monkeypatch.setattr(kgen.bench.timing, "COLD_BYTES", 1 << 16)
    monkeypatch.setattr(kgen.bench.ceilings, "ReadFloor", Floor)
    monkeypatch.setattr(GpuMeasurer, "_check_device", lambda self: EmulatedDevice(ARCH))
    yield GpuMeasurer(EmuDriver(ARCH))
    session.unload()


@pytest.fixture(scope="session")
def kernels(tmp_path_factory, real_tools):
    specs = [
        WvSplitKSpec(arch=ARCH, dtype="bf16", N=1, YTILE=y, WvPrGrp=4, A_CHUNK=8, UNRL=2, STAGING="lds") for y in (1, 2)
    ]
    return build_batch(specs, ARCH, tmp_path_factory.mktemp("gpu") / ARCH, 2).built


def test_a_kernel_is_checked_on_odd_sizes_and_on_the_problem_itself(measurer, kernels):
    workload = Workload(GemmShape(64, 1, 512), "bf16")
    odd, real = measurer.check(kernels[0], [workload])
    assert odd.ok, odd.why
    assert odd.workload == ""
    assert real.ok, real.why
    assert real.workload == workload.key
    assert real.max_err > 0


def test_a_wrong_answer_at_the_real_size_is_found(measurer, kernels, monkeypatch):
    import torch

    import kgen.ops.linear as op

    good = op._kernel_plan
    monkeypatch.setattr(op, "_kernel_plan", lambda *args: lambda x, w, b=None: torch.zeros_like(good(*args)(x, w, b)))
    odd, real = measurer.check(kernels[0], [Workload(GemmShape(64, 1, 512), "bf16")])
    assert odd.ok
    assert not real.ok


def test_each_candidate_answers_its_own_calls(measurer, kernels, monkeypatch):
    from kgen.runtime.library import Library

    launched = []
    load = Library.kernel
    monkeypatch.setattr(Library, "kernel", lambda self, name: launched.append(name) or load(self, name))
    found = measurer.time(Workload(GemmShape(64, 1, 512), "bf16"), kernels, "torch", 3)
    assert set(found.us) == {*(k.name for k in kernels), "torch"}
    assert all(len(rounds) == 3 for rounds in found.us.values())
    assert set(launched) == {k.name for k in kernels}
    assert session.stats() == {}, "nothing is left loaded"
    assert found.kind == "measured"
    assert found.floor_us == 1.0


def test_a_kernel_that_cannot_be_loaded_is_wrong_and_not_an_exception(measurer, kernels):
    from dataclasses import replace

    (odd,) = measurer.check(
        replace(kernels[0], image=kernels[0].image[:200]), [Workload(GemmShape(64, 1, 512), "bf16")]
    )
    assert not odd.ok
    assert odd.why


def test_torch_is_timed_as_the_ops_own_answer_and_left_out_where_it_cannot_be_captured(measurer, kernels, monkeypatch):
    import kgen.ops.plan as plan

    workload = Workload(GemmShape(64, 1, 512), "bf16")
    asked = []
    monkeypatch.setattr(
        plan, "torch_answer", lambda *args, keep=plan.torch_answer: asked.append(args[0]) or keep(*args)
    )
    assert "torch" in measurer.time(workload, kernels[:1], "torch", 2).us
    assert asked

    class NoCapture(EagerGraph):
        def __init__(self, calls):
            if len(calls) == 1:  # the trial
                raise RuntimeError("cannot be captured")
            super().__init__(calls)

    monkeypatch.setattr(kgen.bench.timing, "Graph", NoCapture)
    measurer._capturable.clear()
    found = measurer.time(workload, kernels[:1], kernels[0].name, 2)
    assert set(found.us) == {kernels[0].name}


def test_int4_kernels_are_checked_and_timed_through_their_op(measurer, tmp_path):
    from kgen.spec.problem import W4Shape
    from kgen.spec.wvsplitk_int4 import WvSplitKInt4Spec

    values = {
        "arch": ARCH,
        "dtype": "fp16",
        "N": 1,
        "YTILE": 1,
        "WvPrGrp": 4,
        "A_CHUNK": 16,
        "UNRL": 1,
        "DEQUANT": "magic",
    }
    (kernel,) = build_batch([WvSplitKInt4Spec(**values)], ARCH, tmp_path / ARCH, 2).built
    workload = Workload(W4Shape(64, 1, 512), "fp16")
    odd, real = measurer.check(kernel, [workload])
    assert odd.ok, odd.why
    assert real.ok, real.why
    assert kernel.name in measurer.time(workload, [kernel], "torch", 2).us
