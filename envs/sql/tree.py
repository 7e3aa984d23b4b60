"""The tree of a statement: its nodes, and walking through it."""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

AGGREGATES = frozenset(
    """count sum avg min max group_concat bit_or bit_and bit_xor std stddev stddev_pop stddev_samp variance var_pop
    var_samp""".split()
)
STORED = "stored function"
"""The `name` of a call that can only be that of a stored function; its arguments are `Item`s."""


class Fault(Exception):
    """A statement that MySQL refuses; the message is MySQL's own."""


# Expressions.


@dataclass(frozen=True)
class Lit:
    """A constant; `kind` is int, dec, double, str, null or a temporal type's name."""

    value: Any
    kind: str


@dataclass(frozen=True)
class Col:
    """A column, as written: qualified or not."""

    name: str
    table: str | None = None
    db: str | None = None

    @property
    def written(self) -> str:
        """As MySQL quotes it in messages."""
        return ".".join(part for part in ((self.db or "").lower(), self.table, self.name) if part)


@dataclass(frozen=True)
class Star:
    """`*` or `t.*`."""

    table: str | None = None


@dataclass(frozen=True)
class Window:
    """An OVER clause; `base` is the window of the WINDOW clause that it names, lower case."""

    partition: tuple[Any, ...]
    order: tuple[tuple[Any, bool], ...]
    frame: str
    base: str | None = None


@dataclass(frozen=True)
class Func:
    """A call; the name is lower case."""

    name: str
    args: tuple[Any, ...]
    distinct: bool = False
    order: tuple[tuple[Any, bool], ...] = ()
    separator: str = ","
    over: Window | None = None
    written: str = field(default="", compare=False)
    """The name as written."""
    db: str | None = None
    """Of a stored function: the database before its name."""


@dataclass(frozen=True)
class Op:
    """An operator and its operands; `name` is upper case (`NOT`, `NEG`, `=`, `AND`, ...)."""

    name: str
    args: tuple[Any, ...]


@dataclass(frozen=True)
class In:
    """`e [NOT] IN (...)`; `items` is a tuple of expressions or a query."""

    value: Any
    items: Any
    negated: bool


@dataclass(frozen=True)
class Case:
    """CASE with or without an operand."""

    operand: Any
    whens: tuple[tuple[Any, Any], ...]
    default: Any


@dataclass(frozen=True)
class Cast:
    """CAST(e AS type); `to` is char, signed, unsigned, decimal, double, float, date, datetime, time, year, binary."""

    value: Any
    to: str
    scale: int | None = None


@dataclass(frozen=True)
class Interval:
    """INTERVAL n unit: only as an operand of date arithmetic."""

    value: Any
    unit: str


@dataclass(frozen=True)
class Sub:
    """A subquery as an expression; `kind` is scalar, exists, any or all."""

    query: Any
    kind: str = "scalar"


@dataclass(frozen=True)
class Row:
    """(a, b, ...)"""

    items: tuple[Any, ...]


# Queries.


@dataclass(frozen=True)
class Table:
    """A table in FROM."""

    name: str
    alias: str | None
    db: str | None = None
    hints: tuple[str, ...] = ()
    """The indexes that USE, FORCE and IGNORE INDEX name."""


@dataclass(frozen=True)
class Derived:
    """A subquery in FROM."""

    query: Any
    alias: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Join:
    """`kind` is inner, left or right (a cross join is an inner one without a condition)."""

    kind: str
    left: Any
    right: Any
    on: Any = None
    using: tuple[str, ...] | None = None
    natural: bool = False


@dataclass(frozen=True)
class Item:
    """One element of a select list."""

    expr: Any
    alias: str | None
    text: str


@dataclass(frozen=True)
class Select:
    """One SELECT; `order` holds (expression, descending)."""

    items: tuple[Item, ...]
    source: Any = None
    where: Any = None
    group: tuple[Any, ...] = ()
    rollup: bool = False
    having: Any = None
    order: tuple[tuple[Any, bool], ...] = ()
    limit: int | None = None
    offset: int = 0
    distinct: bool = False
    ctes: tuple[Cte, ...] = ()


@dataclass(frozen=True)
class Cte:
    """WITH name (columns) AS (query)."""

    name: str
    columns: tuple[str, ...]
    query: Any
    recursive: bool


@dataclass(frozen=True)
class Union:
    """`parts` joined by `ops` (UNION, UNION ALL, INTERSECT, EXCEPT), left to right; see `parser._bound`."""

    parts: tuple[Any, ...]
    ops: tuple[str, ...]
    order: tuple[tuple[Any, bool], ...] = ()
    limit: int | None = None
    offset: int = 0
    ctes: tuple[Cte, ...] = ()


# Other statements.


@dataclass(frozen=True)
class Show:
    """SHOW what [FROM name] [LIKE pattern]; DESCRIBE too."""

    what: str
    name: str | None = None
    db: str | None = None
    like: str | None = None
    full: bool = False
    where: Any = None


@dataclass(frozen=True)
class Explain:
    """EXPLAIN of a query."""

    query: Any


@dataclass(frozen=True)
class Use:
    """USE db."""

    db: str


@dataclass(frozen=True)
class Several:
    """A statement that others follow: what the server says of the first is said first."""

    first: Any


@dataclass(frozen=True)
class Other:
    """A statement that is not read further: INSERT, CREATE, SET, ...; `verb` is lower case."""

    verb: str
    text: str
    words: tuple[str, ...] = field(default=())


# Walking.

_FIELDS: dict[type, tuple[str, ...] | None] = {}


def fields_of(kind: type) -> tuple[str, ...] | None:
    """The fields of a kind of node; None of what is not a node."""
    if kind not in _FIELDS:
        _FIELDS[kind] = tuple(f.name for f in fields(kind)) if is_dataclass(kind) else None
    return _FIELDS[kind]


def walk(node: Any, stop: Callable[[Any], bool] | None = None) -> Iterator[Any]:
    """Every node of a tree, the root first; what `stop` holds of is given but not entered."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        if stop is not None and stop(node):
            continue
        names = fields_of(type(node))
        children = node if isinstance(node, tuple) else [getattr(node, name) for name in names or ()]
        for child in reversed(children):
            if isinstance(child, tuple) or fields_of(type(child)) is not None:
                stack.append(child)


def is_query(node: Any) -> bool:
    """Whether it is a subquery, or IN with one."""
    return isinstance(node, Sub) or (isinstance(node, In) and not isinstance(node.items, tuple))


def has_aggregate(node: Any) -> bool:
    """Whether an aggregate of this query (not of a subquery) stands in the expression."""
    return any(isinstance(n, Func) and n.name in AGGREGATES and n.over is None for n in walk(node, is_query))


def has_window(expr: Any) -> bool:
    """Whether a window function of this query stands in the expression."""
    return any(isinstance(node, Window) for node in walk(expr, is_query))


def is_place(expr: Any) -> bool:
    """Whether ORDER BY takes an expression for a place in the select list; a negative number is a constant."""
    return isinstance(expr, Lit) and expr.kind == "int" and not expr.value.startswith("-")
