"""The pages that compare a panel's rows two by two, task by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prosegym.evaluation.compare import ENOUGH, Outcomes, paired, together
from prosegym.evaluation.metrics import measure
from prosegym.leaderboard.html import Child, Html, page, tag
from prosegym.leaderboard.rows import Group, Standing

MOST = 20
"""Rows of a table that are compared with each other, the best ones."""

Ran = Mapping[tuple[str, int], Outcomes]
"""What came of each task, by submission and number of the run."""


def compared(group: Group) -> bool:
    """Whether a panel has two rows to compare."""
    return any(len(rows) > 1 for _, rows in _tables(group))


def pairs(group: Group, ran: Ran) -> bytes:
    """The page of one panel: every row against every other, the difference and how sure it is."""
    about = (
        f"The row's {group.measure} minus the column's, in points, on the same tasks; its 95 % interval "
        "(bootstrap over tasks, both rows drawn together); and, where both have one attempt at each task, "
        "McNemar's exact p over the tasks that only one of the two solves. "
        f"▲ better, ▼ worse: the interval leaves out 0, and at least {ENOUGH} tasks differ. "
        "≈ not distinguishable. "
        "Nothing is corrected for the number of pairs: of twenty that do not differ, one will seem to."
    )
    body: list[Child] = [
        tag("h1", "Two by two: ", tag("a", group.title, href=f"../index.html#panel={group.slug}")),
        tag("p", about, class_="about"),
    ]
    for caption, rows in _tables(group):
        if len(rows) > 1:
            body += [tag("h2", caption), _matrix(group, caption, rows[:MOST], ran)]
            if len(rows) > MOST:
                body.append(tag("p", f"The best {MOST} of {len(rows)} rows.", class_="about"))
    return page(f"Two by two: {group.title}", body, root="../")


def _tables(group: Group) -> list[tuple[str, list[Standing]]]:
    return [
        ("One trial a task", group.single),
        ("Retry with feedback, last trials", group.retry),
    ]


def _matrix(group: Group, caption: str, rows: Sequence[Standing], ran: Ran) -> Html:
    cells: dict[tuple[int, int], Html] = {}
    came = [together([ran[standing.entry.id, number] for number in standing.runs]) for standing in rows]
    for i, one in enumerate(came):
        for j, other in enumerate(came[:i]):
            found = paired(one, other, measure(group.row.env_id))
            e = found.difference
            once = all(len(attempts) == 1 for row in (one, other) for attempts in row.values())
            p = f"p {found.p:.2g}" if once else ""
            cells[i, j] = _cell(found.better, e.value, e.low, e.high, p)
            cells[j, i] = _cell(-found.better, -e.value, -e.high, -e.low, p)
    head = [tag("th", "", scope="col"), *(tag("th", n, scope="col") for n in range(1, len(rows) + 1))]
    body = []
    for i, standing in enumerate(rows):
        name = tag("a", standing.entry.card.agent, href=f"../{standing.page}")
        line = [cells.get((i, j), tag("td", "–")) for j in range(len(rows))]
        body.append(
            tag(
                "tr",
                tag("th", f"{i + 1} ", name, standing.chips, scope="row"),
                line,
            )
        )
    table = tag(
        "table", tag("caption", caption), tag("thead", tag("tr", head)), tag("tbody", body), class_="pairs"
    )
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _cell(better: int, value: float, low: float, high: float, p: str) -> Html:
    sign, kind = {1: ("▲", "won"), -1: ("▼", "lost"), 0: ("≈", None)}[better]
    points = [f"{round(100 * v, 1) + 0.0:+.1f}" for v in (value, low, high)]  # + 0.0 makes -0.0 a plain zero
    interval = tag("small", f"[{points[1]}, {points[2]}]")
    return tag("td", f"{sign} {points[0]}", interval, tag("small", p) if p else None, class_=kind)
