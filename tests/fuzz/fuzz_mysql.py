"""Differential fuzzing: InterCode-SQL's engine against a real MySQL 8.0 server that holds InterCode's dump.

    python tests/fuzz/fuzz_mysql.py --server mysql://user@host:port --statements 20000 [--seed 0] [--show 3]

The URL is as the environment's `server` (`mysql://user@/?unix_socket=PATH`; the password in PROSEGYM_MYSQL_PASSWORD), the client
InterCode's own (mysql-connector-python 8.0.33). The server was given the dump with `lower_case_table_names=1`, and has counted its tables
(`ANALYZE TABLE`). The installed data is asked (`prosegym data get intercode_sql`). Statements are the gold queries with clauses
exchanged, about other tables, wrapped, joined, misspelt or cut, and what models ask beside them; an eighth stand in episodes
that write, in a database `prosegym_fuzz` that is made and dropped, with every row looked at after every statement.
The observation must be equal to the byte. Where only the order of rows differs, or which of them are under a LIMIT, the statement is asked
once more with an order that leaves nothing open. Prints what differs by kind and a summary; exits 1 where
a kind is not one of `KNOWN`.
"""

from __future__ import annotations

import argparse
import ast
import collections
import dataclasses
import os
import random
import re
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from prosegym.envs import data as sets
from prosegym.envs.errors import ProsegymError
from prosegym.envs.sql import data
from prosegym.envs.sql.engine import Server
from prosegym.envs.sql.remote import PASSWORD, address
from prosegym.envs.sql.schema import Table
from prosegym.envs.sql.writes import copy_of

OWN = "prosegym_fuzz"
"""The database in which statements may write."""
LOOK = "rows after a write"
TOO_LONG = "Query execution was interrupted"

# Two blanks or a line's end stand between two forms. {t} {u} are tables, {c} {d} columns of what is asked, {n} one of numbers, {v} {w} values of {c}, {tc} {td} columns of
# {t}, {uc} of {u}, {x} a value of {tc}, {q} {r} gold queries, {i} {j} numbers, {agg} and {op} what they say.
CLAUSES = {
    "select": """
        {c}  {c}, {d}  *  {c}, {agg}({d})  {agg}({c})  {agg}({n})  COUNT(*)  COUNT(*), {c}  COUNT(DISTINCT {c})  COUNT({c}), COUNT(*)  {agg}(DISTINCT {c})
        DISTINCT {c}  DISTINCT {c}, {d}  DISTINCT({c}), {d}  {c}, DISTINCT {d}  ALL {c}  {c} AS name, {d} AS 'total'  {c} AS `count`  {c} rank  {c} AS x, {c} AS x
        SUM({n}) / COUNT(*)  AVG({n}) * 2  ROUND(AVG({n}), 2)  MAX({c}) - MIN({c})  SUM({c} = {v})  SUM(CASE WHEN {c} = {v} THEN 1 ELSE 0 END)  COUNT({c} > {i})
        COUNT(*) * 100.0 / SUM({n})  CAST(AVG({n}) AS SIGNED)  COALESCE(SUM({n}), 0)  IFNULL(MAX({c}), 'none')  GROUP_CONCAT({c} ORDER BY {c})  STDDEV({n})
        {agg}({agg}({c}))  MEDIAN({n})  MAX({c}, {d})  {n} + {i}  {n} / {i}  {n} * 1.5  {n} - {d}  {n} DIV 2  {n} % 3  -{n}  {n} / 0  {n} ^ 2  {n} ** 2  {n} + '{i}'
        ROUND({n} / 3, 2)  ROUND({n})  ROUND({n}, -1)  FLOOR({n} / 2)  CEIL({n} / 2)  ABS({n})  POWER({n}, 2)  SQRT({n})  MOD({n}, 4)  TRUNCATE({n} / 7, 3)  SIGN({n})
        CONCAT({c}, ' ', {d})  CONCAT_WS(', ', {c}, {d})  UPPER({c})  LOWER({c})  LENGTH({c})  CHAR_LENGTH({c})  SUBSTRING({c}, 1, 3)  LEFT({c}, 2)  RIGHT({c}, 2)
        REPLACE({c}, 'a', 'b')  TRIM({c})  COALESCE({c}, 'none')  IFNULL({c}, 0)  NULLIF({c}, {v})  INSTR({c}, 'a')  SUBSTRING_INDEX({c}, ' ', 1)  LPAD({c}, 5, '0')
        CASE WHEN {c} = {v} THEN 'yes' ELSE 'no' END  CASE {c} WHEN {v} THEN 1 ELSE 0 END  IF({n} > 10, 'big', 'small')  IF({n} > 10, {n}, 0)  {c} = {v}  {c} IS NULL
        CAST({c} AS CHAR)  CAST({c} AS SIGNED)  CAST({c} AS DECIMAL(10,2))  CAST({n} AS DOUBLE)  CAST({c} AS INT)  CAST({c} AS VARCHAR(10))  CAST({c} AS DATE)
        YEAR({c})  MONTH({c})  DATE_FORMAT({c}, '%Y-%m')  EXTRACT(YEAR FROM {c})  DATEDIFF(NOW(), {c})  TIMESTAMPDIFF(YEAR, {c}, CURDATE())  STRFTIME('%Y', {c})
        GREATEST({n}, 5)  LEAST({n}, {d})  REVERSE({c})  FORMAT({n}, 2)  {c} || {d}  LEN({c})  ISNULL({c})  NVL({c}, 0)  TOP 3 {c}  {c}::text  {c} {d}  {c},  {t}.*  {t}.{tc}
        (SELECT COUNT(*) FROM {u})  {c}, (SELECT {agg}({uc}) FROM {u})  ROW_NUMBER() OVER (ORDER BY {c})  {c}, RANK() OVER (ORDER BY {n} DESC)  {u}.{uc}  {c}, {uc}""",
    "where": """
        {c} = {v}  {c} > {v}  {c} <= {v}  {c} != {v}  {c} <> {v}  {c} LIKE '%a%'  {c} LIKE {v}  {c} NOT LIKE 'A%'  {c} BETWEEN {v} AND {w}  {c} IN ({v}, {w})  {c} NOT IN ({v}, {w})
        {c} IS NULL  {c} IS NOT NULL  NOT {c} = {v}  {c} = NULL  {c} = ''  {c}  {c} = {d}  {c} > {d}  UPPER({c}) = UPPER({v})  LENGTH({c}) > 4  SUBSTR({c}, 1, 1) = 'A'
        {c} REGEXP '^[A-M]'  CAST({c} AS SIGNED) > 3  {n} % 2 = 0  {n} / 2 > 5  YEAR({c}) = 2015  {c} > '2014-06-01'  {c} LIKE '201%'  MONTH({c}) > 6  DATE({c}) = '2018-03-01'
        {c} = {v} OR {d} > {i}  ({c} = {v} AND {d} > 1) OR {c} IS NULL  {c} IS TRUE  {c} = TRUE  {c} = 'yes'  {c} = "USA"  {c} > 0 AND {c} < 100  COALESCE({c}, 0) = 0
        {c} = {v} COLLATE utf8mb4_bin  BINARY {c} = {v}  {c} > '{i}'  {c} = {i}  {c} = {i}.5  {c} = 0  {c} < 'm'  TRIM({c}) = {v}  {c} ILIKE {v}  {c} CONTAINS 'a'  {c} <=> NULL
        {c} IN ()  {c} IN {v}  {c} BETWEEN {v}, {w}  {c} NOT {v}  {c} IS {v}  {c} == {v}  {c} = {v} AND  {agg}({c}) > {i}  {c} = MAX({c})  ({c}, {d}) = ({v}, {i})  {n} > {d}
        {c} {op} (SELECT {agg}({uc}) FROM {u})  {c} {op} (SELECT {tc} FROM {t})  {n} = (SELECT {agg}({tc}) FROM {t})  {c} IN (SELECT {uc} FROM {u})  {c} NOT IN (SELECT {uc} FROM {u})
        EXISTS (SELECT 1 FROM {u} WHERE {uc} = {c})  NOT EXISTS (SELECT * FROM {u} WHERE {u}.{uc} = {c})  {c} = (SELECT {uc} FROM {u} LIMIT 1)  {c} > ALL (SELECT {uc} FROM {u})
        {c} IN (SELECT {uc} FROM {u} LIMIT 3)  {c} = (SELECT * FROM {u})  {uc} = {i}  {u}.{uc} = {v}  {c} = {uc}""",
    "group": """
        {c}  {c}, {d}  1  2  {t}.{tc}  LEFT({c}, 1)  {c} WITH ROLLUP  name  x  COUNT(*)  {c} DESC  YEAR({c})  {c} HAVING COUNT(*) > 1  {c}, {d} HAVING {agg}({n}) > {i}""",
    "having": """
        COUNT(*) > {i}  COUNT(*) = 1  {agg}({n}) > {v}  {agg}({c}) = {v}  {c} = {v}  {c} LIKE '%a%'  {n} > {i}  COUNT(DISTINCT {d}) >= 2  total > {i}  name > {i}
        COUNT(*) = (SELECT MAX(n) FROM (SELECT COUNT(*) AS n FROM {t} GROUP BY {tc}) AS z)  COUNT(*) >= ALL (SELECT COUNT(*) FROM {t} GROUP BY {tc})  {agg}({agg}({n})) > 1""",
    "order": """
        {c}  {c} DESC  {c} ASC, {d} DESC  {agg}({n}) DESC  COUNT(*)  COUNT(*) DESC  1  2 DESC  3  LENGTH({c})  {n} + 1  {c} IS NULL, {c}  CASE WHEN {c} = {v} THEN 0 ELSE 1 END
        {n} * -1  -{n}  LOWER({c}), {d}  CAST({c} AS UNSIGNED)  name  total DESC  'total'  `count` DESC  {c} DESCENDING  {c} NULLS LAST  RAND  {u}.{uc}  {c} {d}  NULL  ({c}), 1""",
    "limit": """1  2  3  5  10  0  1 OFFSET 1  5 OFFSET 3  1, 2  -1  1.5  '1'  ALL  1+1  x  (1)  10 PERCENT  {i}  {i}, {j}""",
    "from": """
        {from} JOIN {u} ON {c} = {u}.{uc}  {from} LEFT JOIN {u} AS z ON {c} = z.{uc}  {from} JOIN {u} USING ({tc})  {from} NATURAL JOIN {u}  {from}, {u}  {from} CROSS JOIN {u}
        {from} RIGHT JOIN {u} z ON z.{uc} = {c}  {from} JOIN {u}  {from} FULL OUTER JOIN {u} ON {c} = {u}.{uc}  {t}  {t} AS T1  {t} t1  {t} a JOIN {u} b ON a.{tc} = b.{uc}
        {t} JOIN {u} ON {t}.{tc} = {u}.{uc}  {t} LEFT JOIN {u} ON {t}.{tc} = {u}.{uc}  {t} x, {u} y WHERE x.{tc} = y.{uc}  {u}  {t}s  (SELECT * FROM {t}) AS {t}  {t}, {t}""",
}  # fmt: skip
WHOLE = {
    "wrapped": """
        SELECT * FROM ({q}) AS t  SELECT COUNT(*) FROM ({q}) t  SELECT * FROM ({q})  SELECT ({q}) AS v  SELECT {tc} FROM {t} WHERE {tc} {op} ({q})  SELECT MAX(x) FROM ({q}) AS t(x)
        WITH t AS ({q}) SELECT * FROM t  WITH t AS ({q}) SELECT COUNT(*) FROM t  WITH a AS ({q}), b AS (SELECT {tc} FROM {t}) SELECT * FROM b WHERE {tc} IN (SELECT * FROM a)
        {q} UNION {r}  {q} UNION ALL {r}  {q} INTERSECT {r}  {q} EXCEPT {r}  ({q}) UNION ({r}) ORDER BY 1  {q} MINUS {r}  SELECT COUNT(*) FROM ({q} UNION {r}) AS u  {q}; {r}
        {q} LIMIT {i}  {q} ORDER BY 1  {q} AND {c} = {v}  {q}  {q};  EXPLAIN {q};  ({q})  SELECT DISTINCT * FROM ({q}) t ORDER BY 1 DESC  execute {q}  {q} -- the answer""",
    "asked": """
        SELECT * FROM {t}  SELECT * FROM {t} LIMIT 5  SELECT {tc} FROM {t}  SELECT DISTINCT {tc} FROM {t}  SELECT {tc}, {td} FROM {t} WHERE {tc} = {x}  SELECT COUNT(*) FROM {t}
        SELECT {tc}, COUNT(*) AS n FROM {t} GROUP BY {tc} ORDER BY n DESC LIMIT {i}  SELECT {tc}, COUNT(*) AS n FROM {t} GROUP BY {tc} HAVING n > {i}  SELECT {uc} FROM {t}
        SELECT {tc}, (SELECT COUNT(*) FROM {u} WHERE {u}.{uc} = {t}.{tc}) AS n FROM {t} ORDER BY n DESC, {td}  SELECT {tc} FROM {u}  SELECT {t}.{tc}, {u}.{uc} FROM {t}
        SELECT {tc} FROM {t} WHERE {td} = (SELECT {agg}({td}) FROM {t})  SELECT {tc}, {td} FROM {t} ORDER BY {td} DESC, {tc} LIMIT {i}  SELECT MAX({tc}), MIN({tc}) FROM {t}
        SELECT x.{tc} FROM {t} x JOIN (SELECT {uc}, COUNT(*) c FROM {u} GROUP BY {uc}) y ON x.{tc} = y.{uc} ORDER BY y.c DESC, 1  SELECT {tc} FROM {t} a WHERE a.{tc} = b.{td}
        WITH s AS (SELECT {tc}, COUNT(*) AS n FROM {t} GROUP BY {tc}) SELECT {tc} FROM s WHERE n = (SELECT MAX(n) FROM s)  SELECT * FROM {t} WHERE {tc} = '{x}'
        WITH r AS (SELECT {tc}, RANK() OVER (ORDER BY {td} DESC) AS k FROM {t}) SELECT {tc}, k FROM r WHERE k <= {i} ORDER BY k, 1  SELECT {tc} FROM {t} WHERE {tc} LIKE "%{i}%"
        SELECT {tc}, {agg}({td}) OVER (PARTITION BY {tc}) FROM {t} ORDER BY 1, 2  SELECT {tc}, COUNT(*) * 100.0 / SUM(COUNT(*)) OVER () AS share FROM {t} GROUP BY {tc} ORDER BY 1
        WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < {i}) SELECT i FROM n  SELECT {tc} FROM {t} a WHERE {td} > (SELECT AVG({td}) FROM {t} b WHERE a.{tc} = b.{tc})""",
    "about": """
        SHOW TABLES  SHOW TABLES;  SHOW TABLE  SHOW TABLES FROM {db}  SHOW TABLES IN {t}_db  SHOW TABLES LIKE '%{t}%'  SHOW COLUMNS FROM {t}  SHOW COLUMNS IN {u}  SHOW COLUMNS {t}  SHOW FULL TABLES
        SHOW FULL COLUMNS FROM {t}  SHOW FIELDS FROM {t}  DESCRIBE {t}  DESC {t}  DESC {t}s  DESCRIBE TABLE {t}  DESCRIBE {t}, {u}  DESC {t}; DESC {u}  DESCRIBE '{t}'  DESCRIBE {t} {tc}  DESC
        SHOW CREATE TABLE {t}  SHOW CREATE {t}  SHOW INDEX FROM {t}  SHOW SCHEMA  PRAGMA table_info({t})  .tables  .schema {t}  SELECT name FROM sqlite_master  SELECT DATABASE()  SELECT * {t}
        SELECT FROM {t}  SELECT {tc} {t}  SELECT * FROM  SELECT COUNT * FROM {t}  SELECT * FROM {t} WHERE  TABLE {t}  USE {t}_db  use {db}  USE DATABASE {db}  SELECT {tc} FROM {db}.{t} LIMIT 3
        SELECT column_name FROM information_schema.columns WHERE table_name = '{t}' AND table_schema = '{db}' ORDER BY 1  SELECT {db}.{t}.{tc} FROM {t}  SHOW {t}  help  show me {t}  SHOW WARNINGS
        SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '{db}'  SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY table_name
        SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = '{db}' AND table_name = '{t}' ORDER BY ordinal_position  What is in {t}?  SELECT {tc} FROM {u}.{t}
        SELECT column_name, referenced_table_name FROM information_schema.key_column_usage WHERE table_schema = '{db}' AND table_name = '{t}' ORDER BY 1, 2""",
}  # fmt: skip
WRITES = """
    INSERT INTO {t} VALUES ({row})  INSERT INTO {t} VALUES ({fresh})  INSERT INTO {t} ({tc}) VALUES ({x})  INSERT INTO {t} ({tc}, {td}) VALUES ({x}, {y}), ({y}, {x})  INSERT INTO {t} ({names}) VALUES ({fresh})
    INSERT INTO {t} SELECT * FROM {t}  INSERT INTO {t} SELECT * FROM {u}  INSERT INTO {t} ({tc}) SELECT {uc} FROM {u}  INSERT IGNORE INTO {t} VALUES ({row})  INSERT INTO {t} SET {tc} = {x}
    INSERT INTO {t} VALUES ({i})  INSERT INTO {t} ({tc}, {tc}) VALUES (1, 2)  INSERT INTO {t} ({tc}) VALUES ({i}, {j})  INSERT INTO {t}s VALUES (1)  INSERT INTO {t} (nothing) VALUES (1)
    REPLACE INTO {t} VALUES ({row})  REPLACE INTO {t} VALUES ({fresh})  REPLACE INTO {t} ({names}) VALUES ({row})  INSERT INTO {t} ({tc}) VALUES ('abc')  INSERT INTO {t} ({tc}) VALUES (NULL)
    UPDATE {t} SET {tc} = {x}  UPDATE {t} SET {tc} = {x} WHERE {td} = {y}  UPDATE {t} SET {tc} = {tc} + 1  UPDATE {t} SET {tc} = NULL WHERE {td} = {y}  UPDATE {t} SET {tc} = 'abc' WHERE {td} = {y}
    UPDATE {t} SET {tc} = {td}  UPDATE {t} SET {tc} = {x}, {td} = {y} WHERE {tc} > {x}  UPDATE {t} SET {tc} = {tc} * 1.5 WHERE {td} > {y}  UPDATE {t} SET {tc} = CONCAT({tc}, 'x') WHERE {td} = {y}
    UPDATE {t} SET {tc} = {i} ORDER BY {td} LIMIT 1  UPDATE {t} SET {tc} = (SELECT MAX({uc}) FROM {u})  UPDATE {t} SET nothing = 1  UPDATE {t} SET {tc} = 1 WHERE nothing = 1  UPDATE {t} {tc} = {i}
    UPDATE {t} SET {tc} = (SELECT MAX({tc}) FROM {t})  UPDATE {t} AS a SET a.{tc} = {x} WHERE a.{td} = {y}  UPDATE {t} SET {t}.{tc} = UPPER({tc})  UPDATE {t} SET {tc} = ROUND({tc} / 3, 1)
    DELETE FROM {t}  DELETE FROM {t} WHERE {tc} = {x}  DELETE FROM {t} WHERE {tc} > {x} AND {td} IS NOT NULL  DELETE FROM {t} WHERE {tc} IN (SELECT {uc} FROM {u})  DELETE * FROM {t}  DELETE {t}
    DELETE FROM {t} ORDER BY {tc} LIMIT 1  DELETE FROM {t} WHERE nothing = 1  DELETE FROM {t}s  DELETE FROM {t} WHERE {tc} = (SELECT MAX({tc}) FROM {t})  DELETE FROM {t} WHERE {tc}  TRUNCATE TABLE {t}  TRUNCATE {u}
    CREATE TABLE {new} (id INT PRIMARY KEY, name VARCHAR(20) NOT NULL, price DECIMAL(6,2) DEFAULT 1.5)  CREATE TABLE {new} (id INT AUTO_INCREMENT PRIMARY KEY, body TEXT, made DATE, n FLOAT)
    CREATE TABLE {new} (a INT, b INT, PRIMARY KEY (a, b))  CREATE TABLE {new} ({tc} INT UNIQUE, s CHAR(3) DEFAULT 'x')  CREATE TABLE {t} (a INT)  CREATE TABLE IF NOT EXISTS {t} (a INT)
    CREATE TABLE {new} AS SELECT * FROM {t}  CREATE TABLE {new} LIKE {t}  CREATE TABLE {new} (a INT, a INT)  CREATE TABLE {new} (a)  CREATE TABLE {new}  CREATE TABLE {new} (a INT, PRIMARY KEY (b))
    CREATE TEMPORARY TABLE {new} (a INT, b VARCHAR(5))  CREATE VIEW v AS SELECT {tc} FROM {t}  CREATE INDEX k ON {t} ({tc})  DROP TABLE {new}  DROP TABLE {t}  DROP TABLE IF EXISTS {new}  DROP TABLE {t}, {u}
    INSERT INTO {new} VALUES ({i}, 'abc')  INSERT INTO {new} VALUES ({i}, 'a', 2.555)  INSERT INTO {new} (a) VALUES ({i})  INSERT INTO {new} (name, id) VALUES ('n', {i})  INSERT INTO {new} VALUES (1, 'a', '2020-1-2', 1.1)
    INSERT INTO {new} (body) VALUES ('p'), ('q')  INSERT INTO {new} (id) VALUES (1)  UPDATE {new} SET id = id + 1  DELETE FROM {new} WHERE id > 3  SELECT * FROM {new}  DESCRIBE {new}  SHOW TABLES  SHOW CREATE TABLE {new}
    ALTER TABLE {t} ADD COLUMN extra INT  ALTER TABLE {t} ADD extra VARCHAR(10) DEFAULT 'x'  ALTER TABLE {t} ADD COLUMN extra INT NOT NULL  ALTER TABLE {t} DROP COLUMN {tc}  ALTER TABLE {t} ADD COLUMN {tc} INT
    ALTER TABLE {t} DROP COLUMN nothing  ALTER TABLE {t} RENAME COLUMN {tc} TO other  ALTER TABLE {t} MODIFY {tc} TEXT  ALTER TABLE {t} RENAME TO {new}  ALTER TABLE {t}s ADD a INT  UPDATE {t} SET extra = {i}
    SELECT * FROM {t}  SELECT COUNT(*), MAX({tc}) FROM {t}  SELECT {tc}, COUNT(*) FROM {t} GROUP BY {tc} ORDER BY 1  DESCRIBE {t}  SHOW COLUMNS FROM {u}  SELECT extra FROM {t}  {q}
    START TRANSACTION  COMMIT  ROLLBACK  SET autocommit = 0  SET @a = 1  INSERT INTO {t} ({tc}) VALUES ({x}) ON DUPLICATE KEY UPDATE {tc} = {x}  INSERT INTO {t} VALUES ({row}); SELECT 1
    UPDATE {t} JOIN {u} ON {t}.{tc} = {u}.{uc} SET {t}.{td} = {y}  DELETE {t} FROM {t} JOIN {u} ON {t}.{tc} = {u}.{uc}"""  # fmt: skip
SLIPS = """, ( ) ; ' " ` = == . * AND OR NOT SELECT FROM WHERE BY ON AS the IS IN LIKE 1 NULL 'x' != => && || [ ] -- # \\ ? ! HAVING LIMIT T1. T2. t3.""".split()
OTHER_FORMS = {"agg": "COUNT SUM AVG MIN MAX", "op": "= > < <> IN", "new": "notes notes notes temp"}

KNOWN = {
    "EXPLAIN": r"(EXPLAIN|DESC(RIBE)? TABLE)\b",
    "several statements in one action": r"(?s:.*)\n ours .*Use multi=True",
    "what `writes=True` does not do": r"(?s:.*)\n ours .*(read-only option|doesn't yet support)",
    "the row that UPDATE's message counts": r"UPDATE .*\n ours .*at row \d+\n real .*at row \d+",
    "which of equal rows a write with LIMIT takes": r"SELECT \* FROM `(?s:.*) after .*(UPDATE|DELETE)[^;]* LIMIT 1;",
    "numbers that AUTO_INCREMENT leaves out": r"SELECT \* FROM `(?s:.*) after .*INSERT [^;]*(\), \(|SELECT)",
    "SHOW CREATE TABLE of what an episode made": r"SHOW CREATE TABLE (notes|temp)",
    "numbers that the server estimates": r"SHOW INDEX FROM city",
    "where a syntax error begins": r"(?s:.*)\n ours .*near '.*\n real .*near '",
    "which of two mistakes is told": r"(?s:.*)\n ours Error.*( group function| number of columns|UNION|only_full_group_by|ambiguous|too long|Undeclared).*\n real Error",
    "whether a missing function's name is a keyword": r"(?s:.*)\n ours .*\n real .*Function Name Parsing",
    "real numbers as texts in a temporary table": r"(?s:.*)(\bUNION\b.*\b(SUM|AVG)\(.*\n ours \[|\n ours \[.*\n real \[.*'\d+\.\d+')",
    "a number with a collation": r".* [\d.]+ COLLATE",
    "a subquery of several rows beside NULL alone": r"(?s:.*)\n ours .*Subquery returns more than 1 row\n real \[",
    "what an equality of rows determines": r".*\) = \((?s:.*)\n ours .*only_full_group_by.*\n real \[",
    "texts of digits that are dates": r"(?s:.*)\b(YEAR|MONTH)\(",
    "a text in a look-up by a statement that writes": r"(DELETE|UPDATE) .* IN \(SELECT (?s:.*)(Truncated incorrect|Incorrect datetime)",
}  # fmt: skip
"""What is known to differ, by how statement, answers and what went before begin."""

TOKEN = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`|\w+(?:\.\d+)?|<=|>=|<>|!=|\s+|.""", re.S)
CLAUSE = re.compile(r"(select|from|where|having|limit|(?:group|order)\s+by)\b", re.I)
ORDER = ("select", "from", "where", "group", "having", "order", "limit")


def several(statement: str) -> bool:
    return ";" in statement.rstrip("; \n")


def forms(text: str) -> list[str]:
    return [form for form in re.split(r"\s*\n\s*|  +", text) if form]


def parts(query: str) -> dict[str, str]:
    """The clauses of a query, by their first word; none of one that is a UNION or the like."""
    found: dict[str, str] = {}
    depth, name = 0, ""
    for token in re.findall(r"(?:group|order)\s+by\b|" + TOKEN.pattern, query, re.I | re.S):
        depth += (token == "(") - (token == ")")
        if depth == 0 and token.lower() in ("union", "intersect", "except"):
            return {}
        if depth == 0 and CLAUSE.fullmatch(token):
            name = token.split()[0].lower()
            found[name] = ""
        else:
            found[name] = found.get(name, "") + token
    return {name: text.strip() for name, text in found.items()}


def joined(found: dict[str, str]) -> str:
    words = {"group": "group by", "order": "order by"}
    return " ".join(f"{words.get(n, n).upper()} {found[n]}" for n in ORDER if n in found)


class Maker:
    """Makes statements about the databases of the dump."""

    def __init__(self, rng: random.Random, records: list[data.Record], server: Server) -> None:
        self.rng, self.dbs = rng, server.dbs
        gold = {(r.db.lower(), r.gold.strip(" ;")) for r in records}
        self.gold = sorted((db, query) for db, query in gold if any(t.rows for t in self.dbs[db].values()))

    def begin(self) -> str:
        """Choose a gold query and what else a statement is about; gives its database."""
        rng = self.rng
        self.db, self.query = rng.choice(self.gold)
        self.parts = parts(self.query)
        tables = list(self.dbs[self.db].values())
        found = re.findall(
            r"\b(?:from|join)\s+(\w+)(?:\s+as\s+(\w+))?", self.parts.get("from", self.query), re.I
        )
        if "from" in self.parts:
            found += [*re.findall(r"\A(\w+)(?:\s+as\s+(\w+))?", self.parts["from"], re.I)]
        self.sources = [
            (self.dbs[self.db][t.lower()], a or t) for t, a in found if t.lower() in self.dbs[self.db]
        ]
        self.filled: dict[str, str] = {}
        self.columns: dict[str, tuple[Table, str]] = {}
        self.t = rng.choice(self.sources)[0] if self.sources else rng.choice(tables)
        self.u = rng.choice(tables)
        return self.db

    def fill(self, form: str) -> str:
        """The form with what stands in braces; the same again within a statement."""

        def made(match: re.Match[str]) -> str:
            name = match[1]
            if name not in self.filled:
                self.filled[name] = self.word(name)
            return self.filled[name]

        return re.sub(r"\{(\w+)\}", made, form)

    def word(self, name: str) -> str:
        rng = self.rng
        if name in OTHER_FORMS:
            return rng.choice(OTHER_FORMS[name].split())
        if name in ("c", "d", "n"):
            table, alias = rng.choice(self.sources or [(self.t, self.t.name)])
            columns = [
                c.name for c in table.columns if name != "n" or c.kind not in ("str", "date", "datetime")
            ]
            column = rng.choice(columns or [c.name for c in table.columns])
            self.columns[name] = table, column
            return f"{alias}.{column}" if len(self.sources) > 1 else column
        if name in ("v", "w"):
            self.fill("{c}")
            return self.value(*self.columns["c"])
        if name in ("tc", "td", "uc"):
            return rng.choice((self.u if name == "uc" else self.t).columns).name
        if name in ("x", "y"):
            return self.value(self.t, self.fill("{tc}" if name == "x" else "{td}"))
        if name in ("row", "fresh"):
            values = [self.value(self.t, c.name) for c in self.t.columns]
            return ", ".join([str(rng.randint(1000, 9999)), *values[1:]] if name == "fresh" else values)
        if name == "r":
            return rng.choice([query for db, query in self.gold if db == self.db])
        plain = {"t": self.t.name, "u": self.u.name, "q": self.query, "db": self.db}
        plain |= {
            "from": self.parts.get("from", self.t.name),
            "names": ", ".join(c.name for c in self.t.columns),
        }
        return plain[name] if name in plain else str(rng.randint(1, 9))

    def value(self, table: Table, column: str) -> str:
        at = [c.name for c in table.columns].index(column)
        value = self.rng.choice(table.rows)[at] if table.rows else None
        if value is None or not isinstance(value, str):
            return "NULL" if value is None else str(value)
        return "'" + value.replace("'", "''") + "'"

    def statement(self) -> tuple[str, str]:
        """(kind, statement)"""
        rng, u = self.rng, self.rng.random()
        if u < 0.55 and "from" in self.parts:
            return self.exchanged()
        if u < 0.75:
            return "slip", self.slip(self.query if u < 0.7 else self.exchanged()[1])
        kind = rng.choice(list(WHOLE))
        return kind, self.fill(rng.choice(forms(WHOLE[kind])))

    def exchanged(self) -> tuple[str, str]:
        """The gold query with one to three clauses dropped, new, or others."""
        rng, found = self.rng, dict(self.parts)
        if "from" not in found:
            return "gold", self.query
        if rng.random() < 0.4:  # about less, so that what is new counts
            found = {name: found[name] for name in ("select", "from", "where") if name in found}
        names = rng.sample(list(CLAUSES), rng.choice((1, 1, 2, 3)))
        for name in names:
            form = self.fill(rng.choice(forms(CLAUSES[name])))
            if rng.random() < 0.15 and name not in ("select", "from"):
                found.pop(name, None)
            elif name == "where" and "where" in found and rng.random() < 0.5:
                found["where"] += rng.choice((" AND ", " OR ")) + form
            elif name == "select" and rng.random() < 0.25:
                found["select"] += ", " + form
            else:
                found[name] = form
        return "+".join(sorted(names)), joined(found)

    def slip(self, query: str) -> str:
        """The query with something misspelt, left out, doubled or put in."""
        rng, tokens = self.rng, TOKEN.findall(query)
        at = rng.choice([i for i, t in enumerate(tokens) if not t.isspace()])
        word = tokens[at]
        match rng.randrange(8):
            case 0:
                tokens[at] = ""
            case 1:
                tokens[at] = f"{word} {word}"
            case 2:
                tokens[at] = rng.choice(SLIPS)
            case 3:
                tokens[at] = f"{word} {rng.choice(SLIPS)} "
            case 4:
                tokens[at] = rng.choice(
                    (word[:-1], word + "s", "the_" + word, word.replace("_", ""), word.upper())
                )
            case 5:
                names = [c.name for t in self.dbs[self.db].values() for c in t.columns] + list(
                    self.dbs[self.db]
                )
                places = [i for i, t in enumerate(tokens) if t.lower() in {n.lower() for n in names}]
                tokens[rng.choice(places or [at])] = rng.choice(names)
            case 6:
                tokens[at] = rng.choice((f"`{word}`", f'"{word}"', f"'{word}'", f"[{word}]", f"({word})"))
            case 7:
                tokens = tokens[:at] if at > 2 else tokens[at + 1 :]
        return "".join(tokens).strip() or "SELECT"


class Real:
    """A session on the server, asked as InterCode asks it."""

    def __init__(self, url: str) -> None:
        try:
            import mysql.connector  # type: ignore[import-not-found]
        except ImportError:
            sys.exit("this needs InterCode's client: pip install mysql-connector-python==8.0.33")
        self._client, self._parts, self._session = mysql.connector, address(url), None

    def _cursor(self) -> Any:
        if self._session is None:
            parts = self._parts
            where = {"host": parts.hostname or "localhost", "port": parts.port or 3306}
            if parts.query:
                where = {"unix_socket": parts.query.removeprefix("unix_socket=")}
            user, password = unquote(parts.username or ""), os.environ.get(PASSWORD, "")
            self._session = self._client.connect(
                user=user,
                password=password,
                charset="utf8mb4",
                collation="utf8mb4_general_ci",
                use_pure=True,
                **where,
            )
            cursor = self._session.cursor()
            cursor.execute("SET timestamp = UNIX_TIMESTAMP('2023-05-15 12:00:00'), max_execution_time = 3000")
            cursor.close()
        return self._session.cursor(buffered=True)

    def ask(self, statement: str, db: str = "") -> str:
        """The observation that InterCode shows."""
        cursor = self._cursor()
        try:
            if db:
                cursor.execute(f"USE `{db}`")
            cursor.execute(statement)
            return str(cursor.fetchall() if cursor.description is not None else None)
        except self._client.Error as error:
            return f"Error executing query: {error.msg}"
        finally:
            if several(statement):  # the session is lost to the second one's rows
                self.end()
            else:
                cursor.close()

    def end(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


def settled(statement: str, width: int) -> str:
    """The statement with all columns of its rows at the end of its ORDER BY."""
    tokens = TOKEN.findall(re.sub("-- the answer$", "", statement).rstrip("; \n"))
    depth, ends, sorts = 0, len(tokens), False
    for i, token in enumerate(tokens):
        depth += (token == "(") - (token == ")")
        if depth == 0 and token.lower() in ("order", "limit", "union", "intersect", "except"):
            sorts = token.lower() == "order" or (sorts and token.lower() == "limit")
            ends = i if token.lower() == "limit" else len(tokens)
    columns = ", ".join(str(i + 1) for i in range(width))
    return "".join([*tokens[:ends], ", " if sorts else " ORDER BY ", columns, " ", *tokens[ends:]])


def rows_of(text: str) -> list[str] | None:
    """The rows of an observation, each as text and its width before it; None where it has none."""
    if not text.startswith("[("):
        return None
    found = re.sub(r"\b(Decimal|datetime\.\w+|bytearray)\(", "('\\1', ", text)
    try:
        return [f"{len(row)} {row}" for row in ast.literal_eval(found)]
    except (SyntaxError, ValueError):
        return None


def answer(server: Server, statement: str, db: str) -> str:
    """Our observation, types shown as text: see `describe` in envs/sql/base.py."""
    try:
        found = server.run(statement, db)
    except Exception as error:  # which no statement may cause
        return f"raised {error!r}"
    if not found.rows:
        return found.text
    return str([tuple(v.decode() if isinstance(v, bytes) else v for v in row) for row in found.rows])


Both = Callable[[str], tuple[str, str]]
"""Our observation of a statement, and the server's."""


class Match:
    """The two engines side by side."""

    def __init__(self, ours: Server, real: Real) -> None:
        self.ours, self.real = ours, real
        self.count: collections.Counter[str] = collections.Counter()
        self.kinds: dict[str, list[str]] = collections.defaultdict(list)

    @property
    def statements(self) -> int:
        return self.count["answers"] + self.count["refusals"]

    def same(self, kind: str, statement: str, both: Both, played: str = "") -> bool:
        """Ask both; whether they answer alike."""
        mine, theirs = both(statement)
        what = "answers" if not theirs.startswith("Error") else "refusals"
        self.count["tables looked at after a write" if kind == LOOK else what] += 1
        if mine == theirs:
            return True
        if TOO_LONG in mine or TOO_LONG in theirs:
            self.count["stopped, as too long, by one of the two"] += 1
            return True
        a, b = rows_of(mine), rows_of(theirs)
        how = "text"
        if a and b:
            how = "rows" if sorted(a) != sorted(b) else "order"
            one, other = both(settled(statement, int(b[0].split()[0])))
            if one == other and one.startswith("["):
                self.count["rows in another order, or others under LIMIT, where SQL leaves it open"] += 1
                return True
        elif mine.startswith("Error") != theirs.startswith("Error"):
            how = "refused here" if mine.startswith("Error") else "refused there"
        elif mine.startswith("Error"):
            how = "message"
        line = f"{statement}\n ours {mine}\n real {theirs}" + f"\n after {played}" * bool(played)
        known = next((name for name, pattern in KNOWN.items() if re.match(pattern, line, re.I)), None)
        self.count["differ, as is known" if known else "differ otherwise"] += 1
        self.kinds[known or f"{kind}: {how}"].append(line)
        return False

    def read(self, kind: str, statement: str, db: str) -> None:
        self.same(kind, statement, lambda asked: (answer(self.ours, asked, db), self.real.ask(asked, db)))

    def write(self, maker: Maker, steps: int) -> None:
        """An episode on a copy of the present database."""
        tables = self.ours.dbs[maker.db]
        copies = {n: dataclasses.replace(copy_of(t), db=OWN, foreign=[]) for n, t in tables.items()}
        ours = Server({OWN: copies}).writable()
        self.real.end()
        self.real.ask(f"DROP DATABASE IF EXISTS {OWN}")
        self.real.ask(f"CREATE DATABASE {OWN} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
        self.real.ask(f"USE {OWN}")
        for name in tables:
            self.real.ask(f"CREATE TABLE `{name}` LIKE `{maker.db}`.`{name}`")
            self.real.ask(f"INSERT INTO `{name}` SELECT * FROM `{maker.db}`.`{name}`")
        self.real.ask("COMMIT")

        def both(asked: str) -> tuple[str, str]:
            return answer(ours, asked, OWN), self.real.ask(asked, OWN)

        played = ""
        for _ in range(steps):
            self.count["of these in episodes that write"] += 1
            maker.filled = {}
            statement = maker.fill(maker.rng.choice(forms(WRITES)))
            if not self.same("write", statement, both, played) or several(statement):
                break
            played += f"{statement}; "
            looks = [f"SELECT * FROM `{name}`" for name in sorted(ours.dbs[OWN])]
            if not all(self.same(LOOK, look, both, played) for look in looks):
                break
        self.real.ask(f"DROP DATABASE IF EXISTS {OWN}")


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--server", required=True)
    parser.add_argument("--statements", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=3)
    arguments = parser.parse_args()
    started, rng = time.monotonic(), random.Random(arguments.seed)
    try:
        records, _ = data.official()
        dump = sets.folder(data.OFFICIAL.name) / data.DUMP
        match = Match(data.read_server(dump), Real(arguments.server))
    except ProsegymError as error:
        parser.error(str(error))
    maker = Maker(rng, records, match.ours)
    asked = set()
    while match.statements < arguments.statements:
        db = maker.begin()
        if rng.random() < 0.02:
            match.write(maker, 10)
            continue
        kind, statement = maker.statement()
        if (db, statement) not in asked:
            asked.add((db, statement))
            match.read(kind, statement, db)
    for name, lines in sorted(match.kinds.items(), key=lambda item: (item[0] not in KNOWN, -len(item[1]))):
        print(f"{'known' if name in KNOWN else 'UNKNOWN'}: {name}: {len(lines)}")
        for line in lines[: arguments.show]:
            print("", *(f"{part:.400}" for part in line.split("\n ")), sep="\n    ")
    print(f"{match.statements:7d} statements")
    for what, n in sorted(match.count.items()):
        print(f"{n:7d} {what}")
    print(f"{time.monotonic() - started:.0f} s")
    return int(match.count["differ otherwise"] > 0)


if __name__ == "__main__":
    sys.exit(main())
