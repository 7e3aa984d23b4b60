"""How MySQL converts values where it needs another type, compares them and reckons with them."""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

from prosegym.envs.sql.functions import to_number
from prosegym.envs.sql.names import Names
from prosegym.envs.sql.schema import single
from prosegym.envs.sql.schema import stored as temporal
from prosegym.envs.sql.tree import Fault
from prosegym.envs.sql.typed import DATES, DOUBLE, INT, NUMBERS, T, X, quote, shared_digits, text_key


class Conversions(Names):
    """Compiled values of one type where another is needed."""

    def number(self, x: X) -> X:
        """As MySQL converts a value where it needs a number."""
        kind = x.type.kind
        if kind in NUMBERS:
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

    def as_kind(self, x: X, kind: T) -> X:
        """As a value of a type that was merged of several: numbers among texts become texts."""
        if kind.kind == "str" and x.type.kind not in ("str", "null"):
            return self.text(x)
        return x

    def compare(self, op: str, a: X, b: X, exact: bool = False) -> str:
        """A comparison by MySQL's rules: texts by collation, dates as dates, anything else as numbers.

        `exact` is how CASE, BETWEEN and IN with several values compare real numbers.
        """
        self.write(a.sql)  # CASE and IN compare it with each of theirs
        sql_op = "IS" if op == "<=>" else op
        if not exact:
            a, b = _as_column(a, b), _as_column(b, a)
            if near := near_test(op, a, b):
                return near
        x, y = a.type.kind, b.type.kind
        if x == "null" or y == "null":
            return f"{a.sql} {sql_op} {b.sql}"
        if x == "str" and y == "str":
            if a.type.plain and b.type.plain:
                return f"{a.sql} COLLATE NOCASE {sql_op} {b.sql}"
            return f"{text_key(a)} {sql_op} {text_key(b)}"
        if x in DATES or y in DATES:
            if x in DATES and y in ("str", *DATES) or y in DATES and x == "str":
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
        if x in NUMBERS and y in NUMBERS:
            return f"{a.sql} {sql_op} {b.sql}"
        return f"{self.number(a).sql} {sql_op} {self.number(b).sql}"

    def moment(self, x: X, other: X) -> str:
        """A date, time or text beside another, as the text that both are compared as."""
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
            if not kinds & {"date", "datetime"}:
                return x.sql
            return f"my_moment({x.sql}, {quote('datetime' if 'datetime' in kinds else 'date')})"
        if x.type.kind == "date" and "datetime" in kinds:
            return f"({x.sql} || ' 00:00:00')"
        return x.sql

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


def _fixed(kind: T, a: X, b: X, more: int) -> T:
    """Real arithmetic keeps fixed digits where both operands have them."""
    digits = shared_digits(a.type, b.type)
    return kind if digits is None else T("double", digits + more)


def _as_column(x: X, other: X) -> X:
    """A constant that is compared with a FLOAT(M,D) column, as that holds it (analyze_real_field_constant)."""
    if x.const is None or other.source is None or other.type.kind != "float" or other.type.scale is None:
        return x

    value = to_number(x.const)
    return X(repr(single(value)), DOUBLE) if abs(value) < 3e38 else x


def near_test(op: str, a: X, b: X) -> str | None:
    """Real numbers of fixed digits are equal within half of the last one (Arg_comparator::compare_real_fixed)."""
    kinds = [a.type.kind, b.type.kind]
    if not {*kinds} & {"double", "float"} or kinds == ["float", "float"]:
        return None
    digits = shared_digits(a.type, b.type)
    if digits is None or not {*kinds} <= NUMBERS - {"null"}:
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
