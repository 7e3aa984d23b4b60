"""Two runs on the same tasks, paired; and the table of several agents, with their seeds together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from prosegym.envs.errors import ProsegymError
from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation.metrics import last_trials, measure
from prosegym.evaluation.runs import Run
from prosegym.evaluation.statistics import (
    Estimate,
    clustered_bootstrap,
    mcnemar,
    normalised,
    paired_bootstrap,
)


class Comparison(NamedTuple):
    """Run A minus run B over the tasks of one panel."""

    success: Estimate
    score: Estimate
    progress: Estimate
    fixed: int
    """Tasks that A's first attempt solves and B's does not."""
    broken: int
    """Tasks that B's first attempt solves and A's does not."""
    p: float
    """Exact two-sided McNemar p-value of fixed against broken."""
    measure: str
    """What the verdict looks at: `success` or `score` (`metrics.measure`)."""

    @property
    def verdict(self) -> str:
        """In words, by the paired interval of one measure: two looks would err twice as often."""
        if self.difference.low > 0:
            return f"A is better in {self.measure}"
        if self.difference.high < 0:
            return f"B is better in {self.measure}"
        return "not distinguishable"

    @property
    def difference(self) -> Estimate:
        """That of the measure."""
        return self.score if self.measure == "score" else self.success


def compare(a: Run, b: Run) -> Comparison:
    """Compare two runs task by task.

    Raises:
        ProsegymError: they did not play the same panel, or one is not complete.
    """
    _same_panel(a, b)
    return paired(outcomes(a.finished), outcomes(b.finished), measure(a.conditions.panel.env_id))


Outcomes = Mapping[str, Sequence[tuple[float, float, float]]]
"""For each task, (success, score, progress) of each attempt's last trial, in attempt order."""


def outcomes(episodes: Iterable[Trajectory]) -> Outcomes:
    """What came of each task, from the episodes of a run."""
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for (task_id, _), group in sorted(last_trials(episodes).items()):
        last = group[-1]
        found[task_id].append((float(last.success), last.score, last.progress))
    return found


def together(runs: Sequence[Outcomes]) -> Outcomes:
    """What came of each task in all of these runs of the same tasks."""
    return {task: [came for run in runs for came in run[task]] for task in runs[0]}


class Line(NamedTuple):
    """What runs of one agent measured together: a line of `table`."""

    name: str
    runs: int
    success: Estimate
    score: Estimate
    difference: Estimate | None
    """Its measure minus that of the first line, over the same tasks; None in the first line."""


def table(agents: Mapping[str, Sequence[Run]]) -> list[Line]:
    """The numbers of several agents on one panel, each with its runs (the seeds of a training) together.

    Raises:
        ProsegymError: the panels differ, or a run is not complete.
    """
    _same_panel(*(run for runs in agents.values() for run in runs))
    lines: list[Line] = []
    first: Outcomes = {}
    for name, runs in agents.items():
        found = together([outcomes(run.finished) for run in runs])
        success, score = (clustered_bootstrap([[e[i] for e in found[t]] for t in found]) for i in range(2))
        by = measure(runs[0].conditions.panel.env_id)
        difference = paired(found, first, by).difference if lines else None
        first = first or found
        lines.append(Line(name, len(runs), success, score, difference))
    return lines


def paired(left: Outcomes, right: Outcomes, by: str = "success") -> Comparison:
    """Compare what came of the same tasks in two runs, left minus right, by `success` or `score`."""
    tasks = sorted(left)
    measured = [
        paired_bootstrap([[e[i] for e in left[t]] for t in tasks], [[e[i] for e in right[t]] for t in tasks])
        for i in range(3)
    ]
    fixed = sum(left[t][0][0] > right[t][0][0] for t in tasks)
    broken = sum(left[t][0][0] < right[t][0][0] for t in tasks)
    return Comparison(measured[0], measured[1], measured[2], fixed, broken, mcnemar(fixed, broken), by)


def normalised_score(run: Run, floor: Run, ceiling: Run) -> float:
    """The run's mean score between that of a floor (0: usually random) and a ceiling (1: usually the expert).

    Raises:
        ProsegymError: the panels differ, a run is not complete, or floor and ceiling score alike.
    """
    _same_panel(run, floor, ceiling)
    score, low, high = (r.summary().score.value for r in (run, floor, ceiling))
    if low == high:
        raise ProsegymError(
            f"{floor.folder} and {ceiling.folder} score alike ({low:.3f}): nothing lies between"
        )
    return normalised(score, low, high)


def _same_panel(*runs: Run) -> None:
    first = runs[0]
    for run in runs:
        if run.conditions.panel.sha256 != first.conditions.panel.sha256:
            raise ProsegymError(
                f"{first.folder} played {first.conditions.panel.name}, {run.folder} played "
                f"{run.conditions.panel.name}: a comparison needs the same panel"
            )
        if not run.complete:
            raise ProsegymError(
                f"{run.folder} is not complete; run its `prosegym evaluate` command again first"
            )
