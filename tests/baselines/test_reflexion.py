"""Reflexion: what is carried from trial to trial, and nothing else is."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from prosegym.baselines.lm import Generation, Request, Scripted
from prosegym.baselines.react import Config as ReActConfig
from prosegym.baselines.react import ReAct
from prosegym.baselines.reflexion import (
    Config,
    ModelReflector,
    Reflexion,
    passed,
    remembered,
    stuck,
    transcript,
)
from prosegym.envs import panels
from prosegym.envs.errors import BadOption
from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation.evaluate import evaluate
from prosegym.evaluation.runs import Run

TASKS = ["train/red", "train/blue", "train/green"]


def make() -> Any:
    return gymnasium.make("prosegym/Lockbox-v1")


def colour(request: Request) -> str:
    """The colour that the memory names, as an actor would read it."""
    text = request.messages[0].content
    return text.rpartition("the key is ")[2].split(".")[0].split("\n")[0] if "the key is " in text else ""


class Actor:
    """Opens the box with the key its notes name; without notes takes the wrong one."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> str:
        self.requests.append(request)
        key = colour(request) or "wrong"
        return f"take {key} key" if len(request.messages) % 4 == 1 else "open box"


def reflect(request: Request) -> str:
    """Names the colour that the transcript shows: honest hindsight."""
    text = request.messages[-1].content
    shown = text.rpartition("The box is ")[2].split(".")[0]
    return f"<think>hm</think> I took the wrong one; the key is {shown}."


def play(config: Config, tasks: list[str] = TASKS, **more: Any) -> tuple[list[Trajectory], Actor, Reflexion]:
    actor = Actor()
    agent = ReAct(Scripted(actor), ReActConfig(format="bare"))
    runner = Reflexion(agent, ModelReflector(Scripted(reflect), config), config)
    return list(runner.solve(make, tasks, **more)), actor, runner


def test_memory_reaches_the_model_and_solves() -> None:
    trajectories, actor, runner = play(Config(trials=4))
    assert [(t.task_id, t.trial, t.success) for t in trajectories] == [
        *((task, 0, False) for task in TASKS),
        *((task, 1, True) for task in TASKS),
    ]
    assert [t.memory for t in trajectories[:3]] == [[]] * 3
    assert trajectories[3].memory == ["I took the wrong one; the key is red."]
    later = [r.messages[0].content for r in actor.requests if "note" in r.messages[0].content]
    assert any("1. I took the wrong one; the key is red." in text for text in later)
    assert [r.trial for r in runner.reflections] == [0, 0, 0]
    assert trajectories[3].usage.prompt_tokens > sum(s.prompt_tokens for s in trajectories[3].steps)


def test_solved_tasks_are_not_retried() -> None:
    config = Config(trials=5)
    first, _, _ = play(config)
    again, _, _ = play(config, done=first)
    assert again == []
    assert max(t.trial for t in first) == 1


def test_the_step_limit_is_no_success() -> None:
    """The released code took an episode that ran into its limit for a solved one."""
    config = Config(trials=2, strategy="base")
    trajectories, _, _ = play(config, ["train/red"])
    assert [t.ended for t in trajectories] == ["truncated", "truncated"]
    assert not any(passed(t, config) for t in trajectories)


def test_base_remembers_nothing() -> None:
    trajectories, actor, _ = play(Config(trials=3, strategy="base"))
    assert len(trajectories) == 9
    assert all(t.memory == [] for t in trajectories)
    first = {r.messages[0].content for r in actor.requests}
    assert len(first) == 3  # the same prompt in every trial: nothing stale is carried over


def test_last_trial_and_both() -> None:
    trajectories, _, _ = play(Config(trials=2, strategy="last_trial"), ["train/red"])
    assert "> take wrong key\nYou hold the wrong key." in trajectories[1].memory[0]
    trajectories, _, _ = play(Config(trials=2, strategy="both"), ["train/red"])
    note, last = trajectories[1].memory
    assert note.endswith("the key is red.") and last.startswith("The whole of the last try")


def test_memory_keeps_the_last_three() -> None:
    count = iter(range(100))
    config = Config(trials=6)
    runner = Reflexion(
        ReAct(Scripted(lambda r: "open box"), ReActConfig(format="bare")),
        ModelReflector(Scripted(lambda r: f"note {next(count)}"), config),
        config,
    )
    memories = [t.memory for t in runner.solve(make, ["train/red"])]
    assert memories[1:4] == [["note 0"], ["note 0", "note 1"], ["note 0", "note 1", "note 2"]]
    assert memories[4:] == [["note 1", "note 2", "note 3"], ["note 2", "note 3", "note 4"]]


def test_an_empty_note_is_not_remembered() -> None:
    config = Config(trials=2)
    runner = Reflexion(
        ReAct(Scripted(lambda r: ""), ReActConfig(format="bare")),
        ModelReflector(Scripted(lambda r: "<think>nothing</think>\n\n"), config),
        config,
    )
    assert [t.memory for t in runner.solve(make, ["train/red"])] == [[], []]
    assert remembered("<think>cut off in") == "" == remembered("<think>hm</think>\n")
    assert remembered("<think>hm</think>\nLook first. ") == "Look first."


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Generation("", stop_reason="error", error="out of order"), "out of order"),
        (Generation("", stop_reason="context"), "transcript_tokens"),
        (Generation("<think>hm, hm", stop_reason="length"), "note_tokens"),
    ],
)
def test_a_try_whose_note_failed_is_an_error(answer: Generation, why: str, tmp_path: Path) -> None:
    """Without its memory it is no trial of Reflexion. A note that comes the next time is on the last real try."""

    class Failing(Scripted):
        def generate(self, requests: Any, sampling: Any) -> list[Generation]:
            written = super().generate(requests, sampling)
            return [answer for _ in written] if next(asked) < failures else written

    def play(folder: str) -> Run:
        agent = ReAct(Scripted(Actor()), ReActConfig(format="bare"))
        config = Config(trials=3)
        runner = Reflexion(agent, ModelReflector(Failing(reflect), config), config)
        return evaluate(runner, panel, tmp_path / folder, progress=False)

    panel = panels.make(make().unwrapped, "train", about="all")
    asked, failures = itertools.count(), 1
    tries = sorted((t for t in play("once").finished if t.task_id == "train/red"), key=lambda t: t.trial)
    assert [t.ended for t in tries] == ["truncated", "error", "terminated"]
    assert [t.memory for t in tries] == [[], [], ["I took the wrong one; the key is red."]]
    error = tries[1].error or ""
    assert error.startswith("no note on the try before: ") and why in error and not tries[1].steps
    asked, failures = itertools.count(), 2
    assert play("always").summary().errors == len(panel.tasks)


def test_another_tasks_memory_is_a_control() -> None:
    trajectories, _, _ = play(Config(trials=2, control="other_task"))
    second = {t.task_id: t for t in trajectories if t.trial == 1}
    assert second["train/red"].memory == ["I took the wrong one; the key is blue."]
    assert second["train/green"].memory == ["I took the wrong one; the key is red."]
    assert not any(t.success for t in trajectories)
    alone, _, _ = play(Config(trials=2, control="other_task"), ["train/red"])
    assert alone[1].memory == []
    # Nor is another attempt's at the same task, which stands beside it where no other task has failed.
    twice, _, _ = play(Config(trials=2, control="other_task"), ["train/red"], attempts=2)
    assert [t.memory for t in twice] == [[]] * 4
    done = [t for t in play(Config(trials=1), TASKS[:2], attempts=2)[0] if t.key != ("train/blue", 0, 0)]
    _, _, runner = play(Config(trials=1), [])
    control = Reflexion(runner, runner._reflector, Config(trials=2, control="other_task"))
    notes = [memory.notes for memory in control.remember([[t] for t in done])]
    assert ["red" in "".join(n) for n in notes] == [False, False, True]


@pytest.mark.parametrize("strategy", ["reflection", "both"])
def test_the_control_s_memory_is_as_long_and_never_of_the_task(strategy: Any) -> None:
    trajectories, _, _ = play(Config(trials=5, strategy=strategy, control="other_task"))
    notes = [
        sum(note.startswith("I took") for note in t.memory) for t in trajectories if t.task_id == "train/red"
    ]
    assert notes == [0, 1, 2, 3, 3]
    assert not any(t.task_id.partition("/")[2] in note for t in trajectories for note in t.memory)


def test_a_run_goes_on_where_it_stopped() -> None:
    config = Config(trials=3)
    whole, _, _ = play(config)
    for cut in range(len(whole)):
        rest, _, _ = play(config, done=whole[:cut])
        assert [(t.key, t.memory, t.success, t.actions) for t in (*whole[:cut], *rest)] == [
            (t.key, t.memory, t.success, t.actions) for t in whole
        ]


def test_a_control_that_is_evaluated_goes_on_where_it_stopped(tmp_path: Path) -> None:
    panel = panels.make(make().unwrapped, "train", about="all")

    def run(folder: str) -> dict[Any, list[str]]:
        agent = ReAct(Scripted(Actor()), ReActConfig(format="bare"))
        config = Config(trials=2, control="other_task")
        runner = Reflexion(agent, ModelReflector(Scripted(reflect), config), config)
        played = evaluate(runner, panel, tmp_path / folder, progress=False, batch_size=1).finished
        return {t.key: t.memory for t in played}

    whole = run("run")
    (tmp_path / "run" / "summary.json").unlink()
    path = tmp_path / "run" / "episodes.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))
    assert run("run") == whole


def test_the_heuristic_evaluator_sees_no_score() -> None:
    config = Config(trials=2, evaluator="heuristic", repeats=2, strategy="reflection")
    agent = ReAct(Scripted(lambda r: "open box"), ReActConfig(format="bare"))
    prompts: list[str] = []

    def note(request: Request) -> str:
        prompts.append(request.messages[-1].content)
        return "try another"

    runner = Reflexion(agent, ModelReflector(Scripted(note), config), config)
    trajectories = list(runner.solve(make, ["train/red"]))
    assert [t.error for t in trajectories] == ["stuck", "stuck"]
    assert len(trajectories[0].steps) == 4  # the third equal answer is seen before the fifth action
    assert stuck(trajectories[0].steps, config)
    assert "score" not in prompts[0]


def test_transcript_drops_the_middle() -> None:
    trajectories, _, _ = play(Config(trials=1), ["train/red"])
    whole = transcript(trajectories[0], 10_000, lambda text: len(text.split()))
    assert whole.startswith("The box is red.\n> take wrong key\nYou hold the wrong key.\n> open box")
    short = transcript(trajectories[0], 25, lambda text: len(text.split()))
    assert short.startswith("The box is red.") and "turns left out]" in short
    assert short.endswith(whole.splitlines()[-1])


def test_needs_a_reflector() -> None:
    with pytest.raises(BadOption, match="reflects"):
        Reflexion(ReAct(Scripted(lambda r: "")), None, Config())
    with pytest.raises(BadOption):
        Config(trials=0)


class Priced(Scripted):
    """Every note costs a dollar, or one does not know, and takes a while."""

    def __init__(self, answer: Any, cost: float | None = 1.0) -> None:
        super().__init__(answer)
        self.cost = cost

    def generate(self, requests: Any, sampling: Any) -> list[Generation]:
        time.sleep(0.05 * len(requests))
        return [replace(answer, cost=self.cost) for answer in super().generate(requests, sampling)]


def test_what_notes_cost_is_in_the_usage_of_a_run(tmp_path: Path) -> None:
    config = Config(trials=2)
    panel = panels.make(gymnasium.make("prosegym/Lockbox-v1").unwrapped, "train", about="all")

    def reflexion(note: Scripted) -> Reflexion:
        agent = ReAct(Scripted(lambda request: "open box"), ReActConfig(format="bare"))
        return Reflexion(agent, ModelReflector(note, config), config)

    runner = reflexion(Priced(reflect))
    run = evaluate(runner, panel, tmp_path / "run", progress=False)
    assert len(run.finished) == 2 * len(panel.tasks) and len(runner.reflections) == len(panel.tasks)
    notes = {r.task_id: r.generation for r in runner.reflections}
    for t in run.finished:
        own = [sum(s.prompt_tokens for s in t.steps), sum(s.completion_tokens for s in t.steps)]
        note = notes[t.task_id]
        extra = [note.prompt_tokens, note.completion_tokens] if t.trial else [0, 0]
        assert [t.usage.prompt_tokens, t.usage.completion_tokens] == [
            a + b for a, b in zip(own, extra, strict=True)
        ]
        assert t.usage.cost == t.trial
        assert not t.trial or t.seconds >= 0.05
    assert run.summary().cost == len(panel.tasks)
    solved = list(reflexion(Priced(reflect)).solve(make, TASKS))
    assert [t.usage.cost for t in solved] == [0.0] * 3 + [1.0] * 3
    unknown = reflexion(Priced(reflect, None))
    assert evaluate(unknown, panel, tmp_path / "unknown", progress=False).summary().cost is None
