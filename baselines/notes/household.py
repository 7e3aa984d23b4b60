"""ALFWorld and Household: where I have been, what lay there, which places and closed things are left."""

from __future__ import annotations

import re
from typing import NamedTuple

from prosegym.baselines.notes.episode import listed, told, turns, written
from prosegym.envs.trajectory import Trajectory

_NAMED = re.compile(r"\ban? ([a-z]+ \d+)")


class Facts(NamedTuple):
    """What the episode shows."""

    task: str
    been: list[str]
    left: list[str]
    """Places in sight at the beginning where I never went."""
    shut: list[str]
    """Places I found closed and never opened."""
    things: dict[str, str]
    """What the task names, as seen: a thing, and where it was seen last."""
    held: list[str]
    """Of those, what I took."""
    vain: list[str]
    """Actions after which nothing happened."""


def read(trajectory: Trajectory) -> Facts:
    """The episode, searched for places, and for things of the kinds that the task names."""
    first = told(trajectory)
    task = (re.search(r"Your task is to: (.*?)\.?\s*$", first, re.M) or ["", ""])[1]
    been, opened, seen, held, vain = [], set[str](), dict[str, str](), [], []
    closed: list[str] = []
    here = ""
    for action, answer in turns(trajectory):
        if arrived := re.match(r"You arrive at ([a-z]+ \d+)", answer):
            here = arrived[1]
            been.append(here)
        if found := re.match(r"You open the ([a-z]+ \d+)", answer):
            opened.add(found[1])
        closed += re.findall(r"The ([a-z]+ \d+) is closed", answer)
        if taken := re.match(r"You pick up the ([a-z]+ \d+)", answer):
            held.append(taken[1])
        elif arrived or found:
            seen |= {thing: here for thing in _NAMED.findall(answer.partition("you see")[2])}
        if answer.startswith("Nothing happens") and action:
            vain.append(action)
    kinds = set(re.findall(r"[a-z]+", task.lower()))
    things = {thing: place for thing, place in seen.items() if thing.split()[0] in kinds}
    sight = _NAMED.findall(first.partition("you see")[2].partition("Your task")[0])
    return Facts(
        task,
        list(dict.fromkeys(been)),
        [place for place in sight if place not in been],
        [place for place in dict.fromkeys(closed) if place not in opened],
        things,
        [thing for thing in dict.fromkeys(held) if thing.split()[0] in kinds],
        list(dict.fromkeys(vain)),
    )


def note(trajectory: Trajectory) -> str:
    """The facts in words, and where to go next."""
    f = read(trajectory)
    shown = [f"{thing} at {place}" for thing, place in f.things.items()]
    goods = [(thing, place) for thing, place in f.things.items() if thing not in f.held and place != thing]
    if f.held:
        plan = f"take {f.held[0]} again and go on from there until this is done: {f.task}."
    elif goods:
        plan = f"go to {goods[0][1]}, take {goods[0][0]} and do the rest of this: {f.task}."
    elif f.shut or f.left:
        steps = [f"open {listed(f.shut)}"] * bool(f.shut) + [f"go to {listed(f.left)}"] * bool(f.left)
        plan = f"{', then '.join(steps)}, and look for what the task names: {f.task}."
    else:
        plan = f"go through the places again, slowly, for this: {f.task}."
    return written(
        [
            f"I have been to {listed(f.been)}." if f.been else "I went nowhere.",
            f"I have not been to {listed(f.left)}." if f.left else "",
            f"I left closed: {listed(f.shut)}." if f.shut else "",
            f"For the task I saw {listed(shown)}." if shown else "I saw nothing that the task names.",
            f"I took {listed(f.held)}." if f.held else "",
            f"Nothing happened when I tried: {listed(f.vain)}." if f.vain else "",
        ],
        plan,
    )
