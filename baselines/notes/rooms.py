"""TextWorld's houses and kitchens: rooms and exits, and of a recipe what it asks and what I did."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import NamedTuple

from prosegym.baselines.notes.episode import listed, refused, taken, told, turns, written
from prosegym.envs.textworld.experts import COOKING, CUTTING, OPPOSITE
from prosegym.envs.trajectory import Trajectory

_ROOM = re.compile(r"-= (.+?) =-")
_WAYS = re.compile(r"\b(north|south|east|west)\b")
_WALK = re.compile(r"(?:go )?(north|south|east|west|[nsew])")
_STATES = {**{verb: state for verb, (state, _) in COOKING.items()}, **CUTTING}


class Facts(NamedTuple):
    """What the episode shows."""

    rooms: list[str]
    exits: list[tuple[str, str]]
    """Rooms with a direction that their text names and in which I never went from there."""
    ingredients: list[str]
    directions: list[str]
    """The cookbook's, without what the episode shows to be so from the start; both empty where I never read
    it."""
    done: list[str]
    """Of the cookbook's directions those that I followed."""
    lost: str
    """The action that lost the game; "" where none did."""


def read(trajectory: Trajectory) -> Facts:
    """The episode, as rooms with ways out of them, and as a recipe."""
    ways: dict[str, list[str]] = {}
    gone = set[tuple[str, str]]()
    here = lost = ""
    ingredients: list[str] = []
    directions: list[str] = []
    for action, answer in [("", told(trajectory)), *turns(trajectory)]:
        if here and (walk := _WALK.fullmatch(action.strip(" .").lower())):
            gone.add((here, next(way for way in OPPOSITE if way[0] == walk[1][0])))
        if room := _ROOM.search(answer):
            here = room[1]
            ways[here] = _WAYS.findall(answer[room.end() :])
        if "Ingredients:" in answer and "Directions:" in answer:
            asked, _, how = answer.partition("Ingredients:")[2].partition("Directions:")
            ingredients, directions = (
                [x.strip() for x in part.splitlines() if x.strip()] for part in (asked, how)
            )
        if "You lost" in answer:
            lost = action
    done = {_direction(action) for action, answer in taken(trajectory) if "You lost" not in answer}
    true = _true_at_first(trajectory, directions) | ({_direction(lost)} - done)  # what was cooked burns
    return Facts(
        list(ways),
        [
            (room, way)
            for room, found in ways.items()
            for way in dict.fromkeys(found)
            if (room, way) not in gone
        ],
        ingredients,
        [d for d in directions if _direction(d) not in true],
        [d for d in directions if _direction(d) in done],
        lost,
    )


def _direction(action: str) -> str:
    """An action or a recipe's line without articles and tools: `cook egg in the oven` is `roast egg`."""
    what, *tool = re.split(" (?:with|using|in|on) ", action.lower().replace(" the ", " "))
    for verb, (_, place) in COOKING.items():
        if what.startswith("cook ") and tool == [place.lower()]:
            return f"{verb} {what[5:]}"
    return what


def _true_at_first(trajectory: Trajectory, directions: list[str]) -> set[str]:
    """Directions that need not be followed: `a roasted egg` was named before I cooked or cut anything."""
    verbs = ("cook", *CUTTING)
    before = takewhile(lambda turn: turn[0].lower().split(" ")[0] not in verbs, taken(trajectory))
    named = "\n".join([told(trajectory), *(answer for _, answer in before)])
    states, found = "|".join(_STATES.values()), set[str]()
    for direction in map(_direction, directions):
        verb, _, thing = direction.partition(" ")
        state = _STATES.get(verb)
        if state and re.search(rf"\b{state} (?:(?:{states}) )?{re.escape(thing)}\b", named):
            found.add(direction)
    return found


def note(trajectory: Trajectory) -> str:
    """The facts in words, and what to do next."""
    f, no = read(trajectory), refused(trajectory)
    exits = [f"{way} of {room}" for room, way in f.exits]
    if f.directions:
        how = "; ".join(f.directions)
        plan = f"gather {listed(f.ingredients)}, and then one after the other, nothing else: {how}; eat meal."
    elif "cookbook" in told(trajectory) and not f.ingredients:
        plan = "read the cookbook in the kitchen before anything else."
    elif exits:
        plan = f"go where I have not been: {listed(exits)}."
    else:
        plan = "look at what lies in each room and take what the task names."
    return written(
        [
            f"I was in {listed(f.rooms)}." if f.rooms else "",
            f"I did not go {listed(exits)}." if exits else "",
            f"The cookbook asks for {listed(f.ingredients)}." if f.ingredients else "",
            f"Of its directions I followed: {'; '.join(f.done)}." if f.done else "",
            f"This lost the game: {f.lost}." if f.lost else "",
            f"These were refused: {listed(no)}." if no else "",
        ],
        plan,
    )
