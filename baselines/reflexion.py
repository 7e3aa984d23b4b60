"""Reflexion (Shinn et al. 2023, arXiv:2303.11366): try, note what went wrong, try again.

    memory = ()
    for trial in 0 .. trials - 1:
        trajectory = actor plays the task, memory in its prompt
        if evaluator passes it: done
        memory = last 3 of (memory + reflector's note on the trajectory)

Read: the paper, its released code and logs. Different from the code on purpose: the memory is in the prompt
of every environment; success is the task's full score, not the end of the episode; the note is written when a
trial ends, from that trial; nothing but the memory outlives a trial. Retries use a success signal at test
time: results belong to the retry track, with the number of trials on the label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from prosegym.baselines.lm import Generation, LanguageModel, Request, Sampling
from prosegym.envs.core import TextEnv, digest
from prosegym.envs.errors import BadOption, UnknownName
from prosegym.envs.trajectory import Message, Trajectory, Turn
from prosegym.evaluation.agents import Agent, Episode, Reply
from prosegym.evaluation.rollout import Job, MakeEnv, rollout

REFLECT = """Below is a try at a task that did not work out. Say in a few sentences what went wrong and what \
to do differently next time: name the places, things or queries to try and the order to try them in. Do not \
retell the try.

The rules
{instruction}

The try
{transcript}

How it ended
{ending}
{notes}
Your note for the next try:"""
NOTES = """
Notes from the tries before
{notes}
"""
LAST_TRY = "The whole of the last try was:\n{transcript}"
CUT = "[{count} turns left out]"


@dataclass(frozen=True)
class Config:
    """The paper's settings: 3 reflections kept; up to 12 trials in ALFWorld, 5 in HotPotQA."""

    trials: int = 4
    """Tries at a task, the first included."""
    strategy: Literal["base", "last_trial", "reflection", "both"] = "reflection"
    """What is remembered: nothing, the last try as it was, notes on the tries, or notes and last try."""
    memory: int = 3
    """Notes kept, the latest ones."""
    evaluator: Literal["success", "heuristic"] = "success"
    """What passes a try: the task's full score, or that it ended of itself and was not stuck."""
    repeats: int = 3
    """A try is stuck when the same action got the same answer more often than this."""
    max_actions: int = 30
    """A try is stuck when it has taken more actions than this and the evaluator is the heuristic."""
    control: Literal["none", "other_task"] = "none"
    """A control: give each task the memory of another one. (Strategy base is the other control.)"""
    temperature: float = 0.0
    """Of the notes."""
    max_tokens: int = 250
    """Longest note, in tokens."""
    transcript_tokens: int = 3000
    """Longest account of a try, in tokens; turns in its middle are left out."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("strategy", self.strategy, ("base", "last_trial", "reflection", "both")),
            ("evaluator", self.evaluator, ("success", "heuristic")),
            ("control", self.control, ("none", "other_task")),
        ):
            if value not in known:
                raise UnknownName(name, value, known)
        if self.trials < 1 or self.memory < 1:
            raise BadOption("trials and memory must be at least 1")


@dataclass(frozen=True)
class Reflection:
    """A note, and everything a learner needs to know about how it came about."""

    task_id: str
    attempt: int
    trial: int
    """The trial it was written after."""
    prompt: list[Message]
    generation: Generation
    score: float
    """Of the trial it was written after."""
    text: str
    """What is remembered; "" where the model wrote nothing."""


class Reflector(Protocol):
    """Writes notes on tries that did not pass."""

    def reflect(self, failures: Sequence[Failure]) -> list[Reflection]:
        """One note per try, in order."""
        ...

    def conditions(self) -> Mapping[str, Any]:
        """Everything recorded about it."""
        ...


@dataclass(frozen=True)
class Failure:
    """A try that did not pass, and the notes that its actor had."""

    instruction: str
    trajectory: Trajectory
    notes: tuple[str, ...] = ()


class ModelReflector:
    """Asks a language model for the notes."""

    def __init__(self, model: LanguageModel, config: Config | None = None) -> None:
        """Notes by that model."""
        self._model = model
        self._config = config or Config()

    def conditions(self) -> Mapping[str, Any]:
        """Model, prompt digest."""
        return {"reflector": dict(self._model.conditions()), "reflect_sha256": digest(REFLECT, NOTES)}

    def prompt(self, failure: Failure) -> list[Message]:
        """What the model is asked about a try."""
        told = transcript(failure.trajectory, self._config.transcript_tokens, self._model.count_tokens)
        notes = NOTES.format(notes=_numbered(failure.notes)) if failure.notes else ""
        text = REFLECT.format(
            instruction=failure.instruction,
            transcript=told,
            ending=self._ending(failure.trajectory),
            notes=notes,
        )
        return [Message("user", text)]

    def reflect(self, failures: Sequence[Failure]) -> list[Reflection]:
        """One note per try, in order, all asked for at once."""
        prompts = [self.prompt(failure) for failure in failures]
        requests = []
        for prompt, failure in zip(prompts, failures, strict=True):
            seed = int(digest(str(failure.trajectory.seed), "reflection")[:15], 16)
            requests.append(Request(prompt, seed=seed))
        sampling = Sampling(self._config.temperature, max_tokens=self._config.max_tokens)
        answers = self._model.generate(requests, sampling)
        return [
            Reflection(t.task_id, t.attempt, t.trial, prompt, answer, t.score, _note(answer.text))
            for prompt, answer, t in zip(prompts, answers, (f.trajectory for f in failures), strict=True)
        ]

    def _ending(self, trajectory: Trajectory) -> str:
        how = {
            "terminated": "It ended of itself",
            "truncated": trajectory.error or "It ran out of steps",
            "error": "It broke off with an error",
        }[trajectory.ended]
        # The heuristic evaluator sees no score, so neither does its reflector.
        scored = (
            f", with a score of {trajectory.score:.2f} out of 1"
            if self._config.evaluator == "success"
            else ""
        )
        return f"{how} after {len(trajectory.steps)} actions{scored}."


def _note(text: str) -> str:
    """The note without the thoughts before it."""
    return text.rpartition("</think>")[2].strip()


def _numbered(notes: Sequence[str]) -> str:
    return "\n".join(f"{i}. {note}" for i, note in enumerate(notes, start=1))


def transcript(trajectory: Trajectory, limit: int, count: Callable[[str], int]) -> str:
    """A try as text, its first observation and as many turns as fit in `limit` tokens; the middle goes first.

    `count` says how many tokens a text is.
    """
    steps = trajectory.steps
    answers = [*(step.observation for step in steps[1:]), trajectory.final_observation]
    opening = steps[0].observation if steps else trajectory.final_observation
    told = [f"> {step.response}\n{answer}" for step, answer in zip(steps, answers, strict=False)]
    room = limit - count(opening)
    head = tail = 0
    while head + tail < len(told):
        at_end = tail <= head
        room -= count(told[len(told) - 1 - tail] if at_end else told[head])
        if room < 0:
            break
        tail, head = (tail + 1, head) if at_end else (tail, head + 1)
    left_out = len(told) - head - tail
    middle = [CUT.format(count=left_out)] if left_out else []
    return "\n".join([opening, *told[:head], *middle, *told[len(told) - tail :]])


def _words(text: str) -> int:
    """Roughly how many tokens a text is."""
    return len(text.split()) * 4 // 3


def stuck(steps: Sequence[Turn], config: Config) -> bool:
    """Whether a try goes round in circles (or, for the heuristic evaluator, on for too long)."""
    # Turn i + 1 shows what turn i's action was answered with.
    pairs = Counter((a.action, b.observation) for a, b in zip(steps, steps[1:], strict=False))
    if any(count > config.repeats for count in pairs.values()):
        return True
    return config.evaluator == "heuristic" and len(steps) > config.max_actions


def passed(trajectory: Trajectory, config: Config) -> bool:
    """Whether a try needs no other one."""
    if config.evaluator == "success":
        return trajectory.success
    return trajectory.ended == "terminated" and not stuck(trajectory.steps, config)


class Actor:
    """The agent of one trial: another agent, whose try ends when the evaluator's heuristic finds it stuck."""

    def __init__(self, agent: Agent, config: Config) -> None:
        """`agent` puts `Episode.memory` in its prompt, as ReAct does."""
        self._agent = agent
        self._config = config
        self.name = "reflexion"

    def conditions(self) -> Mapping[str, Any]:
        """The agent's, and how its trials go."""
        return {**self._agent.conditions(), "reflexion": asdict(self._config)}

    def begin(self, episode: Episode, env: TextEnv) -> None:
        """The agent's."""
        self._agent.begin(episode, env)

    def respond(self, episodes: Sequence[Episode]) -> list[Reply]:
        """The agent's replies; stuck tries are ended."""
        heuristic = self._config.evaluator == "heuristic"
        going = [e for e in episodes if not (heuristic and stuck(e.steps, self._config))]
        replies = dict(zip(map(id, going), self._agent.respond(going) if going else [], strict=True))
        return [replies.get(id(e), Reply("", "", stop="stuck")) for e in episodes]


@dataclass
class _Task:
    """A task under way through its trials."""

    task_id: str
    attempt: int
    notes: list[str] = field(default_factory=list)
    last: Trajectory | None = None
    spent: Generation = field(default_factory=lambda: Generation(""))
    """What the latest note cost."""


class Reflexion:
    """Plays tasks trial by trial."""

    def __init__(self, agent: Agent, reflector: Reflector | None, config: Config | None = None) -> None:
        """An agent that acts and a reflector that writes the notes (None where the strategy has none).

        Raises:
            BadOption: the strategy needs notes and there is no reflector.
        """
        self.config = config or Config()
        self._noting = self.config.strategy in ("reflection", "both")
        if self._noting and reflector is None:
            raise BadOption(f"strategy {self.config.strategy} needs a model that reflects")
        self._reflector = reflector
        self.actor = Actor(agent, self.config)
        self.name = self.actor.name
        self.reflections: list[Reflection] = []
        """Every note written, in order."""

    def conditions(self) -> Mapping[str, Any]:
        """The actor's and the reflector's."""
        noting = dict(self._reflector.conditions()) if self._reflector is not None else {}
        return {**self.actor.conditions(), **noting}

    def solve(
        self,
        make_env: MakeEnv,
        task_ids: Sequence[str],
        *,
        attempts: int = 1,
        batch_size: int = 64,
        seed: int = 0,
        env_kwargs: dict[str, Any] | None = None,
        done: Iterable[Trajectory] = (),
    ) -> Iterator[Trajectory]:
        """Play every task until it passes or its trials are used up; yields each trial's trajectory.

        Args:
            make_env: makes one environment.
            task_ids: the tasks.
            attempts: independent goes at each task, each with a memory of its own.
            batch_size: episodes played at the same time.
            seed: the run's seed.
            env_kwargs: recorded in each trajectory.
            done: trajectories of an earlier run of the same settings: those trials are not played again.
        """
        instruction = _instruction(make_env)
        played = {trajectory.key: trajectory for trajectory in done}
        tasks = [_Task(task_id, attempt) for attempt in range(attempts) for task_id in task_ids]
        for trial in range(self.config.trials):
            memories = self._memories(tasks, trial)
            jobs, waiting = [], {}
            for task, memory in zip(tasks, memories, strict=True):
                if (old := played.get((task.task_id, task.attempt, trial))) is not None:
                    task.last = old
                else:
                    jobs.append(Job(task.task_id, task.attempt, trial, memory))
                    waiting[task.task_id, task.attempt] = task
            for trajectory in rollout(
                make_env, self.actor, jobs, batch_size=batch_size, seed=seed, env_kwargs=env_kwargs
            ):
                task = waiting[trajectory.task_id, trajectory.attempt]
                task.last, task.spent = _charged(trajectory, task.spent), Generation("")
                yield task.last
            tasks = [task for task in tasks if task.last is not None and not passed(task.last, self.config)]
            if self._noting and trial + 1 < self.config.trials:
                self._reflect(instruction, tasks, trial, played)

    def _memories(self, tasks: Sequence[_Task], trial: int) -> list[tuple[str, ...]]:
        """What each task's next try is given."""
        if trial == 0 or self.config.strategy == "base":
            return [() for _ in tasks]
        own = [self._memory(task) for task in tasks]
        if self.config.control == "other_task":
            return [*own[1:], own[0]] if len(own) > 1 else [() for _ in own]
        return own

    def _memory(self, task: _Task) -> tuple[str, ...]:
        memory = list(task.notes) if self._noting else []
        if self.config.strategy in ("last_trial", "both") and task.last is not None:
            told = transcript(task.last, self.config.transcript_tokens, _words)
            memory.append(LAST_TRY.format(transcript=told))
        return tuple(memory)

    def _reflect(
        self, instruction: str, tasks: Sequence[_Task], trial: int, played: Mapping[Any, Trajectory]
    ) -> None:
        """Write a note on each task's last try; where the next try has been played, its notes are known."""
        assert self._reflector is not None
        new = []
        for task in tasks:
            following = played.get((task.task_id, task.attempt, trial + 1))
            if following is not None and self.config.control == "none":
                extra = 1 if self.config.strategy == "both" else 0
                task.notes = following.memory[: len(following.memory) - extra]
            else:
                new.append(task)
        failures = [
            Failure(instruction, task.last, tuple(task.notes)) for task in new if task.last is not None
        ]
        for task, reflection in zip(new, self._reflector.reflect(failures) if new else [], strict=True):
            self.reflections.append(reflection)
            task.spent = reflection.generation
            if reflection.text:
                task.notes = [*task.notes, reflection.text][-self.config.memory :]


def _instruction(make_env: MakeEnv) -> str:
    env = make_env()
    try:
        text_env = env.unwrapped
        assert isinstance(text_env, TextEnv)
        return text_env.instruction
    finally:
        env.close()


def _charged(trajectory: Trajectory, spent: Generation) -> Trajectory:
    """The trajectory with the cost of the note that was written for it."""
    usage = msgspec.structs.replace(
        trajectory.usage,
        prompt_tokens=trajectory.usage.prompt_tokens + spent.prompt_tokens,
        completion_tokens=trajectory.usage.completion_tokens + spent.completion_tokens,
        cost=trajectory.usage.cost + spent.cost,
    )
    return msgspec.structs.replace(trajectory, usage=usage)
