"""Lessons for a house model: games played by the searching expert, as tokens.

Household's train tasks and, where they are installed, ALFWorld's and TextWorld's train games. A part of the
episodes is played by an expert that slips now and then (goes or looks elsewhere): what it does then is not
learnt, how it goes on is. Another part are second tries: the expert knows what an earlier, failed try showed,
and the note on that try stands in the prompt, so that a model learns to use its memory. The notes can be
lessons themselves, asked for as a reflector is.

TextWorld's 200 kitchens can be known by heart, recipe and all. So many more are built (`kitchens.py`), and
TextWorld-Express's, which speak otherwise, stand beside them; in all of them most foods get invented names,
for some of the test games are in no training game, and the ways to cut and to cook change places: what to do
can then only be read from the recipe.

Once there is a model, it slips in the expert's place: the model plays, the expert takes a step now and then,
and what the expert does, or would have done as well, is learnt (DAgger: Ross et al. 2011, arXiv:1011.0686).
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gymnasium
import kitchens
import msgspec
import numpy as np
import torch

from prosegym.baselines.lm import Generation, LanguageModel, Request
from prosegym.baselines.local import LocalModel
from prosegym.baselines.notes import Scribe, note
from prosegym.baselines.notes.household import contents
from prosegym.baselines.practice import noted
from prosegym.baselines.react import FORMATS, Config, conversation, opening, reminded
from prosegym.baselines.reflexion import Failure
from prosegym.envs.alfworld.experts import Searcher
from prosegym.envs.core import TextEnv, unwrapped
from prosegym.envs.trajectory import Message, Trajectory
from prosegym.evaluation.agents import Episode, ExpertAgent, Reply
from prosegym.evaluation.evaluate import make_env
from prosegym.evaluation.rollout import Job, rollout

HOUSEHOLD, ALFWORLD = "prosegym/Household-v1", "prosegym/ALFWorld-v1"
TEXTWORLD = tuple(f"prosegym/TextWorld-{name}-v1" for name in ("CoinCollector", "TreasureHunter", "Cooking"))
EXPRESS = "prosegym/TextWorldExpress-CookingWorld-v1"
KITCHENS = kitchens.Kitchens.env_id

AGENT = Config(format="bare", decoding="score", max_tokens=24, brief=True, remind=True)
"""The form in which the lessons are written and the models play."""
SLIPS = (0.15, 0.0)
"""How often an expert slips: one of these for each episode."""
WANDERS = (0.5,)
"""How often the player of a failed try does."""
LEAVES = (0.5, 0.8, 0.95)
"""How often an expert leaves the step to the model."""
FOODS = (
    "banana", "black pepper", "block of cheese", "carrot", "chicken leg", "chicken wing", "cilantro", "flour",
    "olive oil", "orange bell pepper", "parsley", "pork chop", "purple potato", "red apple", "red hot pepper",
    "red onion", "red potato", "salt", "water", "white onion", "yellow bell pepper", "yellow potato",
)  # fmt: skip
"""The foods of the kitchens of train."""
RENAMED = 0.75
"""How often one of them gets another name."""
REAL = 0.6
"""How often a word of that name is one of a real food's."""
CUTS = (("chop", "chopped"), ("slice", "sliced"), ("dice", "diced"))
"""Ways to cut,"""
HEATS = (("stove", "fry", "fried", "frying"), ("oven", "roast", "roasted", "roasting"))
"""and to cook in a kitchen, any of which may stand for another."""
_WORD = re.compile(
    rf"\b(?:{'|'.join([*sorted(FOODS, key=len, reverse=True), *(w for way in CUTS + HEATS for w in way)])})\b"
)
_SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
Key = tuple[str, int]
"""A task and which attempt at it."""


@dataclass(frozen=True)
class Source:
    """Where lessons come from."""

    env_id: str
    tasks: int
    """How many of train; beyond its end they are played again, with other slips."""
    first: int = 0
    """The number of the first one."""
    second_tries: float = 0.35
    """Share of tasks whose lesson is a second try."""
    notes: Literal["no", "too", "only"] = "no"
    """Whether the notes on first tries are lessons, beside the play or without it."""
    cut: bool = False
    """Whether an expert's lesson that is too long is cut, not left out."""
    variants: tuple[Mapping[str, Any], ...] = ({},)
    """Arguments of the environment; each time that train is played has the next ones."""
    file: int = 500
    """Tasks of one file, which one process plays together."""


class Teacher:
    """The searching expert, writing the conversation that a model would have had; it slips at times."""

    name = "teacher"

    def __init__(
        self,
        slips: Sequence[float],
        known: Mapping[Key, Trajectory] | None = None,
        student: LanguageModel | None = None,
    ) -> None:
        """A player of many episodes.

        Args:
            slips: how often it slips, one of these for each episode.
            known: by task and attempt, an earlier try: the expert knows what it showed.
            student: does what it likes where the expert slips; None does something that changes nothing.
        """
        self._slips = slips
        self._known = known or {}
        self._student = student

    def conditions(self) -> Mapping[str, Any]:
        """How often it slips."""
        return {"slips": self._slips}

    def begin(self, episode: Episode, env: TextEnv) -> None:
        """The expert for this episode, and the first message."""
        rng = random.Random(episode.seed)
        expert = knowing(env, self._known.get((episode.task.id, episode.attempt)))
        episode.state = expert, rng, rng.choices(self._slips)[0]
        told = opening("", episode.observation, FORMATS["bare"], episode.memory, ask=False)
        episode.messages = [Message("user", told)]

    def respond(self, episodes: Sequence[Episode]) -> list[Reply]:
        """What the expert does or, in a slip, something else."""
        advice = [self._advice(episode) for episode in episodes]
        slipping = [e for e, a in zip(episodes, advice, strict=True) if self._slipping(e, a)]
        instead = dict(zip(map(id, slipping), self._instead(slipping), strict=True))
        replies = []
        for episode, advised in zip(episodes, advice, strict=True):
            action = instead.get(id(episode), advised)
            learnt = id(episode) not in instead or (self._student is not None and action == advised)
            episode.state[0].did(action)
            episode.messages.append(Message("assistant", action, trainable=learnt))
            replies.append(Reply(action, action))
        return replies

    def _advice(self, episode: Episode) -> str:
        if episode.steps:
            said = reminded(episode.observation, episode.steps[0].observation)
            episode.messages.append(Message("user", said))
        return episode.state[0].act(episode.observation, episode.info) or ""

    def _slipping(self, episode: Episode, advised: str) -> bool:
        _, rng, slips = episode.state
        return rng.random() < slips or (not advised and self._student is not None)

    def _instead(self, episodes: Sequence[Episode]) -> list[str]:
        actions = [e.info["admissible_actions"] for e in episodes]
        if self._student is None:
            harmless = ("go ", "open ", "look", "examine ", "inventory")
            return [
                e.state[1].choice([a for a in possible if a.startswith(harmless)])
                for e, possible in zip(episodes, actions, strict=True)
            ]
        requests = [
            Request(list(e.messages), allowed=possible, key=id(e))
            for e, possible in zip(episodes, actions, strict=True)
        ]
        return [answer.text for answer in self._student.generate(requests, AGENT.sampling())]


def make(env_id: str, **kwargs: Any) -> gymnasium.Env[str, str]:
    """An environment of the suite or of the recipe."""
    return kitchens.Kitchens(**kwargs) if env_id == KITCHENS else make_env(env_id, **kwargs)


def knowing(env: TextEnv, failed: Trajectory | None) -> Any:
    """The searching expert for an episode that begins, with what a failed try showed it."""
    if env.env_id in (HOUSEHOLD, ALFWORLD):
        return Searcher("move", contents(failed) if failed else None)
    expert: Any = env.expert("search")
    if failed:  # it watches that try in an environment of its own
        again = make(env.env_id, **failed.env_kwargs)
        observation, info = again.reset(options={"task_id": failed.task_id})
        for step in failed.steps:
            expert.act(observation, info)
            expert.did(step.action)
            observation, _, over, _, info = again.step(step.action)
        if not over:
            expert.act(observation, info)
        expert.again()
        again.close()
    return expert


def play(
    source: Source,
    chunk: int,
    seed: int = 0,
    student: LanguageModel | None = None,
    reader: LanguageModel | None = None,
) -> list[list[Message]]:
    """The lessons of one chunk of a source's tasks, as conversations.

    Args:
        source: the tasks.
        chunk: which of them.
        seed: of slips and choices.
        student: plays where the expert slips.
        reader: counts the tokens of what a reflector is asked; without it, notes are no lessons.
    """
    first = chunk * source.file
    numbers = range(source.first + first, source.first + min(first + source.file, source.tasks))
    probe = unwrapped(make(source.env_id, split="train", **source.variants[0]))
    tasks = probe.tasks("train")
    kwargs = {"split": "train", **source.variants[numbers[0] // len(tasks) % len(source.variants)]}
    jobs = [Job(tasks[i % len(tasks)].id, attempt=i // len(tasks)) for i in numbers]
    rng = random.Random(f"{seed} {source.env_id} {chunk}")
    if source.env_id == EXPRESS:  # its expert follows a path, and cannot slip
        walks = rollout(lambda: make(EXPRESS, **kwargs), ExpertAgent("gold"), jobs, seed=seed)
        talks = [conversation(t, "", FORMATS["bare"], brief=True) for t in walks if t.success]
        return [renamed(talk, rng) for talk in talks]
    second = [job for job in jobs if source.notes == "only" or rng.random() < source.second_tries]
    later = set(second)
    firsts = [job for job in jobs if job not in later]

    def tries(teacher: Teacher, what: Sequence[Job]) -> list[Trajectory]:
        return list(rollout(lambda: make(source.env_id, **kwargs), teacher, what, seed=seed))

    slips = LEAVES if student else SLIPS
    played = tries(Teacher(slips, student=student), firsts)
    known: dict[Key, Trajectory] = {}
    notes: dict[Key, tuple[str, ...]] = {}
    failures = []
    for t in tries(Teacher((1.0,), student=student) if student else Teacher(WANDERS), second):
        key = t.task_id, t.attempt
        known[key] = failed = cut(t, rng.randint(1, len(t.steps)))
        notes[key] = (note(failed),)
        if rng.random() < 0.25:  # a memory of two tries
            notes[key] = (note(cut(failed, rng.randint(1, len(failed.steps)))), *notes[key])
        if not failed.success:
            failures.append(Failure(probe.instruction, failed, notes[key][:-1]))
    if source.notes == "only":
        second = []
    retries = [replace(job, trial=1, memory=notes[job.task_id, job.attempt]) for job in second]
    played += tries(Teacher(slips, known, student), retries)
    talks = [t.messages for t in played if t.success or student]
    if reader:
        written = [r for r in Scribe(reader).reflect(failures) if r.text]
        talks += [noted(replace(r, generation=Generation(r.text))) for r in written]
    return [renamed(talk, rng) for talk in talks] if source.env_id == KITCHENS else talks


def renamed(talk: Sequence[Message], rng: random.Random) -> list[Message]:
    """The conversation in a kitchen, with other names for most foods and for ways to cut and to cook."""
    found = {word for message in talk for word in _WORD.findall(message.content)}
    names: dict[str, str] = {}
    for food in sorted(found.intersection(FOODS)):
        if rng.random() < RENAMED:
            while (name := invented(rng)) in found or name in names.values():
                pass
            names[food] = name
    for ways in (CUTS, HEATS):
        for way, other in zip(ways, rng.sample(ways, len(ways)), strict=True):
            names.update(zip(way, other, strict=True))
    return [
        msgspec.structs.replace(
            message, content=_WORD.sub(lambda match: names.get(match[0], match[0]), message.content)
        )
        for message in talk
    ]


def invented(rng: random.Random) -> str:
    """A food that nobody has heard of, of one to three words, some of them of real foods."""
    words = sorted({word for food in FOODS for word in food.split()})

    def word() -> str:
        if rng.random() < REAL:
            return rng.choice(words)
        return "".join(rng.choices(_SYLLABLES, k=rng.randint(1, 3))) + rng.choice("nrst")

    return " ".join(word() for _ in range(rng.choice((1, 2, 2, 3))))


def cut(trajectory: Trajectory, steps: int) -> Trajectory:
    """The episode, ended after so many steps."""
    if steps >= len(trajectory.steps):
        return trajectory
    return msgspec.structs.replace(
        trajectory,
        steps=trajectory.steps[:steps],
        final_observation=trajectory.steps[steps].observation,
        score=trajectory.steps[steps - 1].score,
        success=False,
        ended="truncated",
    )


@functools.lru_cache(maxsize=2)
def _loaded(model: str) -> LocalModel:
    torch.set_num_threads(1)
    return LocalModel.load(model, device="cpu")  # one in each of many processes


def write(source: Source, chunk: int, base: str, path: Path, longest: int, student: str = "") -> Path:
    """A chunk as a file: tokens of the base model, whether each is the agent's own, where every lesson ends.

    An expert's lesson that is longer is left out or, where the source says so, cut; a student's is cut.
    """
    if path.exists():
        return path
    lm = _loaded(base)
    player, reader = _loaded(student) if student else None, lm if source.notes != "no" else None
    lessons = []
    for encoded in map(lm.chat.encode, play(source, chunk, student=player, reader=reader)):
        if len(encoded.token_ids) <= longest or student or source.cut:
            tokens, own = encoded.token_ids[:longest], encoded.trainable[:longest]
            if any(own):
                lessons.append((tokens, own))
    part = path.with_suffix(".part.npz")
    np.savez(
        part,
        tokens=np.array([i for tokens, _ in lessons for i in tokens], dtype=np.uint16),
        own=np.array([t for _, own in lessons for t in own], dtype=np.bool_),
        ends=np.cumsum([len(tokens) for tokens, _ in lessons], dtype=np.int64),
    )
    part.replace(path)
    return path
