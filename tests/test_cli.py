"""The command line: its fixed spellings, its exit codes, one clear line for each kind of bad input."""

from __future__ import annotations

import builtins
import errno
import json
import os
import platform
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import metadata, version
from pathlib import Path
from typing import Any

import lockbox
import pytest

from prosegym.baselines import METHODS
from prosegym.cli import _agent, _maker, _parser, main
from prosegym.envs import data, jvm, panels
from prosegym.envs.errors import EngineError
from prosegym.evaluation import doctor
from prosegym.evaluation.doctor import EXTRAS
from prosegym.evaluation.evaluate import make_env
from prosegym.evaluation.runs import Run
from prosegym.leaderboard import ledger

ENV = "prosegym/Lockbox-v1"
Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Ask:
    def ask(*argv: object) -> tuple[int, str, str]:
        code = main([str(a) for a in argv])
        out = capsys.readouterr()
        return code, out.out, out.err

    return ask


@pytest.fixture
def panel(tmp_path: Path) -> Path:
    env: Any = make_env(ENV).unwrapped
    made = panels.save(panels.make(env, "train", about="all of the split"), tmp_path / "panels")
    assert made.suffix == ".json"
    return made


def test_list_and_info(run: Ask) -> None:
    code, out, _ = run("list")
    assert code == 0 and ENV in out and "house, novice" in out and "stepagent_inverse" in out
    code, out, _ = run("info", ENV, "--json")
    facts = json.loads(out)
    assert code == 0 and facts["splits"] == {"train": 8, "valid": 2, "test": 4}
    assert facts["experts"] == {"reader": "honest", "oracle": "privileged"}


def test_train_tells_its_methods(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, status in ((["train", "--help"], 0), (["train"], 2)):
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == status
    told = capsys.readouterr()
    assert all(f"  {name}: " in told.out for name in METHODS) and "METHOD" in told.err


@pytest.mark.parametrize(("option", "each"), [(["--workers", "4"], 15), (["--ray", "3"], 20), ([], 60)])
def test_processes_share_the_requests_a_minute(
    option: list[str], each: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prosegym.baselines.agents.load", lambda *args, settings: settings)
    command = ["evaluate", "--agent", "react", "--model", "http://host/v1", "--env", "x", "--out", "y"]
    args = _parser().parse_args([*command, "--agent-arg", "per_minute=60", *option])
    made = _maker(args)
    assert made is not None and made() == {"per_minute": each}
    assert _agent(args) == {"per_minute": 60}  # this process, which plays nothing beside workers


def test_the_whole_path(run: Ask, panel: Path, tmp_path: Path) -> None:
    for agent in ("expert", "null"):
        code, out, _ = run(
            "evaluate", "--agent", agent, "--panel", panel, "--out", tmp_path / agent, "--json"
        )
        found = json.loads(out)
        assert code == 0 and found["summary"]["success"][0] == float(agent == "expert")
    code, out, _ = run("evaluate", "--agent", "expert", "--panel", panel, "--out", tmp_path / "expert")
    assert code == 0 and "success   1.000  [1.000, 1.000]" in out and "episodes 8/8, errors 0" in out
    assert "tokens read 0, written 0, " in out and " s from an episode's start to its end" in out
    code, out, _ = run("compare", tmp_path / "expert", tmp_path / "null")
    assert code == 0 and out.endswith("A is better in success\n") and "differ" not in out
    shutil.copytree(tmp_path / "expert", tmp_path / "short")
    conditions = json.loads((tmp_path / "short" / "run.json").read_text())
    (tmp_path / "short" / "run.json").write_text(json.dumps(conditions | {"env_kwargs": {"max_steps": 3}}))
    assert (
        "they differ in env_kwargs: A {}, B {'max_steps': 3}"
        in run("compare", tmp_path / "expert", tmp_path / "short")[1]
    )
    both = f"both={tmp_path / 'null'},{tmp_path / 'expert'}"  # a mean of one and zero for every task
    code, out, _ = run("table", f"null={tmp_path / 'null'}", f"short={tmp_path / 'short'}", both)
    assert code == 0 and out.startswith(
        "they differ in env_kwargs: null {}, short {'max_steps': 3}, both {}\n"
    )
    zero, half, one = (f"{x:.3f} [{x:.3f}, {x:.3f}]" for x in (0.0, 0.5, 1.0))
    assert out.splitlines()[3:] == [
        "| agent | runs | success | score | success minus null |",
        "|---|---|---|---|---|",
        f"| null | 1 | {zero} | {zero} |  |",
        f"| short | 1 | {one} | {one} | +1.000 [+1.000, +1.000] |",
        f"| both | 2 | {half} | {half} | +0.500 [+0.500, +0.500] |",
    ]
    twice = run("evaluate", "--agent", "null", "--panel", panel, "--attempts", 2, "--out", tmp_path / "twice")
    code, out, _ = run("table", f"null={tmp_path / 'null'}", f"twice={tmp_path / 'twice'}")
    assert twice[0] == code == 0 and out.startswith("they differ in attempts: null 1, twice 2\n")
    for unread in (tmp_path / "null", f"={tmp_path / 'null'}", f"null={tmp_path / 'null'},"):
        code, _, err = run("table", unread)
        assert code == 1 and "is not NAME=RUN[,RUN...], each name once" in err
    code, out, _ = run("replay", tmp_path / "expert")
    assert code == 0 and out == "8 of 8 episodes replay as recorded\n"


def test_workers_load_a_model_each_and_play_the_same_episodes(run: Ask, tmp_path: Path) -> None:
    words = ["evaluate", "--agent", "novice", "--env", "prosegym/Household-v1", "--tasks", 6, "--json"]
    for workers in (0, 2):
        assert run(*words, "--workers", workers, "--out", tmp_path / str(workers))[0] == 0
    one, two = (Run.read(tmp_path / workers).finished for workers in "02")
    assert {t.key: [s.response for s in t.steps] for t in one} == {
        t.key: [s.response for s in t.steps] for t in two
    }


def test_a_run_that_does_not_replay_says_where(run: Ask, panel: Path, tmp_path: Path) -> None:
    run("evaluate", "--agent", "expert", "--panel", panel, "--out", tmp_path / "r")
    path = tmp_path / "r" / "episodes.jsonl"
    path.write_text(path.read_text().replace("take red key", "take blue key"))
    code, out, _ = run("replay", tmp_path / "r")
    assert code == 1 and "train/red step 0: progress is 0.0, the record says 0.5" in out and "7 of 8" in out


def test_a_replay_that_differs_says_which_versions_do(run: Ask, panel: Path, tmp_path: Path) -> None:
    run("evaluate", "--agent", "expert", "--panel", panel, "--out", tmp_path / "r")
    file = tmp_path / "r" / "run.json"
    conditions = json.loads(file.read_bytes())
    recorded = conditions["versions"]
    assert recorded.pop("sqlite") == sqlite3.sqlite_version  # an older run says nothing of it
    file.write_text(json.dumps(conditions | {"versions": recorded | {"python": "2.7.1", "torch": "0.1"}}))
    assert run("replay", tmp_path / "r") == (0, "8 of 8 episodes replay as recorded\n", "")
    path = tmp_path / "r" / "episodes.jsonl"
    path.write_text(path.read_text().replace("take red key", "take blue key"))
    code, _, err = run("replay", tmp_path / "r")
    here = f"prosegym: the run was made with python 2.7.1, here it is {platform.python_version()}\n"
    assert (code, err) == (1, here)


def test_a_replay_says_what_this_machine_settles_otherwise(
    run: Ask, panel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lockbox.Lockbox, "conditions", lambda self: {"lamp": "bright"})
    run("evaluate", "--agent", "expert", "--panel", panel, "--out", tmp_path / "r")
    assert run("replay", tmp_path / "r") == (0, "8 of 8 episodes replay as recorded\n", "")
    monkeypatch.setattr(lockbox.Lockbox, "conditions", lambda self: {"lamp": "dim"})
    code, out, err = run("replay", tmp_path / "r")
    assert code == 0 and out == "8 of 8 episodes replay as recorded\n"
    assert (
        err == "prosegym: played with lamp 'bright', here is 'dim': replay it where these are as they were\n"
    )


def test_an_engine_that_fails_in_a_replay_costs_its_episode_only(
    run: Ask, panel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play, frail = lockbox.Lockbox._play, {"blue"}

    def breaks(self: Any, action: str) -> Any:
        if self.colour in frail:
            raise EngineError("the engine is gone")
        return play(self, action)

    monkeypatch.setattr(lockbox.Lockbox, "_play", breaks)
    assert run("evaluate", "--agent", "expert", "--panel", panel, "--out", tmp_path / "r")[0] == 0
    code, out, _ = run("replay", tmp_path / "r")  # as it failed then
    assert code == 0 and out == "8 of 8 episodes replay as recorded\n"
    frail.add("teal")
    code, out, _ = run("replay", tmp_path / "r")
    assert code == 1 and "7 of 8 episodes" in out
    assert "train/teal step 2: ended is an error (the engine is gone), the record says 'terminated'" in out


def test_an_engine_that_fails_again_hides_no_score(
    run: Ask, panel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(self: Any, task: Any) -> Any:
        raise EngineError("the engine is gone")

    monkeypatch.setattr(lockbox.Lockbox, "_begin", breaks)
    assert run("evaluate", "--agent", "expert", "--panel", panel, "--out", tmp_path / "r")[0] == 0
    path = tmp_path / "r" / "episodes.jsonl"
    path.write_text(path.read_text().replace('"score":0.0,', '"score":1.0,', 1))
    code, out, _ = run("replay", tmp_path / "r")
    assert code == 1 and "7 of 8" in out
    assert "step 0: score of an errored episode is 0.0, the record says 1.0" in out


def test_collect_goes_on_after_a_cut_line(run: Ask, tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    words = ("collect", "--agent", "expert", "--env", ENV, "--split", "train", "--out", file)
    assert run(*words, "--episodes", 5)[0] == 0
    whole = file.read_bytes()
    file.write_bytes(whole[:-30])
    code, out, _ = run(*words, "--episodes", 10)
    assert code == 0 and "10 episodes" in out
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({(t["task_id"], t["attempt"]) for t in lines}) == 10 and max(t["attempt"] for t in lines) == 1
    code, _, err = run("collect", "--agent", "null", "--env", ENV, "--out", file)
    assert code == 1 and "episode of expert" in err and err.count("\n") == 1
    code, _, err = run(*words, "--episodes", 12, "--reward", "progress")
    assert code == 1 and "made with {}, not with {'reward': 'progress'}" in err and err.count("\n") == 1
    # What would mix splits or seeds, the test split's with a training's among them.
    for more, said in (
        (("--split", "test"), "of split train, not of test"),
        (("--seed", 1), "of another seed than 1"),
    ):
        code, _, err = run(*words, "--episodes", 12, *more)
        assert code == 1 and said in err and err.count("\n") == 1


def test_what_the_system_refuses_is_one_line(run: Ask, tmp_path: Path) -> None:
    code, _, err = run("ledger", "check", tmp_path / ("x" * 300))
    assert code == 1 and err.count("\n") == 1


def test_gymnasium_s_own_arguments_are_refused(run: Ask, tmp_path: Path) -> None:
    for name in ("env_id", "id", "max_episode_steps", "disable_env_checker"):
        args = ("--agent", "null", "--env", "prosegym/Household-v1", "--tasks", 1, "--env-arg", f"{name}=3")
        code, _, err = run("evaluate", *args, "--out", tmp_path / "r")
        assert code == 1 and name in err and err.count("\n") == 1


def test_an_empty_name_is_shown_as_one(run: Ask, tmp_path: Path) -> None:
    for words, said in (
        (("--agent", "null", "--panel", ""), "unknown panel ''"),
        (("--agent", "null", "--suite", ""), "unknown suite ''"),
        (("--agent", "", "--env", "prosegym/Household-v1"), "'' is no trained agent"),
    ):
        code, _, err = run("evaluate", *words, "--out", tmp_path / "r")
        assert code == 1 and said in err and err.count("\n") == 1


def test_collect_leaves_a_file_that_it_did_not_write(run: Ask, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    words = ("collect", "--agent", "expert", "--env", ENV, "--split", "train", "--episodes", 1, "--out", file)
    for text in ('{"no": "newline at its end"}', "x"):
        file.write_text(text)
        code, _, err = run(*words)
        assert code == 1 and "settings.json:1 is no episode's beginning" in err and err.count("\n") == 1
        assert file.read_text() == text
    assert run(*words[:-1], tmp_path / "t.jsonl")[0] == 0
    for cut in (0, 4, 40):
        file.write_bytes((tmp_path / "t.jsonl").read_bytes()[:cut])
        assert run(*words)[0] == 0
        assert len(file.read_text().splitlines()) == 1


def test_collect_of_a_split_that_is_empty_here(
    run: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("lockbox.Lockbox.tasks", lambda self, split: [])
    code, _, err = run("collect", "--agent", "null", "--env", ENV, "--out", tmp_path / "t.jsonl")
    assert code == 1 and "has no tasks here" in err and err.count("\n") == 1


def test_a_full_disk_is_one_line(run: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("prosegym.envs.questions.data._write_split", full)
    question = {
        "_id": "a",
        "question": "Q?",
        "answer": "A",
        "context": [["T", ["S."]]],
        "supporting_facts": [],
    }
    (tmp_path / "dev.json").write_text(json.dumps([question]))
    code, _, err = run("data", "get", "hotpotqa", "--from", tmp_path / "dev.json")
    assert code == 1 and "make room or set PROSEGYM_HOME" in err and err.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_of_two_that_get_a_data_set_one_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        name, about, last = "alfworld", "a set", "installed.json"
        calls = 0

        def get(self, source: Path | None = None) -> Path:
            self.calls += 1
            if self.calls == 1:
                other.start()
                asked.wait(5)
                target.mkdir(parents=True)
                (target / self.last).write_text("{}")
            return target

    def here(name: str) -> bool:
        found = whole(name)
        if threading.current_thread() is other:
            asked.set()
        return found

    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path))
    target, slow, asked = data.folder("alfworld"), Slow(), threading.Event()
    codes: list[int] = []
    other = threading.Thread(target=lambda: codes.append(main(["data", "get", "alfworld"])))
    whole = data.here
    monkeypatch.setattr(data, "dataset", lambda name: slow)
    monkeypatch.setattr(data, "here", here)
    assert main(["data", "get", "alfworld"]) == 0
    other.join()
    assert codes == [0] and slow.calls == 1
    assert main(["data", "get", "alfworld"]) == 0 and slow.calls == 2  # asked again, it is got anew


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["info", "prosegym/Lockbos-v1"],
            "unknown environment 'prosegym/Lockbos-v1'; nearest: prosegym/Lockbox-v1",
        ),
        (
            ["collect", "--agent", "expert", "--env", ENV, "--split", "trian", "--out", "/dev/null"],
            "nearest: train",
        ),
        (["evaluate", "--agent", "exprt", "--env", ENV, "--out", "x"], "panel"),
        (
            ["evaluate", "--agent", "null", "--panel", "No-v1/test", "--out", "x"],
            "unknown panel 'No-v1/test'",
        ),
        (["compare", "no-run", "no-run"], "no-run is not a run folder"),
        (["data", "get", "alfwrld"], "unknown data set 'alfwrld'"),
        (["collect", "--agent", "null", "--env", ENV, "--episodes", "0", "--out", "x"], "episodes must be"),
        (["collect", "--agent", "null", "--env", ENV, "--out", "."], "choose another --out"),
        (["play", ENV, "--seed", "-1"], "seed must be at least 0"),
        (["panel", "make", "--env", ENV, "--split", "train", "--out", "/dev/null"], "choose another --out"),
        (
            ["collect", "--agent", "null", "--env", ENV, "--agent-arg", "a=1", "--out", "x"],
            "agent null takes neither",
        ),
        (["panel", "make", "--env", ENV, "--split", "test", "--count", "0", "--out", "x"], "no task"),
        (
            ["panel", "make", "--env", ENV, "--split", "test", "--env-arg", "id=1", "--out", "x"],
            "Gymnasium's",
        ),
        (
            "evaluate --agent null --env prosegym/Household-v1 --tasks 1 --env-arg split=valid --out x".split(),
            "the split is no --env-arg here; give --split valid",
        ),
        (
            ["collect", "--agent", "null", "--env", ENV, "--env-arg", "split=valid", "--out", "x"],
            "give --split valid",
        ),
        (
            "evaluate --agent null --panel Household-v1/test --env-arg split=valid --out x".split(),
            "a panel or a suite has its own: leave it out",
        ),
        (
            ["evaluate", "--agent", "null", "--panel", "Household-v1/test", "--split", "valid", "--out", "x"],
            "--split goes with --env",
        ),
        (
            "evaluate --agent null --suite core --step-limit 60 --ray 2 --out x".split(),
            "--step-limit goes with --workers",
        ),
        (
            "evaluate --agent null --suite core --episode-limit 9 --out x".split(),
            "--episode-limit goes with --workers or --ray",
        ),
        (
            "evaluate --agent null --panel Household-v1/test --workers 2 --ray 2 --out x".split(),
            "give one of the two",
        ),
        (
            ["evaluate", "--agent", "null", "--suite", "cor", "--out", "x"],
            "unknown suite 'cor'",
        ),
        (
            ["collect", "--agent", "null", "--env", ENV, "--env-arg", "maxsteps", "--out", "x"],
            "not NAME=VALUE",
        ),
    ],
)
def test_bad_input_is_one_line(run: Ask, argv: list[str], said: str, tmp_path: Path) -> None:
    cwd = os.getcwd()
    os.chdir(tmp_path)
    try:
        code, _, err = run(*argv)
    finally:
        os.chdir(cwd)
    assert code == 1 and said in err and err.startswith("prosegym: ") and err.count("\n") == 1


def test_a_text_that_is_not_utf_8_is_one_line(run: Ask, panel: Path, tmp_path: Path) -> None:
    folder, card = tmp_path / "r", tmp_path / "card.json"
    assert run("evaluate", "--agent", "null", "--panel", panel, "--out", folder)[0] == 0
    card.write_text('{"agent": "null"}')
    for file, argv in (
        (card, ["submit", folder, "--card", card, "--out", tmp_path / "s"]),
        (folder / "episodes.jsonl", ["view", folder, "--no-browser"]),
        (folder / "run.json", ["compare", folder, folder]),
        (panel, ["evaluate", "--agent", "null", "--panel", panel, "--out", tmp_path / "x"]),
    ):
        file.write_bytes(file.read_bytes().replace(b'": "', b'": "\xff', 1).replace(b':"train/', b':"\xff'))
        code, _, err = run(*argv)
        assert code == 1 and str(file) in err and "utf-8" in err and err.count("\n") == 1, err


def test_a_track_that_is_none_is_told_the_tracks(run: Ask, panel: Path, tmp_path: Path) -> None:
    assert run("evaluate", "--agent", "null", "--panel", panel, "--out", tmp_path / "r")[0] == 0
    (tmp_path / "card.json").write_text('{"track": "few shots"}')
    for given, near in (
        (["--track", "trainedd"], "trained"),
        (["--card", tmp_path / "card.json"], "few-shot"),
    ):
        code, _, err = run("submit", tmp_path / "r", "--out", tmp_path / "s", *given)
        assert code == 1 and f"nearest: {near}" in err and "unknown track '" in err and err.count("\n") == 1


def test_wrong_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--agent", "null"])
    assert stop.value.code == 2 and "--out" in capsys.readouterr().err


def test_unwritable_run_folder(run: Ask, panel: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, _, err = run("evaluate", "--agent", "null", "--panel", panel, "--out", tmp_path / "file" / "run")
    assert code == 1 and "cannot use folder" in err


def test_play(run: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter([":actions", ":hint", ":score", ":help", "sing", "take red key", "open box"])
    monkeypatch.setattr(builtins, "input", lambda prompt="": next(typed))
    code, out, _ = run("play", ENV, "--task", "train/red")
    assert code == 0 and "take gold key" in out and "The box is red." in out
    assert out.count(":hint asks the expert") == 2  # at the start, and where a command is none of them
    assert (
        "\ntake red key\n" in out and "not understood" in out and "score 0.00, progress 0.00, step 0" in out
    )
    assert out.endswith("solved: score 1.00 in 3 steps\n")


def test_play_says_when_the_engine_fails(run: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    import lockbox

    def broken(*_: Any) -> Any:
        raise EngineError("the engine is gone")

    typed = iter([":hint", "take red key"])
    monkeypatch.setattr(builtins, "input", lambda prompt="": next(typed))
    monkeypatch.setattr(lockbox.Lockbox, "_play", broken)
    monkeypatch.setattr(lockbox.Lockbox, "_expert", broken)
    code, out, err = run("play", ENV, "--task", "train/red")
    assert code == 1 and "no hint: the engine is gone" in out
    assert "the game broke off after 0 steps: the engine is gone" in err


def test_play_ends_with_the_input(run: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def over(prompt: str = "") -> str:
        raise EOFError

    monkeypatch.setattr(builtins, "input", over)
    assert run("play", ENV, "--seed", 1)[0] == 0


OFFERED = """
import lockbox
from prosegym.envs.rewards import Maker

class Box(lockbox.Lockbox):
    env_id = "mine/Box-v1"

make = Maker(Box)
"""


def test_environments_of_an_installed_package(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OFFERED)
    (tmp_path / "mine-1.dist-info").mkdir()
    (tmp_path / "mine-1.dist-info" / "METADATA").write_text("Name: mine\nVersion: 1\n")
    entries = "[prosegym.envs]\nmine/Box-v1 = mine:make\nprosegym/Household-v1 = mine:make\n"
    (tmp_path / "mine-1.dist-info" / "entry_points.txt").write_text(entries)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])

    def ask(*argv: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "import sys; from prosegym.cli import main; sys.exit(main())", *argv],
            capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        assert not done.returncode, done.stderr
        return done.stdout

    assert "  mine/Box-v1\n" in ask("list")
    whole = ("evaluate", "--agent", "expert", "--env", "mine/Box-v1", "--split", "test", "--out")
    assert "episodes 4/4" in ask(*whole, "run") and "episodes 4/4" in ask(*whole, "again", "--workers", "2")
    assert "4 of 4" in ask("replay", "run")
    ask("panel", "make", "--env", "mine/Box-v1", "--split", "test", "--count", "2", "--out", ".")
    few = ask("evaluate", "--agent", "expert", "--panel", "mine/Box-v1/test.json", "--out", "few")
    assert "episodes 2/2" in few
    assert "Lockbox" not in ask("info", "prosegym/Household-v1")  # an id of this package stays its own


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_resumable_run(how: int, panel: Path, tmp_path: Path) -> None:
    code = (
        "import signal,sys,time; sys.path.insert(0, sys.argv[1]); import conftest\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell in the background ignores it
        "from prosegym.evaluation import agents\n"
        "say = agents.Null.respond\n"
        "agents.Null.respond = lambda self, e: (time.sleep(0.05), say(self, e))[1]\n"
        "from prosegym.cli import main; raise SystemExit(main(sys.argv[2:]))"
    )
    tests = str(Path(__file__).parent)
    words = [
        "evaluate",
        "--agent",
        "null",
        "--panel",
        str(panel),
        "--attempts",
        "50",
        "--out",
        str(tmp_path / "r"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", code, tests, *words, "--batch-size", "1"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, tests])},
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    while not (tmp_path / "r" / "episodes.jsonl").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(how)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + how and "Traceback" not in err
    assert err.splitlines()[-1] == "prosegym: stopped; what was finished is kept, the same command goes on"
    assert main([*words, "--json"]) == 0


def test_panel_commands(run: Ask, panel: Path, tmp_path: Path) -> None:
    code, out, _ = run("panel", "show", panel)
    assert code == 0 and "8 tasks" in out and "train/teal" in out
    code, out, _ = run(
        "panel", "make", "--env", ENV, "--split", "train", "--count", 7, "--out", tmp_path / "p"
    )
    assert code == 0 and "7 tasks" in out
    code, out, _ = run("panel", "diff", panel, tmp_path / "p" / "Lockbox-v1" / "train.json")
    assert code == 1 and out == "only in the first: train/jade\n"
    made = panels.load(panel)
    for env_id, tasks, said in (
        (ENV, made.tasks, ""),
        (ENV, made.tasks[::-1], "the same tasks in another order\n"),
        ("mine/Box-v1", made.tasks, "of another environment\n"),
    ):
        other = panels.save(panels.of_tasks("a/b", env_id, "train", "", tasks), tmp_path / "others")
        assert run("panel", "diff", panel, other)[:2] == (int(said != ""), said)


def test_commands_that_tell_something_tell_it_as_json(run: Ask, panel: Path, tmp_path: Path) -> None:
    def ask(*words: object) -> Any:
        return json.loads(run(*words, "--json")[1])

    assert ask("panel", "show", panel)["tasks"][0][0].startswith("train/")
    made = ask("panel", "make", "--env", ENV, "--split", "train", "--count", 7, "--out", tmp_path / "p")
    assert made["tasks"] == 7
    differs = {"only_in_the_first": ["train/jade"], "only_in_the_second": [], "differs": []}
    differs |= {"the_same_tasks_in_another_order": False, "of_another_environment": False}
    assert ask("panel", "diff", panel, made["file"]) == differs
    assert {"webshop", "alfworld"} <= {found["name"] for found in ask("data", "list")}
    ask("collect", "--agent", "expert", "--env", ENV, "--episodes", 3, "--out", tmp_path / "e.jsonl")
    out = str(tmp_path / "rows")
    assert ask("convert", tmp_path / "e.jsonl", "--to", "trl", "--out", out) == {"out": out, "rows": 3}
    (tmp_path / "none").mkdir()
    ledger.append(tmp_path / "none" / "ledger.jsonl", "added", "0" * 64, agent="A", reason="first")
    found = ask("ledger", "check", tmp_path / "none" / "ledger.jsonl")
    assert found["entries"] == 1
    built = ask("board", "build", "--submissions", tmp_path / "none", "--out", tmp_path / "site")
    assert built["refused"][0]["folder"] == "ledger.jsonl" and Path(built["page"]).name == "index.html"


@pytest.mark.parametrize("agent", [["house"], ["reflexion", "--model", "novice"]])
def test_an_agent_whose_extra_is_not_installed(
    run: Ask, monkeypatch: pytest.MonkeyPatch, panel: Path, tmp_path: Path, agent: list[str]
) -> None:
    monkeypatch.delitem(sys.modules, "prosegym.baselines.local", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it cannot be imported
    code, _, err = run("evaluate", "--agent", *agent, "--panel", panel, "--out", tmp_path / "r")
    assert (code, err) == (1, 'prosegym: torch is not installed; run `pip install "prosegym[train]"`\n')


def test_ledger_check(run: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run("ledger", "check", "submissions/legder.jsonl")
    assert code == 1 and err == (
        "prosegym: submissions/legder.jsonl is no file; name the ledger, FOLDER_OF_SUBMISSIONS/ledger.jsonl\n"
    )
    ledger.append(Path("submissions/ledger.jsonl"), "added", "a" * 64, agent="A", reason="replayed")
    code, out, _ = run("ledger", "check")
    assert code == 0 and out == "submissions/ledger.jsonl: 1 entries, each chained to the one before\n"
    cut = Path("submissions/ledger.jsonl").read_bytes()
    head = ledger.append("submissions/ledger.jsonl", "added", "b" * 64, agent="B", reason="replayed").sha256
    assert run("ledger", "check", "--head", head)[0] == 0
    Path("submissions/ledger.jsonl").write_bytes(cut)
    assert run("ledger", "check")[0] == 0  # the file alone does not show it
    assert "the end was cut off" in run("ledger", "check", "--head", head)[2]
    assert "64 hexadecimal digits" in run("ledger", "check", "--head", head[:12])[2]


def test_a_set_whose_files_are_not_there_is_not_here(
    run: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A full disk leaves an empty folder, which no environment can play."""
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path))
    for name in data.DATASETS:
        data.folder(name).mkdir(parents=True)
    for whole in ([], list(data.DATASETS)):
        for name in whole:
            (data.folder(name) / data.dataset(name).last).write_text("{}")
        told = json.loads(run("data", "list", "--json")[1])
        assert [known["name"] for known in told if known["here"]] == whole
        assert run("list")[1].count(" [here]") == len(whole)
        assert re.findall(r"^ok    data ([\w-]+): ", run("doctor")[1], re.MULTILINE) == whole


def test_doctor(run: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, out, _ = run("doctor")
    assert code == 0 and "ok    python" in out and "cache folder" in out
    assert set(EXTRAS) == set(metadata("prosegym").get_all("Provides-Extra") or ()) - {"docs"}
    for name in (
        "gymnasium",
        "textworld",
        "tyro",
        "accelerate",
        "peft",
        "openai",
        "matplotlib",
        "openenv-core",
    ):
        assert len(re.findall(rf"^(?:ok  |mend)  {name}: ", out, re.MULTILINE)) == 1, name
    with monkeypatch.context() as patch:
        here = {"transformers": "4.57.1", "numpy": "2.5.0rc1", "torch": "2.13.0+cpu", "gymnasium": "0.29.1"}
        patch.setattr(doctor, "version", lambda name: here.get(name) or version(name))
        code, out, _ = run("doctor")
    assert code == 1 and "ok    numpy: 2.5.0rc1\n" in out and "ok    torch: 2.13.0+cpu\n" in out
    assert 'mend  transformers: 4.57.1, needs >=5; `pip install "prosegym[train]"`\n' in out
    assert 'mend  gymnasium: 0.29.1, needs >=1.1; `pip install "gymnasium>=1.1"`\n' in out
    java = tmp_path / "java"
    monkeypatch.setattr(jvm, "_javas", lambda: iter([java]))
    old = "#!/bin/sh\necho 'openjdk version \"1.8.0_402\"' >&2\n"
    for text, said in ((old, "is Java 8"), ("no program", "does not run")):
        java.write_text(text)
        java.chmod(0o755)
        assert re.search(rf"^mend  java: Java 17 or newer is needed .*{said}", run("doctor")[1], re.MULTILINE)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path / "file" / "home"))
    code, out, _ = run("doctor")
    assert code == 1 and "set PROSEGYM_HOME to a folder you can write to" in out
