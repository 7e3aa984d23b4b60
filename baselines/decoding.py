"""From logits to answers: sampling, tries of admissible actions, stop strings. One `Writer` per answer.

An answer depends on its own logits and its own seed alone: each writer draws from its own generator.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from prosegym.baselines.chat import Chat
from prosegym.baselines.engine import sent
from prosegym.baselines.lm import Generation, Request, Sampling, StopReason, cut, label, spoken


class Trie:
    """Token sequences by their common beginnings."""

    def __init__(self, sequences: Sequence[Sequence[int]] = (), depth: int = 0) -> None:
        """A trie of the sequences from their token `depth` on, where they part for the first time.

        None may be a beginning of another (each ends in an end token).
        """
        self._sequences = sequences
        self._depth = depth

    @cached_property
    def children(self) -> dict[int, Trie]:
        """What follows each possible next token: made when it is asked for, so one path is all that is."""
        following: dict[int, list[Sequence[int]]] = {}
        for sequence in self._sequences:
            if len(sequence) > self._depth:
                following.setdefault(sequence[self._depth], []).append(sequence)
        return {token: Trie(some, self._depth + 1) for token, some in following.items()}


class Writer:
    """One answer being written."""

    def __init__(
        self, request: Request, sampling: Sampling, chat: Chat, prompt: list[int], end_ids: frozenset[int]
    ) -> None:
        """Begin an answer to a prompt; `end_ids` are the tokens that end it."""
        self.request = request
        self.sampling = sampling
        self.prompt = prompt
        self.token_ids: list[int] = []
        self.logprobs: list[float] = []
        self.reason: StopReason | None = None
        """Why the answer ended; None while it is being written."""
        self.text = ""
        self.trie: Trie | None = None
        """Where in the allowed continuations it is; None where it is free."""
        self.whole = False
        """Whether nothing is left to be chosen: only log-probabilities of the last tokens are missing."""
        self._chat = chat
        self.end_ids = end_ids
        self._rng = random.Random(request.seed)
        self._marker = request.opens.rstrip() if request.allowed else ""
        # A stop string or marker of c characters lies in the last 4c + 4 tokens: each has a byte or more.
        self._window = 4 * max((len(s) for s in (*sampling.stop, self._marker)), default=0) + 4
        self.beside = 0
        """Tokens that are computed beside the answer, at most: those of actions that are chosen whole."""
        if request.allowed and sampling.choice == "action":
            self.beside = sum(map(len, self.continuations()))
        if request.allowed and not request.opens:
            self._enter()

    @property
    def pending(self) -> list[int]:
        """The last tokens, which could be no others, and whose log-probabilities are still to be computed."""
        return self.token_ids[len(self.logprobs) :]

    @property
    def by_action(self) -> bool:
        """Whether a whole action is to be chosen next."""
        return self.trie is not None and self.sampling.choice == "action"

    @property
    def context(self) -> list[int]:
        """Prompt and answer up to the first token whose log-probability is missing."""
        return self.prompt + self.token_ids[: len(self.logprobs)]

    def continuations(self) -> list[list[int]]:
        """The token sequences that may follow what is written, one per allowed action."""
        request, chat = self.request, self._chat
        assert request.allowed
        if not request.opens:
            return [chat.answer(action + request.closes) for action in request.allowed]
        written = self._decode(self.token_ids)
        glue = "" if written != written.rstrip() else request.opens[len(self._marker) :]
        return [chat.continuation(glue + a + request.closes, ends=True) for a in request.allowed]

    def beyond(self, count: int) -> list[int]:
        """Prompt and answer so far, but for the first `count` tokens and for a last one that ends it."""
        read = len(self.prompt)
        written = self.token_ids[:-1] if self.whole else self.token_ids
        return written[count - read :] if count >= read else self.prompt[count:] + written

    def uniform(self) -> float:
        """The next draw of this answer's own generator."""
        return self._rng.random()

    def settle(self, logprobs: Sequence[float]) -> None:
        """Give the first pending tokens their log-probabilities."""
        self.logprobs += logprobs
        if self.whole and not self.pending:
            self._finish("end")

    def push(self, token: int, logprob: float) -> None:
        """Add a token, and those that can only be the next ones."""
        self.token_ids.append(token)
        self.logprobs.append(logprob)
        if self.trie is not None:
            self.trie = self.trie.children[token]
            if not self.trie.children:
                self._finish("end")
            else:
                self._follow()
        elif token in self.end_ids:
            self._finish("end")
        elif (self.sampling.stop or self._marker) and self._look():
            pass
        elif len(self.token_ids) >= self.sampling.max_tokens and self.trie is None:
            self._finish("length")

    def take(self, token_ids: Sequence[int], logprobs: Sequence[float]) -> None:
        """Add a whole action, which ends the answer."""
        self.token_ids += token_ids
        self.logprobs += logprobs
        self._finish("end")

    def overflow(self) -> None:
        """The context is full."""
        del self.token_ids[len(self.logprobs) :]
        self._finish("context")

    def _enter(self) -> None:
        """Begin an action, which must be an allowed one."""
        self.trie = Trie(self.continuations())
        if self.sampling.choice == "token":
            self._follow()

    def _follow(self) -> None:
        """Add the tokens that leave no choice."""
        while self.trie is not None and len(self.trie.children) == 1:
            token, self.trie = next(iter(self.trie.children.items()))
            self.token_ids.append(token)
            self.whole = not self.trie.children

    def _look(self) -> bool:
        """Look at the latest text for a stop string (returns True) or the marker that opens an action."""
        tail = self._decode(self.token_ids[-self._window :])
        if any(stop in tail for stop in self.sampling.stop):
            text, stopped = cut(self._decode(self.token_ids), self.sampling.stop)
            if stopped:
                # Tokens that lie wholly in the stop string go; one that straddles its start stays. Texts are
                # compared, not lengths: a part of a character's bytes is as long as the whole of it.
                keep = len(self.token_ids)
                while keep and self._decode(self.token_ids[: keep - 1]).startswith(text):
                    keep -= 1
                del self.token_ids[keep:], self.logprobs[keep:]
                self._finish("stop", text)
                return True
        if self._marker and self._opened(tail.rstrip()):
            self._enter()
        return False

    def _opened(self, tail: str) -> bool:
        """Whether an action is to follow: a tag opens one anywhere, a label at the beginning of its line.

        Neither does within `<think>`, where no action is read.
        """
        return self._marked(tail) and self._marked(spoken(self._decode(self.token_ids)).rstrip())

    def _marked(self, text: str) -> bool:
        """Whether a text ends with the marker; a label may have Markdown's marks around it."""
        if self._marker.endswith(">"):
            return text.endswith(self._marker)
        last = label(text.rpartition("\n")[2])
        return last is not None and f"{last.name}:" == self._marker.lower() and not last.text.strip()

    def _finish(self, reason: StopReason, text: str | None = None) -> None:
        self.reason = reason
        written = self.token_ids
        if reason == "end" and written and written[-1] in self.end_ids:
            written = written[:-1]
        self.text = self._decode(written) if text is None else text

    def _decode(self, token_ids: Sequence[int]) -> str:
        text: str = self._chat.tokenizer.decode(
            token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def generation(self) -> Generation:
        """The finished answer."""
        assert self.reason is not None
        return Generation(
            self.text,
            tuple(self.token_ids),
            tuple(self.logprobs),
            len(self.prompt),
            len(self.token_ids),
            self.reason,
        )


def choose(writers: Sequence[Writer], logits: Any) -> tuple[list[int], list[float]]:
    """The next token of each answer, and its log-probability under the model itself.

    Args:
        writers: n answers under way.
        logits: [n, vocabulary].
    """
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    tokens = logprobs.argmax(dim=-1)
    free = [i for i, w in enumerate(writers) if w.trie is None and w.sampling.temperature > 0]
    bound = [i for i, w in enumerate(writers) if w.trie is not None]
    for some, chosen_by in ((free, _sample), (bound, _among)):
        if some:
            rows = sent(some, logits.device)
            tokens[rows] = chosen_by(logprobs[rows], [writers[i] for i in some])
    chosen = logprobs.gather(1, tokens[:, None])[:, 0]
    return tokens.tolist(), chosen.tolist()


def _sample(logprobs: Any, writers: Sequence[Writer]) -> Any:
    """Inverse-CDF draws, one uniform number per row; rows do not see each other. [n, vocabulary] -> [n]."""
    if logprobs.device.type == "mps":  # Apple's GPUs have no float64
        return sent(_draw(logprobs.cpu(), writers), logprobs.device)
    return _draw(logprobs, writers)


def _draw(logprobs: Any, writers: Sequence[Writer]) -> Any:
    heat = sent([w.sampling.temperature for w in writers], logprobs.device)
    probs = torch.softmax(logprobs.double() / heat[:, None], dim=-1)
    uniform = sent(torch.tensor([w.uniform() for w in writers], dtype=probs.dtype), probs.device)
    if all(w.sampling.top_p >= 1 for w in writers):
        cumulative = probs.cumsum(-1)
        drawn = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)[:, 0]
        return drawn.clamp(max=probs.shape[-1] - 1)
    share = sent(torch.tensor([w.sampling.top_p for w in writers], dtype=probs.dtype), probs.device)
    ordered, index = probs.sort(dim=-1, descending=True, stable=True)
    cumulative = ordered.cumsum(-1)
    # The smallest set whose mass reaches top_p: up to and including the first token that takes it there.
    last = (cumulative < share[:, None]).sum(-1, keepdim=True).clamp(max=probs.shape[-1] - 1)
    mass = cumulative.gather(1, last)
    drawn = torch.searchsorted(cumulative, uniform[:, None] * mass, right=True).clamp(max=last)
    return index.gather(1, drawn)[:, 0]


def _among(logprobs: Any, writers: Sequence[Writer]) -> Any:
    """The next token along each writer's trie. [n, vocabulary] -> [n]."""
    options = [list(w.trie.children) for w in writers if w.trie is not None]
    widest = max(len(o) for o in options)
    index = sent([o + [o[0]] * (widest - len(o)) for o in options], logprobs.device)
    real = sent([[True] * len(o) + [False] * (widest - len(o)) for o in options], logprobs.device)
    among = logprobs.gather(1, index).masked_fill(~real, float("-inf"))
    picked = among.argmax(dim=-1)
    warm = [i for i, w in enumerate(writers) if w.sampling.temperature > 0]
    if warm:
        rows = sent(warm, among.device)
        picked[rows] = _sample(among[rows], [writers[i] for i in warm])
    return index.gather(1, picked[:, None])[:, 0]


def choose_whole(
    writer: Writer, options: Sequence[tuple[list[int], list[float]]]
) -> tuple[list[int], list[float]]:
    """One of the allowed actions, by the total log-probability of its tokens."""
    totals = torch.tensor([sum(logprobs) for _, logprobs in options])
    if writer.sampling.temperature > 0:
        return options[int(_sample(totals[None], [writer])[0])]
    return options[int(totals.argmax())]
