"""Exact match and F1 on cases worked by hand from the official scripts' definitions."""

from __future__ import annotations

import pytest

from prosegym.envs.questions.metrics import exact_match, f1, normalize


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("The  Quick, brown FOX!", "quick brown fox"),
        ("an apple a day", "apple day"),
        ("A.B.C.", "abc"),  # punctuation goes first, so that "A." is no article
        ("a-the-b", "atheb"),
        ("theatre", "theatre"),
        ("the", ""),
        ("\u201cquoted\u201d", "\u201cquoted\u201d"),  # only ASCII punctuation goes
        ("Beyonc\u00c9", "beyonc\u00e9"),
        ("1,234", "1234"),
        ("", ""),
    ],
)
def test_normalisation(raw: str, normal: str) -> None:
    assert normalize(raw) == normal


def test_exact_match_takes_any_of_the_right_answers() -> None:
    assert exact_match("the Beatles", ["Beatles"])
    assert exact_match("U.S.", ["United States", "US"])
    assert not exact_match("Beatle", ["Beatles"])
    assert not exact_match("", ["Beatles"])
    assert not exact_match("Beatles", [])


def test_f1_by_hand() -> None:
    # answer: {new york city} of which 2 are right; right: {new york}: P = 2/3, R = 1, F1 = 4/5
    assert f1("New York City", ["new york"]) == pytest.approx(0.8)
    # a repeated word counts as often as it stands on both sides: P = 2/3, R = 2/2
    assert f1("bob bob bob", ["bob bob"]) == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))
    assert f1("York New", ["New York"]) == 1.0
    assert f1("Paris", ["London"]) == 0.0
    # the best of the aliases: P = R = 1/2 against the second
    assert f1("Elvis Costello", ["Lennon", "Elvis Presley"]) == pytest.approx(0.5)


@pytest.mark.parametrize("word", ["yes", "No", "noanswer"])
def test_yes_no_and_noanswer_match_as_a_whole(word: str) -> None:
    assert f1(word, [f"{word} sir"]) == 0.0 and f1(f"{word} sir", [word]) == 0.0
    assert f1(word, [word.upper()]) == 1.0
    # MuSiQue's script has no such rule: P = 1, R = 1/2
    assert f1(word, [f"{word} sir"], closed=False) == pytest.approx(2 / 3)


def test_empty_answers() -> None:
    assert f1("", ["x"]) == 0.0 and f1("the", ["a"]) == 0.0
    assert f1("the", ["a"], closed=False) == 1.0
    assert exact_match("the", ["a"])
