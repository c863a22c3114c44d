"""A sweep on a local cluster of two nodes: one compiles, one measures, and the measuring worker is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from kgen.dispatch import load_table
from kgen.sweep.ray_farm import RayFarm, _measuring
from kgen.sweep.run import Sweep, SweepOptions
from kgen.sweep.store import Store
from tests.sweep.driver import ARCH, small_plan
from tests.sweep.fakes import FakePlan

ray = pytest.importorskip("ray")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    from ray.cluster_utils import Cluster

    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    patch.setenv("RAY_DISABLE_IMPORT_WARNING", "1")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    cluster.add_node(num_cpus=0, resources={f"kgen_{ARCH}": 1})
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    patch.undo()


def kill_the_first_measuring_worker(log: Path, killed: list[int], over: threading.Event) -> None:
    """The parent of the process that takes times is Ray's worker on the measuring node. Looks for it until the sweep is over."""
    while not over.wait(0.02):
        text = log.read_text(encoding="utf-8") if log.exists() else ""
        for line in text.splitlines(keepends=True):
            words = json.loads(line) if line.endswith("\n") else [""]
            if words[0] == "time":
                os.kill(words[4], signal.SIGKILL)
                killed.append(words[4])
                return


@pytest.mark.hipcc
def test_a_worker_killed_in_the_middle_costs_nothing(cluster, tmp_path, real_tools):
    log, killed, over = tmp_path / "log", [], threading.Event()
    fake = FakePlan(log=str(log), pause=0.05, hang="YTILE2_WvPrGrp8_A_CHUNK8_UNRL2", torch_us=3.0)
    farm = RayFarm(ARCH, fake, cluster.address, deadline=6.0)
    assert farm.lanes == 1
    killer = threading.Thread(target=kill_the_first_measuring_worker, args=(log, killed, over), daemon=True)
    killer.start()
    store = Store(tmp_path / "store.sqlite", ARCH)
    table = load_table("wvsplitk", ARCH)
    sweep = Sweep(small_plan(), table, farm, store, fake().device(), "measured", SweepOptions(batch=6, side=3))
    tally = sweep.run()
    over.set()
    farm.stop()
    killer.join(timeout=5)
    assert killed, "no worker was killed"
    states = {point["name"]: point["state"] for point in store.points("wvsplitk")}
    (hung,) = [name for name in states if "YTILE2_WvPrGrp8_A_CHUNK8_UNRL2" in name]
    assert states.pop(hung) == "failed", "a kernel that hangs is its own fault, also on a cluster"
    assert set(states.values()) == {"timed"}
    assert tally.lost_workers == 1, "the kill was Ray's to repair, the hang was the kernel's"
    words = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert {word[4] for word in words if word[0] == "time"} - set(killed), "another worker went on"


def test_what_a_cluster_lacks_is_said():
    from kgen.errors import KgenError

    assert _measuring({"kgen_gfx1151": 2.0, "GPU": 8.0}, "gfx1151", False)[1] == 2
    assert _measuring({"GPU": 8.0, "CPU": 4.0}, "gfx1151", False) == ({"num_cpus": 0, "num_gpus": 1}, 8)
    assert _measuring({"CPU": 4.0}, "gfx1151", True) == ({"num_cpus": 1}, 4)
    with pytest.raises(KgenError, match="kgen_gfx1151"):
        _measuring({"CPU": 4.0}, "gfx1151", False)
