"""What every reader of a failed episode uses, and the note on one that none is for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from prosegym.envs.trajectory import Trajectory

SHOWN = 6
"""Names in a list, at most."""
_WORD = re.compile(r"\w+")


def turns(trajectory: Trajectory) -> list[tuple[str, str]]:
    """Each action, and what it was answered with."""
    steps = trajectory.steps
    answers = [*(step.observation for step in steps[1:]), trajectory.final_observation]
    return [(step.action, answer) for step, answer in zip(steps, answers, strict=False)]


def taken(trajectory: Trajectory) -> list[tuple[str, str]]:
    """The turns whose actions the environment took."""
    return [turn for turn, step in zip(turns(trajectory), trajectory.steps, strict=True) if not step.invalid]


def told(trajectory: Trajectory) -> str:
    """The first observation, where the task stands."""
    return trajectory.steps[0].observation if trajectory.steps else trajectory.final_observation


def listed(names: Iterable[str]) -> str:
    """The first few of some names, and how many more there are."""
    every = list(dict.fromkeys(names))
    shown = ", ".join(every[:SHOWN])
    return shown if len(every) <= SHOWN else f"{shown} and {len(every) - SHOWN} more"


def refused(trajectory: Trajectory) -> list[str]:
    """Actions that the environment did not take."""
    return list(dict.fromkeys(s.action for s in trajectory.steps if s.invalid and s.action))


def written(parts: Iterable[str], plan: str) -> str:
    """A note of the parts that say something, and its plan."""
    return " ".join([*(part for part in parts if part), f"Plan: {plan}"])


def note(trajectory: Trajectory) -> str:
    """Of any environment: what was refused, what was done again and again, which words no action took up."""
    no = refused(trajectory)
    counts = Counter(s.action for s in trajectory.steps if not s.invalid)
    again = [action for action, n in counts.most_common() if n > 1]
    used = {w.lower() for s in trajectory.steps for w in _WORD.findall(s.action)}
    words = dict.fromkeys(w.lower() for w in _WORD.findall(told(trajectory)) if len(w) > 3)
    left = [w for w in words if w not in used][:SHOWN]
    aim = f"look into {listed(left[:3])}" if left else "try what I have not tried yet"
    return written(
        [
            f"These were refused: {listed(no)}." if no else "",
            f"I did these more than once: {listed(again)}." if again else "",
            f"I was told of these and did nothing about them: {listed(left)}." if left else "",
            "I did too little to learn from." if not trajectory.steps else "",
        ],
        aim + (", and not what was refused." if no else "."),
    )
