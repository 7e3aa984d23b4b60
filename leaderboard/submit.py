"""From finished runs to a submission folder that the board will take."""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Sequence
from pathlib import Path

import msgspec

from prosegym.envs import trajectory
from prosegym.envs.errors import ProsegymError
from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation.metrics import summarise
from prosegym.evaluation.runs import Run
from prosegym.evaluation.texts import unfit_agent
from prosegym.leaderboard import submission as reader
from prosegym.leaderboard.folder import whole, writable
from prosegym.leaderboard.replayer import actions_digest
from prosegym.leaderboard.rules import acts_of, contradictions, is_reference, minimum
from prosegym.leaderboard.submission import SCHEMA, Card, Refused, Result, Submission
from prosegym.leaderboard.verify import claim

PINNED = frozenset({"train_held_out"})
"""Conditions of an environment that a panel settles: which tasks are in a split, each by its content."""


def submit(
    runs: Sequence[str | Path],
    out: str | Path,
    card: Card | str | Path | None = None,
    *,
    trained_on: Sequence[str | Path] = (),
    compress: bool = False,
) -> Path:
    """Write a submission folder from finished runs; `verify` will say of it what the board's will.

    Args:
        runs: run folders of one agent, each complete; those on one panel, such as the seeds of a training,
            will be one row.
        out: the folder to make; it must not exist, be empty, or hold a submission that has no other episodes.
        card: who and how, or a JSON file of it; None for `default_card`. `reader.missing` names what readers
            would look for in vain.
        trained_on: trajectory files, or runs' folders, that the agent was trained on; their tasks are checked
            against the panels.
        compress: whether to write `.jsonl.xz`.

    Returns:
        The folder.

    Raises:
        ProsegymError: a run is unfinished, was trained on its own panel, or could not be submitted; nothing
            is left behind, and what `out` held is still there.
    """
    if not runs:
        raise ProsegymError("nothing to submit; name at least one run folder")
    before = _episodes(Path(out))
    with whole(writable(out, ours=("submission.json", "episodes") if before else ())) as part:
        (part / "episodes").mkdir()
        opened = [Run.read(run) for run in runs]
        if not isinstance(card, Card):
            card = default_card(opened) if card is None else reader.read_card(Path(card))
        results = [_result(run, part, n, compress) for n, run in enumerate(opened)]
        if before - {result.sha256 for result in results}:
            raise ProsegymError(
                f"{out} holds a submission of other episodes, or of these in another compression, which "
                "would be lost; choose another --out"
            )
        trained = tasks_of(trained_on)
        for result in results:
            if shared := trained & set(reader.panel_of(result.panel).tasks):
                raise ProsegymError(
                    f"trained on {len(shared)} of the tasks of {result.panel}, first {min(shared)[0]!r}; "
                    "evaluate on a panel that was not trained on"
                )
        card = msgspec.structs.replace(card, training_tasks=len(trained)) if trained else card
        card = msgspec.convert(msgspec.to_builtins(card), Card)  # 12 for 12.0 is made 12.0
        reader.check_card(card)
        for problem in contradictions(card, results):
            raise Refused(problem)
        (part / "submission.json").write_bytes(reader.encode(Submission(SCHEMA, card, results)))
        reader.read(part)
    return Path(out)


def _episodes(folder: Path) -> set[str]:
    """Digests of the episodes files of a folder that holds a whole submission and nothing else."""
    return {r.sha256 for r in reader.read(folder)[0].results} if reader.intact(folder) else set()


def below_minimum(folder: Path) -> list[str]:
    """What the rules ask of the runs of a submission and these lack, as verification will say it."""
    found, _ = reader.read(folder)
    acts = []
    for result in found.results:
        episodes = map(trajectory.decode, reader.lines(folder, result))
        acts.append(acts_of((t.task_id, t.attempt, actions_digest(t), t.success) for t in episodes))
    lacking = minimum(found.card, found.results, acts)
    return [f"run {n}: {lack}" for n, lacks in enumerate(lacking, 1) for lack in lacks]


def default_card(runs: Sequence[Run]) -> Card:
    """What the runs themselves say of their agent.

    Without a word on how it came about, an agent stands among the trained ones: the label that claims least.
    """
    name = runs[0].conditions.agent
    model = runs[0].conditions.agent_conditions.get("model")
    base_model = model if isinstance(model, str) else ""
    if is_reference(name):
        return Card(agent=name, track="reference", base_model="none")
    retry = any(run.conditions.trials > 1 for run in runs)
    return Card(agent=name[:80], track="retry" if retry else "trained", base_model=base_model[:300])


def tasks_of(files: Sequence[str | Path]) -> set[tuple[str, str]]:
    """(task id, digest of its content) of every episode in trajectory files or runs' folders."""
    return {(t.task_id, t.task_sha256) for file in files for t in trajectory.read(file)}


def _result(run: Run, folder: Path, number: int, compress: bool) -> Result:
    c = run.conditions
    if not run.complete:
        summary = run.summary()
        raise ProsegymError(
            f"{run.folder} is unfinished ({summary.played} of {summary.planned} episodes); "
            "run the same `prosegym evaluate` again"
        )
    if fault := unfit_agent(c.agent, c.agent_conditions, "agent_conditions"):
        raise Refused(f"{run.folder}/run.json: {fault}")
    panel = reader.panel_of(c.panel.name, str(run.folder))
    place = {task_id: i for i, task_id in enumerate(panel.task_ids)}

    def order(t: Trajectory) -> tuple[int, int, int]:
        return place[t.task_id], t.attempt, t.trial

    episodes = sorted((t for t in run.finished if t.task_id in place), key=order)
    name = f"{number}.jsonl" + ".xz" * compress
    path = folder / "episodes" / name
    size = 0
    with lzma.open(path, "wb") if compress else open(path, "wb") as file:
        for episode in episodes:
            line = trajectory.encode(episode)
            if len(line) - 1 > reader.MAX_LINE:  # without its newline
                raise ProsegymError(
                    f"{run.folder}: task {episode.task_id} attempt {episode.attempt} trial {episode.trial} "
                    f"has {len(line):,} bytes, and an episode of a submission has at most {reader.MAX_LINE:,}"
                )
            size += len(line)
            file.write(line)
    if (packed := path.stat().st_size) > reader.MAX_FILE:
        mend = "submit a run of fewer attempts or tasks" if compress else "add --xz"
        raise ProsegymError(
            f"{run.folder}: its episodes are {packed:,} bytes, and at most {reader.MAX_FILE:,} are read; "
            f"{mend}"
        )
    return Result(
        env_id=c.env_id,
        env_kwargs=c.env_kwargs,
        panel=c.panel.name,
        panel_sha256=c.panel.sha256,
        agent=c.agent,
        conditions=c.agent_conditions,
        attempts=c.attempts,
        trials=c.trials,
        seed=c.seed,
        versions=c.versions,
        episodes=len(episodes),
        claim=claim(summarise(episodes, tasks=len(panel.tasks), attempts=c.attempts, trials=c.trials)),
        file=name,
        size=size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        env_conditions={k: v for k, v in c.env_conditions.items() if k not in PINNED},
    )
