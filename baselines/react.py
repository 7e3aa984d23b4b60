"""ReAct (Yao et al. 2023, arXiv:2210.03629): a thought and an action each turn, as a conversation.

    [user: instruction, form of the answers, memory, first observation]
    [assistant: thought and action]  [user: observation]  [assistant: ...]  ...

The prompt is the environment's own `instruction` and the form of the answers; nothing here knows any
environment.

Read: the released code (6bdb3a1).

Different here: thought and action are one answer in every environment.

Left out: the paper's hand-written examples (examples come from expert trajectories, by a seeded rule) and its
back-off to self-consistency.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import msgspec

from prosegym.baselines.examples import ANY
from prosegym.baselines.lm import Generation, Label, LanguageModel, Request, Sampling, label, spoken
from prosegym.envs.core import TextEnv, digest
from prosegym.envs.errors import BadOption, UnknownName
from prosegym.envs.trajectory import Message, Trajectory, Turn
from prosegym.evaluation import convert
from prosegym.evaluation.agents import Episode, Reply

# The forms of an answer.


@dataclass(frozen=True)
class Format:
    """A form of answer: how it is asked for, written and read."""

    name: str
    ask: str
    """What the prompt says of it."""
    opens: str
    """What stands before the action."""
    closes: str
    """What stands after it."""
    read: Callable[[str], str | None]
    """The action in an answer of this form; None where the answer has another form."""
    stop: tuple[str, ...] = ()
    """Strings that end an answer: the model has begun to play the environment."""

    def write(self, action: str) -> str:
        """An answer in this form, without a thought."""
        return f"{self.opens}{action}{self.closes}"


def _read_labelled(text: str) -> str | None:
    """What follows the first `Action:`, up to the next label: later turns are the model's own invention.

    One in Markdown's marks counts where there is no plain one.
    """
    parts: list[tuple[Label, list[str]]] = []
    for line in text.splitlines(keepends=True):
        if (found := label(line)) is not None:
            parts.append((found, [found.text]))
        elif parts:
            parts[-1][1].append(line)
    actions = [part for part in parts if part[0].name == "action"]
    first = next((part for part in actions if part[0].plain), actions[0] if actions else None)
    return None if first is None else "".join(first[1])


def _read_tagged(text: str) -> str | None:
    """What is inside the first `<action>`; its end may be missing."""
    _, opened, action = text.partition("<action>")
    return action.partition("</action>")[0] if opened else None


def _read_bare(text: str) -> str | None:
    """The whole answer, unless it has one of the marked forms."""
    return text if _read_labelled(text) is None and _read_tagged(text) is None else None


FORMATS = {
    fmt.name: fmt
    for fmt in (
        Format(
            "react",
            "Each turn, think about what to do next, then give exactly one action. Answer in this form:\n"
            "Thought: your reasoning\nAction: the action",
            "Action: ",
            "",
            _read_labelled,
            ("\nObservation:",),
        ),
        Format(
            "think",
            "Each turn, reason inside <think> and </think>, then give exactly one action inside <action> and "
            "</action>.",
            "<action>",
            "</action>",
            _read_tagged,
        ),
        Format(
            "bare",
            "Each turn, answer with exactly one action and nothing else.",
            "",
            "",
            _read_bare,
        ),
    )
}
"""Every form of answer."""


def parse(text: str, fmt: Format) -> str | None:
    """The action in an answer; None where none can be read.

    The declared form is tried first, then the other marked ones: a right action in another form is taken.
    Thoughts between `<think>` and `</think>` are left out, whatever the form, and so is what quotes the whole
    action as code: a pair of backticks, or a fence.
    """
    said = spoken(text)
    for form in (fmt, FORMATS["react"], FORMATS["think"]):
        if action := _unquoted((form.read(said) or "").strip()):
            return action
    return None


_FENCED = re.compile(r"```[\w+-]*[ \t]*\n(.*)```", re.DOTALL)
_QUOTED = re.compile(r"`([^`]+)`")


def _unquoted(action: str) -> str:
    """An action without the fence or the backticks around all of it; those within it are SQL's."""
    found = _FENCED.fullmatch(action) or _QUOTED.fullmatch(action)
    return found[1].strip() if found and "```" not in found[1] else action


def as_written(answer: Generation) -> Message:
    """An answer as a message to be trained on, with its tokens where they are known."""
    # No tokens and no text: a model of ours that wrote a stop string at once, and nothing to learn from.
    known = answer.token_ids or not answer.text
    return Message(
        "assistant",
        answer.text,
        trainable=True,
        token_ids=list(answer.token_ids) if known else msgspec.UNSET,
        logprobs=list(answer.logprobs) if answer.logprobs else msgspec.UNSET,
    )


# What of the conversation the model sees.


@dataclass(frozen=True)
class History:
    """How much of the conversation is shown to the model; the first message always is."""

    kind: Literal["full", "last", "budget"] = "full"
    """Everything; the last `size` turns; or what fits in `size` tokens (of the texts, without the
    template's marks of turns), the middle left out."""
    size: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("full", "last", "budget"):
            raise UnknownName("history policy", self.kind, ["full", "last", "budget"])
        if (self.kind == "full") != (self.size == 0) or self.size < 0:
            raise BadOption(f"history {self.kind} takes {'no size' if self.kind == 'full' else 'a size'}")

    @classmethod
    def parse(cls, text: str) -> History:
        """From `full`, `last:N` (turns) or `budget:N` (tokens)."""
        kind, _, size = text.partition(":")
        if kind not in ("full", "last", "budget") or (size and not size.isdigit()):
            raise BadOption(f"history is full, last:N or budget:N, not {text!r}")
        return cls(kind, int(size or 0))  # type: ignore[arg-type]

    def __str__(self) -> str:
        return self.kind if self.kind == "full" else f"{self.kind}:{self.size}"

    def view(self, messages: Sequence[Message], start: int, model: LanguageModel) -> Sequence[Message]:
        """What is shown of a conversation whose first `start` messages are always shown.

        `start` is odd: the shown beginning ends with the user's message, so turns go on alternating.
        """
        turns = (len(messages) - start) // 2
        kept = turns
        if self.kind == "last":
            kept = min(turns, self.size)
        elif self.kind == "budget":
            room = self.size - sum(model.count_tokens(m.content) for m in messages[:start])
            kept = 0
            for i in range(len(messages) - 2, start - 1, -2):
                room -= sum(model.count_tokens(m.content) for m in messages[i : i + 2])
                if room < 0:
                    break
                kept += 1
            kept = max(kept, min(turns, 1))  # the observation to be answered is always shown
        if kept == turns:
            return messages
        left_out = OMITTED.format(count=turns - kept)
        opening = messages[start - 1]
        shown = Message(opening.role, f"{opening.content}\n\n{left_out}")
        return [*messages[: start - 1], shown, *messages[len(messages) - 2 * kept :]]


OMITTED = "[{count} earlier turns are left out here]"
HINTS = "You can do one of these now:\n{actions}"
MEMORY = "You have tried this task before. What you noted then:\n{notes}"
NEXT = "That task is over. Now do this one.\n\n"


def opening(
    instruction: str, observation: str, fmt: Format, memory: Sequence[str] = (), ask: bool = True
) -> str:
    """The first message of a conversation."""
    parts = [instruction] if instruction else []
    if ask:
        parts.append(fmt.ask)
    if memory:
        parts.append(MEMORY.format(notes="\n".join(f"{i}. {m}" for i, m in enumerate(memory, start=1))))
    return "\n\n".join([*parts, observation])


def reminded(observation: str, first: str) -> str:
    """An observation with the paragraph of the episode's first one behind it that names the task."""
    return f"{observation}\n{_task(first)}"


def _task(first: str) -> str:
    """The first paragraph that says what it is, or the first of all: TextWorld's objectives vary in words."""
    paragraphs = first.strip().split("\n\n")
    return next((p for p in paragraphs if re.search(r"\b(task|objective)\b", p)), paragraphs[0])


def conversation(
    trajectory: Trajectory,
    instruction: str,
    fmt: Format,
    *,
    memory: Sequence[str] = (),
    brief: bool = False,
    remind: bool = False,
) -> list[Message]:
    """An episode as the conversation that ReAct would have had: how experts' episodes become training data.

    Args:
        trajectory: any episode; one that has a conversation of its own keeps it.
        instruction: the environment's.
        fmt: the form of the answers.
        memory: notes from earlier trials.
        brief: as in `Config`.
        remind: as in `Config`.
    """
    steps = trajectory.steps

    def heard(i: int) -> str:
        if i == 0:
            return opening("" if brief else instruction, steps[0].observation, fmt, memory, ask=not brief)
        return reminded(steps[i].observation, steps[0].observation) if remind else steps[i].observation

    answers = [fmt.write(step.action) for step in steps]
    return convert.messages(trajectory, heard, answers)


@dataclass(frozen=True)
class Config:
    """Everything about the agent but its model. All of it is recorded."""

    format: str = "react"
    """Form of the answers: react, think or bare."""
    decoding: Literal["free", "trie", "score"] = "free"
    """Actions as free text; only admissible ones, token by token; or the best-scored admissible one."""
    history: str = "full"
    """What the model sees of the episode: full, last:N turns, or budget:N tokens."""
    hints: bool = False
    """Whether each observation lists the admissible actions."""
    brief: bool = False
    """Leave out the instruction and the form of the answers, for a model that was trained without them."""
    remind: bool = False
    """Repeat the paragraph of the first observation that names the task after each observation."""
    instruction: str | None = None
    """A prompt of your own in place of the environment's instruction; its digest is recorded."""
    temperature: float = 0.0
    """0 takes the likeliest token; above, tokens are drawn."""
    top_p: float = 1.0
    """Share of probability that is drawn from."""
    max_tokens: int = 256
    """Tokens after which an answer is cut."""
    record_tokens: bool = False
    """Whether trajectories keep the sampled tokens and their log-probabilities."""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UnknownName("format", self.format, FORMATS)
        if self.decoding not in ("free", "trie", "score"):
            raise UnknownName("decoding", self.decoding, ["free", "trie", "score"])
        History.parse(self.history)
        self.sampling()

    def told(self, instruction: str) -> str:
        """What stands for the environment's instruction in the first message."""
        return instruction if self.instruction is None else self.instruction

    def sampling(self) -> Sampling:
        """How answers are drawn."""
        choice: Literal["token", "action"] = "action" if self.decoding == "score" else "token"
        return Sampling(self.temperature, self.top_p, self.max_tokens, FORMATS[self.format].stop, choice)


def _said(example: Trajectory, step: Turn) -> str:
    """What is shown of an example's answer: all that was written, or the action of one that has no chat."""
    return step.response if example.messages else step.action


@dataclass
class _Talk:
    """The conversation of an episode, with the tokens that were sampled."""

    messages: list[Message] = field(default_factory=list)
    start: int = 1


class ReAct:
    """An agent that asks a language model each turn. Runs on every environment."""

    def __init__(
        self,
        model: LanguageModel,
        config: Config | None = None,
        *,
        name: str = "react",
        examples: Mapping[str, Sequence[Trajectory]] | None = None,
    ) -> None:
        """An agent with that model.

        Args:
            model: what answers.
            config: form, decoding, history, sampling.
            name: what the agent is called in records.
            examples: expert episodes shown before the task, by task type, as `examples.pick` gives them.
        """
        self.model = model
        self.config = config or Config()
        self.name = name
        self._format = FORMATS[self.config.format]
        self._history = History.parse(self.config.history)
        self._sampling = self.config.sampling()
        self._examples = examples or {}

    def conditions(self) -> Mapping[str, Any]:
        """Model, prompt digest, form, history policy, sampling, examples (ids and digest)."""
        own = asdict(self.config)
        if (instruction := own.pop("instruction")) is not None:  # a submission's conditions hold no long text
            own["instruction_sha256"] = digest(instruction)
        model = dict(self.model.conditions())
        for name in {"temperature", "top_p"}.intersection(model.get("leave_out", ())):
            del own[name]  # it is the server's own, and not known
        found = {
            **own,
            "prompt_sha256": digest(self._format.ask, OMITTED, HINTS, MEMORY, NEXT),
            "examples": {kind: [t.task_id for t in shown] for kind, shown in self._examples.items()},
            "model": model,
        }
        if self._examples:
            picked = [t for shown in self._examples.values() for t in shown]
            told = (text for t in picked for s in t.steps for text in (s.observation, _said(t, s)))
            found["examples_sha256"] = digest(*told)
        return found

    def begin(self, episode: Episode, env: TextEnv) -> None:
        """Start the conversation: instruction, examples, memory."""
        talk = _Talk()
        before = ""
        for i, example in enumerate(self._shown(episode, env)):
            # From its steps: its conversation may begin with examples or notes of its own.
            first = example.steps[0].observation
            told = self._opening(episode.instruction, first) if i == 0 else before + first
            for j, step in enumerate(example.steps):
                if j > 0:
                    told = reminded(step.observation, first) if self.config.remind else step.observation
                said = _said(example, step)
                answer = said if example.messages else self._format.write(said)
                talk.messages += [Message("user", told), Message("assistant", answer)]
            before = f"{example.final_observation}\n\n{NEXT}"
        talk.start = len(talk.messages) + 1
        if talk.messages:
            notes = opening("", "", self._format, episode.memory, ask=False).strip() if episode.memory else ""
            first = before + (f"{notes}\n\n" if notes else "") + self._observation(episode)
        else:
            first = self._opening(episode.instruction, self._observation(episode), episode.memory)
        talk.messages.append(Message("user", first))
        episode.messages = list(talk.messages)
        episode.state = talk

    def _opening(self, instruction: str, observation: str, memory: Sequence[str] = ()) -> str:
        brief = self.config.brief
        told = "" if brief else self.config.told(instruction)
        return opening(told, observation, self._format, memory, ask=not brief)

    def _shown(self, episode: Episode, env: TextEnv) -> list[Trajectory]:
        """The examples for an episode; its own task is never among them.

        Raises:
            BadOption: they are of another environment.
        """
        kind = episode.task.task_type if env.tells_type else ANY
        of_type = self._examples.get(kind) or self._examples.get(ANY, ())
        env_id = episode.task.env_id
        if other := next((t.env_id for t in of_type if t.env_id != env_id), None):
            raise BadOption(
                f"the examples are episodes of {other}, and what is played is {env_id}; collect its own: "
                f"`prosegym collect --agent expert --env {env_id} --split train`"
            )
        return [t for t in of_type if t.task_id != episode.task.id and t.steps]

    def respond(self, episodes: Sequence[Episode]) -> list[Reply]:
        """One answer per episode."""
        requests = []
        for episode in episodes:
            talk: _Talk = episode.state
            if episode.steps:
                said = Message("user", self._observation(episode))
                talk.messages.append(said)
                episode.messages.append(said)
            requests.append(self._request(episode, talk))
        answers = self.model.generate(requests, self._sampling)
        return [self._reply(e, a) for e, a in zip(episodes, answers, strict=True)]

    def _request(self, episode: Episode, talk: _Talk) -> Request:
        return Request(
            list(self._history.view(talk.messages, talk.start, self.model)),
            allowed=self._allowed(episode),
            opens=self._format.opens,
            closes=self._format.closes,
            seed=int(digest(str(episode.seed), str(len(episode.steps)))[:15], 16),
            key=(episode.task.id, episode.attempt, episode.trial, episode.seed),
        )

    def _allowed(self, episode: Episode) -> Sequence[str] | None:
        """What the answer is held to; None where the agent writes freely or the environment lists nothing."""
        if self.config.decoding == "free":
            return None
        return episode.info["admissible_actions"] or None

    def _observation(self, episode: Episode) -> str:
        said = episode.observation
        if self.config.remind and episode.steps:
            said = reminded(said, episode.steps[0].observation)
        actions = episode.info["admissible_actions"] if self.config.hints else None
        if not actions:
            return said
        listed = HINTS.format(actions="\n".join(f"- {action}" for action in actions))
        return f"{said}\n\n{listed}"

    def _reply(self, episode: Episode, answer: Generation) -> Reply:
        read, written, cost = answer.prompt_tokens, answer.completion_tokens, answer.cost
        if answer.stop_reason == "error":
            return Reply(answer.text, "", read, written, cost, error=answer.error or "the model failed")
        if answer.stop_reason == "context":
            return Reply(answer.text, "", read, written, cost, stop="context overflow")
        exact = as_written(answer)
        episode.state.messages.append(exact)
        plain = Message("assistant", answer.text, trainable=True)
        episode.messages.append(exact if self.config.record_tokens else plain)
        action = parse(answer.text, self._format)
        allowed = self._allowed(episode)
        if allowed and action not in allowed:  # in another form, or cut before it began
            action = None
        return Reply(answer.text, action or "", read, written, cost, parse_failed=action is None)
