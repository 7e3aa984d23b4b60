from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from prosegym.envs import trajectory as records
from prosegym.envs.errors import CorruptData
from prosegym.envs.trajectory import Message, Trajectory
from prosegym.evaluation import agents
from prosegym.evaluation.evaluate import make_env
from prosegym.evaluation.rollout import Job, rollout


@pytest.fixture(scope="module")
def played() -> list[Trajectory]:
    jobs = [Job(f"train/{colour}") for colour in ("red", "blue", "green")]
    return list(rollout(lambda: make_env("prosegym/Lockbox-v1"), agents.ExpertAgent(), jobs))


def test_round_trip(played: list[Trajectory], tmp_path: Path) -> None:
    messages = [Message("user", "Ünïcode \u2028 \x00 text"), Message("assistant", "ok", True)]
    played = [msgspec.structs.replace(t, messages=messages) for t in played]
    assert records.write(tmp_path / "t.jsonl", played) == 3
    assert list(records.read(tmp_path / "t.jsonl")) == played
    assert not (tmp_path / "t.jsonl.part").exists()


def test_what_a_trajectory_says(played: list[Trajectory]) -> None:
    red = played[0]
    assert red.actions == ["take red key", "open box"] and red.success and red.score == 1.0
    assert [s.observation for s in red.steps] == ["The box is red.", "You hold the red key."]
    assert red.final_observation == "It opens." and red.progress == 1.0
    broken = msgspec.structs.replace(red, ended="error", error="the engine is gone", score=0.0, success=False)
    assert red.best_score == 1.0 and broken.best_score == broken.progress == 0.0
    assert [s.reward for s in red.steps] == [0.0, 1.0] and [s.progress for s in red.steps] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda line: line[: len(line) // 2], "t.jsonl:2: (JSON is malformed|Input data was truncated)"),
        (
            lambda line: line.replace(b'"score":1.0', b'"score":"1"', 1),
            r"t.jsonl:2: Expected `float`, got `str`",
        ),
        (lambda line: line.replace(b'"score":1.0', b'"score":1.5', 1), r"t.jsonl:2: Expected `float` <= 1.0"),
        (
            lambda line: line.replace(b'"progress":', b'"progress":-', 1),
            r"t.jsonl:2: Expected `float` >= 0.0",
        ),
        (lambda line: line.replace(b'"attempt":', b'"attempt":-1', 1), r"t.jsonl:2: Expected `int` >= 0"),
        (
            lambda line: line.replace(b'"steps"', b'"stebs"', 1),
            r"t.jsonl:2: Object contains unknown field `stebs`",
        ),
        (
            lambda line: line.replace(b'"ended":"terminated"', b'"ended":"won"', 1),
            r"t.jsonl:2: Invalid enum value",
        ),
        (
            lambda line: line.replace(b'"schema":1', b'"schema":9', 1),
            "t.jsonl:2: schema 9; this version reads 1",
        ),
        (lambda line: b"\xff\xfe\n", "t.jsonl:2: "),
    ],
)
def test_a_bad_line_is_named(played, tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    lines = [records.encode(t) for t in played]
    lines[1] = damage(lines[1])
    (tmp_path / "t.jsonl").write_bytes(b"".join(line.rstrip(b"\n") + b"\n" for line in lines))
    read = records.read(tmp_path / "t.jsonl")
    assert next(read) == played[0]
    with pytest.raises(CorruptData, match=message):
        next(read)


def test_no_file() -> None:
    with pytest.raises(CorruptData, match=r"cannot read .*no\.jsonl: No such file"):
        list(records.read("no.jsonl"))
