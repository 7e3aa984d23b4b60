"""What the leaderboard's tests share: a retry agent, playing a panel of the smallest environment, editing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from prosegym.envs import panels, trajectory
from prosegym.evaluation import agents
from prosegym.evaluation.evaluate import evaluate
from prosegym.evaluation.rollout import Job, episode_seed
from prosegym.evaluation.runs import Run

ENV = "prosegym/Lockbox-v1"


class Retrier:
    """Forgets the key at first; opens the box once a failure has reminded it."""

    name = "retrier"
    trials = 3

    def conditions(self) -> dict[str, Any]:
        return {"trials": self.trials, "deterministic": True}

    def begin(self, episode: agents.Episode, env: Any) -> None:
        colour = episode.observation.removeprefix("The box is ").removesuffix(".")
        slow = colour > "g"
        keyed = len(episode.memory) > slow
        episode.state = [f"take {colour} key", "open box"] if keyed else ["open box"] * 6

    def respond(self, episodes: Any) -> list[agents.Reply]:
        return [agents.Reply("think", e.state[len(e.steps)], 10, 2) for e in episodes]

    def remember(self, failures: Any) -> list[agents.Memory]:
        return [agents.Memory(("take the key first",) * len(trials)) for trials in failures]


def play(agent: Any, out: Path, split: str = "test", **kwargs: Any) -> Run:
    panel = panels.load(f"Lockbox-v1/{split}")
    return evaluate(agent, panel, out, progress=False, **kwargs)


def renumbered(
    runs: Sequence[Path], out: Path, seed: int, old: Callable[[int, int], tuple[int, int]], attempts: int = 4
) -> Path:
    """A run made of the episodes of others, its seeds written to fit.

    For a task's place in the panel and a new attempt, `old` says which run's which attempt it was.
    """
    episodes = [{(t.task_id, t.attempt): t for t in Run.read(run).finished} for run in runs]
    conditions = Run.read(runs[0]).conditions
    with Run.open(out, msgspec.structs.replace(conditions, seed=seed, attempts=attempts)) as made:
        for place, task_id in enumerate(panels.load(conditions.panel.name).task_ids):
            for attempt in range(attempts):
                run, was = old(place, attempt)
                episode, its = episodes[run][task_id, was], episode_seed(seed, Job(task_id, attempt))
                made.append(msgspec.structs.replace(episode, attempt=attempt, seed=its))
    return out


def rewritten(episode: dict[str, Any]) -> dict[str, Any]:
    """The episode with the digests of its texts made to fit."""
    for step in episode["steps"]:
        step["observation_sha256"] = trajectory.observation_digest(step["observation"])
    episode["final_observation_sha256"] = trajectory.observation_digest(episode["final_observation"])
    return episode
