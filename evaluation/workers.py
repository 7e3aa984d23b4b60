"""Episodes in worker processes, with time limits: an engine that hangs or dies costs its episode only."""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import gymnasium

from prosegym.envs import ENVS, register_envs
from prosegym.envs import trajectory as records
from prosegym.envs.core import Task
from prosegym.envs.errors import ProsegymError
from prosegym.envs.trajectory import Trajectory, Usage, observation_digest
from prosegym.evaluation.agents import Agent
from prosegym.evaluation.rollout import Job, episode_seed, rollout


@dataclass(frozen=True)
class Limits:
    """Seconds that are allowed, and how often an episode that broke them is tried again."""

    step: float = 60.0
    episode: float = 1800.0
    retries: int = 1


LIMITS = Limits()
"""The usual limits."""


@dataclass(frozen=True)
class Incident:
    """An episode that had to be given up or tried again, and why."""

    job: Job
    what: str
    retried: bool


def rollout_in_processes(
    make_env: Callable[[], gymnasium.Env[str, str]],
    agent: Agent,
    jobs: Iterable[Job],
    *,
    workers: int,
    task_of: Callable[[str], Task],
    seed: int = 0,
    env_kwargs: dict[str, Any] | None = None,
    limits: Limits = LIMITS,
    report: Callable[[Incident], None] = lambda incident: None,
) -> Iterator[Trajectory]:
    """As `rollout`, one episode at a time in each of several processes.

    Args:
        make_env: makes one environment; picklable, called once in each process.
        agent: picklable, and without a model: every process has its own copy.
        jobs: what to play.
        workers: number of processes.
        task_of: the task of an id, for the row of an episode that could not be finished.
        seed: the run's seed.
        env_kwargs: recorded in each trajectory.
        limits: a step or episode that takes longer, or a process that dies, is retried, then an error row.
        report: told of every such incident.
    """
    waiting = deque(map(_Try, jobs))
    pool = [
        _Worker(make_env, agent, seed, env_kwargs or {}) for _ in range(max(1, min(workers, len(waiting))))
    ]
    try:
        for worker in pool:
            if waiting:
                worker.give(waiting.popleft())
        while busy := [worker for worker in pool if worker.job is not None]:
            ready = set(wait([worker.pipe for worker in busy], timeout=0.2))
            for worker in busy:
                assert worker.job is not None
                tried, failure = worker.job, None
                if worker.pipe in ready:
                    failure = worker.take()
                    if isinstance(failure, Trajectory):
                        yield failure
                        failure = None
                elif (failure := worker.overdue(limits)) is None:
                    continue
                if failure is not None:
                    worker.restart()
                    again = tried.tries < limits.retries
                    report(Incident(tried.job, failure, again))
                    if again:
                        waiting.appendleft(_Try(tried.job, tried.tries + 1))
                    else:
                        yield error_row(
                            agent.name, task_of(tried.job.task_id), tried.job, seed, failure, env_kwargs or {}
                        )
                worker.job = None
                if waiting:
                    worker.give(waiting.popleft())
    finally:
        for worker in pool:
            worker.stop()


@dataclass(frozen=True)
class _Try:
    job: Job
    tries: int = 0


@dataclass
class _Worker:
    make_env: Callable[[], gymnasium.Env[str, str]]
    agent: Agent
    seed: int
    env_kwargs: dict[str, Any]
    job: _Try | None = None
    given: float = 0.0
    process: BaseProcess = field(init=False)
    pipe: Connection = field(init=False)

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # fork is unsafe beside threads
        self.pipe, theirs = context.Pipe()
        self.beat = context.Value("d", 0.0)
        self.process = context.Process(
            target=_work,
            args=(theirs, self.beat, dict(ENVS), self.make_env, self.agent, self.seed, self.env_kwargs),
            daemon=True,
        )
        self.process.start()
        theirs.close()

    def give(self, job: _Try) -> None:
        self.job, self.given = job, time.monotonic()
        self.beat.value = 0.0
        self.pipe.send(job.job)

    def take(self) -> Trajectory | str:
        """The finished episode, or what went wrong."""
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return f"the worker process died (exit code {self.process.exitcode})"
        if isinstance(answer, ProsegymError):
            raise answer
        return records.decode(answer) if isinstance(answer, bytes) else str(answer)

    def overdue(self, limits: Limits) -> str | None:
        now = time.monotonic()
        last = self.beat.value
        if last and now - last > limits.step:
            return f"a step took over {limits.step:g} s"
        if now - self.given > limits.episode:
            return f"the episode took over {limits.episode:g} s"
        return None

    def restart(self) -> None:
        self.stop()
        self.__post_init__()

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


class _Beating(gymnasium.Wrapper[str, str, str, str]):
    """Says the time at every reset and step, so that a hang can be told from work."""

    def __init__(self, env: gymnasium.Env[str, str], beat: Any) -> None:
        super().__init__(env)
        self._beat = beat

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        # 0: a reset may build or load for long; only the episode's limit holds for it.
        self._beat.value = 0.0
        result = self.env.reset(seed=seed, options=options)
        self._beat.value = time.monotonic()
        return result

    def step(self, action: str) -> Any:
        self._beat.value = time.monotonic()
        return self.env.step(action)


def _work(
    pipe: Connection,
    beat: Any,
    envs: dict[str, str],
    make_env: Callable[[], gymnasium.Env[str, str]],
    agent: Agent,
    seed: int,
    env_kwargs: dict[str, Any],
) -> None:
    ENVS.update(envs)
    register_envs()

    def jobs() -> Iterator[Job]:
        while True:
            try:
                yield pipe.recv()
            except (EOFError, OSError, KeyboardInterrupt):
                return

    try:
        played = rollout(
            lambda: _Beating(make_env(), beat), agent, jobs(), batch_size=1, seed=seed, env_kwargs=env_kwargs
        )
        for trajectory in played:
            beat.value = 0.0
            pipe.send(records.encode(trajectory))
    except KeyboardInterrupt:
        return
    except ProsegymError as error:  # not the episode's fault: the whole run stops and says so
        pipe.send(ProsegymError(str(error)))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


def error_row(
    agent: str, task: Task, job: Job, seed: int, error: str, env_kwargs: dict[str, Any]
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
        error=error,
        usage=Usage(),
        started=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        seconds=0.0,
    )
