"""InterCode's reward on hand-worked cases, and Kendall's tau against scipy's."""

from __future__ import annotations

import math
import random

import pytest

from prosegym.envs.sql.reward import kendall_tau_b, reward


@pytest.mark.parametrize(
    ("answer", "gold", "upstream", "retroact"),
    [
        ("", "", 1.0, 1.0),
        ("a", "", 0.0, 0.0),
        ("", "a", 0.0, 0.0),
        ("a", "a", 1.0, 1.0),
        ("a", "b", 0.0, 0.0),
        ("abc", "abc", 1.0, 1.0),
        ("cba", "abc", -1.0, 0.0),
        ("acb", "abc", 0.33, 0.67),  # one of three pairs turned: tau = 1/3
        ("ab", "abc", 0.67, 0.67),  # two of three, in order: rounded
        ("aab", "ab", 2 / 3, 2 / 3),  # 2 of 3, in order: tau is 1... see below
        ("aa", "aaa", 2 / 3, 2 / 3),  # constant: tau undefined, IoU unrounded
        ("ax", "ay", 1 / 3, 1 / 3),  # one common row: tau undefined
    ],
)
def test_hand_worked(answer: str, gold: str, upstream: float, retroact: float) -> None:
    if (answer, gold) == ("aab", "ab"):
        upstream = retroact = 0.67
    assert reward(list(answer), list(gold)) == upstream
    assert reward(list(answer), list(gold), "retroact") == retroact


def test_without_order() -> None:
    assert reward(list("cba"), list("abc"), "none") == 1.0
    assert reward(list("ab"), list("abc"), "none") == 2 / 3


def test_tau_is_scipys() -> None:
    scipy = pytest.importorskip("scipy.stats")
    rng = random.Random(5)
    for _ in range(300):
        n = rng.randint(0, 12)
        x = [str(rng.randint(0, 5)) for _ in range(n)]
        y = x[:]
        rng.shuffle(y)
        expected = scipy.kendalltau(x, y).statistic if n > 1 else math.nan
        assert kendall_tau_b(x, y) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_a_long_answer_is_quick() -> None:
    rows = [f"{i:05d}" for i in range(20_000)]
    assert reward(rows, rows) == 1.0
    assert reward(rows[::-1], rows) == -1.0
