"""Aggregates and window functions."""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

from typing import Any

from prosegym.envs.sql.expressions import Expressions
from prosegym.envs.sql.names import Scope
from prosegym.envs.sql.tree import Col, Fault, Func, Item, Lit, Star, Window, is_query, walk
from prosegym.envs.sql.typed import (
    COUNT,
    DATES,
    DOUBLE,
    INT,
    STR,
    T,
    X,
    folded,
    merge_types,
    quote,
    sort_key,
    stored_types,
)

_BY_ROW = frozenset(("row_number", "ntile", "lag", "lead"))
"""Window functions that tell rows with equal keys apart, as all do within ROWS but these:"""
_BY_PEERS = frozenset(("rank", "dense_rank", "percent_rank", "cume_dist"))
TIES, UNSORTED, ALL = "/*ties*/", "/*unsorted*/", "/*all*/"
"""What stands for the order of such rows, until known: after a window's ORDER BY, its PARTITION BY, or nothing."""
ONE_ROW = "(SELECT 1 AS _one)"
"""What a query that has no FROM groups."""


class Aggregates(Expressions):
    """Compiles what is computed of many rows."""

    def aggregate(self, e: Func, scope: Scope) -> X:
        """A call of an aggregate, in this query or for one around it."""
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
        home = self.home(e, scope)
        if home.aggregating:
            home.aggregated = True
        elif scope.aggregating:
            # SQLite would take it for the query's that its columns come from: a column of this one keeps it here.
            own = "_one"
            if scope.sources:
                first = scope.sources[0]
                own = self.reference(first, next(iter(first.columns))).sql
            args[0] = x = x._replace(sql=f"CASE WHEN {own} IS NULL THEN {x.sql} ELSE {x.sql} END")
        word = "DISTINCT " if e.distinct else ""
        if name == "count":
            if len(args) > 1:
                keys = " || char(31) || ".join(
                    f"my_fold(CAST({a.sql} AS TEXT))" if a.type.kind == "str" else f"CAST({a.sql} AS TEXT)"
                    for a in args
                )
                return X(f"count(DISTINCT {keys})", COUNT)
            return X(f"count({word}{sort_key(x) if e.distinct else x.sql})", COUNT)
        if name in ("min", "max"):
            return X(f"{name}({folded(x.sql, x.type)})", x.type)
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

    def home(self, e: Func, scope: Scope) -> Scope:
        """The nearest query that columns of an aggregate come from; its own where it has none."""
        columns = [node for node in walk(e.args, is_query) if isinstance(node, Col)]
        for near in (scope, *scope.around()):
            if any(self.find(column, near, local=True, quiet=True) for column in columns):
                return near
        return scope

    def concat_key(self, e: Any, args: list[X], scope: Scope) -> X:
        """What GROUP_CONCAT sorts by; a number is the place of one of its arguments."""
        if not isinstance(e, Lit) or e.kind != "int":
            return self.scalar(e, scope)
        if not 0 < int(e.value) <= len(args):
            raise Fault(f"Unknown column '{e.value}' in 'order clause'")
        return args[int(e.value) - 1]

    def window(self, e: Func, scope: Scope) -> X:
        """A call with OVER."""
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
            parts.append(TIES if order else UNSORTED if partition else ALL)
        if over.frame:
            parts.append(over.frame)
        common: T | None = None
        if name in ("lag", "lead") and len(args) == 3:
            (common,) = stored_types([merge_types(args[0].type, args[2].type)])
            args = [self.as_kind(args[0], common), args[1], self.as_kind(args[2], common)]
        if name in ("sum", "avg") and args[0].type.kind in DATES:
            args = [self.number(args[0])]
        if name in ("min", "max"):
            args = [x._replace(sql=folded(x.sql, x.type)) for x in args]
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

    def window_keys(self, over: Window, scope: Scope) -> tuple[list[str], list[str]]:
        """(PARTITION BY, ORDER BY) of a window."""
        clause, scope.where = scope.where, "window partition by"
        partition = [sort_key(self.scalar(e, scope)) for e in over.partition]
        scope.where = "window order by"
        order = [sort_key(self.scalar(e, scope)) + (" DESC" if d else "") for e, d in over.order]
        scope.where = clause
        return partition, order

    def sorted_by_window(self, items: list[Item], scope: Scope) -> list[str]:
        """The keys by which the last window sorts its rows, which is how they then come."""
        found: list[str] = []
        for node in walk(tuple(item.expr for item in items), is_query):
            if isinstance(node, Func) and node.over is not None and (node.over.partition or node.over.order):
                found = self.window_keys(node.over, scope)[0] + self.window_keys(node.over, scope)[1]
        return found


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
