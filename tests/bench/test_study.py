"""Studies: their files, and what is concluded from cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgen.bench.kernels import BenchCase, Peer
from kgen.bench.study import crossovers, load_study, parse_study, summary
from kgen.errors import SpecError


def case(N: int, us: float, peer: float, dtype: str = "bf16", kernel: str = "gemm_4bit_x", M: int = 64) -> BenchCase:
    peers = {"slow": Peer(peer * 2, (1, 1, 1)), "fast": Peer(peer, (1, 1, 1))}
    return BenchCase("gemm_4bit", dtype, M, N, 128, kernel, us, us, us, 1.0, us, 1.0, {}, peers)


def test_the_study_of_gemm_4bit_has_forty_layers_all_types_and_up_to_1024_rows():
    study = load_study("gemm_4bit")
    assert len(study.layers) == len({(layer.M, layer.K) for layer in study.layers}) == 40
    assert study.dtypes == ("bf16", "fp16", "fp32")
    assert (study.rows[0], study.rows[-1]) == (1, 1024)
    assert all(layer.K % 32 == 0 and layer.model and layer.name for layer in study.layers)


def test_a_crossover_is_the_last_number_of_rows_before_the_fastest_peer_wins():
    found = crossovers([case(1, 1, 5), case(8, 4, 5), case(2, 2, 5), case(16, 6, 5), case(32, 3, 5)])
    assert [each.crossover for each in found] == [8]
    assert found[0].us == {1: 1, 2: 2, 8: 4, 16: 6, 32: 3}
    assert set(found[0].peers_us.values()) == {5}


def test_torch_ends_a_crossover_and_a_loss_at_once_is_none():
    found = crossovers([case(1, 1, 5), case(2, 1, 5, kernel="torch"), case(1, 9, 5, "fp16")])
    assert [each.crossover for each in found] == [1, 0]


def test_the_summary_is_the_median_of_each_type():
    many = [case(1, 1, 5, M=1), case(1, 9, 5, M=2), case(1, 1, 5, M=3), case(1, 1, 5, "fp32")]
    assert summary(crossovers(many)) == {"bf16": 1, "fp32": 1}


def test_all_problems_of_a_file_are_said(tmp_path: Path):
    path = tmp_path / "gemm_4bit.toml"
    path.write_text('schema = 2\nfamily = "gemm_4bit"\nrows = [0]\ndtypes = ["int8"]\n[[layer]]\nM = 0\nK = 64\n')
    with pytest.raises(SpecError) as caught:
        parse_study(path)
    assert {field for problem in caught.value.problems for field in problem.fields} == {
        "schema",
        "rows",
        "dtypes",
        "M",
        "layer",
    }
