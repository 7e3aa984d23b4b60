"""Trajectories: one record for demonstrations, exploration, evaluation and submissions. JSON Lines."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import msgspec

from prosegym.envs.core import digest
from prosegym.envs.errors import UNREADABLE, CorruptData

SCHEMA = 1
"""Version of the record; a change that older readers cannot take raises it."""


Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Number = Annotated[int, msgspec.Meta(ge=0)]

# gc=False below: the records hold no cycles, and a run keeps a million of them.


class Message(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One message of a chat, in OpenAI's form."""

    role: Literal["system", "user", "assistant"]
    content: str
    trainable: bool = False
    """Whether a learner is trained on it: what the agent wrote in this episode, and nothing else."""
    token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET
    """The tokens that were sampled, where they are known and kept; absent from the file otherwise."""
    logprobs: list[float] | msgspec.UnsetType = msgspec.UNSET
    """Natural log-probability of each of `token_ids` when it was sampled, under the model itself."""


class Turn(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What the agent saw, said and did, and what came of it."""

    observation: str
    """What the agent saw before it answered."""
    response: str
    """All that the agent wrote, thought included."""
    action: str
    """The part of the response that reached the environment."""
    reward: float
    score: Share
    """The engine's score after the action, in [0, 1]."""
    progress: Share
    """Share of sub-goals reached after the action, in [0, 1]."""
    invalid: bool
    observation_sha256: str
    """Digest of `observation`: what a replay must show again."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    parse_failed: bool = False
    """Whether no action could be read in the response; such a turn is not counted as an invalid action."""


class Usage(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What the episode's language models used."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0
    """In US dollars; None where what was used has a price that is not known."""

    def __add__(self, other: Usage) -> Usage:
        """Both together; the cost is not known where one of the two is not."""
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        return Usage(
            self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens, cost
        )


class Trajectory(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One finished episode."""

    env_id: str
    task_id: str
    task_sha256: str
    task_type: str
    split: str
    env_kwargs: dict[str, Any]
    """Arguments the environment was made with, beyond its defaults."""
    seed: int
    attempt: Number
    """Which independent try at the task this is, from 0."""
    trial: Number
    """Which retry within the attempt this is, from 0: retry agents carry a memory from trial to trial."""
    agent: str
    messages: list[Message]
    """The whole conversation, as the agent had it; [] for agents that have none."""
    steps: list[Turn]
    final_observation: str
    final_observation_sha256: str
    score: Share
    """The engine's score at the end; 0 where the episode ended in an error."""
    success: bool
    ended: Literal["terminated", "truncated", "error"]
    error: str | None
    usage: Usage
    started: str
    """When the episode began, ISO 8601, UTC."""
    seconds: float
    schema: int = SCHEMA
    memory: list[str] = []
    """What a retry agent was given from earlier trials of the task."""

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells episodes of one run apart: task, attempt, trial."""
        return self.task_id, self.attempt, self.trial

    @property
    def progress(self) -> float:
        """Share of sub-goals reached at the end; 0 where the episode ended in an error."""
        return self.steps[-1].progress if self.steps and self.ended != "error" else 0.0

    @property
    def best_score(self) -> float:
        """Highest score reached at any step; 0 where the episode ended in an error."""
        return max((step.score for step in self.steps if self.ended != "error"), default=0.0)

    @property
    def actions(self) -> list[str]:
        """The actions, in order."""
        return [step.action for step in self.steps]


def _plain(value: object) -> str | float:
    """A text or number of NumPy, whose classes are Python's with another name: `rng.choice` gives such."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return float(value)
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
_decoder = msgspec.json.Decoder(Trajectory)


def encode(trajectory: Trajectory) -> bytes:
    """One JSON line, its newline included."""
    return _encoder.encode(trajectory) + b"\n"


def decode(line: bytes, where: str = "trajectory") -> Trajectory:
    """The trajectory that a line holds; `where` is named in the error.

    Raises:
        CorruptData: the line is cut, is not JSON, or lacks or misnames a field.
    """
    try:
        trajectory = _decoder.decode(line)
    except UNREADABLE as error:
        raise CorruptData(f"{where}: {error}") from error
    if trajectory.schema != SCHEMA:
        raise CorruptData(f"{where}: schema {trajectory.schema}; this version reads {SCHEMA}")
    return trajectory


def file_of(path: str | Path) -> Path:
    """The file of trajectories that is meant: a run's folder means its episodes."""
    return Path(path, "episodes.jsonl") if Path(path).is_dir() else Path(path)


def read(path: str | Path) -> Iterator[Trajectory]:
    """The trajectories of a JSON Lines file, or of a run's folder, one after the other.

    Raises:
        CorruptData: a bad line, named by file and number.
    """
    path = file_of(path)
    try:
        file = open(path, "rb", buffering=1 << 20)
    except OSError as error:
        raise CorruptData(f"cannot read {path}: {error.strerror}") from error
    with file:
        yield from _lines(file, str(path))


def _lines(file: BinaryIO, name: str) -> Iterator[Trajectory]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield decode(line, f"{name}:{number}")


def append(file: int, trajectory: Trajectory) -> None:
    """Add an episode at the end of an open file, whole or not at all.

    Args:
        file: its descriptor, opened for appending.
        trajectory: the episode.

    Raises:
        OSError: it cannot be written (a full disk); the file is as it was.
    """
    append_line(file, encode(trajectory))


def append_line(file: int, line: bytes) -> None:
    """Add a line at the end of an open file, whole or not at all; as `append`."""
    size = os.fstat(file).st_size
    try:
        if os.write(file, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(file, size)
        raise


def write(path: str | Path, trajectories: Iterable[Trajectory]) -> int:
    """Write a JSON Lines file, whole or not at all; returns how many episodes it holds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    count = 0
    with open(part, "wb") as file:
        for trajectory in trajectories:
            file.write(encode(trajectory))
            count += 1
    part.replace(path)
    return count


def observation_digest(observation: str) -> str:
    """The digest that stands in a trajectory for an observation."""
    return digest(observation)
