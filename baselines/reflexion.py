"""Reflexion (Shinn et al. 2023, arXiv:2303.11366): try, note what went wrong, try again.

    memory = ()
    for trial in 0 .. trials - 1:
        trajectory = actor plays the task, memory in its prompt
        if evaluator passes it: done
        memory = last 3 of (memory + reflector's note on the trajectory)

Read: the paper, its released code and logs.

Different from the code on purpose: the memory is in the prompt of every environment, three notes at most;
success is the task's full score, not the end of the episode; the note is written when a trial ends, from that
trial, without examples of notes; nothing but the memory outlives a trial; two equal actions in a row end
none.

Retries use a success signal at test time: results belong to the retry track, with the number of trials on the
label.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from prosegym.baselines.lm import Generation, LanguageModel, Request, Sampling, spoken
from prosegym.envs.core import TextEnv, digest
from prosegym.envs.errors import BadOption, UnknownName, at_least
from prosegym.envs.trajectory import Message, Trajectory, Turn, Usage
from prosegym.evaluation import convert
from prosegym.evaluation.agents import Agent, Episode, Memory, Reply
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
    """What passes a try: the task's full score, or that it ended by itself and was not stuck."""
    repeats: int = 3
    """The heuristic evaluator takes a try as stuck when the same action got the same answer more often, seen
    once another action, whichever, was done."""
    max_actions: int = 30
    """It takes a try as stuck, too, when there were more actions than this."""
    control: Literal["none", "other_task"] = "none"
    """A control: a task remembers as many notes, but on other tasks. (`strategy="base"` is the other.)"""
    temperature: float = 0.0
    """Of the notes; on the command line `note_temperature`."""
    max_tokens: int = 250
    """Longest note, in tokens, its thoughts included; on the command line `note_tokens`."""
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
        at_least(1, trials=self.trials, memory=self.memory)


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
        self.model = model
        self._config = config or Config()

    def conditions(self) -> Mapping[str, Any]:
        """Model, prompt digest."""
        return {"reflector": dict(self.model.conditions()), "reflect_sha256": digest(REFLECT, NOTES)}

    def prompt(self, failure: Failure) -> list[Message]:
        """What the model is asked about a try."""
        told = transcript(failure.trajectory, self._config.transcript_tokens, self.model.count_tokens)
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
        answers = self.model.generate(requests, sampling)
        return [
            Reflection(t.task_id, t.attempt, t.trial, prompt, answer, t.score, remembered(answer.text))
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


def remembered(text: str) -> str:
    """The note without the thoughts before it; "" where it was cut off within them."""
    return spoken(text).strip()


def _failure(reflection: Reflection) -> str | None:
    """Why there is no note; None where there is one, or where its writer had nothing to say."""
    generation = reflection.generation
    if generation.stop_reason == "error":
        return generation.error or "the model failed"
    if generation.stop_reason == "context":
        return "its context is full; make transcript_tokens smaller"
    if generation.stop_reason == "length" and not reflection.text:
        return f"it was cut off in its thoughts; make note_tokens more than {generation.completion_tokens}"
    return None


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
    """Whether a try goes round in circles, or on for too long: what the heuristic evaluator asks.

    The answer to the last action is in no turn, and does not count: a repetition is seen one action later.
    """
    # Turn i + 1 shows what turn i's action was answered with.
    pairs = Counter((a.action, b.observation) for a, b in zip(steps, steps[1:], strict=False))
    return len(steps) > config.max_actions or any(count > config.repeats for count in pairs.values())


def passed(trajectory: Trajectory, config: Config) -> bool:
    """Whether a try needs no other one."""
    if config.evaluator == "success":
        return trajectory.success
    return trajectory.ended == "terminated" and not stuck(trajectory.steps, config)


def _noted(trajectory: Trajectory) -> list[str]:
    """The notes that a try was given."""
    begun = LAST_TRY.partition("{")[0]
    return [note for note in trajectory.memory if not note.startswith(begun)]


def _of_another(memories: Sequence[list[str]], tasks: Sequence[str], i: int) -> list[str]:
    """The memory of the next attempt after `i`, round and round, that is at another task; none is empty."""
    around = (j % len(tasks) for j in range(i + 1, i + len(tasks)))
    return next((memories[j] for j in around if tasks[j] != tasks[i]), [])


class Reflexion:
    """An agent that tries failed tasks again with a memory; `evaluate` and `solve` play its trials."""

    name = "reflexion"

    def __init__(self, agent: Agent, reflector: Reflector | None, config: Config | None = None) -> None:
        """An agent that acts and a reflector that writes the notes.

        Args:
            agent: plays a trial; shows `Episode.memory` to its model, as ReAct does.
            reflector: writes the notes; None where the strategy has none.
            config: trials, strategy, evaluator, control.

        Raises:
            BadOption: the strategy needs notes and there is no reflector.
        """
        self.config = config or Config()
        self.trials = self.config.trials
        self.together = self.config.control == "other_task"  # which hands memories around
        self._noting = self.config.strategy in ("reflection", "both")
        if self._noting and reflector is None:
            raise BadOption(f"strategy {self.config.strategy} needs a model that reflects")
        self._agent = agent
        self._reflector = reflector
        self.reflections: list[Reflection] = []
        """Every note written, in order."""

    # One trial.

    def conditions(self) -> Mapping[str, Any]:
        """The agent's, the reflector's, and how trials go."""
        noting = dict(self._reflector.conditions()) if self._reflector is not None else {}
        return {**self._agent.conditions(), **noting, "reflexion": asdict(self.config)}

    def begin(self, episode: Episode, env: TextEnv) -> None:
        """The agent's."""
        self._agent.begin(episode, env)

    def respond(self, episodes: Sequence[Episode]) -> list[Reply]:
        """The agent's replies; under the heuristic evaluator, stuck tries are ended."""
        heuristic = self.config.evaluator == "heuristic"
        going = [e for e in episodes if not (heuristic and stuck(e.steps, self.config))]
        replies = dict(zip(map(id, going), self._agent.respond(going) if going else [], strict=True))
        return [replies.get(id(e), Reply("", "", stop="stuck")) for e in episodes]

    # From trial to trial.

    def remember(self, failures: Sequence[Sequence[Trajectory]]) -> list[Memory]:
        """What each failed attempt, all its trials so far, carries into its next trial.

        Written from the last trial that was played and the memory it was given alone, so an interrupted run
        goes on. A trial whose memory lacks a note that could not be written is an error.
        """
        lasts = [
            max(trials, key=lambda t: (t.ended != "error" or bool(t.steps), t.trial)) for trials in failures
        ]
        notes: list[list[str]] = [[] for _ in lasts]
        missing: list[list[str]] = [[] for _ in lasts]
        spent, seconds = [Usage()] * len(lasts), 0.0
        if self._noting and lasts:
            begun = time.perf_counter()
            notes, missing, spent = self._notes(lasts)
            seconds = (time.perf_counter() - begun) / len(lasts)  # they are written together
        shown: list[list[str]] = [[] for _ in lasts]
        if self.config.strategy in ("last_trial", "both"):
            tries = [transcript(last, self.config.transcript_tokens, _words) for last in lasts]
            shown = [[LAST_TRY.format(transcript=told)] for told in tries]
        if self.config.control == "other_task":
            tasks = [t.task_id for t in lasts]
            notes, shown, missing = (
                [_of_another(x, tasks, i) for i in range(len(tasks))] for x in (notes, shown, missing)
            )
        return [
            Memory(
                (*[*_noted(last), *new][-self.config.memory :], *told), used, seconds, why[0] if why else None
            )
            for last, new, told, used, why in zip(lasts, notes, shown, spent, missing, strict=True)
        ]

    def _notes(self, lasts: Sequence[Trajectory]) -> tuple[list[list[str]], list[list[str]], list[Usage]]:
        """A note on each last try, where one was written, or why it could not be; and what it took."""
        assert self._reflector is not None
        # Notes on other tasks are not shown to the reflector: what it writes is handed on.
        mine = self.config.control == "none"
        failures = [Failure(convert.instruction(t), t, tuple(_noted(t)) if mine else ()) for t in lasts]
        new = self._reflector.reflect(failures)
        self.reflections += new
        answers = [reflection.generation for reflection in new]
        why = [_failure(reflection) for reflection in new]
        notes = [[r.text] if r.text and not failed else [] for r, failed in zip(new, why, strict=True)]
        missing = [[f"no note on the try before: {failed}"] if failed else [] for failed in why]
        return notes, missing, [Usage(a.prompt_tokens, a.completion_tokens, a.cost) for a in answers]

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
        played: dict[tuple[str, int], list[Trajectory]] = {
            (task_id, attempt): [] for attempt in range(attempts) for task_id in task_ids
        }
        for t in done:
            played[t.task_id, t.attempt].append(t)
        for trial in range(self.config.trials):
            # Tasks whose last try of those before this trial did not pass.
            before = {key: [t for t in tries if t.trial < trial] for key, tries in played.items()}
            open_ = {k: b for k, b in before.items() if not b or not passed(b[-1], self.config)}
            absent = {k: b for k, b in open_.items() if all(t.trial != trial for t in played[k])}
            if trial and absent:
                asked = open_ if self.together else absent
                memories = dict(zip(asked, self.remember(list(asked.values())), strict=True))
            else:
                memories = {key: Memory() for key in absent}
            jobs = [Job.after(memories[key], *key, trial) for key in absent]
            for trajectory in rollout(
                make_env, self, jobs, batch_size=batch_size, seed=seed, env_kwargs=env_kwargs
            ):
                played[trajectory.task_id, trajectory.attempt].append(trajectory)
                yield trajectory
