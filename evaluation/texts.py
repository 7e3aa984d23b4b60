"""Which texts a submission may hold: what a page can show as it is, and no more of it than a page should."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

MAX_DEPTH = 8
"""Deepest nesting of the conditions."""
MAX_TEXT = 4000
"""Longest text in them, in characters."""
MAX_NAME = 300
"""Longest name in them, and of an agent."""

_FORBIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Controls, invisible and direction-changing characters, surrogates, private use, odd line ends."""
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and marks that show nothing, either (Default_Ignorable_Code_Point), and the blank of Braille."""
_ALIKE = {"ARMENIAN", "CHEROKEE", "COPTIC", "CYRILLIC", "GEORGIAN", "GREEK", "LISU"}
"""Scripts with letters that look like Latin ones."""
_SYMBOLS = "βδζθλμξπσφψω"
"""Greek letters that look like none, and may stand before a Latin word, as in μTransfer."""


def unplain(text: str, *, lines: bool = False) -> str | None:
    """Why a page could not show a text as it is; None where it could.

    Controls, invisible or reordering characters, letters of look-alike scripts mixed in one word, towers of
    accents, another than the composed form. Markup is plain text here: the page escapes it.

    Args:
        text: the text.
        lines: whether it may have several lines.
    """
    if text.isascii() and text.isprintable():
        return None
    if unicodedata.normalize("NFC", text) != text:
        return "is not in Unicode's composed form (NFC)"
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        if _UNSEEN.match(character) or (category in _FORBIDDEN and not (lines and character == "\n")):
            return f"holds the character U+{ord(character):04X}, which cannot be seen"
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > 2:
            return "heaps accents on one letter"
    for word in re.findall(r"\w+", text):
        letters = word[1:] if word[0] in _SYMBOLS else word
        scripts = {unicodedata.name(c, "?").split()[0] for c in letters if c.isalpha()}
        if "LATIN" in scripts and scripts & _ALIKE or len(scripts & _ALIKE) > 1:
            return f"holds the word {word[:80]!r}, which mixes letters of scripts that look alike"
    return None


def unfit(value: Any, where: str, depth: int = MAX_DEPTH) -> Iterator[str]:
    """What conditions, as JSON has them, may not hold in a submission: each where it is, with its mend."""
    if depth == 0:
        yield f"{where} nests deeper than {MAX_DEPTH}; give it as one text"
    elif isinstance(value, str):
        if len(value) > MAX_TEXT:
            count = f"{len(value)} characters, and {MAX_TEXT} are allowed"
            yield f"{where} holds a text of {count}; give its digest"
        elif fault := unplain(value, lines=True):
            yield f"{where} {fault}; take it out, or give the text's digest"
    elif isinstance(value, dict):
        for name, inner in value.items():
            if len(name) > MAX_NAME:
                yield f"{where} holds a name of {len(name)} characters, and {MAX_NAME} are allowed"
            elif fault := unplain(name):
                yield f"{where}: a name in it {fault}"
            else:
                yield from unfit(inner, f"{where}.{name[:80]}", depth - 1)
    elif isinstance(value, list):
        for inner in value:
            yield from unfit(inner, where, depth - 1)
    elif isinstance(value, (int, float)) and not -(2**63) <= value <= 2**64:
        yield f"{where} holds a number out of range"


def unfit_agent(name: str, conditions: Mapping[str, Any], where: str = "conditions") -> str | None:
    """The first thing for which an agent's runs cannot be submitted, with its mend; None where they can.

    Args:
        name: the agent's.
        conditions: what it says of itself.
        where: what these are called.
    """
    if len(name) > MAX_NAME:
        return f"the agent's name has {len(name)} characters, and {MAX_NAME} are allowed"
    if fault := unplain(name):
        return f"the agent's name {fault}"
    return next(unfit(msgspec.json.decode(msgspec.json.encode(conditions)), where), None)
