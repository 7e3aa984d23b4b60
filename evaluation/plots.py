"""`prosegym plot`: figures of runs and trainings, each as PNG and SVG (`pip install "prosegym[plot]"`).

success    success of every agent on every panel, with its 95 % interval
profile    performance profile: the share of tasks whose mean score is above a threshold
cost       success against what an episode costs: dollars where all prices are known, else tokens or seconds
learning   what a training wrote in `metrics.jsonl`, and success by trial of agents that retry
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from prosegym.envs.errors import CorruptData, ProsegymError
from prosegym.evaluation.compare import whole
from prosegym.evaluation.metrics import Summary, last_trials
from prosegym.evaluation.runs import Run
from prosegym.evaluation.statistics import Estimate, clustered_bootstrap, performance_profile

FORMATS = ("png", "svg")
THRESHOLDS = [i / 50 for i in range(51)]
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which people with any colour vision tell apart."""
_MARKERS = "osD^vP*X"
_CURVES = ("success", "score", "return", "loss")
"""What is drawn of a training, where it was written."""

Points = list[tuple[float, float]]


class Played(NamedTuple):
    """What the figures need of a run."""

    label: str
    panel: str
    summary: Summary
    scores: list[float]
    """The mean score of each task."""
    trials: list[Estimate]
    """Success after each trial."""


class Trained(NamedTuple):
    """What a training wrote."""

    label: str
    curves: dict[str, Points]
    """Metric -> (step, value), phases one after the other."""


def plot(folders: Sequence[str | Path], out: str | Path) -> list[Path]:
    """Draw every figure that the folders have something for; returns the files.

    Args:
        folders: runs, and trainings (folders with a `metrics.jsonl`), in any order.
        out: the folder for the figures.

    Raises:
        ProsegymError: matplotlib is missing, or a folder is neither a complete run nor a training with
            measurements, or `out` cannot be written.
        CorruptData: a damaged file.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ProsegymError(f'{error.name} is not installed; run `pip install "prosegym[plot]"`') from error

    paths = [Path(folder) for folder in folders]
    played = [path for path in paths if (path / "run.json").is_file()]
    learnt = [path for path in paths if (path / "metrics.jsonl").is_file()]
    for path in paths:
        if path not in (*played, *learnt):
            raise ProsegymError(
                f"{path} is neither a run (run.json) nor a training (metrics.jsonl); "
                "make one with `prosegym evaluate` or `prosegym train`"
            )
    runs = _told_apart([_played(path) for path in played], played)
    names = _tails(learnt, [""] * len(learnt))
    trained = [_trained(path)._replace(label=name) for path, name in zip(learnt, names, strict=True)]
    figures: dict[str, Figure] = {}
    with matplotlib.rc_context(
        {"svg.hashsalt": "prosegym", "axes.spines.top": False, "axes.spines.right": False}
    ):
        if runs:
            figures |= {"success": _success(runs), "profile": _profile(runs), "cost": _cost(runs)}
        if trained or any(len(run.trials) > 1 for run in runs):
            figures["learning"] = _learning(runs, trained)
        drawn: dict[Path, BytesIO] = {}  # all of it before the first is written
        for name, figure in figures.items():
            for kind in FORMATS:
                image = drawn[Path(out) / f"{name}.{kind}"] = BytesIO()
                dateless = {"Date": None} if kind == "svg" else None  # equal data, equal files
                figure.savefig(image, format=kind, dpi=150, bbox_inches="tight", metadata=dateless)
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        for path, image in drawn.items():
            path.write_bytes(image.getvalue())
    except OSError as error:
        raise ProsegymError(f"cannot write {out}: {error.strerror}; choose another --out") from error
    return list(drawn)


def _played(folder: Path) -> Played:
    run = Run.read(folder)
    whole(run)
    groups = last_trials(run.finished)
    scores: dict[str, list[float]] = defaultdict(list)
    for (task_id, _), group in groups.items():
        scores[task_id].append(group[-1].score)
    trials = []
    for trial in range(run.conditions.trials):
        solved: dict[str, list[float]] = defaultdict(list)
        for (task_id, _), group in groups.items():
            solved[task_id].append(float(group[min(trial, len(group) - 1)].success))
        trials.append(clustered_bootstrap(list(solved.values())))
    means = [math.fsum(s) / len(s) for s in scores.values()]
    return Played(run.conditions.agent, run.conditions.panel.name, run.summary(), means, trials)


def _told_apart(runs: Sequence[Played], folders: Sequence[Path]) -> list[Played]:
    """Runs of one agent on one panel get their folder's name beside the agent's, or more of its path."""
    count = Counter((run.label, run.panel) for run in runs)
    told = list(runs)
    for shared in dict.fromkeys(label for (label, _), times in count.items() if times > 1):
        at = [i for i, run in enumerate(runs) if run.label == shared]
        tails = _tails([folders[i] for i in at], [runs[i].panel for i in at])
        for i, tail in zip(at, tails, strict=True):
            told[i] = runs[i]._replace(label=f"{shared} ({tail})")
    return told


def _tails(folders: Sequence[Path], panels: Sequence[str]) -> list[str]:
    """The ends of the folders' paths, as short as tells those of one panel apart."""
    paths = [Path(os.path.abspath(folder)) for folder in folders]
    ends = ([str(Path(*path.parts[-depth:])) for path in paths] for depth in itertools.count(1))
    apart = len({*zip(paths, panels, strict=True)})
    return next(tails for tails in ends if len({*zip(tails, panels, strict=True)}) == apart)


def _trained(folder: Path) -> Trained:
    path = folder / "metrics.jsonl"
    curves: dict[str, Points] = defaultdict(list)
    before, last, phase = 0, 0, None
    whole = path.read_text().rpartition("\n")[0]  # a last line may be being written, or cut by a kill
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            found = json.loads(line)
            step = int(found["step"])
            if found["phase"] != phase:
                before, phase = last, found["phase"]
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptData(f"{path}:{number}: not a line of metrics: {error!r}") from error
        last = before + step
        for name in _CURVES:
            if isinstance(found.get(name), (int, float)):
                curves[name].append((last, float(found[name])))
    if not curves:
        raise ProsegymError(f"{path} has nothing to draw yet: the training was too short, or must go on")
    return Trained(folder.name, dict(curves))


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, list[Any]]:
    """A figure of axes in rows of at most four; the sizes are those of one axis, in inches."""
    from matplotlib.figure import Figure

    across = min(columns, 4)
    rows = -(-columns // across)
    figure = Figure(figsize=(width * across, height * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, across, i + 1) for i in range(columns)]


def _style(labels: Sequence[str]) -> dict[str, dict[str, str]]:
    """A colour and a marker for each label, in the order in which they come."""
    return {
        label: {"color": _COLOURS[i % len(_COLOURS)], "marker": _MARKERS[i % len(_MARKERS)]}
        for i, label in enumerate(dict.fromkeys(labels))
    }


def _whiskers(estimates: Sequence[Estimate]) -> list[list[float]]:
    """Lengths of the intervals below and above; none where a value is no number."""
    return [[max(0.0, e.value - e.low) for e in estimates], [max(0.0, e.high - e.value) for e in estimates]]


def _success(runs: Sequence[Played]) -> Any:
    """A row for each panel, in it a mark for each agent."""
    styles = _style([run.label for run in runs])
    panels = list(dict.fromkeys(run.panel for run in runs))
    figure, (axis,) = _figure(6.5, 1.2 + len(panels) * (0.3 + 0.22 * len(styles)))
    for i, (label, style) in enumerate(styles.items()):
        mine = [run for run in runs if run.label == label]
        shift = (i - (len(styles) - 1) / 2) * 0.7 / len(styles)
        axis.errorbar(
            [run.summary.success.value for run in mine],
            [panels.index(run.panel) + shift for run in mine],
            xerr=_whiskers([run.summary.success for run in mine]),
            linestyle="none", capsize=3, label=label, **style,
        )  # fmt: skip
    tasks = {run.panel: run.summary.tasks for run in runs}
    axis.set_yticks(range(len(panels)), [f"{panel}\n{tasks[panel]} tasks" for panel in panels])
    axis.set(xlim=(-0.03, 1.03), ylim=(len(panels) - 0.5, -0.5), xlabel="success, 95 % interval over tasks")
    axis.grid(axis="x", alpha=0.3)
    _legend(axis)
    return figure


def _profile(runs: Sequence[Played]) -> Any:
    """A falling line for each agent: every panel has the same weight, and every task within it."""
    figure, (axis,) = _figure(6.5, 3.6)
    for label, style in _style([run.label for run in runs]).items():
        profiles = [performance_profile(run.scores, THRESHOLDS) for run in runs if run.label == label]
        mean = [math.fsum(column) / len(profiles) for column in zip(*profiles, strict=True)]
        axis.step(THRESHOLDS, mean, where="post", label=label, color=style["color"])
    axis.set(xlim=(0, 1), ylim=(-0.03, 1.03), xlabel="score", ylabel="share of tasks above it")
    axis.grid(alpha=0.3)
    _legend(axis)
    return figure


def _cost(runs: Sequence[Played]) -> Any:
    """An axis for each panel, in it a mark for each agent; further left is cheaper.

    In dollars where those of every run are known.
    """

    def dollars(s: Summary) -> float:
        return (s.cost or 0.0) / s.played

    def tokens(s: Summary) -> float:
        return s.prompt_tokens + s.completion_tokens

    def seconds(s: Summary) -> float:
        return s.seconds

    unit, cost = "seconds", seconds
    if any(tokens(run.summary) for run in runs):
        unit, cost = "tokens", tokens
    if any(run.summary.cost for run in runs) and all(run.summary.cost is not None for run in runs):
        unit, cost = "US dollars", dollars
    panels = list(dict.fromkeys(run.panel for run in runs))
    figure, axes = _figure(4.0 if len(panels) > 1 else 6.5, 3.4, len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        for label, style in _style([run.label for run in runs]).items():
            mine = [run.summary for run in runs if (run.label, run.panel) == (label, panel)]
            success = [summary.success for summary in mine]
            axis.errorbar(
                [cost(summary) for summary in mine], [e.value for e in success], yerr=_whiskers(success),
                linestyle="none", capsize=3, label=label, **style,
            )  # fmt: skip
        axis.set(ylim=(-0.03, 1.03), xlabel=f"{unit} an episode\n{panel}")
        axis.set_xlim(left=0)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("success, 95 % interval")
    _legend(axes[0])
    return figure


def _learning(runs: Sequence[Played], trained: Sequence[Trained]) -> Any:
    """An axis for each metric that a training wrote, and one for success by trial."""
    names = [name for name in _CURVES if any(name in training.curves for training in trained)]
    retried = [run for run in runs if len(run.trials) > 1]
    figure, axes = _figure(4.5, 3.4, len(names) + bool(retried))
    styles = _style([training.label for training in trained])
    for axis, name in zip(axes, names, strict=False):
        for training in trained:
            if name in training.curves:
                x, y = zip(*training.curves[name], strict=True)
                mark = {"marker": "."} if len(x) == 1 else {}
                axis.plot(x, y, label=training.label, color=styles[training.label]["color"], **mark)
        axis.set(xlabel="step of training", ylabel=name)
        axis.grid(alpha=0.3)
        _legend(axis, 1)
    if retried:
        many = len({run.panel for run in retried}) > 1
        titles = [f"{run.label}, {run.panel}" if many else run.label for run in retried]
        for title, run in zip(titles, retried, strict=True):
            trials = list(range(1, len(run.trials) + 1))
            values, style = [e.value for e in run.trials], _style(titles)[title]
            axes[-1].errorbar(trials, values, yerr=_whiskers(run.trials), capsize=3, label=title, **style)
            axes[-1].set_xticks(trials)
        axes[-1].set(ylim=(-0.03, 1.03), xlabel="trial", ylabel="success, 95 % interval")
        axes[-1].grid(alpha=0.3)
        _legend(axes[-1], 1)
    return figure


def _legend(axis: Any, columns: int = 3) -> None:
    """A legend above the axis, where no mark can lie under it."""
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, fontsize=8)
