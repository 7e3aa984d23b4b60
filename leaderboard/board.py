"""The board: a static site, from a folder of submissions. Only what was replayed here stands on it.

SITE/index.html                 the tables, one for each panel
SITE/s/<id>/index.html          a submission: card, numbers, per-type results, episodes
SITE/s/<id>/<run>/<task>.html   every attempt and trial at one task, step by step
SITE/s/<id>/data/               what was submitted
SITE/m/<method>.html            a method: its rows on every board, its learning curves
SITE/pairs/<panel>.html         a panel's rows two by two: differences, their intervals, McNemar's p
SITE/latest.json                the tables for machines

Every page works from the file system and loads nothing but the site's own styles and app.js.
"""

from __future__ import annotations

import math
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from tqdm import tqdm

from prosegym.envs.errors import ProsegymError
from prosegym.evaluation.compare import Outcomes
from prosegym.leaderboard import ledger, pages, pairs, tables
from prosegym.leaderboard import submission as reader
from prosegym.leaderboard.folder import whole, writable
from prosegym.leaderboard.html import page
from prosegym.leaderboard.pool import Pool
from prosegym.leaderboard.rows import Entry, Group, groups_of, ranks, title_of
from prosegym.leaderboard.verify import TIME_LIMIT, NotHere, Report, verified

STATIC = Path(__file__).parent / "static"
RULES = Path(__file__).parent / "RULES.md"
SITE = frozenset(
    {"index.html", "style.css", "noscript.css", "app.js", "rules.html", "ledger.html", "latest.json"}
    | {"m", "s", "pairs"}
)
"""What a site's folder holds."""


def build(
    submissions: str | Path, out: str | Path, *, workers: int | None = None, progress: bool = True
) -> Path:
    """Build the site from a folder of submission folders.

    Each submission is replayed, unless this machine has replayed the very same files before. One that is
    refused, or needs data or an extra that is not on this machine, is left out and named, with the reason, on
    the first page and in latest.json.

    Args:
        submissions: holds a folder for each submission, and `ledger.jsonl` where there is one.
        out: the site's folder; a site that is there already is replaced.
        workers: processes that replay; None for one a processor.
        progress: whether to show progress bars.

    Returns:
        The page to open.

    Raises:
        ProsegymError: there is no such folder, the ledger is broken, or `out` holds something that is not of
            a site.
    """
    submissions = Path(submissions)
    if not submissions.is_dir():
        raise ProsegymError(f"{submissions} is not a folder of submissions; make one with `prosegym submit`")
    if (submissions / "submission.json").is_file():
        raise ProsegymError(f"{submissions} is one submission; name the folder that it lies in")
    out = Path(out)
    site = writable(out, SITE if (out / "latest.json").is_file() else ())
    history = ledger.check(submissions / "ledger.jsonl")
    entries, refused = _entries(submissions, history, workers, progress)
    with whole(site) as part:
        for name in ("style.css", "noscript.css", "app.js"):
            shutil.copyfile(STATIC / name, part / name)
        groups = groups_of(entries)
        (part / "index.html").write_bytes(tables.index(groups, entries, refused))
        (part / "rules.html").write_bytes(
            page("Rules", pages.markdown(RULES.read_text("utf-8")), root="", css_class="prose")
        )
        (part / "m").mkdir()
        for name, found in pages.methods_of(entries).items():
            (part / "m" / f"{pages.slug(name)}.html").write_bytes(pages.method(name, found))
        (part / "ledger.html").write_bytes(
            pages.ledger(history, {entry.report.digest: entry for entry in entries})
        )
        ran: dict[tuple[str, int], Outcomes] = {}
        for entry in tqdm(entries, desc="pages", unit="submission", disable=not progress):
            for number, came in enumerate(pages.submission(part, entry, groups)):
                ran[entry.id, number] = came
        (part / "pairs").mkdir()
        for group in filter(pairs.compared, groups):
            (part / "pairs" / f"{group.slug}.html").write_bytes(pairs.pairs(group, ran))
        (part / "latest.json").write_bytes(_latest(groups, history, refused))
    return out / "index.html"


def _entries(
    submissions: Path, history: Sequence[ledger.Entry], workers: int | None, progress: bool
) -> tuple[list[Entry], list[tuple[str, str]]]:
    """What stands on the board, and what does not with its reason."""
    stands = ledger.standing(history)
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    folders = sorted(f for f in submissions.iterdir() if f.is_dir() and not f.name.startswith("."))
    reports: list[tuple[Path, Report]] = []
    with Pool(workers, TIME_LIMIT) as pool:
        for folder in folders:
            try:
                reports.append((folder, verified(folder, progress=progress, pool=pool)))
            except NotHere as error:
                refused.append((folder.name, f"not replayed on this machine: {error}"))
                stands.discard(reader.read(folder)[1])
    for folder, report in reports:
        if not report.ok or report.card is None:
            refused.append((folder.name, report.problems[0]))
        else:
            found, _ = reader.read(folder)
            entries.append(Entry(report.digest[:16], folder, report.card, found.results, report))
    if lost := stands.difference(report.digest for _, report in reports):
        agents = sorted({e.agent for e in history if e.submission in lost})
        refused.append(("ledger.jsonl", f"{len(lost)} of its submissions are not here: {', '.join(agents)}"))
    standing, copies = _without_copies(entries, history)
    refused += copies
    return standing, [(reader.printable(name[:200]), reason[:500]) for name, reason in refused]


def _without_copies(
    entries: Sequence[Entry], history: Sequence[ledger.Entry]
) -> tuple[list[Entry], list[tuple[str, str]]]:
    """Rows that are no copies of what was added before them, and not removed; and who lacks one so.

    A folder that is another byte for byte is left out whole: both would have one page.
    """
    removed = {e.submission for e in history} - ledger.standing(history)
    order = {e.submission: e.number for e in history}
    # Where the right actions are the only ones, whoever is right acts as the expert does.
    plain: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.card.track == "reference":
            for row, acts in zip(entry.report.rows, entry.report.acts, strict=True):
                plain[row.panel] |= {acts.whole, *acts.attempts}
    standing: list[Entry] = []
    refused: list[tuple[str, str]] = []
    earlier: list[tuple[Entry, dict[tuple[str, int, bool], set[str]]]] = []
    seen: dict[str, str] = {}
    for entry in sorted(
        entries,
        key=lambda e: (e.card.track != "reference", order.get(e.report.digest, math.inf), e.folder.name),
    ):
        if (first_folder := seen.setdefault(entry.id, entry.folder.name)) != entry.folder.name:
            refused.append((entry.folder.name, f"the very same submission as {first_folder}"))
            continue
        report, reference = entry.report, entry.card.track == "reference"
        # References are run again: one that acts alike on another board is no copy.
        keys = [(title_of(row) if reference else row.panel, row.trials, reference) for row in report.rows]
        copies: dict[int, str] = {}
        own: dict[tuple[str, int, bool], set[str]] = defaultdict(set)
        for number, (key, row, acts) in enumerate(zip(keys, report.rows, report.acts, strict=True)):
            if reference or not acts.copies(plain[row.panel]):
                for first, did in earlier:
                    gone = first.report.digest in removed
                    if acts.copies(did[key]) and not (gone and report.digest in order):
                        copies[number] = (
                            f"the same actions as {first.card.agent!r} ({first.id}) on {key[0]}"
                            f"{', which was removed' if gone else ''}; what the ledger has first stands"
                        )
                        break
            if number not in copies:
                own[key] |= {acts.whole, *acts.attempts}
        earlier.append((entry, own))
        if report.digest in removed:
            refused.append((entry.folder.name, "removed; the ledger says why"))
            continue
        reasons = list(dict.fromkeys(copies.values()))
        if places := [place for place in report.places if not copies.keys() & set(place.runs)]:
            left = msgspec.structs.replace(report, places=places, flags=[*report.flags, *reasons])
            standing.append(replace(entry, report=left))
            reasons = [f"{reason}; the other rows of {entry.card.agent!r} stand" for reason in reasons]
        refused += [(entry.folder.name, reason) for reason in reasons]
    return standing, refused


def _latest(
    groups: Sequence[Group], history: Sequence[ledger.Entry], refused: Sequence[tuple[str, str]]
) -> bytes:
    panels = []
    for group in groups:
        rows = []
        places = ranks(group.single) | ranks(group.retry)
        for standing in group.rows:
            entry, row = standing.entry, standing.row
            rows.append(
                {
                    "submission": entry.report.digest,
                    "runs": standing.runs,
                    "page": standing.page,
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
        "schema": 2,
        "ledger": history[-1].sha256 if history else ledger.START,
        "panels": panels,
        "refused": [{"folder": name, "reason": reason} for name, reason in refused],
    }
    return msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"
