"""The figures: what is drawn is what was measured, both files of each are whole, equal data give equal files."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import msgspec
import pytest

from prosegym.cli import main
from prosegym.envs import panels
from prosegym.envs.errors import CorruptData, ProsegymError
from prosegym.evaluation import agents, plots
from prosegym.evaluation.evaluate import evaluate, make_env
from prosegym.evaluation.statistics import clustered_bootstrap

pytest.importorskip("matplotlib")


class Late(agents.ExpertAgent):
    """Fails every task at its first trial and half of them at its second: what a retrying agent's curve is drawn of."""

    trials = 3

    def __init__(self) -> None:
        super().__init__()
        self.name = "late"

    def respond(self, episodes: Any) -> list[agents.Reply]:
        early = [e.trial == 0 or (e.trial == 1 and e.task.id < "train/plum") for e in episodes]
        replies = super().respond(episodes)
        return [
            agents.Reply("", "", 5, 2, 0.5) if wait else r for wait, r in zip(early, replies, strict=True)
        ]

    def remember(self, failures: Any) -> list[agents.Memory]:
        return [agents.Memory(("again",)) for _ in failures]


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    env: Any = make_env("prosegym/Lockbox-v1").unwrapped
    panel = panels.make(env, "train", about="all")
    made = {"expert": agents.ExpertAgent(), "null": agents.Null(), "late": Late()}
    for name, agent in made.items():
        evaluate(agent, panel, tmp_path / name, progress=False)
    return {name: tmp_path / name for name in made}


def test_every_figure_as_png_and_svg(runs: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    training = tmp_path / "training"
    training.mkdir()
    lines = [{"phase": "a", "step": 10, "loss": 2.0}, {"phase": "a", "step": 20, "loss": 1.0},
             {"phase": "b", "step": 5, "loss": 0.5, "success": 0.25}]  # fmt: skip
    (training / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["plot", *map(str, runs.values()), str(training), "--out", str(tmp_path / "figures"), "--json"]
    assert main(words) == 0
    files = [Path(name) for name in json.loads(capsys.readouterr().out)["files"]]
    assert [f.name for f in files] == [
        f"{n}.{k}" for n in ("success", "profile", "cost", "learning") for k in ("png", "svg")
    ]
    for file in files:
        if file.suffix == ".png":
            assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        else:
            assert ElementTree.parse(file).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    first = [file.read_bytes() for file in files if file.suffix == ".svg"]
    assert main(words) == 0
    assert [file.read_bytes() for file in files if file.suffix == ".svg"] == first


def test_what_is_drawn_is_what_was_measured(runs: dict[str, Path]) -> None:
    played = [plots._played(folder) for folder in runs.values()]
    (axis,) = plots._success(played).axes
    drawn = {c.get_label(): c.lines[0].get_xdata().tolist() for c in axis.containers}
    assert drawn == {"expert": [1.0], "null": [0.0], "late": [1.0]}
    # By hand: every task fails at trial 1; at trial 2 those named from "plum" on succeed; at trial 3 all have.
    tasks = [t for t, _ in panels.make(make_env("prosegym/Lockbox-v1").unwrapped, "train", about="").tasks]  # type: ignore[arg-type]
    second = clustered_bootstrap([[float(t >= "train/plum")] for t in tasks])
    trials = played[2].trials
    assert [e.value for e in trials] == [0.0, second.value, 1.0] and trials[1] == second
    (curve,) = plots._learning(played, []).axes
    assert curve.containers[0].lines[0].get_ydata().tolist() == [0.0, second.value, 1.0]
    profile = {line.get_label(): line.get_ydata() for line in plots._profile(played).axes[0].lines}
    assert (
        set(profile["expert"][:-1]) == {1.0}
        and set(profile["null"]) == {0.0}
        and profile["expert"][-1] == 0.0
    )
    (cost,) = plots._cost(played).axes
    assert cost.get_xlabel().startswith("US dollars")
    assert cost.containers[2].lines[0].get_xdata().tolist() == [played[2].summary.cost / 8]
    # Where one agent's cost is not known, none is drawn as if it were free.
    free = played[0]._replace(summary=msgspec.structs.replace(played[0].summary, cost=None))
    (cost,) = plots._cost([free, *played[1:]]).axes
    assert cost.get_xlabel().startswith("tokens")


def test_phases_follow_one_another_and_runs_of_one_agent_are_told_apart(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"phase": "a", "step": 10, "loss": 2.0}\n{"phase": "a", "step": 20, "loss": 1.0}\n{"phase": "b", "step": 5, "loss": 0.5}\n'
    )
    assert plots._trained(tmp_path).curves == {"loss": [(10, 2.0), (20, 1.0), (25, 0.5)]}
    twice = [plots._played(runs["null"])] * 2
    assert [r.label for r in plots._told_apart(twice, [Path("x/one"), Path("x/two")])] == [
        "null (one)",
        "null (two)",
    ]


def test_folders_of_one_name_are_told_apart_by_more_of_their_paths(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    """Every training writes its run to OUT/evaluation: two seeds were one line, the mean of both."""
    null, expert = plots._played(runs["null"]), plots._played(runs["expert"])._replace(label="null")
    folders = [Path("out/seed0/evaluation"), Path("out/seed1/evaluation")]
    told = plots._told_apart([null, expert], folders)
    assert [r.label for r in told] == ["null (seed0/evaluation)", "null (seed1/evaluation)"]
    (axis,) = plots._profile(told).axes
    assert [line.get_ydata()[0] for line in axis.lines] == [0.0, 1.0]
    # One folder's name on two panels is one agent's, as before; one folder given twice is one.
    other = [r._replace(panel="other") for r in (null, expert)]
    told = plots._told_apart([null, expert, *other], [Path(p) for p in ("a/0", "a/1", "b/0", "b/1")])
    assert [r.label for r in told] == ["null (0)", "null (1)"] * 2
    assert [r.label for r in plots._told_apart([null, null], [Path("a/0"), Path("c/../a/0")])] == [
        "null (0)"
    ] * 2
    trainings = [tmp_path / seed / "eto" for seed in ("0", "1")]
    for number, folder in enumerate(trainings):
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text(f'{{"phase": "a", "step": 1, "loss": {number}}}\n')
    plots.plot(trainings, tmp_path / "figures")
    drawn = (tmp_path / "figures" / "learning.svg").read_text()
    assert "<!-- 0/eto -->" in drawn and "<!-- 1/eto -->" in drawn


def test_a_training_that_is_being_written_is_drawn(tmp_path: Path) -> None:
    line = json.dumps({"phase": "sft", "step": 1, "loss": 0.5}) + "\n"
    (tmp_path / "metrics.jsonl").write_text(line + line[:20])
    assert plots._trained(tmp_path).curves["loss"] == [(1, 0.5)]


def test_bad_input(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProsegymError, match="neither a run .* nor a training"):
        plots.plot([tmp_path / "nothing"], tmp_path / "f")
    (tmp_path / "metrics.jsonl").write_text("no\n")
    with pytest.raises(CorruptData, match=r"metrics.jsonl:1"):
        plots.plot([tmp_path], tmp_path / "f")
    (tmp_path / "metrics.jsonl").write_text("")  # as Stable-Baselines3 leaves it where it took few steps
    with pytest.raises(ProsegymError, match="metrics.jsonl has nothing to draw yet"):
        plots.plot([runs["expert"], tmp_path], tmp_path / "f")
    path = runs["null"] / "episodes.jsonl"
    for left in (path.read_bytes().splitlines(keepends=True)[:-1], []):
        path.write_bytes(b"".join(left))  # one of its episodes is missing, then all are
        with pytest.raises(ProsegymError, match=r"null is not complete; run its `prosegym evaluate` command"):
            plots.plot([runs["expert"], runs["null"]], tmp_path / "f")
    assert not (tmp_path / "f").exists()
    with pytest.raises(ProsegymError, match="cannot write .*choose another --out"):
        plots.plot([runs["expert"]], tmp_path / "metrics.jsonl")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ProsegymError, match=r"prosegym\[plot\]"):
        plots.plot([runs["expert"]], tmp_path / "f")
