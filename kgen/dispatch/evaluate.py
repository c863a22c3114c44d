"""What a parsed condition means: its type, the range of its values, its truth over ranges, and a Python closure of it.

`Range` is all that is known of an integer before a shape is given. Ranges make the language total: a divisor that could be zero and a
product that could pass 64 bits are refused when the table is read, so a condition never fails at launch, in Python or in C++.
"""

from __future__ import annotations

import difflib
import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

from kgen.dispatch.predicate import (
    Arithmetic,
    Call,
    Compare,
    Constant,
    Junction,
    Member,
    Name,
    Negative,
    Node,
    Not,
    PredicateError,
    children,
    to_text,
)
from kgen.spec.problem import ceil_div

INT64_MAX = (1 << 63) - 1


@dataclass(frozen=True)
class Range:
    """Integers from low to high, both included."""

    low: int
    high: int

    @property
    def point(self) -> bool:
        """Whether it is one value."""
        return self.low == self.high


Domain = Mapping[str, "Range | frozenset[str] | frozenset[bool]"]
Value = Range | frozenset[str] | frozenset[bool]
Closure = Callable[[Mapping[str, Any]], Any]
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
CALLS: dict[str, Callable[..., int]] = {"ceil_div": ceil_div, "min": min, "max": max}
_BOTH = frozenset((True, False))


def possible(node: Node, domain: Domain) -> Value:
    """All values that the tree can take when its names range over `domain` (an over-estimate, never too few).

    Raises PredicateError for an unknown name, a wrong type, a divisor that could be below 1, and 64-bit overflow.
    """
    match node:
        case Constant(value=bool() as value):
            return frozenset((value,))
        case Constant(value=str() as value):
            return frozenset((value,))
        case Constant(value=int() as value):
            return Range(value, value)
        case Name(id=name):
            return _lookup(node, name, domain)
        case Negative(operand=operand):
            inner = _integer(operand, domain)
            return Range(-inner.high, -inner.low)
        case Arithmetic(op=op, left=left, right=right):
            return _arithmetic(node, op, _integer(left, domain), _integer(right, domain), right)
        case Call(function=function, args=args):
            return _call(node, function, [_integer(arg, domain) for arg in args])
        case Not(operand=operand):
            return frozenset(not value for value in _truth(operand, domain))
        case Junction(op=op, items=items):
            sets = [_truth(item, domain) for item in items]
            return frozenset((all if op == "and" else any)(values) for values in _corners(sets))
        case Compare(first=first, rest=rest):
            return _comparison(first, rest, domain)
        case Member(item=item, options=options, negated=negated):
            sets = [_comparison(item, (("==", option),), domain) for option in options]
            return frozenset(any(values) != negated for values in _corners(sets))
    raise AssertionError(node)


def check_condition(node: Node, domain: Domain) -> None:
    """Raise PredicateError unless the tree is a condition (true or false) over these names, comparing strings that can occur."""
    _truth(node, domain)
    known = {
        text for values in domain.values() if isinstance(values, frozenset) for text in values if isinstance(text, str)
    }
    stack = [node]
    while stack:
        part = stack.pop()
        stack += children(part)
        if isinstance(part, Constant) and isinstance(part.value, str) and part.value not in known:
            raise PredicateError(part.at, f"the string {part.value!r}", ", ".join(sorted(known)))


def _corners(sets: list[frozenset[bool]]) -> list[tuple[bool, ...]]:
    """Combinations that decide all/any: every operand at its smallest, and every operand at its largest value."""
    return [tuple(min(s) for s in sets), tuple(max(s) for s in sets)]


def _lookup(node: Node, name: str, domain: Domain) -> Value:
    if name in domain:
        return domain[name]
    near = difflib.get_close_matches(name, domain, n=1, cutoff=0.6)
    hint = (
        f"`{near[0]}`?" if near else "names are problem sizes, facts of the target and derived quantities; case matters"
    )
    raise PredicateError(node.at, f"no name {name!r}", ", ".join(sorted(domain, key=str.lower)), hint)


def _kind(value: Value) -> str:
    if isinstance(value, Range):
        return "a number"
    return "a string" if any(isinstance(item, str) for item in value) else "true or false"


def _integer(node: Node, domain: Domain) -> Range:
    value = possible(node, domain)
    if not isinstance(value, Range):
        raise PredicateError(node.at, f"`{to_text(node)}` is {_kind(value)}", "a number here")
    if max(abs(value.low), abs(value.high)) > INT64_MAX:
        raise PredicateError(
            node.at, f"`{to_text(node)}` can pass 64 bits", "at most 2^63 - 1 for every possible shape"
        )
    return value


def _truth(node: Node, domain: Domain) -> frozenset[bool]:
    value = possible(node, domain)
    if isinstance(value, Range) or _kind(value) == "a string":
        hint = f"compare it, like `{to_text(node)} != 0`" if isinstance(value, Range) else "compare it with =="
        raise PredicateError(node.at, f"`{to_text(node)}` is {_kind(value)}", "a condition, true or false", hint)
    return value  # type: ignore[return-value]


def _arithmetic(node: Node, op: str, left: Range, right: Range, divisor: Node) -> Range:
    if op in ("//", "%") and right.low < 1:
        raise PredicateError(divisor.at, f"`{to_text(divisor)}` could be {min(right.low, 0)}", "a divisor of 1 or more")
    if op == "%":
        return Range(0, min(left.high, right.high - 1) if left.low >= 0 else right.high - 1)
    if op == "+":
        found = Range(left.low + right.low, left.high + right.high)
    elif op == "-":
        found = Range(left.low - right.high, left.high - right.low)
    else:
        ends = [_OPERATORS[op](a, b) for a, b in product((left.low, left.high), (right.low, right.high))]
        found = Range(min(ends), max(ends))
    if max(abs(found.low), abs(found.high)) > INT64_MAX:
        raise PredicateError(
            node.at, f"`{to_text(node)}` can pass 64 bits", "at most 2^63 - 1 for every possible shape"
        )
    return found


def _call(node: Call, function: str, args: list[Range]) -> Range:
    if function == "ceil_div":
        left, right = args
        if right.low < 1:
            raise PredicateError(
                node.args[1].at, f"`{to_text(node.args[1])}` could be {right.low}", "a divisor of 1 or more"
            )
        ends = [ceil_div(a, b) for a, b in product((left.low, left.high), (right.low, right.high))]
        return Range(min(ends), max(ends))
    pick = CALLS[function]
    return Range(pick(arg.low for arg in args), pick(arg.high for arg in args))


def _comparison(first: Node, rest: tuple[tuple[str, Node], ...], domain: Domain) -> frozenset[bool]:
    operands = [first, *(operand for _, operand in rest)]
    values = [possible(operand, domain) for operand in operands]
    steps = []
    for (op, right_node), (left, right) in zip(rest, pairwise(values), strict=True):
        if _kind(left) != _kind(right):
            found = f"{_kind(left)} compared with {_kind(right)} `{to_text(right_node)}`"
            raise PredicateError(right_node.at, found, f"{_kind(left)} on both sides")
        if not isinstance(left, Range) and (_kind(left) != "a string" or op not in ("==", "!=")):
            hint = "use it as it is, or with `not`" if _kind(left) != "a string" else "strings have no order: == or !="
            raise PredicateError(right_node.at, f"{op} between {_kind(left)} values", "numbers", hint)
        steps.append(_ordered(op, left, right))
    return frozenset(all(corner) for corner in _corners(steps))


def _ordered(op: str, left: Value, right: Value) -> frozenset[bool]:
    """Outcomes of `left op right` over all pairs of values."""
    if not isinstance(left, Range) or not isinstance(right, Range):
        assert not isinstance(left, Range)
        assert not isinstance(right, Range)
        return frozenset(_OPERATORS[op](a, b) for a in left for b in right)
    if op in ("==", "!="):
        apart = left.high < right.low or right.high < left.low
        same = left.point and right.point and left.low == right.low
        equal = frozenset((False,)) if apart else frozenset((True,)) if same else _BOTH
        return equal if op == "==" else frozenset(not value for value in equal)
    ends = product((left.low, left.high), (right.low, right.high))
    return frozenset(_OPERATORS[op](a, b) for a, b in ends)


def closure(node: Node) -> Closure:
    """The tree as a Python function of its names' values. The tree must have passed `possible`."""
    match node:
        case Constant(value=value):
            return lambda env: value
        case Name(id=name):
            return operator.itemgetter(name)
        case Negative(operand=operand):
            inner = closure(operand)
            return lambda env: -inner(env)
        case Not(operand=operand):
            inner = closure(operand)
            return lambda env: not inner(env)
        case Arithmetic(op=op, left=left, right=right):
            return _binary(_OPERATORS[op], closure(left), closure(right))
        case Call(function=function, args=args):
            apply, parts = CALLS[function], [closure(arg) for arg in args]
            return lambda env: apply(*[part(env) for part in parts])
        case Junction(op=op, items=items):
            parts = [closure(item) for item in items]
            return functools.reduce(_both if op == "and" else _either, parts)
        case Member(item=item, options=options, negated=negated):
            inner, parts = closure(item), [closure(option) for option in options]
            return lambda env: (inner(env) in [part(env) for part in parts]) != negated
        case Compare(first=first, rest=rest):
            operands = [closure(first), *(closure(operand) for _, operand in rest)]
            steps = [_binary(_OPERATORS[op], a, b) for (op, _), (a, b) in zip(rest, pairwise(operands), strict=True)]
            return functools.reduce(_both, steps)
    raise AssertionError(node)


def _binary(apply: Callable[[Any, Any], Any], left: Closure, right: Closure) -> Closure:
    return lambda env: apply(left(env), right(env))


def _both(left: Closure, right: Closure) -> Closure:
    return lambda env: left(env) and right(env)


def _either(left: Closure, right: Closure) -> Closure:
    return lambda env: left(env) or right(env)
