"""A MySQL server's answers, given by SQLite in memory."""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

import datetime as dt
import math
import re
import sqlite3
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property
from typing import Any

from prosegym.envs.sql import functions, writes
from prosegym.envs.sql.compiler import Catalog, Compiled, T, column_types, compile_query
from prosegym.envs.sql.parser import Explain, Fault, Other, Select, Show, SyntaxFault, Union, Use, parse
from prosegym.envs.sql.schema import ORDINAL, Column, Key, Table, fold, order_key
from prosegym.envs.sql.sorting import filesort

STEPS = 20_000_000
"""SQLite virtual machine instructions that a statement may take; about a second."""
ROWS = 200_000
"""Rows that a statement may give."""
BYTES = 32 << 20
"""Characters of text that a statement's rows may hold."""
STATEMENT = 1 << 20
"""Longest statement, in characters."""
KEPT_ROWS = 1000
"""An answer of more rows is computed anew each time."""
_TICK = 10_000

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Answer:
    """What a statement gave: rows, or None where it gives none, or MySQL's refusal."""

    rows: Rows | None = None
    error: str | None = None
    db: str | None = None
    """The database that the session is in afterwards, where the statement changed it."""

    @cached_property
    def text(self) -> str:
        """As InterCode shows it."""
        return f"Error executing query: {self.error}" if self.error is not None else str(self.rows)

    @cached_property
    def row_texts(self) -> list[str]:
        """Each row as text: what answers are compared by."""
        return [str(row) for row in self.rows or ()]


class Server:
    """Databases in one SQLite connection; statements change nothing."""

    def __init__(
        self, dbs: dict[str, dict[str, Table]], *, uncounted: frozenset[str] = frozenset(), cache: int = 4096
    ) -> None:
        """Build every table.

        Args:
            dbs: {database: {table: Table}}, names lower case.
            uncounted: databases whose tables the optimizer takes to be empty, as a server does that has not yet
                gathered their statistics.
            cache: answers that are kept, those of up to `KEPT_ROWS` rows.
        """
        self.dbs = dict(dbs)
        for db in uncounted:
            for table in self.dbs.get(db, {}).values():
                table.counted = False
        self.dbs["information_schema"] = _information_schema(dbs)
        types = {
            (db, name): column_types(table)
            for db, tables in self.dbs.items()
            for name, table in tables.items()
        }
        self.catalog = Catalog(self.dbs, types)
        self.connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, cached_statements=512
        )
        self._fault: str | None = None
        functions.install(self.connection, self._set_fault, self._variable)
        for db, tables in self.dbs.items():
            for name, table in tables.items():
                self._build(db, name, table)
        self.connection.execute("PRAGMA query_only = 1")
        self._guard()
        self._answers: OrderedDict[tuple[str, str, bool], Answer] = OrderedDict()
        self._cache = cache

    def _build(self, db: str, name: str, table: Table) -> None:
        kinds = {"int": "INTEGER", "double": "REAL", "float": "REAL", "dec": "REAL"}
        columns = [f'"{c.name.lower()}" {kinds.get(c.kind, "TEXT")}' for c in table.columns]
        names = [c.name.lower() for c in table.columns]
        rows: Rows = table.rows
        for number, key in enumerate(table.keys):
            # The position of each row in each secondary index: see `planner`.
            if key.name != "PRIMARY":
                columns.append(f'"_k{number}" INTEGER')
                at = [names.index(c.lower()) for c in key.columns]
                order = sorted(range(len(rows)), key=lambda r: [order_key(table.rows[r][i]) for i in at])  # noqa: B023
                rank = {r: i for i, r in enumerate(order)}
                rows = [(*row, rank[r]) for r, row in enumerate(rows)]
        for place, column in enumerate(table.columns):
            # What texts are equal by, where that is not ASCII case folding: see `compiler`.
            if column.kind == "str" and not self.catalog.types[db, name][column.name.lower()][2].plain:
                columns.append(f'"{column.name.lower()}~" TEXT')
                rows = [(*row, None if row[place] is None else fold(row[place])) for row in rows]
        self.connection.execute(f'CREATE TABLE "{db}.{name}" ({", ".join(columns)})')
        marks = ", ".join("?" * len(columns))
        self.connection.execute("BEGIN")
        self.connection.executemany(f'INSERT INTO "{db}.{name}" VALUES ({marks})', rows)
        for number, key in enumerate(table.keys):
            if any(key.lengths):
                continue
            types = self.catalog.types[db, name]
            parts = (
                f'"{c}~"' if types[c][2].kind == "str" and not types[c][2].plain
                else f'"{c}" COLLATE NOCASE' if types[c][2].kind == "str" else f'"{c}"'
                for c in (column.lower() for column in key.columns)
            )  # fmt: skip
            if db != "information_schema":
                self.connection.execute(
                    f'CREATE INDEX "{db}.{name}.{number}" ON "{db}.{name}" ({", ".join(parts)})'
                )
        self.connection.execute("COMMIT")

    def _guard(self) -> None:
        allowed = {
            sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
        }  # fmt: skip
        forbidden = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}

        def authorize(action: int, one: str | None, two: str | None, *_: Any) -> int:
            if action not in allowed or (action == sqlite3.SQLITE_FUNCTION and two in forbidden):
                return sqlite3.SQLITE_DENY
            return sqlite3.SQLITE_OK

        self.connection.set_authorizer(authorize)
        if sys.version_info >= (3, 11):
            self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 27)

    def _set_fault(self, message: str) -> None:
        self._fault = message

    def _variable(self, name: str) -> Any:
        name = name.removeprefix("session.").removeprefix("global.")
        return VARIABLES.get(name)

    def run(self, statement: str, db: str, *, strict: bool = True) -> Answer:
        """The answer to one statement in the database `db`; never raises for what the statement says.

        With `strict=False` the statement may be of the kind that SQLite admits and MySQL refuses: see
        `parser.parse`, and columns that are neither grouped nor aggregated.
        """
        if len(statement) > STATEMENT:
            return Answer(error="Got a packet bigger than 'max_allowed_packet' bytes")
        key = (statement, db, strict)
        answer = self._answers.get(key)
        if answer is None:
            compiled = self._prepare(statement, db, strict)
            answer = compiled if isinstance(compiled, Answer) else self._execute(compiled)
            # Statements change nothing, so an answer stays right; RAND() is as good a number the second time.
            if answer.rows is None or len(answer.rows) <= KEPT_ROWS:
                self._answers[key] = answer
                while len(self._answers) > self._cache:
                    self._answers.popitem(last=False)
        else:
            self._answers.move_to_end(key)
        return answer

    def _prepare(self, statement: str, db: str, strict: bool) -> Compiled | Answer:
        try:
            tree = parse(statement, lenient=not strict)
            if isinstance(tree, (Select, Union)):
                return compile_query(tree, self.catalog, db, strict)
            if isinstance(tree, Use):
                if tree.db.lower() not in self.dbs:
                    return Answer(error=f"Unknown database '{tree.db}'")
                return Answer(db=tree.db.lower())
            if isinstance(tree, Show):
                return Answer(self._show(tree, db))
            if isinstance(tree, Explain):
                compile_query(tree.query, self.catalog, db, strict)
                return Answer(_explained(tree.query))
            assert isinstance(tree, Other)
            return self._other(tree, db)
        except SyntaxFault as fault:
            return Answer(
                error="You have an error in your SQL syntax; check the manual that corresponds to your MySQL server "
                f"version for the right syntax to use near '{fault.near}' at line {fault.line}"
            )
        except Fault as fault:
            return Answer(error=str(fault))
        except RecursionError:
            return Answer(error="Thread stack overrun")

    def writable(self) -> Server:
        """A copy of the same databases whose statements may write; this one does not change."""
        copy = Server.__new__(Server)
        copy.dbs = {db: {n: writes.copy_of(t) for n, t in tables.items()} for db, tables in self.dbs.items()}
        copy.catalog = Catalog(copy.dbs, dict(self.catalog.types))
        copy.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.connection.set_authorizer(None)
        try:
            self.connection.backup(copy.connection)
        finally:
            self._guard()
        copy._fault = None
        functions.install(copy.connection, copy._set_fault, copy._variable)
        copy._guard()
        copy._answers = OrderedDict()
        copy._cache = 0
        copy._writes = True
        return copy

    _writes = False

    def _change(self, statement: str, db: str) -> Answer | None:
        change = writes.parse_change(statement)
        if change is None:
            return None
        self._fault = None
        self._limit_steps()
        try:
            touched = writes.apply(change, self.catalog, self.connection, db)
        except sqlite3.Error as error:
            if self._fault is not None:
                return Answer(error=self._fault)
            if "interrupted" in str(error):
                return Answer(
                    error="Query execution was interrupted, maximum statement execution time exceeded"
                )
            return Answer(error=f"{error}")
        finally:
            self.connection.set_progress_handler(None, 0)
        self.connection.set_authorizer(None)
        try:
            for where, name in touched:
                self.connection.execute(f'DROP TABLE IF EXISTS "{where}.{name}"')
                if name in self.dbs[where]:
                    self.catalog.types[where, name] = column_types(self.dbs[where][name])
                    self._build(where, name, self.dbs[where][name])
        finally:
            self._guard()
        return Answer()

    def _other(self, tree: Other, db: str) -> Answer:
        if self._writes and (done := self._change(tree.text, db)) is not None:
            return done
        if tree.verb in ("set", "begin", "commit", "rollback", "start", "savepoint", "do", "unlock"):
            return Answer()
        return Answer(
            error="The MySQL server is running with the --read-only option so it cannot execute this statement"
        )

    def _limit_steps(self) -> None:
        """Let the next statement take `STEPS` instructions."""
        budget = STEPS // _TICK

        def tick() -> int:
            nonlocal budget
            budget -= 1
            return budget < 0

        self.connection.set_progress_handler(tick, _TICK)

    def _execute(self, compiled: Compiled) -> Answer:
        self._fault = None
        self._limit_steps()
        try:
            cursor = self.connection.execute(compiled.sql)
            raw: list[tuple[Any, ...]] = []
            room = BYTES
            while chunk := cursor.fetchmany(2000):
                raw.extend(chunk)
                room -= sum(len(v) for row in chunk for v in row if isinstance(v, (str, bytes)))
                if len(raw) > ROWS or room < 0:
                    cursor.close()
                    return Answer(error="Query execution was interrupted, maximum result size exceeded")
        except sqlite3.OperationalError as error:
            if self._fault is not None:
                return Answer(error=self._fault)
            if "interrupted" in str(error):
                return Answer(
                    error="Query execution was interrupted, maximum statement execution time exceeded"
                )
            if "misuse of aggregate" in str(error):
                return Answer(error="Invalid use of group function")
            return Answer(error=f"{error}")
        except (sqlite3.Error, OverflowError, MemoryError) as error:
            return Answer(error=f"{error}")
        finally:
            self.connection.set_progress_handler(None, 0)
        if compiled.sorts:
            count, offset = compiled.limit
            order = filesort(
                [row[-1] for row in raw], None if count is None else count + offset, compiled.counted
            )
            raw = [raw[i][:-1] for i in order[offset:]]
        return Answer(convert(raw, compiled.types))

    # SHOW and DESCRIBE.

    def _table(self, name: str, db: str | None, current: str) -> Table:
        where = (db or current).lower()
        if where not in self.dbs:
            raise Fault(f"Unknown database '{db}'")
        if name.lower() not in self.dbs[where]:
            raise Fault(f"Table '{where}.{name.lower()}' doesn't exist")
        return self.dbs[where][name.lower()]

    def _show(self, tree: Show, db: str) -> Rows:
        like = functions.like_pattern(tree.like, "\\") if tree.like is not None else None

        def kept(name: str) -> bool:
            return like is None or like.match(fold(name)) is not None

        what = tree.what
        if what == "tables":
            where = (tree.db or db).lower()
            if where not in self.dbs:
                raise Fault(f"Unknown database '{tree.db}'")
            return [(n, "BASE TABLE") if tree.full else (n,) for n in sorted(self.dbs[where]) if kept(n)]
        if what == "databases":
            return [(n,) for n in sorted({*self.dbs, "mysql", "performance_schema", "sys"}) if kept(n)]
        if what == "columns":
            table = self._table(tree.name or "", tree.db, db)
            return [_described(table, c, tree.full) for c in table.columns if kept(c.name)]
        if what == "index":
            return _indexes(self._table(tree.name or "", tree.db, db))
        if what == "create table":
            table = self._table(tree.name or "", tree.db, db)
            return [(table.name, table.create())]
        if what in ("create database", "create schema"):
            name = (tree.name or "").lower()
            if name not in self.dbs:
                raise Fault(f"Unknown database '{name}'")
            return [
                (
                    name,
                    f"CREATE DATABASE `{name}` /*!40100 DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci */ /*!80016 DEFAULT ENCRYPTION='N' */",
                )
            ]
        if what == "create view":
            raise Fault(f"'{db}.{self._table(tree.name or '', tree.db, db).name}' is not VIEW")
        if what == "variables":
            return [(n, str(v)) for n, v in sorted(VARIABLES.items()) if kept(n)]
        if what == "table status":
            names = sorted(self.dbs[(tree.db or db).lower()])
            return [
                (n, "InnoDB", 10, "Dynamic", len(self.dbs[(tree.db or db).lower()][n].rows))
                for n in names
                if kept(n)
            ]
        if what == "grants":
            return [("GRANT ALL PRIVILEGES ON *.* TO `admin`@`%`",)]
        return []


VARIABLES: dict[str, Any] = {
    "sql_mode": "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION",
    "version": "8.0.33",
    "lower_case_table_names": 1,
    "autocommit": 0,
    "character_set_client": "utf8mb4",
    "collation_connection": "utf8mb4_general_ci",
    "collation_database": "utf8mb4_general_ci",
    "max_allowed_packet": 67108864,
}


def _described(table: Table, column: Column, full: bool) -> tuple[Any, ...]:
    default = column.default.encode() if column.default is not None else None
    first = (column.name, column.type.encode())
    null, key = "YES" if column.nullable else "NO", table.column_key(column.name)
    if full:
        collation = "utf8mb4_general_ci" if column.kind == "str" else None
        return (*first, collation, null, key, default, column.extra, "select,insert,update,references", b"")
    return (*first, null, key, default, column.extra)


def _indexes(table: Table) -> Rows:
    out: Rows = []
    names = [c.name.lower() for c in table.columns]
    for key in sorted(table.keys, key=lambda k: (k.name != "PRIMARY", not k.unique)):
        at = [names.index(c.lower()) for c in key.columns]
        for i, name in enumerate(key.columns, 1):
            distinct = len({tuple(row[j] for j in at[:i]) for row in table.rows})
            nullable = "YES" if table.columns[at[i - 1]].nullable else ""
            out.append(
                (
                    table.name,
                    int(not key.unique),
                    key.name,
                    i,
                    name,
                    "A",
                    distinct,
                    None,
                    None,
                    nullable,
                    "BTREE",
                    "",
                    "",
                    "YES",
                    None,
                )
            )
    return out


def _explained(tree: Any) -> Rows:
    from prosegym.envs.sql.compiler import walk
    from prosegym.envs.sql.parser import Table as TableRef

    names = [n.alias or n.name for n in walk(tree) if isinstance(n, TableRef)]
    return [(1, "SIMPLE", name, None, "ALL", None, None, None, None, None, 100.0, None) for name in names]


def _information_schema(dbs: dict[str, dict[str, Table]]) -> dict[str, Table]:
    """INFORMATION_SCHEMA's views that describe the databases, in the order in which the server lists them."""
    created = dt.datetime(2023, 5, 15, 5, 53, 44).isoformat(" ")

    def made(name: str, columns: str, rows: Rows) -> Table:
        kinds = {"i": "bigint unsigned", "d": "timestamp", "t": "varchar(64)", "b": "mediumtext"}
        parts = [c.rsplit(":", 1) if ":" in c else (c, "t") for c in columns.split()]
        return Table("information_schema", name, [Column(n, kinds[k]) for n, k in parts], rows=rows)

    tables: Rows = []
    columns: Rows = []
    usage: Rows = []
    constraints: Rows = []
    statistics: Rows = []
    for db, found in dbs.items():
        for name, table in sorted(found.items()):
            auto = re.search(r"AUTO_INCREMENT=(\d+)", table.options)
            rows = len(table.rows) if table.counted else 0
            size = 16384
            tables.append(
                ("def", db, name, "BASE TABLE", "InnoDB", 10, "Dynamic", rows, size // rows if rows else 0, size, 0,
                 size * sum(key.name != "PRIMARY" for key in table.keys), 0, int(auto[1]) if auto else None, created, None, None,
                 "utf8mb4_general_ci", None, "", "")
            )  # fmt: skip
            numbered = sorted(enumerate(table.columns, 1), key=lambda p: p[1].name.lower())
            for i, c in numbered:
                text = c.kind == "str"
                width = (
                    int(m[1]) if (m := re.search(r"\((\d+)", c.type)) and text else 65535 if text else None
                )
                octets = None if width is None else width if c.base == "text" else width * 4
                precision = {"int": 10, "double": 22, "float": 12}.get(c.kind)
                if c.kind in ("dec", "float") and (m := re.search(r"\((\d+)", c.type)):
                    precision = int(m[1])
                scale = 0 if c.kind == "int" else c.scale
                columns.append(
                    ("def", db, name, c.name, i, c.default, "YES" if c.nullable else "NO", c.base, width, octets,
                     precision, scale, 0 if c.kind == "datetime" else None, "utf8mb4" if text else None,
                     "utf8mb4_general_ci" if text else None, c.type, table.column_key(c.name), c.extra,
                     "select,insert,update,references", "", "", None)
                )  # fmt: skip
            for key in table.keys:
                kind = "PRIMARY KEY" if key.name == "PRIMARY" else "UNIQUE"
                if key.unique:
                    constraints.append(("def", db, key.name, db, name, kind, "YES"))
                    usage.extend(
                        ("def", db, key.name, "def", db, name, c, i, None, None, None, None)
                        for i, c in enumerate(key.columns, 1)
                    )
                statistics.extend(
                    (
                        "def",
                        db,
                        name,
                        int(not key.unique),
                        db,
                        key.name,
                        i,
                        c,
                        "A",
                        rows,
                        None,
                        None,
                        "",
                        "BTREE",
                        "",
                        "",
                        "YES",
                        None,
                    )
                    for i, c in enumerate(key.columns, 1)
                )
            for title, cs, other, others in table.foreign:
                constraints.append(("def", db, title, db, name, "FOREIGN KEY", "YES"))
                usage.extend(
                    ("def", db, title, "def", db, name, c, i, i, db, other, o)
                    for i, (c, o) in enumerate(zip(cs, others, strict=True), 1)
                )
    names = sorted([*dbs, "information_schema", "mysql", "performance_schema", "sys"])
    schemata: Rows = [("def", n, "utf8mb4", "utf8mb4_general_ci", None, "NO") for n in names]
    found_tables = {
        table.name: table
        for table in (
            made("tables", "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME TABLE_TYPE ENGINE VERSION:i ROW_FORMAT TABLE_ROWS:i AVG_ROW_LENGTH:i DATA_LENGTH:i MAX_DATA_LENGTH:i INDEX_LENGTH:i DATA_FREE:i AUTO_INCREMENT:i CREATE_TIME:d UPDATE_TIME:d CHECK_TIME:d TABLE_COLLATION CHECKSUM:i CREATE_OPTIONS TABLE_COMMENT", tables),
            made("columns", "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME ORDINAL_POSITION:i COLUMN_DEFAULT:b IS_NULLABLE DATA_TYPE:b CHARACTER_MAXIMUM_LENGTH:i CHARACTER_OCTET_LENGTH:i NUMERIC_PRECISION:i NUMERIC_SCALE:i DATETIME_PRECISION:i CHARACTER_SET_NAME COLLATION_NAME COLUMN_TYPE:b COLUMN_KEY EXTRA PRIVILEGES COLUMN_COMMENT GENERATION_EXPRESSION:b SRS_ID:i", columns),
            made("schemata", "CATALOG_NAME SCHEMA_NAME DEFAULT_CHARACTER_SET_NAME DEFAULT_COLLATION_NAME SQL_PATH DEFAULT_ENCRYPTION", schemata),
            made("key_column_usage", "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME ORDINAL_POSITION:i POSITION_IN_UNIQUE_CONSTRAINT:i REFERENCED_TABLE_SCHEMA REFERENCED_TABLE_NAME REFERENCED_COLUMN_NAME", usage),
            made("table_constraints", "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_SCHEMA TABLE_NAME CONSTRAINT_TYPE ENFORCED", constraints),
            made("statistics", "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME NON_UNIQUE:i INDEX_SCHEMA INDEX_NAME SEQ_IN_INDEX:i COLUMN_NAME COLLATION CARDINALITY:i SUB_PART:i PACKED NULLABLE INDEX_TYPE COMMENT INDEX_COMMENT IS_VISIBLE EXPRESSION", statistics),
            made("views", "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME VIEW_DEFINITION", []),
        )
    }  # fmt: skip
    found_tables["columns"].keys.append(
        Key(ORDINAL, ("TABLE_SCHEMA", "TABLE_NAME", "ORDINAL_POSITION"), False)
    )
    return found_tables


# Values, as mysql.connector gives them.


def convert(raw: Rows, types: tuple[T, ...]) -> Rows:
    """SQLite's rows with each value of the type that the MySQL client gives."""
    makers = [_maker(t) for t in types]
    used = [(i, m) for i, m in enumerate(makers) if m is not None]
    width = len(types)
    if not used:
        return raw if not raw or len(raw[0]) == width else [row[:width] for row in raw]
    out = []
    for row in raw:
        values = list(row[:width])
        for i, maker in used:
            if values[i] is not None:
                values[i] = maker(values[i])
        out.append(tuple(values))
    return out


def _maker(kind: T) -> Callable[[Any], Any] | None:
    name, scale = kind.kind, kind.scale
    if name in ("str", "null"):
        return None
    if name == "int":
        return _integer
    if name == "dec":
        step = Decimal(1).scaleb(-(scale or 0))
        return lambda v: Decimal(repr(v)).quantize(step, ROUND_HALF_UP) if math.isfinite(v) else None
    if name == "double":
        return float if scale is None else lambda v: float(f"{v:.{scale}f}")
    if name == "float":
        return (lambda v: float(f"{v:.6g}")) if scale is None else lambda v: float(f"{v:.{scale}f}")
    if name == "date":
        return _date
    if name == "datetime":
        return _datetime
    if name == "time":
        return _time
    return lambda v: v.encode() if isinstance(v, str) else v


def _integer(value: Any) -> Any:
    return int(value) if isinstance(value, (float, str)) else value


def _date(value: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(value[:10])
    except ValueError:
        return None


def _datetime(value: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(value if len(value) > 10 else value + " 00:00:00")
    except ValueError:
        return None


def _time(value: str) -> dt.timedelta:
    hours, minutes, seconds = (int(p) for p in value.split(":"))
    return dt.timedelta(hours=hours, minutes=minutes, seconds=seconds)
