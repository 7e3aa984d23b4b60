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
from prosegym.envs.alfworld.experts import TREATED_BY, figures
from prosegym.envs.alfworld.game import Game, Kind, Receptacle, Thing

LEVELS = ("small", "standard", "large")
"""Half the furniture and nothing hidden; as in ALFWorld; half as much again, and more of it hidden."""

_TRAIT: dict[str, int] = {"clean": g.CLEANABLE, "heat": g.HEATABLE, "cool": g.COOLABLE}
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
    names: list[str]
    """What the first, second, ... of them is called."""
    counts: list[int]
    count_weights: list[float]
    """Running sums: how often a room has that many of them."""
    openable: float
    fills: list[float]
    """Running sums: how often one holds 0, 1, 2, ... things."""
    things: list[int]
    """Kinds of things (by position in `_things`) that are found in it."""
    thing_weights: list[float]
    """Running sums: how often each of them is."""
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
    things, number, fits = _things(), _numbers(), _fits()
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
                    [f"{kind} {n}" for n in range(1, 100)],
                    list(counts),
                    _running(list(counts.values())),
                    yes / (yes + no),
                    _running(c["contents"]),
                    [number[thing] for thing in c["objects"]],
                    _running(list(c["objects"].values())),
                    {thing: n / c["receptacles"] for thing, n in c["objects"].items()},
                )
            )
        present = sorted({thing for f in furniture for thing in f.rates})
        goals: dict[Kind, list[tuple[str, list[int]]]] = {}
        for task_kind in g.KINDS:
            needed = g.PICKUPABLE | _TRAIT.get(task_kind, 0)
            options = []
            for thing in present:
                if things[number[thing]].traits & needed != needed:
                    continue
                targets = [
                    i
                    for i, f in enumerate(furniture)
                    if number[thing] in fits[f.kind] and f.kind != TREATED_BY.get(task_kind)
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
    room_name, kind = tasks[_pick(draw, task_weights)]
    room = rooms[room_name]
    counts = [f.counts[_pick(draw, f.count_weights)] for f in room.furniture]
    if level == 0:
        counts = [(n + 1) // 2 for n in counts]
    elif level == 2:
        counts = [n + n // 2 for n in counts]
    chore = _chore(draw, room, kind, level, counts)
    stands, lies = _furnish(draw, room.furniture, counts, chore.homes)
    return _put_together(draw, kind, chore, stands, lies)


_Draw = Callable[[], float]


def _pick(draw: _Draw, weights: list[float]) -> int:
    """A place in the running sums, drawn."""
    return bisect(weights, draw() * weights[-1])


class _Chore(NamedTuple):
    thing: str
    target: str
    """The kind of furniture it goes to, or of lamp it is looked at under."""
    homes: list[tuple[int, int]]
    """Where the things of the chore lie: (kind of thing, furniture by position) of each."""


def _chore(draw: _Draw, room: _Room, kind: Kind, level: int, counts: list[int]) -> _Chore:
    """An object, where it is, and where it goes; what furniture that takes is added to `counts`."""
    furniture, number = room.furniture, _numbers()
    options = room.goals[kind]
    thing, targets = options[int(draw() * len(options))]
    lamps, target = [], -1
    if kind == "light":
        places = [
            (name, i, f.rates[name]) for i, f in enumerate(furniture) for name in _LAMPS if name in f.rates
        ]
        goal_target, i, _ = places[_pick(draw, _running([rate for _, _, rate in places]))]
        lamps = [(number[goal_target], i)]
        counts[i] = max(counts[i], 1)
    else:
        there = [i for i in targets if counts[i]] or targets
        target = there[int(draw() * len(there))]
        goal_target = furniture[target].kind
        counts[target] = max(counts[target], 1)

    # Where the object of the chore is likely to be: not where the chore would be done already.
    likely = [
        f.rates.get(thing, 0.0) if not (i == target and kind in ("simple", "two")) else 0.0
        for i, f in enumerate(furniture)
    ]
    weights = [counts[i] * likely[i] * _HIDDEN[level](f.openable) for i, f in enumerate(furniture)]
    if not any(weights):  # nothing of the kind is in this room: it gets one
        weights = [rate * (counts[i] or 1) for i, rate in enumerate(likely)]
    sources = _running(weights)
    copies = _pick(draw, _COPIES.get(kind, _COPIES_OTHERWISE))
    homes = [(number[thing], _pick(draw, sources)) for _ in range(copies)]
    for _, i in homes:
        counts[i] = max(counts[i], 1)
    return _Chore(thing, goal_target, homes + lamps)


_Standing = tuple[str, _Furniture, int, bool]
"""One piece of furniture: name, sort, place, openable."""


def _furnish(
    draw: _Draw, furniture: list[_Furniture], counts: list[int], homes: list[tuple[int, int]]
) -> tuple[list[_Standing], list[tuple[float, int]]]:
    """The furniture, and what lies where.

    That is, for each thing: its kind plus a fraction, by which things of one kind are shuffled; and the
    position of the furniture that holds it.
    """
    chosen = {kind for kind, _ in homes}
    stands: list[_Standing] = []
    lies: list[tuple[float, int]] = []
    first = []  # of each sort of furniture, the first one
    place = 0  # 0 is where the player begins
    for f, count in zip(furniture, counts, strict=True):
        at = len(stands)
        first.append(at)
        shares = f.kind in _SHARING
        sometimes = 0.0 < f.openable < 1.0
        openable = f.openable == 1.0
        for n in range(count - 1, -1, -1):
            if not shares or n == count - 1 or draw() >= _SHARE:
                place += 1
            for _ in range(bisect(f.fills, draw() * f.fills[-1])):
                found = f.things[bisect(f.thing_weights, draw() * f.thing_weights[-1])]
                if found not in chosen:
                    lies.append((found + draw(), at))
            if sometimes:
                openable = draw() < f.openable
            stands.append((f.names[n], f, place, openable))
            at += 1
    for kind, i in homes:
        lies.append((kind + draw(), first[i] + int(draw() * counts[i])))
    lies.sort()
    return stands, lies


def _put_together(
    draw: _Draw, kind: Kind, chore: _Chore, stands: list[_Standing], lies: list[tuple[float, int]]
) -> Game:
    """Number everything, and make it a game."""
    things = _things()
    present = sorted({int(key) for key, _ in lies}, key=lambda n: things[n].type)
    kinds = sorted({f.kind for _, f, _, _ in stands}, key=lambda kind: f"{kind}type")
    thing_number = {name: n for n, name in enumerate(present)}
    kind_number = {name: n for n, name in enumerate(kinds)}
    contents: list[list[int]] = [[] for _ in stands]
    left = Counter([int(key) for key, _ in lies])
    objects = []
    for n, (key, at) in enumerate(lies):
        name = int(key)
        contents[at].append(n)
        sort = things[name]
        trait = sort.traits
        _, f, where, _ = stands[at]
        if f.kind == "fridge" and trait & g.COOLABLE and draw() < _ALREADY_COLD:
            trait |= g.IS_COOL
        copy = left[name]
        left[name] = copy - 1
        objects.append(Thing(sort.names[copy - 1], thing_number[name], trait, (where,), ()))
    return Game(
        task=g.SENTENCES[kind][draw() < 0.5].format(o=chore.thing, t=chore.target),
        kind=kind,
        goal_object=f"{chore.thing}type",
        goal_target=f"{chore.target}type",
        start=0,
        places=tuple(_places()[-stands[-1][2] - 1 :]),
        receptacle_types=tuple([f"{name}type" for name in kinds]),
        object_types=tuple([things[name].type for name in present]),
        fits=tuple(
            [
                tuple([n for n, name in enumerate(present) if name in taken])
                for taken in map(_fits().__getitem__, kinds)
            ]
        ),
        receptacles=tuple(
            [
                Receptacle(name, kind_number[f.kind], where, openable, False, tuple(inside))
                for (name, f, where, openable), inside in zip(stands, contents, strict=True)
            ]
        ),
        objects=tuple(objects),
    )


class _Sort(NamedTuple):
    """A kind of thing."""

    name: str
    type: str
    traits: int
    names: list[str]
    """What the first, second, ... of them is called."""


@lru_cache(maxsize=1)
def _things() -> list[_Sort]:
    """Every kind of thing, by name."""
    return [
        _Sort(name, f"{name}type", traits, [f"{name} {n}" for n in range(1, 200)])
        for name, traits in sorted(figures()["traits"].items())
    ]


@lru_cache(maxsize=1)
def _numbers() -> dict[str, int]:
    """The position of each kind of thing in `_things`."""
    return {sort.name: n for n, sort in enumerate(_things())}


@lru_cache(maxsize=1)
def _fits() -> dict[str, frozenset[int]]:
    """Which kinds of things each kind of receptacle takes."""
    number = _numbers()
    return {
        kind: frozenset(number[thing] for thing in taken if thing in number)
        for kind, taken in figures()["fits"].items()
    }


@lru_cache(maxsize=1)
def _places() -> list[str]:
    """Names of places, the last one being number 1."""
    return [f"loc {n}" for n in range(500, 0, -1)]
