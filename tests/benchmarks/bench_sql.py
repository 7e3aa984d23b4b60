"""SQL: gold queries a second, resets, generated tasks. `pytest tests/benchmarks/bench_sql.py --benchmark-only`."""

from __future__ import annotations

import sqlite3
from typing import Any

import gymnasium
import pytest

import prosegym  # noqa: F401
from prosegym.envs.sql import data
from prosegym.envs.sql.engine import Server
from prosegym.envs.sql.generator import generate


@pytest.fixture(scope="module")
def env(installed: Any) -> Any:
    installed("intercode_sql")
    return gymnasium.make("prosegym/InterCodeSQL-v1", disable_env_checker=True).unwrapped


def test_gold_queries_through_the_environment(benchmark: Any, env: Any) -> None:
    """Reset and gold query of all 1,034 tasks; answers are kept per statement and database."""
    records = data.official()[0]

    def all_gold() -> None:
        for i, record in enumerate(records):
            env.reset(options={"task_id": f"dev/{i}"})
            env.step(record.gold)

    all_gold()
    benchmark(all_gold)


def test_gold_queries_computed_anew(benchmark: Any, env: Any) -> None:
    """The same statements with nothing kept but their compiled form, beside plain sqlite3 running the SQL alone."""
    records, server = data.official()
    found = [server._prepare(r.gold, r.db.lower(), False) for r in records]
    benchmark(lambda: [server._execute(compiled) for compiled in found])


def test_peer_sqlite3_alone(benchmark: Any, env: Any) -> None:
    records, server = data.official()
    found = [server._prepare(r.gold, r.db.lower(), False).sql for r in records]  # type: ignore[union-attr]
    connection: sqlite3.Connection = server.connection
    benchmark(lambda: [connection.execute(sql).fetchall() for sql in found])


def test_compiling(benchmark: Any, env: Any) -> None:
    records, server = data.official()
    benchmark(lambda: [server._prepare(r.gold, r.db.lower(), False) for r in records])


def test_reset(benchmark: Any, env: Any) -> None:
    benchmark(lambda: env.reset(options={"task_id": "dev/7"}))


def test_generating(benchmark: Any) -> None:
    numbers = iter(range(10**9))
    benchmark(lambda: generate("train", next(numbers)))


def test_building_a_generated_database(benchmark: Any) -> None:
    tables = generate("train", 0).tables
    benchmark(lambda: Server({"mini": tables}))
