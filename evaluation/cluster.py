"""Episodes on a Ray cluster: the same jobs, seeds and records as on one machine.

`pip install "prosegym[ray]"`
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gymnasium

from prosegym.envs import ENVS, register_envs
from prosegym.envs import trajectory as records
from prosegym.envs.core import Task
from prosegym.envs.errors import ProsegymError
from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation.agents import Agent
from prosegym.evaluation.rollout import Incident, Job, rollout
from prosegym.evaluation.workers import LIMITS, Limits, error_row


class _Player:
    """The body of an actor: an agent of its own, and the environments it plays in."""

    def __init__(
        self,
        envs: dict[str, str],
        make_env: Callable[[], gymnasium.Env[str, str]],
        make_agent: Callable[[], Agent],
        seed: int,
        env_kwargs: dict[str, Any],
        batch_size: int,
        retries: int,
    ) -> None:
        ENVS.update(envs)
        register_envs()
        self._agent = make_agent()
        self._make_env, self._seed, self._env_kwargs = make_env, seed, env_kwargs
        self._batch_size, self._retries = batch_size, retries

    def play(self, jobs: list[Job]) -> tuple[list[bytes], list[Incident]]:
        incidents: list[Incident] = []
        played = rollout(
            self._make_env, self._agent, jobs,
            batch_size=self._batch_size, seed=self._seed, env_kwargs=self._env_kwargs,
            retries=self._retries, report=incidents.append,
        )  # fmt: skip
        return [records.encode(trajectory) for trajectory in played], incidents


def rollout_on_ray(
    make_env: Callable[[], gymnasium.Env[str, str]],
    make_agent: Callable[[], Agent],
    jobs: Iterable[Job],
    *,
    actors: int,
    task_of: Callable[[str], Task],
    agent_name: str,
    seed: int = 0,
    env_kwargs: dict[str, Any] | None = None,
    batch_size: int = 16,
    address: str | None = None,
    gpus_per_actor: float = 0.0,
    limits: Limits = LIMITS,
    report: Callable[[Incident], None] = lambda incident: None,
) -> Iterator[Trajectory]:
    """As `rollout`, in actors spread over a Ray cluster.

    Ray places the actors, ships the agents and says when a node is gone; what this adds is that the jobs of
    a lost actor are played again elsewhere (`limits.retries` times, then they are error rows) and that
    nothing finished is lost.

    Args:
        make_env: makes one environment; shipped to the actors.
        make_agent: makes the agent inside each actor, so that a model is loaded where it runs.
        jobs: what to play.
        actors: how many actors; each takes one CPU and `gpus_per_actor` GPUs.
        task_of: the task of an id, for error rows.
        agent_name: for error rows.
        seed: the run's seed.
        env_kwargs: recorded in each trajectory.
        batch_size: episodes that are live at once in each actor, and that are sent to it at once.
        address: of the cluster; None starts one on this machine unless Ray is already connected.
        gpus_per_actor: share of a GPU each actor takes.
        limits: of retries; Ray sees to hung nodes.
        report: told of every job that was lost.

    Raises:
        ProsegymError: Ray is not installed.
    """
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError as error:
        raise ProsegymError('ray is not installed; run `pip install "prosegym[ray]"`') from error

    if not ray.is_initialized():
        ray.init(address=address, include_dashboard=False, log_to_driver=False)
    waiting = deque((job, 0) for job in jobs)
    remote = ray.remote(_Player)

    def start() -> Any:
        options = remote.options(num_cpus=1, num_gpus=gpus_per_actor, scheduling_strategy="SPREAD")
        return options.remote(
            dict(ENVS), make_env, make_agent, seed, env_kwargs or {}, batch_size, limits.retries
        )

    def take() -> list[tuple[Job, int]]:
        return [waiting.popleft() for _ in range(min(batch_size, len(waiting)))]

    busy: dict[Any, tuple[Any, list[tuple[Job, int]]]] = {}
    players: list[Any] = []
    try:
        for _ in range(max(1, min(actors, -(-len(waiting) // batch_size)))):
            players.append(start())
            if part := take():
                busy[players[-1].play.remote([job for job, _ in part])] = (players[-1], part)
        while busy:
            (ready, *_), _ = ray.wait(list(busy), num_returns=1)
            player, part = busy.pop(ready)
            try:
                lines, incidents = ray.get(ready)
                for incident in incidents:
                    report(incident)
                yield from map(records.decode, lines)
            except ray.exceptions.RayActorError as error:
                players.remove(player)
                player = start()
                players.append(player)
                what = f"the Ray actor was lost ({type(error).__name__})"
                for job, tries in part:
                    report(Incident(job, what, tries < limits.retries))
                    if tries < limits.retries:
                        waiting.append((job, tries + 1))
                    else:
                        yield error_row(agent_name, task_of(job.task_id), job, seed, what, env_kwargs or {})
            except ray.exceptions.RayTaskError as error:
                raise ProsegymError(f"a Ray actor failed: {error.cause!r}") from error
            if part := take():
                busy[player.play.remote([job for job, _ in part])] = (player, part)
    finally:
        for player in players:
            ray.kill(player)
