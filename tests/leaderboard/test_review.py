"""The check of a pull request says what is new, and shows a stranger's texts as texts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import lockbox
import pytest

from prosegym.envs import panels
from prosegym.evaluation import agents
from prosegym.evaluation.evaluate import evaluate
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


def test_what_is_replaced_or_taken_away_is_said(folders: tuple[Path, Path], runs: dict[str, Path]) -> None:
    before, proposed = folders
    submit([runs["random"]], before / "gone", Card(agent="A", track="trained"))
    shutil.rmtree(proposed / "old")
    submit([runs["random"]], proposed / "old", Card(agent="A", track="trained"))
    text, passed = review.review(before, proposed, workers=0)
    assert passed and "### gone: taken away" in text
    assert "### old: replayed" in text and "It takes the place of another submission" in text


def test_a_change_to_what_was_there_is_new_and_refused(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = folders[1] / "old/episodes/0.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"score":0.0', b'"score":1.0', 1))
    assert review.main([str(folders[0]), str(folders[1])]) == 1
    assert "### old: refused" in capsys.readouterr().out
    assert review.main([]) == 2


def test_the_data_that_new_submissions_need(
    folders: tuple[Path, Path],
    runs: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folders[1] / "broken").mkdir()
    submit([runs["random"]], folders[1] / "mine", Card(agent="A", track="zero-shot"))
    assert review.needs(*folders) == []
    monkeypatch.setattr(lockbox.Lockbox, "data", "intercode_sql")
    assert review.main(["--data", *map(str, folders)]) == 0
    assert capsys.readouterr().out == "intercode_sql\n"
    assert review.needs(folders[1], folders[1]) == []  # nothing is new


# The workflows, step by step, as a runner would: the commands of the files themselves.

WORKFLOWS = Path(__file__).parents[2] / ".github" / "workflows"


def steps(name: str) -> tuple[Any, list[Any]]:
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((WORKFLOWS / name).read_text())
    (job,) = workflow["jobs"].values()
    return workflow, job["steps"]


def run(
    step: Any, folder: Path, values: dict[str, str], **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a step's script as GitHub does (bash -e), its expressions filled in."""
    script = re.sub(r"\$\{\{ (.*?) \}\}", lambda m: values[m[1]], step["run"])
    return subprocess.run(
        ["bash", "-e", "-c", script], cwd=folder, env=os.environ | environment, text=True, capture_output=True
    )


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The base branch's submissions, and beside them a pull request's with one more."""
    monkeypatch.setattr(panels, "FOLDER", Path(panels.__file__).parent / "panels")
    panel = panels.load("MiniSQL-v1/test").head(2)
    evaluate(agents.Null(), panel, tmp_path / "null", progress=False)
    evaluate(agents.ExpertAgent(), panel, tmp_path / "gold", progress=False)
    folder = tmp_path / "checkout"
    submit([tmp_path / "null"], folder / "submissions" / "null")
    shutil.copytree(folder / "submissions", folder / "proposed" / "submissions")
    submit([tmp_path / "gold"], folder / "proposed" / "submissions" / "gold")
    return folder


@pytest.mark.parametrize("honest", [True, False])
def test_the_check_s_steps(checkout: Path, tmp_path: Path, honest: bool) -> None:
    workflow, found = steps("submission.yml")
    # A stranger's pull request: no secrets, no right to write, code from the base branch only.
    assert workflow["permissions"] == {"contents": "read"} and workflow[True] == {
        "pull_request": {"paths": ["submissions/**"]}
    }
    assert "secrets" not in (WORKFLOWS / "submission.yml").read_text().split("on:")[1]
    assert found[0]["with"]["ref"] == "${{ github.event.pull_request.base.sha }}"
    install, data, check = (step for step in found if "run" in step)
    extras = re.fullmatch(r'python -m pip install "\.\[([a-z,]+)\]"', install["run"])
    project = (WORKFLOWS.parents[1] / "pyproject.toml").read_text()
    assert extras and all(f"\n{extra} = [" in project for extra in extras[1].split(","))
    if not honest:
        path = checkout / "proposed/submissions/gold/episodes/0.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"score":1.0', b'"score":0.5', 1))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "bin" / "prosegym").write_text("#!/bin/sh\necho $* >&2; exit 3\n")
    (tmp_path / "bin" / "prosegym").chmod(0o755)
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "PROSEGYM_HOME": str(tmp_path / "home"),
    }  # fmt: skip
    got = run(data, checkout, {}, **environment)
    assert got.returncode == 0 and got.stderr == ""  # a generated panel needs none
    done = run(check, checkout, {"github.event.pull_request.number": "7"}, **environment)
    assert (done.returncode == 0) == honest, done.stderr
    table = (checkout / "review" / "table.md").read_text()
    assert table == (tmp_path / "summary.md").read_text()
    assert table.startswith("### gold: re-run" if honest else "### gold: refused") and "null" not in table
    assert (checkout / "review" / "number").read_text() == "7\n"
    assert found[-1]["with"]["path"] == "review" and found[-1]["if"] == "always()"


INSIDE = {"filename": "submissions/a/submission.json"}
FILES = '.[] | [.filename, .previous_filename // empty] | all(startswith("submissions/"))'
VIEW = '"\\(.headRefOid) \\(.changedFiles)"'


@pytest.mark.parametrize(
    ("number", "head", "files", "posted"),
    [
        ("7\n", "abc", [INSIDE, {"filename": "submissions/b\n", "previous_filename": "submissions/b"}], True),
        ("8; id\n", "other", [INSIDE], False),
        # A pull request runs the check as it has it: one that changes the check could have written any table.
        ("7\n", "abc", [INSIDE, {"filename": ".github/workflows/submission.yml"}], False),
        ("7\n", "abc", [INSIDE, {"filename": "submissionss/x\ntrue\n"}], False),
        ("7\n", "abc", [{"filename": "submissions/x.yml", "previous_filename": ".github/x.yml"}], False),
        # GitHub lists 3,000 files at most.
        ("7\n", "abc", [INSIDE, None], False),
    ],
)
def test_the_comment_s_steps(tmp_path: Path, number: str, head: str, files: list[Any], posted: bool) -> None:
    if shutil.which("jq") is None:
        pytest.skip("gh's --jq is tried with jq")
    workflow, (download, comment) = steps("submission-comment.yml")
    assert workflow["permissions"] == {"actions": "read", "pull-requests": "write"}
    assert workflow[True]["workflow_run"]["workflows"] == [steps("submission.yml")[0]["name"]]
    assert download["with"]["name"] == steps("submission.yml")[1][-1]["with"]["name"]
    (tmp_path / "number").write_text(number)
    (tmp_path / "table.md").write_text("x" * 70_000)
    (tmp_path / "files").write_text(json.dumps([file for file in files if file]))
    (tmp_path / "view").write_text(json.dumps({"headRefOid": head, "changedFiles": len(files)}))
    (tmp_path / "gh").write_text(
        """#!/bin/sh
echo "$@" >> log
case "$1 $2" in "pr comment") exit ;; "pr view") file=view ;; *) file=files ;; esac
while [ "$1" != --jq ]; do shift; done
exec jq -r "$2" $file
"""
    )
    (tmp_path / "gh").chmod(0o755)
    values = {"github.token": "t", "github.repository": "a/b", "github.event.workflow_run.head_sha": "abc"}
    environment = {
        k: re.sub(r"\$\{\{ (.*?) \}\}", lambda m: values[m[1]], v) for k, v in comment["env"].items()
    }
    done = run(comment, tmp_path, values, **environment, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (done.returncode == 0) == posted
    log = (tmp_path / "log").read_text().splitlines()
    assert log[:2] == [
        f"api --paginate repos/a/b/pulls/{number[0]}/files?per_page=100 --jq {FILES}",
        f"pr view {number[0]} --repo a/b --json headRefOid,changedFiles --jq {VIEW}",
    ]
    assert log[2:] == ["pr comment 7 --repo a/b --body-file comment.md"] * posted
    assert (tmp_path / "comment.md").stat().st_size == 60_000
