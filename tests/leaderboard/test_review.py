"""The check of a pull request says what is new, and shows a stranger's texts as texts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from prosegym.leaderboard import review
from prosegym.leaderboard.submission import Card
from prosegym.leaderboard.submit import submit

EVIL = "[x](https://evil.example) @somebody <img src=x> `|` #1"


@pytest.fixture
def folders(runs: dict[str, Path], tmp_path: Path) -> tuple[Path, Path]:
    before, proposed = tmp_path / "before", tmp_path / "proposed"
    submit([runs["null"]], before / "old")
    shutil.copytree(before, proposed)
    return before, proposed


def test_only_what_is_new_is_verified(folders: tuple[Path, Path], runs: dict[str, Path]) -> None:
    assert review.review(*folders, workers=0) == ("No new submission.\n", True)
    submit([runs["random"]], folders[1] / "mine", Card(agent=EVIL, track="zero-shot"))
    text, passed = review.review(*folders, workers=0)
    assert passed and "### mine: replayed" in text and "old" not in text
    assert (
        "| Lockbox-v1/test | 0.0 [0.0, 0.0] |" in text and "The card does not state: about, authors" in text
    )
    for mark in ("[x]", "@", "<img", "https://"):
        assert mark not in text
    assert review.review(folders[0] / "none", folders[1], workers=0)[0].count("###") == 2


def test_a_change_to_what_was_there_is_new_and_refused(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = folders[1] / "old/episodes/0.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"score":0.0', b'"score":1.0', 1))
    assert review.main([str(folders[0]), str(folders[1])]) == 1
    assert "### old: refused" in capsys.readouterr().out
    assert review.main([]) == 2


def test_the_workflow_runs_what_is_tested_here() -> None:
    workflow = (Path(__file__).parents[2] / ".github/workflows/submission.yml").read_text()
    assert "python -m prosegym.leaderboard.review submissions proposed/submissions" in workflow
    assert (
        "pull_request_target" not in workflow
        and "contents: read" in workflow
        and "secrets" not in workflow.split("on:")[1]
    )
