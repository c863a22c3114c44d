"""A small sweep as a program of its own, to be killed: real builds, the double's times. `python -m tests.sweep.driver FOLDER [JSON of FakePlan]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from kgen.dispatch import load_table
from kgen.sweep.farm import LocalFarm
from kgen.sweep.plan import plan
from kgen.sweep.run import Sweep, SweepOptions
from kgen.sweep.space import space_of
from kgen.sweep.store import Store
from kgen.sweep.worker import WorkerPlan
from kgen.sweep.workload import layers_of, workloads
from tests.sweep.fakes import FakePlan

ARCH = "gfx1151"
AXES = {"YTILE": [1, 2], "WvPrGrp": [2, 4, 8], "A_CHUNK": [8], "UNRL": [1, 2], "STAGING": ["lds"], "K_WAVES": [1]}


def small_plan():
    problems = workloads(layers_of([], ["512x1024", "1024x2048", "2048x512"]), [1], ["bf16"])
    return plan(space_of("wvsplitk", ARCH, ["bf16"], [1], AXES), problems)


def run(folder: Path, fake: FakePlan, options: SweepOptions | None = None, workers: int = 2, deadline: float = 20.0):
    """(tally, store) of a small sweep; the store is open."""
    farm = LocalFarm(ARCH, folder / "kernels", [WorkerPlan(fake, f"double-{i}") for i in range(workers)], 2, deadline)
    store = Store(folder / "store.sqlite", ARCH)
    try:
        device = fake().device()
        table = load_table("wvsplitk", ARCH)
        sweep = Sweep(small_plan(), table, farm, store, device, "measured", options or SweepOptions(batch=4, side=3))
        return sweep.run(), store, sweep
    finally:
        farm.stop()


if __name__ == "__main__":
    run(Path(sys.argv[1]), FakePlan(**json.loads(sys.argv[2])))
