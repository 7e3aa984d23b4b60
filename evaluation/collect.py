"""Collect trajectories into a JSON Lines file that a killed call goes on with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from tqdm import tqdm

from prosegym.envs import trajectory as records
from prosegym.envs.core import unwrapped
from prosegym.envs.errors import UNREADABLE, BadOption, CorruptData, ProsegymError, at_least
from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation.agents import Agent
from prosegym.evaluation.evaluate import make_env, said_by
from prosegym.evaluation.rollout import Job, episode_seed, rollout
from prosegym.evaluation.runs import differing, hold, write

BEGINNING = b'{"env_id":'
"""How each line of a file of trajectories begins: one that a kill cut is thrown away, nothing else is."""


def collect(
    agent: Agent,
    env_id: str,
    split: str,
    out: str | Path,
    *,
    episodes: int,
    seed: int = 0,
    batch_size: int = 64,
    successes: bool = False,
    env_kwargs: dict[str, Any] | None = None,
    progress: bool = True,
) -> int:
    """Play the first `episodes` tasks of a split and write what happened; returns the episodes in the file.

    When a split has fewer tasks than `episodes`, they are played again as further attempts. An existing
    file of the same agent, environment, split and seed is gone on with; a last line cut by a kill is played
    again. What the agent says of itself is kept beside it, in `out` + `.agent.json`.

    Args:
        agent: who plays.
        env_id: a registered id.
        split: whose tasks are played, in order.
        out: the file.
        episodes: how many are played.
        seed: the run's seed.
        batch_size: episodes that are live at once.
        successes: whether only successful episodes are kept.
        env_kwargs: arguments of the environment, recorded.
        progress: whether to show a progress bar.

    Raises:
        BadOption: a number is too small, or the split is empty.
        ProsegymError: the file holds episodes of another agent (or of the same with another model or other
            settings), environment, split or seed, or of one made with other arguments; another process is
            writing to it, or it cannot be written.
    """
    at_least(1, episodes=episodes, batch_size=batch_size)
    out = Path(out)
    kwargs = dict(env_kwargs or {})
    conditions = said_by(agent)
    probe = make_env(env_id, **kwargs)
    text_env = unwrapped(probe)
    tasks = text_env.tasks(split)
    if not len(tasks):
        raise BadOption(f"split {split!r} has no tasks here; there are {', '.join(text_env.splits)}")
    places = tqdm(range(episodes), "tasks", unit="task", delay=2, leave=False, disable=not progress)
    jobs = [Job(tasks[i % len(tasks)].id, attempt=i // len(tasks)) for i in places]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        file = open(out, "ab", buffering=0)
    except OSError as error:
        raise ProsegymError(f"cannot write {out}: {error.strerror}; choose another --out") from error
    with file:
        hold(file.fileno(), out)
        try:
            there = _resume(
                out, agent, env_id, split=split, seed=seed, env_kwargs=kwargs, successes=successes
            )
            done = {t.key for t in there}
            _same_agent(out, agent, conditions, begun=bool(done))
        except OSError as error:
            raise ProsegymError(f"cannot go on with {out}: {error.strerror}; choose another --out") from error
        # Episodes that were played but not kept are played again: they cost time, never correctness.
        todo = [job for job in jobs if job.key not in done]
        if todo:
            text_env.prepare([text_env.task(task_id) for task_id in dict.fromkeys(j.task_id for j in todo)])
        probe.close()
        kept = len(done)
        try:
            played = rollout(
                lambda: make_env(env_id, **kwargs), agent, todo,
                batch_size=batch_size, seed=seed, env_kwargs=kwargs,
            )  # fmt: skip
            with tqdm(
                total=len(jobs), initial=len(jobs) - len(todo), unit="episode", disable=not progress
            ) as bar:
                for trajectory in played:
                    bar.update()
                    if trajectory.success or not successes:
                        records.append(file.fileno(), trajectory)
                        kept += 1
        except OSError as error:
            raise ProsegymError(
                f"cannot write {out}: {error.strerror}; {kept} episodes are kept, run the same command again"
            ) from error
    return kept


def _same_agent(out: Path, agent: Agent, conditions: dict[str, Any], *, begun: bool) -> None:
    """Keep what the agent says of itself beside a new file; refuse to go on with one of another agent's."""
    path = out.with_name(f"{out.name}.agent.json")
    here = {"agent": agent.name, "agent_conditions": conditions}
    if not begun:
        write(path, here)
    elif path.exists():  # files of before this was kept have none
        try:
            there = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        except UNREADABLE as error:
            raise CorruptData(f"{path}: {error}; put back what it held, or choose another --out") from error
        if others := "; ".join(differing(there, here)):
            raise ProsegymError(f"{out} holds episodes of another agent ({others}); choose another --out")


def _resume(
    out: Path,
    agent: Agent,
    env_id: str,
    *,
    split: str,
    seed: int,
    env_kwargs: dict[str, Any],
    successes: bool,
) -> Iterator[Trajectory]:
    env_kwargs = msgspec.json.decode(msgspec.json.encode(env_kwargs))  # as the file has them
    whole = 0
    with open(out, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                if not line.startswith(BEGINNING[: len(line)]):
                    raise CorruptData(f"{out}:{number} is no episode's beginning; choose another --out")
                break
            t = records.decode(line, f"{out}:{number}")
            if (t.agent, t.env_id) != (agent.name, env_id):
                other = f"of {t.agent} in {t.env_id}, not of {agent.name} in {env_id}"
            elif t.env_kwargs != env_kwargs:
                other = f"in {env_id} made with {t.env_kwargs}, not with {env_kwargs}"
            elif t.split != split:
                other = f"of split {t.split}, not of {split}"
            elif t.seed != episode_seed(seed, Job(*t.key)):
                other = f"of another seed than {seed}"
            elif successes and not t.success:
                other = "that was not solved, and only solved ones are asked for"
            else:
                whole += len(line)
                yield t
                continue
            raise CorruptData(f"{out}:{number} is an episode {other}; choose another --out")
    with open(out, "rb+") as file:
        file.truncate(whole)
