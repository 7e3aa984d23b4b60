"""Episodes on a Ray cluster: the same jobs, seeds and records as on one machine.

`pip install "prosegym[ray]"`
"""

from __future__ import annotations

import time
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
from prosegym.evaluation.rollout import Incident, Job, Key, rollout
from prosegym.evaluation.workers import LIMITS, Bill, Limits, Try, error_row, portion


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
        self._make_env, self._make_agent = make_env, make_agent
        self._seed, self._env_kwargs = seed, env_kwargs
        self._batch_size, self._retries = batch_size, retries

    def load(self) -> None:
        """Make the agent: the answer says that this actor has a place and can play."""
        self._agent = self._make_agent()

    def play(self, jobs: list[Job]) -> Iterator[bytes | Incident]:
        """Episodes as they end, and engines that failed as they fail."""
        incidents: list[Incident] = []
        played = rollout(
            self._make_env, self._agent, jobs,
            batch_size=self._batch_size, seed=self._seed, env_kwargs=self._env_kwargs,
            retries=self._retries, report=incidents.append,
        )  # fmt: skip
        for trajectory in played:
            yield from incidents
            incidents.clear()
            yield records.encode(trajectory)


_PART = 4
"""Batches given to an actor at once, so that a place that falls free is filled."""
_LOOK = 1.0
"""Seconds between looks for actors that hang."""


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

    Ray places the actors, ships the agents and says when a node is gone; what this adds is that the
    episodes that a lost actor had are played again elsewhere, `limits.retries` times; lost then, each is
    tried by itself, and is an error row where that actor is lost, too. What has ended is handed in at once,
    so nothing finished is lost. Actors for which the cluster has no place wait for one; the others play.

    Args:
        make_env: makes one environment; shipped to the actors.
        make_agent: makes the agent inside each actor, so that a model is loaded where it runs.
        jobs: what to play.
        actors: how many actors; each takes one CPU and `gpus_per_actor` GPUs.
        task_of: the task of an id, for error rows.
        agent_name: for error rows.
        seed: the run's seed.
        env_kwargs: recorded in each trajectory.
        batch_size: episodes that are live at once in each actor.
        address: of the cluster; None starts one on this machine unless Ray is already connected.
        gpus_per_actor: share of a GPU each actor takes.
        limits: of retries, and of an episode: an actor that hands in none for so long is ended and is a lost
            one. There is no limit on a step.
        report: told of every job that was lost.

    Raises:
        ProsegymError: Ray is not installed, the cluster lacks the GPUs that an actor takes, or actors are
            unable to make the agent.
    """
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError as error:
        raise ProsegymError('ray is not installed; run `pip install "prosegym[ray]"`') from error

    if not ray.is_initialized():
        ray.init(address=address, include_dashboard=False, log_to_driver=False)
    gpus: float = ray.cluster_resources().get("GPU", 0)  # type: ignore[no-untyped-call]
    if gpus_per_actor > gpus:
        raise ProsegymError(f"an actor is to take {gpus_per_actor:g} GPUs and the Ray cluster has {gpus:g}")
    waiting = deque(map(Try, jobs))
    remote = ray.remote(_Player)
    busy: dict[Any, tuple[Any, dict[Key, Try]]] = {}
    loading: dict[Any, Any] = {}
    players: list[Any] = []
    clock: dict[Any, float] = {}  # when each was given work, or handed in an episode, last
    hung: set[Any] = set()
    bill = Bill()
    lost = 0  # actors in a row, before they could play

    def start() -> None:
        options = remote.options(num_cpus=1, num_gpus=gpus_per_actor, scheduling_strategy="SPREAD")
        players.append(
            options.remote(
                dict(ENVS), make_env, make_agent, seed, env_kwargs or {}, batch_size, limits.retries
            )
        )
        loading[players[-1].load.remote()] = players[-1]

    def give(player: Any) -> None:
        share = min(_PART * batch_size, -(-len(waiting) // actors))
        if part := portion(waiting, max(share, batch_size), ()):
            episodes = player.play.options(num_returns="streaming").remote([tried.job for tried in part])
            busy[episodes] = player, {tried.job.key: tried for tried in part}
            clock[player] = time.monotonic()

    try:
        for _ in range(max(1, min(actors, -(-len(waiting) // batch_size)))):
            start()
        while busy or waiting:
            ready: Any = ray.wait([*busy, *loading], num_returns=1, timeout=_LOOK)[0]
            for episodes, (player, _) in busy.items():
                overdue = time.monotonic() - clock[player] > limits.episode
                if overdue and not ray.wait([episodes], timeout=0)[0]:
                    ray.kill(player)  # which its episodes will say
                    hung.add(player)
            if not ready:
                continue
            episodes = ready[0]
            loads = episodes in loading
            player, part = (loading.pop(episodes), {}) if loads else busy[episodes]
            try:
                if loads:
                    ray.get(episodes)
                    lost = 0
                    give(player)
                    continue
                answer: Any = ray.get(next(episodes))
            except StopIteration:
                del busy[episodes]
                give(player)
            except ray.exceptions.RayActorError as error:
                busy.pop(episodes, None)
                players.remove(player)
                what = f"the Ray actor was lost ({type(error).__name__})"
                if player in hung:
                    what = f"the Ray actor handed in no episode for {limits.episode:g} s"
                lost = lost + 1 if loads else 0
                if lost > limits.retries:
                    raise ProsegymError(f"{what} while it made the agent, {lost} times in a row") from error
                for tried in part.values():
                    again = len(part) > 1 or tried.tries < limits.retries
                    report(Incident(tried.job, what, again))
                    if again:
                        alone = tried.tries >= limits.retries
                        waiting.append(Try(tried.job, tried.tries + 1, alone))
                    else:
                        job = tried.job
                        task, used = task_of(job.task_id), bill.lost(job)
                        yield error_row(agent_name, task, job, seed, what, env_kwargs or {}, used)
                start()
            except ray.exceptions.RayTaskError as error:
                raise ProsegymError(f"a Ray actor failed: {error.cause!r}") from error
            else:
                if isinstance(answer, Incident):
                    report(answer)
                    continue
                clock[player] = time.monotonic()
                trajectory = records.decode(answer)
                yield bill.add(trajectory, part.pop(trajectory.key))
    finally:
        for player in players:
            ray.kill(player)
