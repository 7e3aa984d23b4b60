"""InterCode's reward: how much of the gold answer was found, and in how nearly its order."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Literal

Kendall = Literal["upstream", "retroact", "none"]


def kendall_tau_b(x: list[str], y: list[str]) -> float:
    """Kendall's tau-b of two equally long lists of texts; NaN where either is constant.

    It correlates the texts that stand at equal places, by their alphabetical ranks: 1 for equal lists, but
    not -1 for a reversed one unless that list was in alphabetical order.

    As scipy.stats.kendalltau computes it (Kendall 1945: ties count against neither side).
    """
    n = len(x)
    pairs = sorted(zip(_ranks(x), _ranks(y), strict=True))
    total = n * (n - 1) // 2
    x_ties, y_ties = (_tied(Counter(p[i] for p in pairs)) for i in (0, 1))
    both = _tied(Counter(pairs))
    if n < 2 or x_ties == total or y_ties == total:
        return math.nan
    # Among pairs with different x, count those whose y goes the other way: inversions of y in x's order,
    # equal x being in rising y order and so adding none.
    discordant = _inversions([p[1] for p in pairs])
    balance = total - x_ties - y_ties + both - 2 * discordant
    return min(1.0, max(-1.0, balance / math.sqrt(total - x_ties) / math.sqrt(total - y_ties)))


def _ranks(values: list[str]) -> list[int]:
    order = {value: i for i, value in enumerate(sorted(set(values)))}
    return [order[value] for value in values]


def _tied(counts: Counter[Any]) -> int:
    return sum(c * (c - 1) // 2 for c in counts.values())


def _inversions(values: list[int]) -> int:
    # A Fenwick tree over ranks; tree[i] counts values seen.
    size = max(values, default=0) + 1
    tree = [0] * (size + 1)
    found = 0
    for seen, value in enumerate(values):
        i, not_above = value + 1, 0
        while i:
            not_above += tree[i]
            i &= i - 1
        found += seen - not_above
        i = value + 1
        while i <= size:
            tree[i] += 1
            i += i & -i
    return found


def reward(answer: list[str], gold: list[str], kendall: Kendall = "upstream") -> float:
    """The reward of an answer, from its rows and the gold answer's, each as text.

    IoU of the two multisets of rows (as texts), times Kendall's tau of the common rows in both orders,
    rounded to two digits; the IoU alone where tau is undefined; 1 where both are empty. With
    `kendall="retroact"` the factor is (tau + 1) / 2, with "none" there is none (the form that InterCode's
    published GPT-4 episodes were scored with). Upstream's value lies in [-1, 1].
    """
    if answer == gold:
        return 1.0
    counts, wanted = Counter(answer), Counter(gold)
    union = counts | wanted
    if not union:
        return 1.0
    common = counts & wanted
    overlap = sum(common.values()) / sum(union.values())
    if not common or kendall == "none":
        return overlap
    tau = kendall_tau_b(_common(answer, common), _common(gold, common))
    if math.isnan(tau):
        return overlap
    factor = tau if kendall == "upstream" else (tau + 1) / 2
    return round(factor * overlap * 100) / 100


def _common(rows: list[str], common: Counter[str]) -> list[str]:
    left = Counter(common)
    out = []
    for row in rows:
        if left[row] > 0:
            left[row] -= 1
            out.append(row)
    return out
