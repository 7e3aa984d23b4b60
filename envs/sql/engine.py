"""A MySQL server's answers, given by SQLite in memory."""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

import datetime as dt
import math
import random
import re
import sqlite3
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any

from prosegym.envs.sql import functions, writes
from prosegym.envs.sql.compiler import compile_query
from prosegym.envs.sql.dictionary import SYSTEM, index_entries, information_schema, table_status
from prosegym.envs.sql.names import Catalog, column_types
from prosegym.envs.sql.parser import SyntaxFault, parse
from prosegym.envs.sql.patience import READ
from prosegym.envs.sql.schema import Column, Table, fold, order_key
from prosegym.envs.sql.sorting import sorted_rows
from prosegym.envs.sql.tree import Explain, Fault, Other, Select, Several, Show, Union, Use, walk
from prosegym.envs.sql.tree import Table as TableRef
from prosegym.envs.sql.typed import Compiled, T

STEPS = 20_000_000
"""SQLite virtual machine instructions that a statement may take; about a second."""
WORK = 1 << 28
"""Characters and steps that a statement's functions may take beside them; seconds, too."""
ROWS = 200_000
"""Rows that a statement may give."""
BYTES = 32 << 20
"""Characters of text that a statement's rows may hold."""
STATEMENT = 1 << 20
"""Longest statement, in characters."""
KEPT_ROWS = 1000
"""An answer of more rows is computed anew each time."""
KEPT_TEXT = 1 << 16
"""Characters of a statement and its answer, likewise."""
_TICK = 10_000
UNLIMITED = 1 << 62

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


class _Statement:
    """What SQLite's callbacks share with the server about the statement that runs.

    Python does not see what a connection's callbacks hold: were it the server, which holds the connection,
    neither would ever be freed.
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        """MySQL's refusal, found while it ran."""
        self.budget = UNLIMITED
        self.work = UNLIMITED
        self.patterns = {""}
        """Those that its functions have read."""
        self.random = random.Random(0)
        self.seeded: dict[str, list[int]] = {}
        """The states of RAND(n), by where it stands."""

    def fail(self, message: str) -> None:
        self.fault = message

    def limit(self, *, on: bool) -> None:
        """Begin or end what a statement may take."""
        self.budget, self.work = (STEPS // _TICK, WORK) if on else (UNLIMITED, UNLIMITED)
        self.patterns = {""}

    def spend(self, work: int, refusal: str, pattern: str = "") -> None:
        """Count work of a function before it is done; ends the statement where it would be too much."""
        if pattern not in self.patterns:
            self.patterns.add(pattern)
            work += READ * len(pattern)
        self.work -= work
        if self.work < 0:
            self.fault = refusal
            raise TimeoutError

    def rand(self, seed: float | None = 0, place: str | None = None) -> float:
        """RAND(n), by the server's generator (randominit and my_rnd)."""
        state = self.seeded.get(place) if place is not None else None
        if state is None:
            n = int(functions.rounded(seed or 0.0, 0)) & 0xFFFFFFFF
            state = [(n * 0x10001 + 55555555) & 0xFFFFFFFF, (n * 0x10000001) & 0xFFFFFFFF]
            state = [part % 0x3FFFFFFF for part in state]
            if place is not None:
                self.seeded[place] = state
        state[0] = (state[0] * 3 + state[1]) % 0x3FFFFFFF
        state[1] = (state[0] + state[1] + 33) % 0x3FFFFFFF
        return state[0] / 0x3FFFFFFF

    def tick(self) -> int:
        """Called after every `_TICK` instructions: whether the statement has to stop."""
        self.budget -= 1
        return self.budget < 0


def _variable(name: str) -> Any:
    return VARIABLES.get(name.removeprefix("session.").removeprefix("global."))


class Server:
    """Databases in one SQLite connection, for any number of threads; statements change nothing."""

    def __init__(
        self, dbs: dict[str, dict[str, Table]], *, uncounted: frozenset[str] = frozenset(), cache: int = 4096
    ) -> None:
        """Build every table.

        Args:
            dbs: {database: {table: Table}}, names lower case.
            uncounted: databases whose tables the optimizer takes to be empty, as a server does that has not yet
                gathered their statistics.
            cache: answers that are kept, those of up to `KEPT_ROWS` rows and `KEPT_TEXT` characters.
        """
        self.dbs = dict(dbs)
        for db in uncounted:
            for table in self.dbs.get(db, {}).values():
                table.counted = False
        self.dbs["information_schema"] = {}
        types = {
            (db, name): column_types(table)
            for db, tables in self.dbs.items()
            for name, table in tables.items()
        }
        self.catalog = Catalog(self.dbs, types)
        self._open()
        for db, tables in self.dbs.items():
            for name, table in tables.items():
                self._build(db, name, table)
        self.connection.execute("PRAGMA query_only = 1")
        self._guard()
        self._answers: OrderedDict[tuple[str, str, bool], Answer] = OrderedDict()
        self._cache = cache

    def _open(self) -> None:
        self.connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, cached_statements=2048
        )
        # Environments in several threads ask one server. A second thread in SQLite would wait for the
        # connection and hold Python's lock, which the first one's functions wait for.
        self._lock = threading.RLock()
        self._statement = _Statement()
        statement = self._statement
        functions.install(self.connection, statement.fail, _variable, statement.rand, statement.spend)
        self.connection.set_progress_handler(self._statement.tick, _TICK)

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
                value_key = order_key if db != "information_schema" else _name_key
                order = sorted(range(len(rows)), key=lambda r: [value_key(table.rows[r][i]) for i in at])  # noqa: B023
                rank = {r: i for i, r in enumerate(order)}
                rows = [(*row, rank[r]) for r, row in enumerate(rows)]
        for place, column in enumerate(table.columns):
            # What texts are equal by, where that is not ASCII case folding: see `typed.text_key`.
            if column.kind == "str" and not self.catalog.types[db, name][column.name.lower()][2].plain:
                columns.append(f'"{column.name.lower()}~" TEXT')
                rows = [(*row, None if row[place] is None else fold(row[place])) for row in rows]
        # Its number in clustered order; SQLite's own `rowid` is not seen through joins in parentheses.
        columns.append('"_p" INTEGER PRIMARY KEY')
        rows = [(*row, number) for number, row in enumerate(rows, start=1)]
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
            self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, BYTES)

    def run(self, statement: str, db: str, *, strict: bool = True) -> Answer:
        """The answer to one statement in the database `db`; never raises for what the statement says.

        With `strict=False` the statement may be of the kind that SQLite admits and MySQL refuses: see
        `parser.parse`, and columns that are neither grouped nor aggregated.
        """
        if len(statement) > STATEMENT:
            return Answer(error="Got a packet bigger than 'max_allowed_packet' bytes")
        key = (statement, db, strict)
        with self._lock:
            answer = self._answers.get(key)
            if answer is None:
                answer = self._computed(statement, db, strict)
                # Statements change nothing, so an answer stays right; RAND() is as good a number again.
                few = answer.rows is None or len(answer.rows) <= KEPT_ROWS
                if few and len(statement) + len(answer.text) <= KEPT_TEXT:
                    self._answers[key] = answer
                    while len(self._answers) > self._cache:
                        self._answers.popitem(last=False)
            else:
                self._answers.move_to_end(key)
        return answer

    def _computed(self, statement: str, db: str, strict: bool) -> Answer:
        try:
            compiled = self._prepare(statement, db, strict)
            return compiled if isinstance(compiled, Answer) else self._execute(compiled)
        except (ArithmeticError, TypeError, ValueError, re.error):  # a net below the refusals
            return Answer(error="Unknown error")

    def _describe(self) -> None:
        """Build INFORMATION_SCHEMA, which few statements ask."""
        self.dbs["information_schema"].update(views := information_schema(self.dbs))
        self.connection.set_authorizer(None)
        self.connection.execute("PRAGMA query_only = 0")
        try:
            for name, view in views.items():
                self.catalog.types["information_schema", name] = column_types(view)
                self.connection.execute(f'DROP TABLE IF EXISTS "information_schema.{name}"')
                self._build("information_schema", name, view)
        finally:
            self.connection.execute(f"PRAGMA query_only = {int(not self._writes)}")
            self._guard()

    def _prepare(self, statement: str, db: str, strict: bool) -> Compiled | Answer:
        if not self.dbs["information_schema"] and "information_schema" in f"{db} {statement}".lower():
            self._describe()
        try:
            tree = parse(statement, lenient=not strict)
            if isinstance(tree, Several):
                return self._several(tree.first, db, strict)
            if isinstance(tree, (Select, Union)):
                return compile_query(tree, self.catalog, db, strict)
            if isinstance(tree, Use):
                if tree.db.lower() not in self.dbs:
                    return Answer(error=f"Unknown database '{tree.db.lower()}'")
                return Answer(db=tree.db.lower())
            if isinstance(tree, Show):
                rows = self._show(tree, db)
                return Answer(rows if tree.where is None else self._where(rows, tree, db))
            if isinstance(tree, Explain):
                compile_query(tree.query, self.catalog, db, strict)
                return Answer(self._explained(tree.query, db))
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

    def _several(self, first: Any, db: str, strict: bool) -> Answer:
        """What is said of several statements: the server's refusal of the first, or the client's of them all."""
        answer = Answer()
        if isinstance(first, (Select, Union)):
            answer = self._execute(compile_query(first, self.catalog, db, strict))
        elif isinstance(first, Use) and first.db.lower() not in self.dbs:
            answer = Answer(error=f"Unknown database '{first.db.lower()}'")
        elif isinstance(first, Show):
            self._show(first, db)
        return answer if answer.error else Answer(error="Use multi=True when executing multiple statements")

    def _explained(self, tree: Any, db: str) -> Rows:
        """What EXPLAIN says: each table and, of one that is read whole, how many rows it has."""
        names = [n for n in walk(tree) if isinstance(n, TableRef)]
        count: int | None = None
        if (
            isinstance(tree, Select)
            and names
            and tree.source is names[0]
            and tree.where is None
            and not tree.ctes
        ):
            table = self.dbs[(names[0].db or db).lower()][names[0].name.lower()]
            count = max(1, len(table.rows) * table.counted)
        if not names:
            return [(1, "SIMPLE", *[None] * 9, "No tables used")]
        return [
            (1, "SIMPLE", n.alias or n.name, None, "ALL", None, None, None, None, count, 100.0, None)
            for n in names
        ]

    def writable(self) -> Server:
        """A copy of the same databases whose statements may write; this one does not change."""
        copy = Server.__new__(Server)
        with self._lock:
            copy.dbs = {
                db: {n: writes.copy_of(t) for n, t in tables.items()} for db, tables in self.dbs.items()
            }
            copy.dbs["information_schema"] = {}
            copy.catalog = Catalog(copy.dbs, dict(self.catalog.types))
            copy._open()
            self.connection.set_authorizer(None)
            try:
                self.connection.backup(copy.connection)
            finally:
                self._guard()
        copy._guard()
        copy._answers = OrderedDict()
        copy._cache = 0
        copy._writes = True
        copy._before = {}
        return copy

    _writes = False
    _before: dict[tuple[str, str], Table]
    """The tables that the transaction has changed, as they were when it began."""

    def _change(self, statement: str, db: str) -> Answer | None:
        change = writes.parse_change(statement)
        if change is None:
            return None
        if change.verb not in ("insert", "replace", "update", "delete"):
            self._before.clear()  # what defines tables commits
        target = (change.db or db).lower(), change.table.lower()
        before = self.dbs.get(target[0], {}).get(target[1])
        self._statement.fault = None
        self._statement.limit(on=True)
        try:
            touched = writes.apply(change, self.catalog, self.connection, db)
        except sqlite3.Error as error:
            if self._statement.fault is not None:
                return Answer(error=self._statement.fault)
            if "interrupted" in str(error):
                return Answer(
                    error="Query execution was interrupted, maximum statement execution time exceeded"
                )
            return Answer(error=f"{error}")
        finally:
            self._statement.limit(on=False)
        if before is not None and change.verb in ("insert", "replace", "update", "delete"):
            self._before.setdefault(target, before)
        self._renew(touched)
        return Answer()

    def _renew(self, touched: Iterable[tuple[str, str]]) -> None:
        """Build tables anew, as they are now."""
        self.dbs["information_schema"].clear()
        self.connection.set_authorizer(None)
        try:
            for where, name in touched:
                self.connection.execute(f'DROP TABLE IF EXISTS "{where}.{name}"')
                if name in self.dbs[where]:
                    self.catalog.types[where, name] = column_types(self.dbs[where][name])
                    self._build(where, name, self.dbs[where][name])
        finally:
            self._guard()

    def _end_transaction(self, verb: str) -> None:
        if verb == "rollback":
            for (where, name), table in self._before.items():
                table.counter = self.dbs[where][name].counter  # which no transaction takes back
                self.dbs[where][name] = table
            self._renew(self._before)
        self._before.clear()

    def _other(self, tree: Other, db: str) -> Answer:
        if self._writes and (done := self._change(tree.text, db)) is not None:
            return done
        if self._writes and tree.verb in ("begin", "commit", "rollback", "start") and "to" not in tree.words:
            self._end_transaction(tree.verb)
        if tree.verb in ("", "set", "begin", "commit", "rollback", "start", "savepoint", "do", "unlock"):
            return Answer()
        return Answer(
            error="The MySQL server is running with the --read-only option so it cannot execute this statement"
        )

    def _execute(self, compiled: Compiled) -> Answer:
        self._statement.fault = None
        self._statement.limit(on=True)
        texts = [i for i, t in enumerate(compiled.types) if t.kind in ("str", "bytes")]
        try:
            if "my_rand" in compiled.sql:
                self._statement.random.seed(0)
                self._statement.seeded.clear()
            cursor = self.connection.execute(compiled.sql)
            raw: Rows = []
            room = BYTES
            while chunk := cursor.fetchmany(2000):
                raw.extend(chunk)
                for i in texts:
                    room -= _characters([row[i] for row in chunk])
                if len(raw) > ROWS or room < 0:
                    cursor.close()
                    return Answer(error="Query execution was interrupted, maximum result size exceeded")
                if len(chunk) < 2000:
                    break
        except sqlite3.OperationalError as error:
            if self._statement.fault is not None:
                return Answer(error=self._statement.fault)
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
            self._statement.limit(on=False)
        return Answer(convert(sorted_rows(compiled, raw), compiled.types))

    # SHOW and DESCRIBE.

    def _table(self, name: str, db: str | None, current: str) -> Table:
        where = (db or current).lower()
        if where not in self.dbs:
            raise Fault(f"Unknown database '{where}'")
        if name.lower() not in self.dbs[where]:
            raise Fault(f"Table '{where}.{name.lower()}' doesn't exist")
        return self.dbs[where][name.lower()]

    def _where(self, rows: Rows, tree: Show, db: str) -> Rows:
        """The rows of a SHOW for which its WHERE is true, by the names that their columns have there."""
        if tree.what not in _SHOWN or not rows:
            return rows
        names = _SHOWN[tree.what].format(db=(tree.db or db).lower()).split()
        names = [name.strip("+") for name in names if tree.full or not name.startswith("+")]
        selects = (
            f"SELECT {number} AS `row`, "
            + ", ".join(f"{_literal(value)} AS `{name}`" for name, value in zip(names, row, strict=True))
            for number, row in enumerate(rows)
        )
        asked = parse(f"SELECT `row` FROM ({' UNION ALL '.join(selects)}) AS shown")
        answer = self._execute(compile_query(replace(asked, where=tree.where), self.catalog, db, True))
        if answer.rows is None:
            raise Fault(answer.error or "")
        kept = {number for (number,) in answer.rows}
        return [row for number, row in enumerate(rows) if number in kept]

    def _show(self, tree: Show, db: str) -> Rows:
        like = functions.like_pattern(tree.like, "\\") if tree.like is not None else None

        def kept(name: str) -> bool:
            return like is None or like.match(fold(name)) is not None

        what = tree.what
        if what == "tables":
            where = (tree.db or db).lower()
            if where not in self.dbs and where not in SYSTEM:
                raise Fault(f"Unknown database '{where}'")
            names = sorted(SYSTEM.get(where) or self.dbs[where], key=str.lower)
            kind = {"information_schema": "SYSTEM VIEW", "sys": "VIEW"}.get(where, "BASE TABLE")
            return [(n, kind) if tree.full else (n,) for n in names if kept(n)]
        if what == "databases":
            return [(n,) for n in sorted({*self.dbs, *SYSTEM}) if kept(n)]
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
            where = (tree.db or db).lower()
            if where not in self.dbs:
                raise Fault(f"Unknown database '{where}'")
            return [table_status(where, n, self.dbs[where][n]) for n in sorted(self.dbs[where]) if kept(n)]
        if what == "grants":
            return [("GRANT ALL PRIVILEGES ON *.* TO `admin`@`%`",)]
        return []


_SHOWN = {
    "tables": "Tables_in_{db} +Table_type",
    "databases": "Database",
    "columns": "Field Type +Collation Null Key Default Extra +Privileges +Comment",
    "index": "Table Non_unique Key_name Seq_in_index Column_name Collation Cardinality Sub_part Packed Null "
    "Index_type Comment Index_comment Visible Expression",
    "variables": "Variable_name Value",
    "table status": "Name Engine Version Row_format Rows Avg_row_length Data_length Max_data_length Index_length Data_free Auto_increment "
    "Create_time Update_time Check_time Collation Checksum Create_options Comment",
}
"""The columns of what SHOW gives; with + those of SHOW FULL alone."""


def _literal(value: Any) -> str:
    if value is None or isinstance(value, int):
        return "NULL" if value is None else str(value)
    text = value.decode() if isinstance(value, bytes) else str(value)
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


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
        for i, (name, distinct) in enumerate(zip(key.columns, index_entries(table, key), strict=True), 1):
            nullable = "YES" if table.columns[names.index(name.lower())].nullable else ""
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


def _name_key(value: Any) -> Any:
    """INFORMATION_SCHEMA's names are ordered by their bytes, in lower case."""
    return value.lower() if isinstance(value, str) else value


# Values, as mysql.connector gives them.


def _characters(values: list[Any]) -> int:
    try:
        return sum(map(len, filter(None, values)))
    except TypeError:  # a function of texts gave a number
        return sum(len(v) for v in values if isinstance(v, (str, bytes)))


def convert(raw: Rows, types: tuple[T, ...]) -> Rows:
    """SQLite's rows with each value of the type that the MySQL client gives."""
    used = _makers(types)
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


@lru_cache(maxsize=4096)
def _makers(types: tuple[T, ...]) -> list[tuple[int, Callable[[Any], Any]]]:
    """The columns whose values change, and how."""
    return [(i, maker) for i, t in enumerate(types) if (maker := _maker(t)) is not None]


def _maker(kind: T) -> Callable[[Any], Any] | None:
    name, scale = kind.kind, kind.scale
    if name in ("str", "null"):
        return None
    if name == "int":
        return _integer
    if name == "dec":
        step = Decimal(1).scaleb(-(scale or 0))
        return lambda v: functions.decimal(v, step) if math.isfinite(v) else None
    if name == "double":
        return float if scale is None else lambda v: float(f"{v:.{scale}f}")
    if name == "float":
        return (lambda v: float(f"{v:.6g}")) if scale is None else lambda v: float(f"{v:.{scale}f}")
    if name == "shown":
        return Decimal
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
