"""Shapes that bring out what a table decides: boundaries mined from its own conditions, and layers of real models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from kgen.dispatch.evaluate import closure
from kgen.dispatch.match import family_cu
from kgen.dispatch.predicate import Arithmetic, Compare, Constant, Member, Node, children, names_in, names_reached
from kgen.dispatch.quantities import SIZE_MAX, Traits, trait_values
from kgen.dispatch.table import DispatchTable, rows_range
from kgen.spec.problem import GemmShape
from kgen.spec.registry import tabled

_SIZES = {
    "M": (1, 2, 8, 17, 64, 129, 1000, 4096, 12288, 152064, SIZE_MAX),
    "K": (1, 7, 8, 16, 64, 520, 768, 2048, 4096, 4608, 8192, 28672, 65544, 1 << 20),
}
_PIECE = 8  # kernels want K in multiples of this, so boundaries are also tried rounded to it
_FEW = 16  # numbers of activation rows that are all tried
_PERIODS = (0, 1, 2, 4, 8)  # multiples of a modulus at which its residues are tried


@dataclass(frozen=True)
class Block:
    """Problems of a family that differ in M and K only.

    traits  values of the family's traits, in its order
    sizes   pairs of M and K
    """

    family: str
    N: int
    dtype: str
    traits: Traits
    sizes: Sequence[tuple[int, int]]

    def shape(self, M: int, K: int) -> GemmShape:
        """One of them."""
        return tabled(self.family).shape(M, self.N, K, *self.traits)


def boundary_blocks(table: DispatchTable) -> Iterator[Block]:
    """Combinations of sizes at, just below and just above what the conditions compare with; both dtypes if any condition asks.

    All of them for K in whole pieces; the rest of K, which no kernel takes, with few M and N.
    """
    N, M, K = _n_values(table), _values(table, "M"), _values(table, "K")
    whole = [k for k in K if k % _PIECE == 0]
    ragged = [k for k in K if k % _PIECE]
    few_n, few_m = sorted({N[0], N[1], N[-1]}), sorted({M[0], M[len(M) // 2], M[-1]})
    most, few = list(product(M, whole)), list(product(few_m, ragged))
    for n, dtype, traits in product(N, _dtypes(table), trait_values(table.family)):
        yield Block(table.family, n, dtype, traits, [*most, *few] if n in few_n else most)


def layer_blocks(table: DispatchTable, layers: Iterable[tuple[int, int]]) -> Iterator[Block]:
    """Layers (M, K) of real models with every N that kernels exist for, and one more."""
    sizes = list(dict.fromkeys(layers))
    rows = [*_rows(table), *(() if tabled(table.family).any_rows else (rows_range(table.family).stop,))]
    for n, dtype, traits in product(rows, _dtypes(table), trait_values(table.family)):
        yield Block(table.family, n, dtype, traits, sizes)


def _shape(table: DispatchTable, M: int, N: int, K: int) -> GemmShape:
    """A problem of the table's family, with the first traits that exist."""
    return tabled(table.family).shape(M, N, K, *trait_values(table.family)[0])


def _rows(table: DispatchTable) -> list[int]:
    """Every N that kernels exist for; of a long range the ends, and both sides of what the conditions compare with."""
    span = rows_range(table.family)
    if len(span) <= _FEW:
        return list(span)
    return [N for N in _n_values(table) if N in span]


def _dtypes(table: DispatchTable) -> tuple[str, ...]:
    """All, when a condition or a kernel's name tells them apart; else one stands for all."""
    asked = any(name.id == "dtype" for row in table.rows for name in names_in(row.condition))
    fixed = any(row.kernels and "{dtype}" not in row.use for row in table.rows)
    dtypes = tabled(table.family).dtypes()
    return dtypes if asked or fixed else dtypes[:1]


def _n_values(table: DispatchTable) -> list[int]:
    span = rows_range(table.family)
    few = span if len(span) <= _FEW else (1, span.start - 1, span.start, span.stop - 1)
    values = {value for value in (*few, span.stop, 4 * span.stop) if value > 0}
    for node in _nodes(table):
        if isinstance(node, Constant) and isinstance(node.value, int) and not isinstance(node.value, bool):
            values |= {
                value for value in (node.value - 1, node.value, node.value + 1) if 1 <= value <= max(64, span.stop)
            }
    return sorted(values)


def _values(table: DispatchTable, size: str) -> list[int]:
    """Sizes of one kind: the usual ones, crossings of every comparison, and residues of every modulus."""
    out = set(_SIZES[size])
    for left, right in _comparisons(table):
        for value in (*_crossings(table, left, right, size), *_residues(left, right, size)):
            near = {value - 1, value, value + 1}
            if size == "K":
                near |= {value // _PIECE * _PIECE, (value // _PIECE + 1) * _PIECE}
            out |= {item for item in near if 1 <= item <= SIZE_MAX}
    return sorted(out)


def _nodes(table: DispatchTable) -> Iterator[Node]:
    stack: list[Node] = [row.condition for row in table.rows]
    while stack:
        node = stack.pop()
        yield node
        stack += children(node)


def _comparisons(table: DispatchTable) -> dict[tuple[Node, Node], None]:
    """Pairs of sides that some condition compares, without repeats."""
    out: dict[tuple[Node, Node], None] = {}
    for node in _nodes(table):
        if isinstance(node, Compare):
            out |= dict.fromkeys(pairwise([node.first, *(operand for _, operand in node.rest)]))
        elif isinstance(node, Member):
            out |= dict.fromkeys((node.item, option) for option in node.options)
    return out


def _crossings(table: DispatchTable, left: Node, right: Node, size: str) -> set[int]:
    """Values of M or K at which left - right changes sign, for every N, with the other size at a usual value; by bisection."""
    used = {name.id for name in names_in(left) + names_in(right)}
    reached = names_reached((left, right), table.scope.trees)
    if (
        size not in reached
        or "dtype" in used
        or any(isinstance(n, Constant) and isinstance(n.value, str) for n in (left, right))
    ):
        return set()
    a, b = closure(left), closure(right)
    dtype = tabled(table.family).dtypes()[0]
    cu = family_cu(table)
    span = _rows(table) if "N" in reached else [1]
    others = (512, 4096) if {"M", "K"} <= reached else (4096,)
    out = set()
    for N, other in product(span, others):

        def above(value: int, N: int = N, other: int = other) -> bool:
            M, K = (value, other) if size == "M" else (other, value)
            env = table.scope.environment(_shape(table, M, N, K), dtype, cu)
            return bool(a(env) > b(env))

        def at_least(value: int, N: int = N, other: int = other) -> bool:
            M, K = (value, other) if size == "M" else (other, value)
            env = table.scope.environment(_shape(table, M, N, K), dtype, cu)
            return bool(a(env) >= b(env))

        out |= {_first_change(above), _first_change(at_least)}
    return {value for value in out if value}


def _first_change(test: Callable[[int], bool]) -> int:
    """The smallest size whose answer differs from that of 1, for an answer that changes once; 0 if it never does."""
    low, high = 1, SIZE_MAX
    start = test(low)
    if test(high) == start:
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if test(middle) == start else (low, middle)
    return high


def _residues(left: Node, right: Node, size: str) -> set[int]:
    """For `size % modulus` compared with a constant: that residue, its neighbours and zero, in several periods."""
    out = set()
    for node, other in ((left, right), (right, left)):
        if not (isinstance(node, Arithmetic) and node.op == "%" and isinstance(node.right, Constant)):
            continue
        if size in {name.id for name in names_in(node.left)} and isinstance(other, Constant):
            modulus, residue = node.right.value, other.value
            assert isinstance(modulus, int)
            assert isinstance(residue, int)
            out |= {period * modulus + offset for period in _PERIODS for offset in (0, residue)}
    return out
