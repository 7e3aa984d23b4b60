"""Experts: one that sees everything and plans, one that searches like a player."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any

from prosegym.envs.alfworld.engine import APPLIANCES, Dialect, House
from prosegym.envs.alfworld.game import SENTENCES

# The privileged expert.

Move = tuple[str, int, int]
"""A deed of a plan: verb, object, receptacle; going there and opening it go without saying."""


class Planner:
    """Plays a shortest plan from whatever state the game is in. It reads the engine's state."""

    privileged = True

    def __init__(self, house: House) -> None:
        self._house = house

    def act(self, observation: str, info: Mapping[str, Any]) -> str | None:
        """The first action of a shortest plan; None where the task cannot be done any more, or is done."""
        commands = plan(self._house)
        return commands[0] if commands else None


def plan(house: House) -> list[str] | None:
    """A shortest sequence of commands that does the task, [] where it is done; None where there is none."""
    if house.won:
        return []
    best: list[str] | None = None
    for moves in _ways(house):
        commands = _commands(house, moves)
        if best is None or len(commands) < len(best):
            best = commands
    return best


def _commands(house: House, moves: Iterable[Move]) -> list[str]:
    """The commands that carry out the moves of a plan, in order."""
    board, place, opened = house.board, house.place, house.opened
    commands = []
    for verb, o, r in moves:
        thing, name = board.o_names[o], board.r_names[r]
        if board.places[r] != place:
            place = board.places[r]
            commands.append(f"go to {name}")
        if verb in ("take", "put") and board.openable >> r & 1 and not opened >> r & 1:
            opened |= 1 << r
            commands.append(f"open {name}")
        if verb == "take":
            commands.append(f"take {thing} from {name}")
        elif verb == "put":
            commands.append(
                f"move {thing} to {name}" if house.dialect == "move" else f"put {thing} in/on {name}"
            )
        elif verb == "use":
            commands.append(f"use {thing}")
        elif verb != "go":
            commands.append(f"{verb} {thing} with {name}")
    return commands


def _ways(house: House) -> Iterator[list[Move]]:
    """Ways to do the task, a shortest one among them.

    Each way is an order of deeds that every plan must contain: empty the hands (where something else is
    held), take, treat, put. Receptacles that no way can tell apart are tried once.
    """
    board, kind, held = house.board, house.board.kind, house.held
    goals = [o for o in range(len(board.o_names)) if board.goal_objects >> o & 1]
    sources = [
        (o, r)
        for r, contents in enumerate(house.contents)
        if board.places[r] >= 0
        for o in contents
        if board.goal_objects >> o & 1 and board.pickupable >> o & 1
    ]
    targets = [r for r in board.goal_receptacles if board.places[r] >= 0]
    appliances = [r for r, verb in enumerate(board.appliance) if verb == kind and board.places[r] >= 0]
    # Two receptacles are as good as each other if neither is where something else of the plan happens.
    special_receptacles = {r for _, r in sources}
    special = {house.place, *(board.places[r] for r in (*special_receptacles, *appliances))}

    def alike(candidates: list[int], also: Sequence[int] = ()) -> list[int]:
        """Of receptacles that no way can tell apart, the first."""
        chosen: dict[tuple[int, int, int], int] = {}
        for r in candidates:
            shut = board.openable >> r & 1 and not house.opened >> r & 1
            place = board.places[r] if board.places[r] in special else -1
            chosen.setdefault((place, shut, r if r in special_receptacles or r in also else -1), r)
        return list(chosen.values())

    emptied: list[list[Move]] = [[]]  # ways to have empty hands
    if held >= 0:
        room = [r for r, fits in enumerate(board.fits) if fits >> held & 1 and board.places[r] >= 0]
        emptied = [[("put", held, r)] for r in alike(room, targets)]
    takings: list[list[Move]] = [[*before, ("take", o, r)] for o, r in sources for before in emptied]
    if kind == "light":
        lamps = [
            (lamp, r)
            for r, contents in enumerate(house.contents)
            if board.places[r] >= 0
            for lamp in contents
            if board.lamps >> lamp & 1
        ]
        for lamp, at in lamps:
            last: Move = ("go" if house.lit >> lamp & 1 else "use", lamp, at)
            if held in goals:
                yield [last]
            yield from ([*moves, last] for moves in takings)
        return
    if kind == "two":
        for t in alike(targets):
            inside = [o for o in house.contents[t] if o in goals]
            outside = [(o, r) for o, r in sources if o not in inside]
            if held in goals:
                first: list[list[Move]] = [[("put", held, t)]]
            else:
                first = [[*moves, ("put", o, t)] for moves in takings if (o := moves[-1][1]) not in inside]
            for moves in first:
                if inside:
                    yield moves
                    continue
                yield from (
                    [*moves, ("take", o, r), ("put", o, t)] for o, r in outside if ("put", o, t) not in moves
                )
        return
    treated = house.hot if kind == "heat" else house.cold if kind == "cool" else house.clean
    for moves in [[], *takings] if held in goals else takings:
        o = moves[-1][1] if moves else held
        treatments: list[list[Move]] = [[]]
        if kind != "simple" and not treated >> o & 1:
            treatments = [[(kind, o, r)] for r in alike(appliances)]
        # Official games have objects in two receptacles at once: taken from one, they count in the other.
        counted = any(o in house.contents[t] and ("take", o, t) not in moves for t in targets)
        for treatment in treatments:
            if treatment and counted:
                yield [*moves, *treatment]
            for t in alike(targets):
                yield [*moves, *treatment, ("put", o, t)]


# The honest expert.

_TASKS = [
    (kind, re.compile(sentence.removesuffix(".").format(o=r"(?P<o>\S+)", t=r"(?P<t>\S+)")))
    for kind, sentences in SENTENCES.items()
    for sentence in sentences
]
_INTRO = re.compile(r"you see (.*)\.\n\nYour task is to: (.*?)\.?\s*$", re.S)
_CLOSED = re.compile(r"The ([^.]+) is closed\.$")
_CONTENTS = re.compile(r"(?:On the ([^.,]+), you see|The ([^.]+) is open\. In it, you see) (.*)\.$")
TREATED_BY = {verb: name.removesuffix("type") for name, verb in APPLIANCES.items()}
"""The kind of receptacle that each treatment takes."""


@dataclass(frozen=True)
class Chore:
    """What the first observation says: the task and the room's receptacles."""

    kind: str
    """simple, clean, heat, cool, two or light."""
    thing: str
    """Kind of the object that is asked for."""
    target: str
    """Kind of receptacle, or lamp, that it goes to."""
    receptacles: list[str]

    @cached_property
    def rates(self) -> dict[tuple[str, str], float]:
        """Objects of a kind in a receptacle of a kind, on average, in such a room."""
        return _rates(_room(self.receptacles))

    def promise(self, r: str) -> float:
        """How likely the object lies there, for the trouble of looking."""
        kind = kind_of(r)
        return self.rates.get((kind, self.thing), 0.0) / (1.0 + _often_closed(kind))


def read_chore(observation: str) -> Chore | None:
    """The chore that a first observation tells; None where it tells none."""
    if intro := _INTRO.search(observation):
        for kind, pattern in _TASKS:
            if match := pattern.fullmatch(intro[2]):
                return Chore(kind, match["o"], match["t"], _items(intro[1]))
    return None


def contents_shown(observation: str) -> tuple[str, list[str]] | None:
    """The receptacle whose contents an answer shows, and what lies in it."""
    seen = _CONTENTS.search(observation)
    return (seen[1] or seen[2], _items(seen[3])) if seen else None


class Searcher:
    """Does the task from what it was shown alone, as a player who knows households.

    It looks first where such a thing most often lies for the trouble of looking there, by the counts over
    ALFWorld's train games in `figures.json`; it remembers all it saw.
    """

    privileged = False

    def __init__(self, dialect: Dialect = "move", known: Mapping[str, Sequence[str]] | None = None) -> None:
        """A player of that dialect.

        Args:
            dialect: how commands are worded.
            known: what lies in which receptacle, from an earlier try (`notes.contents`).
        """
        self._dialect = dialect
        self._kind = ""
        self._here = ""
        self._held = ""
        self._treated = False
        self._last = ""
        self._contents = {r: list(things) for r, things in (known or {}).items()}
        """What lies in each receptacle that has been looked into."""
        self._closed: set[str] = set()
        self._refused: set[str] = set()
        """Actions that were tried and not possible."""
        self._receptacles: list[str] = []

    def act(self, observation: str, info: Mapping[str, Any]) -> str | None:
        """The next action; None where it is at its wits' end."""
        if not self._kind:
            if not self._read_task(observation):
                return None
        else:
            self._learn(observation)
        self._last = self._next() or ""
        return self._last or None

    def did(self, action: str) -> None:
        """Say that this was done in place of the action it chose."""
        self._last = action

    # What it is told.

    def _read_task(self, observation: str) -> bool:
        chore = read_chore(observation)
        if chore is None:
            return False
        self._kind, self._object, self._target = chore.kind, chore.thing, chore.target
        self._receptacles, self._rates = chore.receptacles, chore.rates
        return True

    def _learn(self, observation: str) -> None:
        verb, _, rest = self._last.partition(" ")
        if observation == "Nothing happens.":
            if verb == "go":  # it shares the place where we are
                self._here = rest.removeprefix("to ")
            self._refused.add(self._last)
            return
        if verb == "go":
            self._here = rest.removeprefix("to ")
        elif verb == "take":
            self._held, _, r = rest.partition(" from ")
            if self._held in self._contents.get(r, ()):
                self._contents[r].remove(self._held)
            self._treated = False
        elif verb in ("move", "put"):
            r = re.split(" to | in/on ", rest)[1]
            self._contents.setdefault(r, []).append(self._held)
            self._held = ""
        elif verb == "close":
            self._closed.add(rest)
        elif verb == self._kind:  # cleaned, heated or cooled, as the task asks
            self._treated = True
        if closed := _CLOSED.search(observation):
            self._closed.add(closed[1])
        elif seen := contents_shown(observation):
            name, things = seen
            self._closed.discard(name)
            self._contents[name] = things

    # What it does.

    def _next(self) -> str | None:
        if self._held and kind_of(self._held) != self._object:
            for r in (self._here, *self._contents):  # it was given something else to hold: away with it
                if action := self._at(r, self._put(r), inside=True):
                    return action
        elif self._held:
            if self._kind in TREATED_BY and not self._treated:
                for appliance in self._of_kind(TREATED_BY[self._kind]):
                    if action := self._at(appliance, f"{self._kind} {self._held} with {appliance}"):
                        return action
            elif self._kind == "light":
                for lamp, r in self._seen(self._target):
                    if action := self._at(r, f"use {lamp}"):
                        return action
            else:
                for r in sorted(self._of_kind(self._target), key=self._trouble):
                    if action := self._at(r, self._put(r), inside=True):
                        return action
        else:
            for thing, r in sorted(self._seen(self._object), key=lambda found: found[1] != self._here):
                if self._kind == "two" and r == self._best_target():
                    continue
                if action := self._at(r, f"take {thing} from {r}", inside=True):
                    return action
        return self._explore()

    def _put(self, r: str) -> str:
        """How the held thing is put there."""
        return f"move {self._held} to {r}" if self._dialect == "move" else f"put {self._held} in/on {r}"

    def _at(self, r: str, action: str, *, inside: bool = False) -> str | None:
        """The next action towards doing that one at a receptacle; None where it has been refused."""
        if action in self._refused:
            return None
        if self._here != r:
            return f"go to {r}"
        if inside and r in self._closed:
            return f"open {r}"
        return action

    def _of_kind(self, kind: str) -> list[str]:
        """Receptacles of a kind, that of the present place first."""
        found = [r for r in self._receptacles if kind_of(r) == kind]
        return sorted(found, key=lambda r: r != self._here)

    def _seen(self, kind: str) -> list[tuple[str, str]]:
        """(object, receptacle) for every object of a kind that has been seen."""
        return [
            (thing, r) for r, things in self._contents.items() for thing in things if kind_of(thing) == kind
        ]

    def _goal_objects(self, r: str) -> int:
        return sum(kind_of(thing) == self._object for thing in self._contents.get(r, ()))

    def _best_target(self) -> str:
        """The target that holds one of two objects already, if there is one."""
        targets = [r for r in self._of_kind(self._target) if self._goal_objects(r)]
        return max(targets, key=self._goal_objects, default="")

    def _trouble(self, r: str) -> tuple[int, int]:
        """Sorts targets: with one of two objects in it; then by how many actions it takes to use it."""
        actions = (r != self._here) + (
            r in self._closed or (r not in self._contents and _often_closed(kind_of(r)))
        )
        return -(self._kind == "two" and self._goal_objects(r)), actions

    def _explore(self) -> str | None:
        """Look into the most promising receptacle."""
        if self._here in self._closed and self._here not in self._contents:
            if (action := f"open {self._here}") not in self._refused:
                return action
        if self._last == f"go to {self._here}" and self._last in self._refused:
            return f"examine {self._here}"
        wanted = [self._object] if not self._held else []
        if self._kind == "light" and not self._seen(self._target):
            wanted.append(self._target)

        def promise(r: str) -> float:
            kind = kind_of(r)
            found = sum(self._rates.get((kind, thing), 0.0) for thing in wanted) + 1e-4
            if self._kind == "simple" and kind == self._target:
                found = 1e-6  # it would be done already
            return found / (1.0 + _often_closed(kind) - 0.5 * (r == self._here))

        unknown = [
            r for r in self._receptacles if r not in self._contents and f"open {r}" not in self._refused
        ]
        best = max(unknown, key=promise, default=None)
        if best is None:
            return None
        return f"go to {best}" if best != self._here else f"examine {best}"


def _items(text: str) -> list[str]:
    """The things that a listing names: "a cup 1, and a mug 2" -> ["cup 1", "mug 2"]."""
    if text == "nothing":
        return []
    return [item.removeprefix("and ").removeprefix("a ") for item in text.split(", ")]


def kind_of(name: str) -> str:
    """A name without its number."""
    return name.rpartition(" ")[0]


@lru_cache(maxsize=1)
def figures() -> dict[str, Any]:
    """Counts over ALFWorld's train games; see the file."""
    text = files("prosegym.envs.alfworld").joinpath("figures.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _room(receptacles: list[str]) -> str:
    """What sort of room has these receptacles."""
    kinds = {kind_of(r) for r in receptacles}
    for sign, room in (("fridge", "kitchen"), ("toilet", "bathroom"), ("bed", "bedroom")):
        if sign in kinds:
            return room
    return "living"


@lru_cache(maxsize=4)
def _rates(room: str) -> dict[tuple[str, str], float]:
    """How many objects of a kind lie in a receptacle of a kind, on average."""
    rates = {}
    for kind, counts in figures()["rooms"][room]["receptacles"].items():
        for thing, count in counts["objects"].items():
            rates[kind, thing] = count / counts["receptacles"]
    return rates


@lru_cache(maxsize=64)
def _often_closed(kind: str) -> bool:
    openable, open_ = figures()["openable"].get(kind, (0, 1))
    return bool(openable > open_)
