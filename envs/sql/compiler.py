"""From a MySQL query to one SQLite statement that gives the same rows, in the same order, of the same types.

MySQL's rules live here: how names are resolved and what is said when they are not, which type each
expression has, how values of different types compare, what ONLY_FULL_GROUP_BY refuses, and (with
`planner`) in which order rows come when nothing asks for one.
"""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import reduce
from typing import Any, NamedTuple

from prosegym.envs.sql import planner
from prosegym.envs.sql.parser import (
    AGGREGATES,
    COMPOSITE,
    KEYWORDS,
    MOST_TABLES,
    STORED,
    Case,
    Cast,
    Col,
    Cte,
    Derived,
    Fault,
    Func,
    In,
    Interval,
    Item,
    Join,
    Lit,
    Op,
    Row,
    Select,
    Star,
    Sub,
    Union,
    Window,
)
from prosegym.envs.sql.parser import Table as TableRef
from prosegym.envs.sql.patience import TOO_LONG
from prosegym.envs.sql.schema import Table, fold, is_plain, single
from prosegym.envs.sql.schema import stored as temporal

WRITTEN = 1 << 23
"""Characters of SQL that a statement's parts may be written in, all together; about a second."""


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
_NUMBERS = frozenset(("int", "dec", "double", "float", "null"))
_DATES = frozenset(("date", "datetime", "time"))


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


class Joined(NamedTuple):
    """A join in FROM."""

    seen: list[Source]
    """Those it joins."""
    inner: frozenset[Source]
    """An outer join's inner side."""
    equal: list[tuple[X, X]]
    """What USING or NATURAL makes equal."""


@dataclass(eq=False)
class Conditions:
    """Conditions that hold together, as functional dependence reads them."""

    equal: list[tuple[X, X | None]] = field(default_factory=list)
    """A column, and what it equals: another or a constant."""
    refused: set[Source] = field(default_factory=set)
    """The tables whose columns cannot all be NULL where the conditions hold (`Item::not_null_tables`)."""
    columns: set[tuple[Source | None, str]] = field(default_factory=set)
    random: bool = False
    inner: frozenset[Source] = frozenset()
    """Of an outer join's ON: the tables of its inner side."""
    within: bool = False
    """Of an outer join's ON: whether it stands on the inner side of another."""


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


_FIELDS: dict[type, tuple[str, ...] | None] = {}


def _fields(kind: type) -> tuple[str, ...] | None:
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
        names = _fields(type(node))
        children = node if isinstance(node, tuple) else [getattr(node, name) for name in names or ()]
        for child in reversed(children):
            if isinstance(child, tuple) or _fields(type(child)) is not None:
                stack.append(child)


def _is_query(node: Any) -> bool:
    return isinstance(node, Sub) or (isinstance(node, In) and not isinstance(node.items, tuple))


def has_aggregate(node: Any) -> bool:
    """Whether an aggregate of this query (not of a subquery) stands in the expression."""
    return any(isinstance(n, Func) and n.name in AGGREGATES and n.over is None for n in walk(node, _is_query))


def quote(text: str) -> str:
    """An SQLite string literal, in which no comment can seem to stand (`_TIES`)."""
    if "\0" in text or "/*" in text:
        return "CAST(x'" + text.encode().hex() + "' AS TEXT)"
    return "'" + text.replace("'", "''") + "'"


def compile_query(
    tree: Any, catalog: Catalog, db: str, full_group_by: bool = True, writes: bool = False
) -> Compiled:
    """The SQLite statement for a query, or for what a statement that `writes` asks for.

    Raises:
        Fault: MySQL refuses it; the message is MySQL's.
    """
    return _Compiler(catalog, db, full_group_by, writes).top(tree)


def compile_rows(
    catalog: Catalog,
    db: str,
    table: TableRef,
    values: tuple[Any, ...],
    where: Any = None,
    order: tuple[tuple[Any, bool], ...] = (),
    limit: int | None = None,
) -> str:
    """SQL that gives, for the rows that UPDATE or DELETE is to change, their numbers in clustered order and these values.

    Decimals with a fixed number of digits are given as text.

    Raises:
        Fault: MySQL refuses it.
    """
    compiler = _Compiler(catalog, db, True, True)
    compiler.check_forms((values, where, order))
    compiler.check_tables((table, values, where, order), {})
    scope = Scope(None)
    source = compiler.source(table, scope)()
    scope.where = "where clause"
    test = "1" if where is None else compiler.truth(where, scope)
    scope.where = "order clause"
    for key, _ in order:
        if has_aggregate(key):
            raise Fault("Invalid use of group function")
        if isinstance(key, Lit) and key.kind == "int":
            raise Fault(f"Unknown column '{key.value}' in 'order clause'")
    keys = [_sorted(compiler.expr(key, scope)) + (" DESC" if down else "") for key, down in order]
    scope.where = "field list"
    number = f"{scope.sources[0].sql}._p"
    given = (compiler.expr(v, scope) for v in values)
    shown = ", ".join([number, *(compiler.text(x).sql if exact(x.type) else x.sql for x in given)])
    most = -1 if limit is None else limit
    return f"SELECT {shown} FROM {source} WHERE {test} ORDER BY {', '.join([*keys, number])} LIMIT {most}"


def exact(kind: T) -> bool:
    """Whether it is a decimal that has no more digits than it shows, as a quotient has."""
    return kind.kind == "dec" and not kind.rest


class _Compiler:
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

    walk = staticmethod(walk)

    def fresh(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"

    def write(self, sql: str, more: int = 0) -> None:
        """Count SQL that was made: a CTE or an operand that is named twice is so twice, with all in it."""
        self.room -= len(sql) + more
        if self.room < 0:
            raise Fault(TOO_LONG)

    def top(self, tree: Any) -> Compiled:
        self.check_forms(tree)
        self.check_tables(tree, {})
        self.outermost = tree
        return self.query(tree, None, {}, "rows")

    def check_forms(self, node: Any) -> None:
        """What the parser refuses, before any table is opened: numbers of arguments, LIMIT below IN and ANY, an alias given twice."""
        if isinstance(node, Select):
            seen: set[tuple[str, str]] = set()
            for table in walk(node.source or (), lambda n: isinstance(n, Derived) or _is_query(n)):
                if isinstance(table, TableRef):
                    alias = (table.db or self.db).lower(), (table.alias or table.name).lower()
                    if alias in seen:
                        raise Fault(f"Not unique table/alias: '{table.alias or table.name}'")
                    seen.add(alias)
        if isinstance(node, (Select, Union)):
            names = [cte.name.lower() for cte in node.ctes]
            for number, name in enumerate(names):
                if name in names[:number]:
                    raise Fault(f"Not unique table/alias: '{node.ctes[number].name}'")
        if isinstance(node, Func):
            _check_count(node)
        query: Any = None
        if isinstance(node, In):
            query = node.items
        elif isinstance(node, Sub) and node.kind in ("any", "all"):
            query = node.query
        sourceless = isinstance(query, Select) and query.source is None
        if isinstance(query, (Select, Union)) and query.limit is not None and not sourceless:
            raise Fault("This version of MySQL doesn't yet support 'LIMIT & IN/ALL/ANY/SOME subquery'")
        fields = _fields(type(node)) or ()
        for child in node if isinstance(node, tuple) else [getattr(node, name) for name in fields]:
            if isinstance(child, tuple) or _fields(type(child)) is not None:
                self.check_forms(child)

    # Tables are opened before any name is resolved, so a missing one is what is reported first.

    def check_tables(self, node: Any, known: dict[str, Any]) -> None:
        """`known` gives, by the names of the CTEs in sight, the CTE and what was in sight of it; None once it was read.

        A CTE's tables are opened where it is first named; those of one that nothing names are not
        (mysql-test/r/with_non_recursive.result).
        """
        if isinstance(node, TableRef):
            db = (node.db or self.db).lower()
            name = node.name.lower()
            if node.db is None and name in known:
                cte, around = known[name] or (None, {})
                if cte is not None and id(cte) not in self.read:
                    self.read.add(id(cte))
                    self.check_tables(cte.query, around)
                return
            if db not in self.catalog.dbs:
                raise Fault(f"Unknown database '{db}'")
            if name not in self.catalog.dbs[db]:
                if db == "information_schema":
                    raise Fault(f"Unknown table '{node.name.upper()}' in information_schema")
                raise Fault(f"Table '{db}.{name}' doesn't exist")
            return
        if isinstance(node, (Select, Union)) and node.ctes:
            for cte in node.ctes:
                around = {**known, cte.name.lower(): None} if cte.recursive else known
                known = {**known, cte.name.lower(): (cte, around)}
        if isinstance(node, Select):
            # FROM is opened in the order in which the parser meets it: select list, FROM, WHERE.
            for part in (node.items, node.source, node.where, node.group, node.having, node.order):
                self.check_tables(part, known)
            return
        if isinstance(node, tuple):
            for child in node:
                self.check_tables(child, known)
        else:
            for name in _fields(type(node)) or ():
                if name != "ctes":
                    child = getattr(node, name)
                    if isinstance(child, tuple) or _fields(type(child)) is not None:
                        self.check_tables(child, known)

    # Queries. `want` is rows (in order), table (rows with their position, for FROM), or set (any order).

    def query(self, tree: Any, parent: Scope | None, ctes: dict[str, Cte], want: str) -> Compiled:
        if tree.ctes:
            ctes = dict(ctes)
            for cte in tree.ctes:
                ctes[cte.name.lower()] = cte
        compiled = (
            self.union(tree, parent, ctes, want)
            if isinstance(tree, Union)
            else self.select(tree, parent, ctes, want)
        )
        self.write(compiled.sql, 1000)  # the work that a short one is
        return compiled

    def numbered(self, compiled: Compiled, stored: tuple[T, ...] | None = None) -> str:
        """The rows of a query in its order, as a table whose last column `_p` is their position.

        With `stored`, values are as in MySQL's temporary table with columns of these types.
        """
        inner = (
            compiled.sql
            if compiled.limit != (None, 0) or " LIMIT " in compiled.sql[-40:]
            else compiled.sql + " LIMIT -1"
        )
        columns = _columns(compiled.types, stored or compiled.types)
        return f"SELECT {columns}, row_number() OVER () AS _p FROM ({inner})"

    def union(self, tree: Union, parent: Scope | None, ctes: dict[str, Cte], want: str) -> Compiled:
        parts: list[Compiled] = []
        for part in tree.parts:
            if len(tree.parts) > 1 and isinstance(part, Select) and part.order and part.limit is None:
                self.unordered.add(id(part))
            parts.append(self.query(part, parent, ctes, "rows" if want != "set" else "set"))
            if len(parts[-1].names) != len(parts[0].names):
                raise Fault("The used SELECT statements have a different number of columns")
        ops = list(tree.ops)
        first = parts[0]
        merged = (reduce(_merge, kinds) for kinds in zip(*(part.types for part in parts), strict=True))
        stored = _stored(merged)
        # Each step has a name: nested in one another, seven parts overflow the stack of SQLite's parser.
        steps: list[str] = []

        def named(sql: str) -> str:
            name = self.fresh("u")
            steps.append(f"{name} AS ({sql})")
            return name

        current, types = named(self.numbered(first, stored)), first.types
        for op, part in zip(ops, parts[1:], strict=True):
            before, types = types, tuple(_merge(a, b) for a, b in zip(types, part.types, strict=True))
            n = len(types)
            names = ", ".join(f"c{i}" for i in range(n))
            lefts, rights = (
                ", ".join(
                    f"{self.as_kind(X(f'c{i}', k), t).sql} AS c{i}"
                    for i, (k, t) in enumerate(zip(kinds, types, strict=True))
                )
                for kinds in (before, part.types)
            )
            added = named(self.numbered(part, stored))
            both = named(
                f"SELECT {lefts}, 1 AS _k, _p FROM {current} UNION ALL SELECT {rights}, 2, _p FROM {added}"
            )
            if op == "UNION ALL":
                current = named(f"SELECT {names}, row_number() OVER (ORDER BY _k, _p) AS _p FROM {both}")
                continue
            keys = ", ".join(_folded(f"c{i}", t) for i, t in enumerate(types))
            if op in ("INTERSECT ALL", "EXCEPT ALL"):  # the n-th of equal rows is a row of its own
                both = named(
                    f"SELECT *, row_number() OVER (PARTITION BY {keys}, _k ORDER BY _p) AS _n FROM {both}"
                )
                keys += ", _n"
            having = {"INTERSECT": " HAVING count(DISTINCT _k) = 2", "EXCEPT": " HAVING max(_k) = 1"}.get(
                op.split()[0], ""
            )
            firsts = f"SELECT {names}, min(_k * 100000000 + _p) AS _m FROM {both} GROUP BY {keys}{having}"
            if having:
                firsts = (
                    f"SELECT {names}, _m FROM (SELECT {names}, _k, _k * 100000000 + _p AS _q, min(_k * 100000000 + _p) OVER w AS _m, count(*) FILTER (WHERE _k = 1) OVER w AS _a, count(*) FILTER (WHERE _k = 2) OVER w AS _b FROM {both} WINDOW w AS (PARTITION BY {keys})) WHERE _q = _m AND "
                    + ("_a > 0 AND _b > 0" if op.startswith("INTERSECT") else "_a > 0 AND _b = 0")
                )
            current = named(f"SELECT {names}, row_number() OVER (ORDER BY _m) AS _p FROM ({firsts})")
        names = ", ".join(f"c{i}" for i in range(len(types)))
        keys_sql = []
        lower = [name.lower() for name in first.names]
        for number, (expr, descending) in enumerate(tree.order, 1):
            if has_aggregate(expr):
                raise Fault(
                    f"Expression #{number} of ORDER BY contains aggregate function and applies to a UNION, EXCEPT or INTERSECT"
                )
            if isinstance(expr, Lit) and expr.kind == "int":
                if not _is_place(expr):
                    continue
                at = int(expr.value) - 1
                if not 0 <= at < len(lower):
                    raise Fault(f"Unknown column '{expr.value}' in 'order clause'")
                sql = _folded(f"c{at}", types[at])
            else:
                scope = Scope(
                    None, [Source("", "", {n: (n, f"c{i}", types[i]) for i, n in enumerate(lower)})]
                )
                scope.where = "order clause"
                scope.sources[0].sql = "u"
                if isinstance(expr, Col) and expr.table:
                    raise Fault(
                        f"Table '{expr.table}' from one of the SELECTs cannot be used in global ORDER clause"
                    )
                x = self.expr(expr, scope)
                sql = _sorted(x)
            keys_sql.append(sql + (" DESC" if descending else ""))
        order = ", ".join([*keys_sql, "_p"])
        sql = f"WITH {', '.join(steps)} SELECT {names} FROM {current} AS u"
        if want != "set" or tree.limit is not None:
            sql += f" ORDER BY {order}"
        if tree.limit is not None:
            sql += f" LIMIT {tree.limit} OFFSET {tree.offset}"
        result = Compiled(sql, first.names, stored, limit=(tree.limit, tree.offset))
        return Compiled(self.numbered(result), result.names, result.types) if want == "table" else result

    def select(self, tree: Select, parent: Scope | None, ctes: dict[str, Cte], want: str) -> Compiled:
        scope = Scope(parent, ctes=ctes)
        entered = self.outward
        build: Callable[[], str] = lambda: ""  # noqa: E731
        if tree.source is not None:
            build = self.source(tree.source, scope)
        # The select list, stars written out.
        items: list[Item] = []
        for item in tree.items:
            if isinstance(item.expr, Star):
                items.extend(self.stars(item.expr, scope))
            else:
                items.append(item)
        scope.grouped = bool(tree.group)
        aggregated = (
            bool(tree.group)
            or any(has_aggregate(i.expr) for i in items)
            or has_aggregate(tree.having or ())
            or (any(has_aggregate(e) for e, _ in tree.order))
        )
        scope.aggregated = aggregated
        scope.aggregating = True
        outputs = [self.expr(item.expr, scope) for item in items]
        names = tuple(
            item.alias or (item.expr.name if isinstance(item.expr, Col) else item.text) for item in items
        )
        for item in items:
            if item.alias:
                scope.aliases.setdefault(item.alias.lower(), item)
            elif isinstance(item.expr, Col):
                scope.aliases.setdefault(item.expr.name.lower(), item)
            else:
                scope.aliases.setdefault(item.text.lower(), item)
        where = ""
        scope.aggregating = False
        if tree.where is not None:
            scope.where = "where clause"
            if has_aggregate(tree.where):
                self.expr(tree.where, scope)
                raise Fault("Invalid use of group function")
            where = self.truth(tree.where, scope)
        source_sql = build()
        # GROUP BY: positions, columns, aliases.
        group: list[Any] = []
        listed = [item.expr for item in items]
        scope.where = "group statement"
        for expr in tree.group:
            if isinstance(expr, Lit) and expr.kind == "int":
                at = int(expr.value) - 1
                if not 0 <= at < len(items):
                    raise Fault(f"Unknown column '{expr.value}' in 'group statement'")
                expr = items[at].expr
                if has_aggregate(expr) or _has_window(expr):
                    raise Fault(f"Can't group on '{names[at]}'")
            elif isinstance(expr, Col) and expr.table is None:
                alias = self.selected(expr, scope, items)
                if alias is not None and self.find(expr, scope, local=True, quiet=True) is None:
                    if has_aggregate(alias.expr) or _has_window(alias.expr):
                        raise Fault(f"Can't group on '{expr.name}'")
                    expr = alias.expr
            elif not isinstance(expr, Col):
                if expr in listed and has_aggregate(expr):
                    raise Fault(f"Can't group on '{names[listed.index(expr)]}'")
                expr = self.inline(expr, scope, items, [], having=False)
            group.append(expr)
        grouped = [self.expr(expr, scope) for expr in group]
        scope.group = tuple(group)
        having, tested = "", None
        if tree.having is not None:
            scope.where = "having clause"
            scope.aggregating = True
            tested = self.inline(tree.having, scope, items, group, having=True)
            having = self.truth(tested, scope)
        scope.where = "order clause"
        scope.aggregating = True
        order: list[tuple[Any, X, bool]] = []
        keyed: list[Any] = []  # as they are written
        for expr, descending in tree.order:
            if isinstance(expr, Lit) and not _is_place(expr):
                continue
            keyed.append(expr)
            if isinstance(expr, Lit):
                at = int(expr.value) - 1
                if not 0 <= at < len(items):
                    raise Fault(f"Unknown column '{expr.value}' in 'order clause'")
                expr = items[at].expr
            else:
                expr = self.inline(expr, scope, items, group, having=False)
            order.append((expr, self.expr(expr, scope), descending))
        if aggregated and self.full_group_by:
            if not group and not has_aggregate((*(i.expr for i in items), tree.having or ())):
                number = next(n for n, (expr, _, _) in enumerate(order, 1) if has_aggregate(expr))
                raise Fault(
                    f"Expression #{number} of ORDER BY contains aggregate function and applies to the result of a "
                    "non-aggregated query"
                )
            self.check_group(tree, items, names, group, grouped, order, scope)
        if id(tree) in self.unordered:
            order = []
        # What a subquery orders by of the query around it is one value, which SQLite does not find there.
        order = [key for key in order if not self.outer(key[0], scope)]
        sqls = {x.sql for x in outputs}
        # DISTINCT is no more where each row is a group of its own (Query_block::prepare in sql/sql_resolver.cc).
        apart = aggregated and not tree.rollup and all(x.sql in sqls for x in grouped)
        if tree.distinct and self.full_group_by and not apart:
            chosen = {(x.source, x.column) for x in outputs if x.source}
            for n, (expr, x, _) in enumerate(order, 1):
                if x.sql in sqls:
                    continue
                if has_aggregate(keyed[n - 1]) and not _has_window(expr):
                    raise Fault(
                        f"Expression #{n} of ORDER BY clause is not in SELECT list, contains aggregate function; this is "
                        "incompatible with DISTINCT"
                    )
                if has_aggregate(expr):
                    continue
                for ref in self.columns_of(expr, scope):
                    if (ref.source, ref.column) not in chosen and ref.source is not None:
                        raise Fault(
                            f"Expression #{n} of ORDER BY clause is not in SELECT list, references column "
                            f"'{self.full_name(ref)}' which is not in SELECT list; this is incompatible with DISTINCT"
                        )
        for expr, x in zip((i.expr for i in items), outputs, strict=True):
            if isinstance(expr, Row) or (x.type.kind == "row"):
                raise Fault("Operand should contain 1 column(s)")

        # The order in which rows come when nothing says otherwise.
        wants_order = want != "set" or tree.limit is not None
        single = (aggregated and not tree.group) or tree.source is None
        position = ""
        if wants_order and not single:
            if planner.groups_sorted(self, items, group, tree.having, order):
                position = ", ".join(_sorted(x) for x in grouped)
            else:
                position = planner.position(self, tree, scope, items, group, order, aggregated)
        local = [x for x in grouped if x.source is None or x.source in scope.sources]
        # SQLite takes no outer column as a grouping key; to one group it is a constant.
        by_group = ", ".join(_sorted(x) for x in local) or "NULL"
        windowed = _has_window((*(i.expr for i in items), *(e for e, _, _ in order)))
        # What no temporary table holds is shown as it is computed; a join's rows may be held to be sorted.
        if tree is self.outermost and not (
            tree.distinct or tree.rollup or windowed or order and len(scope.sources) > 1
        ):
            for i, item in enumerate(items):
                branches = (
                    isinstance(item.expr, Case) or isinstance(item.expr, Func) and item.expr.name == "if"
                )
                if (
                    branches
                    and outputs[i].type.kind == "dec"
                    and (not aggregated or has_aggregate(item.expr))
                ):
                    outputs[i] = self.expr(_by_branch(item.expr), scope)._replace(type=T("shown"))
        n = len(outputs)
        columns = ", ".join(f"{x.sql} AS c{i}" for i, x in enumerate(outputs))
        names_sql = ", ".join(f"c{i}" for i in range(n))
        cut = ", ".join(_folded(f"c{i}", x.type) for i, x in enumerate(outputs))
        keys = [_sorted(x) + (" DESC" if d else "") for _, x, d in order]
        limit = (
            f" LIMIT {-1 if tree.limit is None else tree.limit} OFFSET {tree.offset}"
            if tree.limit is not None
            else ""
        )
        tests = [f"({t})" for t in ((where,) if aggregated or tree.distinct else (where, having)) if t]
        body = f" FROM {source_sql}" if source_sql else ""
        body += f" WHERE {' AND '.join(tests)}" if tests else ""
        grouping = f" GROUP BY {by_group}" if tree.group else ""
        if having and (aggregated or tree.distinct):
            grouping += f" HAVING {having}"
        sorts, counted = False, not (aggregated or tree.distinct)
        if tree.rollup and tree.group:
            where_sql = f" WHERE {where}" if where else ""
            sql = self.rollup(items, grouped, f" FROM {source_sql}", where_sql, tested, order, scope) + limit
        elif having and aggregated and not tree.group and not tree.distinct:
            # SQLite takes HAVING without GROUP BY only beside an aggregate in the select list.
            sql = f"SELECT {names_sql} FROM (SELECT {columns}, ({having}) AS _h{body}) WHERE _h{limit}"
        elif want == "set" and tree.limit is None and not aggregated:
            sql = f"SELECT {columns}{body}"
        elif tree.distinct and (aggregated or windowed):
            rank = f"row_number() OVER (ORDER BY {position})" if position and not windowed else "0"
            extra = "".join(f", {x.sql} AS k{i}" for i, (_, x, _) in enumerate(order))
            by = [_folded(f"min(k{i})", x.type) + (" DESC" if d else "") for i, (_, x, d) in enumerate(order)]
            sql = f"SELECT {names_sql} FROM (SELECT {columns}{extra}, {rank} AS _r{body}{grouping}) GROUP BY {cut}"
            sql += f" ORDER BY {', '.join([*by, 'min(_r)'])}{limit}"
        else:
            if tree.distinct:
                grouping = (
                    " GROUP BY "
                    + ", ".join(_sorted(x) for x in outputs if x.source is None or x.source in scope.sources)
                    + grouping
                )
            if not order or not wants_order or single or windowed or not position:
                by = (
                    [*keys, *self.sorted_by_window(items, scope), position]
                    if position and wants_order and not single
                    else keys
                    if wants_order
                    else []
                )
                sql = (
                    f"SELECT {columns}{body}{grouping}" + (f" ORDER BY {', '.join(by)}" if by else "") + limit
                )
            else:
                extra = "".join(f", {_sorted(x)} AS k{i}" for i, (_, x, _) in enumerate(order))
                by = [_folded(f"k{i}", x.type) + (" DESC" if d else "") for i, (_, x, d) in enumerate(order)]
                before = self.outward
                inner = (
                    f"SELECT {columns}{extra}, row_number() OVER (ORDER BY {position}) AS _p{body}{grouping}"
                )
                ranked = f"SELECT {names_sql}, _p, dense_rank() OVER (ORDER BY {', '.join(by)}) AS _d FROM ({inner})"
                if tree is self.outermost:
                    # The engine sorts: ties come out as filesort leaves them.
                    sorts = True
                    sql = f"SELECT {columns}, dense_rank() OVER (ORDER BY {', '.join(keys)}){body}{grouping} ORDER BY {position}"
                elif tree.limit is not None and self.outward == entered:
                    s = self.fresh("s")
                    sql = (
                        f"WITH {s} AS ({ranked}) SELECT {names_sql} FROM {s}, (SELECT my_top(_d, _p, {tree.limit}, {tree.offset}, {int(counted)}) AS _t FROM {s}) "
                        f"WHERE my_at(_t, _p) > 0 ORDER BY my_at(_t, _p)"
                    )
                else:
                    sql = f"SELECT {columns}{body}{grouping} ORDER BY {', '.join([*keys, position])}{limit}"
                assert before == self.outward
        single = single or tree.limit in (0, 1)
        group_names = None
        if tree.group and all(x.source for x in grouped):
            refs = {(x.source, x.column) for x in grouped}
            grouped_names = [
                n.lower() for n, x in zip(names, outputs, strict=True) if (x.source, x.column) in refs
            ]
            covered = {(x.source, x.column) for x in outputs} >= refs
            group_names = frozenset(grouped_names) if covered else None
        if windowed:
            # Rows that a window does not tell apart come as they are read; of one table, as ORDER BY has sorted them.
            ties = "" if tree.distinct and not aggregated else position
            sooner = len(scope.sources) == 1 and not (
                aggregated or tree.distinct or _has_window(tuple(e for e, _, _ in order))
            )
            first = ", ".join([*(keys if sooner else []), *([ties] if ties else [])])
            sql = sql.replace(_TIES, f", {ties}" if ties else "").replace(
                _UNSORTED, f"ORDER BY {ties}" if ties else ""
            )
            sql = sql.replace(_ALL, f"ORDER BY {first}" if first else "")
        types = tuple(x.type for x in outputs)
        result = Compiled(sql, names, types, single, group_names, sorts, counted, (tree.limit, tree.offset))
        if want != "table":
            return result
        # A table of the plainest queries is merged into the query around it (Query_expression::is_mergeable).
        merges = not (aggregated or windowed or tree.distinct or tree.having is not None or limit)
        if not merges or tree.source is None:
            types = _stored(types)
        return Compiled(self.numbered(result, types), names, types, single, group_names)

    def sorted_by_window(self, items: list[Item], scope: Scope) -> list[str]:
        """The keys by which the last window sorts its rows, which is how they then come."""
        found: list[str] = []
        for node in walk(tuple(item.expr for item in items), _is_query):
            if isinstance(node, Func) and node.over is not None and (node.over.partition or node.over.order):
                found = self.window_keys(node.over, scope)[0] + self.window_keys(node.over, scope)[1]
        return found

    def window_keys(self, over: Window, scope: Scope) -> tuple[list[str], list[str]]:
        """(PARTITION BY, ORDER BY) of a window."""
        clause, scope.where = scope.where, "window partition by"
        partition = [_sorted(self.scalar(e, scope)) for e in over.partition]
        scope.where = "window order by"
        order = [_sorted(self.scalar(e, scope)) + (" DESC" if d else "") for e, d in over.order]
        scope.where = clause
        return partition, order

    def rollup(
        self,
        items: list[Item],
        grouped: list[X],
        from_sql: str,
        where_sql: str,
        having: Any,
        order: list[tuple[Any, X, bool]],
        scope: Scope,
    ) -> str:
        """GROUP BY ... WITH ROLLUP: one query per prefix of the group, sums after their parts.

        What is grouped by is NULL in a sum, wherever it stands outside aggregates (MySQL 8.0 manual, 14.19.2).
        """
        parts = []
        for depth in range(len(grouped), -1, -1):
            self.gone = frozenset(x.sql for x in grouped[depth:])
            cols = ", ".join(f"{self.expr(item.expr, scope).sql} AS c{i}" for i, item in enumerate(items))
            marks = "".join(
                f", {int(i >= depth)} AS g{i}, {_sorted(x) if i < depth else 'NULL'} AS h{i}"
                for i, x in enumerate(grouped)
            )
            keys = "".join(
                f", {_sorted(self.expr(expr, scope))} AS k{i}" for i, (expr, _, _) in enumerate(order)
            )
            by = " GROUP BY " + (", ".join(_sorted(x) for x in grouped[:depth]) or "NULL")
            test = f" HAVING {self.truth(having, scope)}" if having is not None else ""
            parts.append(f"SELECT {cols}{marks}{keys}{from_sql}{where_sql}{by}{test}")
        self.gone = frozenset()
        wanted = [_folded(f"k{i}", x.type) + (" DESC" if d else "") for i, (_, x, d) in enumerate(order)]
        wanted += [f"g{i}, {_folded(f'h{i}', x.type)}" for i, x in enumerate(grouped)]
        names = ", ".join(f"c{i}" for i in range(len(items)))
        return f"SELECT {names} FROM ({' UNION ALL '.join(parts)}) ORDER BY {', '.join(wanted)}"

    # FROM. Sources are registered at once; ON conditions are read later, after WHERE, outermost join first.

    def source(self, node: Any, scope: Scope) -> Callable[[], str]:
        if isinstance(node, TableRef):
            sql = self.table(node, scope)
            return lambda: sql
        if isinstance(node, Derived):
            before = self.outward
            compiled = self.query(node.query, scope.parent, scope.ctes, "table")
            if self.outward > before:
                # SQLite finds no outer column through a window function; such rows are left in any order.
                plain = self.query(node.query, scope.parent, scope.ctes, "set")
                columns = _columns(plain.types, compiled.types)
                sql = f"SELECT {columns}, 0 AS _p FROM ({plain.sql})"
                compiled = Compiled(sql, plain.names, compiled.types, plain.single, plain.keys)
            self.add(scope, self.derived(node.alias, compiled, node.columns))
            sql = f"({compiled.sql}) AS {scope.sources[-1].sql}"
            return lambda: sql
        assert isinstance(node, Join)
        start = len(scope.sources)
        build_left = self.source(node.left, scope)
        middle = len(scope.sources)
        build_right = self.source(node.right, scope)
        inner = scope.sources[middle:] if node.kind == "left" else scope.sources[start:middle]
        if node.kind != "inner":
            for s in inner:
                s.outer = True
        seen = scope.sources[start:]
        equal = self.merged(node, scope, start, middle) if node.natural or node.using is not None else []
        merged = " AND ".join(self.compare("=", x, y) for x, y in equal)
        scope.joins[id(node)] = Joined(seen, frozenset(inner), equal)

        def build() -> str:
            condition = merged
            if node.on is not None:
                condition = self.truth(node.on, Scope(scope.parent, seen, where="on clause", ctes=scope.ctes))
                if has_aggregate(node.on):
                    raise Fault("Invalid use of group function")
            right, left = build_right(), build_left()
            if isinstance(node.right, Join):
                right = f"({right})"
            if node.kind == "right":
                left = f"({left})" if isinstance(node.left, Join) else left
                return f"{right} LEFT JOIN {left} ON {condition or '1'}"
            word = "LEFT JOIN" if node.kind == "left" else "JOIN"
            return f"{left} {word} {right}" + (
                f" ON {condition}" if condition else " ON 1" if node.kind == "left" else ""
            )

        return build

    def merged(self, node: Join, scope: Scope, start: int, middle: int) -> list[tuple[X, X]]:
        """The columns that NATURAL JOIN and USING make equal; the right-hand ones become invisible."""
        lefts, rights = scope.sources[start:middle], scope.sources[middle:]
        if node.using is not None:
            shared = list(node.using)
        else:
            have = {c for s in lefts for c in s.columns if c not in s.hidden}
            shared = [c for s in rights for c in s.columns if c in have and c not in s.hidden]
            met = set()
            for source, c in ((s, c) for s in lefts for c in s.columns if c in shared and c not in s.hidden):
                if c in met:
                    raise Fault(f"Column '{source.columns[c][0]}' in from clause is ambiguous")
                met.add(c)
        equal = []
        for written in shared:
            name = written.lower()
            a = [s for s in lefts if name in s.columns and name not in s.hidden]
            b = [s for s in rights if name in s.columns and name not in s.hidden]
            if not a or not b:
                raise Fault(f"Unknown column '{written}' in 'from clause'")
            if len(a) > 1 or len(b) > 1:
                name = (a if len(a) > 1 else b)[0].columns[name][0]
                raise Fault(f"Column '{name}' in from clause is ambiguous")
            equal.append((self.reference(a[0], name), self.reference(b[0], name)))
            (a if node.kind == "right" else b)[0].hidden |= {name}
        return equal

    def add(self, scope: Scope, source: Source) -> None:
        if any(
            s.alias.lower() == source.alias.lower() and (s.db == source.db or s.derived or source.derived)
            for s in scope.sources
        ):
            raise Fault(f"Not unique table/alias: '{source.alias}'")
        if len(scope.sources) == MOST_TABLES:
            raise Fault(f"Too many tables; MySQL can only use {MOST_TABLES} tables in a join")
        scope.sources.append(source)

    def table(self, node: TableRef, scope: Scope) -> str:
        name = node.name.lower()
        if node.db is None and name in scope.ctes:
            return self.cte(scope.ctes[name], node.alias or node.name, scope)
        db = (node.db or self.db).lower()
        table = self.catalog.dbs[db][name]
        sql = self.fresh("t")
        alias = node.alias or node.name
        for key in reversed(node.hints):
            if not any(k.name.lower().startswith(key.lower()) for k in table.keys):
                raise Fault(f"Key '{key}' doesn't exist in table '{alias}'")
        self.add(scope, Source(alias, sql, self.catalog.types[db, name], table, db))
        return f'"{db}.{name}" AS {sql}'

    def cte(self, cte: Cte, alias: str, scope: Scope) -> str:
        rest = {k: v for k, v in scope.ctes.items() if k != cte.name.lower()}
        if cte.recursive and any(
            isinstance(n, TableRef) and n.name.lower() == cte.name.lower() for n in walk(cte.query)
        ):
            return self.recursive(cte, alias, scope, rest)
        compiled = self.query(cte.query, None, rest, "table")
        self.add(scope, self.derived(alias, compiled, cte.columns))
        return f"({compiled.sql}) AS {scope.sources[-1].sql}"

    def recursive(self, cte: Cte, alias: str, scope: Scope, rest: dict[str, Cte]) -> str:
        query = cte.query
        if not isinstance(query, Union) or len(query.parts) != 2:
            raise Fault(
                f"Recursive Common Table Expression '{cte.name}' should have one or more non-recursive query blocks followed by one or more recursive ones"
            )
        seed = self.query(query.parts[0], None, rest, "set")
        name = self.fresh("r")
        source = self.derived(cte.name, seed, cte.columns)
        marker = _RecursiveSource(name, source)
        step = self.recursive_step(query.parts[1], cte.name.lower(), marker, rest)
        names = ", ".join(f"c{i}" for i in range(len(seed.names)))
        word = "UNION ALL" if query.ops[0] == "UNION ALL" else "UNION"
        sql = f"WITH RECURSIVE {name}({names}) AS (SELECT * FROM ({seed.sql}) {word} {step}) SELECT {names}, row_number() OVER () AS _p FROM {name}"
        compiled = Compiled(sql, seed.names, seed.types)
        self.add(scope, self.derived(alias, compiled, cte.columns))
        return f"({sql}) AS {scope.sources[-1].sql}"

    def recursive_step(self, tree: Any, name: str, marker: _RecursiveSource, ctes: dict[str, Cte]) -> str:
        if not isinstance(tree, Select) or tree.group or tree.order or tree.distinct:
            raise Fault(
                f"Recursive Common Table Expression '{name}' can contain neither aggregation nor window functions in recursive query block"
            )
        scope = Scope(None, ctes=ctes)
        self.marker = (name, marker)
        source = self.marked(tree.source, scope)
        scope.aggregating = False
        outputs = [self.expr(item.expr, scope) for item in tree.items]
        scope.where = "where clause"
        where = f" WHERE {self.truth(tree.where, scope)}" if tree.where is not None else ""
        limit = f" LIMIT {tree.limit}" if tree.limit is not None else ""
        return f"SELECT {', '.join(x.sql for x in outputs)} FROM {source}{where}{limit}"

    def marked(self, node: Any, scope: Scope) -> str:
        name, marker = self.marker
        if isinstance(node, TableRef) and node.db is None and node.name.lower() == name:
            sql = self.fresh("t")
            self.add(
                scope,
                Source(node.alias or node.name, sql, marker.source.columns, derived=marker.source.derived),
            )
            return f"{marker.name} AS {sql}"
        if isinstance(node, Join):
            left, right = self.marked(node.left, scope), self.marked(node.right, scope)
            scope.where = "on clause"
            on = f" ON {self.truth(node.on, scope)}" if node.on is not None else ""
            scope.where = "field list"
            return f"{left} {'LEFT JOIN' if node.kind == 'left' else 'JOIN'} {right}{on}"
        return self.source(node, scope)()

    marker: tuple[str, Any]

    def derived(self, alias: str, compiled: Compiled, columns: tuple[str, ...]) -> Source:
        if columns and len(columns) != len(compiled.names):
            raise Fault(
                "In definition of view, derived table or common table expression, SELECT list and column names list have different column counts"
            )
        names = columns or compiled.names
        known: dict[str, tuple[str, str, T]] = {}
        for i, (name, kind) in enumerate(zip(names, compiled.types, strict=True)):
            if name.lower() in known:
                raise Fault(f"Duplicate column name '{name}'")
            known[name.lower()] = (name, f"c{i}", kind)
        return Source(alias, self.fresh("d"), known, derived=compiled)

    def stars(self, star: Star, scope: Scope) -> list[Item]:
        if not scope.sources and star.table is None:
            raise Fault("No tables used")
        chosen = scope.sources
        if star.table is not None:
            chosen = [s for s in scope.sources if s.alias.lower() == star.table.lower()]
            if not chosen:
                raise Fault(f"Unknown table '{star.table}'")
        merged = [s for s in chosen if s.hidden] and star.table is None
        items = []
        if merged:
            # USING and NATURAL show the shared columns first.
            shared = {c for s in chosen for c in s.hidden}
            done: set[str] = set()
            for s in chosen:
                for name in s.columns:
                    if name in shared and name not in s.hidden and name not in done:
                        done.add(name)
                        items.append(Item(Col(s.columns[name][0], s.alias), None, s.columns[name][0]))
            for s in chosen:
                items.extend(
                    Item(Col(s.columns[n][0], s.alias), None, s.columns[n][0])
                    for n in s.columns
                    if n not in shared
                )
            return items
        for s in chosen:
            items.extend(
                Item(Col(declared, s.alias), None, declared) for declared, _, _ in s.columns.values()
            )
        return items

    # Names.

    def reference(self, source: Source, name: str) -> X:
        _, sql, kind = source.columns[name]
        stored = kind.kind == "str" and not kind.plain and source.table is not None
        return X(f"{source.sql}.{sql}", kind, None, source, name, f'{source.sql}."{name}~"' if stored else "")

    def find(self, col: Col, scope: Scope | None, local: bool = False, quiet: bool = False) -> X | None:
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
        found = self.find(col, scope)
        if found is not None:
            return found
        if col.table is not None and not scope.sources and scope.parent is None:
            raise Fault(f"Unknown table '{col.written.rpartition('.')[0]}' in {scope.place}")
        # An enclosing query's select aliases can be seen from the HAVING of a subquery only; not from here.
        raise Fault(f"Unknown column '{col.written}' in '{scope.place}'")

    def selected(self, col: Col, scope: Scope, items: list[Item]) -> Item | None:
        """The element of the select list that a bare name in GROUP BY means (find_item_in_list in sql/sql_base.cc)."""
        name = col.name.lower()
        found: Item | None = None
        for item in items:
            if not isinstance(item.expr, Col):
                text = isinstance(item.expr, Lit) and item.expr.kind == "str"
                if (item.alias or (item.expr.value if text else item.text)).lower() == name:
                    return item
            elif (item.alias or item.expr.name).lower() == name:
                if found is None:
                    found = item
                elif self.expr(found.expr, scope).sql != self.expr(item.expr, scope).sql:
                    raise Fault(f"Column '{col.name}' in {scope.where} is ambiguous")
        return found

    def inline(self, expr: Any, scope: Scope, items: list[Item], group: list[Any], having: bool) -> Any:
        """HAVING's, ORDER BY's or GROUP BY's expression with select aliases replaced by what they stand for."""
        if not having and isinstance(expr, Col) and expr.table is None:
            item = self.selected(expr, scope, items)
            return expr if item is None else item.expr

        def aliased(item: Item, node: Col) -> Any:
            if having and _has_window(item.expr):
                raise Fault(
                    f"You cannot use the alias '{node.name}' of an expression containing a window function in this context.'"
                )
            return item.expr

        def swap(node: Any, inside: bool) -> Any:
            if isinstance(node, Col) and having and not inside:
                if node.table is None:
                    for item in items:
                        if item.alias and item.alias.lower() == node.name.lower():
                            if not isinstance(item.expr, Col):
                                for g in group:
                                    if isinstance(g, Col) and g.name.lower() == node.name.lower():
                                        return g
                            return aliased(item, node)
                    for item in items:
                        if (
                            not item.alias
                            and not isinstance(item.expr, Col)
                            and item.text.lower() == node.name.lower()
                        ):
                            return aliased(item, node)
                    matching = [
                        i.expr
                        for i in items
                        if not i.alias
                        and isinstance(i.expr, Col)
                        and i.expr.name.lower() == node.name.lower()
                    ]
                    if matching:
                        refs = {self.expr(m, scope).sql for m in matching}
                        if len(refs) == 1:
                            return matching[0]
                        raise Fault(f"Column '{node.name}' in {scope.where} is ambiguous")
                found = self.find(node, scope, local=True, quiet=True)
                known = {
                    self.expr(e, scope).sql
                    for e in [*group, *(i.expr for i in items if isinstance(i.expr, Col))]
                }
                if found is not None and found.sql in known:
                    return node
                if found is not None or scope.parent is None or self.find(node, scope.parent) is None:
                    raise Fault(f"Unknown column '{node.written}' in 'having clause'")
                return node
            if isinstance(node, Col) and node.table is None and self.find(node, scope, local=True) is None:
                # Within an expression, but for HAVING's own, a name is a column of FROM before it is an alias.
                for item in items:
                    if item.alias and item.alias.lower() == node.name.lower():
                        return aliased(item, node)
                return node
            if _is_query(node) or isinstance(node, (Lit, Star)):
                if isinstance(node, In):
                    return In(swap(node.value, inside), node.items, node.negated)
                return node
            if isinstance(node, Func) and node.name == STORED:  # there is none, whatever its arguments are
                return node
            if isinstance(node, tuple):
                return tuple(swap(child, inside) for child in node)
            if is_dataclass(node) and not isinstance(node, type):
                deeper = inside or (isinstance(node, Func) and node.name in AGGREGATES and node.over is None)
                values = {f.name: getattr(node, f.name) for f in fields(node)}
                changed = {
                    k: swap(v, deeper)
                    if isinstance(v, tuple) or (is_dataclass(v) and not isinstance(v, type))
                    else v
                    for k, v in values.items()
                }
                return replace(node, **changed) if changed != values else node
            return node

        # Scalars only: `x IN (subquery)` is swapped on its left side.
        return swap(expr, False)

    def columns_of(self, expr: Any, scope: Scope) -> list[X]:
        """Columns of this query's own tables that stand in an expression outside aggregates."""

        def stop(node: Any) -> bool:
            return _is_query(node) or (
                isinstance(node, Func) and node.name in AGGREGATES | {"any_value"} and node.over is None
            )

        found = []
        for node in walk(expr, stop):
            if isinstance(node, Col):
                x = self.find(node, scope, local=True, quiet=True)
                if x is not None:
                    found.append(x)
            elif isinstance(node, In) and _is_query(node):
                found.extend(self.columns_of(node.value, scope))
        return found

    def full_name(self, x: X) -> str:
        source = x.source
        assert source is not None
        db = source.db if source.table is not None else ""
        return ".".join(part for part in (db, source.alias, source.columns[x.column][0]) if part)

    # ONLY_FULL_GROUP_BY.

    def check_group(
        self,
        tree: Select,
        items: list[Item],
        names: tuple[str, ...],
        group: list[Any],
        grouped: list[X],
        order: list[tuple[Any, X, bool]],
        scope: Scope,
    ) -> None:
        determined = self.determined(tree, grouped, scope)
        sqls = {x.sql for x in grouped}

        def unknown(x: X) -> bool:
            return (x.source, x.column) not in determined

        def reached(query: Any) -> X | None:
            start = len(scope.reached)
            self.query(query, scope, scope.ctes, "set")
            return next((x for x in scope.reached[start:] if unknown(x)), None)

        def missing(expr: Any) -> X | None:
            if expr in group or isinstance(expr, Window):
                return None
            if not isinstance(expr, tuple) and (is_dataclass(expr)) and not isinstance(expr, (Col, Lit)):
                if isinstance(expr, Func) and expr.name in AGGREGATES | {"any_value"} and expr.over is None:
                    return None
                if group and not has_aggregate(expr) and not isinstance(expr, (Star, Interval, Row, Sub)):
                    try:
                        if self.expr(expr, scope).sql in sqls:
                            return None
                    except Fault:
                        return None
            if isinstance(expr, Col):
                x = self.find(expr, scope, local=True, quiet=True)
                return x if x is not None and unknown(x) else None
            if isinstance(expr, In) and not isinstance(expr.items, tuple):
                return missing(expr.value) or reached(expr.items)
            if isinstance(expr, Sub):
                return reached(expr.query)
            children: Iterable[Any] = (
                expr
                if isinstance(expr, tuple)
                else (getattr(expr, f.name) for f in fields(expr))
                if is_dataclass(expr)
                else ()
            )
            for child in children:
                if isinstance(child, tuple) or (is_dataclass(child) and not isinstance(child, type)):
                    if found := missing(child):
                        return found
            return None

        clauses = [("SELECT list", i.expr) for i in items]
        for number, (clause, expr) in enumerate(clauses, 1):
            if x := missing(expr):
                self.refuse(number, clause, x, bool(group))
        if group:
            for number, (expr, _, _) in enumerate(order, 1):
                if x := missing(expr):
                    self.refuse(number, "ORDER BY clause", x, True)
        exprs = (*(i.expr for i in items), *(expr for expr, _, _ in order if group))
        for over in walk(exprs, _is_query):
            if isinstance(over, Window):
                place = f"PARTITION BY or ORDER BY clause of window '{over.base or '<unnamed window>'}'"
                for keys in (over.partition, tuple(e for e, _ in over.order)):
                    for number, expr in enumerate(keys, 1):
                        if x := missing(expr):
                            self.refuse(number, place, x, bool(group))

    def refuse(self, number: int, clause: str, x: X, grouped: bool) -> None:
        name = self.full_name(x)
        if grouped:
            part = f"Expression #{number} of {clause} is not in GROUP BY clause and contains"
            raise Fault(
                f"{part} nonaggregated column '{name}' which is not functionally dependent on columns in GROUP BY "
                "clause; this is incompatible with sql_mode=only_full_group_by"
            )
        raise Fault(
            f"In aggregated query without GROUP BY, expression #{number} of {clause} contains nonaggregated column "
            f"'{name}'; this is incompatible with sql_mode=only_full_group_by"
        )

    def determined(self, tree: Select, grouped: list[X], scope: Scope) -> set[tuple[Source | None, str]]:
        """Columns that have one value in each group: the group's, and what depends on them."""
        known: set[tuple[Source | None, str]] = {(x.source, x.column) for x in grouped if x.source}
        together = self.conditions(tree, scope)
        changed = not tree.rollup  # whose rows of totals have NULL in place of what others depend on
        while changed:
            changed = False
            for conditions in together:
                for a, b in conditions.equal:
                    for x, y in ((a, b), (b, a)):
                        if (
                            x is not None
                            and (x.source, x.column) not in known
                            and _follows(x, y, conditions, known)
                        ):
                            known.add((x.source, x.column))
                            changed = True
            for source in scope.sources:
                everything = {(source, c) for c in source.columns}
                if everything <= known:
                    continue
                for key in self.keys_of(source):
                    if all((source, c) in known for c in key):
                        known |= everything
                        changed = True
        return known

    def keys_of(self, source: Source) -> list[tuple[str, ...]]:
        if source.table is not None:
            required = {c.name.lower() for c in source.table.columns if not c.nullable}
            return [
                tuple(c.lower() for c in k.columns)
                for k in source.table.keys
                if k.unique and required.issuperset(c.lower() for c in k.columns)
            ]
        if source.derived is not None and source.derived.keys:
            return [tuple(source.derived.keys)]
        return [()] if source.derived is not None and source.derived.single else []

    def constant(self, expr: Any, scope: Scope) -> bool:
        # A subquery that reads a table is not yet known when dependence is asked for.
        if _random(expr) or any(isinstance(n, (TableRef, Derived)) for n in walk(expr)):
            return False
        return not any(
            isinstance(n, Col) and self.find(n, scope, local=True, quiet=True) is not None for n in walk(expr)
        )

    def outer(self, expr: Any, scope: Scope) -> bool:
        """Whether all columns of an expression are those of queries around this one."""
        columns = [n for n in walk(expr, _is_query) if isinstance(n, Col)]
        local = (self.find(column, scope, local=True, quiet=True) for column in columns)
        return bool(columns) and not any(local) and not has_aggregate(expr) and not _has_window(expr)

    def conditions(self, tree: Select, scope: Scope) -> list[Conditions]:
        """WHERE's conditions with those of inner joins, and the ON of each join that is an outer one.

        An outer join is an inner one where WHERE, or the ON of a join around it, refuses rows in which
        its inner side is NULL (simplify_joins in sql/sql_resolver.cc).
        """
        everywhere = Conditions()
        found = [everywhere]

        def joins(node: Any, around: Conditions) -> None:
            if not isinstance(node, Join):
                return
            joined = scope.joins[id(node)]
            sides = [node.right, node.left] if node.kind != "right" else [node.left, node.right]
            own = around
            if node.kind != "inner" and not around.refused & joined.inner:
                own = Conditions(inner=joined.inner, within=around is not everywhere)
                found.append(own)
            self.learn(node.on, Scope(None, joined.seen), own)
            for x, y in joined.equal:
                own.equal.append((x, y))
                own.refused |= {s for s in (x.source, y.source) if s is not None}
                own.columns |= {(x.source, x.column), (y.source, y.column)}
            joins(sides[0], own)
            joins(sides[1], around)

        self.learn(tree.where, scope, everywhere)
        joins(tree.source, everywhere)
        return found

    def learn(self, expr: Any, scope: Scope, conditions: Conditions) -> None:
        if expr is None:
            return
        if isinstance(expr, Op) and expr.name == "AND":
            for arg in expr.args:
                self.learn(arg, scope, conditions)
            return
        conditions.refused |= self.refused(expr, scope)
        conditions.columns |= {(x.source, x.column) for x in self.columns_of(expr, scope)}
        conditions.random |= _random(expr)
        if isinstance(expr, Op) and expr.name == "=":
            a, b = (
                self.find(e, scope, local=True, quiet=True) if isinstance(e, Col) else None for e in expr.args
            )
            if a is not None and b is not None:
                conditions.equal.append((a, b))
            elif a is not None and self.constant(expr.args[1], scope):
                conditions.equal.append((a, None))
            elif b is not None and self.constant(expr.args[0], scope):
                conditions.equal.append((b, None))

    def refused(self, expr: Any, scope: Scope) -> set[Source]:
        """The tables whose columns, all NULL, keep a condition from being true or make a value NULL."""
        if isinstance(expr, Col):
            x = self.find(expr, scope, local=True, quiet=True)
            return {x.source} if x is not None and x.source is not None else set()
        if isinstance(expr, (Cast, In)):
            return self.refused(expr.value, scope)
        if isinstance(expr, Op) and expr.name == "NOT":
            of = expr.args[0]
            if isinstance(of, Op) and of.name == "IS NULL":
                return self.refused(of.args[0], scope)
            return set() if isinstance(of, Op) and of.name.startswith("IS ") else self.refused(of, scope)
        if isinstance(expr, (Op, Func)) and expr.name in _TAKES_NULL:
            return set()
        parts = expr.args if isinstance(expr, (Op, Func)) else expr.items if isinstance(expr, Row) else ()
        each = [self.refused(part, scope) for part in parts]
        if isinstance(expr, Op) and expr.name == "OR":
            return set.intersection(*each)
        return set().union(*each)

    # Expressions.

    def truth(self, expr: Any, scope: Scope) -> str:
        """An expression as a condition."""
        x = self.expr(expr, scope)
        return x.sql if x.type.kind in _NUMBERS else self.number(x).sql

    def number(self, x: X) -> X:
        """As MySQL converts a value where it needs a number."""
        kind = x.type.kind
        if kind in _NUMBERS:
            return x
        if kind == "str" or kind == "bytes":
            return X(f"CAST({self.strict(x, 'DOUBLE')} AS REAL)", DOUBLE)
        return X(f"my_number({x.sql})", INT)

    def strict(self, x: X, kind: str) -> str:
        """A text that is read as a number, which stops a statement that writes where it is none."""
        if not self.writes:
            return x.sql
        if x.source is not None:  # a column of type TEXT is read without a word (Field_blob::val_real)
            columns = x.source.table.columns if x.source.table is not None else []
            if not any(c.name.lower() == x.column and "char" in c.base for c in columns):
                return x.sql
        return f"my_strict({x.sql}, '{kind}')"

    def whole(self, x: X) -> str:
        """As MySQL converts a value to a whole number: a decimal's half away from zero, a double's to the even side."""
        if x.type.kind == "str":
            return f"CAST({self.strict(x, 'INTEGER')} AS INTEGER)"
        x = self.number(x)
        if x.type.kind in ("double", "float"):
            return f"my_rint({x.sql})"
        return f"CAST(round({x.sql}) AS INTEGER)" if x.type.kind == "dec" else x.sql

    def text(self, x: X) -> X:
        """As MySQL converts a value where it needs a text."""
        kind = x.type.kind
        if kind in ("str", "date", "datetime", "time", "null", "bytes"):
            return x
        if kind == "int":
            return X(f"CAST({x.sql} AS TEXT)", T("str"))
        loose = x.type.scale is None or (x.summed and kind == "double")
        return X(f"my_text({x.sql}, {quote(kind)}, {'NULL' if loose else x.type.scale})", T("str"))

    def compare(self, op: str, a: X, b: X, exact: bool = False) -> str:
        """A comparison by MySQL's rules: texts by collation, dates as dates, anything else as numbers.

        `exact` is how CASE, BETWEEN and IN with several values compare real numbers.
        """
        self.write(a.sql)  # CASE and IN compare it with each of theirs
        sql_op = "IS" if op == "<=>" else op
        if not exact:
            a, b = _as_column(a, b), _as_column(b, a)
            if near := _near(op, a, b):
                return near
        x, y = a.type.kind, b.type.kind
        if x == "null" or y == "null":
            return f"{a.sql} {sql_op} {b.sql}"
        if x == "str" and y == "str":
            if a.type.plain and b.type.plain:
                return f"{a.sql} COLLATE NOCASE {sql_op} {b.sql}"
            return f"{_key(a)} {sql_op} {_key(b)}"
        if x in _DATES or y in _DATES:
            if x in _DATES and y in ("str", *_DATES) or y in _DATES and x == "str":
                one, two = self.moment(a, b), self.moment(b, a)
                return f"{one} {sql_op} {two}"
            for column, constant in ((a, b), (b, a)):
                # A constant that is a date is one before it is compared with a date (MySQL 8.0 manual, 14.3).
                kind = column.type.kind
                whole = constant.type.kind == "int" and constant.const
                if (
                    column.source is not None
                    and kind != "time"
                    and whole
                    and temporal(constant.const, kind) is not None
                ):
                    text = X(quote(constant.const), T("str"), constant.const)
                    return self.compare(op, a, text) if constant is b else self.compare(op, text, b)
            a, b = self.number(a), self.number(b)
            return f"{a.sql} {sql_op} {b.sql}"
        if {x, y} <= {"str", "bytes"}:
            return f"CAST({a.sql} AS BLOB) {sql_op} CAST({b.sql} AS BLOB)"
        if x in _NUMBERS and y in _NUMBERS:
            return f"{a.sql} {sql_op} {b.sql}"
        return f"{self.number(a).sql} {sql_op} {self.number(b).sql}"

    def moment(self, x: X, other: X) -> str:
        kinds = {x.type.kind, other.type.kind}
        if x.type.kind == "str":
            if x.const is not None:
                value = temporal(
                    x.const, "datetime" if "datetime" in kinds else "date" if "date" in kinds else "time"
                )
                if value is None:
                    wanted = "DATETIME" if "datetime" in kinds else "DATE" if "date" in kinds else "TIME"
                    if wanted == "TIME":
                        return quote(x.const)
                    if other.source is not None and other.source.table is not None:
                        declared = {c.name.lower(): c.base for c in other.source.table.columns}
                        wanted = "TIMESTAMP" if declared[other.column] == "timestamp" else wanted
                    raise Fault(f"Incorrect {wanted} value: '{x.const}'")
                return quote(value)
            return f"my_datetime({x.sql})" if "datetime" in kinds else f"my_date({x.sql})"
        if x.type.kind == "date" and "datetime" in kinds:
            return f"({x.sql} || ' 00:00:00')"
        return x.sql

    def expr(self, e: Any, scope: Scope) -> X:
        found: X = _METHODS[type(e)](self, e, scope)
        self.write(found.sql)
        if self.gone and found.sql in self.gone and not scope.inside:
            return X("NULL", found.type)
        return found

    def lit(self, e: Lit, scope: Scope) -> X:
        if e.kind == "null":
            return X("NULL", NULL)
        if e.kind == "str":
            return X(quote(e.value), T("str", None, is_plain(e.value)), e.value)
        if e.kind in _DATES:
            value = temporal(e.value, e.kind)
            if value is None:
                raise Fault(f"Incorrect {e.kind.upper()} value: '{e.value}'")
            return X(quote(value), T(e.kind), e.value)
        if e.kind == "dec":
            scale = len(e.value.partition(".")[2])
            number = e.value if not e.value.endswith(".") else e.value + "0"
            return X(number if "." in number else number + ".0", T("dec", scale), e.value)
        if e.kind == "int" and abs(int(e.value)) >= 1 << 63:
            return X(e.value + ".0", T("dec", 0), e.value)
        return X(str(e.value).replace("--", ""), T(e.kind), str(e.value))

    def col(self, e: Col, scope: Scope) -> X:
        return self.column(e, scope)

    def op(self, e: Op, scope: Scope) -> X:
        name = e.name
        if name in _COMPARED and any(map(_collated, e.args)):
            e = replace(e, args=tuple(Func("binary", (a,)) for a in e.args[:2]) + e.args[2:])
        if name in ("AND", "OR"):
            return X(_balanced([self.truth(a, scope) for a in e.args], name), INT)
        if name == "XOR":
            a, b = (self.truth(arg, scope) for arg in e.args)
            return X(f"((({a}) <> 0) <> (({b}) <> 0))", INT)
        if name == "NOT":
            return X(f"(NOT {self.truth(e.args[0], scope)})", INT)
        if name in ("=", "<=>", "<>", "<", ">", "<=", ">="):
            left, right = e.args
            if isinstance(right, Sub) and right.kind in ("any", "all"):
                return self.quantified(name, left, right, scope)
            if isinstance(left, Row) or isinstance(right, Row):
                return self.rows(name, left, right, scope)
            return X(f"({self.compare(name, self.scalar(left, scope), self.scalar(right, scope))})", INT)
        if name.startswith("IS "):
            x = self.scalar(e.args[0], scope)
            if name == "IS NULL":
                return X(f"({x.sql} IS NULL)", INT)
            return X(
                f"(coalesce({self.number(x).sql}, {0 if name == 'IS TRUE' else 1}) {'<>' if name == 'IS TRUE' else '='} 0)",
                INT,
            )
        if name == "BETWEEN":
            x, low, high = (self.scalar(a, scope) for a in e.args)
            if low.const is not None and e.args[1] == e.args[2]:  # MySQL makes it an equality
                return X(f"({self.compare('=', x, low)})", INT)
            tests = (self.compare(">=", x, low, exact=True), self.compare("<=", x, high, exact=True))
            return X(f"({tests[0]} AND {tests[1]})", INT)
        if name == "LIKE":
            return self.like(e, scope)
        if name == "REGEXP":
            return _call(self, Func("regexp_like", e.args), scope)
        return self.arithmetic(e, scope)

    def scalar(self, e: Any, scope: Scope) -> X:
        if isinstance(e, Row):
            raise Fault("Operand should contain 1 column(s)")
        return self.expr(e, scope)

    def like(self, e: Op, scope: Scope) -> X:
        x, pattern = (self.text(self.scalar(a, scope)) for a in e.args[:2])
        escape = e.args[2].value if len(e.args) > 2 and isinstance(e.args[2], Lit) else "\\"
        if "bytes" in (x.type.kind, pattern.type.kind):
            x, pattern = (X(f"CAST({a.sql} AS BLOB)", a.type) for a in (x, pattern))
        elif pattern.const is not None and escape == "\\":
            body = pattern.const
            if x.type.plain and "\\" not in body and body.isascii():
                return X(f"({x.sql} LIKE {pattern.sql})", INT)
        return X(f"my_like({x.sql}, {pattern.sql}, {quote(escape)})", INT)

    def arithmetic(self, e: Op, scope: Scope) -> X:
        x = self.arithmetic_of(e.name, [self.scalar(a, scope) for a in e.args])
        # Products of two columns fit a BIGINT, so that most sums and products need no look.
        large = any(
            isinstance(a, Op)
            and a.name == "*"
            or isinstance(a, Lit)
            and a.kind == "int"
            and len(str(a.value)) > 9
            for a in e.args
        )
        if large and x.type.kind == "int" and (text := self.printed(e, scope)):
            message = f"BIGINT value is out of range in '{text}'"
            return x._replace(sql=f"my_bigint({x.sql}, {quote(message)})")
        return x

    def printed(self, e: Any, scope: Scope) -> str:
        """A sum, difference or product of columns and numbers as MySQL's messages write it; else nothing."""
        if isinstance(e, Lit) and e.kind == "int" and not str(e.value).startswith("-"):
            return str(e.value)
        if isinstance(e, Col):
            source = self.column(e, scope)
            return "`" + self.full_name(source).replace(".", "`.`") + "`" if source.source else ""
        if isinstance(e, Op) and e.name in ("+", "-", "*"):
            left, right = (self.printed(a, scope) for a in e.args)
            return f"({left} {e.name} {right})" if left and right else ""
        return ""

    def arithmetic_of(self, name: str, xs: list[X]) -> X:
        """An arithmetic operator over compiled operands."""
        if name == "BITNOT":
            return X(f"(~ {self.whole(xs[0])})", INT)
        if name == "^":
            return X(f"my_xor({self.whole(xs[0])}, {self.whole(xs[1])})", INT)
        if name in ("|", "&", "<<", ">>"):
            return X(f"({self.whole(xs[0])} {name} {self.whole(xs[1])})", INT)
        a = self.number(xs[0])
        if name == "NEG":
            # SQLite's minus makes no -0.0.
            return X(f"({a.sql} * -1.0)" if a.type.kind in ("double", "float") else f"(- {a.sql})", a.type)
        b = self.number(xs[1])
        if self.writes and name in ("/", "%", "DIV"):
            self.write(a.sql)
            b = b._replace(sql=f"my_divisor({a.sql}, {b.sql})")
        kinds = {a.type.kind, b.type.kind}
        real = bool(kinds & {"double", "float"})
        s, t = a.type.scale or 0, b.type.scale or 0
        rest, wide = a.type.rest or b.type.rest, a.type.wide or b.type.wide
        if name == "DIV":
            return X(f"my_div({a.sql}, {b.sql})", INT)
        if name == "%":
            kind = (
                _fixed(DOUBLE, a, b, 0) if real else T("dec", max(s, t), rest=rest) if "dec" in kinds else INT
            )
            if kind is INT:
                return X(f"({a.sql} % {b.sql})", INT)
            return X(f"my_mod({a.sql}, {b.sql})", kind)
        if name == "/":
            kind = DOUBLE if real else T("dec", min(30, s + 4), rest=True, wide=a.type.wide)
            if "dec" in kinds and not real:
                return X(f"my_quotient({a.sql}, {b.sql})", kind)
            return X(f"(CAST({a.sql} AS REAL) / nullif({b.sql}, 0))", _fixed(kind, a, b, 4) if real else kind)
        if real:
            return X(f"({a.sql} {name} {b.sql})", _fixed(DOUBLE, a, b, 0))
        if "dec" in kinds:
            scale = min(30, s + t) if name == "*" else max(s, t)
            return X(f"({a.sql} {name} {b.sql})", T("dec", scale, rest=rest, wide=wide))
        return X(f"({a.sql} {name} {b.sql})", T("int", wide=wide))

    def rows(self, name: str, left: Any, right: Any, scope: Scope, exact: bool = False) -> X:
        if not (isinstance(left, Row) and isinstance(right, Row)) or len(left.items) != len(right.items):
            if isinstance(left, Row) and isinstance(right, Sub):
                test = self.in_query(left, right.query, scope)
                return X(f"({test})" if name == "=" else f"(NOT {test})", INT)
            raise Fault(f"Operand should contain {len(left.items) if isinstance(left, Row) else 1} column(s)")
        pairs = [
            (self.scalar(a, scope), self.scalar(b, scope))
            for a, b in zip(left.items, right.items, strict=True)
        ]
        tests = [self.compare("=", a, b, exact) for a, b in pairs]
        joined = " AND ".join(tests)
        if name in ("=", "<=>"):
            return X(f"({joined})", INT)
        if name == "<>":
            return X(f"(NOT ({joined}))", INT)
        # (a, b) < (x, y) is a < x OR (a = x AND b < y) (MySQL 8.0 manual, 14.4.2).
        sql = self.compare(name, *pairs[-1])
        for (a, b), equal in zip(pairs[-2::-1], tests[-2::-1], strict=True):
            sql = f"{self.compare(name[0], a, b)} OR ({equal} AND ({sql}))"
        return X(f"({sql})", INT)

    def in_(self, e: In, scope: Scope) -> X:
        word = "NOT IN" if e.negated else "IN"
        if not isinstance(e.items, tuple):
            test = self.in_query(e.value, e.items, scope)
            return X(f"(NOT {test})" if e.negated else f"({test})", INT)
        several = len(e.items) > 1
        if isinstance(e.value, Row):
            tests = [self.rows("=", e.value, item, scope, several).sql for item in e.items]
            joined = " OR ".join(tests)
            return X(f"(NOT ({joined}))" if e.negated else f"({joined})", INT)
        if any(map(_collated, (e.value, *e.items))):
            e = replace(
                e, value=Func("binary", (e.value,)), items=tuple(Func("binary", (i,)) for i in e.items)
            )
        x = self.scalar(e.value, scope)
        items = [self.scalar(i, scope) for i in e.items]
        kinds = {i.type.kind for i in items} - {"null"}
        if several and kinds and kinds <= _NUMBERS and x.type.kind in ("int", "dec", "double", "float"):
            return X(f"({x.sql} {word} ({', '.join(i.sql for i in items)}))", INT)
        if kinds <= {"str"} and x.type.kind == "str":
            if x.type.plain and all(i.type.plain for i in items):
                return X(f"({x.sql} COLLATE NOCASE {word} ({', '.join(i.sql for i in items)}))", INT)
            return X(f"({_key(x)} {word} ({', '.join(_key(i) for i in items)}))", INT)
        either = " OR ".join(self.compare("=", x, i, exact=several) for i in items)
        return X(f"(NOT ({either}))" if e.negated else f"({either})", INT)

    def in_query(self, value: Any, query: Any, scope: Scope) -> str:
        values = value.items if isinstance(value, Row) else (value,)
        scope.compared = scope.where
        xs = [self.scalar(v, scope) for v in values]
        compiled = self.query(query, scope, scope.ctes, "set")
        if len(compiled.types) != len(values):
            raise Fault(f"Operand should contain {len(values)} column(s)")
        for i, (x, y) in enumerate(zip(xs, compiled.types, strict=True)):
            # Real numbers are looked up with all their digits, but among decimals they are compared.
            if y.kind == "dec" and _near("=", x, X("", y)):
                digits = _shared(x.type, y)
                xs[i] = X(f"round({x.sql}, {digits})", DOUBLE)
                names = ", ".join(
                    f"round(c{i}, {digits}) AS c{i}" if j == i else f"c{j}" for j in range(len(xs))
                )
                compiled = replace(compiled, sql=f"SELECT {names} FROM ({compiled.sql})")
        if len(xs) == 1:
            x, y = xs[0], compiled.types[0]
            if x.type.kind in _NUMBERS and y.kind in _NUMBERS or x.type.kind == y.kind and y.kind in _DATES:
                return f"{x.sql} IN ({compiled.sql})"
            if x.type.kind == "str" and y.kind == "str":
                if x.type.plain and y.plain:
                    return f"{x.sql} COLLATE NOCASE IN ({compiled.sql})"
                return f"{_key(x)} IN (SELECT my_fold(c0) FROM ({compiled.sql}))"
        pairs = list(zip(xs, compiled.types, strict=True))
        if all(x.type.kind in _NUMBERS and y.kind in _NUMBERS or x.type.kind == y.kind for x, y in pairs):
            sides, columns = [], []
            for i, (x, y) in enumerate(pairs):
                folded = y.kind == "str" and not (x.type.plain and y.plain)
                sides.append(_key(x) if folded else f"{x.sql} COLLATE NOCASE" if y.kind == "str" else x.sql)
                columns.append(f"my_fold(c{i})" if folded else f"c{i}")
            return f"({', '.join(sides)}) IN (SELECT {', '.join(columns)} FROM ({compiled.sql}))"
        # NULLs as IN has them: unknown where no row matches and one is, or might be, NULL.
        name = self.fresh("q")
        tests = [
            self.compare("=", x, X(f"{name}.c{i}", t))
            for i, (x, t) in enumerate(zip(xs, compiled.types, strict=True))
        ]
        joined = " AND ".join(f"({t})" for t in tests)
        return (
            f"(SELECT CASE WHEN max(({joined}) IS TRUE) THEN 1 WHEN max(({joined}) IS NULL) THEN NULL ELSE 0 END "
            f"FROM ({compiled.sql}) AS {name})"
        )

    def quantified(self, name: str, left: Any, sub: Sub, scope: Scope) -> X:
        scope.compared = scope.where
        x = self.scalar(left, scope)
        compiled = self.query(sub.query, scope, scope.ctes, "set")
        if len(compiled.types) != 1:
            raise Fault("Operand should contain 1 column(s)")
        alias = self.fresh("q")
        if has_aggregate(left):
            return self.against_extremes(name, x, sub, compiled, alias)
        test = self.compare(name, x, X(f"{alias}.c0", compiled.types[0]))
        if sub.kind == "any":
            sql = f"(SELECT CASE WHEN max(({test}) IS TRUE) THEN 1 WHEN max(({test}) IS NULL) THEN NULL ELSE 0 END FROM ({compiled.sql}) AS {alias})"
        else:
            sql = f"(SELECT CASE WHEN max(({test}) IS FALSE) THEN 0 WHEN max(({test}) IS NULL) THEN NULL ELSE 1 END FROM ({compiled.sql}) AS {alias})"
        return X(sql, INT)

    def against_extremes(self, name: str, x: X, sub: Sub, compiled: Compiled, alias: str) -> X:
        """A comparison with ALL or ANY whose left side SQLite would take for an aggregate of the subquery."""
        kind = compiled.types[0]

        def single(what: str) -> str:
            return f"(SELECT {what} FROM ({compiled.sql}) AS {alias})"

        tests = [
            self.compare(name, x, X(single(f"{end}({_folded(f'{alias}.c0', kind)})"), kind))
            for end in ("min", "max")
        ]
        every = sub.kind == "all"
        met = f" {'AND' if every else 'OR'} ".join(f"({t})" for t in tests)
        if name == "=" and not every or name == "<>" and every:
            met = f"{x.sql} IN ({compiled.sql})" if name == "=" else f"{x.sql} NOT IN ({compiled.sql})"
        unknown = f"WHEN {single(f'count(*) > count({alias}.c0)')} THEN NULL"
        return X(
            f"(CASE WHEN {single('count(*)')} = 0 THEN {int(every)} WHEN {'NOT ' * every}({met}) THEN {int(not every)} "
            f"WHEN {x.sql} IS NULL THEN NULL {unknown} ELSE {int(every)} END)",
            INT,
        )

    def sub(self, e: Sub, scope: Scope) -> X:
        if e.kind == "exists":
            compiled = self.query(e.query, scope, scope.ctes, "set")
            return X(f"EXISTS ({compiled.sql})", INT)
        compiled = self.query(e.query, scope, scope.ctes, "set")
        if len(compiled.types) != 1:
            raise Fault("Operand should contain 1 column(s)")
        kind = compiled.types[0]
        if compiled.single:
            return X(f"({compiled.sql})", kind)
        alias = self.fresh("q")
        sql = f"(SELECT CASE WHEN count(*) > 1 THEN my_fault('Subquery returns more than 1 row') ELSE max({alias}.c0) END FROM (SELECT c0 FROM ({compiled.sql}) LIMIT 2) AS {alias})"
        return X(sql, kind)

    def row(self, e: Row, scope: Scope) -> X:
        raise Fault("Operand should contain 1 column(s)")

    def case(self, e: Case, scope: Scope) -> X:
        operand = self.scalar(e.operand, scope) if e.operand is not None else None
        parts, values = [], []
        for condition, value in e.whens:
            if operand is None:
                test = self.truth(condition, scope)
            else:
                test = self.compare("=", operand, self.scalar(condition, scope), exact=True)
            x = self.scalar(value, scope)
            values.append(x)
            parts.append((test, x))
        default = self.scalar(e.default, scope) if e.default is not None else X("NULL", NULL)
        values.append(default)
        kind = _merged(values)
        sql = " ".join(f"WHEN {test} THEN {self.as_kind(x, kind).sql}" for test, x in parts)
        return X(f"(CASE {sql} ELSE {self.as_kind(default, kind).sql} END)", kind)

    def as_kind(self, x: X, kind: T) -> X:
        if kind.kind == "str" and x.type.kind not in ("str", "null"):
            return self.text(x)
        return x

    def cast(self, e: Cast, scope: Scope) -> X:
        x = self.scalar(e.value, scope)
        if e.to in ("signed", "unsigned", "year"):
            if e.to == "signed" and isinstance(e.value, Func) and e.value.name == "avg":
                x = x._replace(type=DOUBLE)  # Item_sum_avg::val_int
            return X(self.whole(x), INT)
        if e.to == "decimal":
            scale = e.scale or 0
            return X(f"round({self.number(x).sql}, {scale})", T("dec", scale))
        if e.to in ("double", "float"):
            return X(f"CAST({self.number(x).sql} AS REAL)", T(e.to))
        if e.to == "date":
            return X(f"my_date({x.sql})", T("date"))
        if e.to == "datetime":
            return X(f"my_cast_datetime({x.sql})", T("datetime"))
        if e.to == "time":
            return X(f"my_cast_time({x.sql})", T("time"))
        x = self.text(x)
        sql = f"substr({x.sql}, 1, {e.scale})" if e.scale else x.sql
        return X(sql, T("bytes" if e.to == "binary" else "str", None, x.type.plain))

    def interval(self, e: Interval, scope: Scope) -> X:
        raise Fault("You have an error in your SQL syntax")

    def star(self, e: Star, scope: Scope) -> X:
        raise Fault("You have an error in your SQL syntax")

    def func(self, e: Func, scope: Scope) -> X:
        if e.name in AGGREGATES:
            return self.aggregate(e, scope)
        if e.over is not None:
            return self.window(e, scope)
        if e.name == "any_value":
            x = self.scalar(e.args[0], scope)
            grouped = scope.aggregated and scope.aggregating and not scope.inside
            if not grouped or has_aggregate(e.args) or not self.columns_of(e.args, scope):
                return x
            return X(f"my_first({x.sql})", x.type)
        if e.name == "grouping":
            gone, self.gone = self.gone, frozenset()
            bits = "".join(str(int(self.scalar(a, scope).sql in gone)) for a in e.args)
            self.gone = gone
            return X(str(int(bits or "0", 2)), INT)
        return _call(self, e, scope)

    def window(self, e: Func, scope: Scope) -> X:
        over = e.over
        assert over is not None
        if scope.where.startswith("window "):
            raise Fault(
                "You cannot nest a window function in the specification of window '<unnamed window>'."
            )
        if scope.where not in ("field list", "order clause"):
            raise Fault(f"You cannot use the window function '{e.name}' in this context.'")
        args = [self.scalar(a, scope) for a in e.args if not isinstance(a, Star)]
        partition, order = self.window_keys(over, scope)
        parts = ["PARTITION BY " + ", ".join(partition)] if partition else []
        parts += ["ORDER BY " + ", ".join(order)] if order else []
        name = e.name
        frame = over.frame.lower()
        if (
            name in _BY_ROW
            and not frame.startswith("range")
            or frame.startswith("rows")
            and name not in _BY_PEERS
        ):
            parts.append(_TIES if order else _UNSORTED if partition else _ALL)
        if over.frame:
            parts.append(over.frame)
        common: T | None = None
        if name in ("lag", "lead") and len(args) == 3:
            (common,) = _stored([_merge(args[0].type, args[2].type)])
            args = [self.as_kind(args[0], common), args[1], self.as_kind(args[2], common)]
        if name in ("sum", "avg") and args[0].type.kind in _DATES:
            args = [self.number(args[0])]
        inner = ", ".join(a.sql for a in args) or ("*" if name == "count" else "")
        kind = COUNT
        if (
            name in ("sum", "avg", "min", "max", "lag", "lead", "first_value", "last_value", "nth_value")
            and args
        ):
            kind = common or _aggregate_type(name, args[0].type)
        elif name in ("percent_rank", "cume_dist"):
            kind = DOUBLE
        return X(f"{name}({inner}) OVER ({' '.join(parts)})", kind)

    def from_around(self, e: Func, scope: Scope) -> bool:
        """Whether an aggregate's columns all come from queries around this one, none of which admits it."""
        columns = [node for node in walk(e.args, _is_query) if isinstance(node, Col)]
        homes = [
            next((s for s in (scope, *scope.around()) if self.find(c, s, local=True, quiet=True)), scope)
            for c in columns
        ]
        return bool(homes) and not any(home is scope or home.aggregating for home in homes)

    def aggregate(self, e: Func, scope: Scope) -> X:
        if e.over is not None:
            return self.window(e, scope)
        if scope.inside:
            raise Fault("Invalid use of group function")
        owner: Scope | None = scope
        if not scope.aggregating:
            # An aggregate in a subquery may belong to an enclosing query that is in its HAVING or select list.
            owner = None
            if scope.where in ("where clause", "on clause", "group statement"):
                parent = scope.parent
                if parent is not None and parent.aggregating and e.args and not isinstance(e.args[0], Star):
                    owner = parent
            if owner is None:
                # Where no query around it admits aggregates either, MySQL refuses it before it reads its argument.
                if any(outer.aggregating for outer in scope.around()):
                    for arg in e.args:
                        if not isinstance(arg, Star):
                            self.expr(arg, scope)
                raise Fault("Invalid use of group function")
        name = e.name
        reached = [(outer, len(outer.reached)) for outer in scope.around()]
        scope.inside = True
        try:
            args = [X("*", INT) if isinstance(a, Star) else self.scalar(a, scope) for a in e.args]
        finally:
            scope.inside = False
        if not self.columns_of(e.args, scope):
            # It belongs to a query around this one.
            for outer, length in reached:
                del outer.reached[length:]
        x = args[0]
        if scope.aggregating and scope.sources and self.from_around(e, scope):
            # SQLite would take it for the query's that its columns come from: a column of this one keeps it here.
            first = scope.sources[0]
            own = self.reference(first, next(iter(first.columns))).sql
            x = x._replace(sql=f"CASE WHEN {own} IS NULL THEN {x.sql} ELSE {x.sql} END")
        word = "DISTINCT " if e.distinct else ""
        if name == "count":
            if len(args) > 1:
                keys = " || char(31) || ".join(
                    f"my_fold(CAST({a.sql} AS TEXT))" if a.type.kind == "str" else f"CAST({a.sql} AS TEXT)"
                    for a in args
                )
                return X(f"count(DISTINCT {keys})", COUNT)
            return X(f"count({word}{_sorted(x) if e.distinct else x.sql})", COUNT)
        if name in ("min", "max"):
            return X(f"{name}({_folded(x.sql, x.type)})", x.type)
        if name == "group_concat":
            body = (
                args[0] if len(args) == 1 else X("(" + " || ".join(self.text(a).sql for a in args) + ")", STR)
            )
            body = self.text(body)
            if e.order or e.distinct:
                by = [(x, False) for x in args]  # DISTINCT comes as its tree has the values
                if e.order:
                    by = [(self.concat_key(o, args, scope), d) for o, d in e.order]
                order = "".join(f", {x.sql}, {int(d)}" for x, d in by)
                return X(f"my_group_concat({body.sql}, {quote(e.separator)}, {int(e.distinct)}{order})", STR)
            return X(f"my_cut(group_concat({body.sql}, {quote(e.separator)}))", STR)
        n = self.number(x)
        kind = _aggregate_type(name, n.type)
        if name.startswith(("std", "var")):
            same = {"std": "stddev", "stddev_pop": "stddev", "var_pop": "variance"}
            return X(f"my_{same.get(name, name)}({n.sql})", DOUBLE)
        if name.startswith("bit_"):
            made = f"my_{name}({n.sql})"
            return X(made if name == "bit_and" else f"coalesce({made}, 0)", INT)
        # Of real numbers the server adds one after another; SQLite compensates for rounding since 3.43.
        made = f"my_{name}" if n.type.kind in ("double", "float") and name in ("sum", "avg") else name
        sql = f"{made}({word}{n.sql})"
        if n.type.kind == "dec" and not n.type.rest:  # added exactly there, and as real numbers in SQLite
            sql = f"my_round(sum({word}{n.sql}), {n.type.scale or 0})"
            if name == "avg":
                sql = f"my_quotient({sql}, count({word}{n.sql}))"
        return X(sql, kind, summed=name == "sum")

    def concat_key(self, e: Any, args: list[X], scope: Scope) -> X:
        """What GROUP_CONCAT sorts by; a number is the place of one of its arguments."""
        if not isinstance(e, Lit) or e.kind != "int":
            return self.scalar(e, scope)
        if not 0 < int(e.value) <= len(args):
            raise Fault(f"Unknown column '{e.value}' in 'order clause'")
        return args[int(e.value) - 1]


class _RecursiveSource:
    def __init__(self, name: str, source: Source) -> None:
        self.name = name
        self.source = source


_BY_ROW = frozenset(("row_number", "ntile", "lag", "lead"))
"""Window functions that tell rows with equal keys apart, as all do within ROWS but these:"""
_BY_PEERS = frozenset(("rank", "dense_rank", "percent_rank", "cume_dist"))

_TIES, _UNSORTED, _ALL = "/*ties*/", "/*unsorted*/", "/*all*/"
"""What stands for the order of such rows, until known: after a window's ORDER BY, its PARTITION BY, or nothing."""

_TAKES_NULL = frozenset(("<=>", "IS NULL", "coalesce", "ifnull", "if", "isnull", "concat_ws"))
"""Operators and functions that give a value where an operand is NULL."""


_COMPARED = frozenset(("=", "<=>", "<>", "<", ">", "<=", ">=", "LIKE", "REGEXP"))


def _collated(expr: Any) -> bool:
    """Whether it has a collation that tells capitals from small letters."""
    return isinstance(expr, Func) and expr.name == "collate"


def _random(expr: Any) -> bool:
    return any(isinstance(n, Func) and n.name in ("rand", "uuid", "@") for n in walk(expr))


def _follows(x: X, y: X | None, conditions: Conditions, known: set[tuple[Source | None, str]]) -> bool:
    """Whether a column has one value in each group, as what it equals has (Group_check::analyze_scalar_eq).

    What an outer join's ON says holds of its inner side only, and follows from all that it names of the
    other.
    """
    if y is not None and (y.source, y.column) not in known:
        return False
    inner = conditions.inner
    if not inner or y is not None and x.source in inner and y.source in inner:
        return True
    if x.source not in inner or conditions.random or conditions.within and not conditions.refused - inner:
        return False
    return all(column in known for column in conditions.columns if column[0] not in inner)


def _by_branch(expr: Any) -> Any:
    """IF or CASE with each value as its text: decimals keep the digits of the branch that they come from."""
    if isinstance(expr, Case):
        whens = tuple((test, _by_branch(value)) for test, value in expr.whens)
        return replace(expr, whens=whens, default=expr.default and _by_branch(expr.default))
    if isinstance(expr, Func) and expr.name == "if":
        return replace(expr, args=(expr.args[0], *map(_by_branch, expr.args[1:])))
    return Cast(expr, "char")


def _balanced(parts: list[str], name: str) -> str:
    """Conditions joined so that the longest chain stays within the depth that SQLite reads."""
    if len(parts) <= 8:
        return "(" + f" {name} ".join(parts) + ")"
    half = len(parts) // 2
    return f"({_balanced(parts[:half], name)} {name} {_balanced(parts[half:], name)})"


def _folded(sql: str, kind: T) -> str:
    """As a key for grouping, sorting and telling apart."""
    return f"{sql} COLLATE {'NOCASE' if kind.plain else 'mysql'}" if kind.kind == "str" else sql


def _sorted(x: X) -> str:
    """An expression as a key for grouping, sorting and telling apart."""
    return x.key or _folded(x.sql, x.type)


def _key(x: X) -> str:
    """A text as what it is equal by.

    Not a collation: SQLite's Bloom filters (3.38 to 3.40) take texts of different length to be different.
    """
    if x.const is not None:
        return quote(fold(str(x.const)))
    return x.key or f"my_fold({x.sql})"


def _shared(a: T, b: T) -> int | None:
    """The digits after the point that both types fix (FLOAT(M,D) and exact numbers do); None where one does not."""
    if any(t.kind in ("double", "float") and t.scale is None for t in (a, b)):
        return None
    return max(a.scale or 0, b.scale or 0)


def _fixed(kind: T, a: X, b: X, more: int) -> T:
    """Real arithmetic keeps fixed digits where both operands have them."""
    digits = _shared(a.type, b.type)
    return kind if digits is None else T("double", digits + more)


def _as_column(x: X, other: X) -> X:
    """A constant that is compared with a FLOAT(M,D) column, as that holds it (analyze_real_field_constant)."""
    if x.const is None or other.source is None or other.type.kind != "float" or other.type.scale is None:
        return x
    from prosegym.envs.sql.functions import _number

    value = _number(x.const)
    return X(repr(single(value)), DOUBLE) if abs(value) < 3e38 else x


def _near(op: str, a: X, b: X) -> str | None:
    """Real numbers of fixed digits are equal within half of the last one (Arg_comparator::compare_real_fixed)."""
    kinds = [a.type.kind, b.type.kind]
    if not {*kinds} & {"double", "float"} or kinds == ["float", "float"]:
        return None
    digits = _shared(a.type, b.type)
    if digits is None or not {*kinds} <= _NUMBERS - {"null"}:
        return None
    above, below, step = f"({a.sql}) - ({b.sql})", f"({b.sql}) - ({a.sql})", f"5e-{digits + 1}"
    return {
        "=": f"abs({above}) < {step}",
        "<=>": f"coalesce(abs({above}) < {step}, ({a.sql}) IS ({b.sql}))",
        "<>": f"abs({above}) >= {step}",
        "<": f"{below} >= {step}",
        "<=": f"{above} < {step}",
        ">": f"{above} >= {step}",
        ">=": f"{below} < {step}",
    }[op]


def _aggregate_type(name: str, kind: T) -> T:
    if name in ("min", "max", "lag", "lead", "first_value", "last_value", "nth_value"):
        return kind
    more = 4 if name == "avg" else 0
    rest, wide = kind.rest or name == "avg", kind.wide or name == "sum"
    if kind.kind == "int" or kind.kind == "null":
        return T("dec", more, rest=rest, wide=wide) if kind.kind == "int" else T("double")
    if kind.kind == "dec":
        return T("dec", min(30, (kind.scale or 0) + more), rest=rest, wide=wide)
    return T("double", None if kind.scale is None else kind.scale + more)


def _merge(a: T, b: T) -> T:
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
        return T("double", _shared(a, b))
    if kinds <= {"date", "datetime"}:
        return T("datetime")
    return T("str", None, a.plain and b.plain)


def _merged(xs: list[X]) -> T:
    kind = xs[0].type
    for x in xs[1:]:
        kind = _merge(kind, x.type)
    return kind


def _has_window(expr: Any) -> bool:
    return any(isinstance(node, Window) for node in walk(expr, _is_query))


def _is_place(expr: Any) -> bool:
    """Whether ORDER BY takes an expression for a place in the select list; a negative number is a constant."""
    return isinstance(expr, Lit) and expr.kind == "int" and not expr.value.startswith("-")


def _stored(types: Iterable[T]) -> tuple[T, ...]:
    """The types of a temporary table's columns."""
    return tuple(t._replace(rest=False) for t in types)


def _columns(types: tuple[T, ...], stored: tuple[T, ...]) -> str:
    """A query's columns by name; those that are stored lose what they have beyond their scale."""
    return ", ".join(
        f"my_round(c{i}, {b.scale}) AS c{i}" if a.rest and not b.rest and b.kind == "dec" else f"c{i}"
        for i, (a, b) in enumerate(zip(types, stored, strict=True))
    )


def _call(self: _Compiler, e: Func, scope: Scope) -> X:
    from prosegym.envs.sql.functions import FUNCTIONS

    if e.name == "@@":
        return X(f"my_variable({quote(e.args[0].value)})", STR)
    if e.name == "@":
        return X("NULL", NULL)
    if e.name in ("database", "schema"):
        return X(quote(self.db), T("str"), self.db)
    if e.name == "rand" and e.args:
        # Of a constant it is one row of numbers for each place where it stands; else every value is a first one.
        seed = self.number(self.scalar(e.args[0], scope)).sql
        varies = any(isinstance(n, (Col, Sub)) for n in walk(e.args))
        return X(f"my_rand({seed}{'' if varies else ', ' + quote(self.fresh('r'))})", DOUBLE)
    if e.name in ("date_add", "date_sub"):
        x = self.scalar(e.args[0], scope)
        amount = self.scalar(e.args[1].value, scope)
        unit = e.args[1].unit
        amount = self.text(amount) if unit in COMPOSITE else self.number(amount)
        sign = -1 if e.name == "date_sub" else 1
        small = unit.endswith(("hour", "minute", "second"))
        kind = (
            T("datetime")
            if x.type.kind == "datetime" or (x.type.kind == "date" and small)
            else T("date")
            if x.type.kind == "date"
            else T("str")
        )
        return X(f"my_date_add({x.sql}, {amount.sql}, {quote(unit)}, {sign})", kind)
    known = FUNCTIONS.get(e.name)
    if known is None:
        name = e.written or e.name
        missing = f"FUNCTION {(e.db or self.db).lower()}.{name} does not exist"
        if name.lower() in KEYWORDS:
            missing += ". Check the 'Function Name Parsing and Resolution' section in the Reference Manual"
        raise Fault(missing)
    found: X = known[2](self, [self.scalar(a, scope) for a in e.args])
    return found


def _check_count(e: Func) -> None:
    """Whether a function has as many arguments as MySQL wants of it, which its parser says before it opens tables."""
    from prosegym.envs.sql.functions import FUNCTIONS

    if e.name == STORED and any(a.alias for a in e.args):
        raise Fault(f"Incorrect parameters in the call to stored function `{e.written}`")
    low, high = (
        FUNCTIONS[e.name][:2] if e.name in FUNCTIONS else (1, 1) if e.name == "any_value" else (0, 1 << 16)
    )
    if not low <= len(e.args) <= high:
        raise Fault(
            f"Incorrect parameter count in the call to native function '{e.written or e.name.upper()}'"
        )


_METHODS: dict[type, Any] = {
    Lit: _Compiler.lit,
    Col: _Compiler.col,
    Op: _Compiler.op,
    In: _Compiler.in_,
    Sub: _Compiler.sub,
    Row: _Compiler.row,
    Case: _Compiler.case,
    Cast: _Compiler.cast,
    Interval: _Compiler.interval,
    Star: _Compiler.star,
    Func: _Compiler.func,
}

__all__ = ["Catalog", "Compiled", "T", "X", "column_types", "compile_query", "exact", "fold"]
