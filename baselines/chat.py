"""Conversations to tokens, through the model's own chat template. Token in, token out.

A conversation is a list of segments: what the model reads (A: the template's markers and the user's
words) and what it writes (S), in turn: A0 S0 A1 S1 ... Each segment is tokenized by itself, so the tokens
of a conversation are a prefix of those of every longer one, and the trainable tokens are those of S: the
mask comes from the turns, text is never searched for them. Where a message has the tokens that were
sampled for it, those are its segment.

How the template writes a segment is learnt once, from made-up conversations. What is put together from
segments is compared with what the template itself renders: always in training, after 1, 2, 4, 8, ... turns
in a rollout. A template that rewrites earlier turns (drops their thoughts, moves the system message) does
not compare equal and is refused. Where it rewrites only what was said in one conversation, that one alone is
an error in a rollout.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from prosegym.baselines.lm import ModelError
from prosegym.envs.core import digest
from prosegym.envs.trajectory import Message


class TemplateError(ModelError):
    """A chat template that cannot be used with this conversation; the message says why."""


class Encoded(NamedTuple):
    """A conversation as tokens."""

    token_ids: list[int]
    trainable: list[bool]
    """Whether each token was written by the agent in this episode."""
    turns: list[tuple[int, int]]
    """Start and end (exclusive) of what the model wrote in each assistant message, in order."""


class Prompt(NamedTuple):
    """A conversation that ends with the user's words, and its tokens."""

    messages: list[Message]
    token_ids: list[int]


@dataclass(frozen=True)
class _Pieces:
    """What a template writes around the contents of a turn."""

    lead: str
    """Between the prompt and the assistant's words."""
    after: str
    """Between the assistant's words and the next user's: end token, markers."""
    prompt: str
    """Between the user's words and the assistant's lead."""
    end: str
    """Text of the token that ends the assistant's turn."""
    end_id: int
    trims_assistant: bool
    trims_user: bool


# Words for made-up conversations: no template writes them of itself.
_ASK, _ANSWER, _AGAIN, _OTHER = "qwzxa", "qwzxb", "qwzxc", "qwzxd"
_ANCHOR = "."

_TODAY = datetime.date(2024, 7, 26)
"""What day it is for templates that write the date: Llama 3.2's, where nobody tells it another."""


def _dated(template: str) -> str:
    """The template with one day for ever in place of today: else prompts differ from day to day.

    It is a macro, as transformers hands no function on to a template.
    """
    if "strftime_now" not in template:
        return template
    codes = "".join(f"|replace('%{c}', '{_TODAY:%{c}}')" for c in "aAbBdHIjmMpSyY")
    return "{% macro strftime_now(f) %}{{ f|replace('%-', '%')" + codes + " }}{% endmacro %}\n" + template


class Chat:
    """A tokenizer with its chat template."""

    def __init__(
        self,
        tokenizer: Any,
        template: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Learn how the template writes turns.

        Args:
            tokenizer: a transformers tokenizer.
            template: a Jinja chat template to be used in place of the tokenizer's own.
            template_kwargs: switches of the template, such as `enable_thinking`.

        Raises:
            TemplateError: there is no template, or one whose turns are no prefix of what follows them.
        """
        self.tokenizer = tokenizer
        if template is None and not tokenizer.chat_template:
            raise TemplateError(
                f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template; "
                "use a chat model, or give a template (option `chat_template`)"
            )
        self.template: str = template if template is not None else tokenizer.get_chat_template()
        self._template = _dated(self.template)
        self._kwargs = dict(template_kwargs or {})
        self._anchor_ids: list[int] = tokenizer.encode(_ANCHOR, add_special_tokens=False)
        self._memo: dict[tuple[str, str], list[int]] = {}
        self._openings: dict[tuple[str, ...], str] = {}
        marks = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
        marks.update(tokenizer.all_special_tokens)
        self._special = re.compile("|".join(re.escape(mark) for mark in sorted(marks)) or r"(?!)")
        self.folds_system = not self._takes_system()
        self._pieces = self._learn()
        self.end_id = self._pieces.end_id
        """The token that ends the assistant's turn."""
        self.drops_thoughts = self._drops_thoughts()
        """Whether the template leaves `<think>` parts out of earlier turns."""

    @property
    def sha256(self) -> str:
        """Digest of the template."""
        return digest(self.template)

    def prompt(self, messages: Sequence[Message], earlier: Prompt | None = None) -> Prompt:
        """A conversation that the assistant is to continue, as tokens, its header included.

        `earlier` may be the prompt of an earlier turn, which then is gone on from.
        """
        answered = len(messages) // 2
        if (
            earlier is not None
            and len(messages) == len(earlier.messages) + 2
            and answered & (answered - 1)  # after 1, 2, 4, 8, ... answers the whole is rendered and compared
            and messages[: len(earlier.messages)] == earlier.messages
        ):
            self._check_roles(messages, len(messages) - 2, answered=False)
            token_ids = list(earlier.token_ids)
            token_ids += self._segment(messages[-2])[0]
            token_ids += self._told(messages[-1].content)
        else:
            token_ids = self._encode(messages, answered=False).token_ids
        return Prompt(list(messages), token_ids)

    def encode(self, messages: Sequence[Message]) -> Encoded:
        """Tokens and mask of a conversation, up to the end token of its last assistant message.

        Messages after that one are left out.
        """
        last = max((i for i, message in enumerate(messages) if message.role == "assistant"), default=-1)
        if last < 0:
            raise TemplateError("the conversation holds no assistant message: nothing to train on")
        return self._encode(messages[: last + 1], answered=True)

    def answer(self, text: str) -> list[int]:
        """Tokens of one whole answer, end token included, as they follow a prompt."""
        pieces = self._pieces
        return self._tokens(pieces.lead + self._said(text) + pieces.end)

    def continuation(self, text: str, *, ends: bool) -> list[int]:
        """Tokens of a text that goes on in the middle of an answer; with the end token where it `ends`."""
        return self._tokens(text + (self._pieces.end if ends else ""))

    def render(self, messages: Sequence[Message], *, prompt: bool) -> str:
        """The conversation as the template itself writes it."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(
                turns,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=prompt,
                **self._kwargs,
            )
        except Exception as error:  # a template is a program: it raises what it likes
            raise TemplateError(f"the chat template fails on this conversation: {error}") from error
        assert isinstance(text, str)
        return text

    def suits(self, messages: Sequence[Message]) -> bool:
        """Whether the template can write such a conversation, whatever was said in this one.

        Thoughts are said each turn: a template that drops them does not suit who thinks.
        """
        if self._loses_thoughts(messages):
            return False
        try:
            self.prompt([Message(message.role, _OTHER) for message in messages])
        except TemplateError:
            return False
        return True

    def _loses_thoughts(self, messages: Sequence[Message]) -> bool:
        said = [message.content for message in messages if message.role == "assistant"]
        return self.drops_thoughts and any("<think>" in text and "</think>" in text for text in said)

    # Learning the pieces.

    def _takes_system(self) -> bool:
        system = Message("system", _OTHER)
        short = [system, Message("user", _ASK)]
        long = [*short, Message("assistant", _ANSWER), Message("user", _AGAIN)]
        try:
            first, second = self.render(short, prompt=True), self.render(long, prompt=True)
        except TemplateError:
            return False
        return _OTHER in first and second.startswith(first)

    def _learn(self) -> _Pieces:
        ask = Message("user", _ASK)
        first = self.render([ask], prompt=True)
        whole = self.render([ask, Message("assistant", _ANSWER), Message("user", _AGAIN)], prompt=True)
        if _ASK not in first:
            raise TemplateError("the chat template leaves out what the user says")
        if not whole.startswith(first):
            at = next((i for i, (a, b) in enumerate(zip(first, whole, strict=False)) if a != b), len(whole))
            raise TemplateError(
                f"the chat template changes a prompt once it is answered: {first[at : at + 40]!r} becomes "
                f"{whole[at : at + 40]!r}; give a template that keeps it (option `chat_template`)"
            )
        rest = whole[len(first) :]
        answered, asked = rest.find(_ANSWER), rest.find(_AGAIN)
        if not 0 <= answered < asked:
            raise TemplateError("the chat template leaves out what the assistant said")
        after = rest[answered + len(_ANSWER) : asked]
        end_id, end = self._end(after)
        spaced = [Message("user", f" {_ASK} "), Message("assistant", f" {_ANSWER} "), ask]
        text = self.render(spaced, prompt=True)
        return _Pieces(
            lead=rest[:answered],
            after=after,
            prompt=rest[asked + len(_AGAIN) :],
            end=end,
            end_id=end_id,
            trims_assistant=rest[:answered] + f" {_ANSWER} " + after not in text,
            trims_user=f" {_ASK} " + first[first.find(_ASK) + len(_ASK) :] not in text,
        )

    def _end(self, after: str) -> tuple[int, str]:
        """The first special token after the assistant's words, and the text up to and including it."""
        special = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        special.update(self.tokenizer.all_special_ids)
        token_ids = self._tokens(after)
        for token_id in token_ids:
            if token_id in special:
                mark = self.tokenizer.convert_ids_to_tokens(token_id)
                if mark in after:
                    return token_id, after[: after.find(mark) + len(mark)]
        raise TemplateError(
            f"the chat template ends the assistant's turn with no special token (only {after[:20]!r}), so "
            "nothing would tell the model to stop; give a template that writes an end token"
        )

    def _drops_thoughts(self) -> bool:
        thought = Message("assistant", f"<think>\n{_OTHER}\n</think>\n\n{_ANSWER}")
        messages = [Message("user", _ASK), thought, Message("user", _AGAIN)]
        return _OTHER not in self.render(messages, prompt=True)

    # Encoding.

    def fold(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The same conversation with the system message put before the first user's, where it must be."""
        if not messages or messages[0].role != "system" or not self.folds_system:
            return messages
        if len(messages) < 2 or messages[1].role != "user":
            raise TemplateError("a system message must be followed by the user's first message")
        first = Message("user", f"{messages[0].content}\n\n{messages[1].content}")
        return [first, *messages[2:]]

    def _encode(self, messages: Sequence[Message], *, answered: bool) -> Encoded:
        messages = self.fold(messages)
        start = 2 if messages and messages[0].role == "system" else 1
        self._check_roles(messages, start, answered=answered)
        pieces = self._pieces
        text = self._opening(messages[:start])
        token_ids = self._opened(text, messages[start - 1].content)
        trainable = [False] * len(token_ids)
        turns = []
        for i in range(start, len(messages), 2):
            segment, written = self._segment(messages[i])
            turns.append((len(token_ids), len(token_ids) + written))
            token_ids += segment
            trainable += [messages[i].trainable] * written + [False] * (len(segment) - written)
            text += pieces.lead + self._said(messages[i].content) + pieces.after
            if i + 1 < len(messages):
                heard = messages[i + 1].content
                told = self._told(heard)
                token_ids += told
                trainable += [False] * len(told)
                text += self._heard(heard) + pieces.prompt
        if len(messages) > start:
            self._check_rendering(messages, text, answered=answered)
        return Encoded(token_ids, trainable, turns)

    def _opening(self, messages: Sequence[Message]) -> str:
        """The first prompt of a conversation, which is looked at again as it grows."""
        key = tuple(message.content for message in messages)
        if (known := self._openings.get(key)) is not None:
            return known
        if len(self._openings) >= 1_000:
            self._openings.clear()
        self._openings[key] = text = self.render(messages, prompt=True)
        return text

    def _segment(self, message: Message) -> tuple[list[int], int]:
        """What the model wrote, end token included, and how many of the tokens are its own."""
        pieces = self._pieces
        if message.token_ids is msgspec.UNSET:
            written = self._said(message.content)
            token_ids = self._safe(pieces.lead, written, pieces.end)
            if token_ids is None:
                token_ids = self._tokens(pieces.lead + written + pieces.end)
            return token_ids, len(token_ids)
        sampled = list(message.token_ids)
        if sampled[-1:] == [pieces.end_id]:
            return sampled, len(sampled)
        # Cut short: the end is the template's, not the model's.
        return [*sampled, pieces.end_id], len(sampled)

    def _told(self, content: str) -> list[int]:
        """What the model reads between two of its turns."""
        pieces, heard = self._pieces, self._heard(content)
        rest = pieces.after[len(pieces.end) :]
        safe = self._safe(rest, heard, pieces.prompt)
        return self._read_tokens(rest + heard + pieces.prompt) if safe is None else safe

    def _opened(self, text: str, content: str) -> list[int]:
        """The tokens of the first prompt, its text ends with the user's words and a header."""
        closing = self._heard(content) + self._pieces.prompt
        if self._special.search(content) and text.endswith(closing):
            head = self._start_tokens(text[: len(text) - len(closing)])
            rest = self._safe("", self._heard(content), self._pieces.prompt)
            if rest is not None:
                return head + rest
        return list(self._start_tokens(text))

    def _safe(self, before: str, words: str, after: str) -> list[int] | None:
        """Tokens of words that look like markers, read as plain text; None where there are none such."""
        if not self._special.search(words):
            return None
        plain: list[int] = self.tokenizer.encode(words, add_special_tokens=False, split_special_tokens=True)
        opening = self._read_tokens(before) if before else []
        return [*opening, *plain, *(self._tokens(after) if after else [])]

    def _heard(self, content: str) -> str:
        return content.strip() if self._pieces.trims_user else content

    def _said(self, content: str) -> str:
        return content.strip() if self._pieces.trims_assistant else content

    def _tokens(self, text: str) -> list[int]:
        """Tokens of a piece in the middle of a text: it gets no word-start mark that is not written."""
        if (known := self._memo.get(("middle", text))) is not None:
            return known
        anchored: list[int] = self.tokenizer.encode(_ANCHOR + text, add_special_tokens=False)
        count = len(self._anchor_ids)
        if anchored[:count] == self._anchor_ids:
            return self._remember(("middle", text), anchored[count:])
        return self._remember(("middle", text), self.tokenizer.encode(text, add_special_tokens=False))

    def _start_tokens(self, text: str) -> list[int]:
        """Tokens of the beginning of a text."""
        if (known := self._memo.get(("start", text))) is not None:
            return known
        return self._remember(("start", text), self.tokenizer.encode(text, add_special_tokens=False))

    def _remember(self, key: tuple[str, str], token_ids: list[int]) -> list[int]:
        if len(self._memo) >= 20_000:
            self._memo.clear()
        self._memo[key] = token_ids
        return token_ids

    def _read_tokens(self, text: str) -> list[int]:
        """Tokens of what the model reads after an end token: tokenized behind one, which is then left out."""
        if (known := self._memo.get(("read", text))) is not None:
            return known
        token_ids: list[int] = self.tokenizer.encode(self._pieces.end + text, add_special_tokens=False)
        return self._remember(("read", text), token_ids[token_ids.index(self._pieces.end_id) + 1 :])

    def _check_roles(self, messages: Sequence[Message], start: int, *, answered: bool) -> None:
        wanted = ["user", "assistant"]
        for i, message in enumerate(messages[max(start - 1, 0) :]):
            if message.role != wanted[i % 2]:
                raise TemplateError(
                    f"message {start - 1 + i} is the {message.role}'s where the {wanted[i % 2]}'s is due: "
                    "user and assistant must take turns"
                )
        last = "assistant" if answered else "user"
        if not messages or messages[-1].role != last:
            raise TemplateError(f"the last message must be the {last}'s")

    def _check_rendering(self, messages: Sequence[Message], text: str, *, answered: bool) -> None:
        if answered:  # templates may treat the last turn apart: look at it as an earlier one
            messages = [*messages, Message("user", _AGAIN)]
            text += _AGAIN + self._pieces.prompt
        rendered = self.render(messages, prompt=True)
        if rendered == text:
            return
        at = next(
            (i for i, (a, b) in enumerate(zip(text, rendered, strict=False)) if a != b),
            min(len(text), len(rendered)),
        )
        if self._loses_thoughts(messages):
            raise TemplateError(
                "the chat template drops the thoughts of earlier turns, so what was sampled is not what "
                "later turns see; give a template that keeps them (option `chat_template`), or, where the "
                "format asks for the thoughts (`think`), use another one"
            )
        raise TemplateError(
            f"the chat template rewrites earlier turns: {text[at : at + 40]!r} became "
            f"{rendered[at : at + 40]!r}; give a template that keeps them (option `chat_template`)"
        )


def audit(chat: Chat, conversations: Iterable[Sequence[Message]], show: int = 2) -> str:
    """Check that every turn's tokens are a prefix of the next turn's, and show what is trained on.

    Args:
        chat: the tokenizer with its template.
        conversations: what is to be trained on.
        show: how many conversations are shown in full.

    Returns:
        A report for a person: shares, and the trained tokens of the first conversations, decoded.

    Raises:
        TemplateError: some turn's tokens are no prefix of the next turn's, or nothing would be trained on.
    """
    lines: list[str] = []
    count = turns = trained = total = 0
    for messages in conversations:
        encoded = chat.encode(messages)
        folded = chat.fold(messages)
        starts = iter(encoded.turns)
        for i, message in enumerate(folded):
            if message.role != "assistant":
                continue
            begin, end = next(starts)
            prompt = chat.prompt(folded[:i]).token_ids
            if prompt != encoded.token_ids[:begin]:
                raise TemplateError(
                    f"conversation {count}, message {i}: the tokens of its prompt are no prefix of the whole"
                )
            if count < show:
                mark = "trained" if all(encoded.trainable[begin:end]) else "read"
                lines.append(f"[{mark}] {chat.tokenizer.decode(encoded.token_ids[begin:end])!r}")
            turns += 1
        if count < show:
            lines.append("")
        count += 1
        trained += sum(encoded.trainable)
        total += len(encoded.trainable)
    if trained == 0:
        raise TemplateError(f"no token of {count} conversations would be trained on")
    lines.append(
        f"{count} conversations, {turns} assistant turns, {total} tokens, {trained} of them in answers that "
        f"are to be learnt ({trained / total:.1%}); every prompt is a prefix of what follows"
    )
    return "\n".join(lines)
