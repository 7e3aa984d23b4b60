"""More games of TextWorld's Cooking to learn from than the 200 of train: other seeds, the same foods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prosegym.envs.core import Task
from prosegym.envs.errors import ProsegymError
from prosegym.envs.textworld import games
from prosegym.envs.textworld.env import Cooking

SEEDS = range(1_001, 1_151)
"""Of each level's further games; train's own begin at 1, and valid's at 100,001."""


class Kitchens(Cooking):
    """Cooking's train games and further ones, whose seeds are in no split of the suite."""

    env_id = "house/TextWorld-Cooking-v1"
    splits = ("train",)

    def __init__(self, *, one_room: bool = False, **base: Any) -> None:
        """All of them or, of one room, those in which little is walked and much is cut and cooked."""
        super().__init__(**base)
        self.one_room = one_room

    def tasks(self, split: str) -> Sequence[Task]:
        """Train's own; then one game of every level, and the next of each."""
        further = [
            Task(f"{split}/{level}/{seed}", split, self.env_id, level, sha256="")
            for seed in SEEDS
            for level in games.LEVELS[self.challenge]
        ]
        return [
            task
            for task in [*super().tasks(split), *further]
            if not self.one_room or games.LEVELS[self.challenge][task.task_type]["go"] == 1
        ]


def build() -> None:
    """Build all that are not there, as many at a time as there are processors.

    Raises:
        ProsegymError: one is a game of valid or test.
    """
    tasks = Kitchens().tasks("train")
    paths = games.build(Kitchens.challenge, tasks)
    table = games.table(Kitchens.challenge)
    judged = {digest for split in ("valid", "test") for digest in table[split].values()}
    for task, path in zip(tasks, paths, strict=True):
        if games.content(path) in judged:
            raise ProsegymError(f"{task.id} is a game of valid or test; change kitchens.SEEDS")
