"""Episodes in worker processes, with time limits: an engine that hangs or dies costs its episode only."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import queue
import selectors
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import gymnasium
import msgspec

from prosegym.envs import ENVS, register_envs
from prosegym.envs import trajectory as records
from prosegym.envs.core import Task, unwrapped
from prosegym.envs.errors import BadOption, ProsegymError, at_least
from prosegym.envs.home import processors
from prosegym.envs.panels import Panel, refuse
from prosegym.envs.trajectory import Trajectory, Usage, observation_digest
from prosegym.evaluation.agents import MODELLESS, Agent
from prosegym.evaluation.rollout import MAX_ERROR, Incident, Job, Key, episode_seed, rollout


@dataclass(frozen=True)
class Limits:
    """Seconds that are allowed, and how often an episode that broke them is tried again."""

    step: float = 60.0
    """Of the environment. The answer of an agent that is sent to a process counts, too; a model's never."""
    episode: float = 1800.0
    retries: int = 1

    def __post_init__(self) -> None:
        """Raises BadOption for what no episode could keep to."""
        at_least(0, retries=self.retries)
        if not (self.step > 0 and self.episode > 0):
            raise BadOption(
                f"limits must be above 0, not {self.step:g} s a step and {self.episode:g} s an episode"
            )


LIMITS = Limits()
"""The usual limits."""


class Processes:
    """Worker processes that play episodes. Use as a context manager.

    They are started when there is work, and kept from one call to the next. An agent that is sent plays one
    episode at a time; one that is made in each process, as those with a model are, several together.
    """

    def __init__(
        self,
        make_env: Callable[[], gymnasium.Env[str, str]],
        agent: Agent,
        *,
        workers: int,
        task_of: Callable[[str], Task],
        make_agent: Callable[[], Agent] | None = None,
        batch_size: int = 1,
        seed: int = 0,
        env_kwargs: dict[str, Any] | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        """Start nothing yet.

        Args:
            make_env: makes one environment; picklable.
            agent: sent to every process, unless `make_agent` is given.
            workers: most processes.
            task_of: the task of an id, for the row of an episode that could not be finished.
            make_agent: makes the agent in every process, which has its share of the processors; picklable.
            batch_size: episodes that are live at once in all processes together, with `make_agent`.
            seed: the run's seed.
            env_kwargs: recorded in each trajectory.
            limits: what takes longer is tried again, as is the episode of a process that dies; then it is an
                error row. Of several that were live, each is tried again by itself before it is blamed.
        """
        self._places = -(-batch_size // max(workers, 1)) if make_agent else 1
        self._made = _Made(
            make_env, make_agent or partial(_itself, agent), make_agent is None, self._places,
            max(1, processors() // max(workers, 1)), seed, dict(env_kwargs or {}), limits.retries,
        )  # fmt: skip
        self._agent = agent.name
        self._bill = Bill(False if type(agent) in MODELLESS else None)
        self._count, self._task_of, self._limits = workers, task_of, limits
        self._pool: list[_Worker] = []
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for worker in self._pool:
            worker.dismiss()
        for worker in self._pool:
            worker.stop()

    def _started(self, work: int) -> list[_Worker]:
        while len(self._pool) < max(1, min(self._count, work)):
            worker = _Worker(self._made)
            self._pool.append(worker)
            self._selector.register(worker.pipe, selectors.EVENT_READ, worker)
        return self._pool

    def check(self, panel: Panel) -> None:
        """Compare every task's content with the panel's digest, each process its share.

        Raises:
            ProsegymError: some differ, or a process could not say.
        """
        pool = self._started(len(panel.tasks))
        differing: set[str] = set()
        for i, worker in enumerate(pool):
            worker.outbox.put(msgspec.structs.replace(panel, tasks=panel.tasks[i :: len(pool)]))
        for worker in pool:
            answer = worker.take() if worker.pipe.poll(min(self._limits.episode, _LONGEST)) else "no answer"
            if not isinstance(answer, list):
                raise ProsegymError(f"the tasks of {panel.name} could not be checked: {answer}")
            differing |= set(answer)
        refuse(panel, [task_id for task_id in panel.task_ids if task_id in differing])

    def play(
        self, jobs: Iterable[Job], report: Callable[[Incident], None] = lambda incident: None
    ) -> Iterator[Trajectory]:
        """As `rollout`, in these processes; `report` is told of every hang and death."""
        waiting = deque(map(Try, jobs))
        pool = self._started(len(waiting))
        places = min(self._places, -(-len(waiting) // len(pool)))
        looked = time.monotonic()
        while True:
            for worker in pool:
                share = max(1, min(_SHARE, len(waiting) // (2 * len(pool))))
                free = places - len(worker.jobs)
                if free > 0 or (free > -share and len(waiting) >= len(pool)):
                    worker.give(portion(waiting, max(free, share), worker.jobs.values()))
            if not any(worker.jobs for worker in pool):
                return
            answers = [(key.data, key.data.take()) for key, _ in self._selector.select(_LOOK)]
            if time.monotonic() - looked > _LOOK:
                looked = time.monotonic()
                silent = [w for w in pool if w.jobs and all(w is not answered for answered, _ in answers)]
                answers += [(w, what) for w in silent if (what := w.overdue(self._limits))]
            for worker, answer in answers:
                if isinstance(answer, Incident):
                    report(answer)
                    continue
                if isinstance(answer, list):
                    worker.clock = time.monotonic()
                    worker.taken += len(answer)
                    for line in answer:
                        trajectory = records.decode(line)
                        yield self._bill.add(trajectory, worker.jobs.pop(trajectory.key))
                    continue
                lost = worker.under_way()
                waiting.extendleft(reversed(worker.jobs.values()))
                self._selector.unregister(worker.pipe)
                worker.restart()
                self._selector.register(worker.pipe, selectors.EVENT_READ, worker)
                for tried in reversed(lost):
                    known = len(lost) == 1
                    again = not known or tried.tries < self._limits.retries
                    report(Incident(tried.job, answer, again))
                    if again:
                        waiting.appendleft(Try(tried.job, tried.tries + known, alone=True))
                    else:
                        job, made = tried.job, self._made
                        task, used = self._task_of(job.task_id), self._bill.lost(job)
                        yield error_row(self._agent, task, job, made.seed, answer, made.env_kwargs, used)


_SHARE = 8
"""Most jobs that are sent at once, and most episodes that are handed in at once."""
_HAND_IN = 0.1
"""Seconds after which finished episodes are handed in, though others of the same message are not."""
_LONGEST = 1e6
"""Seconds that a system call can wait at least; a limit may be longer, or infinite."""
_LEISURE = 5.0
"""Seconds for a process that is no longer needed to end by itself."""
_LOOK = 0.2
"""Seconds between looks for processes that hang."""


@dataclass(frozen=True)
class Try:
    """A job, and how often it was lost."""

    job: Job
    tries: int = 0
    alone: bool = False
    """Whether nothing may be live beside it, because it may be what a process died of."""

    @property
    def lost(self) -> bool:
        """Whether answers to it went with a process."""
        return self.alone or self.tries > 0


@dataclass
class Bill:
    """What is known of the cost of tries that were lost with their process, the answers to them with it."""

    paid: bool | None = None
    """Whether episodes of this agent cost anything; None while none has ended that would say it."""

    def add(self, trajectory: Trajectory, tried: Try) -> Trajectory:
        """An episode that ended; its cost is not known where earlier tries at it were lost and are paid."""
        if trajectory.steps or trajectory.usage.cost != 0:
            self.paid = bool(self.paid) or trajectory.usage.cost != 0
        if not (self.paid and tried.lost):
            return trajectory
        return msgspec.structs.replace(trajectory, usage=trajectory.usage + Usage(cost=None))

    def lost(self, job: Job) -> Usage:
        """What an episode used that was lost for good."""
        return job.spent + Usage(cost=0.0 if self.paid is False else None)


def portion(waiting: deque[Try], count: int, held: Collection[Try]) -> list[Try]:
    """Takes out what a process that holds some is given, too: at most `count`, or one that is to be alone."""
    if held and (any(tried.alone for tried in held) or (waiting and waiting[0].alone)):
        return []
    if waiting and waiting[0].alone:
        return [waiting.popleft()]
    taken: list[Try] = []
    while waiting and len(taken) < count and not waiting[0].alone:
        taken.append(waiting.popleft())
    return taken


class _Made(NamedTuple):
    """What a process is made of."""

    make_env: Callable[[], gymnasium.Env[str, str]]
    make_agent: Callable[[], Agent]
    sent: bool
    """Whether the agent was sent: then its time counts as the step's."""
    places: int
    """Episodes that are live at once."""
    threads: int
    seed: int
    env_kwargs: dict[str, Any]
    retries: int


def _itself(agent: Agent) -> Agent:
    return agent


@dataclass
class _Worker:
    made: _Made
    jobs: dict[Key, Try] = field(default_factory=dict)
    """Those it plays, then those it plays next."""
    clock: float = 0.0
    """When it could begin with the first of them."""
    taken: int = 0
    """Episodes that its process has handed in."""
    leisure: float = 0.0
    """Seconds that it is given to end by itself."""
    process: BaseProcess = field(init=False)
    pipe: Connection = field(init=False)

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # fork is unsafe beside threads
        self.pipe, theirs = context.Pipe()
        self.beat: Any = context.Value("d", 0.0, lock=False)
        self.begun: Any = context.Value("q", -1, lock=False)  # 0 once it has what was sent to it
        self.finished: Any = context.Value("q", 0, lock=False)
        told = (theirs, self.beat, self.begun, self.finished, dict(ENVS), self.made)
        self.process = context.Process(target=_work, args=told, daemon=True)
        try:
            with _interrupts_kept():
                self.process.start()
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            self.pipe.close()
            raise ProsegymError(
                f"the agent cannot be sent to a worker: {error}; define it in a module, keep locks, open "
                "files and lambdas out of it, or give make_agent, which makes it there"
            ) from error
        finally:
            theirs.close()
        self.outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=_post, args=(self.pipe, self.outbox), daemon=True).start()

    def give(self, jobs: list[Try]) -> None:
        if not jobs:
            return
        if not self.jobs:
            self.clock, self.beat.value = time.monotonic(), 0.0
        self.jobs.update((tried.job.key, tried) for tried in jobs)
        self.outbox.put([tried.job for tried in jobs])

    def take(self) -> Any:
        """Finished episodes as lines, an engine's failure, tasks that differ, or in words what went wrong."""
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            if self.begun.value < 0 and self.process.exitcode == 1:
                raise ProsegymError(
                    "a worker process could not begin (why is on standard error); an agent (or make_agent) "
                    "must be importable: define it in a module, not in a notebook, and let a script play "
                    'below `if __name__ == "__main__":`'
                ) from None
            return f"the worker process died (exit code {self.process.exitcode})"
        if isinstance(answer, ProsegymError):
            raise answer
        return answer

    def under_way(self) -> list[Try]:
        """Takes out the jobs that its process was at; those before are finished, but were not handed in."""
        if not self.jobs:
            return []
        finished = min(self.finished.value - self.taken, len(self.jobs) - 1)
        begun = max(self.begun.value - self.taken, finished + 1)  # one that dies at its start is blamed, too
        keys = list(self.jobs)[finished:begun]
        return [self.jobs.pop(key) for key in keys]

    def overdue(self, limits: Limits) -> str | None:
        now = time.monotonic()
        last = self.beat.value
        if last and now - last > limits.step:
            return f"a step took over {limits.step:g} s"
        if now - self.clock > limits.episode:
            return f"the episode took over {limits.episode:g} s"
        return None

    def restart(self) -> None:
        self.stop()
        self.jobs.clear()
        self.taken = 0
        self.__post_init__()

    def dismiss(self) -> None:
        """Let it end by itself, if it has nothing to do."""
        self.outbox.put(None)
        self.leisure = 0.0 if self.jobs else _LEISURE

    def stop(self) -> None:
        self.outbox.put(None)
        self.process.join(self.leisure)
        self.process.kill()
        self.process.join()


def _post(pipe: Connection, outbox: queue.SimpleQueue[Any]) -> None:
    """Sends what is put into `outbox` until that is None, and closes the pipe.

    In a thread of its own: a worker that plays reads nothing, and waits itself until its episodes are read.
    """
    for work in iter(outbox.get, None):
        with suppress(OSError):  # it is dead, which `take` will say
            pipe.send(work)
    pipe.close()


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """A process started within it leaves Ctrl-C, which every process of a terminal gets, to the main one.

    A mask is inherited from the first moment on: a worker that is still importing writes no traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # or the start would begin with it, and it leaves the mask open
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Beating(gymnasium.Wrapper[str, str, str, str]):
    """Says the time at every reset and step, so that a hang can be told from work."""

    def __init__(self, env: gymnasium.Env[str, str], beat: Any, *, agent: bool) -> None:
        """`agent`: whether the time that the agent takes counts as the step's."""
        super().__init__(env)
        self._beat, self._agent = beat, agent

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        # 0: a reset may build or load for long; only the episode's limit holds for it.
        self._beat.value = 0.0
        result = self.env.reset(seed=seed, options=options)
        if self._agent:
            self._beat.value = time.monotonic()
        return result

    def step(self, action: str) -> Any:
        self._beat.value = time.monotonic()
        result = self.env.step(action)
        if not self._agent:
            self._beat.value = 0.0
        return result


def _work(pipe: Connection, beat: Any, begun: Any, finished: Any, envs: dict[str, str], made: _Made) -> None:
    threading.Thread(target=_follow, daemon=True).start()
    begun.value = 0
    ENVS.update(envs)
    register_envs()
    alone = made.places == 1
    lines: list[bytes] = []
    handed_in = time.monotonic()

    def hand_in() -> None:
        nonlocal handed_in
        if lines:
            pipe.send(lines)
            lines.clear()
        handed_in = time.monotonic()

    try:
        first = made.make_env()
        text_env = unwrapped(first)
        rest = itertools.chain([first], iter(made.make_env, None))
        # Read where torch and transformers are loaded: its share of the processors, no bars of its own.
        os.environ.setdefault("OMP_NUM_THREADS", str(made.threads))
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

        def jobs() -> Iterator[Job | None]:
            while True:
                if alone:
                    hand_in()
                elif begun.value > finished.value and not pipe.poll():
                    yield None
                    continue
                try:
                    work = pipe.recv()
                except (EOFError, OSError):
                    return
                if isinstance(work, Panel):
                    pipe.send([t for t, sha256 in work.tasks if text_env.task(t).sha256 != sha256])
                    continue
                for job in work:
                    begun.value += 1
                    yield job

        played = rollout(
            lambda: _Beating(next(rest), beat, agent=made.sent), _agent(made), jobs(),
            batch_size=made.places, seed=made.seed, env_kwargs=made.env_kwargs, retries=made.retries,
            report=pipe.send,
        )  # fmt: skip
        for trajectory in played:
            beat.value = 0.0
            lines.append(records.encode(trajectory))
            finished.value += 1
            if not alone or time.monotonic() - handed_in > _HAND_IN:
                hand_in()
    except KeyboardInterrupt:
        return
    except Exception as error:
        with suppress(OSError):  # the main process is gone, and nobody is there to be told
            hand_in()
            # A ProsegymError is not the episode's fault: the whole run stops and says so.
            known = isinstance(error, ProsegymError)
            pipe.send(ProsegymError(str(error)) if known else f"{type(error).__name__}: {error}")


def _follow() -> None:
    """Ends this process when the main one is gone and a step hangs; else it will have ended by itself."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    time.sleep(_LEISURE)
    os._exit(1)


def _agent(made: _Made) -> Agent:
    """The agent; one that cannot be made is no episode's fault."""
    try:
        return made.make_agent()
    except ProsegymError:
        raise
    except Exception as error:
        raise ProsegymError(
            f"the agent could not be made in a worker: {type(error).__name__}: {error}; what was finished is "
            "kept: mend it, or give fewer --workers where memory is short, and run the same command again"
        ) from error


def error_row(
    agent: str, task: Task, job: Job, seed: int, error: str, env_kwargs: dict[str, Any], usage: Usage
) -> Trajectory:
    """The record of an episode that could not be finished: a row that scores 0 and says why."""
    return Trajectory(
        env_id=task.env_id,
        task_id=task.id,
        task_sha256=task.sha256,
        task_type=task.task_type,
        split=task.split,
        env_kwargs=env_kwargs,
        seed=episode_seed(seed, job),
        attempt=job.attempt,
        trial=job.trial,
        agent=agent,
        messages=[],
        steps=[],
        final_observation="",
        final_observation_sha256=observation_digest(""),
        score=0.0,
        success=False,
        ended="error",
        error=error[:MAX_ERROR],
        usage=usage,
        started=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        seconds=job.seconds,
        memory=list(job.memory),
    )
