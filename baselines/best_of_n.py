"""Best-of-N: play every task N times and count the best score (ETO table 2, N = 10).

    score(task) = max_{n <= N} r(e_n),  e_n ~ pi at a temperature above 0

It trains nothing and needs the score of the task it is tested on, so it bounds what choosing among samples
could give; it is not comparable with a single try.

Read: ETO's paragraph; the temperature is not printed there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prosegym.baselines.lm import LanguageModel
from prosegym.baselines.practice import Practice
from prosegym.envs.errors import at_least
from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation.rollout import Job


@dataclass(frozen=True)
class Config:
    """ETO's N; the temperature is chosen here."""

    samples: int = 10
    temperature: float = 1.0

    def __post_init__(self) -> None:
        at_least(1, samples=self.samples)


def solve(
    policy: LanguageModel, tasks: Sequence[str], practice: Practice, config: Config = Config()
) -> list[Trajectory]:
    """The best of each task's episodes, the earliest among equals, in the order of the tasks."""
    jobs = [Job(task, attempt) for task in tasks for attempt in range(config.samples)]
    played = practice.play(policy, jobs, "best-of-n", temperature=config.temperature)
    groups = [played[i : i + config.samples] for i in range(0, len(played), config.samples)]
    return [max(group, key=lambda t: t.score) for group in groups]
