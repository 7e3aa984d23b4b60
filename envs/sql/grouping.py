"""GROUP BY: what names in it, in HAVING and in ORDER BY mean, and what ONLY_FULL_GROUP_BY refuses."""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from prosegym.envs.sql.aggregates import Aggregates
from prosegym.envs.sql.names import Scope
from prosegym.envs.sql.tree import (
    AGGREGATES,
    STORED,
    Cast,
    Col,
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
    Window,
    has_aggregate,
    has_window,
    is_query,
    walk,
)
from prosegym.envs.sql.tree import Table as TableRef
from prosegym.envs.sql.typed import Source, X


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


_TAKES_NULL = frozenset(("<=>", "IS NULL", "coalesce", "ifnull", "if", "isnull", "concat_ws"))
"""Operators and functions that give a value where an operand is NULL."""


class Grouping(Aggregates):
    """Reads a grouped query's clauses, and refuses what its groups do not determine."""

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

        def swap(node: Any, inside: bool) -> Any:
            if isinstance(node, Col) and having and not inside:
                return self.having_name(node, scope, items, group)
            if isinstance(node, Col) and node.table is None and self.find(node, scope, local=True) is None:
                # Within an expression, but for HAVING's own, a name is a column of FROM before it is an alias.
                for item in items:
                    if item.alias and item.alias.lower() == node.name.lower():
                        return _aliased(item, node) if having else item.expr
                return node
            if is_query(node) or isinstance(node, (Lit, Star)):
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

    def having_name(self, node: Col, scope: Scope, items: list[Item], group: list[Any]) -> Any:
        """What a name in HAVING stands for: an alias, a column of the select list or the group, or one around."""
        name = node.name.lower()
        if node.table is None:
            for item in items:
                if item.alias and item.alias.lower() == name:
                    if not isinstance(item.expr, Col):
                        for g in group:
                            if isinstance(g, Col) and g.name.lower() == name:
                                return g
                    return _aliased(item, node)
            for item in items:
                if not item.alias and not isinstance(item.expr, Col) and item.text.lower() == name:
                    return _aliased(item, node)
            unnamed = (i.expr for i in items if not i.alias and isinstance(i.expr, Col))
            if matching := [column for column in unnamed if column.name.lower() == name]:
                if len({self.expr(m, scope).sql for m in matching}) == 1:
                    return matching[0]
                raise Fault(f"Column '{node.name}' in {scope.where} is ambiguous")
        found = self.find(node, scope, local=True, quiet=True)
        listed = (i.expr for i in items if isinstance(i.expr, Col))
        known = {self.expr(e, scope).sql for e in (*group, *listed)}
        if found is not None and found.sql in known:
            return node
        if found is not None or scope.parent is None or self.find(node, scope.parent) is None:
            raise Fault(f"Unknown column '{node.written}' in 'having clause'")
        return node

    # ONLY_FULL_GROUP_BY.

    def check_group(
        self,
        tree: Select,
        items: list[Item],
        group: list[Any],
        grouped: list[X],
        order: list[tuple[Any, X, bool]],
        scope: Scope,
    ) -> None:
        """Refuse what has more than one value in a group: in the select list, in ORDER BY, in windows."""
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
        for over in walk(exprs, is_query):
            if isinstance(over, Window):
                place = f"PARTITION BY or ORDER BY clause of window '{over.base or '<unnamed window>'}'"
                for keys in (over.partition, tuple(e for e, _ in over.order)):
                    for number, expr in enumerate(keys, 1):
                        if x := missing(expr):
                            self.refuse(number, place, x, bool(group))

    def refuse(self, number: int, clause: str, x: X, grouped: bool) -> None:
        """Say what is refused."""
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

    # Functional dependence.

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
        """The sets of columns that determine a row of a table."""
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
        """Add what a condition says."""
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

    def constant(self, expr: Any, scope: Scope) -> bool:
        """Whether an expression has one value in the whole query."""
        # A subquery that reads a table is not yet known when dependence is asked for.
        if _random(expr) or any(isinstance(n, (TableRef, Derived)) for n in walk(expr)):
            return False
        return not any(
            isinstance(n, Col) and self.find(n, scope, local=True, quiet=True) is not None for n in walk(expr)
        )


def _aliased(item: Item, node: Col) -> Any:
    """What an alias in HAVING stands for."""
    if has_window(item.expr):
        raise Fault(
            f"You cannot use the alias '{node.name}' of an expression containing a window function in this context.'"
        )
    return item.expr


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
