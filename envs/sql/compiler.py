"""From a MySQL query to one SQLite statement that gives the same rows, in the same order, of the same types.

`tables` and the modules that it builds on compile the parts. Here they become a query: `_Compiler.select` has
the steps in the order in which MySQL's resolver takes them, which is the order in which it finds faults.
"""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

from prosegym.envs.sql import planner
from prosegym.envs.sql.aggregates import ALL, ONE_ROW, TIES, UNSORTED
from prosegym.envs.sql.names import Catalog, Scope
from prosegym.envs.sql.schema import Column
from prosegym.envs.sql.tables import Tables
from prosegym.envs.sql.tree import (
    Case,
    Cast,
    Col,
    Cte,
    Fault,
    Func,
    Item,
    Lit,
    Row,
    Select,
    Star,
    Union,
    has_aggregate,
    has_window,
    is_place,
)
from prosegym.envs.sql.tree import Table as TableRef
from prosegym.envs.sql.typed import (
    Compiled,
    Source,
    T,
    X,
    columns_sql,
    exact,
    folded,
    merge_types,
    sort_key,
    stored_types,
)


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
    keys = [sort_key(compiler.expr(key, scope)) + (" DESC" if down else "") for key, down in order]
    scope.where = "field list"
    number = f"{scope.sources[0].sql}._p"
    shown = ", ".join([number, *(_given(compiler.expr(v, scope), compiler) for v in values)])
    most = -1 if limit is None else limit
    return f"SELECT {shown} FROM {source} WHERE {test} ORDER BY {', '.join([*keys, number])} LIMIT {most}"


NEW_ROW = "VALUES"
"""The table that `VALUES(column)` of ON DUPLICATE KEY UPDATE is a column of."""


def compile_values(
    catalog: Catalog, db: str, table: TableRef, values: tuple[Any, ...], new: dict[str, tuple[str, ...]]
) -> list[str]:
    """SQL for values of one row of a table, each of which takes the row's columns as its parameters.

    With names in `new`, the columns of a second row come after them, by each name as they are called there.
    """
    compiler = _Compiler(catalog, db, True, True)
    compiler.check_tables((table, values), {})
    scope = Scope(None, where="field list")
    compiler.table(table, scope)
    own = scope.sources[0]
    columns = [(name, T(kind.kind, kind.scale, False)) for name, _, kind in own.columns.values()]
    rows = [own, *(replace(own, alias=alias, sql=compiler.fresh("t")) for alias in new)]
    parts = []
    for source, names in zip(rows, ([name for name, _ in columns], *new.values()), strict=True):
        first = 1 if source is own else len(columns) + 1
        given = []
        source.columns = {}
        for number, (name, (_, kind)) in enumerate(zip(names, columns, strict=True), first):
            sql = f'"{name.lower()}"'
            source.columns[name.lower()] = (name, sql, kind)
            given.append(f"?{number} AS {sql}")
            if kind.kind == "str":
                given.append(f'my_fold(?{number}) AS "{name.lower()}~"')
        parts.append(f"(SELECT {', '.join(given)}) AS {source.sql}")
        if source.alias == NEW_ROW:
            source.hidden = frozenset(source.columns)
    scope.sources = rows
    return [f"SELECT {_given(compiler.expr(v, scope), compiler)} FROM {', '.join(parts)}" for v in values]


def _given(x: X, compiler: _Compiler) -> str:
    """A value for a column: a decimal with a fixed number of digits as text."""
    return compiler.text(x).sql if exact(x.type) else x.sql


@dataclass(eq=False)
class _Clauses:
    """A SELECT, as far as its clauses are compiled."""

    tree: Select
    scope: Scope
    items: list[Item]
    """The select list, stars written out."""
    names: tuple[str, ...]
    outputs: list[X]
    aggregated: bool
    source: str = ""
    where: str = ""
    group: list[Any] = field(default_factory=list)
    grouped: list[X] = field(default_factory=list)
    tested: Any = None
    """HAVING, aliases replaced."""
    having: str = ""
    order: list[tuple[Any, X, bool]] = field(default_factory=list)
    """Expression, the same compiled, whether descending."""
    windowed: bool = False
    ordered: bool = True
    """Whether the order of its rows matters."""
    position: str = ""
    """SQL for the order in which rows come when nothing says otherwise, where that matters."""

    @property
    def keys(self) -> list[str]:
        """ORDER BY in SQL."""
        return [sort_key(x) + (" DESC" if d else "") for _, x, d in self.order]


class _Compiler(Tables):
    """Compiles queries."""

    def top(self, tree: Any) -> Compiled:
        self.check_forms(tree)
        self.check_tables(tree, {})
        self.outermost = tree
        return self.query(tree, None, {}, "rows")

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
        columns = columns_sql(compiled.types, stored or compiled.types)
        return f"SELECT {columns}, row_number() OVER () AS _p FROM ({inner})"

    def union(self, tree: Union, parent: Scope | None, ctes: dict[str, Cte], want: str) -> Compiled:
        """SELECTs joined by UNION, INTERSECT and EXCEPT, from left to right."""
        parts: list[Compiled] = []
        for part in tree.parts:
            if len(tree.parts) > 1 and isinstance(part, Select) and part.order and part.limit is None:
                self.unordered.add(id(part))
            parts.append(self.query(part, parent, ctes, "rows" if want != "set" else "set"))
            if len(parts[-1].names) != len(parts[0].names):
                raise Fault("The used SELECT statements have a different number of columns")
        first = parts[0]
        merged = (reduce(merge_types, kinds) for kinds in zip(*(part.types for part in parts), strict=True))
        stored = stored_types(merged)
        # Each step has a name: nested in one another, seven parts overflow the stack of SQLite's parser.
        steps: list[str] = []

        def named(sql: str) -> str:
            name = self.fresh("u")
            steps.append(f"{name} AS ({sql})")
            return name

        current, types = named(self.numbered(first, stored)), first.types
        names = ", ".join(f"c{i}" for i in range(len(types)))
        for op, part in zip(tree.ops, parts[1:], strict=True):
            before, types = types, tuple(merge_types(a, b) for a, b in zip(types, part.types, strict=True))
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
            keys = ", ".join(folded(f"c{i}", t) for i, t in enumerate(types))
            if op in ("INTERSECT ALL", "EXCEPT ALL"):  # the n-th of equal rows is a row of its own
                both = named(
                    f"SELECT *, row_number() OVER (PARTITION BY {keys}, _k ORDER BY _p) AS _n FROM {both}"
                )
                keys += ", _n"
            current = named(_combined(op, names, keys, both))
        order = ", ".join([*self.union_order(tree, first.names, types), "_p"])
        sql = f"WITH {', '.join(steps)} SELECT {names} FROM {current} AS u"
        if want != "set" or tree.limit is not None:
            sql += f" ORDER BY {order}"
        if tree.limit is not None:
            sql += f" LIMIT {tree.limit} OFFSET {tree.offset}"
        result = Compiled(sql, first.names, stored, limit=(tree.limit, tree.offset))
        return Compiled(self.numbered(result), result.names, result.types) if want == "table" else result

    def union_order(self, tree: Union, names: tuple[str, ...], types: tuple[T, ...]) -> list[str]:
        """ORDER BY of a whole union, which knows its columns only."""
        keys = []
        lower = [name.lower() for name in names]
        for number, (expr, descending) in enumerate(tree.order, 1):
            if has_aggregate(expr):
                raise Fault(
                    f"Expression #{number} of ORDER BY contains aggregate function and applies to a UNION, EXCEPT or INTERSECT"
                )
            if isinstance(expr, Lit) and expr.kind == "int":
                if not is_place(expr):
                    continue
                at = int(expr.value) - 1
                if not 0 <= at < len(lower):
                    raise Fault(f"Unknown column '{expr.value}' in 'order clause'")
                sql = folded(f"c{at}", types[at])
            else:
                source = Source("", "u", {n: (n, f"c{i}", types[i]) for i, n in enumerate(lower)})
                scope = Scope(None, [source], where="order clause")
                if isinstance(expr, Col) and expr.table:
                    raise Fault(
                        f"Table '{expr.table}' from one of the SELECTs cannot be used in global ORDER clause"
                    )
                sql = sort_key(self.expr(expr, scope))
            keys.append(sql + (" DESC" if descending else ""))
        return keys

    def select(self, tree: Select, parent: Scope | None, ctes: dict[str, Cte], want: str) -> Compiled:
        """One SELECT: its clauses in the order in which MySQL resolves them, its rows' order, its SQL."""
        scope = Scope(parent, ctes=ctes)
        entered = self.outward
        build = self.source(tree.source, scope) if tree.source is not None else None
        q = self.listed(tree, scope)
        self.where(q)
        q.source = build() if build else ONE_ROW if q.aggregated else ""
        self.group_by(q)
        self.having(q)
        written = self.order_by(q)
        if q.aggregated and self.full_group_by:
            self.check_aggregated(q)
        single = q.aggregated and not tree.group or tree.source is None and not tree.rollup
        if single or id(tree) in self.unordered:
            q.order = []
        # What a subquery orders by of the query around it is one value, which SQLite does not find there.
        q.order = [key for key in q.order if not self.outer(key[0], scope)]
        if tree.distinct and self.full_group_by:
            self.check_distinct(q, written)
        for item, x in zip(q.items, q.outputs, strict=True):
            if isinstance(item.expr, Row) or x.type.kind == "row":
                raise Fault("Operand should contain 1 column(s)")
        q.windowed = has_window((*(i.expr for i in q.items), *(e for e, _, _ in q.order)))
        q.ordered = want != "set" or tree.limit is not None
        if q.ordered and not single and scope.sources:
            q.position = self.position(q)
        if tree is self.outermost:
            self.show_branches(q)
        sql, sorts = self.assemble(q, entered)
        if q.windowed:
            sql = _with_ties(sql, q)
        types = tuple(x.type for x in q.outputs)
        single, keys = single or tree.limit in (0, 1), _group_names(q)
        counted = not (q.aggregated or tree.distinct)
        columns = tuple(_declared(x) for x in q.outputs) if self.writes else ()
        found = Compiled(
            sql, q.names, types, single, keys, sorts, counted, (tree.limit, tree.offset), columns
        )
        if want != "table":
            return found
        # A table of the plainest queries is merged into the query around it (Query_expression::is_mergeable).
        merges = not (
            q.aggregated or q.windowed or tree.distinct or tree.having is not None or tree.limit is not None
        )
        stored = types if merges and tree.source is not None else stored_types(types)
        return Compiled(self.numbered(found, stored), q.names, stored, single, keys, columns=columns)

    def listed(self, tree: Select, scope: Scope) -> _Clauses:
        """The select list, with its stars written out, and the aliases that it gives."""
        items: list[Item] = []
        for item in tree.items:
            if isinstance(item.expr, Star):
                items.extend(self.stars(item.expr, scope))
            else:
                items.append(item)
        scope.grouped = bool(tree.group)
        scope.aggregated = (
            bool(tree.group)
            or any(has_aggregate(i.expr) for i in items)
            or has_aggregate(tree.having or ())
            or (any(has_aggregate(e) for e, _ in tree.order))
        )
        scope.aggregating = True
        outputs = [self.expr(item.expr, scope) for item in items]
        names = tuple(
            item.alias or (item.expr.name if isinstance(item.expr, Col) else item.text) for item in items
        )
        for item, name in zip(items, names, strict=True):
            scope.aliases.setdefault(name.lower(), item)
        return _Clauses(tree, scope, items, names, outputs, scope.aggregated)

    def where(self, q: _Clauses) -> None:
        """WHERE, which admits no aggregate."""
        test, scope = q.tree.where, q.scope
        scope.aggregating = False
        if test is not None:
            scope.where = "where clause"
            if has_aggregate(test):
                self.expr(test, scope)
                raise Fault("Invalid use of group function")
            q.where = self.truth(test, scope)

    def group_by(self, q: _Clauses) -> None:
        """GROUP BY: positions, columns, aliases."""
        scope, items = q.scope, q.items
        listed = [item.expr for item in items]
        scope.where = "group statement"
        for expr in q.tree.group:
            if isinstance(expr, Lit) and expr.kind == "int":
                at = int(expr.value) - 1
                if not 0 <= at < len(items):
                    raise Fault(f"Unknown column '{expr.value}' in 'group statement'")
                expr = items[at].expr
                if has_aggregate(expr) or has_window(expr):
                    raise Fault(f"Can't group on '{q.names[at]}'")
            elif isinstance(expr, Col) and expr.table is None:
                alias = self.selected(expr, scope, items)
                if alias is not None and self.find(expr, scope, local=True, quiet=True) is None:
                    if has_aggregate(alias.expr) or has_window(alias.expr):
                        raise Fault(f"Can't group on '{expr.name}'")
                    expr = alias.expr
            elif not isinstance(expr, Col):
                if expr in listed and has_aggregate(expr):
                    raise Fault(f"Can't group on '{q.names[listed.index(expr)]}'")
                expr = self.inline(expr, scope, items, [], having=False)
            q.group.append(expr)
        q.grouped = [self.expr(expr, scope) for expr in q.group]
        scope.group = tuple(q.group)

    def having(self, q: _Clauses) -> None:
        """HAVING, which may name aliases."""
        if q.tree.having is not None:
            q.scope.where = "having clause"
            q.scope.aggregating = True
            q.tested = self.inline(q.tree.having, q.scope, q.items, q.group, having=True)
            q.having = self.truth(q.tested, q.scope)

    def order_by(self, q: _Clauses) -> list[Any]:
        """ORDER BY: positions, aliases, expressions; given back as they are written."""
        q.scope.where = "order clause"
        q.scope.aggregating = True
        written: list[Any] = []
        for expr, descending in q.tree.order:
            if isinstance(expr, Lit) and not is_place(expr):
                continue
            written.append(expr)
            if isinstance(expr, Lit):
                at = int(expr.value) - 1
                if not 0 <= at < len(q.items):
                    raise Fault(f"Unknown column '{expr.value}' in 'order clause'")
                expr = q.items[at].expr
            else:
                expr = self.inline(expr, q.scope, q.items, q.group, having=False)
            q.order.append((expr, self.expr(expr, q.scope), descending))
        return written

    def check_aggregated(self, q: _Clauses) -> None:
        """What ONLY_FULL_GROUP_BY refuses of a query with groups."""
        if not q.group and not has_aggregate((*(i.expr for i in q.items), q.tree.having or ())):
            for number, (expr, _, _) in enumerate(q.order, 1):
                if has_aggregate(expr):
                    raise Fault(
                        f"Expression #{number} of ORDER BY contains aggregate function and applies to the result of "
                        "a non-aggregated query"
                    )
        self.check_group(q.tree, q.items, q.group, q.grouped, q.order, q.scope)

    def check_distinct(self, q: _Clauses, written: list[Any]) -> None:
        """What ONLY_FULL_GROUP_BY refuses of ORDER BY beside DISTINCT: what is not in the select list."""
        sqls = {x.sql for x in q.outputs}
        # DISTINCT is no more where each row is a group of its own (Query_block::prepare in sql/sql_resolver.cc).
        if q.aggregated and not q.tree.rollup and all(x.sql in sqls for x in q.grouped):
            return
        chosen = {(x.source, x.column) for x in q.outputs if x.source}
        for n, (expr, x, _) in enumerate(q.order, 1):
            if x.sql in sqls:
                continue
            if has_aggregate(written[n - 1]) and not has_window(expr):
                raise Fault(
                    f"Expression #{n} of ORDER BY clause is not in SELECT list, contains aggregate function; this is "
                    "incompatible with DISTINCT"
                )
            if has_aggregate(expr):
                continue
            for ref in self.columns_of(expr, q.scope):
                if (ref.source, ref.column) not in chosen and ref.source is not None:
                    raise Fault(
                        f"Expression #{n} of ORDER BY clause is not in SELECT list, references column "
                        f"'{self.full_name(ref)}' which is not in SELECT list; this is incompatible with DISTINCT"
                    )

    def position(self, q: _Clauses) -> str:
        """SQL that sorts rows or groups as they come when nothing says otherwise."""
        if planner.groups_sorted(q.items, q.group, q.tree.having, q.order):
            return ", ".join(sort_key(x) for x in q.grouped)
        return planner.position(self, q.tree, q.scope, q.items, q.group, q.order, q.aggregated)

    def show_branches(self, q: _Clauses) -> None:
        """Show each decimal of IF and CASE as its branch has it, where no temporary table holds it.

        A join's rows may be held to be sorted.
        """
        if q.tree.distinct or q.tree.rollup or q.windowed or q.order and len(q.scope.sources) > 1:
            return
        for i, item in enumerate(q.items):
            branches = isinstance(item.expr, Case) or isinstance(item.expr, Func) and item.expr.name == "if"
            if (
                branches
                and q.outputs[i].type.kind == "dec"
                and (not q.aggregated or has_aggregate(item.expr))
            ):
                q.outputs[i] = self.expr(_by_branch(item.expr), q.scope)._replace(
                    type=T("shown", q.outputs[i].type.scale)
                )

    # The SQL of a SELECT.

    def assemble(self, q: _Clauses, entered: int) -> tuple[str, bool]:
        """The SQL, and whether its rows come in reading order for the engine to sort (see `Compiled.sorts`)."""
        tree = q.tree
        columns = ", ".join(f"{x.sql} AS c{i}" for i, x in enumerate(q.outputs))
        limit = (
            f" LIMIT {-1 if tree.limit is None else tree.limit} OFFSET {tree.offset}"
            if tree.limit is not None
            else ""
        )
        tests = [f"({t})" for t in ((q.where,) if q.aggregated else (q.where, q.having)) if t]
        body = f" FROM {q.source}" if q.source else ""
        body += f" WHERE {' AND '.join(tests)}" if tests else ""
        grouping = f" GROUP BY {_local_keys(q.grouped, q.scope) or 'NULL'}" if tree.group else ""
        if q.having and q.aggregated:
            grouping += f" HAVING {q.having}"
        if tree.rollup and tree.group:
            return self.rollup(q) + limit, False
        if q.having and q.aggregated and not tree.group and not tree.distinct:
            # SQLite takes HAVING without GROUP BY only beside an aggregate in the select list.
            sql = f"SELECT {_names(q)} FROM (SELECT {columns}, ({q.having}) AS _h{body}) WHERE _h{limit}"
            return sql, False
        if not q.ordered and not q.aggregated:
            return f"SELECT {columns}{body}", False
        if tree.distinct and (q.aggregated or q.windowed):
            return _distinct_groups(q, columns, body, grouping) + limit, False
        if tree.distinct:
            grouping = f" GROUP BY {_local_keys(q.outputs, q.scope)}{grouping}"
        if q.order and not q.windowed and q.position:
            return self.sort(q, columns, body, grouping, limit, entered)
        by = q.keys if q.ordered else []
        if q.position:
            by = [*by, *self.sorted_by_window(q.items, q.scope), q.position]
        return f"SELECT {columns}{body}{grouping}" + (
            f" ORDER BY {', '.join(by)}" if by else ""
        ) + limit, False

    def sort(
        self, q: _Clauses, columns: str, body: str, grouping: str, limit: str, entered: int
    ) -> tuple[str, bool]:
        """Rows that ORDER BY sorts, with ties as filesort leaves them where that can be known."""
        tree, keys = q.tree, ", ".join(q.keys)
        if tree is self.outermost:  # the engine sorts
            return (
                f"SELECT {columns}, dense_rank() OVER (ORDER BY {keys}){body}{grouping} ORDER BY {q.position}",
                True,
            )
        if tree.limit is None or self.outward != entered:
            return f"SELECT {columns}{body}{grouping} ORDER BY {keys}, {q.position}{limit}", False
        extra = "".join(f", {sort_key(x)} AS k{i}" for i, (_, x, _) in enumerate(q.order))
        by = [folded(f"k{i}", x.type) + (" DESC" if d else "") for i, (_, x, d) in enumerate(q.order)]
        inner = f"SELECT {columns}{extra}, row_number() OVER (ORDER BY {q.position}) AS _p{body}{grouping}"
        ranked = f"SELECT {_names(q)}, _p, dense_rank() OVER (ORDER BY {', '.join(by)}) AS _d FROM ({inner})"
        s, counted = self.fresh("s"), int(not (q.aggregated or tree.distinct))
        return (
            f"WITH {s} AS ({ranked}) SELECT {_names(q)} FROM {s}, (SELECT my_top(_d, _p, {tree.limit}, {tree.offset}, {counted}) AS _t FROM {s}) "
            f"WHERE my_at(_t, _p) > 0 ORDER BY my_at(_t, _p)",
            False,
        )

    def rollup(self, q: _Clauses) -> str:
        """GROUP BY ... WITH ROLLUP: one query per prefix of the group, sums after their parts.

        What is grouped by is NULL in a sum, wherever it stands outside aggregates (MySQL 8.0 manual, 14.19.2).
        """
        scope, grouped, order = q.scope, q.grouped, q.order
        where = f" WHERE {q.where}" if q.where else ""
        parts = []
        for depth in range(len(grouped), -1, -1):
            self.gone = frozenset(x.sql for x in grouped[depth:])
            cols = ", ".join(f"{self.expr(item.expr, scope).sql} AS c{i}" for i, item in enumerate(q.items))
            marks = "".join(
                f", {int(i >= depth)} AS g{i}, {sort_key(x) if i < depth else 'NULL'} AS h{i}"
                for i, x in enumerate(grouped)
            )
            keys = "".join(
                f", {sort_key(self.expr(expr, scope))} AS k{i}" for i, (expr, _, _) in enumerate(order)
            )
            by = " GROUP BY " + (", ".join(sort_key(x) for x in grouped[:depth]) or "NULL")
            test = f" HAVING {self.truth(q.tested, scope)}" if q.tested is not None else ""
            parts.append(f"SELECT {cols}{marks}{keys} FROM {q.source}{where}{by}{test}")
        self.gone = frozenset()
        wanted = [folded(f"k{i}", x.type) + (" DESC" if d else "") for i, (_, x, d) in enumerate(order)]
        wanted += [f"g{i}, {folded(f'h{i}', x.type)}" for i, x in enumerate(grouped)]
        return f"SELECT {_names(q)} FROM ({' UNION ALL '.join(parts)}) ORDER BY {', '.join(wanted)}"


def _declared(x: X) -> Column | None:
    """What a bare column is declared as, also through derived tables."""
    source = x.source
    if source is None:
        return None
    declared = source.table.columns if source.table else source.derived.columns if source.derived else ()
    found = dict(zip(source.columns, declared, strict=False)).get(x.column)
    return replace(found, nullable=True) if found is not None and source.outer else found


def _combined(op: str, names: str, keys: str, both: str) -> str:
    """What an operator leaves of the rows of both its sides (`_k` 1 and 2): of equal ones the first."""
    if op == "UNION ALL":
        return f"SELECT {names}, row_number() OVER (ORDER BY _k, _p) AS _p FROM {both}"
    if op == "UNION":
        firsts = f"SELECT {names}, min(_k * 100000000 + _p) AS _m FROM {both} GROUP BY {keys}"
    else:
        firsts = (
            f"SELECT {names}, _m FROM (SELECT {names}, _k, _k * 100000000 + _p AS _q, min(_k * 100000000 + _p) OVER w AS _m, count(*) FILTER (WHERE _k = 1) OVER w AS _a, count(*) FILTER (WHERE _k = 2) OVER w AS _b FROM {both} WINDOW w AS (PARTITION BY {keys})) WHERE _q = _m AND "
            + ("_a > 0 AND _b > 0" if op.startswith("INTERSECT") else "_a > 0 AND _b = 0")
        )
    return f"SELECT {names}, row_number() OVER (ORDER BY _m) AS _p FROM ({firsts})"


def _names(q: _Clauses) -> str:
    """The output columns by the names that they have in SQLite."""
    return ", ".join(f"c{i}" for i in range(len(q.outputs)))


def _local_keys(xs: list[X], scope: Scope) -> str:
    """Keys to group by. SQLite takes no outer column as one; to a group it is a constant."""
    return ", ".join(sort_key(x) for x in xs if x.source is None or x.source in scope.sources)


def _distinct_groups(q: _Clauses, columns: str, body: str, grouping: str) -> str:
    """DISTINCT of rows that are groups, or that windows were computed on: each where the first of its kind was."""
    rank = f"row_number() OVER (ORDER BY {q.position})" if q.position and not q.windowed else "0"
    extra = "".join(f", {x.sql} AS k{i}" for i, (_, x, _) in enumerate(q.order))
    by = [folded(f"min(k{i})", x.type) + (" DESC" if d else "") for i, (_, x, d) in enumerate(q.order)]
    cut = ", ".join(folded(f"c{i}", x.type) for i, x in enumerate(q.outputs))
    inner = f"SELECT {columns}{extra}, {rank} AS _r{body}{grouping}"
    return f"SELECT {_names(q)} FROM ({inner}) GROUP BY {cut} ORDER BY {', '.join([*by, 'min(_r)'])}"


def _with_ties(sql: str, q: _Clauses) -> str:
    """Windows get the order of rows that they do not tell apart: as read; of one table, as ORDER BY sorted them."""
    ties = "" if q.tree.distinct and not q.aggregated else q.position
    sooner = len(q.scope.sources) == 1 and not (
        q.aggregated or q.tree.distinct or has_window(tuple(e for e, _, _ in q.order))
    )
    first = ", ".join([*(q.keys if sooner else []), *([ties] if ties else [])])
    sql = sql.replace(TIES, f", {ties}" if ties else "").replace(UNSORTED, f"ORDER BY {ties}" if ties else "")
    return sql.replace(ALL, f"ORDER BY {first}" if first else "")


def _group_names(q: _Clauses) -> frozenset[str] | None:
    """The output columns that are the group, where all of it is among them."""
    if not q.tree.group or not all(x.source for x in q.grouped):
        return None
    refs = {(x.source, x.column) for x in q.grouped}
    if not {(x.source, x.column) for x in q.outputs} >= refs:
        return None
    return frozenset(
        n.lower() for n, x in zip(q.names, q.outputs, strict=True) if (x.source, x.column) in refs
    )


def _by_branch(expr: Any) -> Any:
    """IF or CASE with each value as its text: decimals keep the digits of the branch that they come from."""
    if isinstance(expr, Case):
        whens = tuple((test, _by_branch(value)) for test, value in expr.whens)
        return replace(expr, whens=whens, default=expr.default and _by_branch(expr.default))
    if isinstance(expr, Func) and expr.name == "if":
        return replace(expr, args=(expr.args[0], *map(_by_branch, expr.args[1:])))
    return Cast(expr, "char")
