"""Conditions as one Python function of the sizes, for who asks a table a million times: several times as fast as the closures of `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    names_in,
)
from kgen.spec.problem import ceil_div

_FUNCTIONS = {"ceil_div": ceil_div, "min": min, "max": max}
First = Callable[[int, int], int]
"""Of M and K."""


def first_true(conditions: Sequence[Node], formulas: Mapping[str, Node], values: Mapping[str, Any]) -> First:
    """A function of M and K that answers the index of the first condition that is true, or their number.

    formulas  names that stand for expressions, each after those that it needs
    values    every other name but M and K

    The trees must have passed `possible`, so that the function answers for every M and K of 1 or more.
    """
    needed = {name.id for condition in conditions for name in names_in(condition)}
    lines = []
    for name, formula in reversed(list(formulas.items())):
        if name in needed:
            needed |= {each.id for each in names_in(formula)}
            lines.append(f"  {name} = {python_text(formula)}")
    lines = ["def first(M, K):", *reversed(lines)]
    lines += [f"  if {python_text(condition)}: return {index}" for index, condition in enumerate(conditions)]
    lines.append(f"  return {len(conditions)}")
    names: dict[str, Any] = {**values, **_FUNCTIONS, "__builtins__": {}}
    # Printed from trees, in which there is nothing but the names, operators and functions of the language.
    exec("\n".join(lines), names)
    return names["first"]


def python_text(node: Node) -> str:
    """The tree as a Python expression, in brackets."""
    match node:
        case Constant(value=value):
            return repr(value)
        case Name(id=name):
            return name
        case Negative(operand=operand):
            return f"(-{python_text(operand)})"
        case Not(operand=operand):
            return f"(not {python_text(operand)})"
        case Arithmetic(op=op, left=left, right=right):
            return f"({python_text(left)} {op} {python_text(right)})"
        case Call(function=function, args=args):
            return f"{function}({', '.join(map(python_text, args))})"
        case Junction(op=op, items=items):
            return f"({f' {op} '.join(map(python_text, items))})"
        case Member(item=item, options=options, negated=negated):
            listed = "".join(f"{python_text(option)}, " for option in options)
            return f"({python_text(item)} {'not in' if negated else 'in'} ({listed}))"
        case Compare(first=first, rest=rest):
            return f"({python_text(first)}{''.join(f' {op} {python_text(operand)}' for op, operand in rest)})"
    raise AssertionError(node)
