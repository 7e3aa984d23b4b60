"""The pages of submissions, their episodes and methods, of the ledger and the rules."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from prosegym.envs import trajectory
from prosegym.envs.trajectory import Trajectory, Turn
from prosegym.evaluation.compare import Outcomes, outcomes
from prosegym.leaderboard import ledger as history_of
from prosegym.leaderboard import submission as reader
from prosegym.leaderboard.html import Child, Html, join, page, table, tag
from prosegym.leaderboard.rows import Entry, Group, estimate, many, percent, short, standings, title_of
from prosegym.leaderboard.submission import Card, Result
from prosegym.leaderboard.verify import Row

MAX_TEXT = 20_000
"""Characters of one text that a page shows; the raw data have all of it."""
MAX_ATTEMPTS = 16
"""Attempts at a task that its page shows."""


def submission(site: Path, entry: Entry, groups: Sequence[Group]) -> list[Outcomes]:
    """Write all that the site has of a submission: its page, its episodes' pages, its data.

    Returns:
        For each run, what came of its tasks.
    """
    folder = site / "s" / entry.id
    (folder / "data").mkdir(parents=True)
    for name in ("submission.json", *(f"episodes/{r.file}" for r in entry.results)):
        reader.copy(entry.folder / name, folder / "data" / Path(name).name)
    runs, ran = [], []
    for number, (result, row) in enumerate(zip(entry.results, entry.report.rows, strict=True)):
        lists, found = _episodes(folder, entry, number, result)
        told = f" · run {number + 1} of {len(entry.results)}" if len(entry.results) > 1 else ""
        runs.append(_run(number, told, result, row, lists, groups))
        ran.append(found)
    card = entry.card
    badge, who = (
        ("re-run", "Re-run: the agent was run again and chose them again.")
        if entry.report.rerun
        else ("replayed", "Who chose them, a replay cannot know.")
    )
    flags = entry.report.flags
    files = ["submission.json", *(r.file for r in entry.results)]
    body = [
        tag("h1", card.agent),
        tag("p", tag("span", badge, class_=f"chip {badge}"),
            " Replayed: these actions score what is shown. ", who),
        tag("p", card.about, class_="text") if card.about else None,
        tag("aside", tag("h2", "For a person to look at"), tag("ul", [tag("li", f) for f in flags]))
        if flags
        else None,
        _together(entry) if len(runs) > 1 else None,
        runs,
        _curves([entry]),
        tag("h2", "Model card"),
        tag("p", "Stated by the submitter; a replay proves none of it."),
        _card(card),
        tag("h2", "Data"),
        tag("ul", [tag("li", tag("a", name, href=f"data/{name}", download=True)) for name in files]),
        tag("p", "Digest ", tag("code", entry.report.digest, class_="long")),
    ]  # fmt: skip
    (folder / "index.html").write_bytes(page(card.agent, body, root="../../", css_class="submission"))
    return ran


def _together(entry: Entry) -> Html:
    """What the board says of the submission: each of its rows, and the runs that it is made of."""
    rows = [
        tag(
            "tr",
            tag("th", title_of(standing.row), scope="row"),
            tag("td", ", ".join(str(number + 1) for number in standing.runs)),
            tag("td", estimate(standing.row.numbers.success)),
            tag("td", estimate(standing.row.numbers.score)),
        )
        for standing in standings(entry)
    ]
    heads = ("Panel", "Runs", "Success", "Score")
    return tag("section", tag("h2", "Runs together"), table(heads, rows), id="together")


def _card(card: Card) -> Html:
    """What the submitter says, and what not."""
    facts: list[tuple[str, Child]] = [
        ("Track", card.track),
        ("Method", tag("a", card.method, href=f"../../m/{slug(card.method)}.html") if card.method else ""),
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
    return _facts([(name, text or tag("i", "not stated")) for name, text in facts])


def _facts(facts: Sequence[tuple[str, Child]]) -> Html:
    """Names and what is said of each."""
    rows = [tag("tr", tag("th", name, scope="row"), tag("td", text)) for name, text in facts]
    return tag("div", tag("table", tag("tbody", rows), class_="facts"), class_="scroll")


def slug(method: str) -> str:
    """The file name of a method's page."""
    words = re.sub(r"[^a-z0-9]+", "-", method.casefold()).strip("-")[:40]
    return f"{words}-{hashlib.sha256(method.casefold().encode()).hexdigest()[:6]}"


def methods_of(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Every method that a card names, and its submissions; capitals make no other method."""
    found: dict[str, list[Entry]] = {}
    names: dict[str, str] = {}
    for entry in entries:
        if method := entry.card.method:
            found.setdefault(names.setdefault(method.casefold(), method), []).append(entry)
    return dict(sorted(found.items()))


def method(name: str, entries: Sequence[Entry]) -> bytes:
    """A method's page: its learning curves and its rows on every board."""
    rows = [
        tag(
            "tr",
            tag(
                "th",
                tag("a", entry.card.agent, href=f"../{standing.page}"),
                tag("span", entry.card.track, class_=f"chip {entry.card.track}"),
                standing.chips,
                scope="row",
                data_v=entry.card.agent.casefold(),
            ),
            tag("td", title_of(standing.row), data_v=title_of(standing.row)),
            tag("td", estimate(standing.row.numbers.success), data_v=standing.row.numbers.success.value),
            tag("td", estimate(standing.row.numbers.score), data_v=standing.row.numbers.score.value),
        )
        for entry in entries
        for standing in standings(entry)
    ]
    body = [
        tag("h1", name),
        tag("p", "Rows of different panels are not comparable with each other.", class_="about"),
        table(("Agent", "Panel", "Success", "Score"), rows, sortable=True),
        _curves(entries),
    ]
    return page(name, body, root="../")


def _curves(entries: Sequence[Entry]) -> list[Html]:
    """Learning curves as the submitters state them, those of one unit in one plot."""
    units = sorted({e.card.curve_unit for e in entries if len(e.card.curve) > 1})
    plots = []
    for unit in units:
        chosen = [e for e in entries if len(e.card.curve) > 1 and e.card.curve_unit == unit]
        most = max(e.card.curve[-1][0] for e in chosen) or 1.0
        marks: list[Child] = []
        for share in (0, 25, 50, 75, 100):
            y = 224 - 2.14 * share
            marks += [
                tag("line", x1=44, x2=628, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid"),
                tag("text", str(share), x=38, y=f"{y + 4:.1f}", text_anchor="end"),
                tag(
                    "text",
                    short(most * share / 100),
                    x=f"{44 + 5.84 * share:.1f}",
                    y=242,
                    text_anchor="middle",
                ),
            ]
        for entry in chosen:
            points = " ".join(f"{44 + 584 * x / most:.1f},{224 - 214 * y:.1f}" for x, y in entry.card.curve)
            line = tag("polyline", points=points, class_="curve")
            title = tag("title", f"{entry.card.agent}: {100 * entry.card.curve[-1][1]:.1f} at the end")
            marks.append(tag("g", title, line))
        label = f"success rate on the valid split against {unit or 'training'}"
        marks.append(tag("text", unit or "training", x=336, y=257, text_anchor="middle"))
        svg = tag("svg", marks, viewBox="0 0 640 260", role="img", aria_label=label)
        text = f"{label.capitalize()}, as stated: {', '.join(e.card.agent for e in chosen)}"
        plots.append(tag("figure", tag("figcaption", text), svg, class_="plot"))
    return plots


def _run(number: int, told: str, result: Result, row: Row, lists: Html, groups: Sequence[Group]) -> Html:
    n = row.numbers
    title = title_of(row)
    # None where no row of that board stands: this run may be a copy of another submission's.
    group = next((g for g in groups if g.title == title), None)
    counts = [(row.tasks, "task"), (row.attempts, "attempt"), (row.trials, "trial")]
    retry = row.trials > 1
    each = "an attempt, all its trials" if retry else "an episode"
    facts: list[tuple[str, Child]] = [
        ("Success", estimate(n.success)),
        ("Score", estimate(n.score)),
        ("Progress", estimate(n.progress)),
        ("Invalid actions", f"{percent(n.invalid_rate)} %"),
        ("Steps of a last trial" if retry else "Steps an episode", f"{n.steps:.2f}"),
        (
            "Trials played" if retry else "Episodes",
            f"{row.episodes:,}: {', '.join(many(k, what) for k, what in counts)}",
        ),
        ("Errors, counted as 0", str(n.errors)),
        (f"Tokens {each}", f"{n.prompt_tokens:,.0f} in, {n.completion_tokens:,.0f} out"),
        (f"Seconds {each}", f"{n.seconds:.2f}"),
        ("Cost of the run", "not known" if n.cost is None else f"${n.cost:,.4f}"),
        ("Seed", str(row.seed)),
    ]
    if retry:
        facts[3:3] = [
            (
                "First, last, mean over trials",
                " / ".join(percent(v) for v in (n.initial, n.final, n.average)),
            )
        ]
    if len(row.pass_hat) > 1:
        text = ", ".join(
            f"pass^{k} {percent(v)}, pass@{k} {percent(row.pass_at[k])}" for k, v in row.pass_hat.items()
        )
        facts.append(("Over attempts", text))
    facts += [(f"env: {k}", str(v)) for k, v in (row.env_kwargs | result.env_conditions).items()]
    facts += [(f"agent: {k}", _condition(v)) for k, v in result.conditions.items()]
    facts.append(("Versions", ", ".join(f"{k} {v}" for k, v in result.versions.items())))
    types = [
        tag("tr", tag("th", t.task_type, scope="row"), tag("td", t.tasks), tag("td", estimate(t.success)),
            tag("td", estimate(t.score)), tag("td", estimate(t.progress)))
        for t in row.types
    ]  # fmt: skip
    return tag(
        "section",
        tag(
            "h2",
            tag("a", title, href=f"../../index.html#panel={group.slug}") if group else title,
            f" · {row.agent}{told}",
        ),
        _facts(facts),
        tag("h3", "By task type"),
        table(("Type", "Tasks", "Success", "Score", "Progress"), types),
        tag("h3", "Episodes"),
        lists,
        id=f"run-{number}",
    )  # fmt: skip


def _condition(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _episodes(folder: Path, entry: Entry, number: int, result: Result) -> tuple[Html, Outcomes]:
    """Write a page for each task; returns the list of them, and what came of each."""
    (folder / str(number)).mkdir()
    episodes = (trajectory.decode(line) for line in reader.lines(entry.folder, result))
    tasks = reader.panel_of(result.panel).task_ids
    items = []
    came: dict[str, Sequence[tuple[float, float, float]]] = {}
    for at, (task_id, group) in enumerate(itertools.groupby(episodes, key=lambda t: t.task_id)):
        trials = list(group)
        came.update(outcomes(trials))
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
    listed = table(
        ("Task", "Type", "Solved", "Score", "Trials" if result.trials > 1 else "Episodes", "Steps"), items,
        sortable=True,
        class_="scroll tall", tabindex=0, role="region", aria_label="Episodes",
    )  # fmt: skip
    return listed, came


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
    # Its own answers are marked, and those of examples are not; an agent may mark none.
    marked = any(m.trainable for m in t.messages) or not t.steps
    told = itertools.takewhile(lambda m: not m.trainable if marked else m.role != "assistant", t.messages)
    prompt = "\n\n".join(f"[{m.role}] {m.content}" for m in told)
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
        tag("details", tag("summary", "Notes from earlier trials"),
            [tag("pre", _cut(note), class_="thought") for note in t.memory], open=True)
        if t.memory
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


def ledger(history: Sequence[history_of.Entry], entries: Mapping[str, Entry]) -> bytes:
    """The ledger's page; `entries` are what stands on the board, by digest."""
    rows = []
    for e in history:
        entry = entries.get(e.submission)
        name = tag("a", e.agent, href=f"s/{entry.id}/index.html") if entry else e.agent
        what = [tag("td", x, class_="short") for x in (e.number, e.time[:10], e.action)]
        digest = tag("td", tag("code", e.sha256[:12]), class_="short")
        rows.append(tag("tr", *what, tag("td", name), tag("td", e.reason), digest))
    about = (
        "Every row that was added, removed or rescored, and why. Each entry holds the digest of the one "
        "before: `prosegym ledger check` finds any that was changed, dropped or moved."
    )
    listed = table(("", "When", "What", "Agent", "Why", "Digest"), rows)
    body = [tag("h1", "Ledger"), tag("p", about), listed if rows else tag("p", "No entries yet.")]
    return page("Ledger", body, root="")


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
