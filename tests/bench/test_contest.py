"""What is timed is right, on every side: the contests of all families, on the emulator's device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kgen.bench.contest import contest
from kgen.bench.kernels import bench_family
from kgen.bench.timing import Timing
from kgen.errors import KgenError
from kgen.runtime import session
from kgen.runtime.emu import emulation
from kgen.runtime.library import Library
from kgen.spec.problem import GemmShape
from tests.ops.dense import LLMM1, build_dense
from tests.ops.splitk import build_splitk
from tests.ops.test_wvsplitkq import specs_on
from tests.runtime.tiny import ARCH

pytestmark = pytest.mark.hipcc


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_dense(tmp_path_factory.mktemp("contest") / ARCH)


@pytest.fixture
def library(folder: Path) -> Iterator[Library]:
    import kgen.ops  # noqa: F401

    yield session.load(folder, device="emu")
    session.unload()


@pytest.mark.parametrize(
    ("family", "N", "peers"), [("llmm1", 1, {"torch linear", "wvsplitk"}), ("wvsplitk", 3, {"torch linear"})]
)
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_every_contender_gives_a_right_answer(library: Library, family: str, N: int, peers: set[str], dtype: str):
    run = contest(library, family, GemmShape(24, N, 1032), dtype, sets=2)
    assert next(iter(run.answers)) == "kgen"
    assert set(run.answers) == {"kgen", *peers}
    assert run.kernel is not None
    for name in run.answers:
        verdict = run.verdict(name)
        assert verdict.ok, f"{name}: {verdict.words}"
        assert len(run.calls(name)) == 2
    assert not torch.equal(run.weights[0], run.weights[1])


def test_the_peer_of_llmm1_is_wvsplitks_kernel(library: Library):
    run = contest(library, "llmm1", GemmShape(24, 1, 1032), "bf16", sets=2)
    with emulation() as log:
        run.calls("kgen")[1]()
        run.calls("wvsplitk")[1]()
    assert [launch.kernel.split("_")[0] for launch in log.launches] == ["llmm1", "wvsplitk"]


def test_a_kernel_can_be_named(library: Library):
    run = contest(library, "llmm1", GemmShape(24, 1, 1032), "bf16", sets=2, kernel=LLMM1[0].name)
    assert run.kernel is not None
    assert run.kernel.name == LLMM1[0].name
    assert run.verdict().ok


def test_a_wrong_answer_is_seen(library: Library):
    run = contest(library, "llmm1", GemmShape(24, 1, 1032), "bf16", sets=2)
    run.answers["kgen"] = lambda w: run.answers["torch linear"](w) * 1.02
    assert not run.verdict().ok


def test_wvsplitkrc_is_priced_against_its_own_faster_sums(tmp_path: Path):
    library = session.load(build_splitk(tmp_path), device="emu")
    try:
        run = contest(library, "wvsplitkrc", GemmShape(40, 13, 1032), "bf16", sets=2)
        assert set(run.answers) == {"kgen", "torch linear", "fast"}
        for name in run.answers:
            assert run.verdict(name).ok, name
        with emulation() as log:
            run.calls("kgen")[0]()
            run.calls("fast")[0]()
        assert ["DETERMINISTIC" in launch.kernel for launch in log.launches] == [True, False]
        with pytest.raises(KgenError, match="without --kernel"):
            contest(library, "wvsplitkrc", GemmShape(40, 13, 1032), "bf16", sets=2, kernel=log.launches[0].kernel)
    finally:
        session.unload()


def test_wvsplitkq_is_timed_on_its_own_bytes_beside_scaled_mm_and_16_bits(tmp_path: Path):
    library = session.load(build_dense(tmp_path / "gfx1201", {"wvsplitkq": specs_on("gfx1201")}), device="emu")
    try:
        run = contest(library, "wvsplitkq", GemmShape(24, 1, 1040), "bf16", sets=2)
        assert set(run.answers) == {"kgen", "torch scaled_mm", "torch linear"}
        assert run.weight_bytes == 24 * 1040
        assert run.peer_weights["torch linear"][0].element_size() == 2
        for name in ("kgen", "torch scaled_mm"):
            assert run.verdict(name).ok, name
        assert run.calls("torch linear")[1]().shape == (1, 24)
    finally:
        session.unload()


def test_the_emulator_is_not_timed(library: Library):
    with pytest.raises(KgenError, match="times need a GPU"):
        next(bench_family("llmm1", [GemmShape(24, 1, 1032)]))


@pytest.mark.parametrize(("peers", "timed"), [(True, {"kgen", "torch linear", "wvsplitk"}), (False, {"kgen"})])
def test_peers_are_timed_beside_the_op_or_not(
    library: Library, monkeypatch: pytest.MonkeyPatch, peers: bool, timed: set[str]
):
    class Floor:
        def __init__(self, driver: object): ...

        def microseconds(self, sets: object) -> float:
            return 1.0

    def compare(contenders: dict[str, object], rounds: int) -> dict[str, Timing]:
        return {name: Timing(2.0, 2.0, 2.0, (2.0,) * rounds) for name in contenders}

    monkeypatch.setattr("kgen.bench.kernels.library_on_gpu", lambda: library)
    monkeypatch.setattr("kgen.bench.kernels.ReadFloor", Floor)
    monkeypatch.setattr("kgen.bench.kernels.compare", compare)
    case = next(bench_family("llmm1", [GemmShape(24, 1, 1032)], peers=peers))
    assert {"kgen", *case.peers} == timed
    assert case.us == 2.0
    assert case.ratio == 2.0
