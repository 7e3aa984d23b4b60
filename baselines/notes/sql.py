"""Questions to a database: which tables I know of and described, what failed, what I submitted."""

from __future__ import annotations

import re
from typing import NamedTuple

from prosegym.baselines.notes.episode import listed, turns, written
from prosegym.envs.trajectory import Trajectory


class Facts(NamedTuple):
    """What the episode shows."""

    tables: list[str]
    """Those that SHOW TABLES listed."""
    described: list[str]
    used: list[str]
    """Tables of statements that the server ran."""
    errors: list[str]
    last: str
    """The last statement that ran, whose rows were the answer; "" where none did."""
    submitted: bool


def read(trajectory: Trajectory) -> Facts:
    """The episode, as statements and what the server said."""
    tables, described, used, errors, last, submitted = [], [], [], [], "", False
    for action, answer in turns(trajectory):
        statement = " ".join(action.split())
        if statement.lower() == "submit":
            submitted = True
        elif answer.startswith("Error"):
            errors.append(answer.partition("query: ")[2].splitlines()[0] if "query: " in answer else answer)
        elif statement.lower().startswith("show tables"):
            tables += re.findall(r"'([^']+)'", answer)
        elif found := re.match(r"(?:describe|desc|show columns from) `?(\w+)", statement, re.I):
            described.append(found[1])
        elif statement:
            last = statement
            used += re.findall(r"(?:from|join) `?(\w+)", statement, re.I)
    tables, described, used, errors = (list(dict.fromkeys(x)) for x in (tables, described, used, errors))
    return Facts(tables, described, used, errors, last, submitted)


def note(trajectory: Trajectory) -> str:
    """The facts in words, and what to ask next."""
    f = read(trajectory)
    left = [t for t in f.tables if t not in f.described and t not in f.used]
    steps = []
    if not f.tables and not f.used:
        steps.append("ask SHOW TABLES")
    if names := left or [t for t in f.used if t not in f.described]:
        steps.append(f"DESCRIBE {listed(names)}")
    steps.append("write the statement with the names as they stand there")
    steps.append("read the question again for which columns, in which order" if f.last else "run it")
    steps.append("then submit")
    return written(
        [
            f"There are the tables {listed(f.tables)}."
            if f.tables
            else "I did not ask which tables there are.",
            f"I described {listed(f.described)}." if f.described else "I described no table.",
            f"I did not look into {listed(left)}." if left else "",
            f"The server refused: {'; '.join(f.errors[:3])}." if f.errors else "",
            f"The rows of this were not the answer: {f.last}." if f.last and f.submitted else "",
            "" if f.submitted else "I did not submit.",
        ],
        f"{', '.join(steps)}.",
    )
