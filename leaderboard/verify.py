"""Play every action of a submission again and compute every number again; trust none of it.

The replay happens in processes of its own: one that dies or gives no answer in time is an error of the
episode it was playing, and the others go on. What cannot be known from a replay: who chose the actions.
"""

from __future__ import annotations

import functools
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from tqdm import tqdm

from prosegym import __version__
from prosegym.envs import ENVS, lookup, panels, trajectory
from prosegym.envs.core import unwrapped
from prosegym.envs.errors import BadOption, DataMissing, ProsegymError, UnknownName
from prosegym.envs.home import home, write_whole
from prosegym.envs.panels import Panel
from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation.agents import ExpertAgent, built_in
from prosegym.evaluation.evaluate import make_env
from prosegym.evaluation.metrics import Summary, TypeRow, summarise
from prosegym.evaluation.replay import settled_otherwise
from prosegym.evaluation.rollout import Job, rollout
from prosegym.evaluation.runs import other_versions
from prosegym.evaluation.statistics import Estimate
from prosegym.leaderboard import submission as reader
from prosegym.leaderboard.pool import Pool
from prosegym.leaderboard.replayer import Context, actions_digest, exact_digest
from prosegym.leaderboard.rules import (
    Acts,
    acts_of,
    contradictions,
    copied,
    minimum,
    oddities,
    place_of,
    run_digest,
    sampled,
    settings,
)
from prosegym.leaderboard.submission import Card, Claim, Refused, Result, Submission

RULES = 7
"""Raised whenever a report on the same files may say other things: receipts of earlier rules are not read."""
TIME_LIMIT = 120.0
"""Seconds that the replay of one episode may take."""
MAX_PROBLEMS = 20
"""Problems of a run that are told; the rest are counted."""
MAX_BAD = 100
"""Bad episodes of a run after which no more are read."""
TOLERANCE = 1e-6
"""Difference allowed between a claimed number and the same number computed here."""
SAMPLE = 50
"""Solved episodes of a run that are compared with the experts' plans."""


class NotHere(ProsegymError):
    """This machine lacks what the replay needs (data, an extra), or has other tasks than the panels."""


class Row(msgspec.Struct, frozen=True):
    """One run as it was recomputed, or several together."""

    env_id: str
    env_kwargs: dict[str, Any]
    """Those that differ from what the environment does by itself, as the run's machine settled them."""
    panel: str
    panel_sha256: str
    tier: str
    """"official" or "generated"."""
    agent: str
    attempts: int
    trials: int
    seed: int
    tasks: int
    episodes: int
    numbers: Claim
    types: list[TypeRow]
    pass_at: dict[str, float]
    pass_hat: dict[str, float]
    actions_sha256: str
    """Of all actions of all episodes, blanks folded (`Acts.whole`): equal for a submission sent in twice."""
    below: list[str] = []
    """What the rules ask of such a run and this one lacks; a row that lacks anything has no rank."""


class Place(msgspec.Struct, frozen=True):
    """A row of the board: the runs of an agent on one panel, with the same arguments and as many trials."""

    runs: list[int]
    """Their numbers in the submission."""
    row: Row
    """Their episodes as one run's, in which a task's attempts are those that it had in any of them."""


class Report(msgspec.Struct, frozen=True):
    """What verification found."""

    folder: str
    """As a terminal can show it."""
    digest: str
    """Of submission.json, and through it of every episodes file; "" where it could not be read."""
    card: Card | None
    ok: bool
    problems: list[str]
    """Why it is refused, one line each."""
    flags: list[str]
    """What a person should look at; nothing here refuses the submission."""
    rows: list[Row]
    """The runs, in the submission's order."""
    acts: list[Acts]
    """What each of them did."""
    places: list[Place]
    """The rows of the board."""
    rerun: bool
    """Whether its agents were run again and chose the same actions (null, random and expert can be)."""
    episodes: int
    seconds: float

    @property
    def unranked(self) -> list[tuple[str, str]]:
        """(run, what it lacks) of every run that the board shows without a rank."""
        return [(f"run {n}", lack) for n, row in enumerate(self.rows, 1) for lack in row.below]


def verify(
    folder: str | Path,
    *,
    workers: int | None = None,
    progress: bool = True,
    time_limit: float = TIME_LIMIT,
    pool: Pool | None = None,
) -> Report:
    """Replay and recompute a submission.

    Args:
        folder: the submission.
        workers: processes that replay; None for one a processor, 0 to replay in this process (which a
            hostile submission can then make wait).
        progress: whether to show a progress bar.
        time_limit: seconds that the replay of one episode may take.
        pool: processes that replay, kept from one submission to the next; by default new ones.

    Returns:
        The report. Anything wrong with the submission is a problem in it, never an exception.

    Raises:
        NotHere: this machine lacks something (data, an extra) or has other tasks than the panels.
        ProsegymError: the replaying processes do not start.
    """
    if pool is not None:
        return _verify(Path(folder), pool, progress)
    with Pool(workers, time_limit) as own:
        return _verify(Path(folder), own, progress)


def _verify(folder: Path, pool: Pool, progress: bool) -> Report:
    start, where = time.perf_counter(), reader.printable(str(folder))
    try:
        submission, digest = reader.read(folder)
        problems = [*contradictions(submission.card, submission.results)]
        flags = [*oddities(submission.card, submission.results)]
    except Refused as error:
        return Report(where, "", None, False, [str(error)], [], [], [], [], False, 0, 0.0)
    except ProsegymError as error:  # an environment's own settings are asked of it: its extra may be missing
        raise NotHere(str(error)) from error
    runs, episodes, reference = [], 0, submission.card.track == "reference"
    for number, result in enumerate(submission.results):
        run = _Run(submission, result, number)
        run.play(folder, pool, progress)
        problems += run.told()
        episodes += len(run.episodes)
        if not run.problems:
            runs.append(run)
            flags += run.flags()
            if reference:
                problems += run.rerun()
    ok = not problems
    rows = [run.row() for run in runs]
    if ok:
        lacking = minimum(submission.card, submission.results, [run.acts for run in runs])
        rows = [msgspec.structs.replace(row, below=found) for row, found in zip(rows, lacking, strict=True)]
    report = Report(
        where, digest, submission.card, ok, problems, flags, rows, [run.acts for run in runs],
        _places(runs, rows) if ok else [], reference and ok, episodes, time.perf_counter() - start,
    )  # fmt: skip
    if ok:
        _keep(report)
    return report


def verified(folder: str | Path, *, progress: bool = True, pool: Pool | None = None) -> Report:
    """The report on a submission, from this machine's own receipt where the very same files passed before."""
    folder = Path(folder)
    if digest := reader.intact(folder):
        with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            receipt = msgspec.json.decode(_receipt(digest).read_bytes(), type=Report)
            if receipt.digest == digest:
                return msgspec.structs.replace(receipt, folder=reader.printable(str(folder)))
    return verify(folder, progress=progress, pool=pool)


def _receipt(digest: str) -> Path:
    return home() / "verified" / f"{__version__}-{RULES}" / f"{digest}.json"


def _keep(report: Report) -> None:
    path = _receipt(report.digest)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.encode(report))
    except OSError:  # a receipt saves time, no more
        pass


def claim(summary: Summary) -> Claim:
    """The part of a run's summary that a submission claims."""
    return Claim(**{name: getattr(summary, name) for name in Claim.__struct_fields__})


def _equal(claimed: float | None, found: float | None) -> bool:
    """Whether two numbers are the same but for rounding; one that is not known equals no number."""
    if claimed is None or found is None:
        return claimed is found
    return math.isclose(claimed, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


@dataclass
class _Run:
    """A run under verification."""

    submission: Submission
    result: Result
    number: int
    problems: list[str] = field(default_factory=list)
    episodes: list[Trajectory] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    """Digest of each episode's actions, blanks folded."""
    exact: list[str] = field(default_factory=list)
    """Digest of each episode's actions as they are."""
    _bad: int = 0
    _stopped: bool = False

    def __post_init__(self) -> None:
        self.panel: Panel = reader.panel_of(self.result.panel)

    @property
    def where(self) -> str:
        return f"episodes/{self.result.file}"

    def play(self, folder: Path, pool: Pool, progress: bool) -> None:
        """Replay every line; afterwards `episodes` are all there, in order, or `problems` say why not."""
        result, panel = self.result, self.panel
        context = Context(
            self.number, ENVS[result.env_id], result.env_id, dict(result.env_kwargs), result.agent,
            result.seed, result.attempts, result.trials, panel.split, dict(panel.tasks),
        )  # fmt: skip
        try:
            _prepare(result, panel)
            if reader.file_digest(folder / "episodes" / result.file) != result.sha256:
                self.problems.append(f"{self.where} is not the file whose sha256 submission.json states")
        except Refused as error:
            self.problems.append(str(error))
            return
        lines = self._lines(folder)
        answers = pool.replay(context, lines)
        found = []
        with tqdm(total=result.episodes, unit="episode", desc=panel.name, disable=not progress) as bar:
            for answer in answers:
                found.append(answer)
                bar.update()
                self._bad += answer.problem is not None
        found.sort(key=lambda answer: answer.index)
        for answer in found:
            if answer.problem is not None:
                self.problems.append(f"{self.where}:{answer.index + 1}: {answer.problem}")
            if answer.episode is not None:
                self.episodes.append(trajectory.decode(answer.episode))
                self.actions.append(answer.actions_sha256)
                self.exact.append(answer.exact_sha256)
        if not self._stopped:
            self.problems += self._incomplete()
        if not self.problems:
            self.problems += self._miscounted()

    def _lines(self, folder: Path) -> Iterator[tuple[int, bytes]]:
        """The file's lines, until it ends, cannot be read on, or enough of them are bad."""
        try:
            for index, line in enumerate(reader.lines(folder, self.result)):
                if self._bad > MAX_BAD:
                    raise Refused(f"{self.where}: more than {MAX_BAD} bad episodes; the rest was not read")
                yield index, line
        except Refused as error:
            self._stopped = True
            self.problems.append(str(error))

    def _incomplete(self) -> Iterator[str]:
        """Every task, every attempt, every trial that was due: once, and in the panel's order."""
        place = {task_id: i for i, task_id in enumerate(self.panel.task_ids)}
        keys = [t.key for t in self.episodes]
        for (task_id, attempt, trial), times in Counter(keys).items():
            if times > 1:
                yield f"{self.where}: task {task_id} attempt {attempt} trial {trial} is there {times} times"
        order = [(place[task_id], attempt, trial) for task_id, attempt, trial in keys]
        late = next((i for i in range(1, len(order)) if order[i] < order[i - 1]), None)
        if late is not None:
            yield f"{self.where}:{late + 1}: task {keys[late][0]} is out of the panel's order"
        won = {t.key: t.success for t in self.episodes}
        for task_id in self.panel.task_ids:
            for attempt in range(self.result.attempts):
                trial = 0
                while (task_id, attempt, trial) in won and not won[task_id, attempt, trial]:
                    trial += 1
                due = trial < self.result.trials
                if due and (task_id, attempt, trial) not in won:
                    what = f" trial {trial}" if self.result.trials > 1 else ""
                    yield f"{self.where}: task {task_id} attempt {attempt}{what} is missing"
                for later in range(trial + 1, self.result.trials):
                    if (task_id, attempt, later) in won:
                        yield (
                            f"{self.where}: task {task_id} attempt {attempt} trial {later}: "
                            f"there is no failed trial {later - 1} before it"
                        )
                        break
        if len(keys) != self.result.episodes:
            yield f"{self.where} holds {len(keys)} episodes of this run; {self.result.episodes} are declared"

    @functools.cached_property
    def summary(self) -> Summary:
        """The run's numbers, from its replayed episodes."""
        c = self.result
        return summarise(self.episodes, tasks=len(self.panel.tasks), attempts=c.attempts, trials=c.trials)

    def _miscounted(self) -> Iterator[str]:
        """The claimed numbers that are not those of the episodes."""
        computed = claim(self.summary)
        for name in Claim.__struct_fields__:
            claimed, found = getattr(self.result.claim, name), getattr(computed, name)
            pairs = zip(claimed, found, strict=True) if isinstance(found, Estimate) else [(claimed, found)]
            if not all(_equal(a, b) for a, b in pairs):
                yield f"results[{self.number}].claim.{name}: claimed {claimed}, the episodes give {found}"

    def told(self) -> list[str]:
        """The problems, the first of them in full."""
        if not self.problems:
            return []
        more = len(self.problems) - MAX_PROBLEMS
        told = self.problems[:MAX_PROBLEMS] + ([f"{self.where}: and {more} more"] if more > 0 else [])
        return told + [f"{self.where}: {other}" for other in other_versions(self.result.versions)]

    def row(self) -> Row:
        """The recomputed row."""
        r, summary = self.result, self.summary
        return Row(
            env_id=r.env_id,
            env_kwargs=settings(r),
            panel=r.panel,
            panel_sha256=r.panel_sha256,
            tier=lookup.tier(r.env_id),
            agent=r.agent,
            attempts=r.attempts,
            trials=r.trials,
            seed=r.seed,
            tasks=len(self.panel.tasks),
            episodes=len(self.episodes),
            numbers=claim(summary),
            types=summary.types,
            pass_at=summary.pass_at,
            pass_hat=summary.pass_hat,
            actions_sha256=self.acts.whole,
        )

    @functools.cached_property
    def acts(self) -> Acts:
        """What it did."""
        return acts_of((t.task_id, t.attempt, a, t.success) for t, a in self._acted())

    def _acted(self) -> Iterator[tuple[Trajectory, str]]:
        return zip(self.episodes, self.actions, strict=True)

    def flags(self) -> list[str]:
        """What looks odd and proves nothing."""
        track, flags = self.submission.card.track, []
        ways = len(self.acts.attempts)
        if ways > 1 and track != "reference" and not sampled(self.result):
            flags.append(
                f"{self.where}: its {self.result.attempts} attempts act in {ways} ways, "
                "though its conditions state that it is deterministic"
            )
        if track not in ("zero-shot", "few-shot"):
            return flags
        solved = [(t.task_id, a) for t, a in self._acted() if t.success and len(t.steps) > 1]
        solved = solved[:: max(1, len(solved) // SAMPLE)][:SAMPLE]
        for name in lookup.env_class(self.result.env_id).experts:
            try:
                plans = self._plays(ExpertAgent(name), [Job(task_id) for task_id, _ in solved])
            except ProsegymError as error:
                flags.append(f"{self.where}: not compared with expert {name!r}: {reader.reason(error)}")
                continue
            if failed := [str(t.error) for t in plans.values() if t.ended == "error"]:
                flags.append(f"{self.where}: not wholly compared with expert {name!r}: {failed[0]}")
            same = sum(actions_digest(plans[task_id, 0]) == actions for task_id, actions in solved)
            if same >= 5 and same * 2 >= len(solved):
                flags.append(
                    f"{self.where}: {same} of {len(solved)} solved episodes looked at are the plan of expert "
                    f"{name!r}, action by action, under the label {self.submission.card.track}"
                )
        return flags

    def rerun(self) -> list[str]:
        """Run an agent that needs no model again; whatever it now chooses otherwise is a problem."""
        name = self.result.agent
        jobs = [Job(t.task_id, t.attempt) for t in self.episodes]
        try:
            played = self._plays(built_in(name), jobs)
        except ProsegymError as error:  # no such expert here, or one that has no plan
            return [f"{self.where}: agent {name!r} cannot be run again: {reader.reason(error)}"]
        for job, recorded in zip(jobs, self.exact, strict=True):
            again = played[job.task_id, job.attempt]
            if exact_digest(again) != recorded:
                where = f"{self.where}: task {job.task_id} attempt {job.attempt}"
                if again.ended == "error":
                    return [f"{where}: agent {name!r} cannot be run again: {again.error}"]
                return [f"{where}: run again, agent {name!r} acts otherwise"]
        return []

    def _plays(self, agent: Any, jobs: list[Job]) -> dict[tuple[str, int], Trajectory]:
        kwargs = dict(self.result.env_kwargs)
        played = rollout(
            lambda: make_env(self.result.env_id, **kwargs), agent, jobs, batch_size=16, seed=self.result.seed
        )
        return {(t.task_id, t.attempt): t for t in played}


def _places(runs: Sequence[_Run], rows: Sequence[Row]) -> list[Place]:
    """Those runs together that were played alike, with as many trials, without copies of runs before them.

    Unless all of them solve every episode: where only one way is right, more runs go it, and no mean moves.
    """
    alike: dict[bytes, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        alike[place_of(row.panel, row.env_kwargs, row.trials)].append(number)
    places = []
    for numbers in alike.values():
        if not all(t.success for number in numbers for t in runs[number].episodes):
            copies = copied([runs[number].acts for number in numbers])
            numbers = [number for number, copy in zip(numbers, copies, strict=True) if not copy]
        row = rows[numbers[0]] if len(numbers) == 1 else _together(runs, rows, numbers)
        places.append(Place(numbers, row))
    return places


def _together(runs: Sequence[_Run], rows: Sequence[Row], numbers: Sequence[int]) -> Row:
    first, attempts, episodes = rows[numbers[0]], 0, []
    for number in numbers:
        episodes += [msgspec.structs.replace(t, attempt=attempts + t.attempt) for t in runs[number].episodes]
        attempts += rows[number].attempts
    summary = summarise(episodes, tasks=first.tasks, attempts=attempts, trials=first.trials)
    return msgspec.structs.replace(
        first,
        attempts=attempts,
        episodes=len(episodes),
        numbers=claim(summary),
        types=summary.types,
        pass_at=summary.pass_at,
        pass_hat=summary.pass_hat,
        actions_sha256=run_digest(rows[number].actions_sha256 for number in numbers),
        below=list(dict.fromkeys(lack for number in numbers for lack in rows[number].below)),
    )


def _prepare(result: Result, panel: Panel) -> None:
    """Build what the panel's tasks need, and see that this machine has the tasks the panel names.

    Raises:
        Refused: the environment does not take these arguments, or has other tasks with them.
        NotHere: this machine lacks the data or an extra, settles something otherwise, or has other tasks.
    """
    try:
        env = make_env(result.env_id, **result.env_kwargs)
    except (BadOption, UnknownName, TypeError, ValueError) as error:
        raise Refused(f"episodes/{result.file}: env_kwargs: {error}") from error
    except ProsegymError as error:
        raise NotHere(str(error)) from error
    try:
        # First, because what is settled otherwise answers otherwise, which would read as tampering.
        if result.env_conditions and (other := settled_otherwise(env, result.env_conditions)):
            raise NotHere(f"episodes/{result.file}: {other}")
        try:
            tasks = panels.tasks_of(panel, env)
        except ProsegymError as error:
            if result.env_kwargs and not isinstance(error, DataMissing):
                raise Refused(
                    f"episodes/{result.file}: with env_kwargs {result.env_kwargs}: {error}"
                ) from error
            raise
        unwrapped(env).prepare(tasks)
    except Refused:
        raise
    except ProsegymError as error:
        raise NotHere(str(error)) from error
    finally:
        env.close()
