"""Two runs on the same tasks, paired; and the table of several agents, with their seeds together."""

from __future__ import annotations

import math
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

ENOUGH = 6
"""Fewest tasks that must differ for a verdict: five that one of two equal agents wins all are no rarer than
2 / 2^5 = 0.06, by the exact test of signs, whatever the bootstrap draws from them."""


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
    differing: int
    """Tasks whose means of the measure, over attempts, are not the same."""

    @property
    def verdict(self) -> str:
        """In words, by the paired interval of one measure: two looks would err twice as often."""
        if self.better:
            return f"{'A' if self.better > 0 else 'B'} is better in {self.measure}"
        if self._apart:
            return f"not distinguishable (fewer than {ENOUGH} tasks differ)"
        return "not distinguishable"

    @property
    def better(self) -> int:
        """1 where A is better, -1 where B is, 0 where they are not distinguishable."""
        return self._apart if self.differing >= ENOUGH else 0

    @property
    def _apart(self) -> int:
        """On which side of 0 the interval lies."""
        return (self.difference.low > 0) - (self.difference.high < 0)

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
    looked = 1 if by == "score" else 0
    # As in the bootstrap: means of unequal numbers of attempts are rounded otherwise.
    differing = sum(round(_mean(left[t], looked) - _mean(right[t], looked), 12) != 0 for t in tasks)
    p = mcnemar(fixed, broken)
    return Comparison(measured[0], measured[1], measured[2], fixed, broken, p, by, differing)


def _mean(attempts: Sequence[tuple[float, float, float]], of: int) -> float:
    return math.fsum(came[of] for came in attempts) / len(attempts)


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
        whole(run)


def whole(run: Run) -> None:
    """See that every planned episode was played: a part of them would be shown as if it were all.

    Raises:
        ProsegymError: the run is not complete.
    """
    if not run.complete:
        raise ProsegymError(f"{run.folder} is not complete; run its `prosegym evaluate` command again first")
