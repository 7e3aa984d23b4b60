"""Honest submissions pass; every way of cheating that we could think of is refused with its reason."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lockbox
import msgspec
import pytest
from submitting import play, renumbered, rewritten

from prosegym.envs import ENVS, panels
from prosegym.envs.core import arguments
from prosegym.envs.errors import BadOption, EngineError, ProsegymError
from prosegym.envs.lookup import env_class
from prosegym.evaluation import agents
from prosegym.evaluation.runs import Run
from prosegym.leaderboard import rules
from prosegym.leaderboard import verify as verifier
from prosegym.leaderboard.board import build
from prosegym.leaderboard.rules import Acts, minimum, sampled, settings
from prosegym.leaderboard.submission import MAX_EPISODES, SETTINGS, Card, Refused, check_env, encode, read
from prosegym.leaderboard.submit import below_minimum, submit
from prosegym.leaderboard.verify import Report, verify

Json = dict[str, Any]
Tamper = Callable[..., Path]


def check(folder: Path, workers: int = 0, **kwargs: Any) -> Report:
    return verify(folder, workers=workers, progress=False, **kwargs)


def refused(folder: Path, *words: str) -> None:
    report = check(folder)
    assert not report.ok and not report.rerun
    text = "\n".join(report.problems)
    for word in words:
        assert word in text, text
    assert all("\n" not in problem for problem in report.problems)


# Honest ones.


def test_an_honest_submission_passes_and_is_recomputed(honest: Path, runs: dict[str, Path]) -> None:
    report = check(honest)
    assert report.ok and report.problems == [] and report.episodes == 8 and not report.rerun
    summary = Run.read(runs["random"]).summary()
    (row,) = report.rows
    assert row.numbers.success == summary.success and row.numbers.score == summary.score
    assert (row.attempts, row.tasks, row.episodes, row.tier) == (2, 4, 8, "generated")
    assert [t.task_type for t in row.types] == ["cold", "warm"]


def test_processes_find_the_same_as_one(tamper: Tamper, honest: Path) -> None:
    def edit(episodes: list[Json]) -> None:
        episodes[3]["steps"][1]["action"] = "no such thing"

    for folder in (honest, tamper(episodes=edit)):
        one, two = check(folder), check(folder, workers=2)
        assert (one.ok, one.problems, one.rows) == (two.ok, two.problems, two.rows)


def test_a_reference_agent_is_run_again(runs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("null", "random", "expert"):
        folder = submit([runs[name]], tmp_path / name, Card(agent=name, track="reference"))
        report = check(folder)
        assert report.ok and report.rerun, report.problems
    for made, words in ((["expert"], "'expert', not 'Ours'"), (["random", "expert"], "not 'Ours'")):
        with pytest.raises(Refused, match=f"a reference row is named as its agent, .*{words}"):
            submit([runs[n] for n in made], tmp_path / "x", Card(agent="Ours", track="reference"))
    folder = submit([runs["expert"]], tmp_path / "x", Card(agent="expert", track="reference"))
    data = (folder / "submission.json").read_bytes()
    episodes = (folder / "episodes/0.jsonl").read_bytes().replace(b'"agent":"expert"', b'"agent":"random"')
    reseal(folder, data.replace(b'"agent": "expert"', b'"agent": "random"'), episodes)
    refused(folder, "run again, agent 'random' acts otherwise")


class Nosuch(agents.Null):
    name = "expert:nosuch"


def test_an_expert_that_cannot_be_run_ends_no_verification(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(Nosuch(), tmp_path / "nosuch")
    unknown = submit([tmp_path / "nosuch"], tmp_path / "s" / "unknown")
    refused(unknown, "agent 'expert:nosuch' cannot be run again: unknown expert 'nosuch'; nearest: ")
    oracle = submit([runs["expert"]], tmp_path / "s" / "oracle")
    alike = submit([runs["expert"]], tmp_path / "alike", Card(agent="A", track="few-shot"))

    class Planless(lockbox.Lockbox):
        def _expert(self, name: str) -> Any:
            raise EngineError("no gold path")

    monkeypatch.setattr(lockbox.make, "env_class", Planless)
    refused(oracle, "agent 'expert' cannot be run again: no gold path")
    assert check(alike).ok
    assert "episodes/0.jsonl: not wholly compared with expert 'reader': no gold path" in check(alike).flags
    assert "expert:nosuch" in build(tmp_path / "s", tmp_path / "site", workers=0, progress=False).read_text()


def reseal(folder: Path, manifest: bytes, episodes: bytes) -> None:
    import hashlib

    found = msgspec.json.decode(manifest)
    found["results"][0] |= {"size": len(episodes), "sha256": hashlib.sha256(episodes).hexdigest()}
    (folder / "episodes/0.jsonl").write_bytes(episodes)
    (folder / "submission.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"
    )


def test_retries_and_several_runs_and_compression(runs: dict[str, Path], tmp_path: Path) -> None:
    retry = submit([runs["retry"]], tmp_path / "retry", Card(agent="R", track="retry"), compress=True)
    report = check(retry)
    assert report.ok, report.problems
    assert report.episodes == 11 and report.rows[0].numbers.initial == 0.0
    assert report.rows[0].numbers.final == report.rows[0].numbers.success.value == 1.0
    play(agents.RandomAdmissible(), tmp_path / "again", attempts=2, seed=4)
    both = submit([runs["random"], tmp_path / "again"], tmp_path / "both", Card(agent="B", track="zero-shot"))
    assert [row.seed for row in check(both).rows] == [3, 4]


class Frail(lockbox.Lockbox):
    """Crashes when its box is shaken, and on the cyan box at once."""

    broken = True

    def _begin(self, task: Any) -> Any:
        if self.broken and task.id == "test/cyan":
            raise EngineError("the engine is gone")
        return super()._begin(task)

    def _play(self, action: str) -> Any:
        if self.broken and action == "shake":
            raise EngineError("the engine is gone")
        return super()._play(action)


@pytest.fixture
def frail(monkeypatch: pytest.MonkeyPatch) -> type[Frail]:
    monkeypatch.setattr(lockbox.make, "env_class", Frail)
    monkeypatch.setattr(Frail, "broken", True)
    return Frail


def test_an_honest_engine_error_stays_as_a_zero(frail: type[Frail], tmp_path: Path) -> None:
    script = {"test/gold": ["take gold key", "shake"], "test/lime": ["take lime key", "open box"]}
    run = play(agents.Scripted(script), tmp_path / "run")
    assert [t.ended for t in run.finished].count("error") == 2
    folder = submit([tmp_path / "run"], tmp_path / "s", Card(agent="A", track="zero-shot"))
    assert check(folder).ok and check(folder).rows[0].numbers.errors == 2
    frail.broken = False  # the verifier's engine holds where the submitter's crashed
    report = check(folder)
    assert report.ok and report.rows[0].numbers.success.value == 0.25
    frail.broken = True
    path = folder / "episodes/0.jsonl"
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    next(e for e in lines if e["ended"] == "error")["score"] = 1.0
    data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    reseal(folder, (folder / "submission.json").read_bytes(), data)
    refused(folder, "an episode that ended in an error scores 0, not 1.0")


def test_an_engine_that_fails_only_here_is_said(frail: type[Frail], tmp_path: Path) -> None:
    frail.broken = False
    play(agents.ExpertAgent(), tmp_path / "run")
    folder = submit([tmp_path / "run"], tmp_path / "s", Card(agent="A", track="zero-shot"))
    frail.broken = True
    refused(folder, "test/cyan", "the engine failed in the replay: the engine is gone")


def test_an_agent_that_stopped_early_is_taken_at_what_it_reached(tmp_path: Path) -> None:
    class Stops(agents.Scripted):
        def respond(self, episodes: Any) -> list[agents.Reply]:
            if episodes[0].steps:
                return [agents.Reply("", "", stop="context overflow") for _ in episodes]
            return [agents.Reply("take gold key", "take gold key") for _ in episodes]

    play(Stops({}), tmp_path / "run")
    folder = submit([tmp_path / "run"], tmp_path / "s", Card(agent="A", track="zero-shot"))
    report = check(folder)
    assert report.ok and report.rows[0].numbers.progress.value == 0.125


def test_answers_that_could_not_be_read_are_counted_as_the_run_counts_them(tmp_path: Path) -> None:
    class Mumbles(agents.Scripted):
        def respond(self, episodes: Any) -> list[agents.Reply]:
            return [agents.Reply("hm", "", parse_failed=len(e.steps) < 2) for e in episodes]

    play(Mumbles({}), tmp_path / "run")
    report = check(submit([tmp_path / "run"], tmp_path / "s", Card(agent="A", track="zero-shot")))
    assert report.ok, report.problems
    assert report.rows[0].numbers.invalid_rate == pytest.approx(4 / 6)  # of 6 turns 2 had no action to refuse


def test_an_action_that_was_refused_counts_whatever_was_said_of_the_answer(tmp_path: Path) -> None:
    """A submission could call every answer unreadable and so show no invalid action."""

    class Sly(agents.Null):
        name = "sly"

        def respond(self, episodes: Any) -> list[agents.Reply]:
            return [agents.Reply("I dance", "dance", parse_failed=True) for _ in episodes]

    play(Sly(), tmp_path / "r")
    report = check(submit([tmp_path / "r"], tmp_path / "s", Card(agent="Sly", track="zero-shot")))
    assert report.ok and report.rows[0].numbers.invalid_rate == 1.0


def test_another_version_is_named_where_the_replay_differs(tamper: Tamper) -> None:
    def older(found: Json) -> None:
        found["results"][0]["versions"] |= {"prosegym": "0.0.1", "python": "2.7.1"}

    folder = tamper(manifest=older, episodes=set_step(0, action="look"))
    refused(
        folder,
        "step 0: invalid",
        "the run was made with prosegym 0.0.1, here it is",
        "the run was made with python 2.7.1, here it is",
    )


def test_another_version_alone_is_no_problem(tamper: Tamper) -> None:
    assert check(tamper(manifest=lambda f: f["results"][0]["versions"].update(prosegym="0.0.1"))).ok


# Cheating with the episodes. Every digest and size is made to fit, so that only the cheat itself is found.


def first(change: Callable[[Json], Any]) -> Callable[[list[Json]], None]:
    def edit(episodes: list[Json]) -> None:
        change(next(e for e in episodes if len(e["steps"]) > 3 and not e["success"]))

    return edit


def set_step(index: int, **values: Any) -> Callable[[list[Json]], None]:
    return first(lambda episode: episode["steps"][index].update(values))


def scored(episode: Json) -> None:
    episode["score"], episode["success"] = 1.0, True


def told_otherwise(episode: Json) -> None:
    episode["steps"][1]["observation"] = "You see an open box."
    rewritten(episode)


def drop(index: int) -> Callable[[list[Json]], None]:
    return lambda episodes: episodes.pop(index) and None


EPISODE_CHEATS: dict[str, tuple[Any, list[str]]] = {
    "score of an episode": (first(scored), ["score: expected 0.0, found 1.0"]),
    "success of an episode": (first(lambda e: e.update(success=True)), ["success: expected False, found True"]),
    "score of a step": (set_step(1, score=1.0), [" step 1: score: expected 0.0, found 1.0"]),
    "reward of a step": (set_step(1, reward=0.5), ["reward: expected 0.0, found 0.5"]),
    "progress of a step": (set_step(2, progress=1.0), ["step 2: progress: expected"]),
    "invalid flag": (set_step(0, invalid=True), ["step 0: invalid: expected False, found True"]),
    "action": (set_step(0, action="look"), ["step 0: invalid: expected True, found False"]),
    "observation hash": (set_step(1, observation_sha256="0" * 64), ["step 1: observation: expected 'sha256 "]),
    "observation": (first(told_otherwise), ["step 1: observation: expected", "You see an open box."]),
    "end cut off": (
        first(lambda e: e["steps"].pop()),
        ["final observation: expected"],
    ),
    "end invented": (
        first(lambda e: e["steps"].append(e["steps"][-1])),
        ["end of the episode: expected 'has ended', found 'goes on'"],
    ),
    "called terminated": (first(lambda e: e.update(ended="terminated")), ["ended: expected 'truncated'"]),
    "missing task": (lambda es: [e for e in es if e["task_id"] != "test/grey"], ["test/grey attempt 0 is missing"]),
    "dropped attempt": (drop(1), ["task test/gold attempt 1 is missing"]),
    "duplicate task": (lambda es: [*es[:1], *es[:1], *es[2:]], ["test/gold attempt 0 trial 0 is there 2 times"]),
    "reordered": (lambda es: [*es[2:], *es[:2]], ["test/gold is out of the panel's order"]),
    "third attempt": (
        lambda es: [*es[:2], {**es[1], "attempt": 2}, *es[2:-1]],
        ["the run has 2 attempts of 1 trials"],
    ),
    "second trial": (lambda es: [{**es[0], "trial": 1}, *es[1:]], ["the run has 2 attempts of 1 trials"]),
    "attempts renumbered": (
        lambda es: [{**es[1], "attempt": 0}, {**es[0], "attempt": 1}, *es[2:]],
        ["task test/gold attempt 0 trial 0: seed is"],
    ),
    "another task's content": (lambda es: es[0].update(task_sha256="1" * 64), ["task_sha256 is '1111"]),
    "another panel's task": (lambda es: es[0].update(task_id="train/red"), ["task 'train/red' is not in the panel"]),
    "another split": (lambda es: es[0].update(split="train"), ["split is 'train', this run has 'test'"]),
    "another agent": (lambda es: es[0].update(agent="expert"), ["agent is 'expert', this run has 'random'"]),
    "another environment": (lambda es: es[0].update(env_id="prosegym/X-v1"), ["env_id is 'prosegym/X-v1'"]),
    "other arguments": (lambda es: es[0].update(env_kwargs={"max_steps": 99}), ["env_kwargs is"]),
    "exposed expert": (lambda es: es[0].update(env_kwargs={"expose_expert": True}), ["env_kwargs is"]),
    "true for one": (lambda es: es[0].update(attempt=False), ["not an episode", "Expected `int`"]),
    "error invented": (lambda es: es[0].update(ended="error", success=False, score=0.0), ["ended error, error 'None'"]),
    "task type": (lambda es: es[0].update(task_type="hard"), ["task_type: expected 'cold', found 'hard'"]),
    "tokens left out": (lambda es: es[0]["steps"][0].update(prompt_tokens=9), ["fewer tokens than its steps have"]),
    "tokens": (lambda es: es[0]["usage"].update(prompt_tokens=-5), ["tokens, cost or seconds out of range"]),
    "a cost next to nothing": (lambda es: es[0]["usage"].update(cost=5e-324), ["tokens, cost or seconds out of"]),
    "notes": (lambda es: es[0].update(memory=["the gold one"]), ["gold attempt 0 trial 0: a first trial that was"]),
    "time": (lambda es: es[0].update(started="<b>now</b>"), ["started is not a time"]),
    "schema": (lambda es: es[0].update(schema=2), ["schema 2; this version reads 1"]),
    "extra key": (lambda es: es[0].update(note="x"), ["not an episode", "unknown field `note`"]),
    "field left out": (lambda es: es[0].pop("schema") and None, ["not in its one form"]),
    "huge number": (lambda es: es[0].update(seed=10**40), ["seed is"]),
    "huge tokens": (lambda es: es[0]["usage"].update(prompt_tokens=10**30), ["out of range"]),
    "huge time": (lambda es: es[0].update(seconds=1e300), ["out of range"]),
}  # fmt: skip


@pytest.mark.parametrize("name", EPISODE_CHEATS)
def test_changed_episodes_are_refused(name: str, tamper: Tamper) -> None:
    edit, words = EPISODE_CHEATS[name]
    refused(tamper(episodes=edit), "episodes/0.jsonl", *words)


RAW_CHEATS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "doubled key": (lambda b: b.replace(b'"score":', b'"score":0.0,"score":', 1), "not in its one form"),
    "odd number": (lambda b: b.replace(b'"reward":0.0', b'"reward":0e0', 1), "not in its one form"),
    "NaN": (lambda b: b.replace(b'"reward":0.0', b'"reward":NaN', 1), "malformed"),
    "infinity": (lambda b: b.replace(b'"reward":0.0', b'"reward":1e999', 1), "out of range"),
    "blank": (lambda b: b.replace(b'"reward":0.0', b'"reward": 0.0', 1), "not in its one form"),
    "carriage returns": (lambda b: b.replace(b"\n", b"\r\n"), "not in its one form"),
    "empty line": (lambda b: b"\n" + b[b.index(b"\n") + 1 :], "not an episode"),
    "not UTF-8": (lambda b: b.replace(b"box", b"\xff\xfe\xfd", 1), "not an episode"),
    "surrogate": (lambda b: b.replace(b'"response":"', b'"response":"\\ud800', 1), "not an episode"),
    "deep": (lambda b: b.replace(b'"env_kwargs":{', b'"env_kwargs":{"a":' + b"[" * 9**5, 1), "recursion depth exceeded"),
    "cut": (lambda b: b[:-40], "ends in the middle of a line"),
    "not JSON": (lambda b: b"\x80\x04pickle" + b[b.index(b"\n") :], "not an episode"),
    "a line too many": (lambda b: b + b[: b.index(b"\n") + 1], "9 episodes; the panel and the trials make 8"),
}  # fmt: skip


@pytest.mark.parametrize("name", RAW_CHEATS)
def test_bytes_of_another_form_are_refused(name: str, tamper: Tamper) -> None:
    change, words = RAW_CHEATS[name]
    refused(tamper(raw=change), words)


def test_a_trial_after_a_success_or_without_its_failure(runs: dict[str, Path], tmp_path: Path) -> None:
    honest = submit([runs["retry"]], tmp_path / "retry", Card(agent="R", track="retry"))
    path, manifest = honest / "episodes/0.jsonl", (honest / "submission.json").read_bytes()
    lines = path.read_bytes().splitlines(keepends=True)
    trials = [msgspec.json.decode(line)["trial"] for line in lines]
    assert trials == [0, 1, 2, 0, 1, 2, 0, 1, 0, 1, 2]
    gap = [line for i, line in enumerate(lines) if i != 1]
    reseal(honest, manifest.replace(b'"episodes": 11', b'"episodes": 10'), b"".join(gap))
    refused(honest, "test/gold attempt 0 trial 1 is missing", "trial 2: there is no failed trial 1 before it")
    early = [line for i, line in enumerate(lines) if i not in (1, 2)]
    reseal(honest, manifest.replace(b'"episodes": 11', b'"episodes": 9'), b"".join(early))
    refused(honest, "test/gold attempt 0 trial 1 is missing")


# Cheating with submission.json.


def claims(name: str, change: Callable[[Any], Any]) -> Callable[[Json], None]:
    def edit(found: Json) -> None:
        numbers = found["results"][0]["claim"]
        numbers[name] = change(numbers[name])

    return edit


def result(**values: Any) -> Callable[[Json], None]:
    return lambda found: found["results"][0].update(values)


def card(**values: Any) -> Callable[[Json], None]:
    return lambda found: found["card"].update(values)


def sha_of_nothing(found: Json) -> None:
    found["results"][0]["sha256"] = "0" * 64


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


MANIFEST_CHEATS: dict[str, tuple[Callable[[Json], Any], str]] = {
    "success": (claims("success", lambda e: [1.0, 1.0, 1.0, 4]), "claim.success: claimed"),
    "success by a little": (claims("success", lambda e: [e[0] + 0.001, *e[1:]]), "claim.success: claimed"),
    "interval": (claims("score", lambda e: [e[0], e[1] - 0.01, e[2] + 0.01, e[3]]), "claim.score: claimed"),
    "score": (claims("score", lambda e: [0.99, *e[1:]]), "claim.score: claimed"),
    "progress": (claims("progress", lambda e: [0.99, *e[1:]]), "claim.progress: claimed"),
    "invalid rate": (claims("invalid_rate", lambda e: e + 0.1), "claim.invalid_rate: claimed"),
    "errors": (claims("errors", lambda e: 3), "claim.errors: claimed"),
    "cost": (claims("cost", lambda e: e + 1.0), "claim.cost: claimed"),
    "huge claim": (claims("cost", lambda e: 1e300), "claim.cost: 1e+300 is out of range"),
    "digest of the file": (sha_of_nothing, "is not the file whose sha256"),
    "size of the file": (lambda f: f["results"][0].update(size=f["results"][0]["size"] - 1), "holds more than"),
    "panel digest": (result(panel_sha256="a" * 64), "the digest of panel Lockbox-v1/test is"),
    "other panel": (result(panel="Lockbox-v1/train"), "the digest of panel Lockbox-v1/train is"),
    "part of the panel": (result(panel="Lockbox-v1/test[:2]"), "the digest of panel Lockbox-v1/test[:2] is"),
    "panel by another name": (result(panel="Lockbox-v1/test[:9999]"), "is the whole of Lockbox-v1/test; name it so"),
    "no panel": (result(panel="Lockbox-v1/none"), "unknown panel"),
    "panel that climbs": (result(panel="../../etc/passwd"), "is not the name of a committed panel"),
    "panel file": (result(panel="/tmp/mine.json"), "is not the name of a committed panel"),
    "old version": (result(env_id="prosegym/Lockbox-v0"), "unknown environment 'prosegym/Lockbox-v0'"),
    "module id": (result(env_id="os:prosegym/Lockbox-v1"), "unknown environment"),
    "fewer attempts": (result(attempts=1), "8 episodes; the panel and the trials make 4 at most"),
    "more attempts": (result(attempts=3), "attempt 2 is missing"),
    "trials": (result(trials=2), "runs of more than one trial are of the retry track"),
    "retry track": (card(track="retry"), "runs of more than one trial are of the retry track"),
    "unknown track": (card(track="best"), "Invalid enum value"),
    "seed": (result(seed=4), "seed is"),
    "agent": (result(agent="expert"), "agent is 'random', this run has 'expert'"),
    "extra key": (lambda f: f.update(verified=True), "unknown field `verified`"),
    "extra key that clears the screen": (lambda f: f.update({"a\n\x1b[2Jb": 1}), "unknown field `a??[2Jb`"),
    "extra key in the card": (card(badge="re-run"), "unknown field `badge`"),
    "extra key in a result": (result(note=1), "unknown field `note`"),
    "schema": (lambda f: f.update(schema=9), "schema 9; this version reads 1"),
    "no results": (lambda f: f.update(results=[]), "length >= 1"),
    "same file twice": (lambda f: f["results"].append(f["results"][0]), "two results name the same episodes file"),
    "file that climbs": (result(file="../../x.jsonl"), "matching regex"),
    "file elsewhere": (result(file="/etc/passwd"), "matching regex"),
    "file with a line end": (result(file="0.jsonl\n"), "matching regex"),
    "other file": (result(file="1.jsonl"), "which submission.json does not name"),
    "exposed expert": (result(env_kwargs={"expose_expert": True}), "'expose_expert' may not be set"),
    "render mode": (result(env_kwargs={"render_mode": "ansi"}), "'render_mode' may not be set"),
    "unknown argument": (result(env_kwargs={"self": 1}), "'self' may not be set"),
    "path as argument": (result(env_kwargs={"split": "../x"}), "split may not be '../x'"),
    "object as argument": (result(env_kwargs={"split": {"a": 1}}), "Expected `bool | int | float | str | null`"),
    "fraction as argument": (result(env_kwargs={"max_steps": 1.5}), "max_steps may not be"),
    "yes as argument": (result(env_kwargs={"admissible": 1}), "admissible may not be"),
    "no such split": (result(env_kwargs={"split": "tset"}), "env_kwargs: unknown split 'tset'"),
    "huge argument": (result(env_kwargs={"max_steps": 10**12}), "max_steps may not be"),
    "expert's reward": (result(env_kwargs={"reward": "expert"}), "reward may not be 'expert'"),
    "deep conditions": (result(conditions=deep(30)), "nests deeper than 8"),
    "abyssal conditions": (result(conditions=deep(900)), "nest"),
    "long condition": (result(conditions={"a": "x" * 5000}), "a text of 5000 characters"),
    "long name of a condition": (result(conditions={"a" * 300 + "\u202e": 1}), "a name of 301 characters"),
    "long name": (card(agent="x" * 81), "length <= 80"),
    "name of a reference": (card(agent="Expert"), "'Expert' is the name of a reference"),
    "empty name": (card(agent=""), "length >= 1"),
    "blank name": (card(agent=" "), "begins or ends with a blank"),
    "reversed name": (card(agent="abc\u202edef"), "U+202E"),
    "invisible name": (card(agent="GPT\u200b"), "U+200B"),
    "name of a letter that shows nothing": (card(agent="\u3164"), "U+3164, which cannot be seen"),
    "variation of a name": (card(agent="GPT\ufe0f"), "U+FE0F, which cannot be seen"),
    "control in a name": (card(agent="a\x1b[2Jb"), "U+001B"),
    "two-line name": (card(agent="a\nb"), "U+000A"),
    "look-alike name": (card(agent="Re\u0410ct"), "scripts that look alike"),
    "heaped accents": (card(agent="a" + "\u0334\u0335\u0336\u0337"), "heaps accents"),
    "uncomposed name": (card(agent="u\u0308ber"), "composed form"),
    "code that runs": (card(code="javascript:alert(1)"), "card.code is not an https address"),
    "code that breaks out": (card(code='https://a/"onload="x'), "card.code is not an https address"),
    "trained on the panel": (card(training_panels=["Lockbox-v1/test"]), "trained on 4 of the tasks of Lockbox-v1/test"),
    "trained on no panel": (card(training_panels=["../x"]), "is not the name of a committed panel"),
    "curve out of range": (card(curve=[[0.0, 1.5]]), "card.curve: a point is"),
    "curve that turns back": (card(curve=[[5.0, 0.1], [1.0, 0.2]]), "card.curve: its points do not go"),
    "endless curve": (card(curve=[[float(i), 0.5] for i in range(1001)]), "length <= 1000"),
    "hidden method": (card(method="E\u200bTO"), "U+200B"),
    "negative cost": (card(cost=-1.0), "Expected `float` >= 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", MANIFEST_CHEATS)
def test_a_changed_manifest_is_refused(name: str, tamper: Tamper) -> None:
    edit, words = MANIFEST_CHEATS[name]
    refused(tamper(manifest=edit), words)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"track":', b'"track": "trained",\n  "track":', "not in its one form"),
        (b'"seed": 3', b'"seed": 3.0', "Expected `int`"),
        (b'"seed": 3', b'"seed":  3', "not in its one form"),
        (b'"cost": null', b'"cost": NaN', "malformed"),
        (b'"conditions": {}', b'"conditions": ' + b'{"a":' * 5000, "recursion depth exceeded"),
        (b'"schema"', b'\xef\xbb\xbf"schema"', "submission.json"),
    ],
)
def test_a_manifest_of_another_form_is_refused(honest: Path, old: bytes, new: bytes, words: str) -> None:
    path = honest / "submission.json"
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    refused(honest, words)


def test_a_single_trial_is_not_of_the_retry_track(runs: dict[str, Path], tmp_path: Path) -> None:
    """It would be ranked among single trials without the minima of their tracks."""
    with pytest.raises(
        Refused, match=r"results\[1\]: track 'retry', trials 1: runs of more than one trial are"
    ):
        submit([runs["retry"], runs["random"]], tmp_path / "s", Card(agent="R", track="retry"))


def test_a_default_that_is_spelled_out_makes_no_other_board(tmp_path: Path) -> None:
    """Lockbox's own limit is 6 steps; 7 are another benchmark."""
    for said, left in (
        ({"max_steps": 6, "admissible": True}, {}),
        ({"max_steps": None}, {}),
        ({"max_steps": 7, "admissible": False}, {"max_steps": 7, "admissible": False}),
    ):
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        play(agents.Null(), out / "r", env_kwargs=said)
        report = check(submit([out / "r"], out / "s"))
        assert report.ok and report.rows[0].env_kwargs == left


def test_markup_in_a_name_is_text(tamper: Tamper) -> None:
    assert check(tamper(manifest=card(agent="<img src=x onerror=alert(1)>"))).ok


# The rules' minimum.


def test_the_minimum_of_attempts_and_seeds_is_looked_at(runs: dict[str, Path], tmp_path: Path) -> None:
    two = "2 of the 4 attempts that a sampled agent needs"
    one = "1 of the 3 training seeds that a trained agent needs"
    folder = submit([runs["random"]], tmp_path / "a", Card(agent="A", track="trained"))
    report = check(folder)
    assert report.ok and report.unranked == [("run 1", two), ("run 1", one)]
    assert below_minimum(folder) == [f"run 1: {two}", f"run 1: {one}"]
    # Runs that act alike are one seed, whatever they say of themselves.
    thrice = submit([runs["random"]] * 3, tmp_path / "b", Card(agent="A", track="trained"))
    assert [lack for _, lack in check(thrice).unranked] == [two, one] * 3
    # Nothing is asked of the reference track; a stranger's "deterministic" is taken at its word, not at others.
    assert check(submit([runs["null"]], tmp_path / "c")).unranked == []
    retry = submit([runs["retry"]], tmp_path / "d", Card(agent="R", track="retry"))
    assert check(retry).unranked == [] and below_minimum(retry) == []
    for said, lacks in (({"deterministic": 1}, 1), ({"temperature": 0}, 0), ({"temperature": "0"}, 1), ({"temperature": 0.7}, 1)):  # fmt: skip
        result = msgspec.structs.replace(read(retry)[0].results[0], conditions=said)
        (found,) = minimum(Card(agent="R", track="retry"), [result], [Acts("x", ["x"], [])])
        assert len(found) == lacks, said


def test_attempts_that_act_alike_are_one(tmp_path: Path) -> None:
    """One attempt sent in four times, its seeds made to fit, is not the four that a sampled agent needs."""

    class Sampled(agents.Null):
        name = "sampled"

    play(Sampled(), tmp_path / "r", attempts=4)
    folder = submit([tmp_path / "r"], tmp_path / "s", Card(agent="A", track="zero-shot"))
    lack = ("run 1", "1 of the 4 attempts that a sampled agent needs")
    assert check(folder).unranked == [lack] and below_minimum(folder) == [": ".join(lack)]


class Writer:
    """Plays what it is given, in its own hand."""

    name = "writer"

    def __init__(self, blank: str = " ", **conditions: Any) -> None:
        self.blank, self.said = blank, conditions

    def conditions(self) -> dict[str, Any]:
        return self.said

    def begin(self, episode: agents.Episode, env: Any) -> None:
        pass

    def respond(self, episodes: Any) -> list[agents.Reply]:
        actions = (f"look at the{self.blank}box {e.attempt % 2}" for e in episodes)
        return [agents.Reply(action, action) for action in actions]


def test_a_blank_makes_no_other_attempt_and_no_other_seed(tmp_path: Path) -> None:
    runs = []
    for n, blank in enumerate((" ", "  ", "\t")):
        runs.append(tmp_path / f"r{n}")
        play(Writer(blank), runs[n], attempts=4)
    report = check(submit(runs, tmp_path / "s", Card(agent="A", track="trained")))
    assert report.ok and len({row.actions_sha256 for row in report.rows}) == 1
    attempts, seeds = "2 of the 4 attempts that", "1 of the 3 training seeds that"
    assert all(len(row.below) == 2 for row in report.rows)
    assert all(b.startswith(a) for a, b in zip((attempts, seeds), report.rows[0].below, strict=True))
    assert report.places[0].runs == [0]


def test_a_reference_is_run_again_to_the_blank(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = submit([runs["null"]], tmp_path / "s")
    data = (folder / "submission.json").read_bytes()
    episodes = (folder / "episodes/0.jsonl").read_bytes().replace(b'"action":""', b'"action":" "')
    reseal(folder, data, episodes)
    refused(folder, "run again, agent 'null' acts otherwise")


def test_training_seeds_of_one_model_are_flagged(tmp_path: Path) -> None:
    play(Writer(), tmp_path / "r")
    (result,) = read(submit([tmp_path / "r"], tmp_path / "s", Card(agent="A", track="trained")))[0].results
    cases: list[tuple[list[Any], int]] = [
        ([{"model": "m", "weights_sha256": w} for w in "abc"], 0),
        ([{"model": n, "weights_sha256": "a"} for n in "mno"], 2),
        ([{"model": "m", "revision": r} for r in "121"], 1),
        (["m", "n", "o"], 0),
        (["m", "m", "m"], 2),
        ([None, None, None], 0),
    ]
    for models, more in cases:
        results = [msgspec.structs.replace(result, conditions={"model": model}) for model in models]
        said = f"{more} of its 3 runs on Lockbox-v1/test, which should each be of another training, state "
        flags = list(rules.oddities(Card(agent="A", track="trained"), results))
        assert [flag.startswith(said) for flag in flags] == [True] * bool(more), models
        assert not list(rules.oddities(Card(agent="A", track="retry"), results))


def test_attempts_and_seeds_that_solve_everything_are_none_s_copy(tmp_path: Path) -> None:
    """Where the right actions are the only ones, whoever is right acts alike."""

    class Trained(agents.ExpertAgent):
        name = "trained"

    for n in range(3):
        play(Trained(), tmp_path / f"r{n}", attempts=4)
    runs, card = [tmp_path / f"r{n}" for n in range(3)], Card(agent="A", track="trained")
    folder = submit(runs, tmp_path / "three", card)
    report = check(folder)
    assert report.unranked == [] and below_minimum(folder) == []
    assert [(place.runs, place.row.attempts) for place in report.places] == [([0, 1, 2], 12)]
    lack = "1 of the 3 training seeds that a trained agent needs"
    assert check(submit(runs[:1], tmp_path / "one", card)).unranked == [("run 1", lack)]


def test_a_copy_among_enough_attempts_is_said(runs: dict[str, Path], tmp_path: Path) -> None:
    (result,) = read(submit([runs["random"]], tmp_path / "s", Card(agent="A", track="zero-shot")))[0].results
    six, card = msgspec.structs.replace(result, attempts=6), Card(agent="A", track="zero-shot")
    lack = "1 of 6 attempts act as another does; a sampled agent's all differ"
    assert minimum(card, [six], [Acts("x", [*"abcde"], [])]) == [[lack]]
    assert minimum(card, [six], [Acts("x", [*"abcdef"], [])]) == [[]]
    # Also in a row of training seeds, where one shares some of its attempts with another.
    four, card = msgspec.structs.replace(result, attempts=4), Card(agent="A", track="trained")
    seeds = [Acts("x", [*"abcd"], []), Acts("y", [*"abce"], []), Acts("z", [*"fghi"], [])]
    lack = "3 of 12 attempts act as another does; a sampled agent's all differ"
    assert minimum(card, [four] * 3, seeds) == [[lack]] * 3


def test_single_attempts_of_one_agent_are_counted_together(tmp_path: Path) -> None:
    for seed in range(4):
        play(agents.RandomAdmissible(), tmp_path / f"r{seed}", seed=seed)
    seeds = [tmp_path / f"r{seed}" for seed in range(4)]
    card = Card(agent="A", track="zero-shot")
    assert check(submit(seeds, tmp_path / "four", card)).unranked == []
    lack = "3 of the 4 attempts that a sampled agent needs"
    assert check(submit(seeds[1:], tmp_path / "three", card)).unranked == [
        (f"run {n}", lack) for n in (1, 2, 3)
    ]


def test_many_runs_hold_no_more_than_one_may(runs: dict[str, Path], tmp_path: Path) -> None:
    """What is kept of all of them lies in memory at once."""
    folder = submit([runs["random"]] * 3, tmp_path / "s", Card(agent="A", track="zero-shot"))
    assert check(folder).ok
    found = read(folder)[0]
    results = [msgspec.structs.replace(one, size=MAX_EPISODES // 3 + 1) for one in found.results]
    (folder / "submission.json").write_bytes(encode(msgspec.structs.replace(found, results=results)))
    refused(
        folder, "hold 2,147,483,649 bytes decompressed, and at most 2,147,483,648 are read; submit some of"
    )


def test_a_run_sent_in_again_counts_once(tmp_path: Path) -> None:
    """The best of three seeds, thirty times, would carry the row."""
    script = {f"test/{c}": [f"take {c} key", "open box"] for c in lockbox.COLOURS["test"]}
    for name, solved in (("best", 4), ("one", 1), ("none", 0)):
        play(agents.Scripted(dict(list(script.items())[:solved])), tmp_path / name)
    card = Card(agent="A", track="trained")
    seeds = [tmp_path / name for name in ("best", "one", "none")]
    fair = check(submit(seeds, tmp_path / "fair", card)).places
    (row,) = check(submit([seeds[0]] * 5 + seeds, tmp_path / "weighted", card)).places
    assert row.row.numbers == fair[0].row.numbers and row.runs == [0, 6, 7]
    assert row.row.numbers.success.value == pytest.approx(5 / 12)


def test_a_run_renumbered_cut_or_mixed_counts_once(tmp_path: Path) -> None:
    """Copies of the best seed would carry the row, whatever they call its attempts."""
    seeds = []
    for seed in range(3):
        play(agents.RandomAdmissible(), tmp_path / f"r{seed}", seed=seed, attempts=4)
        seeds.append(tmp_path / f"r{seed}")
    copies: dict[str, Callable[[int, int], tuple[int, int]]] = {
        "swapped": lambda task, attempt: (0, (1, 0, 2, 3)[attempt]),
        "swapped at one task": lambda task, attempt: (0, (1, 0, 2, 3)[attempt] if task == 2 else attempt),
        "turned at each task": lambda task, attempt: (0, (attempt + task) % 4),
        "mixed of two": lambda task, attempt: (attempt % 2, attempt),
        "said four times": lambda task, attempt: (0, 2),
    }
    card = Card(agent="A", track="trained")
    fair = check(submit(seeds, tmp_path / "fair", card))
    assert fair.unranked == []
    for number, (name, old) in enumerate(copies.items()):
        copy = renumbered(seeds, tmp_path / name / "r", 10 + number, old)
        (place,) = check(submit([*seeds, copy], tmp_path / name / "s", card)).places
        assert (place.runs, place.row.numbers) == ([0, 1, 2], fair.places[0].row.numbers), name
        # Nor is it the seed that is missing.
        folder = submit([*seeds[:2], copy], tmp_path / name / "two", card)
        lack = "2 of the 3 training seeds that a trained agent needs"
        assert ("run 1", lack) in check(folder).unranked and f"run 1: {lack}" in below_minimum(folder)
    mixed = renumbered(seeds, tmp_path / "own", 20, lambda task, attempt: ((task % 2) * 2, attempt))
    assert check(submit([*seeds, mixed], tmp_path / "s", card)).places[0].runs == [0, 1, 2, 3]


def test_attempts_that_differ_are_said_of_a_deterministic_agent(tmp_path: Path) -> None:
    """One bad attempt and nine that are alike would have their mean without a word."""
    for name, temperature, told in (("cold", 0, True), ("warm", 1, False)):
        play(Writer(temperature=temperature), tmp_path / name, attempts=4)
        report = check(submit([tmp_path / name], tmp_path / f"s-{name}", Card(agent="A", track="few-shot")))
        flag = "episodes/0.jsonl: its 4 attempts act in 2 ways, though its conditions state that it is"
        assert report.ok and [text.startswith(flag) for text in report.flags] == [True] * told
        assert bool(report.unranked) != told
    play(agents.Null(), tmp_path / "same", attempts=4)
    card = Card(agent="A", track="few-shot")
    flags = check(submit([tmp_path / "same"], tmp_path / "s", card)).flags
    assert not any("ways" in flag for flag in flags)


@pytest.mark.parametrize(
    ("reflexion", "reflector", "so"),
    [
        ({"strategy": "reflection", "temperature": 0.0}, {"model": "m"}, False),
        ({"strategy": "reflection", "temperature": 0.7}, {"model": "m"}, True),
        ({"strategy": "both", "temperature": 0.7}, "mine", True),
        # Notes by rule are drawn from nothing, and these strategies have none.
        ({"strategy": "reflection", "temperature": 0.7}, "scribe", False),
        ({"strategy": "last_trial", "temperature": 0.7}, {"model": "m"}, False),
        ("yes", None, False),
    ],
)
def test_sampled_notes_make_a_sampled_agent(
    honest: Path, reflexion: object, reflector: object, so: bool
) -> None:
    said = {"temperature": 0, "reflexion": reflexion, "reflector": reflector}
    found = read(honest)[0].results[0]
    assert sampled(msgspec.structs.replace(found, conditions=said)) == so
    assert not sampled(msgspec.structs.replace(found, conditions=said | {"deterministic": True}))


def test_simplifications_in_another_order_are_one_board(honest: Path) -> None:
    found = read(honest)[0].results[0]
    for said in ("teleportAction,openDoors", "openDoors,teleportAction,openDoors"):
        kwargs = {"simplifications": said}
        told = msgspec.structs.replace(found, env_id="prosegym/ScienceWorld-v1", env_kwargs=kwargs)
        assert settings(told) == {"simplifications": "openDoors,teleportAction"}


def test_runs_that_differ_in_the_reward_are_one_row(tmp_path: Path) -> None:
    """An agent sees no reward: asking for another one gives its best seed no place of its own."""
    for seed, reward in enumerate(("sparse", "progress", "potential")):
        play(agents.RandomAdmissible(), tmp_path / reward, seed=seed, env_kwargs={"reward": reward})
    runs = [tmp_path / reward for reward in ("sparse", "progress", "potential")]
    report = check(submit(runs, tmp_path / "s", Card(agent="A", track="trained")))
    assert [place.runs for place in report.places] == [[0, 1, 2]]
    assert not any("seeds" in lack for _, lack in report.unranked)


def test_a_row_is_of_one_agent_and_as_many_attempts(runs: dict[str, Path], tmp_path: Path) -> None:
    card = Card(agent="A", track="trained")
    with pytest.raises(Refused, match=r"are one row, differ in agents: 'expert', 'null'; submit them apart"):
        submit([runs["null"], runs["expert"]], tmp_path / "s", card)
    play(agents.RandomAdmissible(), tmp_path / "three", attempts=3)
    with pytest.raises(Refused, match=r"Lockbox-v1/test, which are one row, differ in attempts: 2, 3"):
        submit([runs["random"], tmp_path / "three"], tmp_path / "s", card)


def test_what_a_machine_settled_is_compared_before_the_replay(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Card(agent="A", track="zero-shot")
    plain = submit([runs["random"]], tmp_path / "plain", card)
    assert b"env_conditions" not in (plain / "submission.json").read_bytes()
    lamp = {"lamp": "bright", "count": 1}
    monkeypatch.setattr(lockbox.Lockbox, "conditions", lambda self: dict(lamp))
    for seed in (0, 1):
        play(agents.RandomAdmissible(), tmp_path / f"r{seed}", seed=seed)
    folder = submit([tmp_path / "r0", tmp_path / "r1"], tmp_path / "all" / "s", card)
    assert [result.env_conditions for result in read(folder)[0].results] == [lamp, lamp]
    assert check(folder).ok
    build(folder.parent, tmp_path / "site", workers=0, progress=False)
    (page,) = (tmp_path / "site" / "s").glob("*/index.html")
    assert "env: lamp" in page.read_text() and "bright" in page.read_text()
    # Runs of other conditions are not taken for seeds of one agent.
    lamp["lamp"] = "dim"
    play(agents.RandomAdmissible(), tmp_path / "r2", seed=2)
    with pytest.raises(
        Refused, match=r"one row, differ in env_conditions: .*bright.*dim.*; submit them apart"
    ):
        submit([tmp_path / "r0", tmp_path / "r2"], tmp_path / "mixed", card)
    with pytest.raises(
        verifier.NotHere, match=r"0\.jsonl: played with lamp 'bright', here is 'dim': replay it"
    ):
        check(folder)
    assert check(plain).ok  # of which it is not known


def test_a_setting_that_the_machine_settles_is_a_setting(honest: Path) -> None:
    result = read(honest)[0].results[0]
    cases: list[tuple[str, Json, Json]] = [
        ("WebShop-v1", {}, {"tagger": "substitute"}),
        ("WebShop-v1", {"tagger": "auto"}, {"tagger": "substitute"}),
        ("WebShop-v1", {"max_steps": 15}, {"tagger": "substitute"}),
        ("WebShop-v1", {"max_steps": 14}, {"max_steps": 14, "tagger": "substitute"}),
        ("MiniShop-v1", {}, {}),  # its own default
    ]
    for name, kwargs, told in cases:
        played = msgspec.structs.replace(
            result, env_id=f"prosegym/{name}", env_kwargs=kwargs, env_conditions={"tagger": "substitute"}
        )
        assert rules.settings(played) == told


def test_an_environment_that_cannot_be_made_here_is_this_machine_s_lack(
    honest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(result: object) -> None:
        raise ProsegymError("its engine is not installed; pip install it")

    monkeypatch.setattr(rules, "settings", lacking)
    with pytest.raises(verifier.NotHere, match="its engine is not installed"):
        check(honest)


def test_runs_of_one_row_under_other_conditions_are_flagged(tmp_path: Path) -> None:
    class Model(agents.RandomAdmissible):
        def __init__(self, **conditions: Any) -> None:
            self.said = conditions

        def conditions(self) -> dict[str, Any]:
            return self.said

    for n, heat in enumerate((0.5, 0.5, 0.7)):
        play(Model(model=f"m{n}", temperature=heat), tmp_path / f"m{n}", seed=n)
    trained = check(
        submit([tmp_path / f"m{n}" for n in (0, 1)], tmp_path / "t", Card(agent="A", track="trained"))
    )
    assert not any("differ" in flag for flag in trained.flags)
    card = Card(agent="A", track="zero-shot")
    shown = check(submit([tmp_path / f"m{n}" for n in (0, 2)], tmp_path / "z", card)).flags
    assert "its runs on Lockbox-v1/test, which are one row, differ in model, temperature" in shown


def test_a_reference_cannot_leave_episodes_to_errors(frail: type[Frail], tmp_path: Path) -> None:
    """Half an expert would be a low ceiling."""
    play(agents.ExpertAgent(), tmp_path / "run")
    folder = submit([tmp_path / "run"], tmp_path / "s")
    frail.broken = False
    refused(folder, "test/cyan", "run again, agent 'expert' acts otherwise")


def test_a_card_made_in_python_may_hold_whole_numbers(runs: dict[str, Path], tmp_path: Path) -> None:
    card = Card(agent="A", track="trained", cost=12, curve=[(0, 0.1), (5, 1)], curve_unit="steps")
    assert check(submit([runs["random"]], tmp_path / "s", card)).card == card


def test_a_split_without_a_panel_is_no_panel(runs: dict[str, Path], tmp_path: Path) -> None:
    card = Card(agent="A", track="trained", training_panels=["Household-v1/nowhere"])
    with pytest.raises(Refused, match=r"what has no panel is named in card\.training_data"):
        submit([runs["random"]], tmp_path / "s", card)


@pytest.mark.parametrize("name", ["nսll", "ᎡᎪNDOM", "οpen", "𝐞𝐱𝐩𝐞𝐫𝐭", "ｅｘｐｅｒｔ"])
def test_names_that_look_like_others_are_refused(runs: dict[str, Path], tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match=r"mixes letters of scripts|is the name of a reference"):
        submit([runs["random"]], tmp_path / "s", Card(agent=name, track="trained"))


def test_symbols_are_names(runs: dict[str, Path], tmp_path: Path) -> None:
    assert check(
        submit([runs["random"]], tmp_path / "s", Card(agent="μTransfer, σReparam", track="trained"))
    ).ok


# What sits oddly with the label.


def test_a_label_against_the_submission_s_own_words_is_flagged(tamper: Tamper) -> None:
    trained = {"training_panels": ["Lockbox-v1/train"], "curve": [[0.0, 0.1], [1.0, 0.2]]}
    assert check(tamper(manifest=card(**trained))).flags == [
        "its episodes are of agent 'random', which needs no model, under the label zero-shot",
        "trained or tuned on Lockbox-v1/train, by its card, under the label zero-shot",
        "its card has a learning curve, under the label zero-shot",
    ]


def test_stated_examples_are_held_against_label_and_panel(tamper: Tamper) -> None:
    shown = {"put": ["train/red", "train/blue"], "*": ["test/gold"]}
    told = "1 of the examples that its conditions state are tasks of Lockbox-v1/test, as test/gold"
    for track, flags in (
        ("zero-shot", ["its conditions state 3 examples, under the label zero-shot", told]),
        ("few-shot", [told]),
    ):
        folder = tamper(
            manifest=lambda m, track=track: card(track=track)(result(conditions={"examples": shown})(m) or m)
        )
        found = check(folder).flags
        assert [flag for flag in found if "example" in flag] == flags
        shutil.rmtree(folder)
    for none in ({}, {"put": []}, None):
        folder = tamper(manifest=result(conditions={"examples": none}))
        assert not any("example" in flag for flag in check(folder).flags)
        shutil.rmtree(folder)


# What the expert would have done.


def test_the_expert_s_plan_under_another_label_is_flagged(tmp_path: Path) -> None:
    play(agents.ExpertAgent(), tmp_path / "run", split="train")
    folder = submit([tmp_path / "run"], tmp_path / "s", Card(agent="Pasted", track="zero-shot"))
    report = check(folder)
    assert report.ok and len(report.flags) == 3  # its own words, and two experts
    assert "8 of 8 solved episodes looked at are the plan of expert 'reader'" in report.flags[1]
    trained = submit([tmp_path / "run"], tmp_path / "t", Card(agent="Learned", track="trained"))
    assert [f.partition(",")[0] for f in check(trained).flags] == ["its episodes are of agent 'expert'"]


# Engines that die or hang.


@pytest.mark.parametrize(
    ("how", "words"), [("die", "the process that replayed it died"), ("hang", "no answer within")]
)
def test_a_lost_process_costs_one_episode(how: str, words: str, tmp_path: Path, monkeypatch: Any) -> None:
    script = {f"train/{c}": [f"take {c} key", "open box"] for c in lockbox.COLOURS["train"]}
    script["train/green"].insert(1, how)
    play(agents.Scripted(script), tmp_path / "run", split="train", attempts=2)
    folder = submit([tmp_path / "run"], tmp_path / "s", Card(agent="A", track="zero-shot"))
    monkeypatch.setitem(verifier.ENVS, "prosegym/Lockbox-v1", "hostile:make")
    began = time.monotonic()
    report = check(folder, workers=1, time_limit=4.0)
    lost = [p for p in report.problems if words in p]
    assert len(lost) == 2 and all("train/green" in p for p in lost)
    assert report.episodes == 14 and time.monotonic() - began < 300


# This machine's own failings are not the submission's.


def test_fewer_processes_than_none_are_no_fault_of_the_submission(honest: Path) -> None:
    with pytest.raises(BadOption, match="workers must be at least 0, not -1"):
        check(honest, workers=-1)


def test_other_tasks_here_are_an_error_of_this_machine(honest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = lockbox.Lockbox.tasks
    monkeypatch.setattr(
        lockbox.Lockbox,
        "tasks",
        lambda self, split: [msgspec.structs.replace(t, sha256="f" * 64) for t in tasks(self, split)],
    )
    with pytest.raises(ProsegymError, match="differ from the panel's digests"):
        check(honest)


# Making one.


def test_submit_refuses_what_the_board_would(runs: dict[str, Path], tmp_path: Path) -> None:
    ours = Card(agent="Ours", track="zero-shot")
    with pytest.raises(ProsegymError, match="not a run folder"):
        submit([tmp_path], tmp_path / "a", ours)
    with pytest.raises(ProsegymError, match="at least one run"):
        submit([], tmp_path / "a", ours)
    with pytest.raises(Refused, match="U\\+202E"):
        submit([runs["null"]], tmp_path / "a", Card(agent="a\u202eb", track="zero-shot"))
    with pytest.raises(
        ProsegymError, match="trained on 4 of the tasks of Lockbox-v1/test, first 'test/cyan'"
    ):
        submit([runs["null"]], tmp_path / "a", ours, trained_on=[runs["expert"] / "episodes.jsonl"])
    with pytest.raises(ProsegymError, match="trained on 4 of the tasks"):
        submit([runs["null"]], tmp_path / "a", ours, trained_on=[runs["expert"]])
    with pytest.raises(Refused, match="retry track"):
        submit([runs["retry"]], tmp_path / "a", ours)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(ProsegymError, match="which would be lost"):
        submit([runs["null"]], tmp_path / "full", ours)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"


def test_submit_replaces_a_submission_of_the_same_episodes_alone(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    out, other = tmp_path / "s", tmp_path / "r"
    play(agents.RandomAdmissible(), other, attempts=2, seed=4)
    submit([runs["random"]], out, Card(agent="Ours", track="zero-shot"))
    submit([runs["random"], other], out, Card(agent="Yours", track="zero-shot"))
    found = read(out)[0]
    assert found.card.agent == "Yours" and [result.seed for result in found.results] == [3, 4]
    kept = (out / "submission.json").read_bytes()
    with pytest.raises(
        ProsegymError, match="other episodes, or .* which would be lost; choose another --out"
    ):
        submit([runs["random"]], out, Card(agent="Ours", track="zero-shot"))
    assert check(out).ok and (out / "submission.json").read_bytes() == kept
    (out / "episodes" / "thesis.txt").write_text("mine")
    with pytest.raises(ProsegymError, match="holds 'episodes', which would be lost"):
        submit([runs["random"], other], out, Card(agent="Ours", track="zero-shot"))
    assert (out / "episodes" / "thesis.txt").read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == [other, out]


class Wordy(agents.Null):
    """Fails on every task, and gives a long reason."""

    name = "wordy"

    def respond(self, episodes: Any) -> list[agents.Reply]:
        return [agents.Reply("", "", error="no " * 5000) for _ in episodes]


def test_a_long_error_can_be_submitted(tmp_path: Path) -> None:
    run = play(Wordy(), tmp_path / "run")
    assert {t.error for t in run.finished} == {("no " * 5000)[:4000]}
    report = check(submit([tmp_path / "run"], tmp_path / "s", Card(agent="Wordy", track="zero-shot")))
    assert report.ok, report.problems


def test_submit_refuses_what_would_not_be_read(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, card = tmp_path / "s", Card(agent="Ours", track="zero-shot")
    monkeypatch.setattr("prosegym.leaderboard.submission.MAX_FILE", 5000)
    with pytest.raises(ProsegymError, match="bytes, and at most 5,000 are read; add --xz"):
        submit([runs["random"]], out, card)
    assert list(tmp_path.iterdir()) == []
    assert below_minimum(submit([runs["random"]], out, card, compress=True))
    monkeypatch.setattr("prosegym.leaderboard.submission.MAX_FILE", 500)
    with pytest.raises(ProsegymError, match="at most 500 are read; submit a run of fewer attempts or tasks"):
        submit([runs["random"]], tmp_path / "t", card, compress=True)
    monkeypatch.setattr("prosegym.leaderboard.submission.MAX_LINE", 1000)
    with pytest.raises(ProsegymError, match="task test/gold attempt 0 trial 0 has .* at most 1,000"):
        submit([runs["random"]], tmp_path / "t", card, compress=True)
    assert list(tmp_path.iterdir()) == [out]


def test_submit_says_which_condition_and_its_mend(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="cannot be submitted"):
        play(Writer(prompt="word " * 900), tmp_path / "run")
    said = (
        "run.json: agent_conditions.prompt holds a text of 4500 characters, and 4000 are allowed; "
        "give its digest"
    )
    with pytest.raises(Refused, match=f"^{tmp_path}/run/{said}$"):
        submit([tmp_path / "run"], tmp_path / "s", Card(agent="A", track="few-shot"))
    path = tmp_path / "run" / "run.json"
    path.write_text(path.read_text().replace("word " * 900, "sha256 " + "0" * 64))
    assert check(submit([tmp_path / "run"], tmp_path / "s", Card(agent="A", track="few-shot"))).ok


def test_files_and_addresses_are_no_settings_of_a_submission() -> None:
    for corpus in ("live", "live:http://127.0.0.1/api.php", "paragraphs.jsonl", "/etc/passwd"):
        with pytest.raises(Refused, match="corpus may not be"):
            check_env("prosegym/HotpotQA-v1", {"corpus": corpus})
    check_env("prosegym/HotpotQA-v1", {"corpus": "split", "corpus_sha256": "0" * 64, "max_steps": 7})


def test_any_simplifications_of_scienceworld_may_be_submitted() -> None:
    # The four that `easy` stands for are 66 characters, all five 81; a plain word has 64 at most.
    four = "teleportAction,selfWateringFlowerPots,openDoors,noElectricalAction"
    for value in ("", "easy", "openDoors", four, f"{four},openContainers"):
        check_env("prosegym/ScienceWorld-v1", {"simplifications": value})
    for value in ("easy,openDoors", "opendoors", "openDoors,", ",openDoors", "openDoors\n", 3):
        with pytest.raises(Refused, match="simplifications may not be"):
            check_env("prosegym/ScienceWorld-v1", {"simplifications": value})


def test_every_argument_of_every_environment_is_settled() -> None:
    """An argument is either open to submissions or known not to be: a new one has to be thought about."""
    closed = {"expose_expert", "render_mode", "server"}
    for env_id in ENVS:
        assert set(arguments(env_class(env_id))) <= SETTINGS.keys() | closed, env_id


def test_a_card_is_not_needed(runs: dict[str, Path], tmp_path: Path) -> None:
    for name, track in (("null", "reference"), ("expert", "reference"), ("retry", "retry")):
        report = check(submit([runs[name]], tmp_path / name))
        assert report.ok and report.card is not None and report.card.track == track
    (tmp_path / "card.json").write_text('{"agent": "Ours", "track": "few-shot"}')
    report = check(submit([runs["random"]], tmp_path / "random", tmp_path / "card.json"))
    assert report.ok and report.card == Card(agent="Ours", track="few-shot")


def test_submit_refuses_an_unfinished_run(runs: dict[str, Path], tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    (half / "run.json").write_bytes((runs["null"] / "run.json").read_bytes())
    lines = (runs["null"] / "episodes.jsonl").read_bytes().splitlines(keepends=True)
    (half / "episodes.jsonl").write_bytes(b"".join(lines[:3]))
    with pytest.raises(ProsegymError, match="unfinished \\(3 of 4 episodes\\)"):
        submit([half], tmp_path / "s", Card(agent="A", track="zero-shot"))


def test_the_training_set_is_counted(runs: dict[str, Path], tmp_path: Path) -> None:
    play(agents.ExpertAgent(), tmp_path / "demos", split="train")
    card = Card(agent="A", track="trained", training_panels=["Lockbox-v1/train"])
    folder = submit([runs["null"]], tmp_path / "s", card, trained_on=[tmp_path / "demos/episodes.jsonl"])
    report = check(folder)
    assert report.ok and report.card is not None and report.card.training_tasks == 8


def test_the_first_tasks_of_a_panel_are_a_panel_of_their_own(tmp_path: Path) -> None:
    from prosegym.evaluation.evaluate import evaluate

    evaluate(agents.ExpertAgent(), panels.load("Lockbox-v1/test").head(2), tmp_path / "r", progress=False)
    report = check(submit([tmp_path / "r"], tmp_path / "s", Card(agent="A", track="zero-shot")))
    assert report.ok and report.rows[0].panel == "Lockbox-v1/test[:2]" and report.rows[0].tasks == 2
