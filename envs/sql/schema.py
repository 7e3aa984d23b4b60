"""Databases as MySQL describes them, read from a mysqldump file."""

from __future__ import annotations

import datetime as dt
import re
import struct
from dataclasses import dataclass, field
from typing import Any

from prosegym.envs.errors import CorruptData

ORDINAL = "(ordinal)"
"""Name of the order in which INFORMATION_SCHEMA gives columns when only their table's name is asked for."""

INTEGERS = frozenset("tinyint smallint mediumint int integer bigint year bit bool boolean".split())
TEXTS = frozenset("char varchar text tinytext mediumtext longtext enum set json".split())


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: str
    """As SHOW COLUMNS prints it: `int`, `varchar(20)`, `float(10,2)`."""
    nullable: bool = True
    default: str | None = None
    extra: str = ""
    collate: str | None = None

    @property
    def base(self) -> str:
        """The type's name alone."""
        return re.split(r"[( ]", self.type, maxsplit=1)[0].lower()

    @property
    def kind(self) -> str:
        """int, dec, double, float, str, date, datetime, time or bytes: how its values are computed with."""
        base = self.base
        if base in INTEGERS:
            return "int"
        if base in TEXTS:
            return "str"
        kinds = {"decimal": "dec", "numeric": "dec", "real": "double", "timestamp": "datetime"}
        kind = kinds.get(base, base)
        return kind if kind in ("dec", "double", "float", "date", "datetime", "time") else "bytes"

    @property
    def scale(self) -> int | None:
        """Digits after the point, where the type fixes them."""
        if match := re.search(r"\(\d+,(\d+)\)", self.type):
            return int(match[1])
        return 0 if self.kind == "dec" else None


@dataclass(frozen=True)
class Key:
    """An index; `columns` in order."""

    name: str
    columns: tuple[str, ...]
    unique: bool
    lengths: tuple[int | None, ...] = ()
    """Prefix lengths, None where the whole column is indexed."""


@dataclass
class Table:
    """A table: its columns, its keys (the primary one first, named PRIMARY), its rows in clustered order."""

    db: str
    name: str
    """Lower case, as the server stores it (lower_case_table_names=1)."""
    columns: list[Column]
    keys: list[Key] = field(default_factory=list)
    foreign: list[tuple[str, tuple[str, ...], str, tuple[str, ...]]] = field(default_factory=list)
    """(constraint, columns, referenced table, referenced columns)."""
    options: str = ""
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    counted: bool = True
    """Whether the server has statistics of it: without them the optimizer takes it to be empty."""
    created: str = "2023-05-15 05:53:44"
    """When the server made it."""
    counter: int = 0
    """The highest number that AUTO_INCREMENT has given, where it may not be in a row any more."""

    @property
    def primary(self) -> tuple[str, ...]:
        """Columns of the primary key, lower case; empty where there is none."""
        return next((tuple(c.lower() for c in k.columns) for k in self.keys if k.name == "PRIMARY"), ())

    def column_key(self, name: str) -> str:
        """PRI, UNI, MUL or empty, as SHOW COLUMNS prints."""
        if name.lower() in self.primary:
            return "PRI"
        found = ""
        for key in self.keys:
            if key.columns[0].lower() == name.lower():
                if key.unique and len(key.columns) == 1:
                    return "UNI"
                found = "MUL"
        return found

    def create(self) -> str:
        """The CREATE TABLE statement, as SHOW CREATE TABLE prints it."""
        lines = []
        for c in self.columns:
            parts = [f"`{c.name}` {c.type}"]
            if c.collate:
                parts.append(f"CHARACTER SET {c.collate.split('_')[0]} COLLATE {c.collate}")
            if not c.nullable:
                parts.append("NOT NULL")
            elif c.base == "timestamp":
                parts.append("NULL")
            if c.extra == "auto_increment":
                parts.append("AUTO_INCREMENT")
            elif c.default is not None:
                said = c.default if c.default == "CURRENT_TIMESTAMP" else f"'{c.default}'"
                parts.append(f"DEFAULT {said}")
            elif c.nullable and c.base not in ("text", "blob", "json"):
                parts.append("DEFAULT NULL")
            lines.append("  " + " ".join(parts))
        for key in self.keys:
            lengths = key.lengths or (None,) * len(key.columns)
            names = ",".join(
                f"`{n}`" + (f"({w})" if w else "") for n, w in zip(key.columns, lengths, strict=True)
            )
            title = (
                "PRIMARY KEY"
                if key.name == "PRIMARY"
                else f"{'UNIQUE ' if key.unique else ''}KEY `{key.name}`"
            )
            lines.append(f"  {title} ({names})")
        for name, columns, table, others in self.foreign:
            lines.append(
                f"  CONSTRAINT `{name}` FOREIGN KEY ({', '.join(f'`{c}`' for c in columns)}) "
                f"REFERENCES `{table}` ({', '.join(f'`{c}`' for c in others)})"
            )
        return f"CREATE TABLE `{self.name}` (\n" + ",\n".join(lines) + f"\n) {self.options}"


# utf8mb4_general_ci: a weight per character, upper-cased, without accent; trailing spaces do not count.
class _Fold(dict[int, str]):
    def __missing__(self, code: int) -> str:
        import unicodedata

        char = chr(code)
        base = unicodedata.normalize("NFD", char)[0] if code > 0x7F else char
        upper = base.upper()
        found = self[code] = upper if len(upper) == 1 else base if len(base) == 1 else char
        if char == "ß":
            found = self[code] = "S"
        return found


_FOLD = _Fold()


def fold(text: str) -> str:
    """The text's sort key under utf8mb4_general_ci: equal keys, equal texts."""
    return text.translate(_FOLD).rstrip(" ")


def is_plain(text: str) -> bool:
    """Whether ASCII case folding orders this text among others of its kind as general_ci does."""
    return text.isascii() and not _ODD.search(text)


_ODD = re.compile(r"[\[\\\]^_`\x00-\x1f]| $")


def single(value: float) -> float:
    """The nearest 32-bit float."""
    found: float = struct.unpack("f", struct.pack("f", value))[0]
    return found


_STATEMENT = re.compile(r"(?:[^;'\"`]|'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`)*;", re.S)
_COMMENT = re.compile(r"/\*.*?\*/|^--.*?$", re.S | re.M)
_VALUE = re.compile(
    r"\s*(?:(NULL)|(?:_binary )?'((?:[^'\\]|\\.|'')*)'|(-?[0-9.][0-9.eE+-]*)|0x([0-9A-Fa-f]+))\s*([,)])", re.S
)
_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}


def _unescape(text: str) -> str:
    text = text.replace("''", "'")
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), text, flags=re.S) if "\\" in text else text


def read_dump(text: str, where: str = "dump") -> dict[str, dict[str, Table]]:
    """Every database of a mysqldump file: {database: {table: Table}}, names lower case.

    Raises:
        CorruptData: it is not such a file; the message names the statement's line.
    """
    found: dict[str, dict[str, Table]] = {}
    current: dict[str, Table] | None = None
    db = ""
    at = 0
    while match := _STATEMENT.match(text, at):
        at = match.end()
        statement = match[0].lstrip()
        while statement.startswith(("--", "/*")):
            # Comment lines and versioned comments before (or instead of) the statement proper.
            cut = statement.find("\n") if statement.startswith("--") else statement.find("*/") + 1
            statement = statement[cut + 1 :].lstrip() if cut > 0 else ""
        line = text.count("\n", 0, at - len(statement)) + 1
        low = statement[:30].lower()
        try:
            if low.startswith("use "):
                db = re.split(r"[`\s;]+", statement)[1].lower()
                current = found.setdefault(db, {})
            elif low.startswith("create table"):
                if current is None:
                    raise CorruptData(f"{where}:{line}: a table before any USE")
                table = _table(db, statement)
                table.created = _loaded(sum(map(len, found.values())), at)
                current[table.name] = table
            elif low.startswith("insert into"):
                name = re.match(r"insert into `([^`]+)`", statement, re.I)
                if current is None or name is None or name[1].lower() not in current:
                    raise CorruptData(f"{where}:{line}: rows of a table that was not created")
                table = current[name[1].lower()]
                table.rows.extend(_rows(statement, table))
        except (IndexError, ValueError, TypeError) as error:
            raise CorruptData(f"{where}:{line}: cannot read {statement[:60]!r}: {error}") from error
    if not any(found.values()):
        raise CorruptData(f"{where}: no tables; this is not a mysqldump file")
    for tables in found.values():
        for table in tables.values():
            cluster(table)
    return found


def _loaded(tables: int, characters: int) -> str:
    """When a server that reads the dump makes a table, after so many others and so much text.

    The published server read its dump from 2023-05-15 05:53:41 on, in three and a half seconds; the times of
    its tables are those of 28 ms a table and 2.5 s a million characters.
    """
    start = dt.datetime(2023, 5, 15, 5, 53, 41, 486_000)
    return str(start + dt.timedelta(seconds=0.028 * tables + 2.5e-6 * characters))[:19]


_KEY = re.compile(r"(PRIMARY|UNIQUE|FULLTEXT)? ?KEY ?(?:`([^`]*)`)? ?\((.*)\)")


def _table(db: str, statement: str) -> Table:
    title = re.match(r"CREATE TABLE (?:IF NOT EXISTS )?`([^`]+)` \((.*)\)(.*);", statement, re.S | re.I)
    if title is None:
        raise ValueError("no column list")
    table = Table(db, title[1].lower(), [], options=_COMMENT.sub("", title[3]).strip())
    for raw in title[2].strip().split("\n"):
        line = raw.strip().rstrip(",")
        if line.startswith("`"):
            match = re.match(r"`([^`]+)` (\w+(?:\([^)]*\))?(?: unsigned)?)(.*)", line)
            if match is None:
                raise ValueError(line)
            rest = match[3]
            default = re.search(r"DEFAULT (?:'((?:[^'\\]|\\.)*)'|(\S+))", rest)
            value = (
                None
                if default is None or default[2] == "NULL"
                else default[1]
                if default[2] is None
                else default[2]
            )
            collate = re.search(r"COLLATE (\w+)", rest)
            extra = "auto_increment" if "AUTO_INCREMENT" in rest else ""
            if default is not None and default[2] and default[2].startswith("CURRENT_TIMESTAMP"):
                extra = "DEFAULT_GENERATED"
                if "ON UPDATE" in rest:
                    extra += " on update CURRENT_TIMESTAMP"
            table.columns.append(
                Column(
                    match[1], match[2], "NOT NULL" not in rest, value, extra, collate[1] if collate else None
                )
            )
        elif line.startswith("CONSTRAINT"):
            match = re.match(
                r"CONSTRAINT `([^`]+)` FOREIGN KEY \(([^)]*)\) REFERENCES `([^`]+)` \(([^)]*)\)", line
            )
            if match:
                columns, others = (tuple(re.findall(r"`([^`]+)`", part)) for part in (match[2], match[4]))
                table.foreign.append((match[1], columns, match[3].lower(), others))
        elif match := _KEY.match(line):
            parts = re.findall(r"`([^`]+)`(?:\((\d+)\))?", match[3])
            table.keys.append(
                Key(
                    "PRIMARY" if match[1] == "PRIMARY" else match[2] or "",
                    tuple(name for name, _ in parts),
                    match[1] in ("PRIMARY", "UNIQUE"),
                    tuple(int(width) if width else None for _, width in parts),
                )
            )
    return table


def _rows(statement: str, table: Table) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    readers = [_reader(column) for column in table.columns]
    at = statement.index("VALUES") + 6
    end = len(statement)
    while (open_at := statement.find("(", at)) >= 0:
        at = open_at + 1
        row: list[Any] = []
        while at < end:
            match = _VALUE.match(statement, at)
            if match is None:
                raise ValueError(f"bad value at {statement[at : at + 30]!r}")
            at = match.end()
            null, string, number, hexadecimal, after = match.groups()
            value: Any = None
            if null is None:
                raw = bytes.fromhex(hexadecimal).decode("utf-8", "replace") if hexadecimal else number
                value = readers[min(len(row), len(readers) - 1)](
                    _unescape(string) if string is not None else raw
                )
            row.append(value)
            if after == ")":
                break
        if len(row) != len(table.columns):
            raise ValueError(f"{len(row)} values for {len(table.columns)} columns")
        rows.append(tuple(row))
    return rows


def _reader(column: Column) -> Any:
    kind, scale = column.kind, column.scale
    if kind == "int":
        return lambda text: int(float(text)) if "." in text else int(text)
    if kind == "float":
        return lambda text: single(float(text) if scale is None else round(float(text), scale))
    if kind in ("double", "dec"):
        return float
    return str


def order_key(value: Any) -> Any:
    """Sorts as MySQL does: NULL first, texts by their folded form."""
    if value is None:
        return (0, 0)
    return (1, fold(value)) if isinstance(value, str) else (1, value)


def cluster(table: Table) -> None:
    """Put the rows into the order of the clustered index: the primary key, else the first unique one."""
    names = [c.name.lower() for c in table.columns]
    required = {c.name.lower() for c in table.columns if not c.nullable}
    for key in sorted(table.keys, key=lambda k: k.name != "PRIMARY"):
        columns = [c.lower() for c in key.columns]
        if key.unique and required.issuperset(columns):
            at = [names.index(c) for c in columns]
            table.rows.sort(key=lambda row: [order_key(row[i]) for i in at])
            return


_DATE = re.compile(
    r"\s*(\d{4}|\d{2})[^\d\s](\d{1,2})[^\d\s](\d{1,2})(?:[T\s]+(\d{1,2}):(\d{1,2})(?::(\d{1,2})(\.\d*)?)?)?\s*$"
)
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d))?$")


def stored(text: str, kind: str) -> str | None:
    """A text as MySQL reads a DATE or DATETIME, in SQLite's stored form; None where it is none."""
    if kind == "time" and re.match(r"-?\d{1,3}:\d\d(:\d\d)?$", text):
        return text if text.count(":") == 2 else text + ":00"
    match = _DATE.match(text) or _COMPACT.match(text)
    if match is None:
        return None
    parts = match.groups()
    year, month, day = (int(p) for p in parts[:3])
    if len(parts[0]) == 2:
        year += 2000 if year < 70 else 1900
    hour, minute, second = (int(p or 0) for p in parts[3:6])
    if month > 12 or day > 31 or hour > 23 or minute > 59 or second > 59:
        return None
    if month and day:
        import calendar

        if year and day > calendar.monthrange(year, month)[1]:
            return None
    date = f"{year:04d}-{month:02d}-{day:02d}"
    if kind == "date":
        return date if not (hour or minute or second) else f"{date} {hour:02d}:{minute:02d}:{second:02d}"
    if kind == "time":
        return f"{hour:02d}:{minute:02d}:{second:02d}"
    return f"{date} {hour:02d}:{minute:02d}:{second:02d}"
