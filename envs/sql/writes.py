"""Statements that change a database: on a copy that one episode owns."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from prosegym.envs.sql.compiler import Catalog, column_types, compile_query, compile_rows, walk
from prosegym.envs.sql.functions import to_text
from prosegym.envs.sql.parser import Col, Derived, Fault, Item, Lit, Select, Sub, _Parser
from prosegym.envs.sql.parser import Table as TableRef
from prosegym.envs.sql.schema import Column, Key, Table, cluster, single, stored

MOST_ROWS = 100_000
"""Rows that one statement may insert."""


DEFAULT = Lit(None, "null")
"""The word DEFAULT where a value may stand: this very object."""


@dataclass(frozen=True)
class Change:
    """A parsed statement.

    `verb` is insert, replace, update, delete, create, drop, alter add, alter drop or truncate.
    """

    verb: str
    table: str
    db: str | None = None
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    query: Any = None
    where: Any = None
    definitions: tuple[Column, ...] = ()
    keys: tuple[Key, ...] = ()
    quiet: bool = False
    """IF EXISTS, IF NOT EXISTS, IGNORE."""
    alias: str | None = None
    order: tuple[tuple[Any, bool], ...] = ()
    limit: int | None = None


def parse_change(text: str) -> Change | None:
    """The change that a statement asks for; None where it is of a kind that is not done here.

    Raises:
        SyntaxFault: it is not MySQL.
    """
    parser = _Changes(text, False)
    change = parser.change()
    if change is None:
        return None
    if parser.token.kind != "end":
        parser.fail()
    return change


_JOINS = ("join", "inner", "cross", "left", "right", "natural", "straight_join")


class _Changes(_Parser):
    def change(self) -> Change | None:
        verb = self.word("insert", "replace", "update", "delete", "create", "drop", "alter", "truncate")
        if verb in ("insert", "replace"):
            self.word("low_priority", "delayed", "high_priority")
            quiet = verb == "insert" and bool(self.word("ignore"))
            self.word("into")
            table, db = self.target()
            if self.word("set"):
                columns, values = self.assignments()
                change = Change(verb, table, db, columns, (values,), quiet=quiet)
            else:
                columns = (
                    self.names()
                    if self.is_op("(") and not self.tokens[self.at + 1].text.lower() == "select"
                    else ()
                )
                if self.word("values", "value"):
                    rows = [self.row_values()]
                    while self.op(","):
                        rows.append(self.row_values())
                    change = Change(verb, table, db, columns, tuple(rows), quiet=quiet)
                else:
                    change = Change(verb, table, db, columns, query=self.query(), quiet=quiet)
            if verb == "insert" and self.word("on"):
                self.unsupported("ON DUPLICATE KEY UPDATE")
            return change
        if verb == "update":
            self.word("low_priority")
            if self.word("ignore"):
                self.unsupported("UPDATE IGNORE")
            table, db = self.target()
            alias = self.table_alias()
            if self.is_op(",") or self.is_word(*_JOINS):
                self.unsupported("UPDATE of several tables")
            self.need("set")
            columns, values = self.assignments()
            where, order, limit = self.chosen()
            return Change(
                verb, table, db, columns, (values,), None, where, alias=alias, order=order, limit=limit
            )
        if verb == "delete":
            self.word("low_priority")
            self.word("quick")
            self.word("ignore")  # for foreign keys, which are not enforced
            if self.is_name():
                self.unsupported("DELETE of several tables")
            self.need("from")
            table, db = self.target()
            alias = self.table_alias()
            if self.is_op(",") or self.is_word("using"):
                self.unsupported("DELETE of several tables")
            where, order, limit = self.chosen()
            return Change(verb, table, db, where=where, alias=alias, order=order, limit=limit)
        if verb == "truncate":
            self.word("table")
            return Change("truncate", *self.target())
        if verb == "drop" and self.word("table"):
            quiet = bool(self.word("if"))
            if quiet:
                self.need("exists")
            return Change("drop", *self.target(), quiet=quiet)
        if verb == "create" and self.word("table"):
            quiet = bool(self.word("if"))
            if quiet:
                self.need("not")
                self.need("exists")
            table, db = self.target()
            columns_, keys = self.definitions()
            while self.token.kind in ("word", "string") or self.is_op("="):
                self.at += 1  # table options
            return Change("create", table, db, definitions=tuple(columns_), keys=tuple(keys), quiet=quiet)
        if verb == "alter" and self.word("table"):
            table, db = self.target()
            if self.word("add"):
                self.word("column")
                column, _ = self.definition()
                return Change("alter add", table, db, definitions=(column,))
            if self.word("drop"):
                self.word("column")
                return Change("alter drop", table, db, (self.name(),))
        return None

    def target(self) -> tuple[str, str | None]:
        first = self.name()
        second = self.name(True) if self.op(".") else None
        return (second, first) if second else (first, None)

    def unsupported(self, what: str) -> NoReturn:
        raise Fault(f"This version of MySQL doesn't yet support '{what}'")

    def table_alias(self) -> str | None:
        return self.name() if self.word("as") or self.is_name() else None

    def assignments(self) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """`column = value, ...`"""
        names: list[str] = []
        values: list[Any] = []
        while not names or self.op(","):
            names.append(self.name())
            if self.op("."):
                names[-1] = self.name(True)
            self.need_op("=")
            values.append(self.value())
        return tuple(names), tuple(values)

    def chosen(self) -> tuple[Any, tuple[tuple[Any, bool], ...], int | None]:
        """[WHERE ...] [ORDER BY ...] [LIMIT n]"""
        where = self.expr() if self.word("where") else None
        return where, self.order(), self.integer() if self.word("limit") else None

    def value(self) -> Any:
        if self.is_word("default") and self.tokens[self.at + 1].text != "(":
            self.at += 1
            return DEFAULT
        return self.expr()

    def row_values(self) -> tuple[Any, ...]:
        self.need_op("(")
        values = [self.value()]
        while self.op(","):
            values.append(self.value())
        self.need_op(")")
        return tuple(values)

    def definitions(self) -> tuple[list[Column], list[Key]]:
        self.need_op("(")
        columns: list[Column] = []
        keys: list[Key] = []
        while True:
            if self.word("primary"):
                self.need("key")
                keys.insert(0, Key("PRIMARY", self.names(), True))
            elif self.is_word("foreign", "constraint", "unique", "key", "index"):
                depth = 0
                while self.token.kind != "end" and (depth or not self.is_op(",", ")")):
                    depth += self.is_op("(") - self.is_op(")")
                    self.at += 1
            else:
                column, primary = self.definition()
                columns.append(column)
                if primary:
                    keys.insert(0, Key("PRIMARY", (column.name,), True))
            if not self.op(","):
                break
        self.need_op(")")
        if keys:
            named = {n.lower() for n in keys[0].columns}
            columns = [
                dataclasses.replace(c, nullable=False) if c.name.lower() in named else c for c in columns
            ]
        return columns, keys

    def definition(self) -> tuple[Column, bool]:
        name = self.name()
        if self.token.kind != "word":
            self.fail()
        kind = {"integer": "int", "bool": "tinyint(1)", "boolean": "tinyint(1)", "numeric": "decimal"}.get(
            self.token.text.lower(), self.token.text.lower()
        )
        self.at += 1
        if self.op("("):
            sizes = [str(self.integer())]
            while self.op(","):
                sizes.append(str(self.integer()))
            self.need_op(")")
            kind += "" if kind == "int" else f"({','.join(sizes)})"
        if self.word("unsigned", "zerofill"):  # the latter is the former, too
            kind += " unsigned"
        nullable, primary, default, extra = True, False, None, ""
        while self.token.kind != "end" and not self.is_op(",", ")", ";"):
            if self.word("not"):
                self.need("null")
                nullable = False
            elif self.word("primary"):
                self.need("key")
                primary = True
            elif self.word("auto_increment"):
                extra = "auto_increment"
            elif self.word("default"):
                value = self.unary()
                default = None if not isinstance(value, Lit) or value.value is None else str(value.value)
            else:
                self.at += 1
        return Column(name, kind, nullable and not primary, default, extra), primary


def apply(change: Change, catalog: Catalog, connection: Any, db: str) -> set[tuple[str, str]]:
    """Make the change in the catalogue's tables; gives the tables that are to be built anew.

    Raises:
        Fault: MySQL refuses it.
    """
    where = (change.db or db).lower()
    name = change.table.lower()
    tables = catalog.dbs.get(where)
    if tables is None:
        raise Fault(f"Unknown database '{where}'")
    if where == "information_schema":
        raise Fault("Access denied for user 'admin'@'%' to database 'information_schema'")
    if change.verb == "create":
        if name in tables:
            if change.quiet:
                return set()
            raise Fault(f"Table '{name}' already exists")
        options = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci"
        tables[name] = Table(where, name, list(change.definitions), list(change.keys), [], options)
        return {(where, name)}
    if name not in tables:
        if change.verb == "drop" and change.quiet:
            return set()
        raise Fault(
            f"Unknown table '{where}.{name}'"
            if change.verb == "drop"
            else f"Table '{where}.{name}' doesn't exist"
        )
    table = tables[name]
    if change.verb == "drop":
        del tables[name]
        return {(where, name)}
    columns = [c.name.lower() for c in table.columns]
    rows = list(table.rows)
    if change.verb == "truncate":
        rows = []
    elif change.verb == "alter add":
        column = change.definitions[0]
        if column.name.lower() in columns:
            raise Fault(f"Duplicate column name '{column.name}'")
        filler = (
            None
            if column.nullable
            else _stored(column.default or ("" if column.kind == "str" else "0"), column)
        )
        table.columns.append(column)
        rows = [(*row, filler) for row in rows]
    elif change.verb == "alter drop":
        gone = change.columns[0].lower()
        if gone not in columns:
            raise Fault(f"Can't DROP '{change.columns[0]}'; check that column/key exists")
        at = columns.index(gone)
        del table.columns[at]
        table.keys = [k for k in table.keys if gone not in (c.lower() for c in k.columns)]
        rows = [row[:at] + row[at + 1 :] for row in rows]
    elif change.verb in ("insert", "replace"):
        fresh = _inserted(change, table, catalog, connection, db)
        rows = (
            _settled(table, rows, fresh, change) if change.verb == "replace" or change.quiet else rows + fresh
        )
    else:
        named = [c.lower() for c in change.columns]
        for column_name in named:
            if column_name not in columns:
                raise Fault(f"Unknown column '{column_name}' in 'field list'")
        values = change.rows[0] if change.rows else ()
        target = TableRef(change.table, change.alias, change.db)
        sql = compile_rows(catalog, db, target, values, change.where, change.order, change.limit)
        _check_target(change, where, db, (values, change.where, change.order))
        found = {number: new for number, *new in connection.execute(sql)}
        kept = []
        for number, row in enumerate(rows, start=1):
            if number not in found:
                kept.append(row)
            elif change.verb == "update":
                line = list(row)
                for column_name, said, value in zip(named, values, found[number], strict=True):
                    at = columns.index(column_name)
                    column = table.columns[at]
                    line[at] = _checked(_default(column) if said is DEFAULT else value, column)
                kept.append(tuple(line))
        rows = kept
    _unique(table, rows)
    table.rows = rows
    cluster(table)
    return {(where, name)}


def _inserted(
    change: Change, table: Table, catalog: Catalog, connection: Any, db: str
) -> list[tuple[Any, ...]]:
    columns = [c.name.lower() for c in table.columns]
    named = [c.lower() for c in change.columns] or columns
    for name in named:
        if name not in columns:
            raise Fault(f"Unknown column '{name}' in 'field list'")
    for at, name in enumerate(named):
        if name in named[:at]:
            raise Fault(f"Column '{table.columns[columns.index(name)].name}' specified twice")
    if change.query is not None:
        cursor = connection.execute(compile_query(change.query, catalog, db, writes=True).sql)
        given = [list(r) for r in cursor.fetchmany(MOST_ROWS + 1)]
        if len(given) > MOST_ROWS:
            raise Fault("Query execution was interrupted, maximum result size exceeded")
        widths = {len(r) for r in given}
    else:
        given = []
        for values in change.rows:
            for node in walk(values, lambda n: isinstance(n, Sub)):
                if isinstance(node, Col) and node.table is not None:
                    raise Fault(f"Unknown column '{node.written}' in 'field list'")
            items = tuple(Item(v, None, "") for v in values)
            sql = compile_query(Select(items), catalog, db, writes=True).sql
            _check_target(change, table.db, db, values)
            given.append(list(connection.execute(sql).fetchone()))
        widths = {len(r) for r in given}
    if widths - {len(named)}:
        raise Fault("Column count doesn't match value count at row 1")
    counter = [i for i, c in enumerate(table.columns) if c.extra == "auto_increment"]
    highest = max((row[counter[0]] or 0 for row in table.rows), default=0) if counter else 0
    out = []
    for number, line in enumerate(given):
        said = dict(zip(named, line, strict=True))
        for name, written in zip(named, change.rows[number] if change.rows else (), strict=False):
            if written is DEFAULT:
                del said[name]
        row = []
        for i, column in enumerate(table.columns):
            value = said.get(column.name.lower())
            if i in counter and value is None:
                highest += 1
                value = highest
            elif column.name.lower() not in said:
                value = _default(column)
            row.append(_checked(value, column))
            if i in counter:
                highest = max(highest, row[i])
        out.append(tuple(row))
    return out


def _default(column: Column) -> Any:
    if column.default is None and not column.nullable:
        raise Fault(f"Field '{column.name}' doesn't have a default value")
    return column.default


def _check_target(change: Change, where: str, db: str, exprs: Any) -> None:
    """Whether a subquery reads the table that is written, other than through a derived table or CTE."""
    for node in walk(exprs, lambda n: isinstance(n, Derived) or bool(getattr(n, "ctes", ()))):
        if not isinstance(node, TableRef) or (node.db or db).lower() != where:
            continue
        if node.name.lower() == change.table.lower():
            name = change.alias or change.table
            raise Fault(f"You can't specify target table '{name}' for update in FROM clause")


def _settled(
    table: Table, rows: list[tuple[Any, ...]], fresh: list[tuple[Any, ...]], change: Change
) -> list[tuple[Any, ...]]:
    """The rows with the fresh ones.

    Of two that are equal in a unique key REPLACE keeps the newer one, INSERT IGNORE the older.
    """
    names = [c.name.lower() for c in table.columns]
    keys = [[names.index(c.lower()) for c in key.columns] for key in table.keys if key.unique]

    def marks(row: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return [(i, *value) for i, at in enumerate(keys) if None not in (value := [row[j] for j in at])]

    kept = dict(enumerate(rows))
    holders = {mark: number for number, row in kept.items() for mark in marks(row)}
    for number, row in enumerate(fresh, start=len(rows)):
        clashes = {holders[mark] for mark in marks(row) if mark in holders}
        if clashes and change.verb == "insert":
            continue
        for clash in clashes:
            for mark in marks(kept.pop(clash)):
                del holders[mark]
        kept[number] = row
        holders.update(dict.fromkeys(marks(row), number))
    return list(kept.values())


def _checked(value: Any, column: Column) -> Any:
    if value is None:
        if not column.nullable:
            raise Fault(f"Column '{column.name}' cannot be null")
        return None
    return _stored(value, column)


BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "integer": 32}


def _stored(value: Any, column: Column) -> Any:
    """A value as its column keeps it."""
    kind = column.kind
    try:
        if kind == "int":
            exact = re.fullmatch("[+-]?[0-9]{1,20}", str(value))  # more digits than a float has
            number = int(value) if exact else round(float(value))
            bits = BITS.get(column.base, 64)
            unsigned = "unsigned" in column.type
            low, high = (0, 1 << bits) if unsigned else (-1 << bits - 1, 1 << bits - 1)
            if not low <= number < min(high, 1 << 63):  # SQLite's integers end at 2^63
                raise Fault(f"Out of range value for column '{column.name}' at row 1")
            return number
        if kind == "float":
            return single(float(value))
        if kind in ("double", "dec"):
            return round(float(value), column.scale) if column.scale is not None else float(value)
    except (ValueError, OverflowError):
        what = "integer" if kind == "int" else "decimal" if kind == "dec" else "double"
        raise Fault(f"Incorrect {what} value: '{value}' for column '{column.name}' at row 1") from None
    if kind in ("date", "datetime"):
        found = stored(str(value), kind)
        if found is None:
            raise Fault(f"Incorrect {kind} value: '{value}' for column '{column.name}' at row 1")
        return found[:10] if kind == "date" else found
    text = (
        value
        if isinstance(value, str)
        else to_text(value, "double" if isinstance(value, float) else "int", None)
    )
    width = re.search(r"char\((\d+)\)", column.type)
    if width and len(text) > int(width[1]):
        raise Fault(f"Data too long for column '{column.name}' at row 1")
    return text


def _unique(table: Table, rows: list[tuple[Any, ...]]) -> None:
    names = [c.name.lower() for c in table.columns]
    for key in table.keys:
        if key.unique:
            at = [names.index(c.lower()) for c in key.columns]
            seen = set()
            for row in rows:
                value = tuple(row[i] for i in at)
                if None in value:
                    continue
                if value in seen:
                    shown = "-".join(str(v) for v in value)
                    raise Fault(f"Duplicate entry '{shown}' for key '{table.name}.{key.name}'")
                seen.add(value)


def copy_of(table: Table) -> Table:
    """A table of the same content that can be changed alone."""
    return dataclasses.replace(
        table, columns=list(table.columns), keys=list(table.keys), rows=list(table.rows)
    )


__all__ = ["Change", "apply", "column_types", "copy_of", "parse_change"]
