"""The rows of the board: which stand together, in what order, and how their numbers are written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prosegym.evaluation.metrics import measure
from prosegym.evaluation.statistics import Estimate
from prosegym.leaderboard.html import Html, join, tag
from prosegym.leaderboard.rules import SAME_BOARD
from prosegym.leaderboard.submission import Card, Result
from prosegym.leaderboard.verify import Report, Row


@dataclass(frozen=True)
class Entry:
    """A submission on the board."""

    id: str
    folder: Path
    card: Card
    results: Sequence[Result]
    report: Report


@dataclass(frozen=True)
class Standing:
    """A row of a board."""

    entry: Entry
    runs: Sequence[int]
    """Those of the submission that it is, by their numbers."""
    row: Row
    """What they measured together."""

    @property
    def page(self) -> str:
        """Where they are told of, from the site's folder."""
        return f"s/{self.entry.id}/index.html#{'together' if len(self.runs) > 1 else f'run-{self.runs[0]}'}"

    @property
    def chips(self) -> Html:
        """How many trials a task has, and how many runs it is, where that is not one."""
        trials, runs = self.row.trials, len(self.runs)
        return join(
            [
                tag("span", f"{trials} trials", class_="chip") if trials > 1 else None,
                tag("span", f"{runs} runs", class_="chip quiet") if runs > 1 else None,
            ]
        )


@dataclass
class Group:
    """Agents that are compared with each other: one panel, the same arguments."""

    title: str
    slug: str
    tier: str
    row: Row
    rows: list[Standing] = field(default_factory=list)

    @property
    def single(self) -> list[Standing]:
        """Its rows of one trial a task."""
        return [r for r in self.rows if r.row.trials == 1]

    @property
    def retry(self) -> list[Standing]:
        """Its rows of more trials, which have a table of their own."""
        return [r for r in self.rows if r.row.trials > 1]

    @property
    def measure(self) -> str:
        """What its rows are ranked by (`primary`), in words."""
        return "mean score" if measure(self.row.env_id) == "score" else "success rate"


def standings(entry: Entry) -> list[Standing]:
    """The rows that a submission has."""
    return [Standing(entry, place.runs, place.row) for place in entry.report.places]


def groups_of(entries: Iterable[Entry]) -> list[Group]:
    """The boards that the submissions make up, official ones first, rows best first."""
    groups: dict[str, Group] = {}
    for entry in entries:
        for standing in standings(entry):
            row, title = standing.row, title_of(standing.row)
            slug = re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-")
            groups.setdefault(title, Group(title, slug, row.tier, row)).rows.append(standing)
    for group in groups.values():
        group.rows.sort(key=lambda r: (-primary(r.row).value, r.entry.card.agent))
    return sorted(groups.values(), key=lambda g: (g.tier != "official", g.title))


def title_of(row: Row) -> str:
    """The name of the board that a row stands on: its panel, and what makes it another benchmark."""
    other = {k: v for k, v in sorted(row.env_kwargs.items()) if k not in SAME_BOARD}
    return " · ".join([row.panel, *(f"{k}={v}" for k, v in other.items())])


def primary(row: Row) -> Estimate:
    """The number that a row is ranked by."""
    return row.numbers.score if measure(row.env_id) == "score" else row.numbers.success


def ranks(rows: Sequence[Standing]) -> dict[int, int]:
    """The rank of each row that has one, by the row's identity.

    1 + how many rows are better beyond doubt: their interval lies wholly above this row's. Rows whose
    intervals overlap can so share a rank; that is a tie, not a mistake. References, and rows that lack what
    the rules ask, have none and take no place.
    """
    ranked = [r.row for r in rows if r.entry.card.track != "reference" and not r.row.below]
    bounds = [(row, primary(row)) for row in ranked]
    return {id(row): 1 + sum(other.low > mine.high for _, other in bounds) for row, mine in bounds}


def estimate(e: Estimate) -> Html:
    """A number, its interval, and the two drawn on a line from 0 to 1."""
    low, high, at = (max(0.0, min(1.0, v)) * 100 for v in (e.low, e.high, e.value))
    bar = tag(
        "svg",
        tag("rect", x=0, y=3, width=100, height=2, class_="axis"),
        tag("rect", x=f"{low:.1f}", y=2, width=f"{max(0.8, high - low):.1f}", height=4, class_="interval"),
        tag("rect", x=f"{max(0.0, at - 0.8):.1f}", y=0, width="1.6", height=8, class_="mean"),
        viewBox="0 0 100 8", preserveAspectRatio="none", aria_hidden="true",
    )  # fmt: skip
    numbers = tag("small", f"[{100 * e.low:.1f}, {100 * e.high:.1f}]")
    return join(tag("b", f"{100 * e.value:.1f}"), " ", numbers, bar)


def percent(value: float) -> str:
    """A share as a number out of a hundred."""
    return f"{100 * value:.1f}"


def short(value: float) -> str:
    """12,345,678 as 12.3M."""
    for limit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.0f}"


def many(count: int, what: str) -> str:
    """ "1 task", "2,000 tasks"."""
    return f"{count:,} {what}{'s' * (count != 1)}"
