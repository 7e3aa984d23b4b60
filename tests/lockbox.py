"""Lockbox: take the key of the right colour, then open the box. The smallest environment, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prosegym.envs.core import Expert, Outcome, Task, TextEnv, UnknownName, digest
from prosegym.envs.rewards import Maker

COLOURS = {
    "train": ("red", "blue", "green", "teal", "plum", "rust", "sand", "jade"),
    "valid": ("pink", "grün"),
    "test": ("gold", "grey", "cyan", "lime"),
}


class Lockbox(TextEnv):
    env_id = "prosegym/Lockbox-v1"
    instruction = "A box has a colour. Actions: take COLOUR key, open box."
    experts = {"reader": False, "oracle": True}
    max_steps = 6

    def tasks(self, split: str) -> Sequence[Task]:
        if split not in COLOURS:
            raise UnknownName("split", split, COLOURS)
        return [
            Task(f"{split}/{c}", split, self.env_id, "warm" if c < "g" else "cold", digest("lockbox", c))
            for c in COLOURS[split]
        ]

    def _begin(self, task: Task) -> Outcome:
        self.colour = task.id.split("/")[1]
        self.key = ""
        return Outcome(f"The box is {self.colour}.")

    def _play(self, action: str) -> Outcome:
        if action.startswith("take ") and action.endswith(" key"):
            self.key = action[5:-4]
            return Outcome(f"You hold the {self.key} key.", progress=self.progress)
        if action == "open box" and self.key == self.colour:
            return Outcome("It opens.", 1.0, 1.0, True, True)
        if action == "open box":
            return Outcome("It stays shut.", progress=self.progress)
        return self._last._replace(observation=self.refusal, invalid=True)

    @property
    def progress(self) -> float:
        return 0.5 * (self.key == self.colour)

    def _admissible(self) -> list[str]:
        return ["open box", *(f"take {c} key" for cs in COLOURS.values() for c in cs)]

    def _expert(self, name: str) -> Expert:
        return Oracle(self) if name == "oracle" else Reader()

    def _save(self) -> Any:
        return self.colour, self.key

    def _load(self, state: Any) -> None:
        self.colour, self.key = state


class Reader:
    privileged = False
    colour: str | None = None

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        if self.colour is None:
            self.colour = observation.removeprefix("The box is ").removesuffix(".")
            return f"take {self.colour} key"
        return "open box"


class Oracle:
    privileged = True

    def __init__(self, env: Lockbox) -> None:
        self.env = env

    def act(self, observation: str, info: Mapping[str, Any]) -> str:
        return "open box" if self.env.key == self.env.colour else f"take {self.env.colour} key"


make = Maker(Lockbox)
