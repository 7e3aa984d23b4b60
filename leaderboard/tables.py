"""The first page: a table for each panel, and cost against success."""

from __future__ import annotations

import math
from collections.abc import Sequence

from prosegym.evaluation.metrics import dollars
from prosegym.leaderboard.html import Child, Html, join, page, tag
from prosegym.leaderboard.pages import methods_of, slug
from prosegym.leaderboard.pairs import compared
from prosegym.leaderboard.rows import (
    Entry,
    Group,
    Standing,
    estimate,
    many,
    percent,
    primary,
    ranks,
    short,
)


def index(groups: Sequence[Group], entries: Sequence[Entry], refused: Sequence[tuple[str, str]]) -> bytes:
    """The page that opens first; `refused` are folders that do not stand on it, each with the reason."""
    left_out = None
    if refused:
        left_out = tag(
            "details",
            tag("summary", f"{many(len(refused), 'submission')} left out"),
            tag("ul", [tag("li", f"{name}: {reason}") for name, reason in refused]),
        )
    if not groups:
        told = tag("p", "See the rules for how to make one.")
        return page("Board", tag("h1", "No submissions yet"), told, left_out, root="")
    tiers = [(tier, [g for g in groups if g.tier == tier]) for tier in ("official", "generated")]
    options = [
        tag("optgroup", [tag("option", g.title, value=g.slug) for g in found], label=f"{tier} tier")
        for tier, found in tiers
        if found
    ]
    tracks = [("", "all tracks"), *((t, t) for t in ("zero-shot", "few-shot", "trained", "retry"))]
    controls = tag(
        "form",
        tag("label", "Panel ", tag("select", options, id="panel", autocomplete="off")),
        tag(
            "label", "Track ",
            tag("select", [tag("option", t, value=v) for v, t in tracks], id="track", autocomplete="off"),
        ),
        tag(
            "label", "Search ",
            tag("input", type="search", id="search", placeholder="agent, model", autocomplete="off"),
        ),
        tag("output", id="shown", aria_live="polite"),
        id="controls", role="search",
    )  # fmt: skip
    intro = tag(
        "p",
        f"{many(len(entries), 'submission')}. Every action was replayed in the environment and every number "
        "computed again; only what a model card says is taken on trust. A row is all of an agent's runs on "
        "the panel together. Brackets are 95 % intervals over tasks; a row's rank is 1 + the number of rows "
        "whose interval lies wholly above its own.",
        class_="lead",
    )
    sections = [_section(group, hidden=i > 0) for i, group in enumerate(groups)]
    named = [tag("li", tag("a", name, href=f"m/{slug(name)}.html")) for name in methods_of(entries)]
    methods = [tag("h2", "Methods"), tag("ul", named)] if named else None
    return page("Board", tag("h1", "Leaderboard"), intro, controls, sections, methods, left_out, root="")


def _section(group: Group, hidden: bool) -> Html:
    row, single, retry = group.row, group.single, group.retry
    about = [
        tag("span", f"{group.tier} tier", class_=f"chip {group.tier}"),
        f" {many(row.tasks, 'task')} · ranked by {group.measure} · panel ",
        tag("code", row.panel_sha256[:12]),
        [" · ", tag("a", "two by two", href=f"pairs/{group.slug}.html")] if compared(group) else None,
        tag("strong", " · part of a panel, not comparable with the whole") if "[:" in row.panel else None,
    ]
    return tag(
        "section",
        tag("h2", group.title),
        tag("p", about, class_="about"),
        _table(single, "One trial a task", retry=False) if single else None,
        tag("h3", "Retry with feedback") if retry else None,
        tag("p", "Failed tasks are tried again with the success signal: not comparable with the table above.")
        if retry
        else None,
        _table(retry, "Retry with feedback", retry=True) if retry else None,
        _plot(group),
        id=f"p-{group.slug}", data_slug=group.slug, class_="panel", hidden=hidden,
    )  # fmt: skip


def _table(rows: Sequence[Standing], caption: str, *, retry: bool) -> Html:
    heads: list[tuple[str, str, str]] = [
        ("rank", "Rank", "1 + the number of rows whose interval lies wholly above"),
        ("agent", "Agent", ""),
        ("success", "Success", "share of episodes with the task's full score"),
        ("score", "Score", "mean score"),
        ("progress", "Progress", "mean share of sub-goals reached"),
    ]
    each = "an attempt, all its trials together" if retry else "an episode"
    if retry:
        heads += [("initial", "First trial", "mean score of first trials"), ("average", "Over trials", "")]
    heads += [
        ("invalid", "Invalid", "share of actions the environment refused"),
        ("steps", "Last steps", "mean steps of last trials")
        if retry
        else ("steps", "Steps", "mean steps an episode"),
        ("tokens", "Tokens", f"mean {each}, as the agent counted them"),
        ("cost", "Cost", f"US dollars {each}, as the agent counted them"),
        ("parameters", "Params", "as declared"),
    ]
    rank = ranks(rows)
    places = list(rank.values())
    tied = {place for place in places if places.count(place) > 1}
    head = tag(
        "tr",
        [
            tag(
                "th",
                tag("button", label, type="button", title=title or None, data_key=key),
                scope="col",
                class_=key,
            )
            for key, label, title in heads
        ],
    )
    body = [_row(standing, rank.get(id(standing.row)), tied, retry) for standing in rows]
    table = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body))
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _row(standing: Standing, place: int | None, tied: set[int], retry: bool) -> Html:
    entry, row = standing.entry, standing.row
    card, n, each = entry.card, row.numbers, entry.report.rows[standing.runs[0]].attempts
    reference = card.track == "reference"
    kind = {"null": "floor", "random": "floor"}.get(card.agent, "ceiling") if reference else card.track
    label = [
        tag("a", card.agent, href=standing.page),
        tag("span", kind, class_=f"chip {kind}"),
        tag("span", "re-run", class_="chip re-run") if entry.report.rerun else None,
        standing.chips,
        tag("span", f"{each} attempts", class_="chip quiet") if each > 1 else None,
        [tag("span", f"unranked: {lack}", class_="chip quiet") for lack in row.below],
        tag("span", "no action list", class_="chip quiet")
        if row.env_kwargs.get("admissible") is False
        else None,
        tag("small", card.base_model) if card.base_model and card.base_model != "none" else None,
    ]
    tokens = n.prompt_tokens + n.completion_tokens
    cost = (n.cost or 0.0) / max(1, row.tasks * row.attempts)
    cells: list[tuple[str, float | str, Child]] = [
        ("rank", place or 10**9, f"{place}{'=' if place in tied else ''}" if place else "–"),
        ("agent", card.agent.casefold(), label),
        ("success", n.success.value, estimate(n.success)),
        ("score", n.score.value, estimate(n.score)),
        ("progress", n.progress.value, percent(n.progress.value)),
    ]
    if retry:
        cells += [("initial", n.initial, percent(n.initial)), ("average", n.average, percent(n.average))]
    cells += [
        ("invalid", n.invalid_rate, percent(n.invalid_rate)),
        ("steps", n.steps, f"{n.steps:.1f}"),
        ("tokens", tokens, short(tokens) if tokens else "–"),
        ("cost", cost, dollars(cost) if cost else "–"),
        ("parameters", card.parameters or 0, short(card.parameters) if card.parameters else "–"),
    ]
    search = f"{card.agent} {card.base_model} {card.authors}".casefold()
    return tag(
        "tr",
        [
            tag("th", text, class_=key, data_v=value, scope="row") if key == "agent"
            else tag("td", text, class_=key, data_v=value)
            for key, value, text in cells
        ],
        data_track=card.track, data_search=search, class_="reference" if reference else None,
    )  # fmt: skip


def _plot(group: Group) -> Html | None:
    """Cost against the ranked number, where costs are known; otherwise tokens, where they are."""
    placed = [(standing.entry, standing.row) for standing in group.rows]
    by_cost = [(e, r, (r.numbers.cost or 0.0) / max(1, r.tasks * r.attempts)) for e, r in placed]
    by_tokens = [(e, r, r.numbers.prompt_tokens + r.numbers.completion_tokens) for e, r in placed]
    costs, unit = by_cost, "US dollars an episode"
    if sum(x > 0 for *_, x in costs) < 2:
        costs, unit = by_tokens, "tokens an episode"
    points = [(e, r, x) for e, r, x in costs if x > 0]
    if len(points) < 2:
        return None
    width, height, left, right, bottom = 640, 260, 44, 20, 36
    logs = [math.log10(x) for *_, x in points]
    low, high = math.floor(min(logs)), math.ceil(max(logs) + 1e-9)
    high = max(high, low + 1)

    def across(x: float) -> float:
        return left + (math.log10(x) - low) / (high - low) * (width - left - right)

    def up(y: float) -> float:
        return 10 + (1 - y) * (height - bottom - 10)

    marks: list[Child] = []
    for share in (0, 25, 50, 75, 100):
        y = up(share / 100)
        marks += [
            tag("line", x1=left, x2=width - right, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid"),
            tag("text", str(share), x=left - 6, y=f"{y + 4:.1f}", text_anchor="end"),
        ]
    for power in range(low, high + 1):
        text = f"{10.0**power:g}" if power < 3 else short(10.0**power)
        marks.append(tag("text", text, x=f"{across(10.0**power):.1f}", y=height - 18, text_anchor="middle"))
    for entry, row, x in points:
        e, at = primary(row), f"{across(x):.1f}"
        title = tag("title", f"{entry.card.agent}: {100 * e.value:.1f} at {x:.4g} {unit}")
        dot = join(
            tag("line", x1=at, x2=at, y1=f"{up(e.low):.1f}", y2=f"{up(e.high):.1f}", class_="whisker"),
            tag("circle", cx=at, cy=f"{up(e.value):.1f}", r=4),
        )  # fmt: skip
        marks.append(tag("a", tag("g", title, dot), href=f"s/{entry.id}/index.html"))
    marks.append(tag("text", unit, x=(left + width) / 2, y=height - 3, text_anchor="middle"))
    label = f"{group.measure} against {unit}"
    svg = tag("svg", marks, viewBox=f"0 0 {width} {height}", role="img", aria_label=label)
    return tag(
        "figure",
        tag("figcaption", f"{group.measure.capitalize()} (%) against {unit}, 95 % intervals"),
        svg,
        class_="plot",
    )
