"""What is to be answered: problem sizes of real layers, times activation rows, times element types."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kgen.errors import Problem, SpecError
from kgen.spec.problem import GemmShape
from kgen.spec.registry import family_class
from kgen.spec.shapes import NamedShape, load_shapes, parse_shapes, shape_sets
from kgen.sweep.space import defaults_of

ROWS = 4  # of a family without a file in specs/sweeps: its first few numbers of activation rows


@dataclass(frozen=True)
class Workload:
    """One problem: its sizes, the element type, and the layers that bring it.

    shape   the family's problem sizes (a frozen dataclass of integers)
    layers  "model: layer" of each that has these sizes; not part of the identity
    """

    shape: Any
    dtype: str
    layers: tuple[str, ...] = field(default=(), compare=False)

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes by name."""
        return asdict(self.shape)

    @property
    def traits(self) -> tuple[Any, ...]:
        """What kernels are compiled for besides type and sizes, such as GROUP_SIZE and HAS_ZP."""
        return tuple(self.shape.traits.values())

    @property
    def kind(self) -> tuple[Any, ...]:
        """Problems of one kind differ by M and K alone: the same type, activation rows, traits and whatever else the family's problems have."""
        return (self.dtype, *(value for name, value in self.sizes.items() if name not in ("M", "K")))

    @property
    def words(self) -> list[str]:
        """Type and traits, for a reader."""
        return [self.dtype, *(f"{name}{value}" for name, value in self.shape.traits.items())]

    @property
    def key(self) -> str:
        """What the store calls it: JSON of sizes and type, the same for the same problem."""
        return json.dumps({**self.sizes, "dtype": self.dtype}, sort_keys=True)

    def __str__(self) -> str:
        return " ".join(f"{name}{value}" for name, value in self.sizes.items()) + f" {self.dtype}"


def parse_layers(word: str) -> list[NamedShape]:
    """`MxK`, such as 4096x2048; either may be a scan, `FROM:TO:STEP` with both ends: 4096x1024:8192:256. Raises SpecError."""
    sizes = [_scan(part) for part in word.split("x")]
    if len(sizes) != 2 or not all(sizes):
        hint = "MxK, such as 4096x2048; a scan is FROM:TO:STEP, such as 4096x1024:8192:256"
        raise SpecError("not a layer", [Problem(("--shape",), repr(word), hint)])
    return [NamedShape("", f"{m}x{k}", m, k) for m in sizes[0] for k in sizes[1]]


def _scan(text: str) -> list[int]:
    """The sizes that a word means; none for one that is no size."""
    words = text.split(":")
    if not all(word.isdigit() and int(word) for word in words):
        return []
    numbers = [int(word) for word in words]
    if len(numbers) == 3:
        return list(range(numbers[0], numbers[1] + 1, numbers[2]))
    return numbers if len(numbers) == 1 else []


def layers_of(sets: Iterable[str], single: Iterable[str] = ()) -> list[NamedShape]:
    """The layers of named shape sets (or their unique beginnings, or files ending in .toml), then single ones. Raises SpecError."""
    out: list[NamedShape] = []
    for name in sets:
        known = shape_sets()
        if name.endswith(".toml"):
            out += parse_shapes(Path(name))
            continue
        starts = [known_name for known_name in known if known_name.startswith(name)]
        out += load_shapes(starts[0] if name not in known and len(starts) == 1 else name)
    return out + [layer for word in single for layer in parse_layers(word)]


def rows_of(family: str, arch: str, asked: Sequence[int] | None) -> tuple[int, ...]:
    """Activation rows to sweep: the user's, else those of specs/sweeps, else the first few that the family has. Raises SpecError."""
    span = family_class(family).row_counts()
    if asked:
        wrong = [n for n in asked if n not in span]
        if wrong:
            allowed = f"{span.start} to {span.stop - 1}: the rows that {family} is for"
            raise SpecError("activation rows", [Problem(("--rows",), ", ".join(map(str, wrong)), allowed)])
        return tuple(dict.fromkeys(asked))
    return defaults_of(family, arch).rows or tuple(span)[:ROWS]


def workloads(
    layers: Iterable[NamedShape],
    rows: Iterable[int],
    dtypes: Iterable[str],
    shape: type[GemmShape] = GemmShape,
    others: Mapping[str, Sequence[Any]] | None = None,
) -> list[Workload]:
    """Every layer with every number of rows, type and combination of the rest, without repeats, in the order of the layers.

    shape   the family's class of problems
    others  what its problems have besides M, N and K, by name, each with the values to try: traits, and sizes such as `experts`
    """
    names: dict[tuple[int, int], list[str]] = {}
    for layer in layers:
        known = names.setdefault((layer.M, layer.K), [])
        label = f"{layer.model}: {layer.name}" if layer.model else layer.name
        if label not in known:
            known.append(label)
    kinds = [dict(zip(others or {}, values, strict=True)) for values in itertools.product(*(others or {}).values())]
    every = itertools.product(names, rows, kinds, dtypes)
    return [Workload(shape(m, n, k, **kind), dtype, tuple(names[m, k])) for (m, k), n, kind, dtype in every]
