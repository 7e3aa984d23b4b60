"""The same tasks asked of a real server: MariaDB from Debian's packages, started for the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest

import prosegym  # noqa: F401
from prosegym.envs.errors import EngineError, ProsegymError
from prosegym.envs.sql import data

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, installed: Any) -> Iterator[str]:
    """The URL of a MariaDB server that holds InterCode's databases."""
    pytest.importorskip("pymysql")
    daemon = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    if daemon is None or shutil.which("mariadb-install-db") is None:
        pytest.skip("no MariaDB here (apt-get install mariadb-server)")
    folder = tmp_path_factory.mktemp("mariadb")
    user = f"--user={os.environ.get('USER', 'root')}"
    subprocess.run(
        ["mariadb-install-db", user, f"--datadir={folder}/data", "--auth-root-authentication-method=normal"],
        check=True, capture_output=True,
    )  # fmt: skip
    socket = folder / "socket"
    process = subprocess.Popen(
        [daemon, "--no-defaults", user, f"--datadir={folder}/data", f"--socket={socket}", "--skip-networking",
         "--lower-case-table-names=1", f"--pid-file={folder}/pid"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(200):
            if socket.exists():
                break
            time.sleep(0.1)
        with open(installed("intercode_sql") / data.DUMP, "rb") as dump:
            subprocess.run(
                ["mariadb", f"--socket={socket}", "-uroot"], stdin=dump, check=True, capture_output=True
            )
        yield f"mysql://root@/?unix_socket={socket}"
    finally:
        process.terminate()
        process.wait(30)


def test_gold_queries_on_a_real_server(url: str) -> None:
    env: Any = gymnasium.make("prosegym/InterCodeSQL-v1", server=url, disable_env_checker=True).unwrapped
    here: Any = gymnasium.make("prosegym/InterCodeSQL-v1", disable_env_checker=True).unwrapped
    counts: Counter[str] = Counter()
    for i, record in enumerate(data.official()[0]):
        rows = []
        for e in (env, here):
            e.reset(options={"task_id": f"dev/{i}"})
            observation, *_, info = e.step(record.gold)
            if observation.startswith("Error"):
                counts["refused"] += 1
                break
            rows.append(Counter(e._gold_rows()))
        else:
            counts["score 1"] += env.upstream_reward == 1.0
            counts["rows same"] += rows[0] == rows[1]
            counts["answered"] += 1
    assert counts["answered"] >= 1028 and counts["score 1"] == counts["answered"]
    # MariaDB orders ties, and rows without ORDER BY, in its own way: a LIMIT among ties cuts elsewhere.
    assert counts["rows same"] >= 0.98 * counts["answered"], counts


def test_what_is_written_is_undone_and_errors_are_shown(url: str) -> None:
    env: Any = gymnasium.make("prosegym/InterCodeSQL-v1", server=url, disable_env_checker=True).unwrapped
    env.reset(options={"task_id": "dev/0"})
    assert env.step("DELETE FROM poker_player")[0] == "None"
    assert env.step("SELECT COUNT(*) FROM poker_player")[0] == "[(5,)]"
    assert env.step("SELECT nothing")[0].startswith("Error executing query: Unknown column 'nothing'")


def test_what_an_agent_does_to_its_session_ends_with_the_episode(url: str) -> None:
    env: Any = gymnasium.make("prosegym/InterCodeSQL-v1", server=url, disable_env_checker=True).unwrapped
    count = "SELECT COUNT(*) FROM poker_player"  # as the gold query of this task
    env.reset(options={"task_id": "dev/157"})
    assert env.step("SET autocommit = 1")[0] == "None"
    assert env.step("DELETE FROM poker_player")[0] == "None"
    assert env.step(count)[4]["score"] == 1.0
    # The gold query was asked before: neither a table of that name nor a limit makes these right.
    assert env.step("CREATE TEMPORARY TABLE poker_player AS SELECT 1 AS one")[0] == "None"
    state = env.snapshot()
    assert env.step(count)[4]["score"] == 0.0
    env.restore(state)
    assert env.step(count)[4]["score"] == 0.0
    assert env.step("SET sql_select_limit = 0")[0] == "None"
    assert env.step("SELECT 2 WHERE 0")[4]["score"] == 0.0
    env.reset(options={"task_id": "dev/157"})
    assert env.step(count)[4]["score"] == 1.0
    env.reset(options={"task_id": "dev/0"})
    env.restore(state)  # of an episode whose session is gone: the rows are those of the dump
    assert env.step(count)[4]["score"] == 1.0
    env.close()


def test_a_lost_connection_costs_its_episode_only(url: str) -> None:
    env: Any = gymnasium.make("prosegym/InterCodeSQL-v1", server=url, disable_env_checker=True).unwrapped
    env.reset(options={"task_id": "dev/157"})
    env.step("KILL CONNECTION_ID()")
    with pytest.raises(EngineError, match="connection to the MySQL server was lost"):
        env.step("SELECT 1")
    env.reset(options={"task_id": "dev/157"})
    assert env.step("SELECT COUNT(*) FROM poker_player")[4]["score"] == 1.0


@pytest.mark.parametrize(
    "use", ["USE car_1", "USE`car_1`", "use/**/Car_1", "/* a */ USE car_1", "-- a\nUSE car_1;"]
)
def test_however_use_is_written_the_right_answer_is_the_tasks_own(url: str, use: str) -> None:
    env: Any = gymnasium.make("prosegym/InterCodeSQL-v1", server=url, disable_env_checker=True).unwrapped
    env.reset(options={"task_id": "dev/0"})
    assert env.step(use)[0] == "None"
    assert env.step("SELECT DATABASE()")[0] == "[('car_1',)]"
    assert env.step("SELECT 1 WHERE 0")[0] == "[]" and env.step("submit")[4]["score"] == 0.0
    env.reset(options={"task_id": "dev/0"})
    assert env.step("SELECT DATABASE()")[0] == "[('poker_player',)]"


def test_a_server_that_is_not_there() -> None:
    pytest.importorskip("pymysql")
    env: Any = gymnasium.make(
        "prosegym/InterCodeSQL-v1", server="mysql://root@127.0.0.1:1", disable_env_checker=True
    ).unwrapped
    with pytest.raises(ProsegymError, match="cannot connect"):
        env.reset(options={"task_id": "dev/0"})
