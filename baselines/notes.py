"""Notes on failed episodes written by rule: what expert reflections are where no teacher model is at hand.

A note says, from what the episode shows and nothing else, what brought it forward, what was refused, what was
done in vain, which words of the task no action took up, and a plan. It knows no environment and no answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from prosegym.baselines.lm import Generation, LanguageModel
from prosegym.baselines.reflexion import Config, Failure, ModelReflector, Reflection
from prosegym.envs.trajectory import Trajectory

_WORD = re.compile(r"\w+")
SHOWN = 6
"""Actions named of each kind, at most."""


class Scribe:
    """A `Reflector` by rule; its prompts are those that a model would be asked with."""

    def __init__(self, model: LanguageModel, config: Config | None = None) -> None:
        """`model` is not asked: it counts tokens, so that the prompts are cut as its own would be."""
        self._asker = ModelReflector(model, config)

    def conditions(self) -> Mapping[str, Any]:
        """Its name."""
        return {"reflector": "scribe"}

    def reflect(self, failures: Sequence[Failure]) -> list[Reflection]:
        """One note per failure, in order."""
        found = []
        for failure in failures:
            t, text = failure.trajectory, note(failure.trajectory)
            prompt = self._asker.prompt(failure)
            found.append(Reflection(t.task_id, t.attempt, t.trial, prompt, Generation(text), t.score, text))
        return found


def note(trajectory: Trajectory) -> str:
    """What the episode teaches its next try."""
    steps = trajectory.steps
    refused = list(dict.fromkeys(s.action for s in steps if s.invalid and s.action))
    counts = Counter(s.action for s in steps if not s.invalid)
    before = [0.0, *(s.progress for s in steps)]
    helped = list(dict.fromkeys(s.action for s, p in zip(steps, before, strict=False) if s.progress > p))
    vain = [a for a, n in counts.most_common() if n > 1 and a not in helped]
    seen = _unmentioned(trajectory)
    parts = []
    if helped:
        parts.append(f"These brought me forward: {_listed(helped)}.")
    if refused:
        parts.append(f"These were refused: {_listed(refused)}.")
    if vain:
        parts.append(f"I did these again and again in vain: {_listed(vain)}.")
    if seen:
        parts.append(f"I was told of these and did nothing about them: {_listed(seen)}.")
    if not steps or not (refused or vain or seen or helped):
        parts.append("I did too little to learn from.")
    first = f"first {_listed(helped)} again, then " if helped else ""
    aim = f"look into {_listed(seen[:3])}" if seen else "try what I have not tried yet"
    parts.append(f"Plan: {first}{aim}" + (", and not what was refused." if refused else "."))
    return " ".join(parts)


def _listed(actions: Sequence[str]) -> str:
    shown = "; ".join(actions[:SHOWN])
    return shown if len(actions) <= SHOWN else f"{shown} and {len(actions) - SHOWN} more"


def _unmentioned(trajectory: Trajectory) -> list[str]:
    """Words of the first observation, where the task is told, that no action used."""
    used = {w.lower() for s in trajectory.steps for w in _WORD.findall(s.action)}
    told = trajectory.steps[0].observation if trajectory.steps else trajectory.final_observation
    words = dict.fromkeys(w.lower() for w in _WORD.findall(told) if len(w) > 3)
    return [w for w in words if w not in used][:SHOWN]
