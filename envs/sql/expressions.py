"""Expressions: each kind of node as SQL of one type; aggregates and windows are in `aggregates`."""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

from prosegym.envs.sql.calls import FUNCTIONS
from prosegym.envs.sql.conversions import Conversions, near_test
from prosegym.envs.sql.names import Scope
from prosegym.envs.sql.parser import COMPOSITE, KEYWORDS
from prosegym.envs.sql.schema import is_plain
from prosegym.envs.sql.schema import stored as temporal
from prosegym.envs.sql.tree import (
    AGGREGATES,
    Case,
    Cast,
    Col,
    Cte,
    Fault,
    Func,
    In,
    Interval,
    Lit,
    Op,
    Row,
    Star,
    Sub,
    has_aggregate,
    walk,
)
from prosegym.envs.sql.typed import (
    DATES,
    DOUBLE,
    INT,
    NULL,
    NUMBERS,
    STR,
    Compiled,
    T,
    X,
    balanced,
    folded,
    merged_type,
    quote,
    shared_digits,
    text_key,
)


class Expressions(Conversions, ABC):
    """Compiles an expression; subqueries, aggregates and windows are left to the classes above."""

    @abstractmethod
    def query(self, tree: Any, parent: Scope | None, ctes: dict[str, Cte], want: str) -> Compiled:
        """A subquery, or the whole query: `compiler` has it."""

    @abstractmethod
    def aggregate(self, e: Func, scope: Scope) -> X:
        """A call of an aggregate: `aggregates` has it."""

    @abstractmethod
    def window(self, e: Func, scope: Scope) -> X:
        """A call with OVER: `aggregates` has it."""

    def expr(self, e: Any, scope: Scope) -> X:
        """Any expression; what WITH ROLLUP has summed up is NULL."""
        found: X = _METHODS[type(e)](self, e, scope)
        self.write(found.sql)
        if self.gone and found.sql in self.gone and not scope.inside:
            return X("NULL", found.type)
        return found

    def truth(self, expr: Any, scope: Scope) -> str:
        """An expression as a condition."""
        x = self.expr(expr, scope)
        return x.sql if x.type.kind in NUMBERS else self.number(x).sql

    def scalar(self, e: Any, scope: Scope) -> X:
        """An expression of one column."""
        if isinstance(e, Row):
            raise Fault("Operand should contain 1 column(s)")
        return self.expr(e, scope)

    def lit(self, e: Lit, scope: Scope) -> X:
        """A constant."""
        if e.kind == "null":
            return X("NULL", NULL)
        if e.kind == "str":
            return X(quote(e.value), T("str", None, is_plain(e.value)), e.value)
        if e.kind in DATES:
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
        """A column."""
        return self.column(e, scope)

    def op(self, e: Op, scope: Scope) -> X:
        """An operator."""
        name = e.name
        if name in _COMPARED and any(map(_collated, e.args)):
            e = replace(e, args=tuple(Func("binary", (a,)) for a in e.args[:2]) + e.args[2:])
        if name in ("AND", "OR"):
            return X(balanced([self.truth(a, scope) for a in e.args], name), INT)
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
            return self.call(Func("regexp_like", e.args), scope)
        return self.arithmetic(e, scope)

    def like(self, e: Op, scope: Scope) -> X:
        """LIKE, by SQLite's own where that has the same result."""
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
        """An arithmetic operator; what could be too long for a BIGINT is looked at."""
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

    def rows(self, name: str, left: Any, right: Any, scope: Scope, exact: bool = False) -> X:
        """A comparison of rows."""
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
        """IN with a list or a subquery."""
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
        if several and kinds and kinds <= NUMBERS and x.type.kind in ("int", "dec", "double", "float"):
            return X(f"({x.sql} {word} ({', '.join(i.sql for i in items)}))", INT)
        if kinds <= {"str"} and x.type.kind == "str":
            if x.type.plain and all(i.type.plain for i in items):
                return X(f"({x.sql} COLLATE NOCASE {word} ({', '.join(i.sql for i in items)}))", INT)
            return X(f"({text_key(x)} {word} ({', '.join(text_key(i) for i in items)}))", INT)
        either = " OR ".join(self.compare("=", x, i, exact=several) for i in items)
        return X(f"(NOT ({either}))" if e.negated else f"({either})", INT)

    def in_query(self, value: Any, query: Any, scope: Scope) -> str:
        """IN with a subquery, as a condition."""
        values = value.items if isinstance(value, Row) else (value,)
        scope.compared = scope.where
        xs = [self.scalar(v, scope) for v in values]
        compiled = self.query(query, scope, scope.ctes, "set")
        if len(compiled.types) != len(values):
            raise Fault(f"Operand should contain {len(values)} column(s)")
        for i, (x, y) in enumerate(zip(xs, compiled.types, strict=True)):
            # Real numbers are looked up with all their digits, but among decimals they are compared.
            if y.kind == "dec" and near_test("=", x, X("", y)):
                digits = shared_digits(x.type, y)
                xs[i] = X(f"round({x.sql}, {digits})", DOUBLE)
                names = ", ".join(
                    f"round(c{i}, {digits}) AS c{i}" if j == i else f"c{j}" for j in range(len(xs))
                )
                compiled = replace(compiled, sql=f"SELECT {names} FROM ({compiled.sql})")
        if len(xs) == 1:
            x, y = xs[0], compiled.types[0]
            if x.type.kind in NUMBERS and y.kind in NUMBERS or x.type.kind == y.kind and y.kind in DATES:
                return f"{x.sql} IN ({compiled.sql})"
            if x.type.kind == "str" and y.kind == "str":
                if x.type.plain and y.plain:
                    return f"{x.sql} COLLATE NOCASE IN ({compiled.sql})"
                return f"{text_key(x)} IN (SELECT my_fold(c0) FROM ({compiled.sql}))"
        pairs = list(zip(xs, compiled.types, strict=True))
        if all(x.type.kind in NUMBERS and y.kind in NUMBERS or x.type.kind == y.kind for x, y in pairs):
            sides, columns = [], []
            for i, (x, y) in enumerate(pairs):
                folded = y.kind == "str" and not (x.type.plain and y.plain)
                sides.append(
                    text_key(x) if folded else f"{x.sql} COLLATE NOCASE" if y.kind == "str" else x.sql
                )
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
        """A comparison with ANY or ALL of a subquery."""
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
            self.compare(name, x, X(single(f"{end}({folded(f'{alias}.c0', kind)})"), kind))
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
        """A subquery as a value, or EXISTS."""
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
        """A row where a value is wanted."""
        raise Fault("Operand should contain 1 column(s)")

    def case(self, e: Case, scope: Scope) -> X:
        """CASE."""
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
        kind = merged_type(values)
        sql = " ".join(f"WHEN {test} THEN {self.as_kind(x, kind).sql}" for test, x in parts)
        return X(f"(CASE {sql} ELSE {self.as_kind(default, kind).sql} END)", kind)

    def cast(self, e: Cast, scope: Scope) -> X:
        """CAST and CONVERT."""
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
        """INTERVAL where it has no meaning."""
        raise Fault("You have an error in your SQL syntax")

    def star(self, e: Star, scope: Scope) -> X:
        """`*` where it has no meaning."""
        raise Fault("You have an error in your SQL syntax")

    def func(self, e: Func, scope: Scope) -> X:
        """A call: an aggregate, a window function or any other."""
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
        return self.call(e, scope)

    def call(self, e: Func, scope: Scope) -> X:
        """A call of any other function."""
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
                missing += (
                    ". Check the 'Function Name Parsing and Resolution' section in the Reference Manual"
                )
            raise Fault(missing)
        found: X = known[2](self, [self.scalar(a, scope) for a in e.args])
        return found


_COMPARED = frozenset(("=", "<=>", "<>", "<", ">", "<=", ">=", "LIKE", "REGEXP"))


def _collated(expr: Any) -> bool:
    """Whether it has a collation that tells capitals from small letters."""
    return isinstance(expr, Func) and expr.name == "collate"


_METHODS: dict[type, Any] = {
    Lit: Expressions.lit,
    Col: Expressions.col,
    Op: Expressions.op,
    In: Expressions.in_,
    Sub: Expressions.sub,
    Row: Expressions.row,
    Case: Expressions.case,
    Cast: Expressions.cast,
    Interval: Expressions.interval,
    Star: Expressions.star,
    Func: Expressions.func,
}
