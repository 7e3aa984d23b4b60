"""From the episodes of a run to its numbers, denominators honest."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import msgspec

from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation import statistics
from prosegym.evaluation.statistics import Estimate

GRADED = frozenset({"prosegym/ScienceWorld-v1", "prosegym/WebShop-v1", "prosegym/MiniShop-v1"})
"""Environments whose published measure is the mean score; everywhere else it is the success rate."""


def measure(env_id: str) -> str:
    """What agents are ranked and compared by in an environment: `score` or `success`."""
    return "score" if env_id in GRADED else "success"


class TypeRow(msgspec.Struct, frozen=True):
    """One row of the per-task-type table."""

    task_type: str
    tasks: int
    success: Estimate
    score: Estimate
    progress: Estimate


class Summary(msgspec.Struct, frozen=True):
    """What a run measured. Every mean is over all planned episodes that were played; errors count as 0."""

    planned: int
    """Episodes the panel and the number of attempts ask for."""
    played: int
    errors: int
    """Episodes that ended in an error, the engine's or the model's; in the means as 0."""
    tasks: int
    attempts: int
    trials: int
    """Trials an attempt may have; 1 unless the agent retries with a success signal."""
    success: Estimate
    score: Estimate
    best_score: Estimate
    """Mean over episodes of the highest score at any step."""
    progress: Estimate
    invalid_rate: float
    """Share of turns whose action the environment refused; turns without a readable action not counted."""
    parse_failure_rate: float
    """Share of turns in whose response no action could be read."""
    truncated_rate: float
    stopped: dict[str, int]
    """Why an agent ended episodes as truncated ("context overflow") -> episodes; step limits are not here."""
    steps: float
    """Mean steps an episode; of an attempt's trials, the last one's."""
    steps_to_success: float
    """Mean steps of the successful episodes; NaN where there is none."""
    pass_at: dict[str, float]
    """pass@k, unbiased, for the powers of two up to the attempts, and for all of them."""
    pass_hat: dict[str, float]
    """pass^k, unbiased, for the same k."""
    flip_rate: float
    initial: float
    """Mean score of first trials (IR)."""
    final: float
    """Mean score of last trials (FR)."""
    average: float
    """Mean score over trials (AR)."""
    prompt_tokens: float
    """Mean an episode, all trials together."""
    completion_tokens: float
    seconds: float
    """Mean time from an episode's start to its end, in which others are played, too."""
    cost: float | None
    """US dollars, whole run; None where a price is not known."""
    cost_per_success: float | None
    types: list[TypeRow]
    step_histogram: dict[int, int]
    """Steps taken -> episodes."""
    invalid_histogram: dict[int, int]
    """Actions that the environment refused -> episodes."""


def last_trials(trajectories: Iterable[Trajectory]) -> dict[tuple[str, int], list[Trajectory]]:
    """For each (task, attempt), its trials in order."""
    groups: dict[tuple[str, int], list[Trajectory]] = defaultdict(list)
    for trajectory in trajectories:
        groups[trajectory.task_id, trajectory.attempt].append(trajectory)
    for group in groups.values():
        group.sort(key=lambda t: t.trial)
    return dict(groups)


def summarise(trajectories: Sequence[Trajectory], *, tasks: int, attempts: int, trials: int = 1) -> Summary:
    """The numbers of a run; an episode is an attempt's last trial."""
    groups = last_trials(trajectories)
    episodes = [group[-1] for group in groups.values()]
    by_task: dict[str, list[Trajectory]] = defaultdict(list)
    for episode in episodes:
        by_task[episode.task_id].append(episode)
    clusters = list(by_task.values())
    turns = sum(len(t.steps) for t in trajectories)
    invalid = sum(map(_refused, trajectories))
    unread = sum(step.parse_failed for t in trajectories for step in t.steps)
    won = [len(e.steps) for e in episodes if e.success]
    most = min(map(len, clusters), default=0)
    ks = sorted({k for k in (1, 2, 4, 8, 16, 32, 64, most) if 1 <= k <= most})
    retried = statistics.retries(
        {f"{task}\0{attempt}": [t.score for t in group] for (task, attempt), group in groups.items()}, trials
    )
    costs = [t.usage.cost for t in trajectories if t.usage.cost is not None]
    cost = math.fsum(costs) if len(costs) == len(trajectories) else None
    return Summary(
        planned=tasks * attempts,
        played=len(episodes),
        errors=sum(e.ended == "error" for e in episodes),
        tasks=tasks,
        attempts=attempts,
        trials=trials,
        success=statistics.clustered_bootstrap([[float(e.success) for e in c] for c in clusters]),
        score=statistics.clustered_bootstrap([[e.score for e in c] for c in clusters]),
        best_score=statistics.clustered_bootstrap([[e.best_score for e in c] for c in clusters]),
        progress=statistics.clustered_bootstrap([[e.progress for e in c] for c in clusters]),
        invalid_rate=invalid / turns if turns else 0.0,
        parse_failure_rate=unread / turns if turns else 0.0,
        truncated_rate=_mean([float(e.ended == "truncated") for e in episodes]),
        stopped=dict(Counter(e.error for e in episodes if e.ended == "truncated" and e.error)),
        steps=_mean([float(len(e.steps)) for e in episodes]),
        steps_to_success=_mean([float(n) for n in won]),
        pass_at={str(k): _pass(statistics.pass_at_k, clusters, k) for k in ks},
        pass_hat={str(k): _pass(statistics.pass_hat_k, clusters, k) for k in ks},
        flip_rate=statistics.flip_rate([[e.success for e in c] for c in clusters]),
        initial=retried.initial,
        final=retried.final,
        average=retried.average,
        prompt_tokens=_per_episode([t.usage.prompt_tokens for t in trajectories], len(episodes)),
        completion_tokens=_per_episode([t.usage.completion_tokens for t in trajectories], len(episodes)),
        seconds=_per_episode([t.seconds for t in trajectories], len(episodes)),
        cost=cost,
        cost_per_success=None if cost is None else cost / len(won) if won else math.nan,
        types=[_type_row(name, clusters) for name in sorted({e.task_type for e in episodes})],
        step_histogram=_histogram([len(e.steps) for e in episodes]),
        invalid_histogram=_histogram([_refused(e) for e in episodes]),
    )


def dollars(value: float) -> str:
    """Cents and up as usual; less with two digits that matter."""
    return f"${value:,.{max(2, 1 - math.floor(math.log10(value)))}f}"


def _refused(trajectory: Trajectory) -> int:
    """Actions that the environment refused; turns in which none could be read, and none was sent, are not
    among them."""
    return sum(step.invalid and bool(step.action or not step.parse_failed) for step in trajectory.steps)


def _histogram(values: Sequence[int]) -> dict[int, int]:
    return dict(sorted(Counter(values).items()))


def _type_row(name: str, clusters: Sequence[Sequence[Trajectory]]) -> TypeRow:
    chosen = [c for c in clusters if c[0].task_type == name]
    return TypeRow(
        name,
        len(chosen),
        statistics.clustered_bootstrap([[float(e.success) for e in c] for c in chosen]),
        statistics.clustered_bootstrap([[e.score for e in c] for c in chosen]),
        statistics.clustered_bootstrap([[e.progress for e in c] for c in chosen]),
    )


def _pass(rule: Callable[[int, int, int], float], clusters: Sequence[Sequence[Trajectory]], k: int) -> float:

    return _mean([rule(len(c), sum(e.success for e in c), k) for c in clusters])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _per_episode(values: Sequence[float], episodes: int) -> float:
    return math.fsum(values) / episodes if episodes else math.nan
