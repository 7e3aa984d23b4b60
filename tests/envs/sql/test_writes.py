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
    assert show(env, "DELETE FROM notes WHERE w > (SELECT AVG(id) FROM notes)") == "None"
    assert show(env, "ALTER TABLE notes ADD COLUMN n INT") == "None"
    assert show(env, "INSERT INTO notes (body, n) SELECT 'q', COUNT(*) FROM notes") == "None"
    assert show(env, "SELECT id, body, n FROM notes") == "[(1, 'A', None), (2, 'B', None), (3, 'q', 2)]"
    assert show(env, "ALTER TABLE notes DROP COLUMN w") == "None"
    assert show(env, "DESCRIBE notes").count("', b'") == 4
    assert show(env, "TRUNCATE TABLE notes") == "None" and show(env, "SELECT * FROM notes") == "[]"
    assert show(env, "DROP TABLE notes") == "None" and "notes" not in show(env, "SHOW TABLES")


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
