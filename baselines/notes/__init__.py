"""Notes on failed episodes written by rule: what expert reflections are where no teacher model is at hand.

A note says, from what the episode shows and nothing else, what was tried, what is still untried, and a plan.
Each module reads the episodes of a family of environments: `read` gives the facts, `note` says them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prosegym.baselines.lm import Generation, LanguageModel
from prosegym.baselines.notes import episode, household, rooms, shop, sql, wiki
from prosegym.baselines.reflexion import Config, Failure, ModelReflector, Reflection
from prosegym.envs.trajectory import Trajectory

READERS: Mapping[str, Callable[[Trajectory], str]] = {
    "ALFWorld": household.note,
    "Household": household.note,
    "TextWorld-Cooking": rooms.note,
    "TextWorld-CoinCollector": rooms.note,
    "TextWorld-TreasureHunter": rooms.note,
    "WebShop": shop.note,
    "MiniShop": shop.note,
    "HotpotQA": wiki.note,
    "2WikiMultihopQA": wiki.note,
    "MuSiQue": wiki.note,
    "MiniWiki": wiki.note,
    "InterCodeSQL": sql.note,
    "MiniSQL": sql.note,
}
"""Environments that have a reader of their own; the others have `episode.note`."""


def note(trajectory: Trajectory) -> str:
    """What the episode teaches its next try."""
    name = trajectory.env_id.rpartition("/")[2].rpartition("-v")[0]
    return READERS.get(name, episode.note)(trajectory)


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
