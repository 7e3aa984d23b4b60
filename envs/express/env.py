"""The TextWorld-Express environments, one per game."""

from __future__ import annotations

import functools
import importlib.util
import re
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from prosegym.envs.core import Expert, Outcome, Task, Tasks, TextEnv, digest
from prosegym.envs.errors import BadOption, EngineError, ProsegymError, UnknownName
from prosegym.envs.gold import GoldPath, kept
from prosegym.envs.jvm import Engine, Machine, Seat, check_files
from prosegym.envs.rewards import Maker

EXTRA_MODULE = "textworld_express"

VERSION = "1.1.0"
"""The release of `textworld-express` whose games these are."""

FILES = {
    "textworld-express.jar": "23da9ab053dde2de003b4556a2734af3225dc3a0ef8af7354df53aafb5c77d99",
    "cooking_world.json": "ecef2d85523c9801d00ddb35c77b8f56e0f9f4ef37c022e8431102c0b49522fd",
    "twc_objects.folds.json": "261888d423668bdfcd81c49bba51d9f84b1d55c9aa12e1ca16fa6a7cf2469729",
}
"""Digests of what the games are made from: a game is a function of these, its seed and its parameters."""

SEEDS = {"train": 0, "dev": 10000, "test": 20000}
"""First of the thousand seeds of each of the package's folds."""

UNREAD = "Unknown action: I'm not sure what you mean."
"""The engine's answer to what is not among its valid actions."""


SHARING = frozenset({"arithmetic", "sorting"})
"""Games whose things the engine makes once per problem, and all games of that problem share: after another
game has had its turn, such a game is generated again and the episode's actions are replayed."""


def jar() -> Path:
    """The engine in the installed package.

    Raises:
        ProsegymError: the package is not installed, or is another release.
    """
    spec = importlib.util.find_spec("textworld_express")
    if spec is None or spec.origin is None:
        raise ProsegymError('textworld-express is not installed; run `pip install "prosegym[express]"`')
    folder = Path(spec.origin).parent
    check_files({folder / name: sha256 for name, sha256 in FILES.items()}, f"textworld-express=={VERSION}")
    return folder / "textworld-express.jar"


ENGINE = Engine("TextWorld-Express", jar)


class Step(msgspec.Struct, frozen=True):
    """What the engine answers, in the names of its JSON."""

    observation: str
    validActions: list[str]
    score: float
    tasksuccess: bool
    taskfailure: bool


_turns: weakref.WeakKeyDictionary[Machine, weakref.ref[TextWorldExpress]] = weakref.WeakKeyDictionary()
"""Whose game was the last one on each machine."""

_decoder = msgspec.json.Decoder(Step)


class TextWorldExpress(TextEnv):
    """A game of TextWorld-Express (Jansen & Cote 2023, arXiv:2208.01174).

    Observation: the engine's answer; at first the task's description, an empty line, and the first view.
    Actions: those that the engine lists as valid in the present state, in its order, and `help`, which
    repeats the task's description; any other is invalid.
    Reward: the engine's score, at the end; below 0 counts as 0.
    Progress: the score of the moment.
    Termination: the game is won, or lost.
    Splits: train, dev, test: the package's folds, 1,000 seeds each. A task's digest covers the engine's
    files, the game, the parameters and the seed.
    Source: https://github.com/cognitiveailab/TextWorldExpress, release 1.1.0, Apache-2.0.
    Differences: the task's description is part of the first observation. In Coin and TWC the
    engine draws the gold path unseeded, so it differs from machine to machine; the games do not.
    """

    game: ClassVar[str]
    splits = ("train", "dev", "test")
    experts = {"gold": True}
    extra = "express"
    official = True
    max_steps = 100
    refusal = UNREAD

    def __init__(self, *, params: str = "", **base: Any) -> None:
        """Make the environment; Java starts at the first reset.

        Args:
            params: the game's parameters in the package's form, such as `numLocations=5,includeDoors=0`;
                "" for its defaults.
            base: the arguments of every environment, see `TextEnv`.
        """
        super().__init__(**base)
        # The engine takes a number beyond Java's int for no error, and makes no game.
        if params and not re.fullmatch(r"\w+=\d{1,9}(,\w+=\d{1,9})*", params, re.ASCII):
            raise BadOption(
                f"params is {params!r}; write name=number pairs, such as numLocations=5,includeDoors=0"
            )
        self.params = params
        self._seat = Seat(self, ENGINE)
        self._machine: Machine | None = None
        self._server: Any = None
        self._place = (0, "train")
        self._step = Step("", [], 0.0, False, False)
        self._description = ""
        self._taken: list[tuple[str, bool]] = []

    def tasks(self, split: str) -> Sequence[Task]:
        """The games of a split, by seed."""
        if split not in self.splits:
            raise UnknownName("split", split, self.splits)
        return Tasks(1000, lambda i: _task(self.env_id, self.game, self.params, split, SEEDS[split] + i))

    def prepare(self, tasks: Sequence[Task]) -> None:
        """See that the engine is there: tasks are known without it."""
        ENGINE.check()

    def _begin(self, task: Task) -> Outcome:
        machine = self._seat.machine()
        if self._machine is not machine:
            self._server = None
            self._server = machine.call(lambda jvm: _loaded(jvm, self.game, self.params))
            self._machine = machine
        self._place = _place(task)
        self._taken = []
        self._description, answer = machine.call(lambda jvm: self._generate())
        outcome = self._outcome(answer)
        return outcome._replace(observation=f"{self._description}\n\n{outcome.observation}")

    def _generate(self) -> tuple[str, str]:
        assert self._machine is not None
        _turns[self._machine] = weakref.ref(self)
        answer = self._server.generateNewGameJSON(*self._place, False)
        return self._server.getTaskDescription(), answer

    def _play(self, action: str) -> Outcome:
        if action == "help":  # answered by the package, not by the engine
            return self._last._replace(observation=self._description, invalid=False)
        action = action.strip(" \t\n\r")  # as Java trims: no other space
        invalid = action not in self._step.validActions
        if invalid:
            outcome = self._last._replace(observation=UNREAD, invalid=True)
        elif self._machine is None:
            raise EngineError("this episode's game is gone; reset starts another")
        else:
            outcome = self._outcome(self._machine.call(lambda jvm: self._answer_to(action)))
        self._taken.append((action, invalid))
        return outcome

    def _answer_to(self, action: str) -> str:
        assert self._machine is not None
        owner = _turns.get(self._machine)
        if self.game in SHARING and (owner is None or owner() is not self):
            self._generate()
            for taken, invalid in self._taken:
                if not invalid:
                    self._server.stepJSON(taken)
        return str(self._server.stepJSON(action))

    def _outcome(self, answer: str) -> Outcome:
        try:
            step = self._step = _decoder.decode(answer)
        except msgspec.DecodeError as error:
            raise EngineError(f"TextWorld-Express answered what is no step: {error}") from error
        score = min(1.0, max(0.0, step.score))
        success = step.tasksuccess and score == 1.0
        ended = step.tasksuccess or step.taskfailure
        return Outcome(step.observation, score, score, success, ended)

    def _admissible(self) -> list[str]:
        return list(self._step.validActions)

    def _expert(self, name: str) -> Expert:
        seed, fold = self._place
        path = kept(
            ["textworld-express", VERSION, self.game, self.params or "default", f"{fold}-{seed}"],
            lambda: gold_path(self._seat.machine(), self.game, self.params, seed, fold),
        )
        return GoldPath(path, self._taken)

    def close(self) -> None:
        """Let go of the engine; the last environment to do so ends its Java process."""
        super().close()
        self._machine = self._server = None
        self._seat.give_up()


def gold_path(machine: Machine, game: str, params: str, seed: int, fold: str) -> list[str]:
    """The engine's own solution.

    Raises:
        EngineError: the engine found none.
    """

    def do(jvm: Any) -> list[str]:
        _turns.pop(machine, None)
        server = _loaded(jvm, game, params)
        server.generateNewGameJSON(seed, fold, True)
        path = str(jvm.java.lang.String.join("\n", server.getGoldActionSequence()))
        if not path:
            raise EngineError(f"TextWorld-Express has no gold path for {game} {seed}")
        return path.split("\n")

    return machine.call(do)


def _loaded(jvm: Any, game: str, params: str) -> Any:
    server = jvm.textworldexpress.runtime.PythonInterface()
    if error := server.load(game, params):
        raise BadOption(f"params {params!r} are not of {game}: {error}")
    return server


def _place(task: Task) -> tuple[int, str]:
    split, seed = task.id.split("/")
    return int(seed), split


@functools.lru_cache(maxsize=32768)
def _task(env_id: str, game: str, params: str, split: str, seed: int) -> Task:
    sha256 = digest("TextWorldExpress", *FILES.values(), game, params, split, str(seed))
    return Task(f"{split}/{seed}", split, env_id, game, sha256)


_HOUSE = "Actions: look around, inventory, move DIRECTION, open/close THING, take THING, put THING in PLACE"


class CookingWorld(TextWorldExpress):
    """Cook a meal by a recipe."""

    env_id = "prosegym/TextWorldExpress-CookingWorld-v1"
    game = "cookingworld"
    ceiling = 0.98  # a few gold paths (3 of the test panel's 200) are longer than the limit
    instruction = (
        "You are in a house and are to cook a meal by the recipe in the kitchen's cookbook, then to eat it. "
        f"{_HOUSE}, read cookbook, cook THING in DEVICE, slice/dice/chop THING, prepare meal, eat meal."
    )


class TWC(TextWorldExpress):
    """Put misplaced things where they belong."""

    env_id = "prosegym/TextWorldExpress-TWC-v1"
    game = "twc"
    instruction = f"You are in a house and are to put the things that lie about where they belong. {_HOUSE}."


class Coin(TextWorldExpress):
    """Find a coin."""

    env_id = "prosegym/TextWorldExpress-Coin-v1"
    game = "coin"
    instruction = f"You are in a house and are to find a coin and take it. {_HOUSE}."


class MapReader(TextWorldExpress):
    """Fetch a coin with the help of a map."""

    env_id = "prosegym/TextWorldExpress-MapReader-v1"
    game = "mapreader"
    instruction = (
        "You are to fetch a coin from a place and to put it into a box; a map helps. "
        f"{_HOUSE}, read map, task."
    )


class Arithmetic(TextWorldExpress):
    """Solve a written sum and act on the result."""

    env_id = "prosegym/TextWorldExpress-Arithmetic-v1"
    game = "arithmetic"
    instruction = (
        "You are to solve a written problem and to put the thing of that quantity, no other, into the box. "
        f"{_HOUSE}, read math problem."
    )


class Sorting(TextWorldExpress):
    """Sort things by quantity, units included."""

    env_id = "prosegym/TextWorldExpress-Sorting-v1"
    game = "sorting"
    instruction = f"You are to put the things into the box by quantity, the smallest first. {_HOUSE}."


class SimonSays(TextWorldExpress):
    """Do as told, step by step."""

    env_id = "prosegym/TextWorldExpress-SimonSays-v1"
    game = "simonsays"
    instruction = "Do exactly what Simon says, one action at a time; any other action loses the game."


class PeckingOrder(TextWorldExpress):
    """Follow instructions that change as they are followed."""

    env_id = "prosegym/TextWorldExpress-PeckingOrder-v1"
    game = "peckingorder"
    instruction = (
        "Read the book of instructions and take the thing that it names; read it again, and so on. "
        "Actions: look around, inventory, read instructions book, take THING."
    )


cooking_world = Maker(CookingWorld)
twc = Maker(TWC)
coin = Maker(Coin)
map_reader = Maker(MapReader)
arithmetic = Maker(Arithmetic)
sorting = Maker(Sorting)
simon_says = Maker(SimonSays)
pecking_order = Maker(PeckingOrder)
