"""Layer shapes of real models, as data in specs/shapes/MODEL.toml.

schema = 1
model = "Qwen3-8B"
source = "config.json of the public checkpoint: hidden 4096, ..."

[[layer]]
name = "qkv"
M = 6144          # output features
K = 4096          # reduction
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kgen.errors import Problem, SpecError
from kgen.settings import data_dir
from kgen.spec.sets import read_toml


@dataclass(frozen=True)
class NamedShape:
    """One linear layer of a model: M output features, K reduction; N is the caller's."""

    model: str
    name: str
    M: int
    K: int


def shape_sets() -> list[str]:
    """Names of all shape files."""
    return sorted(path.stem for path in (data_dir("specs") / "shapes").glob("*.toml"))


def load_shapes(name: str) -> list[NamedShape]:
    """The layers of one model; SpecError lists everything that is wrong with the file, or the known files."""
    return parse_shapes(data_dir("specs") / "shapes" / f"{name}.toml")


def all_shapes() -> list[NamedShape]:
    """The layers of all models."""
    return [shape for name in shape_sets() for shape in load_shapes(name)]


def parse_shapes(path: Path) -> list[NamedShape]:
    """The layers of a file; SpecError with all its problems."""
    data = read_toml(path)
    problems = [Problem((key,), "not given", "a value") for key in ("model", "source") if not data.get(key)]
    if data.get("schema") != 1:
        problems.append(Problem(("schema",), repr(data.get("schema")), "1"))
    out = []
    for number, layer in enumerate(data.get("layer", ()), 1):
        where = f"layer {number}"
        bad = [key for key in ("M", "K") if not isinstance(layer.get(key), int) or layer[key] < 1]
        problems += [Problem((key,), repr(layer.get(key)), "a positive integer", where=where) for key in bad]
        if not layer.get("name"):
            problems.append(Problem(("name",), "not given", "a value", where=where))
        if not bad and layer.get("name"):
            out.append(NamedShape(data.get("model", ""), layer["name"], layer["M"], layer["K"]))
    if not out and not problems:
        problems.append(Problem(("layer",), "none", "at least one [[layer]]"))
    if problems:
        raise SpecError(f"{path}: {len(problems)} problems", problems)
    return out
