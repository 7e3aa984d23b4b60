"""ScienceWorld simulations, many in one Java machine, each as if it were alone there.

The engine keeps four things for the whole machine: the random generator, the counter of object
identifiers, the list of simplifications in force, and the paths that its gold agent has found. The first
three are put back whenever another simulation has had its turn; the last is cleared before a gold path
is made, which happens on a machine apart.

The engine makes the things of all tasks whenever it loads one. Here those of the one task are made, with the
identifiers and random numbers that they have there; what comes of it is the same.
"""

from __future__ import annotations

import importlib.util
import weakref
from pathlib import Path
from typing import Any, NamedTuple

from prosegym.envs.errors import EngineError, ProsegymError
from prosegym.envs.jvm import Engine, Machine, check_files
from prosegym.envs.scienceworld.classfile import with_hash_code

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


_MULTIPLIER, _INCREMENT, _MODULUS = 0x5DEECE66D, 0xB, 1 << 48
"""The linear congruential generator of java.util.Random; `setSeed` combines its argument with the multiplier,
by exclusive or (its documentation says both)."""

MAKING = {
    "change-the-state-of-matter-of": (0, 0),
    "melt": (8, 90),
    "boil": (16, 180),
    "freeze": (24, 270),
    "power-component": (32, 360),
    "power-component-renewable-vs-nonrenewable-energy": (32, 390),
    "test-conductivity": (32, 420),
    "test-conductivity-of-unknown-substances": (32, 576),
    "find-living-thing": (56, 696),
    "find-non-living-thing": (216, 1986),
    "find-plant": (376, 3276),
    "find-animal": (536, 4566),
    "grow-plant": (696, 5856),
    "grow-fruit": (696, 6657),
    "chemistry-mix": (696, 7458),
    "chemistry-mix-paint-secondary-color": (696, 7770),
    "chemistry-mix-paint-tertiary-color": (698, 7881),
    "lifespan-longest-lived": (700, 7992),
    "lifespan-shortest-lived": (700, 8037),
    "lifespan-longest-lived-then-shortest-lived": (700, 8082),
    "identify-life-stages-1": (700, 8127),
    "identify-life-stages-2": (700, 8757),
    "inclined-plane-friction-named-surfaces": (780, 11607),
    "inclined-plane-friction-unnamed-surfaces": (780, 11757),
    "inclined-plane-determine-angle": (780, 11817),
    "mendelian-genetics-known-plant": (780, 11877),
    "mendelian-genetics-unknown-plant": (920, 12237),
    "use-thermometer": (2000, 12837),
    "measure-melting-point-known-substance": (2720, 14010),
    "measure-melting-point-unknown-substance": (2745, 14313),
}
"""Random numbers drawn and identifiers given before the engine makes a task's things, in its order of tasks;
the same for every variation."""

MADE = 17196
"""Identifiers given when the things of all tasks have been made."""


def random_state(seed: int, draws: int) -> int:
    """State of a java.util.Random seeded with `seed` after `draws` steps of its generator."""
    state, multiplier, increment = seed ^ _MULTIPLIER, _MULTIPLIER, _INCREMENT
    while draws:
        if draws & 1:
            state = (state * multiplier + increment) % _MODULUS
        increment = (multiplier + 1) * increment % _MODULUS
        multiplier = multiplier * multiplier % _MODULUS
        draws >>= 1
    return state


class Answer(NamedTuple):
    """What the engine says after an action."""

    text: str
    score: float
    """Share of the task's sub-goals, as the engine weighs them, in [0, 1]; -1 after a wrong focus."""
    completed: bool


class Turn:
    """Whose turn it is on one machine, and the machine's state that goes with it."""

    def __init__(self, jvm: Any) -> None:
        """Find the machine's globals; to be done before the machine makes its first thing."""
        _hash_by_identifier(jvm)
        self.interface = jvm.scienceworld.runtime.pythonapi.PythonInterface
        self.maker = jvm.scienceworld.tasks.TaskMaker1()
        self._tasks = jvm.scienceworld.tasks.specifictasks
        self._environments = _singleton(jvm.scienceworld.environments, "EnvironmentMaker$")
        self._agent_interface = jvm.scienceworld.runtime.AgentInterface
        self._history = jvm.scienceworld.goldagent.RunHistory
        self._some = jvm.scala.Some
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
        self._random.setSeed(state ^ _MULTIPLIER)

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
                self._set_identifiers(count)
                self.simplifier.parseSimplificationStr(labels)
            self.owner = weakref.ref(simulation)

    def load(self, server: Any, task: str, variation: int, simplifications: str) -> None:
        """What PythonInterface.load does, but that the things of the other tasks are not made anew."""
        draws, identifiers = MAKING[task]
        self.set_random_state(random_state(variation, draws))
        self._set_identifiers(identifiers)
        former = self.maker.getTask(task).get()
        kind = getattr(self._tasks, former.getClass().getSimpleName())
        self.maker.addTask(kind(former.mode()))
        self._set_identifiers(MADE)
        world = self._environments.mkKitchenEnvironment(variation)
        universe, agent = world._1(), world._2()
        made = self.maker.doTaskSetup(task, variation, universe, agent)
        if made._1().isEmpty():
            raise EngineError(f"ScienceWorld cannot load {task} {variation}: {made._2()}")
        interface = self._agent_interface(universe, agent, made._1().get(), simplifications)
        history = self._history(task, 0, variation, interface.getTaskDescription(), simplifications, "")
        _assign(server, "agent", self._some(agent))
        _assign(server, "agentInterface", self._some(interface))
        _assign(server, "currentHistory", history)

    def _set_identifiers(self, count: int) -> None:
        _assign(self.identifiers, "count", count)


def _assign(instance: Any, name: str, value: Any) -> None:
    """Set a variable of a Scala object."""
    getattr(instance, f"{name}_$eq")(value)


def _hash_by_identifier(jvm: Any) -> None:
    """Replace the class of all things, which must not be in use yet, by one that hashes as it compares."""
    loader = jvm.java.lang.ClassLoader.getSystemClassLoader()
    content = loader.getResourceAsStream("scienceworld/struct/EnvObject.class").readAllBytes()
    neighbour = jvm.java.lang.Class.forName("scienceworld.struct.EnvObject$", False, loader)
    handles = jvm.java.lang.invoke.MethodHandles
    handles.privateLookupIn(neighbour, handles.lookup()).defineClass(with_hash_code(content, "uuid"))


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

        def do(jvm: Any) -> Any:
            turn = _turn(machine, jvm)
            turn.take(None)
            server = turn.interface()
            _assign(server, "taskMaker", turn.maker)
            return server

        self._server = machine.call(do)

    def load(self, task: str, variation: int, simplifications: str) -> tuple[str, Answer]:
        """Begin a task: its description, and the answer to the first look around.

        Raises:
            EngineError: the engine does not know it, or failed.
        """

        def do(jvm: Any) -> tuple[str, Answer]:
            turn = _turn(self.machine, jvm)
            turn.take(None)
            self.aside = None
            turn.load(self._server, task, variation, simplifications)
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
        server = turn.interface()
        server.load(task, variation, simplifications, True)
        path = str(jvm.java.lang.String.join("\n", server.getGoldActionSequence()))
        if not path or path.startswith("ERROR"):
            raise EngineError(f"ScienceWorld has no gold path for {task} {variation}")
        return path.split("\n")

    return machine.call(do)
