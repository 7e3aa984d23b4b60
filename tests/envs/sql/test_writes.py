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
    assert show(env, "SELECT id, body, n FROM notes") == "[(1, 'A', None), (2, 'B', None), (3, 'q', 2)]"
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
        ("INSERT INTO notes (id, body) VALUES (1, 'x') ON DUPLICATE KEY UPDATE body = 'x'", "doesn't yet support 'ON DUPLICATE KEY UPDATE'"),
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
        ("INSERT INTO notes VALUES (1, z.body)", "Unknown column 'z.body' in 'field list'"),
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
