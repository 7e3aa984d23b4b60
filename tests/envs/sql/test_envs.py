"""InterCodeSQL-v1 and MiniSQL-v1 beyond the contract that all environments pass."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import gymnasium
import pytest

import prosegym  # noqa: F401
from prosegym.cli import main
from prosegym.envs import panels
from prosegym.envs.core import digest
from prosegym.envs.errors import BadOption, CorruptData, ProsegymError, UnknownName
from prosegym.envs.sql import data
from prosegym.envs.sql.generator import FORMS, LEVELS, generate


@pytest.fixture(scope="module")
def official(installed: Any) -> Path:
    found: Path = installed("intercode_sql")
    return found


def intercode(**kwargs: Any) -> Any:
    return gymnasium.make("prosegym/InterCodeSQL-v1", disable_env_checker=True, **kwargs).unwrapped


def mini(**kwargs: Any) -> Any:
    return gymnasium.make("prosegym/MiniSQL-v1", disable_env_checker=True, **kwargs).unwrapped


def test_every_gold_query_scores_1(official: Path) -> None:
    env = intercode(stop_at_success=True)
    tasks = env.tasks("dev")
    assert len(tasks) == 1034
    for task, record in zip(tasks, data.official()[0], strict=True):
        observation, _ = env.reset(options={"task_id": task.id})
        assert observation == record.query
        _, reward, terminated, _, info = env.step(record.gold)
        assert (reward, terminated, info["success"]) == (1.0, True, True), record


def test_a_reset_makes_one_task(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Mock(side_effect=digest)
    monkeypatch.setattr("prosegym.envs.sql.env.digest", made)
    env = intercode()
    drawn = [env.reset(seed=seed)[1]["task_id"] for seed in range(5)]
    assert made.call_count == 5
    assert len(set(drawn)) == 5 and all(env.task(task_id).id == task_id for task_id in drawn)


def test_gold_queries_that_mysql_refuses(official: Path) -> None:
    records = data.official()[0]
    server = data.official()[1]
    refused = [i for i, r in enumerate(records) if server.run(r.gold, r.db.lower()).error is not None]
    assert len(refused) == 19
    env = intercode(gold="upstream")
    env.reset(options={"task_id": f"dev/{refused[0]}"})
    observation, *_, info = env.step(records[refused[0]].gold)
    assert observation.startswith("Error executing query") and info["score"] == 0.0
    # Upstream compares with no rows, so that a statement without rows is right.
    *_, info = env.step("SELECT 1 FROM DUAL WHERE 1 = 0")
    assert info["score"] == 1.0


ELSEWHERE = ("USE information_schema", "SELECT 1 FROM TABLES LIMIT 0")


def test_another_database_does_not_make_an_empty_answer_right(official: Path) -> None:
    gold = data.official()[0][0].gold
    env = intercode()
    env.reset(options={"task_id": "dev/0"})
    for statement in ELSEWHERE:
        *_, info = env.step(statement)
    assert info["score"] == 0.0
    *_, info = env.step(gold.replace("FROM ", "FROM poker_player.").replace("JOIN ", "JOIN poker_player."))
    assert info["score"] == 1.0
    # As upstream has it: the gold query is refused there, and no rows are right.
    env = intercode(gold="upstream")
    env.reset(options={"task_id": "dev/0"})
    assert [env.step(statement)[4]["score"] for statement in ELSEWHERE][-1] == 1.0


def test_another_database_does_not_make_an_empty_answer_right_in_mini() -> None:
    env = mini(split="test")
    for number in range(20):
        env.reset(options={"task_id": f"test/{number}"})
        for statement in ELSEWHERE:
            *_, info = env.step(statement)
        assert info["score"] == 0.0


def test_panels_stand(official: Path) -> None:
    env = intercode()
    assert len(panels.tasks_of(panels.load("InterCodeSQL-v1/dev"), env)) == 1034
    first = panels.tasks_of(panels.load("InterCodeSQL-v1/retroact_100"), env)
    assert [task.id for task in first] == [f"dev/{i}" for i in range(100)]
    for split in ("valid", "test"):
        found = panels.tasks_of(panels.of_split("prosegym/MiniSQL-v1", split), mini())
        assert Counter(task.task_type for task in found) == dict.fromkeys(LEVELS, 50)


def test_the_last_answer_counts_and_the_best_is_kept(official: Path) -> None:
    env = intercode()
    record = data.official()[0][0]
    env.reset(options={"task_id": "dev/0"})
    *_, info = env.step(record.gold)
    assert (info["score"], info["progress"], info["success"]) == (1.0, 1.0, True)
    *_, info = env.step("SHOW TABLES")
    assert (info["score"], info["progress"], info["success"]) == (0.0, 1.0, False)
    observation, reward, terminated, _, info = env.step("submit")
    assert terminated and reward == 0.0 and "poker_player" in observation and not info["success"]


def test_order_counts_as_declared(official: Path) -> None:
    record = data.official()[0][0]
    backwards = record.gold + " DESC"
    expected = {"upstream": (-0.2, 0.0), "retroact": (0.4, 0.4), "none": (1.0, 1.0)}
    for kendall, (raw, score) in expected.items():
        env = intercode(kendall=kendall)
        env.reset(options={"task_id": "dev/0"})
        *_, info = env.step(backwards)
        assert (env.upstream_reward, info["score"]) == (raw, score)


def test_the_oracle_stop_is_declared(official: Path) -> None:
    gold = data.official()[0][0].gold
    for stop in (False, True):
        env = intercode(stop_at_success=stop)
        env.reset(options={"task_id": "dev/0"})
        assert env.step(f"execute[{gold}]")[2] is stop


def test_ten_steps_use_skip_and_rows(official: Path) -> None:
    env = intercode(rows=2)
    env.reset(options={"task_id": "dev/0"})
    assert env.step("USE world_1")[0] == "None"
    assert env.step("SELECT ID FROM city")[0].count(",)") == 2
    assert env.step("SELECT Name FROM poker_player.people LIMIT 1")[0] == "[('Aleksey Ostapenko',)]"
    for _ in range(7):
        *_, terminated, truncated, info = env.step("SELECT 1")
    assert truncated and not terminated and info["steps"] == 10
    env.reset(options={"task_id": "dev/0"})
    assert env._db == "poker_player"
    observation, _, terminated, _, info = env.step("skip")
    assert observation == "skipped" and terminated and info["score"] == 0.0


@pytest.mark.parametrize("action", ["SKIP", " skip", "Submit", "execute[skip]"])
def test_words_that_upstream_does_not_know_are_sent_to_the_server(official: Path, action: str) -> None:
    env = intercode()
    env.reset(options={"task_id": "dev/0"})
    observation, _, terminated, _, info = env.step(action)
    assert observation.startswith("Error executing query: You have an error in your SQL syntax")
    assert info["invalid_action"] and not terminated


def test_a_refused_statement_scores_0_as_upstream(official: Path) -> None:
    env = intercode()
    gold = data.official()[0][0].gold
    env.reset(options={"task_id": "dev/0"})
    env.step(gold)
    *_, info = env.step("SELECT nothing")
    assert info["invalid_action"] and info["score"] == 0.0 and info["progress"] == 1.0
    for action in (gold.replace("SELECT", "SELECT\x00"), "SELECT '" + "x" * 1_000_000 + "'"):
        observation, *_, info = env.step(action)
        assert info["invalid_action"]
        assert observation.endswith("longer than 65,536 characters or holds a control character")


def test_describe_shows_types_as_declared(official: Path) -> None:
    for how, expected in (("bytes", "('ID', b'int', 'NO', 'PRI'"), ("text", "('ID', 'int', 'NO', 'PRI'")):
        env = intercode(describe=how)
        env.reset(options={"task_id": "dev/0"})
        assert expected in env.step("DESCRIBE world_1.city")[0]
        assert env.step("SELECT CAST('a' AS BINARY)")[0] == "[(b'a',)]"


def test_arguments_are_checked() -> None:
    with pytest.raises(UnknownName, match="describe"):
        intercode(describe="loudly")
    with pytest.raises(UnknownName, match="kendall"):
        intercode(kendall="spearman")
    with pytest.raises(UnknownName, match="gold"):
        intercode(gold="best")
    with pytest.raises(ProsegymError, match="rows"):
        intercode(rows=0)


def test_resets_are_quick_and_leave_nothing(official: Path) -> None:
    env = intercode()
    env.reset(options={"task_id": "dev/1"})
    server = env._server
    for i in range(50):
        env.reset(options={"task_id": f"dev/{i}"})
        assert env._server is server and env._best == 0.0


def test_data_set_from_a_folder(tmp_path: Path, official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path / "home"))
    clone = tmp_path / "clone" / "data" / "sql" / "spider"
    clone.mkdir(parents=True)
    with pytest.raises(ProsegymError, match="no ic_spider_dev.json"):
        data.OFFICIAL.get(tmp_path / "clone")
    with pytest.raises(ProsegymError, match="data get intercode_sql"):
        intercode().tasks("dev")
    for name in data.FILES:
        (clone / name).write_bytes((official / name).read_bytes())
    assert data.OFFICIAL.get(tmp_path / "clone") == tmp_path / "home" / "data" / "intercode_sql"
    assert len(intercode().tasks("dev")) == 1034
    (clone / data.TASKS).write_text("[]")
    with pytest.raises(CorruptData, match="not the published file"):
        data.OFFICIAL.get(tmp_path / "clone")
    assert len(intercode().tasks("dev")) == 1034


def test_damaged_data_says_the_command(
    tmp_path: Path, official: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path))
    home = tmp_path / "data" / "intercode_sql"
    home.mkdir(parents=True)
    (home / data.TASKS).write_bytes((official / data.TASKS).read_bytes())
    for content, said in ((b"SELECT 1", "not a mysqldump"), (b"SQLite format 3\x00\xff", "not a text file")):
        (home / data.DUMP).write_bytes(content)
        with pytest.raises(CorruptData, match=rf"{said}.*; run `prosegym data get intercode_sql` again"):
            intercode().reset()


def test_bad_task_files_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "tasks.json"
    bad.write_text(
        json.dumps(
            [
                {"db": "a", "gold": "b", "query": "c", "hardness": "d"},
                {"db": "a", "gold": 3, "query": "c", "hardness": "d"},
            ]
        )
    )
    with pytest.raises(CorruptData, match=r"\$\[1\]\.gold|\[\.\.\.\]\.gold"):
        data.read_tasks(bad)
    bad.write_bytes(b"\xff\x00")
    with pytest.raises(CorruptData):
        data.read_tasks(bad)
    with pytest.raises(CorruptData, match="not a text file"):
        data.read_server(bad)


# MiniSQL.


def test_tasks_are_functions_of_split_and_number() -> None:
    for split in ("train", "valid", "test"):
        for i in range(20):
            assert generate(split, i).content() == generate(split, i).content()
            assert generate(split, i).level == LEVELS[i % 4]
    assert generate("train", 3).content() != generate("valid", 3).content()


@pytest.mark.parametrize("expert", ["gold", "explorer"])
def test_experts_answer_every_form(expert: str) -> None:
    env = mini()
    seen: Counter[str] = Counter()
    for i in range(240):
        observation, info = env.reset(options={"task_id": f"train/{i}"})
        advisor = env.expert(expert)
        done = False
        while not done:
            observation, _, terminated, truncated, info = env.step(advisor.act(observation, info) or "submit")
            done = terminated or truncated
        assert info["success"] and info["steps"] <= 6, generate("train", i)
        seen[generate("train", i).form] += 1
        assert env._gold_rows(), "an empty answer can be guessed"
    assert set(seen) == {form[1] for form in FORMS}


def test_order_counts_only_where_it_is_asked_for() -> None:
    env = mini()
    unordered = next(i for i in range(200) if generate("train", i).form == "all")
    ordered = next(i for i in range(200) if generate("train", i).form == "order")
    env.reset(options={"task_id": f"train/{unordered}"})
    *_, info = env.step(generate("train", unordered).gold + " ORDER BY 1 DESC")
    assert info["score"] == 1.0
    env.reset(options={"task_id": f"train/{ordered}"})
    *_, info = env.step(generate("train", ordered).gold.replace(" DESC", ""))
    assert info["score"] < 1.0


def test_the_explorer_knows_only_what_it_sees() -> None:
    env = mini()
    env.reset(options={"task_id": "train/1"})
    advisor = env.expert("explorer")
    assert advisor.act("What?", {"success": False}) == "SHOW TABLES"
    assert advisor.act("[('a',), ('b',)]", {}) == "DESCRIBE a"
    assert advisor.act("[('x', b'int', 'NO', 'PRI', None, '')]", {}) == "DESCRIBE b"
    assert advisor.act("[('y', b'int', 'NO', 'PRI', None, '')]", {}) == "submit"


def test_an_address_that_is_refused(
    installed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed("intercode_sql")
    for url in ("postgres://x", "mysql://[x"):
        with pytest.raises(BadOption, match="not of the form mysql://"):
            gymnasium.make("prosegym/InterCodeSQL-v1", server=url)
    server = "server=mysql://me:S3cret@127.0.0.1:1"
    words = ["evaluate", "--agent", "expert", "--env", "prosegym/InterCodeSQL-v1", "--env-arg", server]
    assert main([*words, "--out", str(tmp_path / "run")]) == 1
    told = capsys.readouterr().err
    assert "PROSEGYM_MYSQL_PASSWORD" in told and "S3cret" not in told
    assert not any("S3cret" in path.read_text() for path in tmp_path.rglob("*") if path.is_file())
