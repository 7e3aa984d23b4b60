"""Statements that write: on an episode's own copy, and on nothing else."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest

import prosegym  # noqa: F401
from prosegym.envs.errors import Unsupported
from prosegym.envs.sql.generator import generate


@pytest.fixture
def env() -> Any:
    env: Any = gymnasium.make(
        "prosegym/MiniSQL-v1", writes=True, max_steps=100, disable_env_checker=True
    ).unwrapped
    env.reset(options={"task_id": "train/0"})
    env.step(
        "CREATE TABLE notes (id INT PRIMARY KEY AUTO_INCREMENT, body VARCHAR(5) NOT NULL, w FLOAT, d DATE)"
    )
    return env


def show(env: Any, statement: str) -> str:
    return str(env.step(statement)[0])


def test_what_is_written_can_be_read(env: Any) -> None:
    assert show(env, "INSERT INTO notes (body, w) VALUES ('a', 1.1), ('B', 2)") == "None"
    assert show(env, "INSERT INTO notes VALUES (9, 'c', NULL, '2020-1-2')") == "None"
    assert show(env, "SELECT * FROM notes WHERE id < 9") == "[(1, 'a', 1.1, None), (2, 'B', 2.0, None)]"
    assert show(env, "UPDATE notes SET w = id * 2, body = UPPER(body) WHERE body IN ('A', 'C')") == "None"
    assert (
        show(env, "SELECT body, w, d FROM notes")
        == "[('A', 2.0, None), ('B', 2.0, None), ('C', 18.0, datetime.date(2020, 1, 2))]"
    )
    assert show(env, "DELETE FROM notes WHERE w > (SELECT AVG(id) FROM (SELECT id FROM notes) t)") == "None"
    assert show(env, "ALTER TABLE notes ADD COLUMN n INT") == "None"
    assert show(env, "INSERT INTO notes (body, n) SELECT 'q', COUNT(*) FROM notes") == "None"
    assert show(env, "SELECT id, body, n FROM notes") == "[(1, 'A', None), (2, 'B', None), (10, 'q', 2)]"
    assert show(env, "ALTER TABLE notes DROP COLUMN w") == "None"
    assert show(env, "DESCRIBE notes").count("', b'") == 4
    assert show(env, "TRUNCATE TABLE notes") == "None" and show(env, "SELECT * FROM notes") == "[]"
    assert show(env, "DROP TABLE notes") == "None" and "notes" not in show(env, "SHOW TABLES")


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("INSERT notes SET body = 'c', notes.w = 1 + 1, d = DEFAULT", [(1, "a", 1.5, None), (5, "b", None, None), (6, "c", 2.0, None)]),
        ("INSERT INTO notes VALUES (8, 'c', 0, NULL), (DEFAULT, 'd', DEFAULT, NULL)", [(1, "a", 1.5, None), (5, "b", None, None), (8, "c", 0.0, None), (9, "d", None, None)]),
        ("INSERT IGNORE INTO notes (id, body) VALUES (5, 'x'), (3, 'y'), (3, 'z')", [(1, "a", 1.5, None), (3, "y", None, None), (5, "b", None, None)]),
        ("INSERT IGNORE INTO notes SELECT * FROM notes", [(1, "a", 1.5, None), (5, "b", None, None)]),
        ("REPLACE INTO notes (id, body) VALUES (1, 'x'), (3, 'y'), (3, 'z')", [(1, "x", None, None), (3, "z", None, None), (5, "b", None, None)]),
        ("REPLACE notes SET id = 5, body = 'q'", [(1, "a", 1.5, None), (5, "q", None, None)]),
        ("UPDATE notes SET w = 7 ORDER BY body DESC LIMIT 1", [(1, "a", 1.5, None), (5, "b", 7.0, None)]),
        ("UPDATE LOW_PRIORITY notes AS n SET n.w = 7, n.d = DEFAULT WHERE n.id < 9 LIMIT 1", [(1, "a", 7.0, None), (5, "b", None, None)]),
        ("UPDATE notes SET w = 7 / (id - 1) WHERE id > 1", [(1, "a", 1.5, None), (5, "b", 1.75, None)]),
        ("UPDATE notes SET w = w / 0 WHERE w IS NULL", [(1, "a", 1.5, None), (5, "b", None, None)]),
        ("UPDATE notes SET w = (SELECT MAX(i) FROM (SELECT id AS i FROM notes) t)", [(1, "a", 5.0, None), (5, "b", 5.0, None)]),
        # From left to right, each value as its column holds it.
        ("UPDATE notes SET w = 2, id = id + w", [(3, "a", 2.0, None), (7, "b", 2.0, None)]),
        ("UPDATE notes SET id = id + 1, id = id + 1", [(3, "a", 1.5, None), (7, "b", None, None)]),
        ("UPDATE notes n SET body = id * 10, n.w = n.body + 1 WHERE id = 5", [(1, "a", 1.5, None), (5, "50", 51.0, None)]),
        ("UPDATE notes SET w = NULL, body = IFNULL(w, 'no')", [(1, "no", None, None), (5, "no", None, None)]),
        ("UPDATE notes SET body = 'é', w = body = 'E'", [(1, "é", 1.0, None), (5, "é", 1.0, None)]),
        ("UPDATE notes SET w = 3, body = (SELECT MAX(notes.w + i) FROM (SELECT 4 AS i) t)", [(1, "7", 3.0, None), (5, "7", 3.0, None)]),
        ("UPDATE notes SET w = DEFAULT, body = w IS NULL", [(1, "1", None, None), (5, "1", None, None)]),
        ("UPDATE notes SET body = 'abc    ', w = LENGTH(body)", [(1, "abc  ", 5.0, None), (5, "abc  ", 5.0, None)]),
        ("INSERT INTO notes (id, body, w) VALUES (1, 'x', 3), (7, 'y', 4) ON DUPLICATE KEY UPDATE w = w + VALUES(w)", [(1, "a", 4.5, None), (5, "b", None, None), (7, "y", 4.0, None)]),
        ("INSERT INTO notes SET id = 5, body = 'x' ON DUPLICATE KEY UPDATE w = 2, body = notes.w, d = DEFAULT", [(1, "a", 1.5, None), (5, "2", 2.0, None)]),
        ("INSERT INTO notes (id, body) VALUES (8, 'x'), (8, 'y'), (8, 'z') ON DUPLICATE KEY UPDATE body = CONCAT(body, VALUES(body))", [(1, "a", 1.5, None), (5, "b", None, None), (8, "xyz", None, None)]),
        ("INSERT INTO notes (id, body) VALUES (1, 'x') AS new ON DUPLICATE KEY UPDATE id = new.id + 1, body = new.body", [(2, "x", 1.5, None), (5, "b", None, None)]),
        ("INSERT INTO notes (id, body) VALUES (1, 'x') AS new(p, q) ON DUPLICATE KEY UPDATE w = p + 1, body = new.q", [(1, "x", 2.0, None), (5, "b", None, None)]),
        ("INSERT INTO notes (id, body) SELECT id, 'k' FROM (SELECT 4 AS id UNION SELECT 5) t ON DUPLICATE KEY UPDATE body = 'd'", [(1, "a", 1.5, None), (4, "k", None, None), (5, "d", None, None)]),
        ("INSERT IGNORE INTO notes (id, body) VALUES (1, 'x') ON DUPLICATE KEY UPDATE w = 7", [(1, "a", 7.0, None), (5, "b", None, None)]),
        ("DELETE FROM notes ORDER BY w LIMIT 1", [(1, "a", 1.5, None)]),
        ("DELETE QUICK FROM notes n WHERE n.w > 1 ORDER BY n.id", [(5, "b", None, None)]),
        ("DELETE FROM notes LIMIT 0", [(1, "a", 1.5, None), (5, "b", None, None)]),
    ],
)  # fmt: skip
def test_forms(env: Any, statement: str, expected: list[Any]) -> None:
    show(env, "INSERT INTO notes (id, body, w) VALUES (1, 'a', 1.5), (5, 'b', NULL)")
    assert show(env, statement) == "None"
    assert show(env, "SELECT * FROM notes") == str(expected)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE notes SET w = 1 WHERE w > (SELECT AVG(w) FROM notes)", "You can't specify target table 'notes' for update in FROM clause"),
        ("UPDATE Notes n SET w = (SELECT MAX(w) FROM mini.notes)", "You can't specify target table 'n' for update in FROM clause"),
        ("DELETE FROM notes WHERE id IN (SELECT 1 UNION SELECT id FROM notes)", "You can't specify target table 'notes' for update in FROM clause"),
        ("INSERT INTO notes (id, body) VALUES (2, (SELECT MAX(body) FROM notes))", "You can't specify target table 'notes' for update in FROM clause"),
        ("UPDATE notes SET w = (SELECT MAX(z) FROM notes)", "Unknown column 'z' in 'field list'"),
        ("UPDATE notes SET w = w / 0", "Division by 0"),
        ("UPDATE notes SET w = 5 WHERE id % 0 > 1", "Division by 0"),
        ("DELETE FROM notes ORDER BY MOD(id, 0)", "Division by 0"),
        ("INSERT INTO notes (id, body) VALUES (1 DIV 0, 'x')", "Division by 0"),
        ("INSERT INTO notes (body) SELECT body FROM notes WHERE 1 / (id - 1) > 0", "Division by 0"),
        ("UPDATE notes SET w = y WHERE z = 1", "Unknown column 'z' in 'where clause'"),
        ("UPDATE notes SET w = y", "Unknown column 'y' in 'field list'"),
        ("UPDATE notes SET w = 1 ORDER BY y", "Unknown column 'y' in 'order clause'"),
        ("UPDATE notes SET w = 1 ORDER BY 1", "Unknown column '1' in 'order clause'"),
        ("DELETE FROM notes ORDER BY COUNT(*)", "Invalid use of group function"),
        ("DELETE FROM notes LIMIT 2, 3", "near ', 3' at line 1"),
        ("INSERT INTO notes (id, ID, body) VALUES (1, 2, 'x')", "Column 'id' specified twice"),
        ("INSERT INTO notes SET body = DEFAULT", "Field 'body' doesn't have a default value"),
        ("REPLACE INTO notes (id, z) VALUES (1, 2)", "Unknown column 'z' in 'field list'"),
        ("INSERT INTO notes (id, body) VALUES (1, 'x') ON DUPLICATE KEY UPDATE z = 5", "Unknown column 'z' in 'field list'"),
        ("INSERT INTO notes (id, body) VALUES (9, 'x') ON DUPLICATE KEY UPDATE w = z", "Unknown column 'z' in 'field list'"),
        ("INSERT INTO notes (id, body) VALUES (9, 'x') ON DUPLICATE KEY UPDATE w = VALUES(z)", "Unknown column 'z' in 'field list'"),
        ("INSERT INTO notes (id, body) VALUES (1, 'x') ON DUPLICATE KEY UPDATE id = 5", "Duplicate entry '5' for key 'notes.PRIMARY'"),
        ("INSERT INTO notes (id, body) VALUES (1, 'x') ON DUPLICATE KEY UPDATE body = NULL", "Column 'body' cannot be null"),
        ("INSERT INTO notes (id, body) VALUES (1, 'x') ON DUPLICATE KEY UPDATE id = 'z'", "Incorrect integer value: 'z' for column 'id' at row 1"),
        ("INSERT INTO notes (id, body) VALUES (1, 'x') ON DUPLICATE KEY UPDATE w = 1 / 0", "Division by 0"),
        ("INSERT INTO notes (id, body) VALUES (1, 'x') ON DUPLICATE KEY UPDATE w = (SELECT MAX(w) FROM notes)", "You can't specify target table 'notes' for update in FROM clause"),
        ("INSERT INTO notes (id, body) VALUES (1, 'x') AS new ON DUPLICATE KEY UPDATE id = id + new.id", "Column 'id' in field list is ambiguous"),
        ("INSERT INTO notes (id, body) VALUES (1, 'x') ON DUPLICATE UPDATE body = 'x'", "near 'UPDATE body = 'x'' at line 1"),
        ("REPLACE INTO notes (id, body) VALUES (1, 'x') ON DUPLICATE KEY UPDATE body = 'x'", "near 'ON DUPLICATE KEY UPDATE body = 'x'' at line 1"),
        ("UPDATE notes SET w = 0, id = 10 / w", "Division by 0"),
        ("UPDATE notes n JOIN notes m ON n.id = m.id SET n.w = 1", "doesn't yet support 'UPDATE of several tables'"),
        ("DELETE n FROM notes n", "doesn't yet support 'DELETE of several tables'"),
    ],
)  # fmt: skip
def test_refusals_of_forms(env: Any, statement: str, message: str) -> None:
    show(env, "INSERT INTO notes (id, body, w) VALUES (1, 'a', 1.5), (5, 'b', NULL)")
    before = show(env, "SELECT * FROM notes")
    assert show(env, statement).endswith(message)
    assert show(env, "SELECT * FROM notes") == before


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("INSERT INTO notes (body) VALUES (NULL)", "Column 'body' cannot be null"),
        ("INSERT INTO notes (w) VALUES (1)", "Field 'body' doesn't have a default value"),
        ("INSERT INTO notes (body) VALUES ('abcdef')", "Data too long for column 'body' at row 1"),
        ("INSERT INTO notes (id, body) VALUES (1, 'x'), (1, 'y')", "Duplicate entry '1' for key 'notes.PRIMARY'"),
        ("INSERT INTO notes (id, body) VALUES ('z', 'x')", "Incorrect integer value: 'z' for column 'id' at row 1"),
        ("INSERT INTO notes (id, body) VALUES (2147483648, 'x')", "Out of range value for column 'id' at row 1"),
        ("INSERT INTO notes (id, body) VALUES (1e30, 'x')", "Out of range value for column 'id' at row 1"),
        ("INSERT INTO notes VALUES (1)", "Column count doesn't match value count at row 1"),
        ("INSERT INTO none VALUES (1)", "Table 'mini.none' doesn't exist"),
        ("INSERT INTO notes VALUES (1, z.body)", "Column count doesn't match value count at row 1"),
        ("INSERT INTO notes VALUES (1, z.body, 1, NULL)", "Unknown column 'z.body' in 'field list'"),
        ("UPDATE notes SET z = 1", "Unknown column 'z' in 'field list'"),
        ("DELETE FROM notes WHERE z = 1", "Unknown column 'z' in 'where clause'"),
        ("DROP TABLE none", "Unknown table 'mini.none'"),
        ("CREATE TABLE notes (a INT)", "Table 'notes' already exists"),
        ("CREATE DATABASE x", "read-only"),
        ("INSERT INTO notes (body) VALUES", "syntax to use near ''"),
        ("DELETE FROM information_schema.tables", "Access denied"),
        ("INSERT INTO notes (body) WITH RECURSIVE n AS (SELECT 1 AS v UNION ALL SELECT v + 1 FROM n) SELECT 'x' FROM n WHERE v < 0", "interrupted"),
    ],
)  # fmt: skip
def test_refusals_change_nothing(env: Any, statement: str, message: str) -> None:
    assert message in show(env, statement)
    assert show(env, "SELECT COUNT(*) FROM notes") == "[(0,)]"


MADE = """CREATE TABLE n (id INT PRIMARY KEY AUTO_INCREMENT, a INT UNIQUE, b INT NOT NULL DEFAULT 3, s VARCHAR(5), d DECIMAL(5,1) NOT NULL)
INSERT INTO n VALUES (4, 5, 7, 'x', 1.5), (2, 6, 8, 'y', 2)"""


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ("CREATE TABLE m LIKE n; DESCRIBE m", "[('id', b'int', 'NO', 'PRI', None, 'auto_increment'), ('a', b'int', 'YES', 'UNI', None, ''), ('b', b'int', 'NO', '', b'3', ''), ('s', b'varchar(5)', 'YES', '', None, ''), ('d', b'decimal(5,1)', 'NO', '', None, '')]"),
        ("CREATE TABLE m (LIKE n); INSERT INTO m (d) VALUES (1); SELECT * FROM m", "[(1, None, 3, None, Decimal('1.0'))]"),
        ("CREATE TABLE IF NOT EXISTS n LIKE none", "Table 'mini.none' doesn't exist"),
        ("CREATE TABLE m LIKE n; CREATE TABLE n LIKE m", "Table 'n' already exists"),
        ("CREATE TABLE m LIKE x.none", "Unknown database 'x'"),
        ("CREATE TABLE m LIKE n n", "near 'n' at line 1"),
        # The columns are those of the table, without its keys.
        ("CREATE TABLE m AS SELECT * FROM n; DESCRIBE m", "[('id', b'int', 'NO', '', b'0', ''), ('a', b'int', 'YES', '', None, ''), ('b', b'int', 'NO', '', b'3', ''), ('s', b'varchar(5)', 'YES', '', None, ''), ('d', b'decimal(5,1)', 'NO', '', None, '')]"),
        ("CREATE TABLE m SELECT * FROM n; SELECT * FROM m", "[(2, 6, 8, 'y', Decimal('2.0')), (4, 5, 7, 'x', Decimal('1.5'))]"),
        ("CREATE TABLE m (SELECT o.b, t.z FROM n LEFT JOIN n o ON n.id < o.id JOIN (SELECT d AS z FROM n) t); DESCRIBE m", "[('b', b'int', 'YES', '', b'3', ''), ('z', b'decimal(5,1)', 'NO', '', None, '')]"),
        ("CREATE TABLE m AS SELECT s, b * 2 AS twice FROM n ORDER BY b DESC LIMIT 1; SELECT s, twice / 3 FROM m", "[('y', Decimal('5.3333'))]"),
        ("CREATE TABLE m AS SELECT 7 / 3 AS x, IF(1, 1, 0.5) AS y; SELECT x * 3, y FROM m", "[(Decimal('6.9999'), Decimal('1.0'))]"),
        ("CREATE TABLE m AS SELECT id FROM n ORDER BY id DESC; SELECT * FROM m", "[(4,), (2,)]"),
        ("CREATE TABLE m AS SELECT 1 AS a UNION SELECT 'x'; SELECT * FROM m", "[('1',), ('x',)]"),
        ("CREATE TABLE m (z INT NOT NULL DEFAULT 4, id INT) AS SELECT '7' AS id, 1.5 AS q; SELECT * FROM m", "[(4, 7, Decimal('1.5'))]"),
        ("CREATE TABLE m (id INT PRIMARY KEY) AS SELECT 1 AS id UNION ALL SELECT 1", "Duplicate entry '1' for key 'm.PRIMARY'"),
        ("CREATE TABLE m (id TINYINT) SELECT 1000 AS id; SELECT * FROM m", "Table 'mini.m' doesn't exist"),
        ("CREATE TABLE m AS SELECT id, id FROM n", "Duplicate column name 'id'"),
        ("CREATE TABLE n AS SELECT * FROM none", "Table 'mini.none' doesn't exist"),
        ("CREATE TABLE n AS SELECT * FROM n", "Table 'n' already exists"),
        ("CREATE TABLE IF NOT EXISTS n AS SELECT 1 AS q; SELECT COUNT(*) FROM n", "[(2,)]"),
        ("CREATE TABLE m AS SELECT id / 0 FROM n", "Division by 0"),
        ("CREATE TABLE m AS", "near '' at line 1"),
        # INSERT, too, takes the rows that LIMIT leaves, in their order.
        ("CREATE TABLE m (a INT); INSERT INTO m SELECT id FROM n ORDER BY id DESC LIMIT 1; SELECT * FROM m", "[(4,)]"),
        ("CREATE TABLE m (a INT); INSERT INTO m SELECT id FROM n ORDER BY b; SELECT * FROM m", "[(4,), (2,)]"),
    ],
)  # fmt: skip
def test_tables_made_of_others(env: Any, statements: str, expected: str) -> None:
    """A MySQL 8.0.46's answers."""
    for statement in MADE.splitlines():
        assert show(env, statement) == "None"
    *before, last = statements.split("; ")
    for statement in before:
        show(env, statement)
    assert show(env, last).endswith(expected)


def test_whole_numbers_keep_their_columns_range(env: Any) -> None:
    assert show(env, "CREATE TABLE n (a TINYINT UNSIGNED, b BIGINT, c INT(5) ZEROFILL)") == "None"
    assert show(env, "INSERT INTO n VALUES (255, 9223372036854775807, '4294967295')") == "None"
    assert show(env, "SELECT * FROM n") == "[(255, 9223372036854775807, 4294967295)]"
    for column, value in (("a", "256"), ("a", "-1"), ("b", "9223372036854775808"), ("c", "-1")):
        said = show(env, f"INSERT INTO n ({column}) VALUES ({value})")
        assert said.endswith(f"Out of range value for column '{column}' at row 1")


def test_it_ends_with_the_episode(env: Any) -> None:
    table = next(iter(generate("train", 0).tables))
    other: Any = gymnasium.make("prosegym/MiniSQL-v1", disable_env_checker=True).unwrapped
    other.reset(options={"task_id": "train/0"})
    assert (
        show(env, f"DELETE FROM {table}") == "None" and show(env, f"SELECT COUNT(*) FROM {table}") == "[(0,)]"
    )
    assert show(other, f"SELECT COUNT(*) FROM {table}") != "[(0,)]"
    with pytest.raises(Unsupported):
        env.snapshot()
    env.reset(options={"task_id": "train/0"})
    assert show(env, f"SELECT COUNT(*) FROM {table}") != "[(0,)]" and "notes" not in show(env, "SHOW TABLES")


def test_the_gold_answer_is_that_of_the_untouched_database(env: Any) -> None:
    table = next(iter(generate("train", 0).tables))
    for t in generate("train", 0).tables:
        env.step(f"DELETE FROM {t}")
    *_, info = env.step(f"SELECT * FROM {table} WHERE 1 = 0")
    assert info["score"] == 0.0
    assert env._gold_rows() and show(env, env._gold) != show(env, "SHOW TABLES")


NONE = "None"
EPISODES = [
    [  # Keys, defaults, and numbers of rows in messages.
        ("CREATE TABLE u (id INT PRIMARY KEY, code VARCHAR(5) UNIQUE, n INT, UNIQUE KEY pair (n, id), KEY by_n (n), p DECIMAL(4,1) DEFAULT 1.25)", NONE),
        ("SHOW COLUMNS FROM u LIKE 'code'", "[('code', b'varchar(5)', 'YES', 'UNI', None, '')]"),
        ("SHOW COLUMNS FROM u LIKE 'n'", "[('n', b'int', 'YES', 'MUL', None, '')]"),
        ("SHOW COLUMNS FROM u LIKE 'p'", "[('p', b'decimal(4,1)', 'YES', '', b'1.3', '')]"),
        ("INSERT INTO u (id, code, n) VALUES (1, 'a', 1), (2, 'A', 1)", "Duplicate entry 'A' for key 'u.code'"),
        ("INSERT INTO u (id, code, n) VALUES (1, 'a', 1), (2, NULL, 1), (3, NULL, NULL)", NONE),
        ("UPDATE u SET id = id + 1", "Duplicate entry '2' for key 'u.PRIMARY'"),
        ("UPDATE u SET id = id + 1 ORDER BY id DESC", NONE),
        ("UPDATE u SET code = 'x' WHERE n = 1", "Duplicate entry 'x' for key 'u.code'"),
        ("INSERT INTO u (id, p) VALUES (7, 1000)", "Out of range value for column 'p' at row 1"),
        ("INSERT INTO u (id, n) VALUES (8, 1), (9, 'x')", "Incorrect integer value: 'x' for column 'n' at row 2"),
        ("INSERT INTO u (id, n) VALUES (8, 1), (9, '5x')", "Data truncated for column 'n' at row 2"),
        ("INSERT INTO u (id, n) VALUES (8, 1), (9)", "Column count doesn't match value count at row 2"),
        ("INSERT INTO u VALUES ()", "Field 'id' doesn't have a default value"),
        ("SELECT id, code, n, p FROM u ORDER BY id", "[(2, 'a', 1, Decimal('1.3')), (3, None, 1, Decimal('1.3')), (4, None, None, Decimal('1.3'))]"),
        ("ALTER TABLE u ADD COLUMN m INT DEFAULT 4 AFTER id", NONE),
        ("ALTER TABLE u ADD COLUMN f VARCHAR(3) NOT NULL DEFAULT 'z' FIRST", NONE),
        ("ALTER TABLE u ADD COLUMN g DATE NOT NULL", "Incorrect date value: '0000-00-00' for column 'g' at row 1"),
        ("ALTER TABLE u ADD COLUMN h INT AFTER nothing", "Unknown column 'nothing' in 'u'"),
        ("ALTER TABLE u ADD COLUMN l INT NOT NULL UNIQUE", "Duplicate entry '0' for key 'u.l'"),
        ("SELECT * FROM u WHERE id = 2", "[('z', 2, 4, 'a', 1, Decimal('1.3'))]"),
    ],
    [  # A text that is no number stops what writes, but for a column of type TEXT.
        ("CREATE TABLE u (id INT, word VARCHAR(5), words TEXT)", NONE),
        ("INSERT INTO u VALUES (1, 'a', 'a'), (2, '2', '2')", NONE),
        ("UPDATE u SET id = word + 1", "Truncated incorrect DOUBLE value: 'a'"),
        ("DELETE FROM u WHERE word = 2", "Truncated incorrect DOUBLE value: 'a'"),
        ("DELETE FROM u WHERE word", "Truncated incorrect DOUBLE value: 'a'"),
        ("UPDATE u SET id = CAST(word AS SIGNED)", "Truncated incorrect INTEGER value: 'a'"),
        ("INSERT INTO u (id) SELECT 'b' + 1", "Truncated incorrect DOUBLE value: 'b'"),
        ("UPDATE u SET id = id + word WHERE id = 2", NONE),
        ("DELETE FROM u WHERE words = 3", NONE),
        ("SELECT id FROM u WHERE word = 0", "[(1,)]"),
        ("DELETE FROM u WHERE words", NONE),
        ("SELECT id FROM u", "[(1,)]"),
    ],
    [  # Numbers are not given twice, and ROLLBACK takes back what was not committed.
        ("INSERT INTO notes (id, body) VALUES (0, 'p'), (NULL, 'q'), (DEFAULT, 'r')", NONE),
        ("START TRANSACTION", NONE),
        ("DELETE FROM notes WHERE id = 2", NONE),
        ("INSERT INTO notes (body) VALUES ('s')", NONE),
        ("ROLLBACK", NONE),
        ("INSERT INTO notes (body) VALUES ('t')", NONE),
        ("SELECT id, body FROM notes", "[(1, 'p'), (2, 'q'), (3, 'r'), (5, 't')]"),
        ("COMMIT", NONE),
        ("UPDATE notes SET body = 'x'", NONE),
        ("CREATE TABLE v (a INT)", NONE),
        ("ROLLBACK", NONE),
        ("SELECT DISTINCT body FROM notes", "[('x',)]"),
        ("DELETE FROM notes", NONE),
        ("INSERT INTO notes (body) VALUES ('y')", NONE),
        ("SELECT id FROM notes", "[(6,)]"),
    ],
    [  # Definitions that are refused, and several tables.
        ("CREATE TABLE x", "A table must have at least one visible column."),
        ("CREATE TABLE x (a INT, A INT)", "Duplicate column name 'A'"),
        ("CREATE TABLE x (a INT, PRIMARY KEY (b))", "Key column 'b' doesn't exist in table"),
        ("CREATE TABLE x (a INT PRIMARY KEY, b INT, PRIMARY KEY (b))", "Multiple primary key defined"),
        ("CREATE TABLE x (a INT AUTO_INCREMENT)", "there can be only one auto column and it must be defined as a key"),
        ("CREATE TABLE x (a VARCHAR)", "near ')' at line 1"),
        ("CREATE TABLE x (a NUMBER(5))", "near 'NUMBER(5))' at line 1"),
        ("CREATE TABLE x (a INT DEFAULT 'q')", "Invalid default value for 'a'"),
        ("CREATE TABLE x (a TEXT DEFAULT 'q')", "BLOB, TEXT, GEOMETRY or JSON column 'a' can't have a default value"),
        ("CREATE TABLE x (a INT NOT NULL DEFAULT NULL)", "Invalid default value for 'a'"),
        ("CREATE TABLE x (a INT, made TIMESTAMP DEFAULT CURRENT_TIMESTAMP)", NONE),
        ("SHOW CREATE TABLE x", "[('x', 'CREATE TABLE `x` (\\n  `a` int DEFAULT NULL,\\n  `made` timestamp NULL DEFAULT CURRENT_TIMESTAMP\\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci')]"),
        ("INSERT INTO x (a) VALUES (1)", NONE),
        ("SELECT made FROM x", "[(datetime.datetime(2023, 5, 15, 12, 0),)]"),
        ("DROP TABLE v, x, notes, w", "Unknown table 'mini.v,mini.w'"),
        ("DROP TABLE x, notes, x", "Not unique table/alias: 'x'"),
        ("DROP TABLE IF EXISTS x, v", NONE),
        ("UPDATE notes n SET notes.w = 1", "Unknown column 'notes.w' in 'field list'"),
        ("DELETE notes", "near '' at line 1"),
    ],
    [  # Halves, keys of which a column goes, and which of two mistakes is told.
        ("CREATE TABLE n (a INT, b INT, x DOUBLE, s VARCHAR(9), PRIMARY KEY (a, b))", NONE),
        ("INSERT INTO n VALUES (2.5, 2.5e0, 2.5, 1.50), (3, 1, 0.5, 'a')", NONE),
        ("SELECT * FROM n", "[(3, 1, 0.5, 'a'), (3, 2, 2.5, '1.50')]"),
        ("UPDATE n SET b = b * 1.5 WHERE b = 1", "Duplicate entry '3-2' for key 'n.PRIMARY'"),
        ("UPDATE n SET b = x WHERE b = 1", NONE),
        ("UPDATE n SET s = x + 1, x = 1.50 WHERE b = 0", NONE),
        ("SELECT * FROM n", "[(3, 0, 1.5, '1.5'), (3, 2, 2.5, '1.50')]"),
        ("ALTER TABLE n DROP COLUMN b", "Duplicate entry '3' for key 'n.PRIMARY'"),
        ("UPDATE n SET a = 4 WHERE b = 2", NONE),
        ("ALTER TABLE n DROP COLUMN b", NONE),
        ("SHOW COLUMNS FROM n LIKE 'a'", "[('a', b'int', 'NO', 'PRI', None, '')]"),
        ("UPDATE n SET nothing = 1 WHERE none = 1", "Unknown column 'none' in 'where clause'"),
        ("INSERT INTO n (x) VALUES ('abc')", "Data truncated for column 'x' at row 1"),
        ("INSERT INTO n (x) VALUES (1)", "Field 'a' doesn't have a default value"),
        ("SELECT n.1 FROM n", "Unknown column 'n.1' in 'field list'"),
        ("INSERT INTO n (a, x) VALUES (4, 1), (5, 'abc')", "Duplicate entry '4' for key 'n.PRIMARY'"),
        ("INSERT INTO n (a, x) VALUES (5, 'abc'), (4, 1)", "Data truncated for column 'x' at row 1"),
    ],
]  # fmt: skip


@pytest.mark.parametrize("episode", EPISODES)
def test_episodes_as_the_server_answers_them(env: Any, episode: list[tuple[str, str]]) -> None:
    for statement, expected in episode:
        said = show(env, statement)
        assert said == expected or said.startswith("Error") and said.endswith(expected), statement
