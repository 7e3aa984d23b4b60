"""`prosegym/ALFWorld-v1`: the official games."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prosegym.envs.alfworld import official
from prosegym.envs.alfworld.base import HouseEnv
from prosegym.envs.alfworld.engine import Board
from prosegym.envs.alfworld.pack import Entry, Pack
from prosegym.envs.core import Task
from prosegym.envs.errors import UnknownName
from prosegym.envs.rewards import Maker
from prosegym.envs.vector import VectorMaker


class ALFWorld(HouseEnv):
    """ALFWorld's official text games (Shridhar et al., ICLR 2021), in which a household chore must be done.

    Splits: train (3,553 games), valid_seen (140), valid_unseen (134, in rooms that train does not have),
    valid_train (200).
    Source: https://github.com/alfworld/alfworld; MIT. The games are compiled once; neither TextWorld nor
    a planner is needed to play them.
    Differences: none in what is said, admitted and won. `dialect="put"` speaks as releases
    before 0.4 did, with the same games. Unsolvable games are left out, as upstream does when it trains and
    evaluates; so are games that slice objects or carry receptacles, which upstream leaves out as well.
    """

    env_id = "prosegym/ALFWorld-v1"
    splits = official.SPLITS
    data = official.OFFICIAL.name
    official = True

    def __init__(self, **base: Any) -> None:
        """Make the environment; arguments are those of `HouseEnv`."""
        super().__init__(**base)
        self._opened: Pack | None = None

    @property
    def _pack(self) -> Pack:
        if self._opened is None:
            self._opened = official.open_pack()
        return self._opened

    def tasks(self, split: str) -> Sequence[Task]:
        """Every game of a split, sorted by its path."""
        if split not in self.splits:
            raise UnknownName("split", split, self.splits)
        return _tasks(self._pack, split)

    def task(self, task_id: str) -> Task:
        """The game of that id, whatever its split."""
        entry = self._pack.entries.get(task_id)
        if entry is None:
            raise UnknownName("task id", task_id, self._pack.entries)
        return _task(entry)

    def _board(self, task: Task) -> Board:
        return self._pack.board(task.id)


def _tasks(pack: Pack, split: str) -> list[Task]:
    """A split's tasks, made once for the whole process."""
    found = pack.tasks.get(split)
    if found is None:
        found = pack.tasks[split] = [
            _task(entry)
            for entry in sorted(pack.entries.values(), key=lambda entry: entry.task_id)
            if entry.task_id.startswith(f"{split}/")
        ]
    return found


def _task(entry: Entry) -> Task:
    split = entry.task_id.partition("/")[0]
    return Task(entry.task_id, split, ALFWorld.env_id, entry.task_type, entry.sha256)


make = Maker(ALFWorld)
make_vector = VectorMaker(ALFWorld)
