"""The conditions of dispatch rows: a small expression language, parsed here and never handed to Python's `eval`.

    N == 1 and K <= 2048 and 2 < tiles_per_cu <= 26
    dtype in ("bf16", "fp16") and not K % 1024 == 512

Values are integers, strings and truth values. Operators, weakest first: `or`, `and`, `not`, comparisons (may be chained) and `in`,
`+ -`, `* // %`, unary minus. Functions: `ceil_div(a, b)`, `min(a, b, ...)`, `max(a, b, ...)`. `//` and `%` floor, as in Python.
What a name means is the table's business (`kgen.dispatch.quantities`). Errors carry the column they point at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MAX_LENGTH = 2000  # characters; a condition that long is not reviewed by anyone
MAX_DEPTH = 40  # nesting; keeps the parser's recursion far from Python's limit

FUNCTIONS = {"ceil_div": (2, 2), "min": (2, 8), "max": (2, 8)}  # name -> fewest and most arguments
KEYWORDS = ("and", "or", "not", "in", "true", "false")


class PredicateError(Exception):
    """A condition that cannot be: `column` (from 1) points at the place, `allowed` and `next` say what would do."""

    def __init__(self, column: int, found: str, allowed: str = "", next: str = ""):
        super().__init__(f"column {column}: {found}")
        self.column, self.found, self.allowed, self.next = column, found, allowed, next


@dataclass(frozen=True)
class Node:
    """Base of the tree; `at` is the column the node begins at and no part of its identity."""

    at: int = field(default=0, compare=False, kw_only=True)


@dataclass(frozen=True)
class Constant(Node):
    """An integer, a string, true or false."""

    value: int | str | bool


@dataclass(frozen=True)
class Name(Node):
    """A problem size, a fact of the target or a derived quantity."""

    id: str


@dataclass(frozen=True)
class Call(Node):
    """ceil_div, min or max."""

    function: str
    args: tuple[Node, ...]


@dataclass(frozen=True)
class Negative(Node):
    """Unary minus."""

    operand: Node


@dataclass(frozen=True)
class Arithmetic(Node):
    """`+ - * // %`."""

    op: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Compare(Node):
    """A comparison, possibly chained: `first op1 operand1 op2 operand2 ...`, each operand compared with the one before."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(frozen=True)
class Member(Node):
    """`item in (a, b)` or `item not in (a, b)`."""

    item: Node
    options: tuple[Node, ...]
    negated: bool


@dataclass(frozen=True)
class Not(Node):
    """`not operand`."""

    operand: Node


@dataclass(frozen=True)
class Junction(Node):
    """`and` or `or` of two or more operands."""

    op: str
    items: tuple[Node, ...]


# ---- text to tree

_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<number>\d++)(?![A-Za-z_])|(?P<name>[A-Za-z_][A-Za-z_0-9]*)|(?P<string>"[^"\\\n]*"|'[^'\\\n]*')"""
    r"""|(?P<op>//|<=|>=|==|!=|[-+*%<>(),\[\]])""",
    re.ASCII,
)
_HINTS = {
    "=": "`==` compares",
    "/": "`//` divides and floors, `ceil_div(a, b)` rounds up",
    "&": "`and`",
    "|": "`or`",
    "!": "`not`, or `!=`",
    ".": "integers only: compare products instead of fractions",
    '"': "the string has no end",
    "'": "the string has no end",
}
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(text: str) -> list[_Token]:
    if len(text) > MAX_LENGTH:
        raise PredicateError(MAX_LENGTH + 1, f"{len(text)} characters", f"at most {MAX_LENGTH}", "split the row")
    out, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise PredicateError(at + 1, f"unexpected {text[at]!r}", "", _HINTS.get(text[at], ""))
        kind = str(match.lastgroup)
        if kind == "number" and len(match[0]) > 18:
            raise PredicateError(at + 1, f"the number {match[0][:12]}...", "at most 18 digits")
        if kind != "space":
            out.append(_Token("keyword" if match[0] in KEYWORDS else kind, match[0], at + 1))
        at = match.end()
    return [*out, _Token("end", "", len(text) + 1)]


class _Parser:
    """Recursive descent, one method per level of precedence."""

    def __init__(self, text: str):
        self.tokens = _tokens(text)
        self.index = 0
        self.depth = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.index]

    def take(self, *texts: str) -> _Token | None:
        """The present token if it is one of these operators or keywords, moving past it."""
        token = self.token
        if token.kind not in ("op", "keyword") or token.text not in texts:
            return None
        self.index += 1
        return token

    def expect(self, text: str, why: str) -> None:
        if self.take(text) is None:
            raise PredicateError(self.token.at, self.found(), f"`{text}`, {why}")

    def found(self) -> str:
        return "the condition ends here" if self.token.kind == "end" else f"unexpected `{self.token.text}`"

    def whole(self) -> Node:
        node = self.junction("or")
        if self.token.kind != "end":
            hint = _HINTS["="] if self.token.text == "=" else ""
            raise PredicateError(self.token.at, self.found(), "an operator, or the end", hint)
        return node

    def junction(self, op: str) -> Node:
        at, item = self.token.at, (lambda: self.junction("and")) if op == "or" else self.negation
        items = [item()]
        while self.take(op):
            items.append(item())
        return items[0] if len(items) == 1 else Junction(op, tuple(items), at=at)

    def negation(self) -> Node:
        if token := self.take("not"):
            return Not(self.nested(self.negation, token), at=token.at)
        return self.comparison()

    def comparison(self) -> Node:
        at, first = self.token.at, self.sum()
        rest: list[tuple[str, Node]] = []
        while token := self.take(*_COMPARISONS):
            rest.append((token.text, self.sum()))
        if rest:
            return Compare(first, tuple(rest), at=at)
        negated = self.token.text == "not" and self.tokens[self.index + 1].text == "in"
        if negated:
            self.index += 1
        if self.take("in"):
            return Member(first, self.options(), negated, at=at)
        return first

    def options(self) -> tuple[Node, ...]:
        bracket = self.take("(", "[")
        if bracket is None:
            raise PredicateError(self.token.at, self.found(), "a list like (1, 2) after `in`")
        close = ")" if bracket.text == "(" else "]"
        items = [self.sum()]
        while self.take(",") and not (self.token.kind == "op" and self.token.text == close):
            items.append(self.sum())
        self.expect(close, "which ends the list")
        return tuple(items)

    def sum(self) -> Node:
        return self.chain(("+", "-"), lambda: self.chain(("*", "//", "%"), self.unary))

    def chain(self, ops: tuple[str, ...], operand: object) -> Node:
        assert callable(operand)
        at, left = self.token.at, operand()
        count = 0
        while token := self.take(*ops):
            count += 1
            if count > MAX_DEPTH:
                raise PredicateError(token.at, "too many operators in a row", f"at most {MAX_DEPTH}")
            left = Arithmetic(token.text, left, operand(), at=at)
        return left

    def unary(self) -> Node:
        if token := self.take("-"):
            return Negative(self.nested(self.unary, token), at=token.at)
        return self.primary()

    def nested(self, rule: object, token: _Token) -> Node:
        assert callable(rule)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise PredicateError(token.at, "nested too deeply", f"at most {MAX_DEPTH} levels", "split the row")
        node = rule()
        self.depth -= 1
        return node

    def primary(self) -> Node:
        token = self.token
        if bracket := self.take("("):
            node = self.nested(lambda: self.junction("or"), bracket)
            self.expect(")", f"which closes the one in column {bracket.at}")
            return node
        if word := self.take("true", "false"):
            return Constant(word.text == "true", at=word.at)
        if token.kind not in ("number", "string", "name"):
            raise PredicateError(token.at, self.found(), "a name, a number, a string or `(`")
        self.index += 1
        if token.kind == "number":
            return Constant(int(token.text), at=token.at)
        if token.kind == "string":
            return Constant(token.text[1:-1], at=token.at)
        return self.call(token) if self.token.text == "(" else Name(token.text, at=token.at)

    def call(self, name: _Token) -> Node:
        if name.text not in FUNCTIONS:
            raise PredicateError(name.at, f"no function {name.text!r}", ", ".join(FUNCTIONS))
        self.take("(")
        args = [self.nested(self.sum, name)]
        while self.take(","):
            args.append(self.nested(self.sum, name))
        self.expect(")", f"which ends the arguments of {name.text}")
        fewest, most = FUNCTIONS[name.text]
        if not fewest <= len(args) <= most:
            allowed = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            raise PredicateError(name.at, f"{name.text} with {len(args)} arguments", allowed)
        return Call(name.text, tuple(args), at=name.at)


def parse(text: str) -> Node:
    """The tree of a condition or a formula; raises PredicateError, and nothing else, on any text."""
    return _Parser(text).whole()


# ---- tree to text

_LEVEL = {"or": 1, "and": 2, "+": 5, "-": 5, "*": 6, "//": 6, "%": 6}
_NOT, _COMPARE, _UNARY, _ATOM = 3, 4, 7, 9


def _level(node: Node) -> int:
    if isinstance(node, (Junction, Arithmetic)):
        return _LEVEL[node.op]
    if isinstance(node, Not):
        return _NOT
    if isinstance(node, (Compare, Member)):
        return _COMPARE
    return _UNARY if isinstance(node, Negative) else _ATOM


def to_text(node: Node, *, python: bool = False) -> str:
    """The canonical spelling: one space around operators, no bracket that is not needed; parses back to the same tree.

    python  as Python spells the same: True and False, and a comma behind a single option
    """

    def inner(child: Node, above: int) -> str:
        """The child, in brackets unless it binds more tightly than `above`."""
        text = to_text(child, python=python)
        return text if _level(child) > above else f"({text})"

    match node:
        case Constant(value=bool() as value):
            return str(value) if python else "true" if value else "false"
        case Constant(value=str() as value):
            return f"'{value}'" if '"' in value else f'"{value}"'
        case Constant(value=value):
            return str(value)
        case Name(id=name):
            return name
        case Call(function=function, args=args):
            return f"{function}({', '.join(inner(arg, _COMPARE) for arg in args)})"
        case Negative(operand=operand):
            return f"-{inner(operand, _UNARY - 1)}"
        case Arithmetic(op=op, left=left, right=right):
            return f"{inner(left, _LEVEL[op] - 1)} {op} {inner(right, _LEVEL[op])}"
        case Compare(first=first, rest=rest):
            return inner(first, _COMPARE) + "".join(f" {op} {inner(operand, _COMPARE)}" for op, operand in rest)
        case Member(item=item, options=options, negated=negated):
            listed = ", ".join(inner(option, _COMPARE) for option in options) + (
                "," if python and len(options) == 1 else ""
            )
            return f"{inner(item, _COMPARE)} {'not in' if negated else 'in'} ({listed})"
        case Not(operand=operand):
            return f"not {inner(operand, _NOT - 1)}"
        case Junction(op=op, items=items):
            return f" {op} ".join(inner(item, _LEVEL[op]) for item in items)
    raise AssertionError(node)


def children(node: Node) -> tuple[Node, ...]:
    """The nodes right below, in reading order."""
    match node:
        case Call(args=nodes) | Junction(items=nodes):
            return nodes
        case Negative(operand=operand) | Not(operand=operand):
            return (operand,)
        case Arithmetic(left=left, right=right):
            return (left, right)
        case Compare(first=first, rest=rest):
            return (first, *(operand for _, operand in rest))
        case Member(item=item, options=options):
            return (item, *options)
    return ()


def names_in(node: Node) -> list[Name]:
    """Every name in the tree, in reading order, repeated as often as it stands there."""
    return [node] if isinstance(node, Name) else [name for child in children(node) for name in names_in(child)]


def names_reached(nodes: Iterable[Node], formulas: Mapping[str, Node]) -> set[str]:
    """The names in the trees, and in the formulas that such names stand for; each formula comes after those that it uses."""
    out = {name.id for node in nodes for name in names_in(node)}
    for name in reversed(list(formulas)):
        out |= {inner.id for inner in names_in(formulas[name])} if name in out else set()
    return out
