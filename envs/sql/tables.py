"""FROM: opening tables, joins, derived tables, common table expressions, and what `*` stands for."""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prosegym.envs.sql.calls import check_count
from prosegym.envs.sql.grouping import Grouping
from prosegym.envs.sql.names import Joined, Scope
from prosegym.envs.sql.parser import MOST_TABLES
from prosegym.envs.sql.tree import (
    Col,
    Cte,
    Derived,
    Fault,
    Func,
    In,
    Item,
    Join,
    Select,
    Star,
    Sub,
    Union,
    fields_of,
    has_aggregate,
    is_query,
    walk,
)
from prosegym.envs.sql.tree import Table as TableRef
from prosegym.envs.sql.typed import Compiled, Source, T, X, columns_sql


class Tables(Grouping):
    """Compiles FROM."""

    # Before any name is resolved, so that these are what is reported first.

    def check_forms(self, node: Any) -> None:
        """What the parser refuses, before any table is opened: numbers of arguments, LIMIT below IN and ANY, an alias given twice."""
        if isinstance(node, Select):
            seen: set[tuple[str, str]] = set()
            for table in walk(node.source or (), lambda n: isinstance(n, Derived) or is_query(n)):
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
            check_count(node)
        query: Any = None
        if isinstance(node, In):
            query = node.items
        elif isinstance(node, Sub) and node.kind in ("any", "all"):
            query = node.query
        sourceless = isinstance(query, Select) and query.source is None
        if isinstance(query, (Select, Union)) and query.limit is not None and not sourceless:
            raise Fault("This version of MySQL doesn't yet support 'LIMIT & IN/ALL/ANY/SOME subquery'")
        fields = fields_of(type(node)) or ()
        for child in node if isinstance(node, tuple) else [getattr(node, name) for name in fields]:
            if isinstance(child, tuple) or fields_of(type(child)) is not None:
                self.check_forms(child)

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
            for name in fields_of(type(node)) or ():
                if name != "ctes":
                    child = getattr(node, name)
                    if isinstance(child, tuple) or fields_of(type(child)) is not None:
                        self.check_tables(child, known)

    # Sources are registered at once; ON conditions are read later, after WHERE, outermost join first.

    def source(self, node: Any, scope: Scope) -> Callable[[], str]:
        """Register the tables of a part of FROM; what is returned gives its SQL."""
        if isinstance(node, TableRef):
            sql = self.table(node, scope)
            return lambda: sql
        if isinstance(node, Derived):
            before = self.outward
            compiled = self.query(node.query, scope.parent, scope.ctes, "table")
            if self.outward > before:
                # SQLite finds no outer column through a window function; such rows are left in any order.
                plain = self.query(node.query, scope.parent, scope.ctes, "set")
                columns = columns_sql(plain.types, compiled.types)
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
        """Register a table."""
        if any(
            s.alias.lower() == source.alias.lower() and (s.db == source.db or s.derived or source.derived)
            for s in scope.sources
        ):
            raise Fault(f"Not unique table/alias: '{source.alias}'")
        if len(scope.sources) == MOST_TABLES:
            raise Fault(f"Too many tables; MySQL can only use {MOST_TABLES} tables in a join")
        scope.sources.append(source)

    def table(self, node: TableRef, scope: Scope) -> str:
        """A stored table, or a CTE."""
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

    def derived(self, alias: str, compiled: Compiled, columns: tuple[str, ...]) -> Source:
        """A query as a table."""
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
        """The columns that `*` stands for."""
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

    # Common table expressions.

    def cte(self, cte: Cte, alias: str, scope: Scope) -> str:
        """A common table expression."""
        rest = {k: v for k, v in scope.ctes.items() if k != cte.name.lower()}
        if cte.recursive and any(
            isinstance(n, TableRef) and n.name.lower() == cte.name.lower() for n in walk(cte.query)
        ):
            return self.recursive(cte, alias, scope, rest)
        compiled = self.query(cte.query, None, rest, "table")
        self.add(scope, self.derived(alias, compiled, cte.columns))
        return f"({compiled.sql}) AS {scope.sources[-1].sql}"

    def recursive(self, cte: Cte, alias: str, scope: Scope, rest: dict[str, Cte]) -> str:
        """A recursive one."""
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

    marker: tuple[str, Any]

    def recursive_step(self, tree: Any, name: str, marker: _RecursiveSource, ctes: dict[str, Cte]) -> str:
        """The part of a recursive one that names it."""
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
        """FROM of that part, in which the name stands for the rows of the step before."""
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


class _RecursiveSource:
    def __init__(self, name: str, source: Source) -> None:
        self.name = name
        self.source = source
