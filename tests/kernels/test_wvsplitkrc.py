"""wvsplitkrc in the emulator beyond the common cases: orders of work-groups, launches one after the other, rows that are masked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kgen.emu import Module, Options
from kgen.spec.problem import GemmShape
from kgen.spec.wvsplitkrc import WvSplitKrcSpec
from kgen.verify.accuracy import judge
from kgen.verify.cases import Case, accumulation
from kgen.verify.dense import operands
from tests.kernels.built import AMD, of_family

pytestmark = pytest.mark.hipcc
POISON = 0x7FE1


class Launches:
    """A kernel with a workspace that lives on from launch to launch, as a stream's does."""

    def __init__(self, spec: WvSplitKrcSpec, image: bytes, shape: GemmShape):
        self.spec, self.shape, self.module = spec, shape, Module(image, name=spec.name)
        need = spec.workspace(shape)
        fill = np.nan if spec.DETERMINISTIC else 0.0
        self.partial = np.full(need.partial_bytes // 4, fill, np.float32)
        self.counter = np.zeros(need.counter_bytes // 4, np.uint32)

    def run(self, case: Case, **options: Any) -> np.ndarray:
        """One launch, judged, which must leave the counters (and sums that are added to) zero."""
        spec, shape, data = self.spec, self.shape, operands(case, self.spec.dtype)
        out = np.full((shape.N, shape.M), POISON, np.uint16)
        geometry = spec.launch(shape, 0)
        values = {"weight": data.weight, "act": data.act, "bias": data.bias, "out": out}
        values |= {"partial": self.partial, "counter": self.counter, "M": shape.M, "K": shape.K, "rows": shape.N}
        values |= {"weight_stride": data.weight_stride, "act_stride": data.act_stride, "bias_stride": data.bias_stride}
        values |= {"shards": spec.shards(shape), "groups": geometry.grid[0]}
        arguments = [values[arg.name] for arg in spec.args]
        self.module.run(spec.name, geometry.grid, geometry.block, arguments, 0, Options(races=True, **options))
        verdict = judge(out, data.reference, data.magnitude, spec.dtype, accumulation(spec, shape))
        assert verdict.ok, f"{spec.name}: {options}: {verdict.words}"
        assert not self.counter.any()
        assert spec.DETERMINISTIC or not self.partial.view(np.uint32).any()
        return out


def chosen(built, arch: str, N: int, deterministic: bool, dtype: str = "bf16") -> tuple[WvSplitKrcSpec, bytes]:
    """The default kernel of a tile with the shorter shards, and its code object."""
    kernels = built(arch)
    found = [
        spec
        for spec in of_family(WvSplitKrcSpec, arch).values()
        if (spec.N, spec.DETERMINISTIC, spec.dtype) == (N, deterministic, dtype)
    ]
    spec = max(found, key=lambda spec: spec.CHUNKK)
    return spec, kernels.manifest.entries[spec.name].image(kernels.folder)


ORDERS: list[dict[str, Any]] = [
    {"threads": 1},
    {"schedule": "reverse", "threads": 1},
    *({"schedule": f"random:{seed}", "quantum": 11 * seed + 5, "concurrent": 2 + 3 * seed} for seed in range(4)),
]


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("N", [16, 64])
@pytest.mark.parametrize("arch", AMD)
def test_one_workspace_serves_launches_in_any_order_of_groups(arch, N, deterministic, built):
    spec, image = chosen(built, arch, N, deterministic)
    launches = Launches(spec, image, GemmShape(spec.rows_per_group + 17, N - 3, 1096))
    for seed, options in enumerate(ORDERS):  # other data each time: nothing of the last launch may shine through
        launches.run(Case("order", launches.shape, "normal", "M", act_pad=8, seed=seed), **options)


@pytest.mark.parametrize("arch", AMD)
def test_ten_runs_in_random_orders_give_the_same_bits(arch, built):
    spec, image = chosen(built, arch, 32, True)
    launches = Launches(spec, image, GemmShape(48, 29, 1100 // 8 * 8))
    case = Case("bits", launches.shape, "hot", "NM", seed=1)
    first = launches.run(case, threads=1)
    for seed in range(10):
        out = launches.run(case, schedule=f"random:{seed}", quantum=29 + seed, concurrent=7)
        assert (out == first).all()


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("arch", ["gfx1151", "gfx950"])
def test_a_nan_shows_in_its_row_only_and_not_in_the_next_launch(arch, deterministic, built):
    spec, image = chosen(built, arch, 16, deterministic)
    launches = Launches(spec, image, GemmShape(70, 13, 1032))
    launches.run(Case("NaN", launches.shape, "nan", seed=4))  # `judge` asks for NaN exactly where the reference has it
    launches.run(Case("after", launches.shape, "normal", seed=5))


@pytest.mark.parametrize("arch", ["gfx1201", "gfx942"])
@pytest.mark.parametrize("rows", [9, 65, 103, 128])
def test_any_number_of_rows_up_to_the_tile(arch, rows, built):
    spec, image = chosen(built, arch, 16 if rows <= 16 else 128, True, "fp16")
    launches = Launches(spec, image, GemmShape(33, rows, 520))
    launches.run(Case("rows", launches.shape, "normal", "NM", weight_pad=8, bias_pad=5, seed=rows), threads=1)


@pytest.mark.parametrize("arch", ["gfx1151", "gfx950"])
def test_more_shards_than_are_loaded_at_a_time(arch, built):
    spec, image = chosen(built, arch, 32, True)
    shards = 2 * spec.batch + 1
    launches = Launches(spec, image, GemmShape(16, 17, spec.shard * shards - 8))
    assert spec.shards(launches.shape) == shards
    launches.run(Case("deep", launches.shape, "normal", seed=2), threads=1)
