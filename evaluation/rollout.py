"""The agent-environment loop. There is one, and it is here."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import gymnasium

from prosegym.envs.core import Task, TextEnv
from prosegym.envs.errors import EngineError, ProsegymError
from prosegym.envs.trajectory import Trajectory, Turn, Usage, observation_digest
from prosegym.evaluation.agents import Agent, Episode, Memory, Reply

MakeEnv = Callable[[], gymnasium.Env[str, str]]


@dataclass(frozen=True)
class Job:
    """One episode to be played."""

    task_id: str
    attempt: int = 0
    trial: int = 0
    memory: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    """Actions to take before the agent's first turn (teacher forcing)."""
    spent: Usage = Usage()
    """What was used for this episode before it began, such as for its memory; counted with it."""
    seconds: float = 0.0
    """How long that took."""

    @classmethod
    def after(cls, memory: Memory, task_id: str, attempt: int, trial: int) -> Job:
        """The next trial of an attempt that failed."""
        return cls(task_id, attempt, trial, memory.notes, (), memory.spent, memory.seconds)


def episode_seed(seed: int, job: Job) -> int:
    """The seed of an episode: a function of the run's seed and of which episode it is, of nothing else."""
    name = f"{seed}\0{job.task_id}\0{job.attempt}\0{job.trial}"
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:7], "big")


def rollout(
    make_env: MakeEnv,
    agent: Agent,
    jobs: Iterable[Job],
    *,
    batch_size: int = 64,
    seed: int = 0,
    env_kwargs: dict[str, Any] | None = None,
) -> Iterator[Trajectory]:
    """Play every job to its end; yields each trajectory as it finishes.

    At most `batch_size` episodes are live; they advance together, one batched call of the agent a turn;
    a finished one leaves and a waiting one takes its place and its environment.

    Args:
        make_env: makes one environment; called once per place in the batch.
        agent: answers all live episodes at once.
        jobs: what to play, read as places fall free.
        batch_size: number of places.
        seed: the run's seed; see `episode_seed`.
        env_kwargs: recorded in each trajectory.
    """
    waiting = iter(jobs)
    places: list[_Place] = []
    live: list[_Place] = []
    try:
        while True:
            while len(live) < batch_size and (job := next(waiting, None)) is not None:
                idle = next((place for place in places if place not in live), None)
                if idle is None:
                    idle = _Place(make_env())
                    places.append(idle)
                if failed := idle.begin(job, agent, episode_seed(seed, job), env_kwargs or {}):
                    yield failed
                else:
                    live.append(idle)
            if not live:
                return
            replies = agent.respond([place.episode for place in live])
            if len(replies) != len(live):
                raise ProsegymError(f"agent {agent.name} gave {len(replies)} replies to {len(live)} episodes")
            going = []
            for place, reply in zip(live, replies, strict=True):
                if finished := place.advance(agent, reply):
                    yield finished
                else:
                    going.append(place)
            live = going
    finally:
        for place in places:
            place.env.close()


class _Place:
    """A place in the batch: an environment, and the episode it is playing."""

    episode: Episode

    def __init__(self, env: gymnasium.Env[str, str]) -> None:
        self.env = env
        self.text_env = env.unwrapped
        if not isinstance(self.text_env, TextEnv):
            raise ProsegymError(f"{type(self.text_env).__name__} is not a prosegym environment (TextEnv)")

    def begin(self, job: Job, agent: Agent, seed: int, env_kwargs: dict[str, Any]) -> Trajectory | None:
        """Start the job's episode; a trajectory is returned only where it could not start."""
        self.started = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self.clock = time.perf_counter() - job.seconds
        self.env_kwargs = env_kwargs
        self.used = job.spent
        text_env = self.text_env
        assert isinstance(text_env, TextEnv)
        task: Task = text_env.task(job.task_id)
        options: dict[str, Any] = {"task_id": job.task_id}
        if job.prefix:
            options["prefix"] = list(job.prefix)
        self.episode = Episode(
            task, text_env.instruction, "", {}, seed, job.attempt, job.trial, memory=job.memory
        )
        try:
            self.episode.observation, self.episode.info = self.env.reset(seed=seed % 2**31, options=options)
        except EngineError as error:
            return self.finish(agent, "error", str(error))
        agent.begin(self.episode, text_env)
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
        except EngineError as error:
            return self.finish(agent, "error", str(error))
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
                reply.parse_failed,
            )
        )
        if terminated or truncated:
            return self.finish(agent, "terminated" if terminated else "truncated", None)
        return None

    def finish(self, agent: Agent, ended: Any, error: str | None) -> Trajectory:
        """The record of the episode."""
        episode, failed = self.episode, ended == "error"
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
            error=error,
            usage=self.used,
            started=self.started,
            seconds=time.perf_counter() - self.clock,
            memory=list(episode.memory),
        )
