"""The agent-environment loop. There is one, and it is here."""

from __future__ import annotations

import hashlib
import math
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import gymnasium
import msgspec

from prosegym.envs.core import TextEnv, unwrapped
from prosegym.envs.errors import EngineError, ProsegymError, at_least
from prosegym.envs.trajectory import Message, Trajectory, Turn, Usage, observation_digest
from prosegym.evaluation.agents import Agent, Episode, Memory, Reply

MakeEnv = Callable[[], gymnasium.Env[str, str]]
Key = tuple[str, int, int]
"""What tells episodes of a run apart: task, attempt, trial."""
MAX_ERROR = 4000
"""Most characters of an episode's `error` that are kept: no more are allowed in a submission."""


@dataclass(frozen=True)
class Job:
    """One episode to be played."""

    task_id: str
    attempt: int = 0
    trial: int = 0
    memory: tuple[str, ...] = ()
    spent: Usage = Usage()
    """What was used for this episode before, for its memory and for tries that broke off; counted with it."""
    seconds: float = 0.0
    """How long that took."""
    error: str | None = None
    """Why it cannot be played (its memory could not be made): it ends as an error as it begins."""

    @property
    def key(self) -> Key:
        """That of its trajectory."""
        return self.task_id, self.attempt, self.trial

    @classmethod
    def after(cls, memory: Memory, task_id: str, attempt: int, trial: int) -> Job:
        """The next trial of an attempt that failed."""
        return cls(task_id, attempt, trial, memory.notes, memory.spent, memory.seconds, memory.error)


@dataclass(frozen=True)
class Incident:
    """An episode that had to be given up or tried again, and why."""

    job: Job
    what: str
    retried: bool


def episode_seed(seed: int, job: Job) -> int:
    """The seed of an episode: a function of the run's seed and of which episode it is, of nothing else."""
    name = f"{seed}\0{job.task_id}\0{job.attempt}\0{job.trial}"
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:7], "big")


def rollout(
    make_env: MakeEnv,
    agent: Agent,
    jobs: Iterable[Job | None],
    *,
    batch_size: int = 64,
    seed: int = 0,
    env_kwargs: dict[str, Any] | None = None,
    retries: int = 1,
    report: Callable[[Incident], None] = lambda incident: None,
) -> Iterator[Trajectory]:
    """Play every job to its end; yields each trajectory as it finishes.

    At most `batch_size` episodes are live; they advance together, one batched call of the agent a turn;
    a finished one leaves and a waiting one takes its place and its environment.

    Args:
        make_env: makes one environment; called once per place in the batch.
        agent: answers all live episodes at once.
        jobs: what to play, read as places fall free; None says that there is none now, and is asked again a
            turn later.
        batch_size: number of places.
        seed: the run's seed; see `episode_seed`.
        env_kwargs: recorded in each trajectory.
        retries: how often an episode whose engine failed is played again; then it is an error row. Whatever
            an environment raises is such a failure, but for what the user can put right (`ProsegymError`).
        report: told of every such failure.

    Raises:
        BadOption: there is no place in the batch.
    """
    at_least(1, batch_size=batch_size)
    waiting = iter(jobs)
    again: list[Job] = []
    failures: Counter[Key] = Counter()

    def settled(place: _Place, finished: Trajectory) -> bool:
        """Whether the episode stands; otherwise it is played again."""
        if not place.engine_failed:
            return True
        job = place.job
        failures[job.key] += 1
        retried = failures[job.key] <= retries
        report(Incident(job, finished.error or "", retried))
        if retried:
            again.append(replace(job, spent=finished.usage, seconds=finished.seconds))
        return not retried

    places: list[_Place] = []
    live: list[_Place] = []
    try:
        while True:
            while len(live) < batch_size and (job := again.pop() if again else next(waiting, None)):
                idle = next((place for place in places if place not in live), None)
                if idle is None:
                    idle = _Place(make_env())
                    places.append(idle)
                if failed := idle.begin(job, agent, episode_seed(seed, job), env_kwargs or {}):
                    if settled(idle, failed):
                        yield failed
                else:
                    live.append(idle)
            if not live:
                return
            replies = _replies(agent, [place.episode for place in live])
            going = []
            for place, reply in zip(live, replies, strict=True):
                if finished := place.advance(agent, reply):
                    if settled(place, finished):
                        yield finished
                else:
                    going.append(place)
            live = going
    finally:
        for place in places:
            place.env.close()


def _replies(agent: Agent, episodes: list[Episode]) -> Sequence[Reply]:
    """The agent's replies, one for each episode, with texts in them.

    Raises:
        ProsegymError: it raised something, or answered something else.
    """
    with faults_of(agent):
        replies = agent.respond(episodes)
    if not isinstance(replies, Sequence) or len(replies) != len(episodes):
        given = f"{len(replies)} replies" if isinstance(replies, Sequence) else type(replies).__name__
        raise ProsegymError(f"agent {agent.name} gave {given} to {len(episodes)} episodes")
    for episode, reply in zip(episodes, replies, strict=True):
        if not (isinstance(reply, Reply) and all(map(_is_text, _said(reply)))):
            raise ProsegymError(
                f"agent {agent.name} answered {repr(reply)[:80]} at step {len(episode.steps) + 1} of "
                f"{episode.task.id}; it owes a Reply whose response and action, and stop and error where "
                "they are set, are text that UTF-8 can hold"
            )
        counts = reply.prompt_tokens, reply.completion_tokens
        if not (all(type(n) is int and n >= 0 for n in counts) and _is_cost(reply.cost)):
            raise ProsegymError(
                f"agent {agent.name} counted {counts[0]!r} and {counts[1]!r} tokens and a cost of "
                f"{reply.cost!r} at step {len(episode.steps) + 1} of {episode.task.id}; it owes tokens as "
                "int and a cost as a finite float, or None where it is not known"
            )
    return replies


def _said(reply: Reply) -> list[object]:
    return [reply.response, reply.action, *(why for why in (reply.stop, reply.error) if why is not None)]


def _is_cost(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and 0 <= value < math.inf)


def _is_text(value: object) -> bool:
    try:
        return isinstance(value, str) and (value.isascii() or bool(value.encode()))
    except UnicodeEncodeError:
        return False


@contextmanager
def faults_of(agent: Agent) -> Iterator[None]:
    """Says in one line what an agent raised, which stops the run."""
    try:
        yield
    except ProsegymError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise ProsegymError(
            f"agent {agent.name} raised {type(error).__name__}: {said}; what was finished is kept: "
            "mend the agent and run the same command again"
        ) from error


def _place_and_text(error: Exception, env: TextEnv) -> str:
    """A fault with the place in the environment's own code, if it was there: an author has no traceback."""
    own = {getattr(sys.modules.get(cls.__module__), "__file__", None) for cls in type(env).__mro__}
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if frame.filename in own), frames[-1])
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}: {error}"


class _Place:
    """A place in the batch: an environment, and the episode it is playing."""

    job: Job
    episode: Episode
    engine_failed: bool

    def __init__(self, env: gymnasium.Env[str, str]) -> None:
        self.env, self.text_env = env, unwrapped(env)

    def begin(self, job: Job, agent: Agent, seed: int, env_kwargs: dict[str, Any]) -> Trajectory | None:
        """Start the job's episode; a trajectory is returned only where it could not start."""
        self.job, self.engine_failed = job, False
        self.started = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self.clock = time.perf_counter() - job.seconds
        self.env_kwargs = env_kwargs
        self.used = job.spent
        task = self.text_env.task(job.task_id)
        self.episode = Episode(
            task, self.text_env.instruction, "", {}, seed, job.attempt, job.trial, memory=job.memory
        )
        try:
            self.episode.observation, self.episode.info = self.env.reset(
                seed=seed % 2**31, options={"task_id": job.task_id}
            )
        except Exception as error:
            return self.engine_failure(agent, error)
        if job.error is not None:
            return self.finish(agent, "error", job.error)
        try:
            with faults_of(agent):
                agent.begin(self.episode, self.text_env)
        except EngineError as error:  # of an expert whose plan is the engine's
            return self.engine_failure(agent, error)
        return None

    def advance(self, agent: Agent, reply: Reply) -> Trajectory | None:
        """One turn; returns the trajectory when it was the last."""
        episode = self.episode
        self.used += Usage(reply.prompt_tokens, reply.completion_tokens, reply.cost)
        if reply.error is not None:
            return self.finish(agent, "error", reply.error)
        if reply.stop is not None:
            return self.finish(agent, "truncated", reply.stop)
        seen = episode.observation
        try:
            observation, reward, terminated, truncated, info = self.env.step(reply.action)
        except Exception as error:
            return self.engine_failure(agent, error)
        episode.observation, episode.info = observation, info
        episode.steps.append(
            Turn(
                seen,
                reply.response,
                reply.action,
                float(reward),
                float(info["score"]),
                float(info["progress"]),
                bool(info["invalid_action"]),
                observation_digest(seen),
                reply.prompt_tokens,
                reply.completion_tokens,
                bool(reply.parse_failed),
            )
        )
        if terminated or truncated:
            return self.finish(agent, "terminated" if terminated else "truncated", None)
        return None

    def engine_failure(self, agent: Agent, error: Exception) -> Trajectory:
        """The record of an episode whose environment raised this; what is no failure of it goes on."""
        if isinstance(error, ProsegymError) and not isinstance(error, EngineError):
            raise error
        self.engine_failed = True
        known = isinstance(error, EngineError)
        return self.finish(agent, "error", str(error) if known else _place_and_text(error, self.text_env))

    def finish(self, agent: Agent, ended: Any, error: str | None) -> Trajectory:
        """The record of the episode.

        Raises:
            ProsegymError: the agent left messages in it that no record can hold.
        """
        episode, failed = self.episode, ended == "error"
        if episode.messages:  # what is written must be read again
            try:
                msgspec.json.decode(msgspec.json.encode(episode.messages), type=list[Message])
            except (TypeError, ValueError, msgspec.MsgspecError) as fault:
                raise ProsegymError(
                    f"agent {agent.name} left messages in {episode.task.id} that no record can hold "
                    f"({' '.join(str(fault).split())}); mend the agent and run the same command again"
                ) from fault
        return Trajectory(
            env_id=episode.task.env_id,
            task_id=episode.task.id,
            task_sha256=episode.task.sha256,
            task_type=episode.task.task_type,
            split=episode.task.split,
            env_kwargs=self.env_kwargs,
            seed=episode.seed,
            attempt=episode.attempt,
            trial=episode.trial,
            agent=agent.name,
            messages=episode.messages,
            steps=episode.steps,
            final_observation=episode.observation,
            final_observation_sha256=observation_digest(episode.observation),
            score=0.0 if failed else float(episode.info["score"]),
            success=not failed and bool(episode.info["success"]),
            ended=ended,
            error=error and error[:MAX_ERROR],
            usage=self.used,
            started=self.started,
            seconds=time.perf_counter() - self.clock,
            memory=list(episode.memory),
        )
