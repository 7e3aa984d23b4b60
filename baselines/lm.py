"""What a language model is to the agents: messages in, text and the tokens it was made of out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from prosegym.envs.errors import BadOption, ProsegymError, at_least
from prosegym.envs.trajectory import Message

StopReason = Literal["end", "stop", "length", "context", "error"]
"""Why a generation ended: the model's end token, a stop string, `max_tokens`, a full context, an error."""


class ModelError(ProsegymError):
    """A model, tokenizer or chat template that cannot be used; the message says what is missing."""


@dataclass(frozen=True)
class Request:
    """One answer to be written."""

    messages: Sequence[Message]
    """The conversation; its last message is not the assistant's."""
    allowed: Sequence[str] | None = None
    """The only actions that may be written; None leaves the model free."""
    opens: str = ""
    """What the model writes before an allowed action (`Action: `); up to there it is free. Empty: nothing."""
    closes: str = ""
    """What follows the action (`</action>`)."""
    seed: int = 0
    """Seeds the sampling: equal requests with equal seeds get equal answers, in whatever batch."""
    key: Hashable = None
    """Names the episode, so that what was computed for its earlier turns is used again; or None."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen."""

    temperature: float = 0.0
    """0 takes the likeliest token (or action) each time."""
    top_p: float = 1.0
    """Share of probability that is drawn from, likeliest first, in (0, 1]."""
    max_tokens: int = 256
    """Tokens after which an answer is cut."""
    stop: tuple[str, ...] = ()
    """Strings that end an answer; they are not part of it."""
    choice: Literal["token", "action"] = "token"
    """Among allowed actions: choose token by token, or score every action whole and choose one of them."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise BadOption(f"temperature must be 0 or more, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise BadOption(f"top_p must be in (0, 1], not {self.top_p}")
        at_least(1, max_tokens=self.max_tokens)
        if isinstance(self.stop, str) or not all(isinstance(s, str) and s for s in self.stop):
            raise BadOption("stop must be a tuple of strings, none of them empty")


@dataclass(frozen=True)
class Generation:
    """One answer."""

    text: str
    """What was written, without end token and stop string."""
    token_ids: tuple[int, ...] = ()
    """The tokens sampled, end token included, stop string left out; () where the model does not tell."""
    logprobs: tuple[float, ...] = ()
    """Natural log-probability of each token under the model itself: temperature 1, nothing cut off."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    stop_reason: StopReason = "end"
    error: str | None = None
    """What went wrong, where `stop_reason` is "error"."""
    cost: float | None = 0.0
    """In US dollars; None where it is not known."""

    def __post_init__(self) -> None:
        # A server can send half of a surrogate pair, which no UTF-8 file can hold.
        if not self.text.isascii():
            whole = self.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            object.__setattr__(self, "text", whole)


class LanguageModel(Protocol):
    """Writes answers, many at a time."""

    name: str

    def conditions(self) -> Mapping[str, Any]:
        """Everything recorded about it: revision, data type, template digest, versions."""
        ...

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
        """One answer per request, in order."""
        ...

    def count_tokens(self, text: str) -> int:
        """How many tokens a text is; an estimate where the tokenizer is not at hand."""
        ...


class Scripted:
    """Writes what a function says: for tests. Token counts are words."""

    def __init__(self, answer: Callable[[Request], str], name: str = "scripted") -> None:
        """`answer` is given each request and returns the text; a stop string in it still ends it."""
        self._answer = answer
        self.name = name

    def conditions(self) -> Mapping[str, Any]:
        """Nothing beyond its name."""
        return {}

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
        """The function's answers, cut at the first stop string."""
        generations = []
        for request in requests:
            text, stopped = cut(self._answer(request), sampling.stop)
            read = sum(self.count_tokens(message.content) for message in request.messages)
            written = self.count_tokens(text)
            generations.append(Generation(text, (), (), read, written, "stop" if stopped else "end"))
        return generations

    def count_tokens(self, text: str) -> int:
        """Number of words."""
        return len(text.split())


def cut(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text before the earliest stop string, and whether there was one."""
    at = min((place for s in stop if (place := text.find(s)) >= 0), default=-1)
    return (text, False) if at < 0 else (text[:at], True)


def spoken(text: str) -> str:
    """What is said outside of the thoughts, whose `<think>` may be missing (it was in the prompt), or whose
    `</think>` (the answer was cut off)."""
    *before, last = text.split("</think>")
    said: list[str] = []
    for part in before:
        words, opened, _ = part.partition("<think>")
        if opened:
            said.append(words)
        else:  # all of it was thought
            said.clear()
    return "".join(said) + last.partition("<think>")[0]


class Label(NamedTuple):
    """The beginning of a line such as `Action: go north`, and what stands behind it there."""

    name: str
    """thought, action or observation."""
    text: str
    plain: bool
    """Whether it has none of Markdown's marks: `**Action:**`, `### Action:`, `- Action:`, `> Action:`."""


_LABEL = re.compile(
    r"((?:[ \t>]|#+[ \t]|[-*+][ \t])*)([*_]*)(thought|action|observation)[ \t]*\d*[ \t]*"
    r"(?:\2[ \t]*:|:\2|(:))(.*)",
    re.IGNORECASE | re.DOTALL,
)


def label(line: str) -> Label | None:
    """The label that a line begins with; None where it begins with none."""
    found = _LABEL.match(line)
    if found is None:
        return None
    before, bold, name, left_open, text = found.groups()
    if left_open and text.rstrip().endswith(bold):  # `**Action: go north**`
        text = text.rstrip().removesuffix(bold) + "\n"
    return Label(name.lower(), text, not before.strip() and not bold)
