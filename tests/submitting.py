"""What the leaderboard's tests share: a retry agent, playing a panel of the smallest environment, editing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prosegym.envs import panels, trajectory
from prosegym.evaluation import agents
from prosegym.evaluation.evaluate import evaluate
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


def rewritten(episode: dict[str, Any]) -> dict[str, Any]:
    """The episode with the digests of its texts made to fit."""
    for step in episode["steps"]:
        step["observation_sha256"] = trajectory.observation_digest(step["observation"])
    episode["final_observation_sha256"] = trajectory.observation_digest(episode["final_observation"])
    return episode
