from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from prosegym.cli import main
from prosegym.envs import panels
from prosegym.envs.errors import CorruptData, UnknownName
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
    assert main(words) == 0 and "inter-quartile mean of the panels' scores: 1.000" in capsys.readouterr().out


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
