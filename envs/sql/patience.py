"""How long a regular expression may take, known before it is tried: by no clock, which machines differ in."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Protocol

if sys.version_info >= (3, 11):  # it has no public name
    from re import _parser as parser  # type: ignore[attr-defined]
else:
    import sre_parse as parser


class Spend(Protocol):
    """Counts that much work; ends the statement with that refusal where it is too much."""

    def __call__(self, work: int, refusal: str, pattern: str = "", /) -> None:
        """`pattern` has to be read, too, if it is the statement's first use of it."""


TOO_LONG = "Query execution was interrupted, maximum statement execution time exceeded"
TOO_SLOW = "Timeout exceeded in regular expression match."
"""MySQL's, at its `regexp_time_limit`."""

READ = 1000
"""Steps that reading a pattern takes for each of its characters."""
_RUN = 16
"""Characters of a fixed text that are compared in about one step."""
_SLACK = 256
"""The bound is far above what nearly every search takes: a share of it is counted."""


@lru_cache(maxsize=256)
def effort(pattern: str, length: int) -> int:
    """Steps that seeking the pattern in a text of that length may take: a share of their upper bound.

    Raises:
        re.error: it is no pattern.
    """
    tree = _parsed(pattern)
    return int(2 ** min(_ways(tree, length, 1) + _run(tree, 1, length), 60.0)) // _SLACK


@lru_cache(maxsize=16)
def _parsed(pattern: str) -> Any:
    return parser.parse(pattern, re.I)


def _ways(tree: Any, n: int, open_repeats: int = 0) -> float:
    """Log2 of the number of ways in which a matcher may try to spread the tree over n characters.

    k open repeats side by side share n characters in C(n + k, k) ways; a repeat of what itself has several
    ways decides anew at every character. Where a match begins is as open as a repeat.
    """
    bits = 0.0
    for op, arg in tree:
        name = str(op)
        if name.endswith("_REPEAT"):
            low, high, body = arg
            high = min(int(high), n + 1)
            inner = _ways(body, n)
            bits += _run(body, low, n)
            if inner and high > 1:
                bits += min(high * inner, (n + 1) * math.log2(1 + _choices(body)))
            elif high - low >= n:
                open_repeats += 1
            else:
                bits += inner
                bits += math.log2(max(1, high - low + 1))
        elif name == "BRANCH":
            branches = arg[1]
            bits += max(_ways(branch, n) for branch in branches)
            bits += 0.0 if _told_apart(branches) else math.log2(len(branches))
        elif name == "GROUPREF":
            bits += math.log2(n + 1)
        else:
            bits += sum(_ways(body, n) for body in _bodies(arg))
    return bits + math.log2(math.comb(n + open_repeats, open_repeats))


def _run(tree: Any, times: int, n: int) -> float:
    """Log2 of the steps that a fixed text takes, which is compared at every place anew."""
    return math.log2(max(1.0, min(tree.getwidth()[0] * times, n) / _RUN))


def _choices(tree: Any) -> int:
    """Repeats and branches below."""
    own = sum(str(op).endswith("_REPEAT") or str(op) == "BRANCH" for op, _ in tree)
    return own + sum(_choices(body) for _, arg in tree for body in _bodies(arg))


def _told_apart(branches: list[Any]) -> bool:
    """Whether the first character says which of the branches it can be."""
    first = [chr(b[0][1]).lower() for b in branches if len(b) and str(b[0][0]) == "LITERAL"]
    return len(set(first)) == len(branches)


def _bodies(arg: Any) -> Iterator[Any]:
    if isinstance(arg, parser.SubPattern):
        yield arg
    elif isinstance(arg, (tuple, list)):
        for part in arg:
            yield from _bodies(part)
