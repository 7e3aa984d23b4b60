"""Exact match and F1 of an answer, by the definitions of the official evaluation scripts.

hotpot_evaluate_v1.py (also 2WikiMultihopQA's) and MuSiQue's metrics/answer.py share the normalisation;
only the former has the yes/no/noanswer rule.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

NO_ANSWER = "noanswer"
"""What HotpotQA's script calls the answer to a question that has none."""

CLOSED = frozenset({"yes", "no", NO_ANSWER})
"""Answers that are right or wrong as a whole: a partial overlap with them counts nothing."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(a|an|the)\b")


def normalize(answer: str) -> str:
    """Lower case, without ASCII punctuation, then without articles, single-spaced: in that order."""
    return " ".join(_ARTICLE.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, golds: Sequence[str]) -> bool:
    """Whether the answer is one of the right ones, normalised."""
    given = normalize(answer)
    return any(given == normalize(gold) for gold in golds)


def f1(answer: str, golds: Sequence[str], *, closed: bool = True) -> float:
    """Highest F1 of the answer's words against any right answer, in [0, 1].

    F1 = 2PR / (P + R), where P and R are the shares of the answer's and of the right answer's words
    (with repetition) that they have in common.

    Args:
        answer: what was answered.
        golds: the right answer and its aliases.
        closed: whether yes, no and noanswer must match as a whole (HotpotQA, 2WikiMultihopQA).
    """
    return max((_f1(normalize(answer), normalize(gold), closed) for gold in golds), default=0.0)


def _f1(given: str, gold: str, closed: bool) -> float:
    if closed and given != gold and (given in CLOSED or gold in CLOSED):
        return 0.0
    given_words, gold_words = given.split(), gold.split()
    if not (given_words and gold_words):
        # MuSiQue's script: two empty answers agree. HotpotQA's finds no common word, hence 0.
        return 0.0 if closed else float(given_words == gold_words)
    common = sum((Counter(given_words) & Counter(gold_words)).values())
    precision, recall = common / len(given_words), common / len(gold_words)
    return 2 * precision * recall / (precision + recall) if common else 0.0
