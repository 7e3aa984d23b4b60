"""What the compiler works with: SQL with its type, tables and queries, and what follows from types alone."""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from prosegym.envs.sql.schema import Column, Table, fold


class T(NamedTuple):
    """The type of an expression."""

    kind: str
    """int, dec, double, float, str, date, datetime, time, bytes, null; shown, a decimal as the text that it is shown as."""
    scale: int | None = None
    """Digits after the point: always for dec; None for a real number without fixed digits."""
    plain: bool = True
    """For texts: ASCII case folding compares them as the server's collation does."""
    rest: bool = False
    """For dec: a quotient, which may have digits beyond its scale until it is stored."""
    wide: bool = False
    """For int and dec: by its type it could be too long for a BIGINT, as counts, sums and what is made of them."""


INT, DOUBLE, STR, NULL = T("int"), T("double"), T("str", None, False), T("null")
COUNT = T("int", wide=True)
NUMBERS = frozenset(("int", "dec", "double", "float", "null"))
DATES = frozenset(("date", "datetime", "time"))


class X(NamedTuple):
    """A compiled expression."""

    sql: str
    type: T
    const: Any = None
    """The text of a literal."""
    source: Source | None = None
    """The table a bare column is of, and its column's lower-case name."""
    column: str = ""
    key: str = ""
    """SQL for the text's folded form, where it is stored."""
    summed: bool = False
    """Whether it is a SUM: as a text, that of FLOAT(M,D) has no fixed digits (seen in the published episodes)."""


@dataclass(eq=False)
class Source:
    """A table in FROM, with its name in the SQLite statement."""

    alias: str
    """As written."""
    sql: str
    columns: dict[str, tuple[str, str, T]]
    """Lower-case name: (name as declared, name in SQLite, type)."""
    table: Table | None = None
    db: str = ""
    derived: Compiled | None = None
    outer: bool = False
    """Whether it is on the inner side of an outer join."""
    hidden: frozenset[str] = frozenset()
    """Columns that `*` and bare names do not see: the right-hand ones of USING and NATURAL."""


@dataclass(frozen=True, eq=False)
class Compiled:
    """A query for SQLite."""

    sql: str
    names: tuple[str, ...]
    types: tuple[T, ...]
    single: bool = False
    """Whether it gives at most one row whatever the data."""
    keys: frozenset[str] | None = None
    """Lower-case output names that together determine a row (a derived table's group), where known."""
    sorts: bool = False
    """Whether rows come in reading order with their rank as a last column, to be sorted by `sorting`."""
    counted: bool = True
    """See `sorting.filesort`."""
    limit: tuple[int | None, int] = (None, 0)
    columns: tuple[Column | None, ...] = ()
    """What those that are bare columns of a table are declared as; only of a SELECT in a statement that writes."""


def exact(kind: T) -> bool:
    """Whether it is a decimal that has no more digits than it shows, as a quotient has."""
    return kind.kind == "dec" and not kind.rest


# SQL.


def quote(text: str) -> str:
    """An SQLite string literal, in which no comment can seem to stand (`TIES`)."""
    if "\0" in text or "/*" in text:
        return "CAST(x'" + text.encode().hex() + "' AS TEXT)"
    return "'" + text.replace("'", "''") + "'"


def balanced(parts: list[str], name: str) -> str:
    """Conditions joined so that the longest chain stays within the depth that SQLite reads."""
    if len(parts) <= 8:
        return "(" + f" {name} ".join(parts) + ")"
    half = len(parts) // 2
    return f"({balanced(parts[:half], name)} {name} {balanced(parts[half:], name)})"


def folded(sql: str, kind: T) -> str:
    """As a key for grouping, sorting and telling apart."""
    return f"{sql} COLLATE {'NOCASE' if kind.plain else 'mysql'}" if kind.kind == "str" else sql


def sort_key(x: X) -> str:
    """An expression as a key for grouping, sorting and telling apart."""
    return x.key or folded(x.sql, x.type)


def text_key(x: X) -> str:
    """A text as what it is equal by.

    Not a collation: SQLite's Bloom filters (3.38 to 3.40) take texts of different length to be different.
    """
    if x.const is not None:
        return quote(fold(str(x.const)))
    return x.key or f"my_fold({x.sql})"


def columns_sql(types: tuple[T, ...], stored: tuple[T, ...]) -> str:
    """A query's columns by name; those that are stored lose what they have beyond their scale."""
    return ", ".join(
        f"my_round(c{i}, {b.scale}) AS c{i}" if a.rest and not b.rest and b.kind == "dec" else f"c{i}"
        for i, (a, b) in enumerate(zip(types, stored, strict=True))
    )


# Types.


def shared_digits(a: T, b: T) -> int | None:
    """The digits after the point that both types fix (FLOAT(M,D) and exact numbers do); None where one does not."""
    if any(t.kind in ("double", "float") and t.scale is None for t in (a, b)):
        return None
    return max(a.scale or 0, b.scale or 0)


def merge_types(a: T, b: T) -> T:
    """The type of a column or value that is now of one type, now of another."""
    if a.kind == b.kind:
        scale = None if a.scale is None or b.scale is None else max(a.scale, b.scale)
        return T(a.kind, scale, a.plain and b.plain, a.rest or b.rest, a.wide or b.wide)
    if a.kind == "null":
        return b
    if b.kind == "null":
        return a
    kinds = {a.kind, b.kind}
    if kinds <= {"int", "dec"}:
        rest, wide = a.rest or b.rest, a.wide or b.wide
        return T("dec", max(a.scale or 0, b.scale or 0), rest=rest, wide=wide)
    if kinds <= {"int", "dec", "double", "float"}:
        return T("double", shared_digits(a, b))
    if kinds <= {"date", "datetime"}:
        return T("datetime")
    return T("str", None, a.plain and b.plain)


def merged_type(xs: list[X]) -> T:
    """The type of a value that is one of these."""
    kind = xs[0].type
    for x in xs[1:]:
        kind = merge_types(kind, x.type)
    return kind


def stored_types(types: Iterable[T]) -> tuple[T, ...]:
    """The types of a temporary table's columns."""
    return tuple(t._replace(rest=False) for t in types)
