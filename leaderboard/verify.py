"""Play every action of a submission again and compute every number again; trust none of it.

The replay happens in processes of its own: one that dies or gives no answer in time is an error of the
episode it was playing, and the others go on. What cannot be known from a replay: who chose the actions.
"""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import os
import re
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import gymnasium
import msgspec
from tqdm import tqdm

from prosegym.envs import ENVS, panels, register_envs, trajectory
from prosegym.envs.core import TextEnv
from prosegym.envs.errors import CorruptData, EngineError
from prosegym.envs.panels import Panel
from prosegym.envs.trajectory import Trajectory, Turn
from prosegym.evaluation.agents import ExpertAgent, built_in
from prosegym.evaluation.evaluate import make_env
from prosegym.evaluation.metrics import Summary, TypeRow, summarise
from prosegym.evaluation.replay import replay
from prosegym.evaluation.rollout import Job, episode_seed, rollout
from prosegym.evaluation.statistics import Estimate
from prosegym.leaderboard import submission as reader
from prosegym.leaderboard.submission import OFFICIAL, Card, Claim, Refused, Result, Submission

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


class Row(msgspec.Struct, frozen=True):
    """One run as it was recomputed: a row of the board."""

    env_id: str
    env_kwargs: dict[str, Any]
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
    """Of all actions of all episodes, in order: equal for a submission sent in twice."""


class Report(msgspec.Struct, frozen=True):
    """What verification found."""

    folder: str
    digest: str
    """Of submission.json, and through it of every episodes file; "" where it could not be read."""
    card: Card | None
    ok: bool
    problems: list[str]
    """Why it is refused, one line each."""
    flags: list[str]
    """What a person should look at; nothing here refuses the submission."""
    rows: list[Row]
    rerun: bool
    """Whether its agents were run again and chose the same actions (null, random and expert can be)."""
    episodes: int
    seconds: float


def verify(
    folder: str | Path, *, workers: int | None = None, progress: bool = True, time_limit: float = TIME_LIMIT
) -> Report:
    """Replay and recompute a submission.

    Args:
        folder: the submission.
        workers: processes that replay; None for one a processor, 0 to replay in this process (which a
            hostile submission can then make wait).
        progress: whether to show a progress bar.
        time_limit: seconds that the replay of one episode may take.

    Returns:
        The report. Anything wrong with the submission is a problem in it, never an exception.

    Raises:
        ProsegymError: this machine lacks something (data, an extra) or has other tasks than the panels.
    """
    folder, start = Path(folder), time.perf_counter()
    count = (os.cpu_count() or 1) if workers is None else workers
    try:
        submission, digest = reader.read(folder)
        problems = [*contamination(submission.card, submission.results)]
    except Refused as error:
        return Report(str(folder), "", None, False, [str(error)], [], [], False, 0, 0.0)
    rows, flags, episodes, rerun = [], [], 0, submission.card.track == "reference"
    pool = _Pool(count, time_limit) if count else None
    try:
        for number, result in enumerate(submission.results):
            run = _Run(submission, result, number)
            run.play(folder, pool, progress)
            problems += run.told()
            episodes += len(run.episodes)
            if not run.problems:
                rows.append(run.row())
                flags += run.flags()
                if submission.card.track == "reference":
                    again = run.rerun()
                    problems += again
                    rerun = rerun and not again
    finally:
        if pool is not None:
            pool.close()
    ok = not problems
    return Report(
        str(folder), digest, submission.card, ok, problems, flags, rows, rerun and ok, episodes,
        time.perf_counter() - start,
    )  # fmt: skip


def contamination(card: Card, results: Sequence[Result]) -> Iterator[str]:
    """Panels declared as training data that share tasks with those played."""
    for name in card.training_panels:
        trained = set(reader.panel_of(name).tasks)
        for played in sorted({result.panel for result in results}):
            if shared := trained & set(reader.panel_of(played).tasks):
                yield f"trained on {len(shared)} of the tasks of {played} (card.training_panels: {name})"


def claim(summary: Summary) -> Claim:
    """The part of a run's summary that a submission claims."""
    return Claim(**{name: getattr(summary, name) for name in Claim.__struct_fields__})


@dataclass(frozen=True)
class Context:
    """What a replaying process must know of a run."""

    number: int
    entry: str
    """Where the environment's maker is: our table's line, not the submission's."""
    env_id: str
    env_kwargs: dict[str, Any]
    agent: str
    seed: int
    attempts: int
    trials: int
    split: str
    tasks: dict[str, str]
    """Task id -> digest of its content, of the committed panel."""


@dataclass(frozen=True)
class Answer:
    """What became of one line."""

    index: int
    episode: bytes | None
    """The trajectory without its texts; None where the line could not be read or is not of this run."""
    actions_sha256: str
    problem: str | None


@dataclass
class _Run:
    """A run under verification."""

    submission: Submission
    result: Result
    number: int
    problems: list[str] = field(default_factory=list)
    episodes: list[Trajectory] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    """Digest of each episode's actions."""
    _bad: int = 0
    _stopped: bool = False

    def __post_init__(self) -> None:
        self.panel: Panel = reader.panel_of(self.result.panel)

    @property
    def where(self) -> str:
        return f"episodes/{self.result.file}"

    def play(self, folder: Path, pool: _Pool | None, progress: bool) -> None:
        """Replay every line; afterwards `episodes` are all there, in order, or `problems` say why not."""
        result, panel = self.result, self.panel
        _prepare(result, panel)
        context = Context(
            self.number, ENVS[result.env_id], result.env_id, dict(result.env_kwargs), result.agent,
            result.seed, result.attempts, result.trials, panel.split, dict(panel.tasks),
        )  # fmt: skip
        try:
            if reader.file_digest(folder / "episodes" / result.file) != result.sha256:
                self.problems.append(f"{self.where} is not the file whose sha256 submission.json states")
        except Refused as error:
            self.problems.append(str(error))
            return
        lines = self._lines(folder)
        answers = _here(context, lines) if pool is None else pool.replay(context, lines)
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

    def summary(self) -> Summary:
        c = self.result
        return summarise(self.episodes, tasks=len(self.panel.tasks), attempts=c.attempts, trials=c.trials)

    def _miscounted(self) -> Iterator[str]:
        """The claimed numbers that are not those of the episodes."""
        computed = claim(self.summary())
        for name in Claim.__struct_fields__:
            claimed, found = getattr(self.result.claim, name), getattr(computed, name)
            pairs = zip(claimed, found, strict=True) if isinstance(found, Estimate) else [(claimed, found)]
            if not all(math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for a, b in pairs):
                yield f"results[{self.number}].claim.{name}: claimed {claimed}, the episodes give {found}"

    def told(self) -> list[str]:
        """The problems, the first of them in full."""
        more = len(self.problems) - MAX_PROBLEMS
        return self.problems[:MAX_PROBLEMS] + ([f"{self.where}: and {more} more"] if more > 0 else [])

    def row(self) -> Row:
        """The recomputed row."""
        r, summary = self.result, self.summary()
        tier = "official" if r.env_id in OFFICIAL else "generated"
        return Row(
            env_id=r.env_id,
            env_kwargs=dict(r.env_kwargs),
            panel=r.panel,
            panel_sha256=r.panel_sha256,
            tier=tier,
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
            actions_sha256=hashlib.sha256("".join(self.actions).encode()).hexdigest(),
        )

    def flags(self) -> list[str]:
        """What looks odd and proves nothing."""
        if self.submission.card.track not in ("zero-shot", "few-shot"):
            return []
        solved = [
            (t.task_id, a)
            for t, a in zip(self.episodes, self.actions, strict=True)
            if t.success and len(t.steps) > 1
        ]
        solved = solved[:: max(1, len(solved) // SAMPLE)][:SAMPLE]
        flags = []
        for name in reader.env_class(self.result.env_id).experts:
            plans = self._plays(ExpertAgent(name), [Job(task_id) for task_id, _ in solved])
            same = sum(plans[task_id, 0] == actions for task_id, actions in solved)
            if same >= 5 and same * 2 >= len(solved):
                flags.append(
                    f"{self.where}: {same} of {len(solved)} solved episodes looked at are the plan of expert "
                    f"{name!r}, action by action, under the label {self.submission.card.track}"
                )
        return flags

    def rerun(self) -> list[str]:
        """Run an agent that needs no model again; whatever it now chooses otherwise is a problem."""
        name = self.result.agent
        if not re.fullmatch(r"null|random|expert(:[\w-]+)?", name):
            return [f"{self.where}: the reference track holds null, random and expert only, not {name!r}"]
        jobs = [Job(t.task_id, t.attempt) for t in self.episodes if t.ended != "error"]
        played = self._plays(built_in(name), jobs)
        recorded = {(t.task_id, t.attempt): a for t, a in zip(self.episodes, self.actions, strict=True)}
        other = [
            job for job in jobs if played[job.task_id, job.attempt] != recorded[job.task_id, job.attempt]
        ]
        return [
            f"{self.where}: task {job.task_id} attempt {job.attempt}: "
            f"run again, agent {name!r} acts otherwise"
            for job in other[:1]
        ]

    def _plays(self, agent: Any, jobs: list[Job]) -> dict[tuple[str, int], str]:
        kwargs = dict(self.result.env_kwargs)
        played = rollout(
            lambda: make_env(self.result.env_id, **kwargs), agent, jobs, batch_size=16, seed=self.result.seed
        )
        return {(t.task_id, t.attempt): actions_digest(t) for t in played}


def actions_digest(episode: Trajectory) -> str:
    """Digest of an episode's actions."""
    return hashlib.sha256(msgspec.json.encode([episode.task_id, *episode.actions])).hexdigest()


def _prepare(result: Result, panel: Panel) -> None:
    """Build what the panel's tasks need, and see that this machine has the tasks the panel names."""
    env = make_env(result.env_id, **result.env_kwargs)
    try:
        text_env = env.unwrapped
        assert isinstance(text_env, TextEnv)
        text_env.prepare(panels.tasks_of(panel, env))
    finally:
        env.close()


# One line, in whatever process.

_STARTED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(\+00:00|Z)")


class Player:
    """Reads and replays the episodes of one run, one environment after the other."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._env: gymnasium.Env[str, str] | None = None

    def answer(self, index: int, line: bytes) -> Answer:
        """Whether a line is an honest episode of this run."""
        try:
            episode = self._read(line)
        except Refused as error:
            return Answer(index, None, "", str(error))
        return Answer(
            index, trajectory.encode(_slim(episode)), actions_digest(episode), self._replay(episode)
        )

    def _read(self, line: bytes) -> Trajectory:
        c = self.context
        try:
            t = trajectory.decode(line, "not an episode")
        except (CorruptData, RecursionError) as error:
            raise Refused(
                "nests too deep" if isinstance(error, RecursionError) else str(error)[:300]
            ) from error
        try:
            same = trajectory.encode(t) == line
        except (UnicodeEncodeError, RecursionError):
            same = False
        if not same:
            raise Refused(
                "not in its one form (a doubled key, a field left out, a number written otherwise?)"
            )
        if t.task_id not in c.tasks:
            raise Refused(f"task {t.task_id[:80]!r} is not in the panel")
        where = f"task {t.task_id} attempt {t.attempt} trial {t.trial}"
        if not (0 <= t.attempt < c.attempts and 0 <= t.trial < c.trials):
            raise Refused(f"{where}: the run has {c.attempts} attempts of {c.trials} trials, counted from 0")
        expected = {
            "env_id": c.env_id,
            "env_kwargs": c.env_kwargs,
            "agent": c.agent,
            "split": c.split,
            "task_sha256": c.tasks[t.task_id],
            "seed": episode_seed(c.seed, Job(t.task_id, t.attempt, t.trial)),
        }
        for name, value in expected.items():
            # As JSON, because Python takes 1 for True.
            if msgspec.json.encode(found := getattr(t, name)) != msgspec.json.encode(value):
                raise Refused(f"{where}: {name} is {str(found)[:80]!r}, this run has {str(value)[:80]!r}")
        if (t.ended == "error" and t.error is None) or (t.ended == "terminated" and t.error is not None):
            raise Refused(f"{where}: ended {t.ended}, error {str(t.error)[:80]!r}")
        if t.error is not None and len(t.error) > 4000:
            raise Refused(f"{where}: an error of {len(t.error)} characters; 4000 are allowed")
        if not _STARTED.fullmatch(t.started):
            raise Refused(f"{where}: started is not a time: {t.started[:40]!r}")
        tokens = [t.usage.prompt_tokens, t.usage.completion_tokens]
        tokens += [n for step in t.steps for n in (step.prompt_tokens, step.completion_tokens)]
        if not (all(0 <= n <= 10**12 for n in tokens) and 0 <= t.usage.cost <= 1e9 and 0 <= t.seconds <= 1e9):
            raise Refused(f"{where}: tokens, cost or seconds out of range")
        return t

    def _replay(self, t: Trajectory) -> str | None:
        where = f"task {t.task_id} attempt {t.attempt} trial {t.trial}"
        if t.ended == "error" and (t.score != 0.0 or t.success):
            return f"{where}: an episode that ended in an error scores 0, not {t.score}"
        fresh = self._env is None
        try:
            if self._env is None:
                self._env = make_env(self.context.env_id, **self.context.env_kwargs)
            difference = replay(self._env, t)
        except EngineError as error:
            self.close()
            # The engine may have failed then as it fails now; 0 stands either way.
            return None if t.ended == "error" else f"{where}: the engine failed in the replay: {error}"
        except Exception as error:  # noqa: BLE001  (whatever a hostile action brings about is this episode's)
            self.close()
            return (
                f"{where}: the environment failed in the replay: {type(error).__name__}: {str(error)[:200]}"
            )
        if difference is None:
            return None
        self.close()
        if not fresh:
            return self._replay(t)  # in a new environment, before a stranger is blamed
        return (
            f"{where} step {difference.step}: {difference.field}: "
            f"expected {difference.replayed}, found {difference.recorded}"
        )

    def close(self) -> None:
        """Let go of the environment."""
        if self._env is not None:
            self._env.close()
            self._env = None


def _slim(t: Trajectory) -> Trajectory:
    """The trajectory without its texts: what the metrics read."""
    steps = [Turn("", "", "", s.reward, s.score, s.progress, s.invalid, "") for s in t.steps]
    return msgspec.structs.replace(
        t, steps=steps, messages=[], env_kwargs={}, final_observation="", final_observation_sha256=""
    )


def _here(context: Context, lines: Iterable[tuple[int, bytes]]) -> Iterator[Answer]:
    player = Player(context)
    try:
        for index, line in lines:
            yield player.answer(index, line)
    finally:
        player.close()


# Processes.

Chunk = list[tuple[int, bytes]]
CHUNK_LINES, CHUNK_BYTES = 32, 1 << 20


def _serve(pipe: Connection) -> None:
    """A process's whole life: answer chunks until the pipe closes."""
    player: Player | None = None
    try:
        while True:
            context, chunk = pipe.recv()
            if player is None or player.context != context:
                if player is not None:
                    player.close()
                ENVS.setdefault(context.env_id, context.entry)
                register_envs()
                player = Player(context)
            for index, line in chunk:
                pipe.send(player.answer(index, line))
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        pass
    finally:
        if player is not None:
            player.close()


class _Worker:
    """A replaying process, and what it still owes."""

    def __init__(self) -> None:
        # A new interpreter, because a forked one would share locks and engines with this one.
        start = multiprocessing.get_context("spawn")
        self.pipe, theirs = start.Pipe()
        self.process = start.Process(target=_serve, args=(theirs,), daemon=False)
        self.process.start()
        theirs.close()
        self.owed: deque[tuple[int, bytes]] = deque()
        self.since = 0.0

    def send(self, context: Context, chunk: Chunk) -> None:
        self.owed.extend(chunk)
        self.since = time.monotonic()
        self.pipe.send((context, chunk))

    def stop(self, *, kill: bool = False) -> None:
        self.pipe.close()
        if kill:
            self.process.kill()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class _Pool:
    """Processes that replay lines; one that dies or hangs costs the episode it was at, no other."""

    def __init__(self, count: int, time_limit: float) -> None:
        self._count = count
        self._limit = time_limit
        self._workers: list[_Worker] = []

    def replay(self, context: Context, lines: Iterable[tuple[int, bytes]]) -> Iterator[Answer]:
        """An answer for every line, in the order in which they come about."""
        try:
            yield from self._replay(context, _chunks(lines))
        finally:
            for worker in [w for w in self._workers if w.owed]:  # the caller gave up, or was interrupted
                self._drop(worker)

    def _replay(self, context: Context, chunks: Iterator[Chunk]) -> Iterator[Answer]:
        again: deque[Chunk] = deque()
        more = True
        while True:
            while more or again:
                idle = next((w for w in self._workers if not w.owed), None)
                if idle is None and len(self._workers) >= self._count:
                    break
                chunk = again.popleft() if again else next(chunks, None)
                if chunk is None:
                    more = False
                    continue
                if idle is None:
                    idle = _Worker()
                    self._workers.append(idle)
                try:
                    idle.send(context, chunk)
                except OSError:  # it died while idle: nobody's fault
                    self._drop(idle)
                    again.append(chunk)
            busy = [w for w in self._workers if w.owed]
            if not busy:
                return
            ready = wait([w.pipe for w in busy], timeout=1.0)
            for worker in busy:
                if worker.pipe in ready:
                    try:
                        answer: Answer = worker.pipe.recv()
                    except (EOFError, OSError):
                        yield self._lost(worker, again, "the process that replayed it died")
                        continue
                    worker.owed.popleft()
                    worker.since = time.monotonic()
                    yield answer
                elif time.monotonic() - worker.since > self._limit:
                    yield self._lost(worker, again, f"no answer within {self._limit:.0f} s")

    def _lost(self, worker: _Worker, again: deque[Chunk], why: str) -> Answer:
        """The answer for the line a lost process was at; what it had not begun is put back."""
        index, line = worker.owed.popleft()
        if worker.owed:
            again.append(list(worker.owed))
        self._drop(worker)
        found = re.search(rb'"task_id":"((?:[^"\\]|\\.){1,200})"', line)
        task = found[1].decode("utf-8", "replace") if found else "?"
        return Answer(index, None, "", f"task {task}: {why}")

    def _drop(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.stop(kill=True)

    def close(self) -> None:
        """End every process."""
        for worker in self._workers:
            worker.stop(kill=bool(worker.owed))
        self._workers.clear()


def _chunks(lines: Iterable[tuple[int, bytes]]) -> Iterator[Chunk]:
    chunk: Chunk = []
    size = 0
    for index, line in lines:
        chunk.append((index, line))
        size += len(line)
        if len(chunk) == CHUNK_LINES or size > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
