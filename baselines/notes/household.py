"""ALFWorld and Household: what was seen where, what was looked through in vain, where to look next.

The order in which a plan looks into places is that of the searching expert, who knows households; all else is
what the try showed.
"""

from __future__ import annotations

from typing import NamedTuple

from prosegym.baselines.notes.episode import told, turns
from prosegym.envs.alfworld.experts import Chore, contents_shown, kind_of, read_chore
from prosegym.envs.trajectory import Trajectory

PLANNED = 3
"""Places named in a plan, at most."""
NAMED = 8
"""Places named in a list, at most."""


class Facts(NamedTuple):
    """What the episode shows."""

    chore: Chore
    goods: list[tuple[str, str]]
    """Things of the kind that is asked for, and where each lay."""
    lamps: list[tuple[str, str]]
    """Things of the target's kind, and where each lay."""
    vain: list[str]
    """Receptacles that were seen and hold no such thing."""
    left: list[str]
    """Receptacles whose contents were not seen, the most promising first."""


def contents(trajectory: Trajectory) -> dict[str, list[str]]:
    """What lay in each receptacle when the episode first showed it, what the agent had put there apart."""
    found: dict[str, list[str]] = {}
    carried: set[str] = set()
    for action, answer in turns(trajectory):
        if action.startswith("take ") and answer != "Nothing happens.":
            carried.add(action.removeprefix("take ").partition(" from ")[0])
        if shown := contents_shown(answer):
            found.setdefault(shown[0], [thing for thing in shown[1] if thing not in carried])
    return found


def read(trajectory: Trajectory) -> Facts | None:
    """The facts; None where the episode does not begin as a chore does."""
    chore = read_chore(told(trajectory))
    if chore is None:
        return None
    seen = contents(trajectory)
    where = [(thing, place) for place, things in seen.items() for thing in things]
    goods = [(thing, place) for thing, place in where if kind_of(thing) == chore.thing]
    return Facts(
        chore,
        goods,
        [(thing, place) for thing, place in where if kind_of(thing) == chore.target],
        [place for place in seen if all(place != r for _, r in goods)],
        sorted((r for r in chore.receptacles if r not in seen), key=chore.promise, reverse=True),
    )


def note(trajectory: Trajectory) -> str:
    """The facts in words, and what to do next."""
    facts = read(trajectory)
    if facts is None:
        return ""
    chore, goods, lamps, vain, left = facts
    needed = 2 if chore.kind == "two" else 1
    parts = [f"I saw {thing} in {place}." for thing, place in [*goods[:PLANNED], *lamps[:1]]]
    plan = [f"take {thing} from {place}" for thing, place in goods[:needed]]
    if len(goods) < needed:
        if vain:
            parts.append(f"There was no {'other ' * bool(goods)}{chore.thing} in {_listed(vain)}.")
        if left:
            parts.append(f"I did not look in {_listed(left)}.")
        look = f"look in {_listed(left[:PLANNED])}" if left else "look everywhere again"
        plan.append(f"{look} for a {chore.thing}")
    if chore.kind in ("clean", "heat", "cool"):
        plan.append(f"{chore.kind} it")
    plan.append(f"use the {chore.target}" if chore.kind == "light" else f"bring it to the {chore.target}")
    return " ".join([*parts, f"Plan: {', '.join(plan)}."])


def _listed(names: list[str]) -> str:
    if len(names) > NAMED:
        names = [*names[:NAMED], f"{len(names) - NAMED} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
