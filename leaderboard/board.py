"""The board: a static site, from a folder of submissions. Only what was replayed here stands on it.

SITE/index.html                 the tables, one for each panel
SITE/s/<id>/index.html          a submission: card, numbers, per-type results, episodes
SITE/s/<id>/<run>/<task>.html   every attempt and trial at one task, step by step
SITE/s/<id>/data/               what was submitted
SITE/latest.json                the tables for machines

Every page works from the file system and loads nothing but style.css and app.js of the site.
"""

from __future__ import annotations

import itertools
import math
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from tqdm import tqdm

from prosegym.envs import trajectory
from prosegym.envs.errors import ProsegymError
from prosegym.envs.trajectory import Trajectory, Turn
from prosegym.evaluation.statistics import Estimate
from prosegym.leaderboard import ledger
from prosegym.leaderboard import submission as reader
from prosegym.leaderboard.html import Child, Html, join, page, tag
from prosegym.leaderboard.submission import Card, Result
from prosegym.leaderboard.verify import Report, Row, verified

STATIC = Path(__file__).parent / "static"
RULES = Path(__file__).parent / "RULES.md"

GRADED = frozenset({"prosegym/ScienceWorld-v1", "prosegym/WebShop-v1", "prosegym/MiniShop-v1"})
"""Environments whose published measure is the mean score; everywhere else it is the success rate."""
SAME_BOARD = ("admissible", "split", "reward")
"""Arguments that make no other benchmark; runs that differ in any other one are not ranked together."""
MAX_TEXT = 20_000
"""Characters of one text that a page shows; the raw data have all of it."""
MAX_ATTEMPTS = 16
"""Attempts at a task that its page shows."""


@dataclass(frozen=True)
class Entry:
    """A submission on the board."""

    id: str
    folder: Path
    card: Card
    results: Sequence[Result]
    report: Report


@dataclass
class Group:
    """Runs that are compared with each other: one panel, the same arguments."""

    title: str
    slug: str
    tier: str
    row: Row
    rows: list[tuple[Entry, int, Row]] = field(default_factory=list)
    """Submission, number of the run in it, its numbers."""


def build(
    submissions: str | Path, out: str | Path, *, workers: int | None = None, progress: bool = True
) -> Path:
    """Build the site from a folder of submission folders.

    Each submission is replayed, unless this machine has replayed the very same files before. One that is
    refused is left out and named in latest.json with the reason.

    Args:
        submissions: holds a folder for each submission, and `ledger.jsonl` where there is one.
        out: the site's folder; a site that is there already is replaced.
        workers: processes that replay; None for one a processor.
        progress: whether to show progress bars.

    Returns:
        The page to open.

    Raises:
        ProsegymError: there is no such folder, the ledger is broken, `out` holds something other than a
            site, or this machine lacks what the replay needs.
    """
    submissions, out = Path(submissions), Path(out)
    if not submissions.is_dir():
        raise ProsegymError(f"{submissions} is not a folder of submissions; make one with `prosegym submit`")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "latest.json").is_file())):
        raise ProsegymError(f"{out} holds something other than a site; choose another --out")
    history = ledger.check(submissions / "ledger.jsonl")
    entries, refused = _entries(submissions, history, workers, progress)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        for name in ("style.css", "noscript.css", "app.js"):
            shutil.copyfile(STATIC / name, part / name)
        groups = _groups(entries)
        (part / "index.html").write_bytes(_index(groups, entries))
        (part / "rules.html").write_bytes(
            page("Rules", markdown(RULES.read_text("utf-8")), root="", css_class="prose")
        )
        (part / "ledger.html").write_bytes(
            _ledger(history, {entry.report.digest: entry for entry in entries})
        )
        for entry in tqdm(entries, desc="pages", unit="submission", disable=not progress):
            _submission(part, entry, groups)
        (part / "latest.json").write_bytes(_latest(groups, history, refused))
        shutil.rmtree(out, ignore_errors=True)
        part.replace(out)
    except OSError as error:
        raise ProsegymError(f"cannot write {out}: {error.strerror}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out / "index.html"


def _entries(
    submissions: Path, history: Sequence[ledger.Entry], workers: int | None, progress: bool
) -> tuple[list[Entry], list[tuple[str, str]]]:
    """What stands on the board, and what does not with its reason."""
    removed = {e.submission for e in history} - ledger.standing(history)
    order = {e.submission: e.number for e in history}
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    folders = sorted(f for f in submissions.iterdir() if f.is_dir() and not f.name.startswith("."))
    for folder in folders:
        report = verified(folder, workers=workers, progress=progress)
        if not report.ok or report.card is None:
            refused.append((folder.name, report.problems[0]))
        elif report.digest in removed:
            refused.append((folder.name, "removed; the ledger says why"))
        else:
            found, _ = reader.read(folder)
            entries.append(Entry(report.digest[:16], folder, report.card, found.results, report))
    # The first of two that act alike is the one that was added first.
    entries.sort(
        key=lambda e: (e.card.track != "reference", order.get(e.report.digest, math.inf), e.folder.name)
    )
    standing: list[Entry] = []
    seen: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        keys = [(row.panel, row.actions_sha256) for row in entry.report.rows]
        same = next((seen[key] for key in keys if key in seen), None)
        if same is not None:
            refused.append((entry.folder.name, f"the same actions as {same.card.agent!r} ({same.id})"))
            continue
        seen |= dict.fromkeys(keys, entry)
        standing.append(entry)
    return standing, refused


def _groups(entries: Iterable[Entry]) -> list[Group]:
    groups: dict[str, Group] = {}
    for entry in entries:
        for number, row in enumerate(entry.report.rows):
            other = {k: v for k, v in sorted(row.env_kwargs.items()) if k not in SAME_BOARD}
            title = " · ".join([row.panel, *(f"{k}={v}" for k, v in other.items())])
            slug = re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-")
            groups.setdefault(title, Group(title, slug, row.tier, row)).rows.append((entry, number, row))
    for group in groups.values():
        group.rows.sort(key=lambda r: (-primary(r[2]).value, r[0].card.agent))
    return sorted(groups.values(), key=lambda g: (g.tier != "official", g.title))


def primary(row: Row) -> Estimate:
    """The number that a row is ranked by."""
    return row.numbers.score if row.env_id in GRADED else row.numbers.success


def ranks(rows: Sequence[Row]) -> list[int]:
    """1 + how many rows are better beyond doubt: their interval lies wholly above this row's.

    Rows whose intervals overlap can so share a rank; that is a tie, not a mistake.
    """
    bounds = [primary(row) for row in rows]
    return [1 + sum(other.low > mine.high for other in bounds) for mine in bounds]


# The tables.


def _index(groups: Sequence[Group], entries: Sequence[Entry]) -> bytes:
    if not groups:
        return page(
            "Board", tag("h1", "No submissions yet"), tag("p", "See the rules for how to make one."), root=""
        )
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
        f"{_many(len(entries), 'submission')}. Every action was replayed in the environment and every number "
        "computed again; only what a model card says is taken on trust. Brackets are 95 % intervals over "
        "tasks; rows share a rank where their intervals overlap.",
        class_="lead",
    )
    sections = [_section(group, hidden=i > 0) for i, group in enumerate(groups)]
    return page("Board", tag("h1", "Leaderboard"), intro, controls, sections, root="")


def _section(group: Group, hidden: bool) -> Html:
    single = [r for r in group.rows if r[2].trials == 1]
    retry = [r for r in group.rows if r[2].trials > 1]
    row = group.row
    measure = "mean score" if row.env_id in GRADED else "success rate"
    about = [
        tag("span", f"{group.tier} tier", class_=f"chip {group.tier}"),
        f" {_many(row.tasks, 'task')} · ranked by {measure} · panel ",
        tag("code", row.panel_sha256[:12]),
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


def _table(rows: Sequence[tuple[Entry, int, Row]], caption: str, *, retry: bool) -> Html:
    heads: list[tuple[str, str, str]] = [
        ("rank", "Rank", "1 + the number of rows whose interval lies wholly above"),
        ("agent", "Agent", ""),
        ("success", "Success", "share of episodes with the task's full score"),
        ("score", "Score", "mean score"),
        ("progress", "Progress", "mean share of sub-goals reached"),
    ]
    if retry:
        heads += [("initial", "First trial", "mean score of first trials"), ("average", "Over trials", "")]
    heads += [
        ("invalid", "Invalid", "share of actions the environment refused"),
        ("steps", "Steps", "mean steps an episode"),
        ("tokens", "Tokens", "mean an episode, as the agent counted them"),
        ("cost", "Cost", "US dollars an episode, as the agent counted them"),
        ("parameters", "Params", "as declared"),
    ]
    ranked = [r for r in rows if r[0].card.track != "reference"]
    places = ranks([r[2] for r in ranked])
    rank = {id(r[2]): place for r, place in zip(ranked, places, strict=True)}
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
    body = [_row(entry, number, row, rank.get(id(row)), tied, retry) for entry, number, row in rows]
    table = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body))
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _row(entry: Entry, number: int, row: Row, place: int | None, tied: set[int], retry: bool) -> Html:
    card, n = entry.card, row.numbers
    reference = card.track == "reference"
    kind = {"null": "floor", "random": "floor"}.get(card.agent, "ceiling") if reference else card.track
    label = [
        tag("a", card.agent, href=f"s/{entry.id}/index.html#run-{number}"),
        tag("span", kind, class_=f"chip {kind}"),
        tag("span", "re-run", class_="chip re-run") if entry.report.rerun else None,
        tag("span", f"{row.trials} trials", class_="chip") if retry else None,
        tag("span", f"{row.attempts} attempts", class_="chip quiet") if row.attempts > 1 else None,
        tag("span", "no action list", class_="chip quiet")
        if row.env_kwargs.get("admissible") is False
        else None,
        tag("small", card.base_model) if card.base_model and card.base_model != "none" else None,
    ]
    tokens = n.prompt_tokens + n.completion_tokens
    cost = n.cost / max(1, row.tasks * row.attempts)
    cells: list[tuple[str, float | str, Child]] = [
        ("rank", place or 10**9, f"{place}{'=' if place in tied else ''}" if place else "–"),
        ("agent", card.agent.casefold(), label),
        ("success", n.success.value, _estimate(n.success)),
        ("score", n.score.value, _estimate(n.score)),
        ("progress", n.progress.value, _percent(n.progress.value)),
    ]
    if retry:
        cells += [("initial", n.initial, _percent(n.initial)), ("average", n.average, _percent(n.average))]
    cells += [
        ("invalid", n.invalid_rate, _percent(n.invalid_rate)),
        ("steps", n.steps, f"{n.steps:.1f}"),
        ("tokens", tokens, _short(tokens) if tokens else "–"),
        ("cost", cost, _dollars(cost) if cost else "–"),
        ("parameters", card.parameters or 0, _short(card.parameters) if card.parameters else "–"),
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


def _estimate(e: Estimate) -> Html:
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


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _short(value: float) -> str:
    """12,345,678 as 12.3M."""
    for limit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.0f}"


def _dollars(value: float) -> str:
    """Cents and up as usual; less with two digits that matter."""
    return f"${value:,.{max(2, 1 - math.floor(math.log10(value)))}f}"


def _plot(group: Group) -> Html | None:
    """Cost against the ranked number, where costs are known; otherwise tokens, where they are."""
    by_cost = [(e, r, r.numbers.cost / max(1, r.tasks * r.attempts)) for e, _, r in group.rows]
    by_tokens = [(e, r, r.numbers.prompt_tokens + r.numbers.completion_tokens) for e, _, r in group.rows]
    costs, unit = by_cost, "US dollars an episode"
    if sum(x > 0 for *_, x in costs) < 2:
        costs, unit = by_tokens, "tokens an episode"
    points = [(e, r, x) for e, r, x in costs if x > 0]
    if len(points) < 2:
        return None
    width, height, left, bottom = 640, 260, 44, 36
    logs = [math.log10(x) for *_, x in points]
    low, high = math.floor(min(logs)), math.ceil(max(logs) + 1e-9)
    high = max(high, low + 1)

    def across(x: float) -> float:
        return left + (math.log10(x) - low) / (high - low) * (width - left - 12)

    def up(y: float) -> float:
        return 10 + (1 - y) * (height - bottom - 10)

    marks: list[Child] = []
    for share in (0, 25, 50, 75, 100):
        y = up(share / 100)
        marks += [
            tag("line", x1=left, x2=width - 12, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid"),
            tag("text", str(share), x=left - 6, y=f"{y + 4:.1f}", text_anchor="end"),
        ]
    for power in range(low, high + 1):
        text = f"{10.0**power:g}" if power < 3 else _short(10.0**power)
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
    what = "mean score" if group.row.env_id in GRADED else "success rate"
    svg = tag("svg", marks, viewBox=f"0 0 {width} {height}", role="img", aria_label=f"{what} against {unit}")
    return tag(
        "figure",
        tag("figcaption", f"{what.capitalize()} (%) against {unit}, 95 % intervals"),
        svg,
        class_="plot",
    )


# One submission.


def _submission(site: Path, entry: Entry, groups: Sequence[Group]) -> None:
    folder = site / "s" / entry.id
    (folder / "data").mkdir(parents=True)
    for name in ("submission.json", *(f"episodes/{r.file}" for r in entry.results)):
        reader.copy(entry.folder / name, folder / "data" / Path(name).name)
    runs = []
    for number, (result, row) in enumerate(zip(entry.results, entry.report.rows, strict=True)):
        lists = _episodes(folder, entry, number, result)
        runs.append(_run(number, result, row, lists, groups))
    card = entry.card
    facts: list[tuple[str, Child]] = [
        ("Track", card.track),
        ("Authors", card.authors),
        ("Base model", card.base_model),
        ("Parameters", f"{card.parameters:,}" if card.parameters is not None else ""),
        ("Training data", card.training_data),
        ("Training panels", ", ".join(card.training_panels)),
        (
            "Training tasks checked against the panels",
            f"{card.training_tasks:,}" if card.training_tasks else "",
        ),
        ("Hardware", card.hardware),
        ("Training tokens", f"{card.tokens:,}" if card.tokens is not None else ""),
        ("Cost", f"${card.cost:,.2f}" if card.cost is not None else ""),
        (
            "Code",
            tag("a", card.code, href=card.code, rel="nofollow noopener noreferrer") if card.code else "",
        ),
        ("License", card.license),
    ]
    rows = [
        tag("tr", tag("th", name, scope="row"), tag("td", text or tag("i", "not stated")))
        for name, text in facts
    ]
    badge = "re-run" if entry.report.rerun else "replayed"
    proof = (
        "Replayed: these actions score what is shown. Re-run: the agent was run again and chose them again."
        if entry.report.rerun
        else "Replayed: these actions score what is shown. Who chose them, a replay cannot know."
    )
    flags = entry.report.flags
    files = ["submission.json", *(r.file for r in entry.results)]
    body = [
        tag("h1", card.agent),
        tag("p", tag("span", badge, class_=f"chip {badge}"), " ", proof),
        tag("p", card.about, class_="text") if card.about else None,
        tag("aside", tag("h2", "For a person to look at"), tag("ul", [tag("li", f) for f in flags]))
        if flags
        else None,
        runs,
        tag("h2", "Model card"),
        tag("p", "Stated by the submitter; a replay proves none of it."),
        tag("div", tag("table", tag("tbody", rows), class_="facts"), class_="scroll"),
        tag("h2", "Data"),
        tag("ul", [tag("li", tag("a", name, href=f"data/{name}", download=True)) for name in files]),
        tag("p", "Digest ", tag("code", entry.report.digest, class_="long")),
    ]
    (folder / "index.html").write_bytes(page(card.agent, body, root="../../", css_class="submission"))


def _run(number: int, result: Result, row: Row, lists: Html, groups: Sequence[Group]) -> Html:
    n = row.numbers
    group = next(g for g in groups if any(r[2] is row for r in g.rows))
    counts = [(row.tasks, "task"), (row.attempts, "attempt"), (row.trials, "trial")]
    facts: list[tuple[str, Child]] = [
        ("Success", _estimate(n.success)),
        ("Score", _estimate(n.score)),
        ("Progress", _estimate(n.progress)),
        ("Invalid actions", f"{_percent(n.invalid_rate)} %"),
        ("Steps an episode", f"{n.steps:.2f}"),
        ("Episodes", f"{row.episodes:,}: {', '.join(_many(k, what) for k, what in counts)}"),
        ("Errors, counted as 0", str(n.errors)),
        ("Tokens an episode", f"{n.prompt_tokens:,.0f} in, {n.completion_tokens:,.0f} out"),
        ("Seconds an episode", f"{n.seconds:.2f}"),
        ("Cost of the run", f"${n.cost:,.4f}"),
        ("Seed", str(row.seed)),
    ]
    if row.trials > 1:
        facts[3:3] = [
            (
                "First, last, mean over trials",
                " / ".join(_percent(v) for v in (n.initial, n.final, n.average)),
            )
        ]
    if len(row.pass_hat) > 1:
        text = ", ".join(
            f"pass^{k} {_percent(v)}, pass@{k} {_percent(row.pass_at[k])}" for k, v in row.pass_hat.items()
        )
        facts.append(("Over attempts", text))
    facts += [(f"env: {k}", str(v)) for k, v in row.env_kwargs.items()]
    facts += [(k, _condition(v)) for k, v in result.conditions.items()]
    facts.append(("Versions", ", ".join(f"{k} {v}" for k, v in result.versions.items())))
    types = [
        tag("tr", tag("th", t.task_type, scope="row"), tag("td", t.tasks), tag("td", _estimate(t.success)),
            tag("td", _estimate(t.score)), tag("td", _estimate(t.progress)))
        for t in row.types
    ]  # fmt: skip
    heads = [tag("th", h, scope="col") for h in ("Type", "Tasks", "Success", "Score", "Progress")]
    return tag(
        "section",
        tag("h2", tag("a", group.title, href=f"../../index.html#panel={group.slug}"), f" · {row.agent}"),
        tag("div", tag("table", tag("tbody", [
            tag("tr", tag("th", name, scope="row"), tag("td", text)) for name, text in facts
        ]), class_="facts"), class_="scroll"),
        tag("h3", "By task type"),
        tag("div", tag("table", tag("thead", tag("tr", heads)), tag("tbody", types)), class_="scroll"),
        tag("h3", "Episodes"),
        lists,
        id=f"run-{number}",
    )  # fmt: skip


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _condition(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _episodes(folder: Path, entry: Entry, number: int, result: Result) -> Html:
    """Write a page for each task; returns the list of them."""
    (folder / str(number)).mkdir()
    episodes = (trajectory.decode(line) for line in reader.lines(entry.folder, result))
    tasks = reader.panel_of(result.panel).task_ids
    items = []
    for at, (task_id, group) in enumerate(itertools.groupby(episodes, key=lambda t: t.task_id)):
        trials = list(group)
        last = {t.attempt: t for t in trials}
        shown = [t for t in trials if t.attempt < MAX_ATTEMPTS]
        (folder / str(number) / f"{at}.html").write_bytes(_viewer(entry, number, at, tasks, shown, len(last)))
        wins = sum(t.success for t in last.values())
        score = math.fsum(t.score for t in last.values()) / len(last)
        items.append(
            tag(
                "tr",
                tag("th", tag("a", task_id, href=f"{number}/{at}.html"), scope="row", data_v=task_id),
                tag("td", trials[0].task_type, data_v=trials[0].task_type),
                tag("td", f"{wins} / {len(last)}", data_v=wins / len(last), class_="won" if wins else "lost"),
                tag("td", f"{100 * score:.1f}", data_v=score),
                tag("td", len(trials), data_v=len(trials)),
                tag("td", ", ".join(str(len(t.steps)) for t in trials[:8]), data_v=len(trials[0].steps)),
                data_search=f"{task_id} {trials[0].task_type}".casefold(),
            )
        )
    heads = [
        tag("th", tag("button", h, type="button"), scope="col")
        for h in ("Task", "Type", "Solved", "Score", "Episodes", "Steps")
    ]
    table = tag("table", tag("thead", tag("tr", heads)), tag("tbody", items))
    return tag("div", table, class_="scroll tall", tabindex=0, role="region", aria_label="Episodes")


# One task, step by step.


def _viewer(
    entry: Entry, number: int, at: int, tasks: Sequence[str], trials: Sequence[Trajectory], count: int
) -> bytes:
    def link(to: int, text: str, rel: str) -> Child:
        return (
            tag("a", text, href=f"{to}.html", rel=rel)
            if 0 <= to < len(tasks)
            else tag("span", text, class_="off")
        )

    first = trials[0]
    keys = tag(
        "p",
        tag("kbd", "j"), " ", tag("kbd", "k"), " next and previous step · ",
        tag("kbd", "Home"), " ", tag("kbd", "End"), " first and last · ",
        tag("kbd", "t"), " next trial · ",
        tag("kbd", "n"), " ", tag("kbd", "p"), " next and previous task",
        class_="keys",
    )  # fmt: skip
    columns = []
    for attempt, group in itertools.groupby(trials, key=lambda t: t.attempt):
        found = list(group)
        parts = [_trial(t, len(found) > 1) for t in found]
        head = tag("h2", f"Attempt {attempt + 1} of {count}") if count > 1 else None
        columns.append(tag("section", head, tag("div", parts, class_=f"trials n{min(len(found), 3)}")))
    body = [
        tag(
            "nav",
            link(at - 1, "← previous task", "prev"),
            tag("a", entry.card.agent, href=f"../index.html#run-{number}"),
            link(at + 1, "next task →", "next"),
            class_="pager", aria_label="Tasks",
        ),
        tag("h1", first.task_id),
        tag("p", f"{first.env_id} · {first.split} · {first.task_type} · task {at + 1} of {len(tasks)} · ",
            tag("code", first.task_sha256[:12]), class_="about"),
        keys,
        columns,
    ]  # fmt: skip
    return page(f"{first.task_id} · {entry.card.agent}", body, root="../../../", css_class="viewer")


def _trial(t: Trajectory, several: bool) -> Html:
    name = f"a{t.attempt}t{t.trial}"
    verdict = "solved" if t.success else "error" if t.ended == "error" else "not solved"
    prompt = "\n\n".join(
        f"[{m.role}] {m.content}" for m in itertools.takewhile(lambda m: m.role != "assistant", t.messages)
    )
    steps = [_step(step, i, name) for i, step in enumerate(t.steps)]
    end = tag(
        "li",
        tag("pre", _cut(t.final_observation), class_="observation"),
        tag("p", f"{t.ended}: score {t.score:.3g}", f" · {t.error[:400]}" if t.error else None, class_="end"),
        id=f"{name}s{len(t.steps)}", class_="step last", tabindex=-1,
    )  # fmt: skip
    return tag(
        "article",
        tag(
            "h3",
            f"Trial {t.trial + 1} " if several else None,
            tag("span", verdict, class_=f"chip {verdict.replace(' ', '-')}"),
            tag("small", f" score {t.score:.3g} · {len(t.steps)} steps · "
                f"{t.usage.prompt_tokens + t.usage.completion_tokens:,} tokens · {t.seconds:.1f} s"),
        ),
        tag("details", tag("summary", "What the agent was told at the start"), tag("pre", _cut(prompt)))
        if prompt
        else None,
        tag("ol", steps, end, class_="script"),
    )  # fmt: skip


def _step(step: Turn, index: int, name: str) -> Html:
    thought = step.response if step.response.strip() != step.action.strip() else ""
    facts = [f"score {step.score:.3g}", f"progress {step.progress:.3g}"]
    if step.reward:
        facts.append(f"reward {step.reward:.3g}")
    return tag(
        "li",
        tag("pre", _cut(step.observation), class_="observation"),
        tag("pre", _cut(thought), class_="thought") if thought else None,
        tag(
            "p",
            tag("span", str(index + 1), class_="number"),
            tag("code", _cut(step.action) or "(nothing)", class_="action"),
            tag("span", "invalid", class_="chip lost") if step.invalid else None,
            tag("small", " · ".join(facts)),
            class_="did",
        ),
        id=f"{name}s{index}", class_="step", tabindex=-1,
    )  # fmt: skip


def _cut(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}\n… {len(text) - MAX_TEXT:,} more characters in the raw data"


# The ledger, the rules, the data.


def _ledger(history: Sequence[ledger.Entry], entries: dict[str, Entry]) -> bytes:
    rows = []
    for e in history:
        entry = entries.get(e.submission)
        name = tag("a", e.agent, href=f"s/{entry.id}/index.html") if entry else e.agent
        rows.append(
            tag("tr", tag("td", e.number), tag("td", e.time), tag("td", e.action), tag("td", name),
                tag("td", e.reason), tag("td", tag("code", e.sha256[:12])))
        )  # fmt: skip
    heads = [tag("th", h, scope="col") for h in ("", "When", "What", "Agent", "Why", "Digest")]
    about = (
        "Every row that was added, removed or rescored, and why. Each entry holds the digest of the one "
        "before: `prosegym ledger check` finds any that was changed, dropped or moved."
    )
    table = tag("div", tag("table", tag("thead", tag("tr", heads)), tag("tbody", rows)), class_="scroll")
    return page(
        "Ledger",
        tag("h1", "Ledger"),
        tag("p", about),
        table if rows else tag("p", "No entries yet."),
        root="",
    )


def _latest(
    groups: Sequence[Group], history: Sequence[ledger.Entry], refused: Sequence[tuple[str, str]]
) -> bytes:
    panels = []
    for group in groups:
        rows = []
        ranked = [r[2] for r in group.rows if r[0].card.track != "reference" and r[2].trials == 1]
        retried = [r[2] for r in group.rows if r[0].card.track != "reference" and r[2].trials > 1]
        places: dict[int, int] = {}
        for rows_of in (ranked, retried):
            places |= {id(row): place for row, place in zip(rows_of, ranks(rows_of), strict=True)}
        for entry, number, row in group.rows:
            rows.append(
                {
                    "submission": entry.report.digest,
                    "page": f"s/{entry.id}/index.html#run-{number}",
                    "agent": entry.card.agent,
                    "track": entry.card.track,
                    "rank": places.get(id(row)),
                    "badge": "re-run" if entry.report.rerun else "replayed",
                    "card": entry.card,
                    "row": row,
                }
            )
        panels.append({"title": group.title, "tier": group.tier, "rows": rows})
    found = {
        "schema": 1,
        "ledger": history[-1].sha256 if history else ledger.START,
        "panels": panels,
        "refused": [{"folder": name[:200], "reason": reason[:500]} for name, reason in refused],
    }
    return msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"


def markdown(text: str) -> Html:
    """Headings, lists, paragraphs, code and bold: as much of Markdown as the rules use."""
    blocks: list[Child] = []
    for block in re.split(r"\n{2,}", text.strip()):
        if match := re.match(r"(#{1,4}) (.*)", block):
            blocks.append(tag(f"h{len(match[1])}", _inline(match[2])))
        elif re.match(r"(- |\d+\. )", block):
            items = re.split(r"\n(?=- |\d+\. )", block)
            texts = [_inline(re.sub(r"^(- |\d+\. )", "", item).replace("\n", " ")) for item in items]
            blocks.append(tag("ul" if block.startswith("-") else "ol", [tag("li", t) for t in texts]))
        elif block.startswith("    "):
            blocks.append(tag("pre", re.sub(r"^    ", "", block, flags=re.M)))
        else:
            blocks.append(tag("p", _inline(block.replace("\n", " "))))
    return join(blocks)


def _inline(text: str) -> Html:
    parts = re.split(r"(`[^`]+`|\*\*[^*]+\*\*)", text)
    return join(
        tag("code", part[1:-1])
        if part.startswith("`")
        else tag("strong", part[2:-2])
        if part.startswith("**")
        else part
        for part in parts
    )
