from __future__ import annotations

import datetime
import errno
import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from prosegym.cli import _print_summary
from prosegym.envs import panels
from prosegym.envs import trajectory as records
from prosegym.envs.errors import BadOption, CorruptData, EngineError, ProsegymError, UnknownName
from prosegym.envs.panels import Panel
from prosegym.envs.trajectory import Message, Trajectory, Usage
from prosegym.evaluation import agents
from prosegym.evaluation.collect import collect
from prosegym.evaluation.compare import compare, normalised_score, paired
from prosegym.evaluation.evaluate import evaluate, make_env
from prosegym.evaluation.metrics import dollars
from prosegym.evaluation.replay import replay
from prosegym.evaluation.rollout import Job, rollout
from prosegym.evaluation.runs import Run, only_writer
from prosegym.evaluation.workers import Limits

ENV = "prosegym/Lockbox-v1"


@pytest.fixture
def panel() -> Panel:
    env: Any = make_env(ENV).unwrapped
    return panels.make(env, "train", about="all of the split")


def strip(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """Without the clock, which no two runs share."""
    free = {"started": "", "seconds": 0.0}
    return sorted((msgspec.structs.replace(t, **free) for t in trajectories), key=lambda t: t.key)


def test_expert_and_floors(panel: Panel, tmp_path: Path) -> None:
    expert = evaluate(agents.ExpertAgent(), panel, tmp_path / "e", attempts=2, progress=False).summary()
    null = evaluate(agents.Null(), panel, tmp_path / "n", progress=False).summary()
    chance = evaluate(agents.RandomAdmissible(), panel, tmp_path / "r", progress=False).summary()
    assert expert.success[:3] == (1.0, 1.0, 1.0) and expert.played == expert.planned == 16
    assert expert.steps_to_success == 2.0 and expert.pass_hat == {"1": 1.0, "2": 1.0}
    assert null.success.value == null.score.value == 0.0 and null.invalid_rate == 1.0
    assert null.truncated_rate == 1.0 and chance.invalid_rate == 0.0
    assert {row.task_type for row in expert.types} == {"warm", "cold"}


def test_histograms_and_cost_by_hand(panel: Panel, tmp_path: Path) -> None:
    """Of 8 tasks one is solved at once, one after two refused actions, six never (6 refused steps).

    Each turn costs half a dollar: 2 + 4 + 6 * 6 turns, 21 dollars, 10.5 for each of the two that were solved.
    """

    class Priced(agents.Scripted):
        def respond(self, episodes: Sequence[agents.Episode]) -> list[agents.Reply]:
            return [agents.Reply(r.response, r.action, 3, 1, 0.5) for r in super().respond(episodes)]

    take = "take red key", "take blue key"
    scripts = dict.fromkeys(panel.task_ids, ["look"]) | {
        "train/red": [take[0], "open box"],
        "train/blue": ["sing", take[1], "sing", "open box"],
    }
    summary = evaluate(Priced(scripts), panel, tmp_path / "p", progress=False).summary()
    assert summary.success.value == 2 / 8 and summary.step_histogram == {2: 1, 4: 1, 6: 6}
    assert summary.invalid_histogram == {0: 1, 2: 1, 6: 6}
    assert (summary.cost, summary.cost_per_success) == (21.0, 10.5)
    assert [dollars(x) for x in (21.0, 0.014, 0.00056)] == ["$21.00", "$0.014", "$0.00056"]
    assert (summary.prompt_tokens, summary.completion_tokens) == (3 * 42 / 8, 42 / 8)


def test_episodes_that_the_agent_stopped_are_counted_by_reason(
    panel: Panel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three overflow, one is stuck; four come to the step limit, which is no reason of the agent's."""
    why = dict(zip(panel.task_ids, [*["context overflow"] * 3, "stuck"], strict=False))

    class Stopping(agents.Null):
        def respond(self, episodes: Sequence[agents.Episode]) -> list[agents.Reply]:
            return [agents.Reply("", "", stop=why.get(e.task.id)) for e in episodes]

    run = evaluate(Stopping(), panel, tmp_path / "s", progress=False)
    assert run.summary().stopped == {"context overflow": 3, "stuck": 1} and run.summary().truncated_rate == 1
    _print_summary(run, run.summary())
    assert "stopped by the agent: context overflow 3, stuck 1\n" in capsys.readouterr().out
    null = evaluate(agents.Null(), panel, tmp_path / "n", progress=False)
    _print_summary(null, null.summary())
    assert null.summary().stopped == {} and "stopped" not in capsys.readouterr().out


def test_the_report_says_why_and_errors_are_played_again_without_their_lines(
    panel: Panel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    why = dict(zip(panel.task_ids, ["no memory", "gone\nfor good", "gone\nfor good"], strict=False))

    class Failing(agents.Null):
        def respond(self, episodes: Sequence[agents.Episode]) -> list[agents.Reply]:
            return [agents.Reply("", "", error=why.get(e.task.id)) for e in episodes]

    for errors, mended in ((3, False), (3, True), (0, False)):
        run = evaluate(Failing(), panel, tmp_path, progress=False)
        why.clear()  # the server is back
        assert run.summary().errors == errors and run.summary().played == 8
        _print_summary(run, run.summary())
        said = "the commonest error (2 of 3): gone for good\n" in capsys.readouterr().out
        assert said == (errors > 0)
        if mended:  # as the guide to endpoints says
            path = tmp_path / "episodes.jsonl"
            kept = [line for line in path.read_bytes().splitlines(True) if b'"ended":"error"' not in line]
            path.write_bytes(b"".join(kept))


def test_every_episode_replays(panel: Panel, tmp_path: Path) -> None:
    run = evaluate(agents.RandomAdmissible(), panel, tmp_path / "r", attempts=3, progress=False)
    assert [*run.summary().pass_at] == [*run.summary().pass_hat] == ["1", "2", "3"]
    env = make_env(ENV)
    assert [replay(env, t) for t in run.finished] == [None] * 24
    t = run.finished[0]
    cheats = {
        "score": msgspec.structs.replace(t, score=1.0 - t.score),
        "success": msgspec.structs.replace(t, success=not t.success),
        "task_sha256": msgspec.structs.replace(t, task_sha256="0" * 64),
        "observation": msgspec.structs.replace(
            t, steps=[msgspec.structs.replace(t.steps[0], observation_sha256="0" * 64), *t.steps[1:]]
        ),
        "reward": msgspec.structs.replace(t, steps=[msgspec.structs.replace(t.steps[0], reward=0.5), *t.steps[1:]]),
        "ended": msgspec.structs.replace(t, steps=t.steps[:1], final_observation=t.steps[1].observation,
                                         final_observation_sha256=t.steps[1].observation_sha256),
    }  # fmt: skip
    for field, cheat in cheats.items():
        difference = replay(env, cheat)
        assert difference is not None and difference.field == field, (field, difference)


def test_seeds_make_an_episode_independent_of_its_batch(panel: Panel, tmp_path: Path) -> None:
    one = evaluate(agents.RandomAdmissible(), panel, tmp_path / "1", batch_size=1, progress=False)
    many = evaluate(agents.RandomAdmissible(), panel, tmp_path / "7", batch_size=7, progress=False)
    other = evaluate(agents.RandomAdmissible(), panel, tmp_path / "s", seed=1, progress=False)
    assert strip(one.finished) == strip(many.finished) != strip(other.finished)


CODE = """
import sys, time
sys.path.insert(0, sys.argv[2])
import conftest
from prosegym.envs import panels
from prosegym.evaluation import agents
from prosegym.evaluation.evaluate import evaluate, make_env
panel = panels.make(make_env("prosegym/Lockbox-v1").unwrapped, "train", about="all of the split")
class Slow(agents.RandomAdmissible):
    def respond(self, episodes):
        time.sleep(0.002)
        return super().respond(episodes)
workers, attempts = int(sys.argv[3]), int(sys.argv[4])
agent = agents.RandomAdmissible() if workers else Slow()  # workers could not import Slow
evaluate(agent, panel, sys.argv[1], attempts=attempts, batch_size=2, workers=workers, progress=False)
"""


@pytest.mark.parametrize(
    ("kills", "workers", "attempts"),
    [(4, 0, 60), (3, 2, 2000), pytest.param(20, 0, 60, marks=pytest.mark.slow)],
)
def test_killed_at_random_moments_and_resumed_gives_the_same_episodes(
    panel: Panel, tmp_path: Path, kills: int, workers: int, attempts: int
) -> None:
    tests = str(Path(__file__).parents[1])
    env = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, tests])}
    episodes, rng = tmp_path / "killed" / "episodes.jsonl", random.Random(0)
    for _ in range(kills):
        size = episodes.stat().st_size if episodes.exists() else 0
        goal = size + rng.randrange(1, 20_000)
        words = [str(tmp_path / "killed"), tests, str(workers), str(attempts)]
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, *words], env=env, stderr=subprocess.PIPE, text=True
        )
        while process.poll() is None and not (episodes.exists() and episodes.stat().st_size >= goal):
            time.sleep(0.001)
        assert process.poll() is None, "it finished before it could be killed"
        process.send_signal(signal.SIGKILL)
        # Read to its end: the workers have ended too, and without a word.
        assert process.communicate(timeout=60)[1] == ""
    agent, kwargs = agents.RandomAdmissible(), {"attempts": attempts, "progress": False}
    run = evaluate(agent, panel, tmp_path / "killed", **kwargs)
    whole = evaluate(agent, panel, tmp_path / "whole", **kwargs)
    assert run.complete and strip(run.finished) == strip(whole.finished)


def test_a_line_cut_in_the_middle_is_played_again(panel: Panel, tmp_path: Path) -> None:
    whole = evaluate(agents.RandomAdmissible(), panel, tmp_path / "r", progress=False).finished
    path = tmp_path / "r" / "episodes.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    assert len(Run.read(tmp_path / "r").finished) == 7
    again = evaluate(agents.RandomAdmissible(), panel, tmp_path / "r", progress=False).finished
    assert strip(again) == strip(whole)


def test_a_damaged_line_is_named(panel: Panel, tmp_path: Path) -> None:
    evaluate(agents.Null(), panel, tmp_path / "r", progress=False)
    path = tmp_path / "r" / "episodes.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b'{"schema": 1}', *lines[2:]]))
    with pytest.raises(CorruptData, match=r"episodes\.jsonl:2: .*missing.*; take that line out"):
        Run.read(tmp_path / "r")


def test_conditions_that_cannot_be_read_say_what_to_do(panel: Panel, tmp_path: Path) -> None:
    evaluate(agents.Null(), panel, tmp_path / "r", progress=False)
    (tmp_path / "r" / "run.json").write_text("{")
    for opened in (Run.read, lambda folder: evaluate(agents.Null(), panel, folder, progress=False)):
        with pytest.raises(CorruptData, match=r"run\.json: .*truncated; put back what it held, or choose"):
            opened(tmp_path / "r")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"attempts": 0}, "attempts must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"workers": -1}, "workers must be at least 0, not -1"),
        ({"ray_actors": -1}, "ray_actors must be at least 0, not -1"),
        ({"workers": 1, "ray_actors": 1}, "give one of the two"),
    ],
)
def test_numbers_that_would_play_nothing_are_refused(
    panel: Panel, tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadOption, match=said):
        evaluate(agents.Null(), panel, tmp_path / "r", progress=False, **settings)
    assert not (tmp_path / "r").exists()
    for wrong in (-1, 0, math.nan):
        with pytest.raises(BadOption, match="limits must be above 0"):
            Limits(step=wrong)
    with pytest.raises(BadOption, match="retries must be at least 0, not -1"):
        Limits(retries=-1)
    with pytest.raises(BadOption, match="at least 1 task, not 0"):
        panel.head(0)
    with pytest.raises(BadOption, match="batch_size must be at least 1, not 0"):
        list(rollout(lambda: make_env(ENV), agents.Null(), [Job(panel.task_ids[0])], batch_size=0))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (None, "of agent null owes a dict, not None"),
        ({"where": Path("x")}, "of agent null are recorded as JSON: .*Path"),
        ({"n": np.float32(0.5)}, "of agent null are recorded as JSON: .*numpy.float32"),
    ],
)
def test_conditions_that_cannot_be_recorded_are_one_line(
    panel: Panel, tmp_path: Path, said: Any, told: str
) -> None:
    agent = agents.Null()
    agent.conditions = lambda: said  # type: ignore[method-assign]
    with pytest.raises(BadOption, match=told):
        evaluate(agent, panel, tmp_path / "r", progress=False)
    with pytest.raises(BadOption, match=told):
        collect(agent, ENV, "train", tmp_path / "t.jsonl", episodes=1, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda failures: 1 / 0, "agent learner raised ZeroDivisionError: .*mend the agent"),
        (lambda failures: [agents.Memory()] * (len(failures) - 1), "of 8 failed attempts; it owes a list"),
        (lambda failures: ["a note"] * len(failures), "agent learner remembered .*one Memory for each"),
        (lambda failures: None, "agent learner remembered None of 8"),
        (
            lambda failures: [agents.Memory(cast(Any, "a note"))],
            r"not the text 'a note': Memory\(\(note,\)\)",
        ),
    ],
)
def test_memories_that_are_none_are_one_line(panel: Panel, tmp_path: Path, made: Any, told: str) -> None:
    agent = Learner()
    agent.remember = made  # type: ignore[method-assign]
    with pytest.raises(ProsegymError, match=told):
        evaluate(agent, panel, tmp_path / "r", progress=False)
    assert evaluate(Learner(), panel, tmp_path / "r", progress=False).summary().success.value == 1


def test_whatever_an_environment_raises_is_an_engine_failure(
    panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lockbox

    def breaks(self: Any, task: Any) -> Any:
        return {}["lost key"] if task.id == "train/teal" else begin(self, task)

    begin = lockbox.Lockbox._begin
    monkeypatch.setattr(lockbox.Lockbox, "_begin", breaks)
    monkeypatch.setattr(lockbox.Lockbox, "progress", property(lambda self: 1 // (self.colour != "blue")))
    run = evaluate(agents.ExpertAgent(), panel, tmp_path / "r", batch_size=2, progress=False)
    errors = {t.task_id: t.error or "" for t in run.finished if t.ended == "error"}
    assert run.complete and set(errors) == {"train/blue", "train/teal"} and run.summary().played == 8
    line = lockbox.Lockbox._play.__code__.co_firstlineno + 3
    assert errors["train/blue"].startswith(f"ZeroDivisionError at lockbox.py:{line}: ")
    assert errors["train/teal"].startswith("KeyError at core.py:")
    noted = sorted((task, retried) for task, _, retried in incidents(tmp_path / "r"))
    assert noted == [(f"train/{c}", again) for c in ("blue", "teal") for again in (False, True)]


def test_an_argument_that_cannot_be_recorded_is_refused_before_an_episode_is_played(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="recorded as JSON: .*numpy.int64"):
        collect(
            agents.Null(), ENV, "train", tmp_path / "t.jsonl",
            episodes=1, env_kwargs={"max_steps": np.int64(3)}, progress=False,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_a_run_of_other_conditions_is_refused(panel: Panel, tmp_path: Path) -> None:
    evaluate(agents.Null(), panel, tmp_path / "r", progress=False)
    with pytest.raises(ProsegymError, match="other conditions.*agent: 'null' there, 'random' here"):
        evaluate(agents.RandomAdmissible(), panel, tmp_path / "r", progress=False)
    with pytest.raises(ProsegymError, match="other conditions.*panel"):
        evaluate(agents.Null(), panel.head(3), tmp_path / "r", progress=False)
    with pytest.raises(ProsegymError, match="env_kwargs"):
        evaluate(agents.Null(), panel, tmp_path / "r", env_kwargs={"max_steps": 3}, progress=False)


def test_conditions_under_which_nothing_was_played_bind_no_run(panel: Panel, tmp_path: Path) -> None:
    """The command was mistyped; put right, it plays into the same folder. One that is at work is left alone."""
    with pytest.raises(UnknownName, match="planer"):
        evaluate(agents.built_in("expert:planer"), panel, tmp_path / "r", progress=False)
    begun = Run.conditions_of(tmp_path / "r")
    with Run.open(tmp_path / "r", begun), pytest.raises(ProsegymError, match="another process"):
        evaluate(agents.Null(), panel, tmp_path / "r", progress=False)
    assert Run.conditions_of(tmp_path / "r") == begun
    (tmp_path / "r" / "episodes.jsonl").write_text("")
    evaluate(agents.Null(), panel, tmp_path / "r", progress=False)
    run = Run.read(tmp_path / "r")
    assert run.conditions.agent == "null" and run.complete
    with pytest.raises(ProsegymError, match="other conditions"):
        evaluate(agents.ExpertAgent(), panel, tmp_path / "r", progress=False)


def test_a_second_writer_is_refused(panel: Panel, tmp_path: Path) -> None:
    run = evaluate(agents.Null(), panel, tmp_path / "r", progress=False)
    with Run.open(tmp_path / "r", run.conditions), pytest.raises(ProsegymError, match="another process"):
        Run.open(tmp_path / "r", run.conditions)


def test_episodes_of_no_run_are_left_alone(panel: Panel, tmp_path: Path) -> None:
    (tmp_path / "episodes.jsonl").write_text("mine")
    with pytest.raises(ProsegymError, match="has an episodes.jsonl and no run.json; choose another --out"):
        evaluate(agents.Null(), panel, tmp_path, progress=False)
    assert (tmp_path / "episodes.jsonl").read_text() == "mine"


def test_episodes_of_another_run_are_not_counted(panel: Panel, tmp_path: Path) -> None:
    evaluate(agents.Null(), panel, tmp_path / "a", progress=False)
    evaluate(agents.Null(), panel, tmp_path / "b", progress=False, seed=1)
    lines = (tmp_path / "b" / "episodes.jsonl").read_bytes().splitlines(keepends=True)
    path = tmp_path / "a" / "episodes.jsonl"
    path.write_bytes(b"".join([*path.read_bytes().splitlines(keepends=True)[:2], *lines[2:]]))
    with pytest.raises(CorruptData, match=r"episode 3 \(task .*\) is none of this run; take its line out"):
        evaluate(agents.Null(), panel, tmp_path / "a", progress=False)


def test_a_panel_has_each_task_once(panel: Panel, tmp_path: Path) -> None:
    twice = [*panel.tasks, panel.tasks[0]]
    made = msgspec.structs.replace(panel, tasks=twice, sha256=panels.panel_digest(panel.env_id, twice))
    (tmp_path / "p.json").write_bytes(msgspec.json.encode(made))
    with pytest.raises(CorruptData, match="is there twice"):
        panels.load(tmp_path / "p.json")
    (tmp_path / "x").mkdir()
    (tmp_path / "q.json").write_bytes(msgspec.json.encode(panel))
    assert panels.load(tmp_path / "x" / ".." / "q.json") == panel


def test_two_collections_into_one_file_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "t.jsonl"

    class Twice(agents.Null):
        def respond(self, episodes: Any) -> list[agents.Reply]:
            with pytest.raises(ProsegymError, match="another process is writing to .*t.jsonl"):
                collect(agents.Null(), ENV, "train", out, episodes=2, progress=False)
            return super().respond(episodes)

    assert collect(Twice(), ENV, "train", out, episodes=2, progress=False) == 2
    assert len(out.read_bytes().splitlines()) == 2
    assert collect(agents.Null(), ENV, "train", out, episodes=3, progress=False) == 3


def test_a_file_that_another_model_began_is_not_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "t.jsonl"

    class Model(agents.Null):
        def __init__(self, weights: str, temperature: float) -> None:
            self.own = {"temperature": temperature, "model": {"weights": weights}}

        def conditions(self) -> Any:
            return self.own

    def play(agent: agents.Agent, episodes: int) -> int:
        return collect(agent, ENV, "train", out, episodes=episodes, progress=False)

    assert play(Model("a", 0.0), 3) == 3 and play(Model("a", 0.0), 4) == 4
    for episodes in (4, 5):
        with pytest.raises(ProsegymError) as told:
            play(Model("b", 1.0), episodes)
        assert str(told.value) == (
            f"{out} holds episodes of another agent (agent_conditions.temperature: 0.0 there, 1.0 here; "
            "agent_conditions.model.weights: 'a' there, 'b' here); choose another --out"
        )
    kept = tmp_path / "t.jsonl.agent.json"
    kept.write_text("{")
    with pytest.raises(CorruptData, match=r"t.jsonl.agent.json: .*; put back what it held, or"):
        play(Model("a", 0.0), 5)
    kept.unlink()  # as where an older version began the file
    assert play(Model("b", 1.0), 5) == 5
    out.unlink()
    assert play(Model("b", 1.0), 2) == 2 and play(Model("b", 1.0), 3) == 3


def test_a_file_system_without_locks_is_written_to(
    panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def lacking(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", lacking)
    assert evaluate(agents.Null(), panel, tmp_path / "r", progress=False).complete
    assert collect(agents.Null(), ENV, "train", tmp_path / "t.jsonl", episodes=2, progress=False) == 2


def test_a_lock_is_let_go_though_a_forked_child_has_the_file(tmp_path: Path) -> None:
    with only_writer(tmp_path):
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
    try:
        with only_writer(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fourth line does not fit: half of it is written."""
    write, left = os.write, [3]

    def full(handle: int, data: bytes) -> int:
        left[0] -= 1
        return write(handle, data[: len(data) // 2]) if left[0] < 0 else write(handle, data)

    monkeypatch.setattr(os, "write", full)


def test_a_full_disk_leaves_whole_lines_when_collecting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_disk(monkeypatch)
    with pytest.raises(ProsegymError, match="3 episodes are kept"):
        collect(agents.Null(), ENV, "train", tmp_path / "t.jsonl", episodes=6, progress=False)
    monkeypatch.undo()
    assert len(list(records.read(tmp_path / "t.jsonl"))) == 3
    assert collect(agents.Null(), ENV, "train", tmp_path / "t.jsonl", episodes=6, progress=False) == 6


def test_a_full_disk_loses_nothing(panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_disk(monkeypatch)
    with pytest.raises(ProsegymError, match="3 episodes are kept"):
        evaluate(agents.Null(), panel, tmp_path / "r", progress=False)
    monkeypatch.undo()
    assert len(Run.read(tmp_path / "r").finished) == 3
    assert evaluate(agents.Null(), panel, tmp_path / "r", progress=False).complete


def test_a_try_that_broke_off_is_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine breaks at the second of two answers, then it is whole: four at 0.50 dollars, notes for 2."""
    import lockbox

    class Paid(agents.ExpertAgent):
        def respond(self, episodes: Any) -> list[agents.Reply]:
            return [replace(r, prompt_tokens=10, cost=0.5) for r in super().respond(episodes)]

    play, broken = lockbox.Lockbox._play, []

    def breaks(self: Any, action: str) -> Any:
        if self._steps == 1 and not broken:
            broken.append(self.colour)
            raise EngineError("the engine is gone")
        return play(self, action)

    monkeypatch.setattr(lockbox.Lockbox, "_play", breaks)
    job = Job("train/red", 0, 1, ("n",), Usage(7, 1, 2.0), 3.0)
    (t,) = rollout(lambda: make_env(ENV), Paid(), [job])
    assert t.success and t.usage == Usage(47, 1, 4.0) and t.seconds > 3


def incidents(folder: Path) -> list[tuple[str, str, bool]]:
    lines = (folder / "incidents.jsonl").read_bytes().splitlines()
    return [(i["task_id"], i["what"], i["retried"]) for i in map(msgspec.json.decode, lines)]


def test_an_engine_error_costs_one_retry_then_is_a_row_and_scores_nothing(
    panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lockbox

    play, broken = lockbox.Lockbox._play, []

    def breaks(self: Any, action: str) -> Any:
        if self._steps == 1 and (self.colour == "blue" or (self.colour == "teal" and "teal" not in broken)):
            broken.append(self.colour)
            raise EngineError("the engine is gone")
        return play(self, action)

    monkeypatch.setattr(lockbox.Lockbox, "_play", breaks)
    run = evaluate(agents.ExpertAgent(), panel, tmp_path / "r", batch_size=1, progress=False)
    summary = run.summary()
    assert run.complete and summary.errors == 1 and summary.success.value == 7 / 8 and summary.played == 8
    (row,) = [t for t in run.finished if t.ended == "error"]
    assert row.error == "the engine is gone" and row.score == 0.0 and len(row.steps) == 1
    assert row.steps[0].progress == 0.5 and summary.progress.value == summary.best_score.value == 7 / 8
    assert row.task_id == "train/blue" and broken.count("blue") == 2
    noted = [(task, retried) for task, _, retried in sorted(incidents(tmp_path / "r"))]
    assert noted == [("train/blue", False), ("train/blue", True), ("train/teal", True)]


def test_an_engine_that_fails_as_an_expert_is_asked_for_costs_its_episode_only(
    panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lockbox

    expert, asked = lockbox.Lockbox._expert, []

    def breaks(self: Any, name: str) -> Any:
        asked.append(self.colour)
        if self.colour == "blue" or (self.colour == "teal" and asked.count("teal") == 1):
            raise EngineError("no gold path")
        return expert(self, name)

    monkeypatch.setattr(lockbox.Lockbox, "_expert", breaks)
    run = evaluate(agents.ExpertAgent(), panel, tmp_path / "r", progress=False)
    errors = [(t.task_id, t.error, t.steps) for t in run.finished if t.ended == "error"]
    assert run.complete and errors == [("train/blue", "no gold path", [])]
    assert run.summary().success.value == 7 / 8 and asked.count("blue") == asked.count("teal") == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_panel_of_other_content_is_refused_and_the_tasks_named(
    panel: Panel, tmp_path: Path, workers: int
) -> None:
    tasks = [(t, "0" * 64 if t in ("train/red", "train/plum") else sha256) for t, sha256 in panel.tasks]
    other = msgspec.structs.replace(panel, tasks=tasks)
    named = ", ".join(repr(t) for t in panel.task_ids if t in ("train/red", "train/plum"))
    with pytest.raises(ProsegymError, match=f"2 of 8 tasks .* digests: {named};"):
        evaluate(agents.Null(), other, tmp_path / "r", workers=workers, progress=False)
    assert not (tmp_path / "r").exists()


def test_panel_files(panel: Panel, tmp_path: Path) -> None:
    path = panels.save(panel, tmp_path)
    assert panels.load(path) == panel
    path.write_bytes(path.read_bytes().replace(b"train/red", b"train/rud"))
    with pytest.raises(CorruptData, match="digest"):
        panels.load(path)
    with pytest.raises(UnknownName):
        panels.load("../secrets")


def test_evaluation_shows_no_expert() -> None:
    with pytest.raises(ProsegymError, match="expose_expert"):
        make_env(ENV, expose_expert=True)
    with pytest.raises(UnknownName, match="Lockbox"):
        make_env("prosegym/Lockbos-v1")


class Learner:
    """Fails until it is told the colour: the smallest retrying agent."""

    name = "learner"
    trials = 3

    def conditions(self) -> dict[str, Any]:
        return {}

    def begin(self, episode: agents.Episode, env: Any) -> None:
        pass

    def respond(self, episodes: Sequence[agents.Episode]) -> list[agents.Reply]:
        replies = []
        for e in episodes:
            right = e.memory and (e.task.id != "train/blue" or len(e.memory) == 2)
            colour = e.task.id.split("/")[1] if right else "mauve"
            action = "open box" if e.steps else f"take {colour} key"
            replies.append(agents.Reply(action, action))
        return replies

    def remember(self, failures: Sequence[Sequence[Trajectory]]) -> list[agents.Memory]:
        return [agents.Memory(("read the label",) * len(trials)) for trials in failures]


def test_the_bar_shows_running_success_with_its_interval(
    panel: Panel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wilson by hand: 8 of 8 solved, z = 1.96: low = (1 + z2/16 - z2/16) / (1 + z2/8) = 8 / (8 + 3.8415) = 0.676."""
    for workers in (0, 2):
        evaluate(agents.ExpertAgent(), panel, tmp_path / f"e{workers}", workers=workers)
        shown = capsys.readouterr().err.split("\r")[-1]
        assert "expert Lockbox-v1/train: 100%" in shown and "success 1.000 [0.676, 1.000]" in shown
    evaluate(Learner(), panel, tmp_path / "l")  # 8 failures, then 8 trials of which 7 succeed, then the last
    assert "8/8" in (shown := capsys.readouterr().err.split("\r")[-1]) and "success 1.000" in shown
    evaluate(Learner(), panel, tmp_path / "l")  # gone on with: nothing left to play
    assert "8/8" in (shown := capsys.readouterr().err.split("\r")[-1]) and "success 1.000" in shown


def test_retries_play_failed_tasks_only_and_are_reported_apart(panel: Panel, tmp_path: Path) -> None:
    run = evaluate(Learner(), panel, tmp_path / "r", progress=False)
    trials = {t: sum(e.trial == t for e in run.finished) for t in range(3)}
    assert trials == {0: 8, 1: 8, 2: 1} and run.complete
    summary = run.summary()
    assert (summary.initial, summary.final) == (0.0, 1.0) and summary.average == pytest.approx(
        (7 * 2 / 3 + 1 / 3) / 8
    )
    assert summary.success.value == 1.0 and summary.played == 8
    again = evaluate(Learner(), panel, tmp_path / "r", progress=False)
    assert len(again.finished) == 17


def test_compare(panel: Panel, tmp_path: Path) -> None:
    expert = evaluate(agents.ExpertAgent(), panel, tmp_path / "e", progress=False)
    oracle = evaluate(agents.ExpertAgent("oracle"), panel, tmp_path / "o", progress=False)
    null = evaluate(agents.Null(), panel, tmp_path / "n", progress=False)
    better = compare(expert, null)
    assert better.verdict == "A is better in success" and better.success.value == 1.0
    assert (better.fixed, better.broken) == (8, 0) and better.p == pytest.approx(2 / 2**8)
    assert compare(null, expert).verdict == "B is better in success"
    assert compare(expert, oracle).verdict == "not distinguishable"
    # Of 8 tasks the expert scores 8, null 0, and one that knows 6 scripts 6: 0.75 of the way.
    scripts = {t: [f"take {t.split('/')[1]} key", "open box"] for t in panel.task_ids[:6]}
    six = evaluate(agents.Scripted(scripts), panel, tmp_path / "s", progress=False)
    assert normalised_score(six, null, expert) == pytest.approx(0.75)
    assert (normalised_score(null, null, expert), normalised_score(expert, null, expert)) == (0.0, 1.0)
    with pytest.raises(ProsegymError, match="score alike"):
        normalised_score(six, expert, oracle)
    head = evaluate(agents.Null(), panel.head(3), tmp_path / "h", progress=False)
    with pytest.raises(ProsegymError, match="same panel"):
        compare(head, null)


def test_a_verdict_looks_at_one_measure() -> None:
    high, low = ({str(i): [(0.0, score, score)] for i in range(20)} for score in (0.75, 0.25))
    assert paired(high, low).verdict == "not distinguishable"
    assert paired(high, low, "score").verdict == "A is better in score"
    assert paired(low, high, "score").verdict == "B is better in score"


@pytest.mark.parametrize(
    ("won", "lost", "p", "verdict"),
    [  # p: twice the tail of a fair coin's tosses, 2 / 2^won where none is lost
        (5, 0, 2 / 2**5, "not distinguishable (fewer than 6 tasks differ)"),
        (6, 0, 2 / 2**6, "A is better in success"),
        (3, 3, 1.0, "not distinguishable"),
        (1, 1, 1.0, "not distinguishable"),
    ],
)
def test_a_verdict_needs_six_tasks_that_differ(won: int, lost: int, p: float, verdict: str) -> None:
    a, b = (
        {f"{i:03}": [(float(i in solved), 0.0, 0.0)] for i in range(100)}
        for solved in (range(won), range(won, won + lost))
    )
    assert (paired(a, b).p, paired(a, b).verdict) == (p, verdict)
    assert paired(b, a).verdict == verdict.replace("A is", "B is")
    assert (paired(a, b).better, paired(b, a).better) == ((1, -1) if won == 6 else (0, 0))
    twice = {task: came * 2 for task, came in a.items()}
    assert (paired(twice, b).differing, paired(twice, a).differing) == (won + lost, 0)


@pytest.mark.parametrize(("env_id", "measure"), [("MiniShop-v1", "score"), ("Household-v1", "success")])
def test_a_run_is_compared_by_what_the_board_ranks_by(env_id: str, measure: str, tmp_path: Path) -> None:
    panel = panels.of_split(f"prosegym/{env_id}", "valid").head(2)
    run = evaluate(agents.Null(), panel, tmp_path, progress=False)
    assert compare(run, run).measure == measure


class Bad(agents.Null):
    """Answers what it is told to from the second turn on; raises where that is an exception."""

    def __init__(self, answer: Any, one: bool = True) -> None:
        self.name, self.answer, self.one = "bad", answer, one

    def begin(self, episode: agents.Episode, env: Any) -> None:
        if self.answer == "no beginning":
            raise KeyError(self.answer)

    def respond(self, episodes: Sequence[agents.Episode]) -> Any:
        if not all(e.steps for e in episodes):
            return super().respond(episodes)
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer for _ in episodes] if self.one else self.answer


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (Bad(ZeroDivisionError("division by zero")), "agent bad raised ZeroDivisionError: division by zero"),
        (Bad(RuntimeError("two\nlines")), "agent bad raised RuntimeError: two lines"),
        (Bad("no beginning"), "agent bad raised KeyError: 'no beginning'; what was finished is kept"),
        (Bad(None, one=False), "agent bad gave NoneType to"),
        (Bad([], one=False), "agent bad gave 0 replies to"),
        (Bad(None), "agent bad answered None at step 2 of train/"),
        (Bad("look"), "agent bad answered 'look' at step 2 of train/"),
        (Bad(agents.Reply("", None)), "agent bad answered Reply.response='', action=None.* owes a Reply"),  # type: ignore[arg-type]
        (Bad(agents.Reply("", "\ud800")), "agent bad answered .*text that UTF-8 can hold"),
        (Bad(agents.Reply("", "", stop=5)), "agent bad answered .*stop and error where they are set"),  # type: ignore[arg-type]
        (Bad(agents.Reply("", "", error=OSError())), "agent bad answered .*owes a Reply"),  # type: ignore[arg-type]
        # What no record could hold: a half token made a line that could not be read again.
        (Bad(agents.Reply("", "look", 1.5)), "agent bad counted 1.5 and 0 tokens"),  # type: ignore[arg-type]
        (Bad(agents.Reply("", "look", np.int64(3))), r"agent bad counted .*3.* tokens .* owes tokens as int"),  # type: ignore[arg-type]
        (Bad(agents.Reply("", "look", 0, None)), "agent bad counted 0 and None tokens"),  # type: ignore[arg-type]
        (Bad(agents.Reply("", "look", cost=float("nan"))), "a cost of nan at step 2 of train/"),
        (Bad(agents.Reply(b"", "")), "agent bad answered Reply.response=b''"),  # type: ignore[arg-type]
    ],
)
def test_an_agent_that_raises_or_answers_no_text_stops_the_run_in_one_line(
    panel: Panel, tmp_path: Path, agent: Bad, said: str, workers: int
) -> None:
    with pytest.raises(ProsegymError, match=said) as raised:
        evaluate(agent, panel, tmp_path / "r", workers=workers, progress=False)
    assert "\n" not in str(raised.value)
    assert Run.read(tmp_path / "r").finished == []


class Talker(agents.Null):
    """Keeps a conversation that holds what it is told to."""

    name = "talker"

    def __init__(self, message: Any) -> None:
        self.message = message

    def begin(self, episode: agents.Episode, env: Any) -> None:
        episode.messages += [Message("user", "x"), self.message]


class Drawing(agents.RandomAdmissible):
    def begin(self, episode: agents.Episode, env: Any) -> None:
        episode.state = np.random.default_rng(episode.seed)

    def respond(self, episodes: Sequence[agents.Episode]) -> list[agents.Reply]:
        numbers: Any = {"cost": np.float64(0.5), "parse_failed": np.bool_(True)}
        return [replace(reply, **numbers) for reply in super().respond(episodes)]


@pytest.mark.parametrize("workers", [0, 1])
def test_texts_and_numbers_of_numpy_are_python_s(panel: Panel, tmp_path: Path, workers: int) -> None:
    run = evaluate(Drawing(), panel, tmp_path / "r", workers=workers, progress=False)
    env: Any = make_env(ENV).unwrapped
    first = np.random.default_rng(run.finished[0].seed).choice(env._admissible())
    assert run.summary().errors == 0 and run.finished[0].actions[0] == first and type(first) is np.str_
    assert run.finished[0].usage.cost == 0.5 * len(run.finished[0].steps)
    assert strip(Run.read(tmp_path / "r").finished) == strip(run.finished)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("message", "said"),
    [
        (Message("tool", "x"), "Invalid enum value 'tool'"),  # type: ignore[arg-type]
        (Message("user", None), "Expected `str`, got `null`"),  # type: ignore[arg-type]
        (Message("user", "\ud800"), "surrogates not allowed"),
        (Message("assistant", "x", True, [np.int64(3)]), "int64"),  # type: ignore[list-item]
        ("x", "Expected `object`, got `str`"),
    ],
)
def test_messages_that_no_record_can_hold_stop_the_run_in_one_line(
    panel: Panel, tmp_path: Path, message: Any, said: str, workers: int
) -> None:
    """They were written, and the run could not be read again."""
    with pytest.raises(ProsegymError, match=f"agent talker left messages in train/.*{said}") as raised:
        evaluate(Talker(message), panel, tmp_path / "r", workers=workers, progress=False)
    assert "\n" not in str(raised.value)
    assert Run.read(tmp_path / "r").finished == []


class Stating(agents.Null):
    """Says of itself what it is told to."""

    def __init__(self, name: str, said: Any) -> None:
        self.name, self.said = name, said

    def conditions(self) -> Any:
        return self.said


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (
            Stating("a", {"prompt": {"system": "word " * 900}}),
            "conditions.prompt.system holds a text of 4500 characters, and 4000 are allowed; give its digest",
        ),
        (Stating("a", {"prompt": ["Think.\tAct."]}), "conditions.prompt holds the character U\\+0009"),
        (Stating("a", {"a": [[[[[[[[1]]]]]]]]}), "conditions.a nests deeper than 8; give it as one text"),
        (Stating("Re\tAct", {}), "the agent's name holds the character U\\+0009"),
        (Stating("a" * 301, {}), "the agent's name has 301 characters, and 300 are allowed"),
    ],
)
def test_a_run_that_could_not_be_submitted_says_so_as_it_begins(
    panel: Panel, tmp_path: Path, agent: Stating, said: str
) -> None:
    with pytest.warns(UserWarning, match=f"^this run cannot be submitted: {said}"):
        run = evaluate(agent, panel.head(1), tmp_path / "r", progress=False)
    assert run.complete


def test_unknown_agent() -> None:
    with pytest.raises(UnknownName, match="nearest: null"):
        agents.built_in("nul1")


def test_a_clock_that_goes_backwards(panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock falls by an hour at every look: episodes, their durations and the resume do not mind."""
    from prosegym.evaluation import rollout

    class Falling(datetime.datetime):
        looks = 0

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            cls.looks += 1
            return datetime.datetime(2030, 1, 1, tzinfo=tz) - datetime.timedelta(hours=cls.looks)

    monkeypatch.setattr(rollout, "datetime", Falling)
    monkeypatch.setattr(time, "time", lambda: -float(Falling.looks))
    run = evaluate(agents.RandomAdmissible(), panel, tmp_path / "r", batch_size=1, progress=False)
    started = [t.started for t in run.finished]
    assert started == sorted(started, reverse=True) and Falling.looks == 8
    assert all(0 <= t.seconds < 10 for t in run.finished)
    path = tmp_path / "r" / "episodes.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    again = evaluate(agents.RandomAdmissible(), panel, tmp_path / "r", progress=False)
    assert again.complete and strip(again.finished) == strip(run.finished)


def test_a_run_that_another_engine_goes_on_with(panel: Panel, tmp_path: Path) -> None:
    evaluate(agents.Null(), panel, tmp_path / "r", progress=False)
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    record["versions"] |= {"sqlite": "3.0.0", "torch": "0.1"}
    (tmp_path / "r" / "run.json").write_text(json.dumps(record))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is left to play
        evaluate(agents.Null(), panel, tmp_path / "r", progress=False)
    path = tmp_path / "r" / "episodes.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    here = sqlite3.sqlite_version
    with pytest.warns(UserWarning) as said:
        run = evaluate(agents.Null(), panel, tmp_path / "r", progress=False)
    told = f"the run was made with sqlite 3.0.0, here it is {here}, which plays the rest; texts may differ"
    assert run.complete and [str(one.message) for one in said] == [told]


def test_a_run_folder_without_rights(panel: Panel, tmp_path: Path) -> None:
    """As another user where this one may do everything; the folder is readable by its owner alone."""
    run = evaluate(agents.Null(), panel, tmp_path / "r", progress=False)
    (tmp_path / "file").touch()
    with pytest.raises(ProsegymError, match="cannot use folder .*file/r: "):
        Run.open(tmp_path / "file" / "r", run.conditions)
    (tmp_path / "locked").mkdir()
    files = [tmp_path / "locked", tmp_path / "r" / "episodes.jsonl", tmp_path / "r" / ".lock"]
    for file in files:
        file.chmod(0o500 if file.is_dir() else 0o400)
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        return
    failed = 1
    try:
        if os.geteuid() == 0:
            for folder in (tmp_path, *tmp_path.parents[:-1]):
                folder.chmod(folder.stat().st_mode | 0o011) if folder.owner() == "root" else None
            os.setgid(65534)
            os.setuid(65534)
        for use in (
            lambda: Run.open(tmp_path / "locked" / "r", run.conditions),
            lambda: Run.open(tmp_path / "r", run.conditions),
        ):
            with pytest.raises(
                ProsegymError, match="cannot use folder .*: Permission denied; see to its rights"
            ):
                use()
        failed = 0
    finally:
        os._exit(failed)
