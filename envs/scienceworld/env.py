"""The ScienceWorld environment."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from prosegym.envs.core import Expert, Outcome, Task, Tasks, TextEnv, digest
from prosegym.envs.errors import BadOption, EngineError, UnknownName
from prosegym.envs.gold import GoldPath, kept
from prosegym.envs.jvm import Seat
from prosegym.envs.rewards import Maker
from prosegym.envs.scienceworld.engine import (
    ENGINE,
    GOLD_ENGINE,
    JAR_SHA256,
    VERSION,
    Answer,
    Simulation,
    gold_path,
)

EXTRA_MODULE = "scienceworld"

SIMPLIFICATIONS = (
    "teleportAction",
    "selfWateringFlowerPots",
    "openContainers",
    "openDoors",
    "noElectricalAction",
)
"""The engine's simplifications; `easy` stands for all but openContainers (and, in electrical tasks, but
noElectricalAction, which these do not admit)."""

ELECTRICAL = frozenset(
    (
        "power-component",
        "power-component-renewable-vs-nonrenewable-energy",
        "test-conductivity",
        "test-conductivity-of-unknown-substances",
    )
)
"""The tasks that need the actions that noElectricalAction takes away."""

UNREAD = "No known action matches that input."
"""The engine's answer to what it cannot read."""

UNKNOWN = "Unknown action."
"""What its answer begins with where a numbered list was not answered with one of its numbers."""

LONGEST = 1000
"""Longest action that is passed on, in characters."""

PACKAGE_LIMIT = 100
"""Step limit of the package and of the ScienceWorld paper, for every task; the package counts moments of the
simulation by it (none for a look or an unread action, 11 for `wait`), and here it counts actions."""

ETO_LIMITS = {
    "boil": 100,
    "change-the-state-of-matter-of": 80,
    "freeze": 80,
    "melt": 80,
    "measure-melting-point-known-substance": 120,
    "use-thermometer": 30,
    "power-component": 20,
    "power-component-renewable-vs-nonrenewable-energy": 30,
    "test-conductivity": 30,
    "test-conductivity-of-unknown-substances": 30,
    "find-animal": 15,
    "find-living-thing": 15,
    "find-non-living-thing": 15,
    "find-plant": 15,
    "grow-fruit": 60,
    "grow-plant": 30,
    "chemistry-mix": 60,
    "chemistry-mix-paint-secondary-color": 15,
    "chemistry-mix-paint-tertiary-color": 30,
    "lifespan-longest-lived": 10,
    "lifespan-longest-lived-then-shortest-lived": 12,
    "lifespan-shortest-lived": 10,
    "identify-life-stages-1": 30,
    "identify-life-stages-2": 30,
}
"""Step limits of the ETO experiments, in actions (Song et al. 2024, arXiv:2403.02502; max_steps.json of their
code). Their episodes also ended once more than 200 moments of the simulation had passed; not so here."""

STEP_LIMITS: dict[str, dict[str, int]] = {"package": {}, "eto": ETO_LIMITS}
"""Each preset's limits by task; a task that is not named has the package's limit."""


class Variations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many variations of a task each split has; they are numbered on from train through dev to test."""

    task: str
    number: str
    """The task's number in the ScienceWorld paper."""
    train: int
    dev: int
    test: int

    def of(self, split: str) -> range:
        """The variations of a split."""
        start = {"train": 0, "dev": self.train, "test": self.train + self.dev}[split]
        return range(start, start + {"train": self.train, "dev": self.dev, "test": self.test}[split])


@functools.cache
def table() -> tuple[Variations, ...]:
    """The thirty tasks, in the order of the paper."""
    path = Path(__file__).with_name("tasks.json")
    return tuple(msgspec.json.decode(path.read_bytes(), type=list[Variations]))


class ScienceWorld(TextEnv):
    """Experiments of an elementary science course, in a simulated house (Wang et al. 2022, arXiv:2203.07540).

    Observation: the engine's answer; at first the task's description, an empty line, and the room.
    Actions: the engine's 25 templates, such as `open door to kitchen`, `pour cup in sink`, `focus on plant`.
    An ambiguous one is answered with a numbered list; the next action is then a number. `help`, `objects`
    and `task` are read, too, and cost a step. An action is invalid where the engine says that it knows none
    such, not where it fails in the simulation (opening what is open).
    Reward: the engine's score over 100, at the end; below 0 counts as 0.
    Termination: all of the task's sub-goals reached (success, score 100), or a focus on the wrong thing (the
    engine's score is then -100; here 0, and no success).
    Progress: the engine's score unrounded, which weighs the sub-goals; 0 after a wrong focus.
    Splits: train, dev, test: the package's own, 7,207 variations of 30 tasks. A task's digest covers the
    engine's file, the task's name and the variation; simplifications are an argument, recorded beside it.
    Source: https://github.com/allenai/ScienceWorld, release 1.2.3, Apache-2.0.
    Differences: the step limit counts actions, the package's moments of the simulation. `step_limits="eto"`
    does not apply ETO's second limit, of 200 moments. Things are listed in a fixed order, and live, grow and
    conduct in it, so the same actions give the same text in any process. The list of valid actions (300 to
    3,000 of them, 20 ms and more) is made only with `admissible=True`, and making it does not change the
    episode.
    """

    env_id = "prosegym/ScienceWorld-v1"
    instruction = (
        "You are in a simulated house with a workshop, kitchen, greenhouse and foundry, and have a task of "
        "elementary science to do. The task says which things to focus on: do so only with the right one, "
        "for a wrong focus ends the episode. Actions, OBJ being a thing as it is called in the text: "
        "look around, look at OBJ, look in OBJ, inventory, task, open OBJ, close OBJ, go OBJ (a room), "
        "pick up OBJ, put down OBJ, move OBJ to OBJ, pour OBJ in OBJ, dunk OBJ in OBJ, mix OBJ, "
        "focus on OBJ, activate OBJ, deactivate OBJ, use OBJ on OBJ, connect OBJ to OBJ, disconnect OBJ, "
        "read OBJ, eat OBJ, flush OBJ, wait (ten moments), wait1 (one). Where the answer is a numbered "
        "list, choose with the number alone."
    )
    splits = ("train", "dev", "test")
    experts = {"gold": True}
    extra = "scienceworld"
    official = True
    ceiling = 0.9  # some gold paths (boiling, genetics) are longer than the package's limit
    max_steps = PACKAGE_LIMIT
    refusal = UNREAD

    def __init__(
        self,
        *,
        simplifications: str = "",
        step_limits: str = "package",
        max_steps: int | None = None,
        admissible: bool = False,
        **base: Any,
    ) -> None:
        """Make the environment; Java starts at the first reset.

        Args:
            simplifications: some of `SIMPLIFICATIONS`, joined by commas; or `easy`; or none.
            step_limits: `package` (100 for every task) or `eto` (`ETO_LIMITS`).
            max_steps: one limit for all tasks, instead of `step_limits`.
            admissible: whether info lists the engine's valid actions; by default not, for the list costs
                twenty times what a step costs.
            base: the other arguments of every environment, see `TextEnv`.
        """
        super().__init__(max_steps=max_steps, admissible=admissible, **base)
        for label in simplifications.split(",") if simplifications not in ("", "easy") else ():
            if label == "easy":
                raise BadOption("the simplification 'easy' stands for several; give it alone, without others")
            if label not in SIMPLIFICATIONS:
                raise UnknownName("simplification", label, [*SIMPLIFICATIONS, "easy"])
        if step_limits not in STEP_LIMITS:
            raise UnknownName("step_limits", step_limits, STEP_LIMITS)
        self.simplifications = simplifications
        if simplifications == "easy" or "teleportAction" in simplifications:
            going = "go OBJ (a room), "
            self.instruction = self.instruction.replace(going, f"{going}teleport to OBJ (any room), ")
        if "noElectricalAction" in simplifications:  # under `easy` it depends on the task
            self.instruction = self.instruction.replace("connect OBJ to OBJ, disconnect OBJ, ", "")
        self._limits = None if max_steps is not None else STEP_LIMITS[step_limits]
        self._seat = Seat(self, ENGINE)
        self._gold_seat = Seat(self, GOLD_ENGINE)
        self._simulation: Simulation | None = None
        self._variation = ("", 0)
        self._taken: list[tuple[str, bool]] = []

    def tasks(self, split: str) -> Sequence[Task]:
        """The variations of a split: of the first task, of the second, and so on.

        With the simplification noElectricalAction the tasks that cannot be done with it are left out.
        """
        if split not in self.splits:
            raise UnknownName("split", split, self.splits)
        places = _places(split)
        if "noElectricalAction" in self.simplifications:
            places = tuple(place for place in places if place[0] not in ELECTRICAL)
        return Tasks(len(places), lambda i: _task(split, *places[i]))

    def task(self, task_id: str) -> Task:
        """The task of that id, whatever its split."""
        name = task_id.split("/")[1:2]
        if "noElectricalAction" in self.simplifications and ELECTRICAL.intersection(name):
            raise BadOption(
                f"task {task_id} cannot be done with the simplification noElectricalAction; use `easy`, "
                "which keeps the electrical actions where a task needs them, or play a panel without such "
                "tasks (`prosegym panel make --env-arg simplifications=noElectricalAction`)"
            )
        return super().task(task_id)

    def prepare(self, tasks: Sequence[Task]) -> None:
        """See that the engine is there: tasks are known without it."""
        ENGINE.check()

    def _begin(self, task: Task) -> Outcome:
        _, name, number = task.id.split("/")
        machine = self._seat.machine()
        if self._simulation is None or self._simulation.machine is not machine:
            self._simulation = Simulation(machine)
        if self._limits is not None:
            self.max_steps = self._limits.get(name, PACKAGE_LIMIT)
        self._variation = (name, int(number))
        self._taken = []
        description, answer = self._simulation.load(*self._variation, self.simplifications)
        return _outcome(answer)._replace(observation=f"{description}\n\n{answer.text}")

    def _play(self, action: str) -> Outcome:
        if len(action) > LONGEST:
            return self._last._replace(observation=UNREAD, invalid=True)
        answer = self._running().step(action)
        outcome = _outcome(answer)
        self._taken.append((action, outcome.invalid))
        return outcome

    def _running(self) -> Simulation:
        if self._simulation is None:
            raise EngineError("this episode's simulation is gone; reset starts another")
        return self._simulation

    def _admissible(self) -> list[str]:
        return self._running().valid_actions()

    def _expert(self, name: str) -> Expert:
        task, variation = self._variation
        rules = "+".join(sorted(self.simplifications.split(","))) or "none"
        path = kept(
            ["scienceworld", VERSION, rules, task, str(variation)],
            lambda: gold_path(self._gold_seat.machine(), task, variation, self.simplifications),
        )
        return GoldPath(path, self._taken)

    def close(self) -> None:
        """Let go of the engine; the last environment to do so ends its Java process."""
        super().close()
        self._simulation = None
        self._seat.give_up()
        self._gold_seat.give_up()


def _outcome(answer: Answer) -> Outcome:
    failed = answer.score < 0
    score = max(0, round(100 * answer.score)) / 100
    return Outcome(
        observation=answer.text,
        score=score,
        progress=min(1.0, max(0.0, answer.score)),
        success=answer.completed and score == 1.0,
        terminated=answer.completed or failed,
        invalid=answer.text.startswith((UNREAD, UNKNOWN)),
    )


@functools.cache
def _places(split: str) -> tuple[tuple[str, int], ...]:
    return tuple((row.task, variation) for row in table() for variation in row.of(split))


@functools.lru_cache(maxsize=16384)
def _task(split: str, name: str, variation: int) -> Task:
    sha256 = digest("ScienceWorld", JAR_SHA256, name, str(variation))
    return Task(f"{split}/{name}/{variation}", split, ScienceWorld.env_id, name, sha256)


make = Maker(ScienceWorld)
