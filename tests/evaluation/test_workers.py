"""Worker processes: same episodes as in one process; hangs and deaths cost one retry, then an error row."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lockbox
import msgspec
import psutil
import pytest

from prosegym.envs import ENVS, panels, register_envs
from prosegym.envs.core import Outcome
from prosegym.envs.errors import ProsegymError
from prosegym.envs.rewards import Maker
from prosegym.envs.trajectory import Usage
from prosegym.evaluation import agents
from prosegym.evaluation.evaluate import evaluate, make_env
from prosegym.evaluation.rollout import Job
from prosegym.evaluation.workers import Limits, Processes


class Fragile(lockbox.Lockbox):
    """Hangs on blue boxes, dies on green ones, dies once on teal ones, and is wrong on plum ones."""

    env_id = "prosegym/Fragile-v1"

    def _play(self, action: str) -> Outcome:
        if self.colour == "blue":
            Path(os.environ["FRAGILE_MARKER"] + "-hangs").touch()
            time.sleep(float(os.environ.get("FRAGILE_SLEEP", "60")))
        if self.colour == "green":
            os._exit(7)
        if self.colour == "teal":
            marker = Path(os.environ["FRAGILE_MARKER"])
            if not marker.exists():
                marker.touch()
                os._exit(8)
        if self.colour == "plum":
            raise RuntimeError("not an engine's error" + "!" * 5000)
        return super()._play(action)


make = Maker(Fragile)


class Crowd(agents.ExpertAgent):
    """Acts as the expert does, and says how many episodes it was asked about at once."""

    def respond(self, episodes: Sequence[agents.Episode]) -> list[agents.Reply]:
        return [dataclasses.replace(r, response=f"{len(episodes)}") for r in super().respond(episodes)]


class Paid(agents.ExpertAgent):
    """Acts as the expert does, for half a dollar an answer."""

    def respond(self, episodes: Sequence[agents.Episode]) -> list[agents.Reply]:
        return [dataclasses.replace(r, prompt_tokens=10, cost=0.5) for r in super().respond(episodes)]


class Thinker(agents.ExpertAgent):
    """Takes longer for an answer than a step may."""

    def respond(self, episodes: Sequence[agents.Episode]) -> list[agents.Reply]:
        time.sleep(1.5)
        return super().respond(episodes)


@pytest.fixture
def fragile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> panels.Panel:
    monkeypatch.setitem(ENVS, "prosegym/Fragile-v1", "fragile:make")
    (tmp_path / "fragile.py").write_text(Path(__file__).read_text())
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("FRAGILE_MARKER", str(tmp_path / "marker"))
    register_envs()
    env: Any = make_env("prosegym/Fragile-v1").unwrapped
    return panels.make(env, "train", about="all")


@pytest.fixture
def crowd(fragile: panels.Panel) -> Any:
    return importlib.import_module("fragile").Crowd


def plain(episodes: list[Any]) -> list[Any]:
    return sorted(
        (msgspec.structs.replace(t, started="", seconds=0.0) for t in episodes), key=lambda t: t.key
    )


def test_same_episodes_as_in_one_process(tmp_path: Path) -> None:
    env: Any = make_env("prosegym/Lockbox-v1").unwrapped
    panel = panels.make(env, "train", about="all")
    before = set(psutil.Process().children(recursive=True))
    kwargs: dict[str, Any] = {"attempts": 5, "progress": False}
    one = evaluate(agents.RandomAdmissible(), panel, tmp_path / "one", **kwargs)
    two = evaluate(agents.RandomAdmissible(), panel, tmp_path / "two", workers=2, **kwargs)
    assert plain(one.finished) == plain(two.finished)
    left = [p for p in psutil.Process().children(recursive=True) if p not in before]
    assert not [p for p in left if "resource_tracker" not in " ".join(p.cmdline())]


def test_hangs_and_deaths_cost_their_episode_only(fragile: panels.Panel, tmp_path: Path) -> None:
    run = evaluate(
        agents.ExpertAgent(), fragile, tmp_path / "r", workers=2, limits=Limits(step=0.5), progress=False
    )
    ended = {t.task_id.split("/")[1]: (t.ended, t.error or "") for t in run.finished}
    assert ended["blue"] == ("error", "a step took over 0.5 s")
    assert ended["green"] == ("error", "the worker process died (exit code 7)")
    assert ended["plum"][0] == "error" and len(ended["plum"][1]) == 4000
    assert re.match(r"RuntimeError at fragile\.py:\d+: not an engine's error!!!", ended["plum"][1])
    assert all(ended[c][0] == "terminated" for c in ("red", "teal", "rust", "sand", "jade"))
    assert run.summary().errors == 3 and run.summary().success.value == 5 / 8
    noted = [msgspec.json.decode(line) for line in (tmp_path / "r" / "incidents.jsonl").open("rb")]
    assert sorted((i["task_id"], i["retried"]) for i in noted) == sorted(
        [(f"train/{c}", retried) for c in ("blue", "green", "plum") for retried in (True, False)]
        + [("train/teal", True)]
    )


def test_an_agent_that_cannot_be_sent_is_one_line(fragile: panels.Panel, tmp_path: Path, crowd: Any) -> None:
    agent = agents.ExpertAgent()
    agent.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(ProsegymError, match=r"cannot be sent to a worker: .*lock.*; define it in a module"):
        evaluate(agent, fragile, tmp_path / "r", workers=1, progress=False)
    (tmp_path / "fragile.py").write_text("")  # as a class of a notebook is not there for another process
    with pytest.raises(ProsegymError, match=r"^a worker process could not begin .*; an agent .*importable"):
        evaluate(crowd(), fragile, tmp_path / "r", workers=1, progress=False)


def test_an_agent_that_is_made_in_each_process_plays_several_together(tmp_path: Path, crowd: Any) -> None:
    panel = panels.make(make_env("prosegym/Lockbox-v1").unwrapped, "train", about="all")  # type: ignore[arg-type]
    asked = {}
    for name, more in {
        "all": {},
        "shared": {"workers": 2, "make_agent": crowd},
        "sent": {"workers": 2},
    }.items():
        kwargs: dict[str, Any] = {"attempts": 3, "batch_size": 5, "progress": False, **more}
        run = evaluate(crowd(), panel, tmp_path / name, **kwargs)
        assert run.complete and run.summary().success.value == 1
        asked[name] = max(int(step.response) for t in run.finished for step in t.steps)
    assert asked == {"all": 5, "shared": 3, "sent": 1}


@pytest.mark.parametrize(("retries", "live"), [(0, 8), (1, 8), (1, 3)])
def test_of_several_that_were_live_the_guilty_one_is_found(
    fragile: panels.Panel, crowd: Any, tmp_path: Path, retries: int, live: int
) -> None:
    if not retries:
        (tmp_path / "marker").touch()  # then teal does not die
    run = evaluate(
        crowd(), fragile, tmp_path / "r", workers=1, batch_size=live, make_agent=crowd,
        limits=Limits(step=0.5, retries=retries), progress=False,
    )  # fmt: skip
    ended = {t.task_id.split("/")[1]: (t.ended, t.error or "") for t in run.finished}
    assert ended["blue"] == ("error", "a step took over 0.5 s")
    assert ended["green"] == ("error", "the worker process died (exit code 7)")
    assert ended["plum"][0] == "error" and len(ended["plum"][1]) == 4000
    assert re.match(r"RuntimeError at fragile\.py:\d+: not an engine's error!!!", ended["plum"][1])
    assert all(ended[c][0] == "terminated" for c in ("red", "teal", "rust", "sand", "jade"))
    noted = [msgspec.json.decode(line) for line in (tmp_path / "r" / "incidents.jsonl").open("rb")]
    assert {i["task_id"] for i in noted if not i["retried"]} == {"train/blue", "train/green", "train/plum"}


def test_nothing_is_live_beside_an_episode_that_is_tried_alone(
    fragile: panels.Panel, crowd: Any, tmp_path: Path
) -> None:
    """Two places: green dies beside red, then twice by itself; those that wait are never lost with it."""
    order = [f"train/{c}" for c in ("red", "green", "rust", "sand", "jade")]
    panel = msgspec.structs.replace(fragile, tasks=[(t, dict(fragile.tasks)[t]) for t in order])
    run = evaluate(crowd(), panel, tmp_path / "r", workers=1, batch_size=2, make_agent=crowd, progress=False)
    assert run.complete and [t.task_id for t in run.finished if t.ended == "error"] == ["train/green"]
    noted = [msgspec.json.decode(line) for line in (tmp_path / "r" / "incidents.jsonl").open("rb")]
    assert sorted((i["task_id"], i["retried"]) for i in noted) == [
        ("train/green", False), ("train/green", True), ("train/green", True), ("train/red", True)
    ]  # fmt: skip


def test_the_cost_of_answers_that_were_lost_is_not_known(
    fragile: panels.Panel, crowd: Any, tmp_path: Path
) -> None:
    """Green is lost with its process, teal once; notes for the trial cost 2 dollars and took 3 seconds."""
    env: Any = make_env("prosegym/Fragile-v1").unwrapped
    make = functools.partial(make_env, "prosegym/Fragile-v1")
    jobs = [Job(f"train/{c}", 0, 1, ("n",), Usage(7, 1, 2.0), 3.0) for c in ("red", "green", "teal", "jade")]
    priced = importlib.import_module("fragile").Paid
    with Processes(make, priced(), workers=1, task_of=env.task, make_agent=priced) as processes:
        played = {t.task_id.split("/")[1]: t for t in processes.play(jobs)}
    costs = {colour: t.usage.cost for colour, t in played.items()}
    assert costs == {"red": 3.0, "green": None, "teal": None, "jade": 3.0}
    green = played["green"]
    assert (green.ended, green.memory, green.seconds) == ("error", ["n"], 3.0)
    assert (green.usage.prompt_tokens, green.usage.completion_tokens) == (7, 1)
    (tmp_path / "marker").unlink()
    with Processes(make, crowd(), workers=1, task_of=env.task, make_agent=crowd, batch_size=2) as processes:
        free = processes.play([Job(job.task_id) for job in jobs])
        assert {t.task_id: t.usage for t in free} == dict.fromkeys((job.task_id for job in jobs), Usage())


def test_episodes_that_were_finished_but_not_handed_in_are_not_blamed(
    fragile: panels.Panel, tmp_path: Path
) -> None:
    """One worker, 24 jobs at least 8 of which it holds: a death within them is the dying episode's own."""
    tasks = [t for t in fragile.tasks if t[0] not in ("train/blue", "train/plum")]
    panel = msgspec.structs.replace(fragile, tasks=tasks)
    (tmp_path / "marker").touch()
    run = evaluate(agents.ExpertAgent(), panel, tmp_path / "r", workers=1, attempts=4, progress=False)
    assert run.complete and len(run.finished) == 24
    assert {t.key[:2] for t in run.finished if t.ended == "error"} == {("train/green", a) for a in range(4)}
    noted = [msgspec.json.decode(line) for line in (tmp_path / "r" / "incidents.jsonl").open("rb")]
    assert [i["task_id"] for i in noted] == ["train/green"] * 8


def test_an_idle_worker_that_dies_costs_nothing(
    fragile: panels.Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAGILE_SLEEP", "2")
    env: Any = make_env("prosegym/Fragile-v1").unwrapped
    incidents: list[Any] = []
    make = functools.partial(make_env, "prosegym/Fragile-v1")
    with Processes(make, agents.ExpertAgent(), workers=2, task_of=env.task) as processes:
        processes.check(fragile)
        played = processes.play([Job("train/blue"), Job("train/red")], incidents.append)
        first = next(played)
        [idle] = [worker for worker in processes._pool if not worker.jobs]
        idle.process.kill()
        assert [first.task_id, *(t.task_id for t in played)] == ["train/red", "train/blue"]
    assert incidents == []


@pytest.mark.timeout(90)
@pytest.mark.parametrize(("seconds", "error"), [("0.5", None), ("600", "a step took over 2 s")])
def test_jobs_that_a_pipe_cannot_hold_do_not_block_it(
    fragile: panels.Panel, monkeypatch: pytest.MonkeyPatch, seconds: str, error: str | None
) -> None:
    """More are sent while the worker is at the first, which it then hands in, or at which it hangs."""
    monkeypatch.setenv("FRAGILE_SLEEP", seconds)
    env: Any = make_env("prosegym/Fragile-v1").unwrapped
    keys = [("train/blue", 0, 1), *(("train/red", attempt, 1) for attempt in range(24))]
    make = functools.partial(make_env, "prosegym/Fragile-v1")
    limits = Limits(step=2, retries=0)
    with Processes(make, agents.ExpertAgent(), workers=1, task_of=env.task, limits=limits) as processes:
        played = processes.play(Job(*key, memory=("n" * 300_000,)) for key in keys)
        assert {t.key: t.error for t in played} == dict.fromkeys(keys) | {keys[0]: error}


def test_an_error_that_is_no_episodes_fault_stops_the_run(tmp_path: Path) -> None:
    env: Any = make_env("prosegym/Lockbox-v1").unwrapped
    panel = panels.make(env, "train", about="all")
    with pytest.raises(ProsegymError, match="argument"):
        evaluate(agents.Null(), panel, tmp_path / "r", workers=1, env_kwargs={"no": 1}, progress=False)


def test_an_episode_may_take_for_ever(tmp_path: Path) -> None:
    panel = panels.make(make_env("prosegym/Lockbox-v1").unwrapped, "train", about="all")  # type: ignore[arg-type]
    limits = Limits(episode=math.inf)
    assert evaluate(agents.Null(), panel, tmp_path / "r", workers=1, limits=limits, progress=False).complete


@pytest.mark.parametrize("live", [1, 2])
def test_the_time_of_a_models_answer_is_not_a_steps(fragile: panels.Panel, live: int) -> None:
    env: Any = make_env("prosegym/Fragile-v1").unwrapped
    make = functools.partial(make_env, "prosegym/Fragile-v1")
    slow = importlib.import_module("fragile").Thinker
    limits = Limits(step=0.5, retries=0)
    with Processes(
        make, slow(), workers=1, task_of=env.task, make_agent=slow, batch_size=live, limits=limits
    ) as processes:
        played = list(processes.play([Job("train/red"), Job("train/jade")]))
    assert [t.error for t in played] == [None, None] and all(t.success for t in played)


def test_an_agent_that_cannot_be_made_stops_the_run(tmp_path: Path) -> None:
    env: Any = make_env("prosegym/Lockbox-v1").unwrapped
    panel = panels.make(env, "train", about="all")
    make_agent: Any = functools.partial(int, "no number")  # any error of a library that loads weights
    with pytest.raises(ProsegymError, match="the agent could not be made in a worker: ValueError"):
        evaluate(agents.Null(), panel, tmp_path / "r", workers=1, make_agent=make_agent, progress=False)


def test_a_worker_that_hangs_ends_with_a_main_process_that_was_killed(
    fragile: panels.Panel, tmp_path: Path
) -> None:
    code = (
        "from prosegym.envs import ENVS, panels, register_envs\n"
        "from prosegym.evaluation import agents, evaluate\n"
        "if __name__ == '__main__':\n"
        "    ENVS['prosegym/Fragile-v1'] = 'fragile:make'\n"
        "    register_envs()\n"
        "    evaluate.evaluate(agents.ExpertAgent(), panels.load('blue.json'), 'run', workers=1, progress=False)\n"
    )
    (tmp_path / "main.py").write_text(code)
    blue = panels.of_tasks("blue", fragile.env_id, "train", "", [t for t in fragile.tasks if "blue" in t[0]])
    panels.save(blue, tmp_path)
    process = subprocess.Popen(
        [sys.executable, "main.py"], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "FRAGILE_SLEEP": "600"},
    )  # fmt: skip
    while not (tmp_path / "marker-hangs").exists():
        assert process.poll() is None
        time.sleep(0.05)
    workers = [p for p in psutil.Process(process.pid).children() if "spawn_main" in " ".join(p.cmdline())]
    process.kill()
    process.wait()
    assert len(workers) == 1
    workers[0].wait(timeout=30)


@pytest.mark.parametrize("wait", [0.1, 1.0])
@pytest.mark.skipif(sys.platform == "win32", reason="a terminal's processes are signalled as a group")
def test_ctrl_c_of_a_terminal_is_one_line_while_workers_start(tmp_path: Path, wait: float) -> None:
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from prosegym.cli import main\n"
        "if __name__ == '__main__': raise SystemExit(main(sys.argv[1:]))\n"
    )
    (tmp_path / "command.py").write_text(code)  # a file, which workers import as they start
    words = ["evaluate", "--agent", "random", "--panel", "Household-v1/test", "--attempts", "500"]
    process = subprocess.Popen(
        [sys.executable, tmp_path / "command.py", *words, "--workers", "2", "--out", tmp_path / "run"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while len(psutil.Process(process.pid).children()) < 2 and process.poll() is None:
        time.sleep(0.01)
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert err.splitlines()[-1].startswith("prosegym: stopped;")
