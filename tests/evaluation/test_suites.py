from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lockbox
import msgspec
import pytest
from submitting import Retrier

from prosegym import cli
from prosegym.cli import main
from prosegym.envs import panels
from prosegym.envs.errors import CorruptData, EngineError, UnknownName
from prosegym.evaluation import suites
from prosegym.evaluation.evaluate import make_env
from prosegym.evaluation.suites import Entry, Suite


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.setattr(panels, "FOLDER", tmp_path / "panels")
    monkeypatch.setattr(suites, "FOLDER", tmp_path / "suites")
    env: Any = make_env("prosegym/Lockbox-v1").unwrapped
    entries = []
    for split in ("valid", "test"):
        panel = panels.make(env, split, about="all")
        panels.save(panel, tmp_path / "panels")
        entries.append(Entry(panel.name, panel.sha256, attempts=2, env_kwargs={"max_steps": 3}))
    made = Suite("boxes", "Lockbox, twice", "generated", entries)
    suites.save(made, tmp_path / "suites")
    return made


def test_a_suite_is_played_whole(suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--agent", "expert", "--suite", "boxes", "--out", str(tmp_path / "out")]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["interquartile_mean"] == 1.0 and list(found["scores"]) == [
        "Lockbox-v1/valid",
        "Lockbox-v1/test",
    ]
    conditions = json.loads((tmp_path / "out" / "Lockbox-v1-test" / "run.json").read_text())
    assert conditions["attempts"] == 2 and conditions["env_kwargs"] == {"max_steps": 3}
    assert main([*words, "--attempts", "3"]) == 1 and "a suite fixes" in capsys.readouterr().err
    # As where it is not installed: what is asked for is not left out.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        elsewhere = [*words[:-1], str(tmp_path / "ray"), "--ray", "2"]
        assert main(elsewhere) == 1 and "ray is not installed" in capsys.readouterr().err
    assert main(words) == 0
    told = capsys.readouterr().out
    assert told.startswith("expert on suite boxes (generated tasks)\n")
    assert "first" not in told and "inter-quartile mean of the panels' scores: 1.000" in told


def test_a_suite_tells_trials_and_errors(
    suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retrier solves cyan at its second trial, others at its third; lime fails. By hand: the mean
    over trials is 1/3 on valid and (2/3 + 1/3 + 1/3 + 0) / 4 on test."""
    play = lockbox.Lockbox._play

    def breaks(self: Any, action: str) -> Any:
        if self.colour == "lime":
            raise EngineError("the engine is gone")
        return play(self, action)

    monkeypatch.setattr(lockbox.Lockbox, "_play", breaks)
    monkeypatch.setattr(cli, "_agent", lambda args: Retrier())
    words = ["evaluate", "--agent", "expert", "--suite", "boxes", "--out", str(tmp_path / "out")]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    valid, test = "Lockbox-v1/valid", "Lockbox-v1/test"
    assert found["trials"] == 3 and found["errors"] == {valid: 0, test: 2}
    assert found["initial"] == {valid: 0.0, test: 0.0}
    assert found["average"] == pytest.approx({valid: 1 / 3, test: 1 / 3})
    assert main(words) == 0
    head, columns, first, second, _ = capsys.readouterr().out.splitlines()
    assert head.endswith("; 3 trials with the success signal, of which the last counts")
    assert columns.endswith("first score  mean score  errors")
    assert first.split()[-3:] == ["0.000", "0.333", "0"] and second.split()[-3:] == ["0.000", "0.333", "2"]


def test_a_suite_names_tasks_not_files(suite: Suite) -> None:
    suites.save(msgspec.structs.replace(suite, entries=[Entry("Lockbox-v1/test", "0" * 64)]), suites.FOLDER)
    with pytest.raises(CorruptData, match="panel Lockbox-v1/test has digest"):
        suites.load("boxes")


def test_tiers_never_mix(suite: Suite) -> None:
    suites.save(msgspec.structs.replace(suite, tier="official"), suites.FOLDER)
    with pytest.raises(CorruptData, match="suite boxes is official, but prosegym/Lockbox-v1 is generated"):
        suites.load("boxes")


def test_unknown_suite(suite: Suite) -> None:
    with pytest.raises(UnknownName, match="unknown suite 'boxs'; nearest: boxes"):
        suites.load("boxs")


def test_committed_suites_fit_the_committed_panels() -> None:
    for name in suites.names():
        assert suites.load(name).entries


def test_a_suite_is_listed_with_what_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["suites"]
    assert list(found) == suites.names()
    for name in suites.names():
        suite = suites.load(name)
        played = [entry.panel for entry in suite.entries]
        assert f"  {name}: {suite.about}\n    {', '.join(played)}\n" in out
        assert found[name] == {"about": suite.about, "panels": played}
