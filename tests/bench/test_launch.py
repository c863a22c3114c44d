"""The cost of a call: which ops are called, and that each call is one launch of its kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kgen.bench.launch import bench_launch, op_calls
from kgen.runtime import session
from kgen.runtime.emu import emulation
from kgen.runtime.library import Library
from tests.ops.dense import build_dense
from tests.runtime.tiny import ARCH

pytestmark = pytest.mark.hipcc


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    import kgen.ops  # noqa: F401

    yield session.load(build_dense(tmp_path_factory.mktemp("launch") / ARCH), device="emu")
    session.unload()


def test_every_op_with_a_kernel_is_called_once_per_call(library: Library):
    calls = op_calls(library)
    assert {"torch.ops.kgen.wvsplitk", "torch.ops.kgen.llmm1"} <= set(calls)
    for name, call in calls.items():
        with emulation() as log:
            call()
        assert [launch.kernel.split("_")[0] for launch in log.launches] == [name.rsplit(".", 1)[1]], name


def test_costs_are_named_and_beside_torchs(library: Library):
    costs = bench_launch(library, calls=2, repeats=1)
    assert list(costs)[-2:] == ["torch.nn.functional.linear", "torch add_(1), one element"]
    assert "torch.ops.kgen.wvsplitk" in costs
    assert all(cost > 0 for cost in costs.values())
