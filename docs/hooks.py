"""What the site's pages take from the code, so that the two cannot disagree.

A page says in its head what it is about, `envs: [prosegym/Household-v1]` or `methods: [eto]`; what the code
knows of that is put below the page's title: an environment's facts, a method's algorithm box and settings.
`settings: [endpoint.EndpointOptions]` puts tables of these settings at the page's end,
`headline: [house-cpu]` puts behind its introduction how these models play, at first and within four tries;
`results: [house-cpu]` puts all numbers of a file of results at the page's end, `measured: [eto]` those of one
method.
The board of `extra.submissions` is built into the site's folder `board`.
"""

from __future__ import annotations

import ast
import json
import logging
import re
import sys
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from prosegym.baselines import METHODS  # noqa: E402
from prosegym.envs import ENVS, panels  # noqa: E402
from prosegym.envs.lookup import env_class, facts, summary, tier  # noqa: E402
from prosegym.leaderboard import board  # noqa: E402

LOG = logging.getLogger("mkdocs.prosegym")
RESULTS = {
    "house-novice": "the novice",
    "house-novice-seed1": "the second novice",
    "house-cpu": "the house model",
    "house-textworld": "TextWorld's model",
}
"""Files of results, and from which model the methods began."""
LINK = r"https?://[^\s,;)]+"
INTERVAL = re.compile(r"\[([-+]?\d\.\d+), ([-+]?\d\.\d+)\]")
"""A line does not break within one."""
BOARD = True
"""Whether the board is built with the pages."""
TEXTS = ROOT / "baselines"
"""Methods are read as text: the site is built without torch."""


def environments(env_ids: Sequence[str]) -> str:
    """The facts of a page's environments, in Markdown; those with the same facts share a table."""
    tables: dict[str, list[str]] = {}
    for env_id in env_ids:
        cls = env_class(env_id)
        needs = [f'`pip install "prosegym[{cls.extra}]"`'] if cls.extra else []
        needs += [f"`prosegym data get {cls.data}`"] if cls.data else []
        experts = [f"`{name}` ({'privileged' if flag else 'honest'})" for name, flag in cls.experts.items()]
        name = env_id.removeprefix("prosegym/") + "/"
        own = [f"`{panel.removeprefix(name)}`" for panel in panels.names() if panel.startswith(name)]
        rows = [
            ("Tasks", {"official": "a published benchmark's", "generated": "generated"}[tier(env_id)]),
            ("Needs", ", ".join(needs) or "nothing"),
            *facts(cls).items(),
            ("Experts", ", ".join(experts)),
            ("Panels", ", ".join(own)),
        ]
        shown = table(("", ""), [(f"**{what}**", re.sub(LINK, r"<\g<0>>", text)) for what, text in rows])
        tables.setdefault(shown, []).append(f"`{env_id}`: {summary(cls)}")
    return "\n\n".join("\n\n".join([*names, shown]) for shown, names in tables.items())


def method(name: str) -> str:
    """A method's algorithm box, which is the head of its file, and its settings, in Markdown."""
    head = ast.get_docstring(ast.parse((TEXTS / f"{name}.py").read_text()))
    return f"`baselines/{name}.py`: {head}\n\n{settings(name, 'Config')}"


def settings(name: str, group: str) -> str:
    """The settings that a class of `baselines/NAME.py` holds, in Markdown."""
    module = griffe.GriffeLoader(search_paths=[TEXTS]).load(name)
    config = module[group]

    def told(value: Any) -> str:  # a default that is a constant of the file, as what that is
        return re.sub(
            r"\b[A-Z]+\b",
            lambda m: str(module.attributes[m[0]].value if m[0] in module.attributes else m[0]),
            str(value),
        )

    rows = [
        (f"`{field}`<br>`{a.annotation} = {told(a.value)}`", a.docstring.value if a.docstring else "")
        for field, a in config.attributes.items()
        if a.annotation and a.value
    ]
    found = table(("setting, type, default", "meaning, source"), rows)
    return f"`{group}`: {config.docstring.value}\n\n{found}"


TRIES = {
    "base": "first try",
    "retry": "four tries, notes by rule",
    "retry-other-task": "notes on another task",
    "retry-no-memory": "no memory",
}
"""What the headline shows of each model: rows of a file of results, and what they are."""


def headline(names: Sequence[str]) -> str:
    """How the model that each file begins with plays at first, and within four tries, in Markdown."""
    lines = []
    for name in names:
        found = {(row["panel"], row["name"]): row for row in _measured(name)["rows"]}
        for panel in dict.fromkeys(panel for panel, _ in found):
            own = (found[panel, agent] for agent in TRIES)
            cells = (_estimate(row["success"], row["tasks"]) for row in own)
            lines.append((RESULTS[name], panel, *cells))
    return table(("model", "panel", *TRIES.values()), lines)


def results(name: str, methods: Sequence[str] = ()) -> str:
    """What `recipes/results/NAME.json` holds, a table for each panel, in Markdown.

    A method's seeds have one row together; what each made is in the file. With `methods`, only their rows and
    the base model's.
    """
    found = _measured(name)
    several = {(row["panel"], row["name"]) for row in found["pooled"]}
    alone = [row for row in found["rows"] if (row["panel"], row["name"].rpartition("-")[0]) not in several]
    rows = [
        row for row in (*alone, *found["pooled"]) if not methods or _method(row["name"]) in ("base", *methods)
    ]
    shown = []
    for panel in dict.fromkeys(row["panel"] for row in rows):
        own = [row for row in rows if row["panel"] == panel]
        within = ["within 1, 2, ... trials"] if any(row.get("trials", ())[1:] for row in own) else []
        cells = [
            (
                f"`{row['name']}`" + (f", {row['seeds']} seeds" if "seeds" in row else ""),
                _estimate(row["success"], n),
                *(
                    ", ".join(_share(x, n) for x in row.get("trials", ())[1:] and row["trials"])
                    for _ in within
                ),
                *(_estimate(row[key], n) if key in row else "" for key in ("minus_base", "minus_control")),
            )
            for row, n in ((row, own[0]["tasks"] * row.get("seeds", 1)) for row in own)
        ]
        head = ("agent", "success", *within, "minus base", "minus its control")
        shown.append(f"**{panel}**, {own[0]['tasks']} tasks\n\n{table(head, cells)}")
    return "\n\n".join(shown)


def _method(agent: str) -> str:
    """The method whose row that is: eto-0 is ETO's first seed; retries are Reflexion's or a reflector's."""
    name = re.sub(r"-\d+$", "", agent)
    if name.startswith("retry"):
        trained = name.removeprefix("retry-")
        return trained if trained in ("retroformer", "retroact") else "reflexion"
    return name


def measured(methods: Sequence[str]) -> str:
    """What the house models' results say of a method, the first of these, beside the others."""
    told = [
        (base, curve(name, methods[0]), results(name, methods))
        for name, base in RESULTS.items()
        if _has(name, methods[0])
    ]
    tables = "\n\n".join(f"### From {base}\n\n{drawn}\n\n{shown}" for base, drawn, shown in told)
    return f"## What we measured\n\nHow, and what it means: [results](../results.md).\n\n{tables}"


def curve(name: str, method: str) -> str:
    """The loss of a method's training, a line for each seed, as a figure; "" where there is none."""
    seeds = _measured(name)["curves"].get(method)
    if not seeds:
        return ""
    steps, least, most = max(map(len, seeds)), min(0.0, *map(min, seeds)), max(map(max, seeds))

    def line(losses: Sequence[float]) -> str:
        points = (
            f"{40 + 440 * i / (steps - 1):.1f},{130 - 120 * (x - least) / (most - least):.1f}"
            for i, x in enumerate(losses)
        )
        return f'<polyline points="{" ".join(points)}" fill="none" stroke="currentColor" opacity="0.6"/>'

    labels = ((36, 14, "end", f"{most:.2g}"), (36, 134, "end", f"{least:.2g}"), (480, 146, "end", str(steps)))
    texts = (f'<text x="{x}" y="{y}" text-anchor="{at}">{t}</text>' for x, y, at, t in labels)
    about = f"Loss of {method} by optimizer step of its last phase, {len(seeds)} seeds"
    return (
        f'<figure class="loss"><svg viewBox="0 0 490 150" role="img" aria-label="{about}">'
        f"{''.join(map(line, seeds))}{''.join(texts)}</svg><figcaption>{about}</figcaption></figure>"
    )


def _has(name: str, method: str) -> bool:
    return any(_method(row["name"]) == method for row in _measured(name)["rows"])


def _measured(name: str) -> Any:
    return json.loads((ROOT / "recipes" / "results" / f"{name}.json").read_text())


def _estimate(found: dict[str, float], outcomes: int) -> str:
    value, low, high = (_share(found[key], outcomes) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _share(x: float, outcomes: int) -> str:
    """A share of so many outcomes to three decimals. The files have four: 1 of 134, 0.00746, is 0.0075 there,
    and would be 0.008 if rounded again. An interval may end between counts: then the file's half goes up."""
    told = Decimal(str(x))
    exact = Decimal(round(x * outcomes)) / outcomes
    nearest = exact if round(exact, 4) == told else told
    return f"{nearest.quantize(Decimal('0.001'), ROUND_HALF_UP) + 0:f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """One line, in which a bar outside of code is no border."""
    return re.sub(r"`[^`]*`|\|", lambda m: "\\|" if m[0] == "|" else m[0], " ".join(text.split()))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put what a page's head asks for below its title or its introduction, and numbers at its end."""
    asked = [environments(page.meta["envs"])] if "envs" in page.meta else []
    asked += [method(name) for name in page.meta.get("methods", ())]
    title, _, rest = markdown.lstrip().partition("\n")
    if "headline" in page.meta:
        lead, mark, body = rest.partition("\n## ")
        rest = f"{lead}\n{headline(page.meta['headline'])}\n{mark}{body}"
    groups = [settings(*name.split(".")) for name in page.meta.get("settings", ())]
    last = ["## Settings", *groups] if groups else []
    last += [f"## From {RESULTS[name]}\n\n{results(name)}" for name in page.meta.get("results", ())]
    last += [measured(page.meta["measured"])] if "measured" in page.meta else []
    return INTERVAL.sub("[\\1,\u00a0\\2]", "\n\n".join([title, *asked, rest, *last]))


def on_env(env: Any, files: Any, **_: Any) -> Any:
    """Warn of an environment or a method that has no page (`--strict` then fails)."""
    heads = [file.page.meta for file in files.documentation_pages()]
    for kind, names in (("envs", ENVS), ("methods", METHODS)):
        for name in set(names) - {name for head in heads for name in head.get(kind, ())}:
            LOG.warning("%s is on no page (a page's head would say `%s: [%s]`)", name, kind, name)
    return env


def on_startup(command: str, **_: Any) -> None:
    """Leave the board out where pages are made anew at every change."""
    global BOARD
    BOARD = command != "serve"


def on_post_build(config: Any) -> None:
    """Build the board; what could not be replayed here is told."""
    if not BOARD:
        return
    submissions, out = ROOT / config["extra"]["submissions"], Path(config["site_dir"]) / "board"
    page = board.build(submissions, out, progress=sys.stderr.isatty())
    for left_out in json.loads((page.parent / "latest.json").read_bytes())["refused"]:
        LOG.info("not on the board: %s: %s", left_out["folder"], left_out["reason"])
