"""Where a family's kernels stop paying: both paths of its op over the layers and numbers of rows of a study (specs/studies/FAMILY.toml).

    schema = 1
    family = "gemm_4bit"
    rows = [1, 2, 4, 8]
    dtypes = ["bf16"]

    [[layer]]
    model = "Llama-3.1-8B"
    name = "q, o"
    M = 4096
    K = 4096

The crossover of a layer is the largest number of rows up to which the op was faster than every peer at every number of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from kgen.bench.kernels import BenchCase, bench_family
from kgen.errors import Problem, SpecError
from kgen.settings import data_dir
from kgen.spec.base import Dtype
from kgen.spec.registry import family_class
from kgen.spec.sets import read_toml
from kgen.spec.shapes import NamedShape


@dataclass(frozen=True)
class Study:
    """What is timed: layers, numbers of activation rows, element types."""

    family: str
    rows: tuple[int, ...]
    dtypes: tuple[Dtype, ...]
    layers: tuple[NamedShape, ...]


@dataclass(frozen=True)
class Crossover:
    """One layer and type. us, peers_us: by number of rows; of the peers the fastest. crossover: see the module, 0 where a peer won at once."""

    dtype: str
    M: int
    K: int
    crossover: int
    us: dict[int, float]
    peers_us: dict[int, float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def load_study(family: str) -> Study:
    """The study of a family; SpecError with all problems of its file, or the known ones."""
    path = data_dir("specs") / "studies" / f"{family}.toml"
    return parse_study(path)


def parse_study(path: Path) -> Study:
    """The study in a file; SpecError with all its problems."""
    data = read_toml(path)
    problems = [] if data.get("schema") == 1 else [Problem(("schema",), repr(data.get("schema")), "1")]
    cls = family_class(str(data.get("family")))
    rows, dtypes = data.get("rows", []), data.get("dtypes", [])
    if not rows or not all(isinstance(n, int) and n > 0 for n in rows):
        problems.append(Problem(("rows",), repr(rows), "positive whole numbers"))
    if not dtypes or not set(dtypes) <= set(cls.dtypes()):
        problems.append(Problem(("dtypes",), repr(dtypes), ", ".join(cls.dtypes())))
    layers = []
    for number, layer in enumerate(data.get("layer", ()), 1):
        bad = [key for key in ("M", "K") if not isinstance(layer.get(key), int) or layer[key] < 1]
        problems += [
            Problem((key,), repr(layer.get(key)), "a positive integer", where=f"layer {number}") for key in bad
        ]
        if not bad:
            layers.append(NamedShape(layer.get("model", ""), layer.get("name", ""), layer["M"], layer["K"]))
    if not layers:
        problems.append(Problem(("layer",), "none", "at least one [[layer]]"))
    if problems:
        raise SpecError(f"{path}: {len(problems)} problems", problems)
    return Study(cls.family, tuple(rows), tuple(dtypes), tuple(layers))


def run_study(study: Study, rounds: int = 5) -> Iterator[BenchCase]:
    """Every case of a study, timed on the current library's GPU; layer by layer."""
    cls = family_class(study.family)
    shapes = [cls.shape(layer.M, n, layer.K) for layer in study.layers for n in study.rows]
    return bench_family(study.family, shapes, study.dtypes, rounds=rounds)


def crossovers(cases: Iterable[BenchCase]) -> list[Crossover]:
    """What the cases say, by layer and type, in their order."""
    found: dict[tuple[str, int, int], list[BenchCase]] = {}
    for case in cases:
        found.setdefault((case.dtype, case.M, case.K), []).append(case)
    return [_crossover(group) for group in found.values()]


def _crossover(group: Sequence[BenchCase]) -> Crossover:
    ordered = sorted(group, key=lambda case: case.N)
    best = {case.N: min((peer.us for peer in case.peers.values()), default=float("inf")) for case in ordered}
    last = 0
    for case in ordered:
        if case.kernel == "torch" or case.us >= best[case.N]:
            break
        last = case.N
    first = ordered[0]
    return Crossover(first.dtype, first.M, first.K, last, {case.N: case.us for case in ordered}, best)


def summary(found: Sequence[Crossover]) -> dict[str, float]:
    """The median crossover of each type."""
    return {
        dtype: median(each.crossover for each in found if each.dtype == dtype)
        for dtype in dict.fromkeys(x.dtype for x in found)
    }
