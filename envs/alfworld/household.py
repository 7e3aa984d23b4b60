"""`prosegym/Household-v1`: generated games on ALFWorld's rules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from prosegym.envs.alfworld.base import HouseEnv
from prosegym.envs.alfworld.engine import Board
from prosegym.envs.alfworld.game import Game
from prosegym.envs.alfworld.generator import LEVELS, generate, level_of
from prosegym.envs.core import Task, Tasks
from prosegym.envs.errors import BadOption, UnknownName, unknown_task
from prosegym.envs.rewards import Maker
from prosegym.envs.vector import VectorMaker

SIZES = {"train": 100_000, "valid": 1_000, "test": 1_000}
"""How many tasks each split has."""


class Household(HouseEnv):
    """Chores in generated households: ALFWorld's six task types and its rules, in rooms of our own.

    Which furniture stands in a room and what lies where follows counts over ALFWorld's train games; the rooms
    themselves, and most pairs of an object and where it goes, are new. Three levels take turns: small (less
    furniture, nothing hidden behind doors), standard, and large (more of it, and more hidden).

    Splits: train (100,000 games), valid (1,000), test (1,000), drawn alike from different seeds.
    Source: generated; the rules and the wording are ALFWorld's (https://github.com/alfworld/alfworld, MIT).
    Differences: it is not ALFWorld, and a score here says nothing of a score there. No object lies in two
    receptacles at once, nothing is inside another object, and each object is at its receptacle's place.
    """

    env_id = "prosegym/Household-v1"
    splits = tuple(SIZES)
    ceiling = 0.99

    def __init__(self, *, level: str | None = None, **base: Any) -> None:
        """Make the environment.

        Args:
            level: one of "small", "standard", "large", whose tasks alone the splits then have; None for all.
            **base: the arguments of `HouseEnv`.
        """
        super().__init__(**base)
        if level is not None and level not in LEVELS:
            raise UnknownName("level", level, LEVELS)
        self._level = None if level is None else LEVELS.index(level)

    def tasks(self, split: str) -> Sequence[Task]:
        """Every game of a split; each is made when it is asked for."""
        if split not in SIZES:
            raise UnknownName("split", split, SIZES)
        places = range(SIZES[split])
        if self._level is not None:
            places = places[self._level :: len(LEVELS)]
        return Tasks(len(places), lambda i: _task(split, places[i]))

    def task(self, task_id: str) -> Task:
        """The task of that id, whatever its split."""
        match = re.fullmatch(r"(\w+)/([0-9]{6})", task_id)
        if not match or match[1] not in SIZES or int(match[2]) >= SIZES[match[1]]:
            raise unknown_task(task_id, [(f"{s}/000000", f"{s}/{size - 1:06d}") for s, size in SIZES.items()])
        level = level_of(int(match[2]))
        if self._level is not None and self._level != level:
            raise BadOption(
                f"task {task_id} is of level {LEVELS[level]!r}, not {LEVELS[self._level]!r}; drop `level` "
                "or play a panel of that level (`prosegym panel make --env-arg level=...`)"
            )
        return _task(match[1], int(match[2]))

    def _board(self, task: Task) -> Board:
        return _board(task.id)


@lru_cache(maxsize=256)
def game(task_id: str) -> Game:
    """The game of a task id, `split/index`."""
    split, _, index = task_id.partition("/")
    return generate(split, int(index))


@lru_cache(maxsize=1024)
def _task(split: str, index: int) -> Task:
    task_id = f"{split}/{index:06d}"
    made = game(task_id)
    return Task(task_id, split, Household.env_id, made.task_type, made.sha256())


@lru_cache(maxsize=256)
def _board(task_id: str) -> Board:
    return Board(game(task_id))


make = Maker(Household)
make_vector = VectorMaker(Household)
