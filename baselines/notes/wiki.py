"""Questions over pages: which titles I opened, which names the pages told me of and I did not look up."""

from __future__ import annotations

import re
from typing import NamedTuple

from prosegym.baselines.notes.episode import listed, taken, told, written
from prosegym.envs.trajectory import Trajectory

_NAME = re.compile(r"\b[A-Z]\w*(?: (?:of |the )*[A-Z]\w*)*")
_PLAIN = ("The", "It", "He", "She", "They", "In", "According", "Result", "Question", "Could", "Similar", "No")


class Facts(NamedTuple):
    """What the episode shows."""

    question: str
    opened: list[str]
    absent: list[str]
    """Titles I searched for that no page has."""
    looked: list[str]
    """Keywords I looked up."""
    left: list[str]
    """Names in the question or on the pages that I did not search for."""
    answers: list[str]
    """What I answered: all of it wrong, or the episode would not have failed."""


def read(trajectory: Trajectory) -> Facts:
    """The episode, as searches and the names that came up."""
    question = told(trajectory).partition("Question: ")[2].strip()
    opened: list[str] = []
    absent: list[str] = []
    looked, answers = [], []
    names = _NAME.findall(question.partition(" ")[2])
    for action, answer in taken(trajectory):
        kind, _, argument = action.strip().removesuffix("]").partition("[")
        kind = kind.lower()  # two variants write it with a capital
        if kind == "search":
            (absent if answer.startswith("Could not find") else opened).append(argument)
        elif kind == "lookup":
            looked.append(argument)
        elif kind == "finish":
            answers.append(argument)
            continue
        names += _NAME.findall(answer)
    asked = {title.lower() for title in [*opened, *absent]}
    left = [n for n in dict.fromkeys(names) if n.lower() not in asked and n not in _PLAIN]
    return Facts(
        question,
        list(dict.fromkeys(opened)),
        list(dict.fromkeys(absent)),
        list(dict.fromkeys(looked)),
        left,
        answers,
    )


def note(trajectory: Trajectory) -> str:
    """The facts in words, and what to search next."""
    f = read(trajectory)
    if f.left:
        plan = (
            f"search {listed(f.left)}, read on with lookup where a page's first sentences are not enough, "
            "then answer."
        )
    else:
        plan = "open the pages again and look up the words of the question on them before I answer."
    return written(
        [
            f"I opened {listed(f.opened)}." if f.opened else "I opened no page.",
            f"There is no page {listed(f.absent)}." if f.absent else "",
            f"I looked up {listed(f.looked)}." if f.looked else "",
            f"I did not search {listed(f.left)}." if f.left else "",
            f"My answer {listed(f.answers)} was not right." if f.answers else "I gave no answer.",
        ],
        plan,
    )
