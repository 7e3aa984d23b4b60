"""Notes on a failed try at a chore, by rule: what was seen where, what was looked through in vain, a plan.

They say nothing that the try did not show, but for the order in which the plan looks into places: that is
the searching expert's, who knows households.
"""

from __future__ import annotations

from collections.abc import Iterator

from prosegym.envs.alfworld.experts import contents_shown, kind_of, read_chore
from prosegym.envs.trajectory import Trajectory

PLANNED = 3
"""Places named in a plan, at most."""
NAMED = 8
"""Places named in a list, at most."""


def answered(trajectory: Trajectory) -> Iterator[tuple[str, str]]:
    """Every action of an episode and what was answered."""
    steps = trajectory.steps
    answers = [*(s.observation for s in steps[1:]), trajectory.final_observation]
    for step, answer in zip(steps, answers, strict=True):
        yield step.action, answer


def contents(trajectory: Trajectory) -> dict[str, list[str]]:
    """What lay in each receptacle when the episode first showed it, what the agent had put there apart."""
    found: dict[str, list[str]] = {}
    carried: set[str] = set()
    for action, answer in answered(trajectory):
        if action.startswith("take ") and answer != "Nothing happens.":
            carried.add(action.removeprefix("take ").partition(" from ")[0])
        if shown := contents_shown(answer):
            found.setdefault(shown[0], [thing for thing in shown[1] if thing not in carried])
    return found


def note(trajectory: Trajectory) -> str:
    """What the episode teaches its next try; "" where it does not begin as a chore does."""
    first = trajectory.steps[0].observation if trajectory.steps else trajectory.final_observation
    chore = read_chore(first)
    if chore is None:
        return ""
    seen = contents(trajectory)
    where = [(thing, r) for r, things in seen.items() for thing in things if kind_of(thing) == chore.thing]
    lamps = [(thing, r) for r, things in seen.items() for thing in things if kind_of(thing) == chore.target]
    needed = 2 if chore.kind == "two" else 1
    parts = [f"I saw {thing} in {r}." for thing, r in [*where[:PLANNED], *lamps[:1]]]
    steps = [f"take {thing} from {r}" for thing, r in where[:needed]]
    if len(where) < needed:
        vain = [r for r in seen if all(r != place for _, place in where)]
        untried = sorted((r for r in chore.receptacles if r not in seen), key=chore.promise, reverse=True)
        if vain:
            parts.append(f"There was no {'other ' * bool(where)}{chore.thing} in {_listed(vain)}.")
        if untried:
            parts.append(f"I did not look in {_listed(untried)}.")
        look = f"look in {_listed(untried[:PLANNED])}" if untried else "look everywhere again"
        steps.append(f"{look} for a {chore.thing}")
    if chore.kind in ("clean", "heat", "cool"):
        steps.append(f"{chore.kind} it")
    steps.append(f"use the {chore.target}" if chore.kind == "light" else f"bring it to the {chore.target}")
    return " ".join([*parts, f"Plan: {', '.join(steps)}."])


def _listed(names: list[str]) -> str:
    if len(names) > NAMED:
        names = [*names[:NAMED], f"{len(names) - NAMED} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
