"""What a pull request's check runs: verify the submissions that are new in a folder, and print a table.

python -m prosegym.leaderboard.review BEFORE PROPOSED
python -m prosegym.leaderboard.review --data BEFORE PROPOSED   the official data sets that this will need
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from prosegym.envs.errors import ProsegymError
from prosegym.envs.lookup import env_class
from prosegym.evaluation.statistics import Estimate
from prosegym.leaderboard import submission as reader
from prosegym.leaderboard.verify import Report, verify


def review(before: Path, proposed: Path, *, workers: int | None = None) -> tuple[str, bool]:
    """The Markdown of a review, and whether everything new passed.

    A submission is new where no folder of that name with that digest was there before; one that it replaces,
    and folders that are gone, are named. The ledger belongs to the maintainers: files beside the folders are
    not looked at.
    """
    lines: list[str] = []
    passed = True
    for name in sorted(_folders(before) - _folders(proposed)):
        lines += [f"### {_text(name)}: taken away", "", "- Is there a ledger entry?", ""]
    for folder in _new(before, proposed):
        try:
            report = verify(folder, workers=workers, progress=False)
        except ProsegymError as error:
            lines += [
                f"### {_text(folder.name)}: could not be verified here",
                "",
                f"- {_text(str(error))}",
                "",
            ]
            passed = False
            continue
        passed = passed and report.ok
        lines += _table(folder.name, report)
        if (before / folder.name).is_dir():
            lines += ["- It takes the place of another submission. Is there a ledger entry?", ""]
    return "\n".join(lines or ["No new submission."]) + "\n", passed


def needs(before: Path, proposed: Path) -> list[str]:
    """The official data sets of the environments that new submissions were played in."""
    found: set[str] = set()
    for folder in _new(before, proposed):
        try:
            submission, _ = reader.read(folder)
        except ProsegymError:  # the review says what is wrong with it
            continue
        data = (env_class(result.env_id).data for result in submission.results)
        found |= {name for name in data if name is not None}
    return sorted(found)


def _new(before: Path, proposed: Path) -> list[Path]:
    folders = [proposed / name for name in sorted(_folders(proposed))]
    return [f for f in folders if (d := reader.intact(f)) is None or d != reader.intact(before / f.name)]


def _folders(where: Path) -> set[str]:
    return {f.name for f in where.iterdir() if f.is_dir()} if where.is_dir() else set()


def _table(name: str, report: Report) -> list[str]:
    verdict = "refused" if not report.ok else "re-run" if report.rerun else "replayed"
    lines = [f"### {_text(name)}: {verdict}", ""]
    lines += [f"- {_text(problem)}" for problem in report.problems]
    if report.card is not None and report.ok:
        lines += [
            f"{_text(report.card.agent)} · {report.card.track} · {report.episodes} episodes "
            f"· `{report.digest}`",
            "",
            "| Panel | Success | Score | Errors |",
            "|---|---|---|---|",
            *(
                f"| {row.panel} | {_estimate(row.numbers.success)} | {_estimate(row.numbers.score)} "
                f"| {row.numbers.errors} |"
                for row in report.rows
            ),
        ]
        lines += ["", *(f"- Unranked: {where}: {lack}" for where, lack in report.unranked)]
        lines += [*(f"- For a person to look at: {_text(flag)}" for flag in report.flags)]
        if lacking := reader.missing(report.card):
            lines += [f"- The card does not state: {', '.join(lacking)}"]
    return [*lines, ""]


def _estimate(e: Estimate) -> str:
    return f"{100 * e.value:.1f} [{100 * e.low:.1f}, {100 * e.high:.1f}]"


def _text(text: str) -> str:
    """A stranger's text as Markdown that shows it and does nothing: no markup, links or mentions."""
    shown = "".join(c if c.isprintable() else "?" for c in text)[:400]
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~@&:/.-])", lambda m: f"&#{ord(m[0])};", shown)


def main(arguments: Sequence[str]) -> int:
    """Print the review, and 1 where something new was refused; or, with --data, what it needs."""
    arguments = list(arguments)
    data = "--data" in arguments
    if data:
        arguments.remove("--data")
    if len(arguments) != 2:
        print("usage: python -m prosegym.leaderboard.review [--data] BEFORE PROPOSED", file=sys.stderr)
        return 2
    if data:
        print("".join(f"{name}\n" for name in needs(Path(arguments[0]), Path(arguments[1]))), end="")
        return 0
    text, passed = review(Path(arguments[0]), Path(arguments[1]))
    print(text, end="")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
