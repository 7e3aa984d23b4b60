"""ScienceWorld simulations, many in one Java machine, each as if it were alone there.

The engine keeps four things for the whole machine: the random generator, the counter of object
identifiers, the list of simplifications in force, and the paths that its gold agent has found. The first
three are put back whenever another simulation has had its turn; the last is cleared before a gold path
is made, which happens on a machine apart.
"""

from __future__ import annotations

import importlib.util
import weakref
from pathlib import Path
from typing import Any, NamedTuple

from prosegym.envs.errors import EngineError, ProsegymError
from prosegym.envs.jvm import Engine, Machine, check_files

VERSION = "1.2.3"
"""The release of `scienceworld` whose tasks these are."""

JAR_SHA256 = "f4e1fdce0cdabe1bab7128a7e78ea820210d9db3c28d7272bcbbc3f3a1c5f0d7"
"""Digest of its engine: what a variation holds is a function of this file and the variation's number."""

FIRST_ACTION = "look around"
"""What the package's own `reset` does first; it takes no time in the simulation."""


def jar() -> Path:
    """The engine in the installed package.

    Raises:
        ProsegymError: the package is not installed, or is another release.
    """
    spec = importlib.util.find_spec("scienceworld")
    if spec is None or spec.origin is None:
        raise ProsegymError('scienceworld is not installed; run `pip install "prosegym[scienceworld]"`')
    path = Path(spec.origin).with_name("scienceworld.jar")
    check_files({path: JAR_SHA256}, f"scienceworld=={VERSION}")
    return path


ENGINE = Engine("ScienceWorld", jar)

GOLD_ENGINE = Engine("ScienceWorld's gold agent", jar, "1g")
"""A machine apart for gold paths: their search takes seconds and much memory."""


_SCRAMBLE = 0x5DEECE66D
"""What java.util.Random.setSeed combines its argument with, by exclusive or (its documentation says so)."""


class Answer(NamedTuple):
    """What the engine says after an action."""

    text: str
    score: float
    """Share of the task's sub-goals, as the engine weighs them, in [0, 1]; -1 after a wrong focus."""
    completed: bool


class Turn:
    """Whose turn it is on one machine, and the machine's state that goes with it."""

    def __init__(self, jvm: Any) -> None:
        """Find the machine's globals."""
        self._random = _singleton(jvm.scala.util, "Random$").self()
        self._seed = jvm.java.lang.Class.forName("java.util.Random").getDeclaredField("seed")
        self._seed.setAccessible(True)
        self.identifiers = _singleton(jvm.util, "UniqueIdentifier$")
        self.simplifier = _singleton(jvm.main.scala.scienceworld.runtime, "SimplifierProcessor$")
        self.paths = _singleton(jvm.scienceworld.goldagent, "PathFinder$").precomputedExhaustivePaths()
        self.owner: weakref.ref[Simulation] | None = None

    def random_state(self) -> int:
        """The state of the random generator."""
        return int(self._seed.get(self._random))

    def set_random_state(self, state: int) -> None:
        """Put the random generator into a state that `random_state` gave."""
        self._random.setSeed(state ^ _SCRAMBLE)

    def take(self, simulation: Simulation | None) -> None:
        """Put the machine's state aside for its owner and bring that of `simulation` back."""
        owner = self.owner() if self.owner is not None else None
        if simulation is not None and owner is simulation:
            return
        if owner is not None:
            labels = self.simplifier.getSimplificationsUsed().replace(", ", ",")
            owner.aside = self.random_state(), self.identifiers.count(), labels
        self.owner = None
        if simulation is not None:
            if simulation.aside is not None:
                state, count, labels = simulation.aside
                self.set_random_state(state)
                getattr(self.identifiers, "count_$eq")(count)
                self.simplifier.parseSimplificationStr(labels)
            self.owner = weakref.ref(simulation)


def _singleton(package: Any, name: str) -> Any:
    return getattr(getattr(package, name), "MODULE$")


_turns: weakref.WeakKeyDictionary[Machine, Turn] = weakref.WeakKeyDictionary()


def _turn(machine: Machine, jvm: Any) -> Turn:
    if machine not in _turns:
        _turns[machine] = Turn(jvm)
    return _turns[machine]


class Simulation:
    """One simulation on a machine."""

    def __init__(self, machine: Machine) -> None:
        """An empty one; `load` comes next."""
        self.machine = machine
        self.aside: tuple[int, int, str] | None = None
        self._server = machine.call(lambda jvm: jvm.scienceworld.runtime.pythonapi.PythonInterface())

    def load(self, task: str, variation: int, simplifications: str) -> tuple[str, Answer]:
        """Begin a task: its description, and the answer to the first look around.

        Raises:
            EngineError: the engine does not know it, or failed.
        """

        def do(jvm: Any) -> tuple[str, Answer]:
            turn = _turn(self.machine, jvm)
            turn.take(None)
            self.aside = None
            if error := self._server.load(task, variation, simplifications, False):
                raise EngineError(f"ScienceWorld cannot load {task} {variation}: {error}")
            turn.take(self)
            description = self._server.getTaskDescription()
            return description, self._step(FIRST_ACTION)

        return self.machine.call(do)

    def step(self, action: str) -> Answer:
        """Do one action."""

        def do(jvm: Any) -> Answer:
            _turn(self.machine, jvm).take(self)
            return self._step(action)

        return self.machine.call(do)

    def _step(self, action: str) -> Answer:
        text = self._server.step(action)
        score = self._server.getScore()
        # All sub-goals in order make 1; optional ones alone may add up to it, too.
        completed = score >= 1 and bool(self._server.getCompleted())
        if score < 0:
            # The engine answers -1 and "completed" to everything once its own code has failed.
            interface = self._server.agentInterface().get()
            if interface.isInErrorState():
                raise EngineError(f"ScienceWorld failed: {interface.getErrorStateMessage()}")
        return Answer(text, score, completed)

    def valid_actions(self) -> list[str]:
        """The engine's own list, sorted; making it draws random numbers, which are put back."""

        def do(jvm: Any) -> list[str]:
            turn = _turn(self.machine, jvm)
            turn.take(self)
            state = turn.random_state()
            text = jvm.java.lang.String.join("\n", self._server.getValidActionObjectCombinations())
            turn.set_random_state(state)
            return str(text).split("\n")

        return self.machine.call(do)


def gold_path(machine: Machine, task: str, variation: int, simplifications: str) -> list[str]:
    """The engine's own solution; takes from 0.1 to 10 s.

    Raises:
        EngineError: the engine found none.
    """

    def do(jvm: Any) -> list[str]:
        turn = _turn(machine, jvm)
        turn.take(None)
        turn.paths.clear()
        server = jvm.scienceworld.runtime.pythonapi.PythonInterface()
        server.load(task, variation, simplifications, True)
        path = str(jvm.java.lang.String.join("\n", server.getGoldActionSequence()))
        if not path or path.startswith("ERROR"):
            raise EngineError(f"ScienceWorld has no gold path for {task} {variation}")
        return path.split("\n")

    return machine.call(do)
