"""From a `game.tw-pddl` file to a `Game`.

Such a file is JSON with the keys `pddl_domain`, `pddl_problem`, `grammar`, and, from 2020 on, `solvable`
and `walkthrough`. Domain and grammar are the same in every file of a release; what differs is the
problem (the initial facts and the goal) and one line of the grammar, the task.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import Any

import msgspec

from prosegym.envs.alfworld.game import (
    CLEANABLE,
    COOLABLE,
    HEATABLE,
    HOLDER,
    IS_CLEAN,
    IS_COOL,
    IS_HOT,
    IS_SLICED,
    IS_TOGGLED,
    PICKUPABLE,
    SLICEABLE,
    TOGGLEABLE,
    Game,
    Kind,
    Receptacle,
    Thing,
)
from prosegym.envs.errors import UNREADABLE, CorruptData

TRAITS = {
    "pickupable": PICKUPABLE,
    "cleanable": CLEANABLE,
    "heatable": HEATABLE,
    "coolable": COOLABLE,
    "toggleable": TOGGLEABLE,
    "sliceable": SLICEABLE,
    "isreceptacleobject": HOLDER,
    "isclean": IS_CLEAN,
    "ishot": IS_HOT,
    "iscool": IS_COOL,
    "istoggled": IS_TOGGLED,
    "issliced": IS_SLICED,
}
"""Facts about one object, and the bit each one sets."""

ARITY = dict.fromkeys(TRAITS, 1) | {
    "openable": 1,
    "opened": 1,
    "atlocation": 2,
    "receptacleatlocation": 2,
    "objectatlocation": 2,
    "receptacletype": 2,
    "objecttype": 2,
    "cancontain": 2,
    "inreceptacle": 2,
    "inreceptacleobject": 2,
}
"""Every predicate that an initial state may use, and how many arguments it has."""

_TREATED = (
    "(and (exists (?r - receptacle) (exists (?o - object) (and ({0}able ?o) (objecttype ?o *)"
    " (receptacletype ?r *) {1} (inreceptacle ?o ?r)))))"
)
GOALS: dict[Kind, str] = {
    "simple": "(and (exists (?r - receptacle) (exists (?o - object)"
    " (and (inreceptacle ?o ?r) (objecttype ?o *) (receptacletype ?r *)))))",
    "clean": _TREATED.format("clean", "(isclean ?o)"),
    "heat": _TREATED.format("heat", "(ishot ?o)"),
    "cool": _TREATED.format("cool", "(iscool ?o)"),
    "two": "(and (exists (?r - receptacle) (exists (?o1 - object)"
    " (and (objecttype ?o1 *) (receptacletype ?r *) (inreceptacle ?o1 ?r) (exists (?o2 - object)"
    " (and (not (= ?o1 ?o2)) (objecttype ?o2 *) (receptacletype ?r *) (inreceptacle ?o2 ?r)))))))",
    "light": "(and (exists (?ot - object ?r - receptacle ?a - agent ?l - location)"
    " (and (objecttype ?ot *) (toggleable ?ot) (istoggled ?ot) (receptacleatlocation ?r ?l)"
    " (atlocation ?a ?l) (inreceptacle ?ot ?r)))"
    " (exists (?o - object ?a - agent) (and (objecttype ?o *) (holds ?a ?o))))",
}

_TOKEN = re.compile(r"[()]|[^\s()]+")
_FACT = re.compile(r"\(([^\s()]+)((?:\s+[^\s()]+)*)\s*\)")
_TASK = re.compile(r'"Your task is to: ([^"\n]*)"')


def _shape(goal: str) -> str:
    return "".join(_TOKEN.findall(goal)).replace("?", " ?").replace("*", " *")


_KIND_OF_SHAPE: dict[str, Kind] = {_shape(goal): kind for kind, goal in GOALS.items()}


class UnknownGoal(CorruptData):
    """A goal that is none of the six task types (sliced objects, movable receptacles)."""


def parse(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object in a `game.tw-pddl` file; `where` is named in errors.

    Raises:
        CorruptData: it is none.
    """
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except UNREADABLE as error:
        raise CorruptData(f"{where}: not a game file: {error}") from error


def compile_game(data: dict[str, Any], where: str = "game") -> Game:
    """The game that a `game.tw-pddl` object describes; `where` is named in errors.

    Raises:
        UnknownGoal: its goal is none of the six task types.
        CorruptData: a key is missing, or a fact has a predicate or arguments that the rules do not know.
    """
    problem, grammar = data.get("pddl_problem"), data.get("grammar")
    if not isinstance(problem, str) or not isinstance(grammar, str):
        raise CorruptData(f"{where}: no pddl_problem or no grammar; is it a game.tw-pddl file?")
    task = _TASK.search(grammar)
    init, found, goal = problem.lower().partition("(:goal")
    init = init.partition("(:init")[2]
    if not task or not init or not found:
        raise CorruptData(f"{where}: no task line, no initial state, or no goal")
    return _build(task[1], _facts(init, where), *_goal(goal, where), where)


def _facts(init: str, where: str) -> dict[str, list[tuple[str, ...]]]:
    """The initial facts, by predicate, each list sorted."""
    facts: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for name, arguments in _FACT.findall(init):
        entities = tuple(arguments.split())
        if ARITY.get(name) != len(entities):
            if name in ARITY:
                raise CorruptData(f"{where}: fact ({name}{arguments}) has {len(entities)} arguments")
            raise CorruptData(f"{where}: unknown predicate {name!r} in the initial state")
        facts[name].add(entities)
    return defaultdict(list, {name: sorted(found) for name, found in facts.items()})


def _goal(goal: str, where: str) -> tuple[Kind, str, str]:
    """Kind, object type, and receptacle or lamp type of a goal."""
    types: dict[str, str] = {}

    def blank(match: re.Match[str]) -> str:
        types[match[2]] = match[3]
        return f"({match[1]} {match[2]} *)"

    goal = re.sub(r"\((objecttype|receptacletype)\s+(\?\w+)\s+([^\s()]+)\s*\)", blank, goal)
    tokens = _TOKEN.findall(goal)
    # Two brackets more close (:goal and (define.
    kind = _KIND_OF_SHAPE.get(_shape(" ".join(tokens[:-2])))
    if kind is None or tokens[-2:] != [")", ")"]:
        raise UnknownGoal(f"{where}: its goal is none of the six task types")
    if kind == "light":
        return kind, types["?o"], types["?ot"]
    if kind == "two" and types["?o1"] != types["?o2"]:
        raise UnknownGoal(f"{where}: its goal is none of the six task types")
    return kind, types["?o1" if kind == "two" else "?o"], types["?r"]


def names(entities: list[str]) -> dict[str, str]:
    """What each entity is called: the kind of thing, and a number.

    An id such as `drawer_bar__plus_02_dot_64_bar_...` is a drawer; ids are numbered within their kind from
    the last in alphabetical order, which is number 1, to the first. An id without `_bar_` keeps its own name,
    and a space after it.
    """
    kinds = {}
    for entity in entities:
        kind, bar, _ = entity.partition("_bar_")
        if bar:
            kinds[entity] = kind + "basin" if "basin" in entity else kind
    left = Counter(kinds.values())
    called = {}
    for entity in sorted(entities):
        if entity not in kinds:
            called[entity] = f"{entity} "
            continue
        called[entity] = f"{kinds[entity]} {left[kinds[entity]]}"
        left[kinds[entity]] -= 1
    return called


def _build(
    task: str,
    facts: dict[str, list[tuple[str, ...]]],
    kind: Kind,
    goal_object: str,
    goal_target: str,
    where: str,
) -> Game:
    if len(facts["atlocation"]) != 1:
        raise CorruptData(f"{where}: the player is at {len(facts['atlocation'])} places, not at one")
    start = facts["atlocation"][0][1]
    called = names(sorted({entity for found in facts.values() for fact in found for entity in fact}))
    place_of = {r: place for r, place in facts["receptacleatlocation"]}
    r_type = {r: kind for r, kind in facts["receptacletype"]}
    o_type = {o: kind for o, kind in facts["objecttype"]}
    receptacles = sorted({*place_of, *(r for _, r in facts["inreceptacle"])})
    contents, inside, places_of = defaultdict(list), defaultdict(list), defaultdict(list)
    for o, r in facts["inreceptacle"]:
        contents[r].append(o)
    for inner, outer in facts["inreceptacleobject"]:
        inside[outer].append(inner)
    for o, place in facts["objectatlocation"]:
        places_of[o].append(place)
    traits: Counter[str] = Counter()
    for name, bit in TRAITS.items():
        for (o,) in facts[name]:
            traits[o] += bit
    # Walls, windows, chairs: nothing that is not in or on something can be reached, but for slicing.
    objects = {o for o, _ in facts["inreceptacle"]} | {o for o in places_of if traits[o] & SLICEABLE}
    objects |= {inner for inner, outer in facts["inreceptacleobject"] if outer in objects}
    order = sorted(objects)
    number = {o: i for i, o in enumerate(order)}
    places = sorted({start, *place_of.values(), *(place for o in order for place in places_of[o])})
    place_number = {place: i for i, place in enumerate(places)}
    r_types = sorted({r_type[r] for r in receptacles if r in r_type})
    o_types = sorted({o_type[o] for o in order if o in o_type})
    fits = set(facts["cancontain"])
    openable, opened = set(facts["openable"]), set(facts["opened"])
    return Game(
        task=task,
        kind=kind,
        goal_object=goal_object,
        goal_target=goal_target,
        start=place_number[start],
        places=tuple(called[place] for place in places),
        receptacle_types=tuple(r_types),
        object_types=tuple(o_types),
        fits=tuple(tuple(i for i, o in enumerate(o_types) if (r, o) in fits) for r in r_types),
        receptacles=tuple(
            Receptacle(
                called[r],
                r_types.index(r_type[r]) if r in r_type else -1,
                place_number[place_of[r]] if r in place_of else -1,
                (r,) in openable,
                (r,) in opened,
                tuple(number[o] for o in contents[r]),
            )
            for r in receptacles
        ),
        objects=tuple(
            Thing(
                called[o],
                o_types.index(o_type[o]) if o in o_type else -1,
                traits[o],
                tuple(place_number[place] for place in places_of[o]),
                tuple(number[inner] for inner in inside[o]),
            )
            for o in order
        ),
    )
