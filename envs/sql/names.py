"""What names mean: the scopes of a query, and the columns that are found in them."""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from prosegym.envs.sql.patience import TOO_LONG
from prosegym.envs.sql.schema import Table, is_plain
from prosegym.envs.sql.tree import (
    AGGREGATES,
    Col,
    Cte,
    Fault,
    Func,
    In,
    Item,
    has_aggregate,
    has_window,
    is_query,
    walk,
)
from prosegym.envs.sql.typed import Source, T, X

WRITTEN = 1 << 23
"""Characters of SQL that a statement's parts may be written in, all together; about a second."""


class Catalog:
    """What a compiler must know of the server: its databases, and where the session is."""

    def __init__(
        self, dbs: dict[str, dict[str, Table]], types: dict[tuple[str, str], dict[str, tuple[str, str, T]]]
    ) -> None:
        self.dbs = dbs
        self.types = types


def column_types(table: Table) -> dict[str, tuple[str, str, T]]:
    """The columns of a stored table, for `Catalog.types`."""
    found = {}
    for i, column in enumerate(table.columns):
        plain = True
        if column.kind == "str" and table.db != "information_schema":  # whose names are utf8mb3_tolower_ci
            plain = all(row[i] is None or is_plain(row[i]) for row in table.rows)
        name = column.name.lower()
        found[name] = (column.name, f'"{name}"', T(column.kind, column.scale, plain))
    return found


class Joined(NamedTuple):
    """A join in FROM."""

    seen: list[Source]
    """Those it joins."""
    inner: frozenset[Source]
    """An outer join's inner side."""
    equal: list[tuple[X, X]]
    """What USING or NATURAL makes equal."""


@dataclass(eq=False)
class Scope:
    """What names mean inside one SELECT."""

    parent: Scope | None
    sources: list[Source] = field(default_factory=list)
    aliases: dict[str, Item] = field(default_factory=dict)
    where: str = "field list"
    """The clause being read, in MySQL's words."""
    compared: str = ""
    """The clause in which IN, ALL or ANY with a subquery was read."""
    grouped: bool = False
    aggregating: bool = False
    """Whether aggregates are allowed here."""
    inside: bool = False
    """Whether an aggregate's argument is being read."""
    aggregated: bool = False
    """Whether its rows are groups of those in FROM."""
    ctes: dict[str, Cte] = field(default_factory=dict)
    group: tuple[Any, ...] = ()
    visible: int | None = None
    """In an ON clause: how many of the sources can be seen."""
    joins: dict[int, Joined] = field(default_factory=dict)
    """By `id` of the join's node."""
    reached: list[X] = field(default_factory=list)
    """This query's columns that its subqueries name, outside aggregates of this query's."""

    @property
    def place(self) -> str:
        """The clause as messages name it: after IN, ALL or ANY with a subquery, MySQL takes its rest for that."""
        return "IN/ALL/ANY subquery" if self.compared == self.where else self.where

    def around(self) -> Iterator[Scope]:
        """The scopes around this one, from the nearest."""
        scope = self.parent
        while scope is not None:
            yield scope
            scope = scope.parent


class Names:
    """A compilation: what it knows and has made so far, and how it finds columns."""

    def __init__(self, catalog: Catalog, db: str, full_group_by: bool, writes: bool = False) -> None:
        self.catalog = catalog
        self.db = db
        self.full_group_by = full_group_by
        self.writes = writes
        """Whether it is part of a statement that writes, which a division by 0, or a text that is no number, stops."""
        self.count = 0
        self.room = WRITTEN
        self.outward = 0
        """How many names were found in an enclosing query so far."""
        self.outermost: Any = None
        self.gone: frozenset[str] = frozenset()
        """In a sum of WITH ROLLUP: the SQL of what is grouped by no more."""
        self.read: set[int] = set()
        """The CTEs, by `id`, whose tables were looked up."""
        self.unordered: set[int] = set()
        """The parts of set operations, by `id`, whose ORDER BY says nothing, as they have no LIMIT."""

    def fresh(self, letter: str) -> str:
        """A name that is not taken."""
        self.count += 1
        return f"{letter}{self.count}"

    def write(self, sql: str, more: int = 0) -> None:
        """Count SQL that was made: a CTE or an operand that is named twice is so twice, with all in it."""
        self.room -= len(sql) + more
        if self.room < 0:
            raise Fault(TOO_LONG)

    def reference(self, source: Source, name: str) -> X:
        """A table's column as an expression."""
        _, sql, kind = source.columns[name]
        stored = kind.kind == "str" and not kind.plain and source.table is not None
        return X(f"{source.sql}.{sql}", kind, None, source, name, f'{source.sql}."{name}~"' if stored else "")

    def find(self, col: Col, scope: Scope | None, local: bool = False, quiet: bool = False) -> X | None:
        """The column that a name means, here or (but for `local`) in a query around; `quiet` refuses nothing."""
        name = col.name.lower()
        outward = False
        while scope is not None:
            found = []
            for source in scope.sources:
                if col.table is not None and source.alias.lower() != col.table.lower():
                    continue
                if col.db is not None and source.db != col.db.lower():
                    continue
                if name in source.columns and (col.table is not None or name not in source.hidden):
                    found.append(source)
            if len(found) > 1:
                if quiet:
                    return None
                raise Fault(f"Column '{col.written}' in {scope.place} is ambiguous")
            if found:
                x = self.reference(found[0], name)
                if outward and not quiet:
                    self.outward += 1
                    scope.reached.append(x)
                return x
            if local:
                return None
            scope, outward = scope.parent, True
        return None

    def column(self, col: Col, scope: Scope) -> X:
        """The column that a name means; refused where there is none."""
        found = self.find(col, scope)
        if found is not None:
            return found
        if col.table is not None and not scope.sources and scope.parent is None:
            raise Fault(f"Unknown table '{col.written.rpartition('.')[0]}' in {scope.place}")
        # An enclosing query's select aliases can be seen from the HAVING of a subquery only; not from here.
        raise Fault(f"Unknown column '{col.written}' in '{scope.place}'")

    def full_name(self, x: X) -> str:
        """A column with its database and table, as messages have it."""
        source = x.source
        assert source is not None
        db = source.db if source.table is not None else ""
        return ".".join(part for part in (db, source.alias, source.columns[x.column][0]) if part)

    def columns_of(self, expr: Any, scope: Scope) -> list[X]:
        """Columns of this query's own tables that stand in an expression outside aggregates."""

        def stop(node: Any) -> bool:
            return is_query(node) or (
                isinstance(node, Func) and node.name in AGGREGATES | {"any_value"} and node.over is None
            )

        found = []
        for node in walk(expr, stop):
            if isinstance(node, Col):
                x = self.find(node, scope, local=True, quiet=True)
                if x is not None:
                    found.append(x)
            elif isinstance(node, In) and is_query(node):
                found.extend(self.columns_of(node.value, scope))
        return found

    def outer(self, expr: Any, scope: Scope) -> bool:
        """Whether all columns of an expression are those of queries around this one."""
        columns = [n for n in walk(expr, is_query) if isinstance(n, Col)]
        local = (self.find(column, scope, local=True, quiet=True) for column in columns)
        return bool(columns) and not any(local) and not has_aggregate(expr) and not has_window(expr)
