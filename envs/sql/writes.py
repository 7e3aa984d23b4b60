"""Statements that change a database: on a copy that one episode owns."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, NoReturn

from prosegym.envs.sql.compiler import NEW_ROW, compile_query, compile_rows, compile_values
from prosegym.envs.sql.functions import NOW, rounded, to_text
from prosegym.envs.sql.names import Catalog, column_types
from prosegym.envs.sql.parser import _Parser
from prosegym.envs.sql.schema import INTEGERS, TEXTS, Column, Key, Table, cluster, fold, single, stored
from prosegym.envs.sql.sorting import sorted_rows
from prosegym.envs.sql.tree import Col, Derived, Fault, Func, Item, Lit, Op, Select, Sub, walk
from prosegym.envs.sql.tree import Table as TableRef
from prosegym.envs.sql.typed import Compiled, T, exact

Row = tuple[Any, ...]
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
    more: tuple[tuple[str, str | None], ...] = ()
    """The other tables of DROP TABLE."""
    updates: tuple[tuple[str, ...], tuple[Any, ...]] = ((), ())
    """ON DUPLICATE KEY UPDATE: columns and their values."""
    new: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """What the new row is called there, and its columns where they have other names."""
    like: tuple[str, str | None] | None = None
    """The table that CREATE TABLE copies."""
    after: str | None = None
    """The column after which ALTER TABLE adds one; empty where it is to be the first."""


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
                columns, values = self.assignments(table)
                change = Change(verb, table, db, columns, (values,), quiet=quiet)
            else:
                follows = self.tokens[self.at + 1].text.lower() if self.is_op("(") else "select"
                columns = self.names() if follows not in ("select", ")") else ()
                self.at += 2 * (follows == ")")
                if self.word("values", "value"):
                    rows = [self.row_values()]
                    while self.op(","):
                        rows.append(self.row_values())
                    change = Change(verb, table, db, columns, tuple(rows), quiet=quiet)
                else:
                    change = Change(verb, table, db, columns, query=self.query(), quiet=quiet)
            if verb == "insert" and change.query is None and self.word("as"):
                called = self.name()
                change.new[called] = self.names() if self.is_op("(") else ()
            if verb == "insert" and self.word("on"):
                for word in ("duplicate", "key", "update"):
                    self.need(word)
                change = dataclasses.replace(change, updates=self.assignments(table))
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
            columns, values = self.assignments(alias or table)
            where, order, limit = self.chosen()
            return Change(
                verb, table, db, columns, (values,), None, where, alias=alias, order=order, limit=limit
            )
        if verb == "delete":
            self.word("low_priority")
            self.word("quick")
            self.word("ignore")  # for foreign keys, which are not enforced
            if self.is_name():
                self.target()
                if self.token.kind == "end" or not self.op(","):
                    self.need("from")
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
            targets = [self.target()]
            while self.op(","):
                targets.append(self.target())
            return Change("drop", *targets[0], quiet=quiet, more=tuple(targets[1:]))
        if verb == "create" and self.word("table"):
            quiet = bool(self.word("if"))
            if quiet:
                self.need("not")
                self.need("exists")
            table, db = self.target()
            follows = self.tokens[self.at + 1].text.lower() if self.is_op("(") else ""
            if self.is_word("like") or follows == "like":
                self.at += 1 + (follows == "like")
                change = Change("create", table, db, quiet=quiet, like=self.target())
                if follows:
                    self.need_op(")")
                return change
            queries = ("as", "select", "with", "table", "values")
            defines = self.token.kind != "end" and follows not in queries and not self.is_word(*queries)
            columns_, keys = self.definitions() if defines else ([], [])
            while self.token.kind in ("word", "string") and not self.is_word(*queries) or self.is_op("="):
                self.at += 1  # table options
            query = self.query() if self.word("as") or self.token.kind != "end" else None
            return Change("create", table, db, (), (), query, None, tuple(columns_), tuple(keys), quiet=quiet)
        if verb == "alter" and self.word("table"):
            table, db = self.target()
            if self.word("add"):
                self.word("column")
                column, keys = self.definition()
                after = "" if self.word("first") else self.name() if self.word("after") else None
                return Change("alter add", table, db, definitions=(column,), keys=tuple(keys), after=after)
            if self.word("drop"):
                self.word("column")
                return Change("alter drop", table, db, (self.name(),))
        return None

    def call(self, name: str) -> Any:
        found = super().call(name)
        if name == "values" and len(found.args) == 1 and isinstance(found.args[0], Col):
            return Col(found.args[0].name, NEW_ROW)
        return found

    def target(self) -> tuple[str, str | None]:
        first = self.name()
        second = self.name(True) if self.op(".") else None
        return (second, first) if second else (first, None)

    def unsupported(self, what: str) -> NoReturn:
        raise Fault(f"This version of MySQL doesn't yet support '{what}'")

    def table_alias(self) -> str | None:
        return self.name() if self.word("as") or self.is_name() else None

    def assignments(self, table: str) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """`column = value, ...`"""
        names: list[str] = []
        values: list[Any] = []
        while not names or self.op(","):
            names.append(self.name())
            if self.op("."):
                owner, names[-1] = names[-1], self.name(True)
                if owner.lower() != table.lower():
                    raise Fault(f"Unknown column '{owner}.{names[-1]}' in 'field list'")
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
        values = [self.value()] if not self.is_op(")") else []
        while values and self.op(","):
            values.append(self.value())
        self.need_op(")")
        return tuple(values)

    def definitions(self) -> tuple[list[Column], list[Key]]:
        self.need_op("(")
        columns: list[Column] = []
        keys: list[Key] = []
        while True:
            if self.word("constraint") and not self.is_word("primary", "foreign", "unique", "check"):
                self.name()
            if self.word("foreign", "check"):  # neither is enforced
                depth = 0
                while self.token.kind != "end" and (depth or not self.is_op(",", ")")):
                    depth += self.is_op("(") - self.is_op(")")
                    self.at += 1
            elif kind := self.word("primary", "unique", "key", "index"):
                if kind in ("primary", "unique"):
                    self.need("key") if kind == "primary" else self.word("key", "index")
                name = self.name() if self.is_name() else ""
                named = self.names()
                keys.append(Key("PRIMARY" if kind == "primary" else name or named[0], named, kind[0] in "pu"))
            else:
                column, own = self.definition()
                columns.append(column)
                keys += own
            if not self.op(","):
                break
        self.need_op(")")
        return columns, keys

    def definition(self) -> tuple[Column, list[Key]]:
        """A column and the keys that it is alone."""
        name = self.name()
        if self.token.kind != "word":
            self.fail()
        kind = {"integer": "int", "bool": "tinyint(1)", "boolean": "tinyint(1)", "numeric": "decimal"}.get(
            self.token.text.lower(), self.token.text.lower()
        )
        if kind.partition("(")[0] not in _TYPES:
            self.fail()
        self.at += 1
        if self.op("("):
            sizes = [self.string() if kind in ("enum", "set") else str(self.integer())]
            while self.op(","):
                sizes.append(self.string() if kind in ("enum", "set") else str(self.integer()))
            self.need_op(")")
            kind += "" if kind == "int" else f"({','.join(sizes)})"
        elif kind in ("varchar", "varbinary", "enum", "set"):
            self.fail()
        kind = {"decimal": "decimal(10,0)", "char": "char(1)"}.get(kind, kind)
        if self.word("unsigned", "zerofill"):  # the latter is the former, too
            kind += " unsigned"
        column, said, keys = Column(name, kind), False, []
        while (
            self.token.kind != "end" and not self.is_op(",", ")", ";") and not self.is_word("first", "after")
        ):
            if self.word("not"):
                self.need("null")
                column = dataclasses.replace(column, nullable=False)
            elif word := self.word("primary", "unique"):
                self.need("key") if word == "primary" else self.word("key")
                keys.append(Key("PRIMARY" if word == "primary" else name, (name,), True))
            elif self.word("auto_increment"):
                column = dataclasses.replace(column, extra="auto_increment")
            elif self.word("default"):
                said, value = True, self.unary()
                if isinstance(value, Func) and value.name in ("now", "current_timestamp"):
                    column = dataclasses.replace(
                        column, default="CURRENT_TIMESTAMP", extra="DEFAULT_GENERATED"
                    )
                elif isinstance(value, Lit):
                    column = dataclasses.replace(column, default=value.value)
                elif isinstance(value, Op) and value.name == "NEG" and isinstance(value.args[0], Lit):
                    column = dataclasses.replace(column, default=f"-{value.args[0].value}")
            else:
                self.at += 1
        if said and not column.extra:
            column = dataclasses.replace(column, default=_as_default(column))
        return column, keys


_TYPES = {*INTEGERS, *TEXTS, *"decimal float double real date datetime timestamp time".split()} | {
    *"binary varbinary blob tinyblob mediumblob longblob".split()
}


def _as_default(column: Column) -> str | None:
    """A column's default as DESCRIBE shows it."""
    if column.default is None:
        if not column.nullable:
            raise Fault(f"Invalid default value for '{column.name}'")
        return None
    if column.base.endswith(("text", "blob")) or column.base == "json":
        raise Fault(f"BLOB, TEXT, GEOMETRY or JSON column '{column.name}' can't have a default value")
    try:
        value = _stored(column.default, column)
    except Fault:
        raise Fault(f"Invalid default value for '{column.name}'") from None
    return _as_text(value, column)


def _created(change: Change, where: str) -> Table:
    """The table of a CREATE TABLE."""
    if not change.definitions:
        raise Fault("A table must have at least one visible column.")
    seen: set[str] = set()
    for column in change.definitions:
        if column.name.lower() in seen:
            raise Fault(f"Duplicate column name '{column.name}'")
        seen.add(column.name.lower())
    keys = sorted(change.keys, key=lambda key: (key.name != "PRIMARY", not key.unique))
    for i, key in enumerate(keys):
        if i and key.name == "PRIMARY":
            raise Fault("Multiple primary key defined")
        for name in key.columns:
            if name.lower() not in seen:
                raise Fault(f"Key column '{name}' doesn't exist in table")
    counted = [c.name.lower() for c in change.definitions if c.extra == "auto_increment"]
    if len(counted) > 1 or counted and counted[0] not in (key.columns[0].lower() for key in keys):
        raise Fault(
            "Incorrect table definition; there can be only one auto column and it must be defined as a key"
        )
    primary = {n.lower() for n in keys[0].columns} if keys and keys[0].name == "PRIMARY" else set()
    columns = [
        dataclasses.replace(
            c, nullable=c.nullable and c.name.lower() not in primary and c.name.lower() not in counted
        )
        for c in change.definitions
    ]
    options = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci"
    return Table(where, change.table.lower(), columns, keys, [], options)


_BY_KIND = {
    "int": "bigint",
    "double": "double",
    "float": "float",
    "date": "date",
    "datetime": "datetime",
    "time": "time",
}


def _filled(
    change: Change, where: str, selected: Compiled, catalog: Catalog, connection: Any, db: str
) -> Table:
    """The table of a CREATE TABLE ... SELECT, with its rows.

    What is computed has a column that holds every value of its kind.
    """
    own = [column.name.lower() for column in change.definitions]
    columns = list(change.definitions)
    for name, kind, column in zip(
        selected.names, selected.types, selected.columns or (None,) * len(selected.types), strict=True
    ):
        if name.lower() in own:
            continue
        if column is None:
            wide = (
                f"decimal(65,{kind.scale})"
                if kind.kind in ("dec", "shown")
                else _BY_KIND.get(kind.kind, "text")
            )
            column = Column(name, wide)
        elif column.extra == "auto_increment":
            column = dataclasses.replace(column, extra="", default="0")
        columns.append(dataclasses.replace(column, name=name))
    table = _created(dataclasses.replace(change, definitions=tuple(columns)), where)
    rows = _inserted(dataclasses.replace(change, columns=selected.names), table, catalog, connection, db)
    held = _Held(table)
    for row in rows:
        held.add(row)
        table.rows.append(row)
    cluster(table)
    return table


def _named(name: tuple[str, str | None], catalog: Catalog, db: str) -> Table:
    """The table of that name and database."""
    where = (name[1] or db).lower()
    if where not in catalog.dbs:
        raise Fault(f"Unknown database '{where}'")
    if name[0].lower() not in catalog.dbs[where]:
        raise Fault(f"Table '{where}.{name[0].lower()}' doesn't exist")
    return catalog.dbs[where][name[0].lower()]


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
        # What it is to be made of is looked for first.
        copied = _named(change.like, catalog, db) if change.like is not None else None
        selected = compile_query(change.query, catalog, db, writes=True) if change.query is not None else None
        if name in tables:
            if change.quiet:
                return set()
            raise Fault(f"Table '{name}' already exists")
        if copied is not None:
            options = re.sub(r"AUTO_INCREMENT=\d+ ", "", copied.options)
            tables[name] = dataclasses.replace(
                copy_of(copied), db=where, name=name, rows=[], foreign=[], options=options, counter=0
            )
        elif selected is not None:
            tables[name] = _filled(change, where, selected, catalog, connection, db)
        else:
            tables[name] = _created(change, where)
        return {(where, name)}
    if change.verb == "drop":
        return _dropped(change, catalog, db)
    if name not in tables:
        raise Fault(f"Table '{where}.{name}' doesn't exist")
    table = copy_of(tables[name])
    columns = [c.name.lower() for c in table.columns]
    rows = list(table.rows)
    if change.verb == "truncate":
        rows, table.counter = [], 0
    elif change.verb == "alter add":
        column = change.definitions[0]
        if column.name.lower() in columns:
            raise Fault(f"Duplicate column name '{column.name}'")
        if change.after and change.after.lower() not in columns:
            raise Fault(f"Unknown column '{change.after}' in '{name}'")
        at = len(columns)
        if change.after is not None:
            at = columns.index(change.after.lower()) + 1 if change.after else 0
        filler = _filler(column) if rows else None
        table.columns.insert(at, column)
        table.keys += change.keys
        rows = [(*row[:at], filler, *row[at:]) for row in rows]
    elif change.verb == "alter drop":
        gone = change.columns[0].lower()
        if gone not in columns:
            raise Fault(f"Can't DROP '{change.columns[0]}'; check that column/key exists")
        at = columns.index(gone)
        del table.columns[at]
        table.keys = [left for key in table.keys if (left := _without(key, gone)).columns]
        rows = [row[:at] + row[at + 1 :] for row in rows]
    elif change.verb in ("insert", "replace"):
        fresh = _inserted(change, table, catalog, connection, db)
        if change.verb == "replace" or change.quiet or change.updates[0]:
            update = _duplicates(change, table, catalog, connection, db)
            rows = _settled(table, rows, list(fresh), change, update)
        else:
            held = _Held(table)
            rows = []
            for row in chain(table.rows, fresh):
                held.add(row)
                rows.append(row)
    else:
        named = [c.lower() for c in change.columns]
        values = change.rows[0] if change.rows else ()
        target = TableRef(change.table, change.alias, change.db)
        for column_name in change.columns:
            if column_name.lower() not in columns:
                compile_rows(catalog, db, target, (), change.where)  # what is wrong in WHERE is said first
                raise Fault(f"Unknown column '{column_name}' in 'field list'")
        sql = compile_rows(catalog, db, target, values, change.where, change.order, change.limit)
        _check_target(change, where, db, (values, change.where, change.order))
        value = None
        if any(_reads(said, named[:at]) for at, said in enumerate(values)):
            value = _computed(connection, compile_values(catalog, db, target, values, {}))
            sql = compile_rows(catalog, db, target, (), change.where, change.order, change.limit)
        found = {number: new for number, *new in connection.execute(sql)}
        if change.verb == "delete":
            _count(table)
            rows = [row for number, row in enumerate(rows, start=1) if number not in found]
        else:
            rows = _updated(table, rows, found, named, values, value)
    if change.verb in ("alter add", "alter drop"):
        _Held(table, rows)  # a key that does not tell them apart is refused
    table.rows = rows
    cluster(table)
    tables[name] = table
    return {(where, name)}


def _without(key: Key, gone: str) -> Key:
    kept = [i for i, name in enumerate(key.columns) if name.lower() != gone]
    lengths = tuple(key.lengths[i] for i in kept) if key.lengths else ()
    return dataclasses.replace(key, columns=tuple(key.columns[i] for i in kept), lengths=lengths)


def _reads(value: Any, names: list[str]) -> bool:
    """Whether a value names one of these columns."""
    return any(isinstance(node, Col) and node.name.lower() in names for node in walk(value))


Value = Callable[[int, list[Any]], Any]
"""The value for an assignment by its number, from the row as it is then."""


def _computed(connection: Any, steps: list[str], new: Row = ()) -> Value:
    """Values by the SQL of `compile_values`."""
    return lambda at, line: connection.execute(steps[at], [*line, *new]).fetchone()[0]


def _known(given: list[Any]) -> Value:
    return lambda at, line: given[at]


def _updated(
    table: Table,
    rows: list[Row],
    found: dict[int, list[Any]],
    named: list[str],
    values: tuple[Any, ...],
    value: Value | None,
) -> list[Row]:
    """The rows, those found with new values in the named columns: one after the other."""
    held = _Held(table, rows)
    for done, (number, given) in enumerate(found.items(), start=1):
        row = rows[number - 1]
        rows[number - 1] = _assigned(table, row, named, values, value or _known(given), done)
        held.remove(row)
        held.add(rows[number - 1])
    return rows


def _assigned(
    table: Table, row: Row, named: list[str], values: tuple[Any, ...], value: Value, number: int
) -> Row:
    """The row with new values in the named columns, from left to right; `number` is what messages count."""
    places = [c.name.lower() for c in table.columns]
    line = list(row)
    for at, (name, said) in enumerate(zip(named, values, strict=True)):
        column = table.columns[places.index(name)]
        new = _default(column) if said is DEFAULT else value(at, line)
        line[places.index(name)] = _checked(new, column, number)
    return tuple(line)


def _dropped(change: Change, catalog: Catalog, db: str) -> set[tuple[str, str]]:
    targets = [
        ((where or db).lower(), name.lower()) for name, where in ((change.table, change.db), *change.more)
    ]
    for at, (_, name) in enumerate(targets):
        if targets[at] in targets[:at]:
            raise Fault(f"Not unique table/alias: '{name}'")
    missing = [f"{where}.{name}" for where, name in targets if name not in catalog.dbs.get(where, {})]
    if missing and not change.quiet:
        raise Fault(f"Unknown table '{','.join(missing)}'")
    gone = {(where, name) for where, name in targets if name in catalog.dbs.get(where, {})}
    for where, name in gone:
        del catalog.dbs[where][name]
    return gone


def _count(table: Table) -> int | None:
    """The place of the column that counts, if there is one; the counter knows its numbers afterwards."""
    for at, column in enumerate(table.columns):
        if column.extra == "auto_increment":
            table.counter = max([table.counter, *(row[at] or 0 for row in table.rows)])
            return at
    return None


def _filler(column: Column) -> Any:
    """What rows have in a column that is added."""
    if column.default is not None:
        return _stored(_default(column), column)
    if column.nullable:
        return None
    if column.kind in ("date", "datetime"):
        zero = "0000-00-00" + " 00:00:00" * (column.kind == "datetime")
        raise Fault(f"Incorrect {column.kind} value: '{zero}' for column '{column.name}' at row 1")
    return "" if column.kind == "str" else _stored("0", column)


def _inserted(
    change: Change, table: Table, catalog: Catalog, connection: Any, db: str
) -> Iterator[tuple[Any, ...]]:
    columns = [c.name.lower() for c in table.columns]
    for name in change.columns:
        if name.lower() not in columns:
            raise Fault(f"Unknown column '{name}' in 'field list'")
    named = [c.lower() for c in change.columns] or columns
    for at, name in enumerate(named):
        if name in named[:at]:
            raise Fault(f"Column '{table.columns[columns.index(name)].name}' specified twice")
    if change.query is not None:
        compiled = compile_query(change.query, catalog, db, writes=True)
        found = connection.execute(compiled.sql).fetchmany(MOST_ROWS + 1)
        if len(found) > MOST_ROWS:
            raise Fault("Query execution was interrupted, maximum result size exceeded")
        given = [_texts(row, compiled.types) for row in sorted_rows(compiled, found)]
        if len(compiled.types) != len(named):
            raise Fault("Column count doesn't match value count at row 1")
    else:
        given = []
        for number, values in enumerate(change.rows, start=1):
            if len(values) != len(named) and (values or change.columns):
                raise Fault(f"Column count doesn't match value count at row {number}")
            for node in walk(values, lambda n: isinstance(n, Sub)):
                if isinstance(node, Col) and node.table is not None:
                    raise Fault(f"Unknown column '{node.written}' in 'field list'")
            items = tuple(Item(v, None, "") for v in values)
            _check_target(change, table.db, db, values)
            if values:
                compiled = compile_query(Select(items), catalog, db, writes=True)
                given.append(_texts(connection.execute(compiled.sql).fetchone(), compiled.types))
            else:
                given.append([])
    counting = _count(table)
    for number, line in enumerate(given):
        said = dict(zip(named, line, strict=False))
        for name, written in zip(named, change.rows[number] if change.rows else (), strict=False):
            if written is DEFAULT:
                del said[name]
        row: list[Any] = [None] * len(columns)
        for i in sorted(range(len(columns)), key=lambda i: columns[i] not in said):  # noqa: B023
            value = said.get(columns[i])
            if i == counting and value in (None, 0):
                value = table.counter + 1
            elif columns[i] not in said:
                value = _default(table.columns[i])
            row[i] = _checked(value, table.columns[i], number + 1)
        if counting is not None:
            table.counter = max(table.counter, row[counting])
        yield tuple(row)


def _texts(row: Iterable[Any], types: Iterable[T]) -> list[Any]:
    """Values with decimals as text: they are rounded otherwise than doubles."""
    return [
        to_text(v, "dec", t.scale) if exact(t) and v is not None else v
        for v, t in zip(row, types, strict=False)
    ]


def _default(column: Column) -> Any:
    if column.default is None and not column.nullable:
        raise Fault(f"Field '{column.name}' doesn't have a default value")
    return f"{NOW}" if column.extra == "DEFAULT_GENERATED" else column.default


def _check_target(change: Change, where: str, db: str, exprs: Any) -> None:
    """Whether a subquery reads the table that is written, other than through a derived table or CTE."""
    for node in walk(exprs, lambda n: isinstance(n, Derived) or bool(getattr(n, "ctes", ()))):
        if not isinstance(node, TableRef) or (node.db or db).lower() != where:
            continue
        if node.name.lower() == change.table.lower():
            name = change.alias or change.table
            raise Fault(f"You can't specify target table '{name}' for update in FROM clause")


def _duplicates(
    change: Change, table: Table, catalog: Catalog, connection: Any, db: str
) -> Callable[[Row, Row, int], Row]:
    """What ON DUPLICATE KEY UPDATE makes of a row and a new one that is equal to it in a key."""
    columns = [c.name.lower() for c in table.columns]
    names, values = change.updates
    named = [name.lower() for name in names]
    read = [n.name for n in walk(values) if isinstance(n, Col) and n.table == NEW_ROW]
    for name in (*names, *read):
        if name.lower() not in columns:
            raise Fault(f"Unknown column '{name}' in 'field list'")
    new = {NEW_ROW: tuple(columns)}
    for alias, written in change.new.items():
        called = dict(zip(change.columns or columns, written, strict=False))
        new[alias] = tuple(called.get(name, name) for name in columns)
    steps = compile_values(catalog, db, TableRef(change.table, None, change.db), values, new)
    _check_target(change, table.db, db, values)
    return lambda row, fresh, number: _assigned(
        table, row, named, values, _computed(connection, steps, fresh), number
    )


def _settled(
    table: Table, rows: list[Row], fresh: list[Row], change: Change, update: Callable[[Row, Row, int], Row]
) -> list[Row]:
    """The rows with the fresh ones.

    Of two that are equal in a unique key REPLACE keeps the newer one, INSERT IGNORE the older, which ON
    DUPLICATE KEY UPDATE changes.
    """
    held = _Held(table, rows)
    kept = dict(enumerate(rows))
    for number, row in enumerate(fresh, start=len(rows)):
        clashes = held.holders(row)
        if clashes and change.updates[0]:
            held.remove(kept[clashes[0]])
            kept[clashes[0]] = update(kept[clashes[0]], row, number - len(rows) + 1)
            held.add(kept[clashes[0]], clashes[0])
        elif not clashes or change.verb == "replace":
            for clash in clashes:
                held.remove(kept.pop(clash))
            kept[number] = row
            held.add(row, number)
    return list(kept.values())


def _checked(value: Any, column: Column, row: int) -> Any:
    if value is None:
        if not column.nullable:
            raise Fault(f"Column '{column.name}' cannot be null")
        return None
    return _stored(value, column, row)


BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "integer": 32}


def _stored(value: Any, column: Column, row: int = 1) -> Any:
    """A value as its column keeps it."""
    kind = column.kind
    place = f"for column '{column.name}' at row {row}"
    try:
        if kind == "int":
            digits = re.fullmatch("[+-]?[0-9]{1,20}", str(value))  # more than a float has
            number = (
                round(value)
                if isinstance(value, float)
                else int(value if digits else rounded(float(value), 0))
            )
            bits = BITS.get(column.base, 64)
            unsigned = "unsigned" in column.type
            low, high = (0, 1 << bits) if unsigned else (-1 << bits - 1, 1 << bits - 1)
            if not low <= number < min(high, 1 << 63):  # SQLite's integers end at 2^63
                raise Fault(f"Out of range value {place}")
            return number
        if kind == "float":
            return single(float(value))
        if kind in ("double", "dec"):
            real = float(value) if column.scale is None else rounded(float(value), column.scale)
            sizes = re.search(r"\((\d+),(\d+)\)", column.type)
            if sizes and abs(real) >= 10 ** (int(sizes[1]) - int(sizes[2])):
                raise Fault(f"Out of range value {place}")
            return real
    except (ValueError, ArithmeticError):
        if kind in ("double", "float") or kind == "int" and re.match(r"\s*[+-]?\d", str(value)):
            raise Fault(f"Data truncated {place}") from None
        raise Fault(
            f"Incorrect {'integer' if kind == 'int' else 'decimal'} value: '{value}' {place}"
        ) from None
    if kind in ("date", "datetime"):
        found = stored(str(value), kind)
        if found is None:
            raise Fault(f"Incorrect {kind} value: '{value}' {place}")
        return found[:10] if kind == "date" else found
    text = (
        value
        if isinstance(value, str)
        else to_text(value, "double" if isinstance(value, float) else "int", None)
    )
    width = re.search(r"char\((\d+)\)", column.type)
    if width and len(text.rstrip(" ")) > int(width[1]):
        raise Fault(f"Data too long {place}")
    return text[: int(width[1])] if width else text


class _Held:
    """What rows hold in a table's unique keys; two that hold the same are a Fault."""

    def __init__(self, table: Table, rows: Iterable[tuple[Any, ...]] = ()) -> None:
        names = [c.name.lower() for c in table.columns]
        self.table = table
        self.keys = [
            (key, [names.index(c.lower()) for c in key.columns], key.lengths or (None,) * len(key.columns))
            for key in table.keys
            if key.unique
        ]
        self.values: dict[tuple[Any, ...], int] = {}
        """Each, and the number of the row that holds it."""
        for number, row in enumerate(rows):
            self.add(row, number)

    def marks(self, row: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """The row's value in each key in which it has one."""
        found = []
        for i, (_, places, lengths) in enumerate(self.keys):
            value = [row[at] for at in places]
            if None not in value:
                value = [
                    fold(v[:most]) if isinstance(v, str) else v
                    for v, most in zip(value, lengths, strict=True)
                ]
                found.append((i, *value))
        return found

    def holders(self, row: Row) -> list[int]:
        """The numbers of the rows that are equal to it in a key, in the keys' order."""
        return list(dict.fromkeys(self.values[mark] for mark in self.marks(row) if mark in self.values))

    def add(self, row: Row, number: int = 0) -> None:
        """Take the row in.

        Raises:
            Fault: another one is equal to it in a key.
        """
        for mark in self.marks(row):
            if mark in self.values:
                key, places, _ = self.keys[mark[0]]
                columns = [self.table.columns[at] for at in places]
                shown = "-".join(_as_text(row[at], c) for at, c in zip(places, columns, strict=True))
                raise Fault(f"Duplicate entry '{shown}' for key '{self.table.name}.{key.name}'")
            self.values[mark] = number

    def remove(self, row: Row) -> None:
        for mark in self.marks(row):
            del self.values[mark]


def _as_text(value: Any, column: Column) -> str:
    return to_text(value, column.kind, column.scale) if isinstance(value, float) else str(value)


def copy_of(table: Table) -> Table:
    """A table of the same content that can be changed alone."""
    return dataclasses.replace(
        table, columns=list(table.columns), keys=list(table.keys), rows=list(table.rows)
    )


__all__ = ["Change", "apply", "column_types", "copy_of", "parse_change"]
