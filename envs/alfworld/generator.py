"""New households: rooms, furniture, objects and a chore, each a pure function of (split, index).

What stands in a room and what lies where is drawn from counts over ALFWorld's train games
(`figures.json`); which object goes where is drawn from all that those games allow, not only from the
combinations they have. Only `random.Random.random` is used: its sequence is the same in every Python.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import NamedTuple

from prosegym.envs.alfworld import game as g
from prosegym.envs.alfworld.experts import figures
from prosegym.envs.alfworld.game import Game, Kind, Receptacle, Thing

LEVELS = ("small", "standard", "large")
"""Difficulties: half the furniture and nothing hidden; as in ALFWorld; half as much again, and well hidden."""

SENTENCES: dict[Kind, tuple[str, str]] = {
    "simple": ("put a {o} in {t}.", "put some {o} on {t}."),
    "clean": ("put a clean {o} in {t}.", "clean some {o} and put it in {t}."),
    "heat": ("put a hot {o} in {t}.", "heat some {o} and put it in {t}."),
    "cool": ("put a cool {o} in {t}.", "cool some {o} and put it in {t}."),
    "two": ("put two {o} in {t}.", "find two {o} and put them in {t}."),
    "light": ("look at {o} under the {t}.", "examine the {o} with the {t}."),
}
"""How ALFWorld words each task."""

_TRAIT: dict[str, int] = {"clean": g.CLEANABLE, "heat": g.HEATABLE, "cool": g.COOLABLE}
_TREATED_IN = {"clean": "sinkbasin", "heat": "microwave", "cool": "fridge"}
_LAMPS = ("desklamp", "floorlamp")
# Running sums: how often the goal object is there 0, 1, 2, 3 and 4 times, in per cent.
_COPIES: dict[str, list[float]] = {"two": [0, 0, 46, 79, 100]}
_COPIES_OTHERWISE: list[float] = [0, 36, 65, 85, 100]
# How likely an object is in furniture that is openable to that degree, by level.
_HIDDEN: tuple[Callable[[float], float], ...] = (
    lambda openable: float(openable < 0.5),
    lambda openable: 1.0,
    lambda openable: 1.0 + 4.0 * openable,
)
_SHARING = ("cabinet", "drawer", "shelf", "stoveburner")  # kinds of which neighbours may share a place
_SHARE = 0.1
_ALREADY_COLD = 0.05  # share of the coolable things in a fridge that the game counts as cool


class _Furniture(NamedTuple):
    """One kind of receptacle in one kind of room."""

    kind: str
    counts: list[int]
    count_weights: list[float]
    """Running sums: how often a room has that many of them."""
    openable: float
    fills: list[float]
    """Running sums: how often one holds 0, 1, 2, ... things."""
    things: list[str]
    thing_weights: list[float]
    """Running sums: how often each kind of thing is in one."""
    rates: dict[str, float]
    """How many of each kind of thing are in one, on average."""


class _Room(NamedTuple):
    furniture: list[_Furniture]
    """In the order in which texts list them."""
    goals: dict[Kind, list[tuple[str, list[int]]]]
    """What each kind of task can be about: objects, and the furniture (by position) each can be put in."""


def _running(weights: Sequence[float]) -> list[float]:
    return list(accumulate(map(float, weights)))


@lru_cache(maxsize=1)
def _rooms() -> tuple[dict[str, _Room], list[tuple[str, Kind]], list[float]]:
    """Every kind of room; and the kinds of task in each, with running sums of how often."""
    known = figures()
    traits, fits = _traits(), _fits()
    rooms = {}
    for room, counted in known["rooms"].items():
        furniture = []
        # Ids of basins begin with `sink` and `bathtub`, and ids are what texts are sorted by.
        for kind in sorted(counted["receptacles"], key=lambda kind: kind.removesuffix("basin") + "_"):
            c = counted["receptacles"][kind]
            counts = {int(n): games for n, games in c["counts"].items()}
            counts[0] = counted["games"] - sum(counts.values())
            yes, no = known["openable"][kind]
            furniture.append(
                _Furniture(
                    kind,
                    list(counts),
                    _running(list(counts.values())),
                    yes / (yes + no),
                    _running(c["contents"]),
                    list(c["objects"]),
                    _running(list(c["objects"].values())),
                    {thing: n / c["receptacles"] for thing, n in c["objects"].items()},
                )
            )
        present = sorted({thing for f in furniture for thing in f.things})
        goals: dict[Kind, list[tuple[str, list[int]]]] = {}
        for task_kind in g.KINDS:
            needed = g.PICKUPABLE | _TRAIT.get(task_kind, 0)
            options = []
            for thing in present:
                if traits[thing] & needed != needed:
                    continue
                targets = [
                    i
                    for i, f in enumerate(furniture)
                    if thing in fits[f.kind] and f.kind != _TREATED_IN.get(task_kind)
                ]
                elsewhere = [f for f in furniture if thing in f.rates]
                if task_kind in ("simple", "two") and len(elsewhere) == 1:
                    targets = [i for i in targets if furniture[i] is not elsewhere[0]]
                if targets or task_kind == "light":
                    options.append((thing, targets))
            goals[task_kind] = options
        rooms[room] = _Room(furniture, goals)
    tasks: list[tuple[str, Kind]] = [(room, kind) for room, kind, _ in known["tasks"]]
    return rooms, tasks, _running([n for _, _, n in known["tasks"]])


def level_of(index: int) -> int:
    """Which of `LEVELS` a task is of; they take turns."""
    return index % len(LEVELS)


def generate(split: str, index: int) -> Game:
    """Game number `index` of a split: the same on every machine, and solvable."""
    rooms, tasks, task_weights = _rooms()
    draw = Random(f"household/{split}/{index}").random
    level = level_of(index)

    def pick(weights: list[float]) -> int:
        return bisect(weights, draw() * weights[-1])

    room_name, kind = tasks[pick(task_weights)]
    room = rooms[room_name]
    furniture = room.furniture
    counts = [f.counts[pick(f.count_weights)] for f in furniture]
    if level == 0:
        counts = [(n + 1) // 2 for n in counts]
    elif level == 2:
        counts = [n + n // 2 for n in counts]

    # The chore: an object, and where it goes or the lamp it is looked at under.
    options = room.goals[kind]
    thing, targets = options[int(draw() * len(options))]
    lamp, lamp_home, target = "", -1, -1
    if kind == "light":
        homes = [
            (name, i, f.rates[name]) for i, f in enumerate(furniture) for name in _LAMPS if name in f.rates
        ]
        lamp, lamp_home, _ = homes[pick(_running([rate for _, _, rate in homes]))]
        counts[lamp_home] = max(counts[lamp_home], 1)
    else:
        there = [i for i in targets if counts[i]] or targets
        target = there[int(draw() * len(there))]
        counts[target] = max(counts[target], 1)
    goal_target = lamp or furniture[target].kind

    # Where the object of the chore is likely to be: not where the chore would be done already.
    likely = [
        f.rates.get(thing, 0.0) if not (i == target and kind in ("simple", "two")) else 0.0
        for i, f in enumerate(furniture)
    ]
    weights = [counts[i] * likely[i] * _HIDDEN[level](f.openable) for i, f in enumerate(furniture)]
    if not any(weights):  # nothing of the kind is in this room: it gets one
        weights = [rate * (counts[i] or 1) for i, rate in enumerate(likely)]
    sources = _running(weights)
    homes_of_thing = [pick(sources) for _ in range(pick(_COPIES.get(kind, _COPIES_OTHERWISE)))]
    for i in homes_of_thing:
        counts[i] = max(counts[i], 1)

    # The furniture, and what lies about.
    stands: list[tuple[str, int, int, bool]] = []  # name, kind of furniture, place, openable
    lies: list[tuple[str, float, int]] = []  # kind of thing, a number to shuffle by, where
    first = []  # of each kind of furniture, the first one
    place = 0  # 0 is where the player begins
    for i, f in enumerate(furniture):
        first.append(len(stands))
        for number in range(counts[i], 0, -1):
            if number == counts[i] or f.kind not in _SHARING or draw() >= _SHARE:
                place += 1
            for _ in range(pick(f.fills)):
                found = f.things[pick(f.thing_weights)]
                if found != thing and found != lamp:
                    lies.append((found, draw(), len(stands)))
            openable = f.openable == 1.0 or (f.openable > 0.0 and draw() < f.openable)
            stands.append((f"{f.kind} {number}", i, place, openable))
    for i in homes_of_thing:
        lies.append((thing, draw(), first[i] + int(draw() * counts[i])))
    if lamp:
        lies.append((lamp, draw(), first[lamp_home] + int(draw() * counts[lamp_home])))
    lies.sort()

    return _game(
        sentence=SENTENCES[kind][draw() < 0.5].format(o=thing, t=goal_target),
        kind=kind,
        goal=(thing, goal_target),
        places=place + 1,
        furniture=furniture,
        stands=stands,
        lies=[(name, at, draw() < _ALREADY_COLD) for name, _, at in lies],
    )


def _game(
    sentence: str,
    kind: Kind,
    goal: tuple[str, str],
    places: int,
    furniture: list[_Furniture],
    stands: list[tuple[str, int, int, bool]],
    lies: list[tuple[str, int, bool]],
) -> Game:
    """Number everything and put it together."""
    traits, fits = _traits(), _fits()
    kinds = sorted({furniture[i].kind for _, i, _, _ in stands})
    things = sorted({name for name, _, _ in lies})
    kind_number = {name: n for n, name in enumerate(kinds)}
    thing_number = {name: n for n, name in enumerate(things)}
    contents: list[list[int]] = [[] for _ in stands]
    left = Counter([name for name, _, _ in lies])
    objects = []
    for name, at, cold in lies:
        contents[at].append(len(objects))
        trait = traits[name]
        if cold and trait & g.COOLABLE and furniture[stands[at][1]].kind == "fridge":
            trait |= g.IS_COOL
        objects.append(Thing(f"{name} {left[name]}", thing_number[name], trait, (stands[at][2],), ()))
        left[name] -= 1
    return Game(
        task=sentence,
        kind=kind,
        goal_object=f"{goal[0]}type",
        goal_target=f"{goal[1]}type",
        start=0,
        places=tuple([f"loc {places - i}" for i in range(places)]),
        receptacle_types=tuple([f"{name}type" for name in kinds]),
        object_types=tuple([f"{name}type" for name in things]),
        fits=tuple(
            [
                tuple([n for n, name in enumerate(things) if name in fits[furniture_kind]])
                for furniture_kind in kinds
            ]
        ),
        receptacles=tuple(
            [
                Receptacle(name, kind_number[furniture[i].kind], place, openable, False, tuple(inside))
                for (name, i, place, openable), inside in zip(stands, contents, strict=True)
            ]
        ),
        objects=tuple(objects),
    )


@lru_cache(maxsize=1)
def _traits() -> dict[str, int]:
    return dict(figures()["traits"])


@lru_cache(maxsize=1)
def _fits() -> dict[str, frozenset[str]]:
    return {kind: frozenset(things) for kind, things in figures()["fits"].items()}
