"""BM25 over the few paragraphs of one question: the scores of `bm25.Index`, worked out beforehand.

An index of ten paragraphs takes a millisecond to make, a thousand times what a step takes. So the score that
each term adds to each paragraph is worked out once, when questions are installed, and a search only adds up.
The sums are not rounded to single precision: scores that are equal in `bm25.Index` can be told apart here.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import msgspec
import numpy as np

from prosegym.envs import bm25
from prosegym.envs.english import terms
from prosegym.envs.questions.records import Paragraph


def ranked_text(title: str, text: str) -> str:
    """What BM25 sees of a paragraph."""
    return f"{title}\n{text}"


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    terms: str
    """Sorted, one a line."""
    ends: bytes
    """For each term, where its paragraphs end in the next two; 32 bits each."""
    paragraphs: bytes
    """Numbers of paragraphs, 8 bits each."""
    scores: bytes
    """What the term adds to the score of each; single precision."""


class Ranking:
    """The paragraphs of one question, ready to be ranked."""

    def __init__(self, stored: bytes) -> None:
        """Read what `encode` made."""
        found = msgspec.msgpack.decode(stored, type=_Stored)
        words = found.terms.split("\n")
        self._places = dict(zip(words, range(len(words)), strict=True))
        self._ends, self._scores = array("I", found.ends), array("f", found.scores)
        self._paragraphs = found.paragraphs

    def search(self, query: str) -> list[int]:
        """Numbers of the paragraphs that share a term with the query, best first, then in their order."""
        sums: dict[int, float] = {}
        for term in terms(query):
            place = self._places.get(term)
            if place is not None:
                for at in range(self._ends[place - 1] if place else 0, self._ends[place]):
                    number = self._paragraphs[at]
                    sums[number] = sums.get(number, 0.0) + self._scores[at]
        return sorted(sums, key=lambda number: (-sums[number], number))


def encode(paragraphs: Sequence[Paragraph]) -> bytes:
    """The scores of every term in every paragraph, for `Ranking`."""
    index = bm25.Index(
        (f"{number:03d}", ranked_text(paragraph.title, paragraph.text))
        for number, paragraph in enumerate(paragraphs)
    )
    words, ends, numbers, scores = index.postings()
    stored = _Stored(
        "\n".join(words),
        ends.astype(np.uint32).tobytes(),
        numbers.astype(np.uint8).tobytes(),
        scores.tobytes(),
    )
    return msgspec.msgpack.encode(stored)
