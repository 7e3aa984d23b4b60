"""In which order MySQL gives rows that nothing orders.

SQL leaves that order open, MySQL's executor does not: it follows from the join order that the optimizer
chooses, from the index that each table is read by, and from how groups and ties are kept. What is
modelled (MySQL 8.0, InnoDB, its default settings):

* a table is read in the order of its clustered index, or of the shortest secondary index that holds
  every column the statement needs;
* the join order is the cheapest by the cost model's constants (row evaluation 0.1, page in memory 0.25)
  over all orders, tried smallest table first; each next table is looked up by an index where one is
  bound, else hash-joined;
* a hash join gives the rows of the table that probes in their order, and for each of them the stored
  rows last in first out;
* groups come in the order in which they are first met, unless an index (or the sort that DISTINCT
  aggregates need) orders them;
* a table without statistics counts as one row, and its groups under ORDER BY ... LIMIT come as a scan from
  its last row meets them (seen in the published episodes; not derived from the server's source).

Not modelled: range scans by secondary indexes, semi-join strategies, statistics that are off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from prosegym.envs.sql.names import Names, Scope
from prosegym.envs.sql.schema import Key
from prosegym.envs.sql.tree import Col, Func, In, Item, Join, Lit, Op, Select, Star, walk
from prosegym.envs.sql.typed import Source

ROW, PAGE, PAGE_BYTES = 0.1, 0.25, 16384
Place = tuple[int, str]
"""A column: number of its source in FROM, lower-case name."""


@dataclass
class _Facts:
    """What the conditions say about columns."""

    equal: list[tuple[Place, Place]] = field(default_factory=list)
    constant: set[Place] = field(default_factory=set)
    filters: dict[int, float] = field(default_factory=dict)
    rejects_null: set[int] = field(default_factory=set)
    either: dict[int, set[int]] = field(default_factory=dict)
    """Sources with a key that is compared with one or another column of these sources (`k = a OR k = b`)."""

    def same(self, place: Place) -> set[Place]:
        """The column and all that must equal it."""
        found, more = {place}, True
        while more:
            more = False
            for a, b in self.equal:
                if (a in found) != (b in found):
                    found |= {a, b}
                    more = True
        return found


def position(
    compiler: Names,
    tree: Select,
    scope: Any,
    items: list[Item],
    group: list[Any],
    order: list[Any],
    aggregated: bool,
) -> str:
    """An SQLite expression that sorts the rows (or groups) as MySQL would give them."""
    sources = scope.sources
    if (
        group
        and order
        and tree.limit is not None
        and len(sources) == 1
        and sources[0].table is not None
        and not sources[0].table.counted
    ):
        return f"-max({sources[0].sql}._p)"
    facts = _facts(compiler, tree, scope)
    needed = _needed(compiler, tree, scope)
    merges = aggregated or tree.distinct
    keys = group
    if tree.distinct and not aggregated and len(sources) == 1:
        keys = [i.expr for i in items]
    if len(sources) == 1:
        found = _single(compiler, sources[0], scope, facts, needed.get(0, set()), keys, bool(group))
        return f"min({found})" if merges else found
    plan, hashed = _join_order(sources, facts, _dependencies(tree, scope), needed)
    first = plan[0]
    scans = {n: _scan(sources[n], needed.get(n, set())) for n in plan}
    if group and not hashed:
        # The first table is read by an index that has the groups in order.
        columns = []
        for expr in group:
            place = _place(compiler, expr, scope)
            columns.append(place[1] if place and place[0] == first else None)
        index = _index_for(sources[first], columns)
        if index is not None:
            scans[first] = index
    expr, size = scans[first], _size(sources[first])
    for n in plan[1:]:
        mine, width = scans[n], _size(sources[n]) + 1
        if n in hashed and not sources[n].outer:
            expr = f"(({mine}) * {size} + {size - 1} - ({expr}))"
        elif n in hashed:
            expr = f"(({expr}) * {width} + {width - 1} - coalesce({mine}, 0))"
        else:
            expr = f"(({expr}) * {width} + coalesce({_lookup(sources[n])}, 0))"
        size *= width
        if size > 1 << 60:
            return f"min({scans[first]})" if merges else scans[first]
    return f"min({expr})" if merges else expr


def groups_sorted(items: list[Item], group: list[Any], having: Any, order: list[Any]) -> bool:
    """Whether groups come sorted by their keys: an aggregate over DISTINCT values needs its input sorted."""
    return bool(group) and any(
        isinstance(n, Func)
        and n.over is None
        and ((n.distinct and n.name not in ("max", "min")) or n.name == "group_concat")
        for part in (tuple(i.expr for i in items), having or (), tuple(e for e, _, _ in order))
        for n in walk(part)
    )


def _size(source: Source) -> int:
    return max(1, len(source.table.rows)) if source.table is not None else 4096


def _rows(source: Source) -> int:
    """As the optimizer has it."""
    return 1 if source.table is not None and not source.table.counted else _size(source)


def _lookup(source: Source) -> str:
    return f"{source.sql}._p"


def _rank(source: Source, key: Key) -> str:
    """The position of a row in an index."""
    assert source.table is not None
    if key.name == "PRIMARY":
        return f"{source.sql}._p"
    return f'{source.sql}."_k{source.table.keys.index(key)}"'


def _scan(source: Source, needed: set[str]) -> str:
    """Reading the whole table: by the shortest index that holds all that is needed, else clustered."""
    table = source.table
    if table is None:
        return f"{source.sql}._p"
    best: tuple[int, Key] | None = None
    for key in table.keys:
        if key.name == "PRIMARY" or any(key.lengths) or len(key.columns) >= len(table.columns):
            continue
        if needed <= {c.lower() for c in key.columns} | set(table.primary):
            length = sum(_width(source, c.lower()) for c in key.columns)
            if best is None or length < best[0]:
                best = (length, key)
    return _rank(source, best[1]) if best else f"{source.sql}._p"


def _width(source: Source, name: str) -> int:
    assert source.table is not None
    column = next(c for c in source.table.columns if c.name.lower() == name)
    if column.kind == "int":
        return 4
    if column.kind == "str":
        digits = "".join(ch for ch in column.type if ch.isdigit())
        return 4 * int(digits or 255) + 2
    return 8


def _single(
    compiler: Names,
    source: Source,
    scope: Scope,
    facts: _Facts,
    needed: set[str],
    keys: list[Any],
    grouped: bool,
) -> str:
    table = source.table
    if table is None:
        return f"{source.sql}._p"
    if table.db == "information_schema":
        if table.name == "tables":
            # By the names' index where a schema is given or only names are read; else as they were made.
            names = {"table_catalog", "table_schema", "table_name"}
            named = needed <= names or (0, "table_schema") in facts.constant
            return _rank(source, table.keys[0]) if named else f"{source.sql}._p"
        if table.keys and (0, "table_schema") not in facts.constant and len(needed) < len(table.columns):
            return _rank(source, table.keys[0])
        return f"{source.sql}._p"
    # A key that constants bind is read in clustered order within one value.
    for key in table.keys:
        if (0, key.columns[0].lower()) in facts.constant:
            return f"{source.sql}._p"
    if keys:
        columns = [place[1] if (place := _place(compiler, e, scope)) else None for e in keys]
        index = _index_for(source, columns, None if grouped else needed)
        if index is not None:
            return index
    return _scan(source, needed)


def _index_for(source: Source, columns: list[str | None], needed: set[str] | None = None) -> str | None:
    """An index whose first columns are these, in this order; only a covering one where `needed` is given."""
    if source.table is None or None in columns:
        return None
    for key in source.table.keys:
        names = [c.lower() for c in key.columns]
        if key.name != "PRIMARY":
            names += [c for c in source.table.primary if c not in names]
        if names[: len(columns)] == columns and not any(key.lengths):
            if needed is not None and key.name != "PRIMARY" and not needed <= set(names):
                continue
            return _rank(source, key)
    return None


def _place(compiler: Names, expr: Any, scope: Scope) -> Place | None:
    if not isinstance(expr, Col):
        return None
    x = compiler.find(expr, scope, local=True, quiet=True)
    return (scope.sources.index(x.source), x.column) if x is not None and x.source is not None else None


def _needed(compiler: Names, tree: Select, scope: Scope) -> dict[int, set[str]]:
    """The columns of each source that the statement reads, subqueries included."""
    joined = {column for source in scope.sources for column in source.hidden}  # by NATURAL and USING
    found = {n: joined & source.columns.keys() for n, source in enumerate(scope.sources)}
    for item in tree.items:
        if isinstance(item.expr, Star):
            for n, source in enumerate(scope.sources):
                if item.expr.table is None or item.expr.table.lower() == source.alias.lower():
                    found[n].update(source.columns)
    for node in walk(tree):
        if isinstance(node, Col):
            place = _place(compiler, node, scope)
            if place:
                found[place[0]].add(place[1])
    return found


def _facts(compiler: Names, tree: Select, scope: Scope) -> _Facts:
    facts = _Facts()

    def learn(expr: Any) -> None:
        if isinstance(expr, Op) and expr.name == "AND":
            for arg in expr.args:
                learn(arg)
            return
        if not isinstance(expr, (Op, In)):
            return
        if isinstance(expr, Op) and expr.name == "USING":
            name = expr.args[0].value.lower()
            having = [n for n, s in enumerate(scope.sources) if name in s.columns]
            facts.equal.extend(((a, name), (b, name)) for a, b in zip(having, having[1:], strict=False))
            return
        if isinstance(expr, Op) and expr.name == "=":
            a, b = (_place(compiler, e, scope) for e in expr.args)
            if a and b:
                if a[0] != b[0] and _comparable(scope, a, b):
                    facts.equal.append((a, b))
                return
            for place, other in ((a, expr.args[1]), (b, expr.args[0])):
                if place and isinstance(other, Func) and other.name in ("database", "schema"):
                    facts.constant.add(place)
                if place and isinstance(other, Lit) and _index_usable(scope, place, other):
                    facts.constant.add(place)
        if isinstance(expr, Op) and expr.name == "OR":
            choices(expr)
        places = {p[0] for n in walk(expr) if isinstance(n, Col) and (p := _place(compiler, n, scope))}
        if len(places) == 1:
            n = places.pop()
            facts.filters[n] = facts.filters.get(n, 1.0) * _share(expr, _size(scope.sources[n]))
            if not (isinstance(expr, Op) and expr.name.startswith("IS ")) and not (
                isinstance(expr, Op) and expr.name == "OR"
            ):
                facts.rejects_null.add(n)

    def choices(expr: Op) -> None:
        sides: list[list[Place]] = []
        stack: list[Any] = [expr]
        while stack:
            node = stack.pop()
            if isinstance(node, Op) and node.name == "OR":
                stack.extend(node.args)
            elif (
                isinstance(node, Op)
                and node.name == "="
                and (a := _place(compiler, node.args[0], scope))
                and (b := _place(compiler, node.args[1], scope))
            ):
                sides.append([a, b])
            else:
                return
        for place in sides[0]:
            keyed = any(key == (place[1],) for key in _unique(scope.sources[place[0]]))
            if keyed and all(place in pair for pair in sides):
                facts.either[place[0]] = {p[0] for pair in sides for p in pair if p != place}

    def joins(node: Any) -> None:
        if isinstance(node, Join):
            joins(node.left)
            joins(node.right)
            learn(node.on)
            for name in node.using or ():
                learn(Op("USING", (Lit(name, "str"),)))
            if node.natural:
                shared = [set(s.columns) for s in scope.sources]
                for name in set.intersection(*shared) if shared else ():
                    learn(Op("USING", (Lit(name, "str"),)))

    learn(tree.where)
    where_rejects = set(facts.rejects_null)
    joins(tree.source)
    facts.rejects_null = where_rejects
    for place in list(facts.constant):
        facts.constant |= facts.same(place)
    return facts


def _index_usable(scope: Scope, place: Place, other: Lit) -> bool:
    # A text column compared with a number is converted row by row: no index.
    kind = scope.sources[place[0]].columns[place[1]][2].kind
    return not (kind == "str" and other.kind != "str")


def _comparable(scope: Scope, a: Place, b: Place) -> bool:
    x, y = (scope.sources[p[0]].columns[p[1]][2].kind for p in (a, b))
    return (x == "str") == (y == "str")


def _share(expr: Any, rows: int) -> float:
    """Share of rows that a condition without statistics is taken to keep."""
    if isinstance(expr, In):
        share = min(0.5, 0.1 * len(expr.items)) if isinstance(expr.items, tuple) else 1.0
        return 1 - share if expr.negated else share
    name = expr.name
    if name in ("=", "<=>", "IS NULL"):
        return max(0.1, 1 / rows)
    if name in ("<", ">", "<=", ">="):
        return 0.3333
    if name in ("BETWEEN", "LIKE"):
        return 0.1111
    if name == "<>":
        return 1 - max(0.1, 1 / rows)
    if name == "OR":
        missed = 1.0
        for x in expr.args:
            missed *= 1 - (_share(x, rows) if isinstance(x, (Op, In)) else 1.0)
        return 1 - missed
    if name == "NOT":
        return 1 - _share(expr.args[0], rows) if isinstance(expr.args[0], (Op, In)) else 1.0
    return 1.0


def _dependencies(tree: Select, scope: Scope) -> dict[int, set[int]]:
    """For the inner side of each outer join: the sources that must come before."""
    found: dict[int, set[int]] = {}
    count = 0

    def visit(node: Any) -> list[int]:
        nonlocal count
        if not isinstance(node, Join):
            count += 1
            return [count - 1]
        left, right = visit(node.left), visit(node.right)
        if node.kind != "inner":
            before, after = (left, right) if node.kind == "left" else (right, left)
            for n in after:
                found.setdefault(n, set()).update(before)
        return left + right

    visit(tree.source)
    return found


def _join_order(
    sources: list[Source], facts: _Facts, after: dict[int, set[int]], needed: dict[int, set[str]]
) -> tuple[list[int], set[int]]:
    """The cheapest order of the sources, and those that are hash-joined in it."""
    for n in facts.rejects_null & set(after):
        # An outer join whose inner side WHERE refuses NULL is an inner join.
        del after[n]
        sources[n].outer = False
    count = len(sources)
    const = {n for n in range(count) if n not in after and any(
        all((n, c) in facts.constant for c in key) for key in _unique(sources[n])
    )}  # fmt: skip

    def estimate(n: int) -> float:
        table = sources[n].table
        for key in table.keys if table is not None else ():
            if (n, key.columns[0].lower()) in facts.constant:
                return _per_key(sources[n], key, 1)
        return _rows(sources[n])

    ordered = sorted(
        (n for n in range(count) if n not in const), key=lambda n: (len(after.get(n, ())), estimate(n))
    )
    if len(ordered) > 6:
        return [*sorted(const), *range(count)][:count], set()
    best: tuple[float, list[int], set[int]] | None = None
    for plan in permutations(ordered):
        cost, rows, hashed = 0.0, 1.0, set()
        done = set(const)
        for n in plan:
            if not after.get(n, set()) <= done | ({n}):
                break
            read, fan, hash_join = _access(
                sources, n, done, rows, facts, needed.get(n, set()), not done - const
            )
            cost += read + rows * fan * ROW
            rows *= fan
            if not hash_join or not done - const:
                pass
            if hash_join:
                hashed.add(n)
            done.add(n)
            if best is not None and cost >= best[0]:
                break
        else:
            if best is None or cost < best[0] - 1e-9:
                best = (cost, list(plan), hashed)
    assert best is not None or not ordered
    plan_, hashed_ = (best[1], best[2]) if best else ([], set())
    return [*sorted(const), *plan_], hashed_


def _unique(source: Source) -> list[tuple[str, ...]]:
    if source.table is None:
        return []
    return [tuple(c.lower() for c in k.columns) for k in source.table.keys if k.unique]


def _per_key(source: Source, key: Key, parts: int) -> float:
    """Rows per distinct value of an index's first columns."""
    table = source.table
    assert table is not None
    if (key.unique and parts == len(key.columns)) or not table.counted:
        return 1.0
    cache = table.__dict__.setdefault("_per_key", {})
    if (key.name, parts) not in cache:
        names = [c.name.lower() for c in table.columns]
        at = [names.index(c.lower()) for c in key.columns[:parts]]
        distinct = len({tuple(row[i] for i in at) for row in table.rows})
        cache[key.name, parts] = max(1.0, len(table.rows) / max(1, distinct))
    found: float = cache[key.name, parts]
    # A lookup that is not by a whole unique key is never taken to find fewer than two rows.
    return max(2.0, found)


def _access(
    sources: list[Source], n: int, done: set[int], prefix: float, facts: _Facts, needed: set[str], first: bool
) -> tuple[float, float, bool]:
    """(cost of reading, rows per row of the prefix, whether by hash join) of the cheapest way to a source."""
    source = sources[n]
    size = _rows(source)
    share = max(facts.filters.get(n, 1.0), 0.05 / size)
    table = source.table
    best: tuple[float, float, bool] | None = None
    if table is not None:
        pages = max(1.0, _bytes(source) / PAGE_BYTES)
        for key in table.keys:
            parts = 0
            for column in key.columns:
                if (
                    any(
                        p[0] in done or p in facts.constant
                        for p in facts.same((n, column.lower()))
                        if p != (n, column.lower())
                    )
                    or (n, column.lower()) in facts.constant
                ):
                    parts += 1
                else:
                    break
            if not parts:
                continue
            fan = _per_key(source, key, parts)
            whole = key.unique and parts == len(key.columns)
            worst = max(2.0 * PAGE, min(size / 10 * PAGE, pages * 3 * PAGE))
            covering = key.name != "PRIMARY" and needed <= {c.lower() for c in key.columns} | set(
                table.primary
            )
            pages_read = 1.0 if whole or covering else fan
            read = prefix * (
                PAGE if whole else min(max(pages_read, fan if not covering else 1.0) * PAGE, worst)
            )
            used = {c.lower() for c in key.columns[:parts]}
            rest = (
                share
                if not any((n, c) in facts.constant for c in used)
                else max(share / 0.1 if share <= 0.1 else share, 0.05 / size)
            )
            total = read + prefix * fan * ROW
            if best is None or total < best[0] + prefix * best[1] * ROW:
                best = (read, fan * min(1.0, rest), False)
        if best is None and n in facts.either and facts.either[n] <= done:
            best = (prefix * 2 * PAGE, 2.0, False)
    else:
        pages = max(1.0, size / 100)
    kept = size * share
    scan = pages * PAGE + (size - kept) * ROW
    if best is None or (scan + prefix * kept * ROW < best[0] + prefix * best[1] * ROW and not first):
        return scan, kept, not first
    if first and scan + kept * ROW < best[0] + best[1] * ROW:
        return scan, kept, False
    return best


def _bytes(source: Source) -> int:
    table = source.table
    assert table is not None
    cached = table.__dict__.get("_bytes")
    if cached is None:
        cached = sum(sum(len(v) if isinstance(v, str) else 6 for v in row) + 20 for row in table.rows)
        table.__dict__["_bytes"] = cached
    return int(cached)
