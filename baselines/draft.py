"""Guesses of how an answer goes on, from the answers written before it.

Speculative decoding (Leviathan et al. 2023, arXiv:2211.17192): a pass computes the next tokens that are
guessed along with the one that is due, and those that turn out right are kept. There a smaller model guesses;
here, as in prompt lookup decoding (Saxena 2023), counts of what followed the same words. The paper accepts a
guess with a probability that leaves the model's distribution as it is; here each token is chosen by its own
logits and its answer's own generator, in order, and the guesses after the first that differs are dropped. So
answers are those of decoding token by token, draws included; guesses change only how many passes it takes.

Left out: guesses among admissible actions (tokens that leave no choice cost no pass there as it is; more
gained nothing), guesses from the prompt's own words (on Household's games they gained less than earlier
answers did), several guesses for one place.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence

from prosegym.baselines.decoding import Writer

MOST = 8
"""Tokens guessed in one pass."""

WORTH = 1 / 6
"""How probable a guess must be: what a token more in a pass costs, as a share of the pass that a right guess
saves. About so much on a CPU: 1 million parameters, contexts of 600 tokens."""

HELD = 50_000
"""Contexts that are remembered, at most; then all are forgotten."""


class Drafter:
    """What followed which words in the answers so far."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.guessed = self.right = 0
        """Tokens guessed so far, and how many of those were right."""
        self._counts: dict[Hashable, dict[int, int]] = {}

    def guess(self, writer: Writer, most: int) -> list[int]:
        """The tokens that probably come next, at most so many and none that ends the answer."""
        found: list[int] = []
        chance, heard = 1.0, _heard(writer)
        while len(found) < most:
            token, share = self._likeliest(_contexts(writer, heard, writer.token_ids + found))
            chance *= share
            if chance < WORTH or token in writer.end_ids:
                break
            found.append(token)
        self.guessed += len(found)
        return found

    def learn(self, writer: Writer) -> None:
        """Count what a finished answer is made of."""
        if len(self._counts) > HELD:
            self._counts.clear()
        heard = _heard(writer)
        for end, token in enumerate(writer.token_ids):
            for context in _contexts(writer, heard, writer.token_ids[:end]):
                counts = self._counts.setdefault(context, {})
                counts[token] = counts.get(token, 0) + 1

    def _likeliest(self, contexts: Iterable[Hashable]) -> tuple[int, float]:
        """The token that came most often in the narrowest context where one did, and its share."""
        for context in contexts:
            if counts := self._counts.get(context):
                token = max(counts, key=counts.__getitem__)
                return token, counts[token] / (1 + sum(counts.values()))
        return -1, 0.0


def _heard(writer: Writer) -> tuple[str, str]:
    """How the last message begins, more and less of it."""
    said = writer.request.messages[-1].content if writer.request.messages else ""
    return said[:64], said[:16]


def _contexts(writer: Writer, heard: tuple[str, str], written: Sequence[int]) -> Iterator[Hashable]:
    """What the next token is guessed from, narrowest first.

    What was heard, with the answer so far; the last tokens, the prompt's included.
    """
    answer = tuple(written[-8:])
    for beginning in heard:
        yield beginning, answer
    last = answer[-3:] if len(answer) >= 3 else (*writer.prompt[len(answer) - 3 :], *answer)
    yield last
    yield last[-1:]
