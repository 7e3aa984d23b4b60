"""Suites: committed lists of what to play, so that everybody's run of a benchmark is the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from prosegym.envs import panels
from prosegym.envs.errors import UNREADABLE, CorruptData, ProsegymError, UnknownName
from prosegym.envs.lookup import tier
from prosegym.evaluation import statistics
from prosegym.evaluation.agents import Agent
from prosegym.evaluation.evaluate import evaluate
from prosegym.evaluation.runs import Run

FOLDER = Path(__file__).parent / "suites"


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One panel of a suite, and how it is played."""

    panel: str
    sha256: str
    """The panel's digest: a suite stands for tasks, not for a file name."""
    attempts: int = 1
    env_kwargs: dict[str, Any] = {}
    """Reward mode, step limit, variant: beyond the environment's defaults."""


class Suite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named benchmark."""

    name: str
    about: str
    tier: Literal["official", "generated"]
    """Published tasks or tasks of our own making; a suite never mixes the two."""
    entries: list[Entry]


def names() -> list[str]:
    """Every committed suite's name."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str) -> Suite:
    """A committed suite, checked: its panels are the committed ones, and all of its tier.

    Raises:
        UnknownName: there is none of that name.
        CorruptData: it does not fit the committed panels, or mixes tiers.
    """
    path = FOLDER / f"{name}.json"
    if name not in names():
        raise UnknownName("suite", name, names())
    try:
        suite = msgspec.json.decode(path.read_bytes(), type=Suite)
    except UNREADABLE as error:
        raise CorruptData(f"{path}: not a suite: {error}") from error
    for entry in suite.entries:
        panel = panels.load(entry.panel)
        if panel.sha256 != entry.sha256:
            raise CorruptData(
                f"suite {name}: panel {entry.panel} has digest {panel.sha256[:12]}, the suite names "
                f"{entry.sha256[:12]}; restore the committed files (`prosegym panel diff` shows the tasks)"
            )
        if tier(panel.env_id) != suite.tier:
            raise CorruptData(f"suite {name} is {suite.tier}, but {panel.env_id} is {tier(panel.env_id)}")
    return suite


def save(suite: Suite, folder: Path = FOLDER) -> Path:
    """Write a suite where `load` finds it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{suite.name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(suite), indent=1) + b"\n")
    return path


class SuiteSummary(msgspec.Struct, frozen=True):
    """A suite's numbers: each panel's, and the inter-quartile mean over panels. An episode is an attempt's
    last trial, as in a run's `Summary`."""

    suite: str
    agent: str
    trials: int
    """Trials an attempt may have; 1 unless the agent retries with a success signal."""
    scores: dict[str, statistics.Estimate]
    successes: dict[str, statistics.Estimate]
    initial: dict[str, float]
    """Mean score of first trials."""
    average: dict[str, float]
    """Mean score over trials."""
    errors: dict[str, int]
    """Episodes that ended in an error; in the means as 0."""
    interquartile_mean: float
    """Of the panels' mean scores (Agarwal et al. 2021)."""
    profile: dict[str, float]
    """Share of panels whose mean score is above each threshold."""


def play(agent: Agent, suite: Suite, out: str | Path, **options: Any) -> list[Run]:
    """Evaluate the agent on every panel of the suite, each in a run folder of its own below `out`.

    `options` are those of `evaluate` that are not the suite's to say: seed, batch_size, workers, limits,
    ray_actors, ray_gpus, make_agent, progress. A killed call goes on.
    """
    if fixed := {"attempts", "env_kwargs"} & options.keys():
        raise ProsegymError(f"a suite fixes {' and '.join(sorted(fixed))}")
    runs = []
    for entry in suite.entries:
        folder = Path(out) / entry.panel.replace("/", "-")
        runs.append(
            evaluate(
                agent, panels.load(entry.panel), folder,
                attempts=entry.attempts, env_kwargs=entry.env_kwargs, **options,
            )
        )  # fmt: skip
    return runs


def summarise(suite: Suite, runs: list[Run]) -> SuiteSummary:
    """The suite's numbers from its runs."""
    summaries = {run.conditions.panel.name: run.summary() for run in runs}
    means = [s.score.value for s in summaries.values()]
    thresholds = [i / 10 for i in range(10)]
    return SuiteSummary(
        suite.name,
        runs[0].conditions.agent if runs else "",
        max((s.trials for s in summaries.values()), default=1),
        {name: s.score for name, s in summaries.items()},
        {name: s.success for name, s in summaries.items()},
        {name: s.initial for name, s in summaries.items()},
        {name: s.average for name, s in summaries.items()},
        {name: s.errors for name, s in summaries.items()},
        statistics.interquartile_mean(means),
        dict(zip(map(str, thresholds), statistics.performance_profile(means, thresholds), strict=True)),
    )
