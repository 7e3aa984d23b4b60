"""Episodes on a Ray cluster: the same jobs, seeds and records as on one machine.

`pip install "prosegym[ray]"`
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
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


class _Crew:
    """The actors: which of them make their agent, which play what, and when each was heard of last."""

    def __init__(
        self, make: Callable[[], Any], waiting: deque[Try], *, actors: int, batch_size: int, limits: Limits
    ) -> None:
        self.loading: dict[Any, Any] = {}
        """Actors that make their agent, by Ray's reference to the answer."""
        self.playing: dict[Any, tuple[Any, dict[Key, Try]]] = {}
        """Actors that play, and what each has yet to hand in, by Ray's reference to its episodes."""
        self._make, self._waiting = make, waiting
        self._actors, self._batch_size, self._limits = actors, batch_size, limits
        self._players: list[Any] = []
        self._heard: dict[Any, float] = {}
        self._hung: set[Any] = set()

    def start(self) -> None:
        """One actor more."""
        self._players.append(player := self._make())
        self.loading[player.load.remote()] = player

    def give(self, player: Any) -> None:
        """A fair part of what waits; nothing where nothing does."""
        share = min(_PART * self._batch_size, -(-len(self._waiting) // self._actors))
        if part := portion(self._waiting, max(share, self._batch_size), ()):
            episodes = player.play.options(num_returns="streaming").remote([tried.job for tried in part])
            self.playing[episodes] = player, {tried.job.key: tried for tried in part}
            self._heard[player] = time.monotonic()

    def ready(self) -> Any:
        """The reference of an actor that has something to say; None where none has. Ends those that hang."""
        import ray

        found: Any = ray.wait([*self.playing, *self.loading], num_returns=1, timeout=_LOOK)[0]
        for episodes, (player, _) in self.playing.items():
            overdue = time.monotonic() - self._heard[player] > self._limits.episode
            if overdue and not ray.wait([episodes], timeout=0)[0]:
                ray.kill(player)  # which its episodes will say
                self._hung.add(player)
        return found[0] if found else None

    def received(self, episodes: Any, trajectory: Trajectory) -> Try:
        """The try that an episode ends."""
        player, part = self.playing[episodes]
        self._heard[player] = time.monotonic()
        return part.pop(trajectory.key)

    def lost(self, reference: Any, error: Exception) -> tuple[str, list[Try]]:
        """Strike out an actor that is gone: what is said of it, and the tries that went with it."""
        tries: dict[Key, Try] = {}
        if reference in self.loading:
            player = self.loading.pop(reference)
        else:
            player, tries = self.playing.pop(reference)
        self._players.remove(player)
        if player in self._hung:
            what = f"the Ray actor handed in no episode for {self._limits.episode:g} s"
        else:
            what = f"the Ray actor was lost ({type(error).__name__})"
        return what, list(tries.values())

    def close(self) -> None:
        """End them all."""
        import ray

        for player in self._players:
            ray.kill(player)


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
    kwargs = env_kwargs or {}
    remote = ray.remote(_Player).options(num_cpus=1, num_gpus=gpus_per_actor, scheduling_strategy="SPREAD")
    make = partial(remote.remote, dict(ENVS), make_env, make_agent, seed, kwargs, batch_size, limits.retries)
    crew = _Crew(make, waiting, actors=actors, batch_size=batch_size, limits=limits)
    bill = Bill()
    failures = 0  # actors in a row that were lost before they could play
    try:
        for _ in range(max(1, min(actors, -(-len(waiting) // batch_size)))):
            crew.start()
        while crew.playing or waiting:
            if (reference := crew.ready()) is None:
                continue
            loads = reference in crew.loading
            try:
                answer: Any = ray.get(reference if loads else next(reference))
            except StopIteration:
                crew.give(crew.playing.pop(reference)[0])
            except ray.exceptions.RayActorError as error:
                what, tries = crew.lost(reference, error)
                failures = failures + 1 if loads else 0
                if failures > limits.retries:
                    raise ProsegymError(
                        f"{what} while it made the agent, {failures} times in a row"
                    ) from error
                for tried in tries:
                    job, again = tried.job, len(tries) > 1 or tried.tries < limits.retries
                    report(Incident(job, what, again))
                    if again:
                        waiting.append(Try(job, tried.tries + 1, alone=tried.tries >= limits.retries))
                    else:
                        yield error_row(
                            agent_name, task_of(job.task_id), job, seed, what, kwargs, bill.lost(job)
                        )
                crew.start()
            except ray.exceptions.RayTaskError as error:
                raise ProsegymError(f"a Ray actor failed: {error.cause!r}") from error
            else:
                if loads:
                    failures = 0
                    crew.give(crew.loading.pop(reference))
                elif isinstance(answer, Incident):
                    report(answer)
                else:
                    trajectory = records.decode(answer)
                    yield bill.add(trajectory, crew.received(reference, trajectory))
    finally:
        crew.close()
