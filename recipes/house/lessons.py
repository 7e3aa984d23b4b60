"""Lessons for a house model: chores played by the searching expert, as tokens.

Household's train tasks and, where they are installed, ALFWorld's train games. A part of the episodes is
played by an expert that slips now and then (goes or looks elsewhere): what it does then is not learnt, how it
goes on is. Another part are second tries: the expert knows what an earlier, failed try showed, and the note
on that try stands in the prompt, so that a model learns to use its memory.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from transformers import AutoTokenizer

from prosegym.baselines.chat import Chat
from prosegym.baselines.notes.household import contents, note
from prosegym.baselines.react import FORMATS, Config, opening, reminded
from prosegym.envs.alfworld.experts import Searcher
from prosegym.envs.core import TextEnv
from prosegym.envs.trajectory import Message, Trajectory
from prosegym.evaluation.agents import Episode, Reply
from prosegym.evaluation.evaluate import make_env
from prosegym.evaluation.rollout import Job, rollout

AGENT = Config(format="bare", decoding="score", max_tokens=24, brief=True, remind=True)
"""The form in which the lessons are written and the models play."""
SLIPS = 0.15
"""How often an expert that slips does so; every other one never does."""
WANDERS = 0.5
"""How often the player of a failed try does."""
CHUNK = 500
"""Tasks of one file."""


@dataclass(frozen=True)
class Source:
    """Where lessons come from."""

    env_id: str
    tasks: int
    """The first ones of train; beyond its end they are played again, with other slips."""
    second_tries: float = 0.35
    """Share of tasks whose lesson is a second try."""


class Teacher:
    """The searching expert, writing the conversation that a model would have had; it slips at times."""

    name = "teacher"

    def __init__(self, slips: float, known: Mapping[str, Mapping[str, Sequence[str]]] | None = None) -> None:
        """`known` says, by task, what an earlier try showed."""
        self._slips = slips
        self._known = known or {}

    def conditions(self) -> Mapping[str, Any]:
        """How often it slips."""
        return {"slips": self._slips}

    def begin(self, episode: Episode, env: TextEnv) -> None:
        """The expert for this episode, and the first message."""
        rng = random.Random(episode.seed)
        slips = self._slips if rng.random() < 0.5 or self._slips == WANDERS else 0.0
        episode.state = Searcher("move", self._known.get(episode.task.id)), rng, slips
        told = opening("", episode.observation, FORMATS["bare"], episode.memory, ask=False)
        episode.messages = [Message("user", told)]

    def respond(self, episodes: Sequence[Episode]) -> list[Reply]:
        """What the expert does or, in a slip, something that changes nothing."""
        return [self._reply(episode) for episode in episodes]

    def _reply(self, episode: Episode) -> Reply:
        expert, rng, slips = episode.state
        if episode.steps:
            said = reminded(episode.observation, episode.steps[0].observation)
            episode.messages.append(Message("user", said))
        action = expert.act(episode.observation, episode.info) or ""
        slip = rng.random() < slips
        if slip:
            harmless = ("go ", "open ", "look", "examine ", "inventory")
            action = rng.choice([a for a in episode.info["admissible_actions"] if a.startswith(harmless)])
            expert.did(action)
        episode.messages.append(Message("assistant", action, trainable=not slip))
        return Reply(action, action)


def play(source: Source, chunk: int, seed: int = 0) -> list[list[Message]]:
    """The lessons of one chunk of a source's tasks, as conversations."""
    kwargs = {"split": "train"}
    probe = make_env(source.env_id, **kwargs).unwrapped
    assert isinstance(probe, TextEnv)
    tasks = probe.tasks("train")
    numbers = range(chunk * CHUNK, min((chunk + 1) * CHUNK, source.tasks))
    jobs = [Job(tasks[i % len(tasks)].id, attempt=i // len(tasks)) for i in numbers]
    rng = random.Random(f"{seed} {source.env_id} {chunk}")
    second = [job for job in jobs if rng.random() < source.second_tries]
    again = {job.task_id for job in second}

    def tries(teacher: Teacher, what: Sequence[Job]) -> list[Trajectory]:
        return list(rollout(lambda: make_env(source.env_id, **kwargs), teacher, what, seed=seed))

    played = tries(Teacher(SLIPS), [job for job in jobs if job.task_id not in again])
    known, notes = {}, {}
    for t in tries(Teacher(WANDERS), second):
        failed = cut(t, rng.randint(1, len(t.steps)))
        known[t.task_id] = contents(failed)
        notes[t.task_id] = (note(failed),)
        if rng.random() < 0.25:  # a memory of two tries
            notes[t.task_id] = (note(cut(failed, rng.randint(1, len(failed.steps)))), *notes[t.task_id])
    retries = [replace(job, trial=1, memory=notes[job.task_id]) for job in second]
    played += tries(Teacher(SLIPS, known), retries)
    return [t.messages for t in played if t.success]


def cut(trajectory: Trajectory, steps: int) -> Trajectory:
    """The episode, ended after so many steps."""
    if steps >= len(trajectory.steps):
        return trajectory
    return msgspec.structs.replace(
        trajectory, steps=trajectory.steps[:steps], final_observation=trajectory.steps[steps].observation
    )


def write(source: Source, chunk: int, tokenizer: str, path: Path, longest: int) -> Path:
    """A chunk as a file of tokens, whether each is the agent's own, and where every lesson ends."""
    if path.exists():
        return path
    chat = Chat(AutoTokenizer.from_pretrained(tokenizer))
    encoded = [chat.encode(messages) for messages in play(source, chunk)]
    kept = [e for e in encoded if len(e.token_ids) <= longest and any(e.trainable)]
    part = path.with_suffix(".part.npz")
    np.savez(
        part,
        tokens=np.array([i for e in kept for i in e.token_ids], dtype=np.uint16),
        own=np.array([t for e in kept for t in e.trainable], dtype=np.bool_),
        ends=np.cumsum([len(e.token_ids) for e in kept], dtype=np.int64),
    )
    part.replace(path)
    return path
