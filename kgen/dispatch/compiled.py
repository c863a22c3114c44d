"""Conditions as one Python function of the sizes, for who asks a table a million times: several times as fast as the closures of `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kgen.dispatch.evaluate import CALLS
from kgen.dispatch.predicate import Node, names_reached, to_text

First = Callable[[int, int], int]
"""Of M and K."""


def first_true(conditions: Sequence[Node], formulas: Mapping[str, Node], values: Mapping[str, Any]) -> First:
    """A function of M and K that answers the index of the first condition that is true, or their number.

    formulas  names that stand for expressions, each after those that it needs
    values    every other name but M and K

    The trees must have passed `possible`, so that the function answers for every M and K of 1 or more.
    """
    needed = names_reached(conditions, formulas)
    lines = ["def first(M, K):"]
    lines += [f"  {name} = {to_text(formula, python=True)}" for name, formula in formulas.items() if name in needed]
    lines += [f"  if {to_text(condition, python=True)}: return {index}" for index, condition in enumerate(conditions)]
    lines.append(f"  return {len(conditions)}")
    names: dict[str, Any] = {**values, **CALLS, "__builtins__": {}}
    # Printed from trees, in which there is nothing but the names, operators and functions of the language.
    exec("\n".join(lines), names)
    return names["first"]
