"""Ray on this machine: two nodes, the same episodes as without it, and a node that is killed on the way."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from prosegym.envs import panels
from prosegym.envs.errors import ProsegymError
from prosegym.evaluation import agents
from prosegym.evaluation.cluster import rollout_on_ray
from prosegym.evaluation.evaluate import evaluate, make_env
from prosegym.evaluation.rollout import Job, rollout
from prosegym.evaluation.workers import Limits

pytestmark = pytest.mark.slow
ENV = "prosegym/Lockbox-v1"
JOBS = [Job(f"train/{c}", attempt=a) for a in range(12) for c in ("red", "blue", "green", "teal")]


class Slow(agents.RandomAdmissible):
    def respond(self, episodes: Any) -> Any:
        time.sleep(0.05)
        return super().respond(episodes)


class Deadly(agents.RandomAdmissible):
    """Its process ends where it plays a green box."""

    def respond(self, episodes: Any) -> Any:
        if any(episode.task.id == "train/green" for episode in episodes):
            os._exit(7)
        return super().respond(episodes)


class Hanging(agents.RandomAdmissible):
    """Answers no more where it plays a green box."""

    def respond(self, episodes: Any) -> Any:
        while any(episode.task.id == "train/green" for episode in episodes):
            time.sleep(1)
        return super().respond(episodes)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    tests = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", ":".join([*sys.path, tests, str(Path(__file__).parent)]))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def plain(played: Any) -> Any:
    return sorted((msgspec.structs.replace(t, started="", seconds=0.0) for t in played), key=lambda t: t.key)


def test_same_episodes_and_a_killed_node_loses_none(cluster: Any) -> None:
    env: Any = make_env(ENV).unwrapped
    here = plain(rollout(partial(make_env, ENV), agents.RandomAdmissible(), JOBS, seed=3))
    options: dict[str, Any] = dict(actors=2, task_of=env.task, agent_name="random", seed=3, batch_size=4)
    there = rollout_on_ray(partial(make_env, ENV), agents.RandomAdmissible, JOBS, **options)
    assert plain(there) == here

    incidents: list[Any] = []
    played = []
    for trajectory in rollout_on_ray(partial(make_env, ENV), Slow, JOBS, report=incidents.append, **options):
        played.append(trajectory)
        if len(played) == 8:
            cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
            cluster.add_node(num_cpus=1)
    assert plain(played) == here
    # Lost are the episodes that were under way or waiting on that node; what it had handed in is not played again.
    assert incidents and all(i.retried for i in incidents)
    before = {(t.task_id, t.attempt) for t in played[:8]}
    assert not before & {(i.job.task_id, i.job.attempt) for i in incidents}


def test_an_episode_is_not_blamed_for_anothers_death(cluster: Any) -> None:
    env: Any = make_env(ENV).unwrapped
    incidents: list[Any] = []
    played = list(
        rollout_on_ray(
            partial(make_env, ENV), Deadly, JOBS[:8], actors=2, task_of=env.task, agent_name="random",
            batch_size=4, report=incidents.append,
        )
    )  # fmt: skip
    assert {t.key for t in played} == {(job.task_id, job.attempt, job.trial) for job in JOBS[:8]}
    assert {t.task_id for t in played if t.ended == "error"} == {"train/green"}
    assert {i.job.task_id for i in incidents if not i.retried} == {"train/green"}


@pytest.mark.timeout(120)
def test_an_episode_that_hangs_costs_no_other(cluster: Any) -> None:
    env: Any = make_env(ENV).unwrapped
    incidents: list[Any] = []
    here = plain(rollout(partial(make_env, ENV), agents.RandomAdmissible(), JOBS[:8]))
    there = rollout_on_ray(
        partial(make_env, ENV), Hanging, JOBS[:8], actors=2, task_of=env.task, agent_name="random",
        batch_size=4, limits=Limits(episode=3.0), report=incidents.append,
    )  # fmt: skip
    played = plain(there)
    errors = [t for t in played if t.ended == "error"]
    assert {(t.task_id, t.error) for t in errors} == {
        ("train/green", "the Ray actor handed in no episode for 3 s")
    }
    assert [t for t in played if t not in errors] == [t for t in here if t.task_id != "train/green"]
    assert {i.job.task_id for i in incidents if not i.retried} == {"train/green"} and len(errors) == 2


class Leaving(agents.RandomAdmissible):
    """Its process ends while it is made, as where there is no memory for a model."""

    def __init__(self) -> None:
        os._exit(7)


def unloadable() -> Any:
    raise ProsegymError("no such model")


@pytest.mark.timeout(120)
def test_actors_without_a_place_hold_nothing_back(cluster: Any) -> None:
    """Five actors, two processors: two play, and the others' share is theirs."""
    env: Any = make_env(ENV).unwrapped
    options: dict[str, Any] = dict(task_of=env.task, agent_name="random", seed=3, batch_size=4)
    here = plain(rollout(partial(make_env, ENV), agents.RandomAdmissible(), JOBS, seed=3))
    make = partial(make_env, ENV)
    assert plain(rollout_on_ray(make, agents.RandomAdmissible, JOBS, actors=5, **options)) == here
    for agent, said in (
        (unloadable, "a Ray actor failed: ProsegymError.'no such model'"),
        (Leaving, "lost .* while it made the agent, 2 times in a row"),
    ):
        with pytest.raises(ProsegymError, match=said):
            list(rollout_on_ray(make, agent, JOBS, actors=2, **options))
    with pytest.raises(ProsegymError, match="to take 0.5 GPUs and the Ray cluster has 0"):
        list(rollout_on_ray(make, agents.RandomAdmissible, JOBS, actors=2, gpus_per_actor=0.5, **options))


def test_evaluate_on_ray_shows_its_progress(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env: Any = make_env(ENV).unwrapped
    panel = panels.make(env, "train", about="all")
    run = evaluate(agents.ExpertAgent(), panel, tmp_path / "r", ray_actors=2, batch_size=2)
    shown = capsys.readouterr().err.split("\r")[-1]
    assert run.complete and "100%" in shown and "success 1.000 [0.676, 1.000]" in shown
