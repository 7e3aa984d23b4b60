"""Signs that a training is collapsing, each said once: a warning, and a line `PHASE-warning` in the log.

They are signs, not verdicts: nothing is stopped, and the thresholds are ours.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from prosegym.envs.trajectory import Trajectory

WINDOW = 10
"""Optimizer steps whose mean is looked at."""


class CollapseWarning(UserWarning):
    """A training shows a sign of collapse."""


class Sign(NamedTuple):
    """What to look at, and what it means."""

    name: str
    needs: tuple[str, ...]
    """Metrics, given to `found` in this order."""
    found: Callable[..., bool]
    meaning: str
    """With a place for each metric."""


SIGNS = (
    Sign(
        "entropy",
        ("entropy",),
        lambda entropy: bool(entropy < 0.02),
        "the answers' entropy is {:.3f} nats a token: the policy hardly varies any more; raise the entropy "
        "bonus or the KL penalty, or lower the learning rate",
    ),
    Sign(
        "clip_share",
        ("clip_share",),
        lambda share: bool(share > 0.4),
        "{:.0%} of the ratios are clipped: the policy has left the one that sampled; lower the learning rate "
        "or the epochs",
    ),
    Sign(
        "saturated_pairs",
        ("accuracy", "win_gain"),
        lambda accuracy, gain: bool(accuracy > 0.98 and gain < -1),
        "{:.0%} of the pairs are won while the winners gain {:.1f} nats: the model leaves the experts' "
        "language; raise beta, set --imitation (IPR: --imitate), or lower the learning rate or the epochs",
    ),
)


class Watch:
    """Looks at a phase's metrics, step by step."""

    def __init__(self, phase: str) -> None:
        """Of a phase of that name."""
        self._phase = phase
        self._seen: dict[str, deque[float]] = {}
        self._said: set[str] = set()

    def see(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Take in a step's metrics; warns of new signs, and returns their metrics' means."""
        for key, number in metrics.items():
            self._seen.setdefault(key, deque(maxlen=WINDOW)).append(number)
        news: dict[str, float] = {}
        for sign in SIGNS:
            rows = [self._seen.get(key, ()) for key in sign.needs]
            if sign.name in self._said or any(len(row) < WINDOW for row in rows):
                continue
            means = [sum(row) / len(row) for row in rows]
            if sign.found(*means):
                self._said.add(sign.name)
                say(f"{self._phase}: {sign.meaning.format(*means)}")
                news |= dict(zip(sign.needs, means, strict=True))
        return news


def say(text: str) -> None:
    """Warn of a collapse."""
    warnings.warn(text, CollapseWarning, stacklevel=3)


def spread(phase: str, rewards: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation and range of rewards; warns where they are all the same."""
    mean = sum(rewards) / len(rewards)
    std = (sum((r - mean) ** 2 for r in rewards) / len(rewards)) ** 0.5
    if len(rewards) > 1 and std < 1e-6:
        say(f"{phase}: all {len(rewards)} rewards are {mean:.3f}: nothing tells good answers from bad ones")
    return {"mean": mean, "std": std, "smallest": min(rewards), "largest": max(rewards)}


def alike(phase: str, answers: Sequence[str], temperature: float) -> float:
    """Share of sampled answers that are different from all others before; warns where all are the same."""
    share = len(set(answers)) / max(1, len(answers))
    if temperature > 0 and len(answers) >= WINDOW and len(set(answers)) == 1:
        say(f"{phase}: all {len(answers)} sampled answers are the same: {answers[0][:60]!r}")
    return share


def endings(phase: str, played: Sequence[Trajectory], temperature: float) -> dict[str, float]:
    """How a phase's episodes ended; warns where several sampled tries at each task never differ.

    Returns:
        `episodes`, `score` (mean), `errors`, `context` (broken off because the context was full), and, where
        a task was tried several times, `different`: the share of tries with actions of their own.
    """
    tries: dict[str, set[tuple[str, ...]]] = {}
    for t in played:
        tries.setdefault(t.task_id, set()).add(tuple(t.actions))
    found = {
        "episodes": float(len(played)),
        "score": sum(t.score for t in played) / max(1, len(played)),
        "errors": float(sum(t.ended == "error" for t in played)),
        "context": float(sum(t.error == "context overflow" for t in played)),
    }
    if len(played) > len(tries):
        found["different"] = sum(map(len, tries.values())) / len(played)
        if (
            temperature > 0
            and len(played) >= WINDOW
            and len(played) > sum(map(len, tries.values())) == len(tries)
        ):
            say(f"{phase}: all tries at a task are the same, though they are sampled at {temperature:g}")
    return found
