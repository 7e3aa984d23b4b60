"""TextWorld's houses and kitchens: rooms and exits, and of a recipe what it asks and what I did."""

from __future__ import annotations

import re
from typing import NamedTuple

from prosegym.baselines.notes.episode import listed, refused, told, turns, written
from prosegym.envs.trajectory import Trajectory

_ROOM = re.compile(r"-= (.+?) =-")
_WAYS = re.compile(r"\b(north|south|east|west)\b")
COOKING = {"fry": "stove", "roast": "oven", "grill": "BBQ"}
CUTTING = ("slice", "chop", "dice")


class Facts(NamedTuple):
    """What the episode shows."""

    rooms: list[str]
    exits: list[tuple[str, str]]
    """Rooms with a direction that their text names and in which I never went from there."""
    ingredients: list[str]
    directions: list[str]
    """The cookbook's, without what I did already; both empty where I never read it."""
    done: list[str]
    lost: str
    """The action that lost the game; "" where none did."""


def read(trajectory: Trajectory) -> Facts:
    """The episode, as rooms with ways out of them, and as a recipe."""
    ways: dict[str, list[str]] = {}
    gone = set[tuple[str, str]]()
    here = lost = ""
    ingredients: list[str] = []
    directions: list[str] = []
    done: list[str] = []
    for action, answer in [("", told(trajectory)), *turns(trajectory)]:
        if here and action.startswith("go "):
            gone.add((here, action[3:]))
        if room := _ROOM.search(answer):
            here = room[1]
            ways[here] = _WAYS.findall(answer[room.end() :])
        if "Ingredients:" in answer and "Directions:" in answer:
            asked, _, how = answer.partition("Ingredients:")[2].partition("Directions:")
            ingredients, directions = (
                [x.strip() for x in part.splitlines() if x.strip()] for part in (asked, how)
            )
        if action and "You lost" not in answer:
            done.append(_direction(action))
        elif action:
            lost = action
    return Facts(
        list(ways),
        [
            (room, way)
            for room, found in ways.items()
            for way in dict.fromkeys(found)
            if (room, way) not in gone
        ],
        ingredients,
        [d for d in directions if d.replace(" the ", " ") not in done],
        [d for d in directions if d.replace(" the ", " ") in done],
        lost,
    )


def _direction(action: str) -> str:
    """An action in a recipe's words: `cook egg with stove` is `fry egg`, `dice egg with knife` `dice egg`."""
    what, _, tool = action.partition(" with ")
    for how, place in COOKING.items():
        if what.startswith("cook ") and tool.lower() == place.lower():
            return f"{how} {what[5:]}"
    return what


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
