"""From a MySQL query to one SQLite statement that gives the same rows, in the same order, of the same types.

`tables` and the modules that it builds on compile the parts. Here they become a query: `_Compiler.select` has
the steps in the order in which MySQL's resolver takes them, which is the order in which it finds faults.
"""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any

from prosegym.envs.sql import planner
from prosegym.envs.sql.aggregates import ALL, TIES, UNSORTED
from prosegym.envs.sql.names import Catalog, Scope
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
    keys = [sort_key(compiler.expr(key, scope)) + (" DESC" if down else "") for key, down in order]
    scope.where = "field list"
    number = f"{scope.sources[0].sql}._p"
    given = (compiler.expr(v, scope) for v in values)
    shown = ", ".join([number, *(compiler.text(x).sql if exact(x.type) else x.sql for x in given)])
    most = -1 if limit is None else limit
    return f"SELECT {shown} FROM {source} WHERE {test} ORDER BY {', '.join([*keys, number])} LIMIT {most}"


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
        parts: list[Compiled] = []
        for part in tree.parts:
            if len(tree.parts) > 1 and isinstance(part, Select) and part.order and part.limit is None:
                self.unordered.add(id(part))
            parts.append(self.query(part, parent, ctes, "rows" if want != "set" else "set"))
            if len(parts[-1].names) != len(parts[0].names):
                raise Fault("The used SELECT statements have a different number of columns")
        ops = list(tree.ops)
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
        for op, part in zip(ops, parts[1:], strict=True):
            before, types = types, tuple(merge_types(a, b) for a, b in zip(types, part.types, strict=True))
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
            keys = ", ".join(folded(f"c{i}", t) for i, t in enumerate(types))
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
                if not is_place(expr):
                    continue
                at = int(expr.value) - 1
                if not 0 <= at < len(lower):
                    raise Fault(f"Unknown column '{expr.value}' in 'order clause'")
                sql = folded(f"c{at}", types[at])
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
                sql = sort_key(x)
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
                if has_aggregate(expr) or has_window(expr):
                    raise Fault(f"Can't group on '{names[at]}'")
            elif isinstance(expr, Col) and expr.table is None:
                alias = self.selected(expr, scope, items)
                if alias is not None and self.find(expr, scope, local=True, quiet=True) is None:
                    if has_aggregate(alias.expr) or has_window(alias.expr):
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
            if isinstance(expr, Lit) and not is_place(expr):
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
                if has_aggregate(keyed[n - 1]) and not has_window(expr):
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
                position = ", ".join(sort_key(x) for x in grouped)
            else:
                position = planner.position(self, tree, scope, items, group, order, aggregated)
        local = [x for x in grouped if x.source is None or x.source in scope.sources]
        # SQLite takes no outer column as a grouping key; to one group it is a constant.
        by_group = ", ".join(sort_key(x) for x in local) or "NULL"
        windowed = has_window((*(i.expr for i in items), *(e for e, _, _ in order)))
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
        cut = ", ".join(folded(f"c{i}", x.type) for i, x in enumerate(outputs))
        keys = [sort_key(x) + (" DESC" if d else "") for _, x, d in order]
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
            by = [folded(f"min(k{i})", x.type) + (" DESC" if d else "") for i, (_, x, d) in enumerate(order)]
            sql = f"SELECT {names_sql} FROM (SELECT {columns}{extra}, {rank} AS _r{body}{grouping}) GROUP BY {cut}"
            sql += f" ORDER BY {', '.join([*by, 'min(_r)'])}{limit}"
        else:
            if tree.distinct:
                grouping = (
                    " GROUP BY "
                    + ", ".join(sort_key(x) for x in outputs if x.source is None or x.source in scope.sources)
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
                extra = "".join(f", {sort_key(x)} AS k{i}" for i, (_, x, _) in enumerate(order))
                by = [folded(f"k{i}", x.type) + (" DESC" if d else "") for i, (_, x, d) in enumerate(order)]
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
                aggregated or tree.distinct or has_window(tuple(e for e, _, _ in order))
            )
            first = ", ".join([*(keys if sooner else []), *([ties] if ties else [])])
            sql = sql.replace(TIES, f", {ties}" if ties else "").replace(
                UNSORTED, f"ORDER BY {ties}" if ties else ""
            )
            sql = sql.replace(ALL, f"ORDER BY {first}" if first else "")
        types = tuple(x.type for x in outputs)
        result = Compiled(sql, names, types, single, group_names, sorts, counted, (tree.limit, tree.offset))
        if want != "table":
            return result
        # A table of the plainest queries is merged into the query around it (Query_expression::is_mergeable).
        merges = not (aggregated or windowed or tree.distinct or tree.having is not None or limit)
        if not merges or tree.source is None:
            types = stored_types(types)
        return Compiled(self.numbered(result, types), names, types, single, group_names)

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
                f", {int(i >= depth)} AS g{i}, {sort_key(x) if i < depth else 'NULL'} AS h{i}"
                for i, x in enumerate(grouped)
            )
            keys = "".join(
                f", {sort_key(self.expr(expr, scope))} AS k{i}" for i, (expr, _, _) in enumerate(order)
            )
            by = " GROUP BY " + (", ".join(sort_key(x) for x in grouped[:depth]) or "NULL")
            test = f" HAVING {self.truth(having, scope)}" if having is not None else ""
            parts.append(f"SELECT {cols}{marks}{keys}{from_sql}{where_sql}{by}{test}")
        self.gone = frozenset()
        wanted = [folded(f"k{i}", x.type) + (" DESC" if d else "") for i, (_, x, d) in enumerate(order)]
        wanted += [f"g{i}, {folded(f'h{i}', x.type)}" for i, x in enumerate(grouped)]
        names = ", ".join(f"c{i}" for i in range(len(items)))
        return f"SELECT {names} FROM ({' UNION ALL '.join(parts)}) ORDER BY {', '.join(wanted)}"


def _by_branch(expr: Any) -> Any:
    """IF or CASE with each value as its text: decimals keep the digits of the branch that they come from."""
    if isinstance(expr, Case):
        whens = tuple((test, _by_branch(value)) for test, value in expr.whens)
        return replace(expr, whens=whens, default=expr.default and _by_branch(expr.default))
    if isinstance(expr, Func) and expr.name == "if":
        return replace(expr, args=(expr.args[0], *map(_by_branch, expr.args[1:])))
    return Cast(expr, "char")
