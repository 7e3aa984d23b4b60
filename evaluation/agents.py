"""What an agent is, and the agents that need no model: null, random, expert, scripted, human."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from prosegym.envs.core import Expert, Task, TextEnv
from prosegym.envs.errors import BadOption, UnknownName
from prosegym.envs.trajectory import Message, Turn, Usage


@dataclass
class Episode:
    """An episode under way, as its agent may see it."""

    task: Task
    instruction: str
    """What the environment is and which actions it takes."""
    observation: str
    """The observation to be answered now."""
    info: dict[str, Any]
    """What the environment said beside the observation."""
    seed: int
    """Seeds whatever this episode's agent draws: a function of run seed, task, attempt and trial alone."""
    attempt: int = 0
    trial: int = 0
    memory: tuple[str, ...] = ()
    """What a retry agent carries over from earlier trials of this task."""
    steps: list[Turn] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    """The conversation so far; an agent that has one keeps it here."""
    state: Any = None
    """The agent's own, for this episode: a generator, a cache, an expert."""


@dataclass(frozen=True)
class Reply:
    """An agent's answer to one observation."""

    response: str
    """All that it wrote."""
    action: str
    """What the environment is to do."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0
    """In US dollars; None where it is not known."""
    stop: str | None = None
    """Set to a reason (such as "context overflow") to end the episode as truncated, the action not taken."""
    error: str | None = None
    """Set to end the episode as an error (an endpoint that stays away), the action not taken."""
    parse_failed: bool = False
    """Whether no action could be read in the response."""


@dataclass(frozen=True)
class Memory:
    """What a failed attempt carries into its next trial."""

    notes: tuple[str, ...] = ()
    spent: Usage = Usage()
    """What writing them took: it is part of the usage of the trial they are for."""
    seconds: float = 0.0
    error: str | None = None
    """Why there is none where there should be: the trial is an error, and is not played without it."""

    def __post_init__(self) -> None:
        """Raises BadOption for a text in place of notes: each of its letters would be one."""
        if isinstance(self.notes, str):
            raise BadOption(f"notes are a tuple of texts, not the text {self.notes[:40]!r}: Memory((note,))")


class Agent(Protocol):
    """Answers every live episode at once; keeps nothing about an episode outside `Episode.state`."""

    name: str

    def conditions(self) -> Mapping[str, Any]:
        """Everything recorded about it: model, revision, prompt digest, sampling, history policy."""
        ...

    def begin(self, episode: Episode, env: TextEnv) -> None:
        """Called once when an episode starts. Only experts and people may use `env`."""
        ...

    def respond(self, episodes: Sequence[Episode]) -> Sequence[Reply]:
        """One reply per episode, in order."""
        ...


class Null:
    """Says nothing, always: the floor, which scores 0 but where episodes begin with points (ScienceWorld)."""

    name = "null"

    def conditions(self) -> Mapping[str, Any]:
        """Nothing beyond its name."""
        return {}

    def begin(self, episode: Episode, env: TextEnv) -> None:
        """Nothing to prepare."""

    def respond(self, episodes: Sequence[Episode]) -> list[Reply]:
        """The empty action."""
        return [Reply("", "") for _ in episodes]


class RandomAdmissible:
    """Draws among the admissible actions; where an environment lists none, it says nothing."""

    name = "random"

    def conditions(self) -> Mapping[str, Any]:
        """Nothing beyond its name."""
        return {}

    def begin(self, episode: Episode, env: TextEnv) -> None:
        """A generator per episode, so that an episode does not depend on those beside it."""
        episode.state = random.Random(episode.seed)

    def respond(self, episodes: Sequence[Episode]) -> list[Reply]:
        """One admissible action each, uniformly."""
        replies = []
        for episode in episodes:
            actions = episode.info["admissible_actions"]
            action = episode.state.choice(actions) if actions else ""
            replies.append(Reply(action, action))
        return replies


class ExpertAgent:
    """The environment's own expert: the ceiling."""

    def __init__(self, expert: str | None = None) -> None:
        """Use the expert of that name, or each environment's default one."""
        self._expert = expert
        self.name = "expert" if expert is None else f"expert:{expert}"

    def conditions(self) -> Mapping[str, Any]:
        """Which expert."""
        return {"expert": self._expert}

    def begin(self, episode: Episode, env: TextEnv) -> None:
        """The expert for this episode."""
        episode.state = env.expert(self._expert)

    def respond(self, episodes: Sequence[Episode]) -> list[Reply]:
        """What the expert does; the empty action where it has no advice."""
        replies = []
        for episode in episodes:
            expert: Expert = episode.state
            action = expert.act(episode.observation, episode.info) or ""
            replies.append(Reply(action, action))
        return replies


class Scripted:
    """Plays given actions, task by task: replays and tests."""

    name = "scripted"

    def __init__(self, actions: Mapping[str, Sequence[str]]) -> None:
        """`actions` are the actions for each task id; after the last one it says nothing."""
        self._actions = actions

    def conditions(self) -> Mapping[str, Any]:
        """Nothing beyond its name."""
        return {}

    def begin(self, episode: Episode, env: TextEnv) -> None:
        """Its script."""
        episode.state = self._actions.get(episode.task.id, ())

    def respond(self, episodes: Sequence[Episode]) -> list[Reply]:
        """The next line of each script."""
        actions = [e.state[len(e.steps)] if len(e.steps) < len(e.state) else "" for e in episodes]
        return [Reply(action, action) for action in actions]


class Human:
    """A person at a terminal, one episode at a time."""

    name = "human"

    def __init__(self, ask: Callable[[Episode], str]) -> None:
        """`ask` shows an episode's observation and returns what the person typed."""
        self._ask = ask

    def conditions(self) -> Mapping[str, Any]:
        """Nothing beyond its name."""
        return {}

    def begin(self, episode: Episode, env: TextEnv) -> None:
        """Nothing to prepare."""

    def respond(self, episodes: Sequence[Episode]) -> list[Reply]:
        """Asks for each episode in turn."""
        actions = [self._ask(episode) for episode in episodes]
        return [Reply(action, action) for action in actions]


BUILT_IN = ("null", "random", "expert")
MODELLESS = (Null, RandomAdmissible, ExpertAgent)
"""Their classes: playing them costs nothing."""


def built_in(name: str) -> Agent:
    """The agent of that name that needs no model: null, random, expert, or expert:NAME."""
    if name == "null":
        return Null()
    if name == "random":
        return RandomAdmissible()
    if name == "expert" or name.startswith("expert:"):
        return ExpertAgent(name.partition(":")[2] or None)
    raise UnknownName("agent", name, BUILT_IN)
