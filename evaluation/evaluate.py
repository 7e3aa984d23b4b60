"""Evaluate an agent on a panel: every task, every attempt, once; killed, the same call goes on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import gymnasium
import msgspec
from tqdm import tqdm

from prosegym.envs import ENVS, known, panels
from prosegym.envs.core import Tasks, unwrapped
from prosegym.envs.errors import UNREADABLE, BadOption, CorruptData, ProsegymError, UnknownName, at_least
from prosegym.envs.lookup import env_class
from prosegym.envs.panels import Panel
from prosegym.envs.trajectory import Trajectory
from prosegym.evaluation.agents import Agent, Memory
from prosegym.evaluation.cluster import rollout_on_ray
from prosegym.evaluation.metrics import last_trials
from prosegym.evaluation.rollout import Job, episode_seed, faults_of, rollout
from prosegym.evaluation.runs import Conditions, PanelRef, Run, other_versions, versions
from prosegym.evaluation.statistics import wilson
from prosegym.evaluation.texts import unfit_agent
from prosegym.evaluation.workers import LIMITS, Limits, Processes


@runtime_checkable
class Retrying(Protocol):
    """What an agent adds that tries a failed task again, with the success signal as feedback."""

    trials: int
    """How many trials an attempt may have."""

    def remember(self, failures: Sequence[Sequence[Trajectory]]) -> Sequence[Memory]:
        """What each failed attempt (all its trials so far) carries into its next trial.

        Where an attribute `together` is true, what one carries depends on the others: then a run that goes on
        asks about all that failed, not only about those that are still to be played.
        """
        ...


def env_arguments(text: str) -> dict[str, Any]:
    """An environment's arguments, from the JSON of `--env-kwargs`.

    Raises:
        BadOption: it is not a JSON object.
    """
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except UNREADABLE as error:
        raise BadOption(f"--env-kwargs {text[:80]!r} is not a JSON object ({error})") from error


def make_env(env_id: str, /, **kwargs: Any) -> gymnasium.Env[str, str]:
    """An environment of this project, as evaluation uses it.

    Raises:
        UnknownName: no such id.
        BadOption: an argument is no JSON, which is what a record keeps it as.
        ProsegymError: it would show the expert's actions.
    """
    if not known(env_id):
        raise UnknownName("environment", env_id, ENVS)
    try:
        msgspec.json.encode(kwargs)
    except TypeError as error:
        raise BadOption(f"an environment's arguments are recorded as JSON: {error}") from error
    for name in ("id", "disable_env_checker", "max_episode_steps", "vectorization_mode"):
        if name in kwargs:
            raise BadOption(
                f"{name} is Gymnasium's, and no argument of an environment; limit steps by max_steps"
            )
    if kwargs.get("expose_expert"):
        raise ProsegymError("evaluation refuses expose_expert=True: the agent would be shown the answer")
    return gymnasium.make(env_id, disable_env_checker=True, **kwargs)


def said_by(agent: Agent) -> dict[str, Any]:
    """What an agent says of itself, as a record keeps it.

    Raises:
        BadOption: it is no mapping, or no JSON.
    """
    said = agent.conditions()
    if not isinstance(said, Mapping):
        raise BadOption(f"conditions() of agent {agent.name} owes a dict, not {said!r:.80}")
    try:
        return msgspec.json.decode(msgspec.json.encode(dict(said)), type=dict[str, Any])
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadOption(f"conditions() of agent {agent.name} are recorded as JSON: {error}") from error


def evaluate(
    agent: Agent,
    panel: Panel,
    out: str | Path,
    *,
    attempts: int = 1,
    seed: int = 0,
    batch_size: int = 64,
    env_kwargs: dict[str, Any] | None = None,
    workers: int = 0,
    limits: Limits = LIMITS,
    ray_actors: int = 0,
    ray_gpus: float = 0.0,
    make_agent: Callable[[], Agent] | None = None,
    progress: bool = True,
) -> Run:
    """Play a panel and keep every episode in `out`; returns the run, closed and complete.

    Args:
        agent: who plays. One that is `Retrying` gets its trials, of failed tasks only.
        panel: what is played: all of it, in order.
        out: the run folder; one that holds part of the same run is gone on with.
        attempts: independent tries at each task.
        seed: seeds every episode's own generator together with task, attempt and trial.
        batch_size: episodes that are live at once.
        env_kwargs: arguments of the environment, recorded.
        workers: processes that play; 0 plays in this one, without time limits. With `make_agent` they share
            `batch_size` among them, without it each plays one episode at a time.
        limits: of a step, with `workers`, and of an episode, with `workers` or `ray_actors`; what broke them
            is in `incidents.jsonl`.
        ray_actors: actors on the Ray cluster this process is connected to, or on one it starts; 0 for none.
        ray_gpus: share of a GPU that each of them takes; Ray hides the GPUs from one that takes none.
        make_agent: makes the agent where a worker or an actor runs, so that a model is loaded there;
            without it the agent itself is sent. Workers pickle it.
        progress: whether to show a progress bar.

    Raises:
        BadOption: a number is too small, or there are both workers and actors.
        ProsegymError: a task's content is not the panel's, or `out` holds another run.
    """
    kwargs = dict(env_kwargs or {})
    at_least(1, attempts=attempts, batch_size=batch_size)
    at_least(0, workers=workers, ray_actors=ray_actors, ray_gpus=ray_gpus)
    if workers and ray_actors:
        raise BadOption("workers play on this machine and ray_actors on a cluster; give one of the two")
    if ray_gpus and not ray_actors:
        raise BadOption("ray_gpus is what each of the ray_actors takes, and there are none")
    probe = make_env(panel.env_id, **kwargs)
    text_env = unwrapped(probe)
    trials = agent.trials if isinstance(agent, Retrying) else 1
    conditions = Conditions(
        panel.env_id,
        kwargs,
        PanelRef(panel.name, panel.env_id, panel.split, panel.sha256, len(panel.tasks)),
        agent.name,
        said_by(agent),
        attempts,
        trials,
        seed,
        dict(text_env.conditions()),
        versions(),
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    made = partial(make_env, panel.env_id, **kwargs)
    with ExitStack() as stack:
        stack.callback(probe.close)
        processes = None
        if workers:
            processes = stack.enter_context(
                Processes(
                    made,
                    agent,
                    workers=workers,
                    task_of=text_env.task,
                    make_agent=make_agent,
                    batch_size=batch_size,
                    seed=seed,
                    env_kwargs=kwargs,
                    limits=limits,
                )
            )
            processes.check(panel)
        else:
            panels.tasks_of(panel, probe)
        run = stack.enter_context(Run.open(out, conditions))
        if why := unfit_agent(agent.name, conditions.agent_conditions):
            warnings.warn(f"this run cannot be submitted: {why}", stacklevel=2)
        _own(run, panel)
        done = {t.key for t in run.finished}
        todo = [t for t in panel.task_ids if any((t, a, 0) not in done for a in range(attempts))]
        if todo and run.finished:
            for other in other_versions(run.conditions.versions):
                warnings.warn(f"{other}, which plays the rest; texts may differ", stacklevel=2)
        if todo:
            text_env.prepare(Tasks(len(todo), lambda i: text_env.task(todo[i])))
        live = stack.enter_context(_Live(run, disable=not progress))
        for trial in range(trials):
            jobs = list(_jobs(run, agent, panel, attempts, trial))
            if ray_actors:
                played = rollout_on_ray(
                    made, make_agent or (lambda: agent), jobs, actors=ray_actors, gpus_per_actor=ray_gpus,
                    task_of=text_env.task, agent_name=agent.name, seed=seed, env_kwargs=kwargs,
                    batch_size=batch_size, limits=limits, report=run.report,
                )  # fmt: skip
            elif processes:
                played = processes.play(jobs, run.report)
            else:
                played = rollout(
                    made, agent, jobs, batch_size=batch_size, seed=seed, env_kwargs=kwargs,
                    retries=limits.retries, report=run.report,
                )  # fmt: skip
            for trajectory in played:
                run.append(trajectory)
                live.add(trajectory)
        run.save_summary()
        return run


def validation(
    env_id: str, split: str = "", *, env_kwargs: dict[str, Any], say: Callable[[str], None] = print
) -> Panel | None:
    """The panel that a training ends with; None where there is none, or it has other tasks (which is said).

    Args:
        env_id: what is trained on.
        split: split of the panel; by default the first one whose name begins with valid or dev.
        env_kwargs: arguments of the environment.
        say: is told what will be played, or that the panel's tasks are others.

    Raises:
        ProsegymError: the split that is asked for has no panel, or other tasks with these arguments.
    """
    panel = panels.of_split(env_id, split) if split else _held_out(env_id)
    if panel is None:
        return None
    try:
        with closing(make_env(env_id, **env_kwargs)) as env:
            panels.tasks_of(panel, env)
    except ProsegymError as error:
        if split:
            raise
        say(f"nothing is played at the end: {error}")
        return None
    say(f"at the end: {panel.name}, {len(panel.tasks)} tasks (--no-evaluate leaves it out)")
    return panel


def _held_out(env_id: str) -> Panel | None:
    for split in env_class(env_id).splits:
        if split.startswith(("valid", "dev")):
            with suppress(UnknownName):
                return panels.of_split(env_id, split)
    return None


def validate(agent: Agent, panel: Panel, out: Path, *, seed: int, env_kwargs: dict[str, Any]) -> None:
    """Play and tell what `validation` found; the run is `out/evaluation`."""
    run = evaluate(agent, panel, out / "evaluation", seed=seed, env_kwargs=env_kwargs)
    print(f"{panel.name}: success {run.summary().success} ({run.folder})")


class _Live:
    """The bar: episodes played, and the share of them solved so far with an interval.

    The interval is Wilson's, as if episodes were independent; the report's resamples tasks.
    """

    def __init__(self, run: Run, *, disable: bool) -> None:
        c, groups = run.conditions, last_trials(run.finished)
        self._played, self._won = len(groups), sum(group[-1].success for group in groups.values())
        self._bar = tqdm(
            total=c.panel.tasks * c.attempts, initial=self._played, unit="episode",
            desc=f"{c.agent} {c.panel.name}", disable=disable,
        )  # fmt: skip
        self._show()

    def __enter__(self) -> _Live:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, trajectory: Trajectory) -> None:
        """Count a finished episode; a later trial of one that failed counts in its place."""
        self._played += trajectory.trial == 0
        self._won += trajectory.success
        if not self._bar.disable:
            self._show()
            self._bar.update(trajectory.trial == 0)

    def _show(self) -> None:
        if self._played:
            self._bar.set_postfix_str(f"success {wilson(self._won, self._played)}", refresh=False)


def _own(run: Run, panel: Panel) -> None:
    """Refuse a run that holds episodes of another one: they would be counted."""
    tasks, c = dict(panel.tasks), run.conditions
    for number, t in enumerate(run.finished, start=1):
        seed = episode_seed(c.seed, Job(*t.key))
        if t.task_id not in tasks or t.attempt >= c.attempts or t.trial >= c.trials or t.seed != seed:
            raise CorruptData(
                f"{run.folder}/episodes.jsonl: episode {number} (task {t.task_id}) is none of this run; "
                "take its line out, or choose another --out"
            )


def _jobs(run: Run, agent: Agent, panel: Panel, attempts: int, trial: int) -> Iterator[Job]:
    """The episodes of one trial that are still to be played, in panel order, attempt by attempt."""
    done = {t.key for t in run.finished}
    keys = [(task_id, attempt) for attempt in range(attempts) for task_id in panel.task_ids]
    if trial == 0:
        yield from (Job(*key) for key in keys if (*key, trial) not in done)
        return
    assert isinstance(agent, Retrying)
    groups = last_trials(run.finished)
    before = {key: [t for t in groups.get(key, ()) if t.trial < trial] for key in keys}
    failed = [key for key in keys if before[key] and not before[key][-1].success]
    due = [key for key in failed if (*key, trial) not in done]
    asked = failed if due and getattr(agent, "together", False) else due
    memories = dict(zip(asked, _memories(agent, [before[key] for key in asked]), strict=True))
    for key in due:
        yield Job.after(memories[key], *key, trial)


def _memories(agent: Agent, failures: Sequence[Sequence[Trajectory]]) -> Sequence[Memory]:
    """What an agent that retries carries over, one for each failure.

    Raises:
        ProsegymError: it raised something, or answered something else.
    """
    assert isinstance(agent, Retrying)
    with faults_of(agent):
        made = agent.remember(failures)
    if not isinstance(made, Sequence) or [type(m) for m in made] != [Memory] * len(failures):
        raise ProsegymError(
            f"agent {agent.name} remembered {made!r:.80} of {len(failures)} failed attempts; it owes a list "
            "with one Memory for each"
        )
    return made
