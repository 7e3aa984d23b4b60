"""How Lucene 8 turns English text into index terms: word breaks, possessives, stop words, stems.

The chain is that of Lucene's EnglishAnalyzer, which Anserini's DefaultEnglishAnalyzer uses: StandardTokenizer
(UAX #29 word breaks, single Han and Hiragana characters, emoji), EnglishPossessiveFilter, LowerCaseFilter,
StopFilter with Lucene's 33 stop words, PorterStemFilter. Lucene 8 knows Unicode 9; later characters are what
`regex` knows them for. Lucene 9 knows Unicode 12 and takes a skin tone into the token before it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these "
    "they this to was will with".split()
)

MAX_TOKEN = 255
"""Longest token, in characters; a longer word is cut into pieces of this length."""

# Characters that join what stands on both sides of them (UAX #29, Unicode 9, as StandardTokenizer has it).
_MID_LETTER = "'.:\u00b7\u02d7\u0387\u05f4\u2018\u2019\u2024\u2027\ufe13\ufe52\ufe55\uff07\uff0e\uff1a"
_MID_NUMBER = (
    "',.;\u037e\u0589\u060c\u060d\u066c\u07f8\u2018\u2019\u2024\u2044"
    "\ufe10\ufe14\ufe50\ufe52\ufe54\uff07\uff0c\uff0e\uff1b"
)

# What had another class in Unicode 9. No letters; marks, which belong to the character before them, where now
# there are numbers and letters; what did not belong to the character before it, the skin tones above all; and
# pictures of several people, which did not take one.
_NOT_WORD = (
    "\u00b8\u02c2-\u02c5\u02d2-\u02d7\u02de\u02df\u02e5-\u02eb\u02ed\u02ef-\u02ff\u055a-\u055c\u055e\u058a"
    "\ua708-\ua716\ua720\ua721\ua789\ua78a\uab5b"
)
_FORMAT = "\u0600-\u0605\u06dd\u070f\u08e2\u1cf2\u1cf3\U000110bd"
_NOT_EXTEND = "\U0001f3fb-\U0001f3ff\U000111c9"
_NOT_BASE = "\U0001f46a-\U0001f46d\U0001f46f\U0001f48f\U0001f491\U0001f91d\U0001f93c"

# Extended_Pictographic as of Emoji 12 to 16. Later versions take characters out, Lucene keeps them.
_PICTURE = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u2388\u23cf"
    "\u23e9-\u23f3\u23f8-\u23fa\u24c2\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u2605\u2607-\u2612"
    "\u2614-\u2685\u2690-\u2705\u2708-\u2712\u2714\u2716\u271d\u2721\u2728\u2733\u2734\u2744\u2747\u274c\u274e"
    "\u2753-\u2755\u2757\u2763-\u2767\u2795-\u2797\u27a1\u27b0\u27bf\u2934\u2935\u2b05-\u2b07\u2b1b\u2b1c"
    "\u2b50\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001f0ff\U0001f10d-\U0001f10f\U0001f12f"
    "\U0001f16c-\U0001f171\U0001f17e\U0001f17f\U0001f18e\U0001f191-\U0001f19a\U0001f1ad-\U0001f1e5"
    "\U0001f201-\U0001f20f\U0001f21a\U0001f22f\U0001f232-\U0001f23a\U0001f23c-\U0001f23f\U0001f249-\U0001f3fa"
    "\U0001f400-\U0001f53d\U0001f546-\U0001f64f\U0001f680-\U0001f6ff\U0001f774-\U0001f77f\U0001f7d5-\U0001f7ff"
    "\U0001f80c-\U0001f80f\U0001f848-\U0001f84f\U0001f85a-\U0001f85f\U0001f888-\U0001f88f\U0001f8ae-\U0001f8ff"
    "\U0001f90c-\U0001f93a\U0001f93c-\U0001f945\U0001f947-\U0001faff\U0001fc00-\U0001fffd"
)


def _words(
    letter: str, number: str, mid_letter: str, mid_number: str, joiner: str, ending: str = "", other: str = ""
) -> str:
    """Pattern of a word: runs of letters and numbers, held together by what may stand inside them."""
    letters = rf"(?:{letter})+(?:{mid_letter}(?:{letter})+)*{ending}"
    numbers = rf"(?:{number})+(?:{mid_number}(?:{number})+)*"
    run = rf"(?:(?:{letters}|{numbers})+{other})"
    return rf"(?:{joiner})*{run}(?:(?:{joiner})+{run})*(?:{joiner})*"


# Joiners without a word are matched too: they are no token, but the search must pass them in one go.
_ascii = re.compile(_words("[A-Za-z]", "[0-9]", "[':.]", "[',.;]", "_") + "|_+").findall


@functools.cache
def _unicode() -> Callable[[str], list[str]]:
    """Finds the tokens of any text, by the grammar of Lucene's StandardTokenizerImpl."""
    import regex

    marks = rf"[\p{{WB=Extend}}--[{_NOT_EXTEND}]]\p{{WB=Format}}{_FORMAT}"
    more = rf"[{marks}\p{{WB=ZWJ}}]*+"  # belongs to the character before it (UAX #29, WB4)
    hebrew, joiner = r"\p{WB=Hebrew_Letter}", rf"\p{{WB=ExtendNumLet}}{more}"
    after_hebrew = rf"(?<={hebrew}[{marks}\p{{WB=ZWJ}}]*)"
    words = _words(
        rf"[[\p{{WB=ALetter}}{hebrew}]--[{_NOT_WORD}{_FORMAT}]]{more}",
        rf"[[\p{{WB=Numeric}}\uff10-\uff19]--[{_NOT_WORD}{_FORMAT}]]{more}",
        rf"(?:[{_MID_LETTER}]{more}|{after_hebrew}\"{more}(?={hebrew}))",
        rf"[{_MID_NUMBER}]{more}",
        joiner,
        rf"(?:{after_hebrew}'{more})?",
        rf"|(?:\p{{WB=Katakana}}{more})+",
    )
    # as `more`, but for what chooses a presentation, and a joiner with another picture after it
    some = rf"(?:[[{marks}]--[\ufe0e\ufe0f]]|\u200d(?![{_PICTURE}\p{{Emoji_Modifier}}]))*"
    plain = some + "+"
    base = rf"[\p{{Emoji_Modifier_Base}}--[{_NOT_BASE}]]"
    picture = (
        rf"(?:\u200d*+[{_PICTURE}--\p{{Emoji_Modifier}}]{plain}\ufe0f?"
        rf"|(?:\u200d*+{base}{plain})?\p{{Emoji_Modifier}}{plain})"
    )
    emoji = (
        rf"(?:\u200d*+{base}{plain}\p{{Emoji_Modifier}}{plain}|{picture})"
        rf"(?:[\U000e0020-\U000e007e]+\U000e007f|(?:\u200d{picture})*)"
    )
    flag = rf"(?:\p{{WB=Regional_Indicator}}{more}){{2}}"
    key_cap = rf"[#*]{some}\ufe0f?\u20e3{plain}"
    asian = rf"(?:\p{{LB=SA}}{more})+|[\p{{Script=Han}}\p{{Script=Hiragana}}]{more}"
    lone = rf"(?:(?:{joiner})+|\u200d++)(*SKIP)(*FAIL)"
    pattern = "|".join((words, emoji, flag, key_cap, asian, lone))
    return regex.compile(pattern, regex.VERSION1).findall  # type: ignore[no-any-return]


class _Terms(dict[str, str]):
    """The term of each token met so far; "" for a token that is dropped."""

    def __missing__(self, token: str) -> str:
        if len(self) > 1 << 20:  # a bound on memory: vocabularies of large collections go on growing
            self.clear()
        term = self[token] = _term(token)
        return term


_terms = _Terms()


def terms(text: str) -> list[str]:
    """The index terms of a text, in order, repeats included."""
    find = _ascii if text.isascii() else _unicode()
    out = []
    for token in find(text):
        if term := _terms[token]:
            out.append(term)
        elif len(token) > MAX_TOKEN:
            while token:
                pieces = find(token[:MAX_TOKEN])
                if not pieces:
                    break
                out += [term for piece in pieces if (term := _terms[piece])]
                token = token[MAX_TOKEN:]
    return out


def _term(token: str) -> str:
    if len(token) > MAX_TOKEN or not token.strip("_"):
        return ""
    if len(token) >= 2 and token[-1] in "sS" and token[-2] in "'\u2019\uff07":
        token = token[:-2]
    if token.isascii():
        token = token.lower()
    else:  # Java lower-cases character by character, Python by context (final sigma) and into several
        token = "".join(c.lower()[0] for c in token)
    return "" if token in STOP_WORDS else stem(token)


# Porter's stemmer (An algorithm for suffix stripping, Program 14.3, 1980) with the two changes its author
# made later (bli -> ble, logi -> log), as in Lucene's PorterStemmer.

_STEP_2 = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "bli": "ble",
    "alli": "al", "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate", "ator": "ate",
    "alism": "al", "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al", "iviti": "ive",
    "biliti": "ble", "logi": "log",
}  # fmt: skip
_STEP_3 = {
    "icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": "",
}  # fmt: skip
_STEP_4 = (
    "al ance ence er ic able ible ant ement ment ent sion tion ou ism ate iti ous ive ize".split()
)  # the longest first where one ends another


def stem(word: str) -> str:
    """The Porter stem of a lower-case word; words of one or two characters are their own."""
    if len(word) <= 2:
        return word
    # 1a: plurals
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    # 1b: past tenses and participles
    if word.endswith("eed"):
        if _measure(word[:-3]) > 0:
            word = word[:-1]
    elif word.endswith(("ed", "ing")):
        rest = word[: -2 if word.endswith("ed") else -3]
        if "v" in _shape(rest):
            word = _mend(rest)
    # 1c
    if word.endswith("y") and "v" in _shape(word[:-1]):
        word = word[:-1] + "i"
    word = _replace(word, _STEP_2)
    word = _replace(word, _STEP_3)
    # 4: what is left of a suffix goes when the stem is long enough
    for suffix in _STEP_4:
        if word.endswith(suffix):
            rest = word[: -len(suffix)] + (suffix[0] if suffix in ("sion", "tion") else "")
            if _measure(rest) > 1:
                word = rest
            break
    # 5: a final e, a double l
    if word.endswith("e"):
        measure = _measure(word)
        if measure > 1 or measure == 1 and not _ends_cvc(word[:-1]):
            word = word[:-1]
    if word.endswith("ll") and _measure(word) > 1:
        word = word[:-1]
    return word


def _mend(rest: str) -> str:
    """What a word becomes after it has lost its -ed or -ing."""
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if len(rest) > 1 and rest[-1] == rest[-2] and _shape(rest)[-1] == "c":
        return rest if rest[-1] in "lsz" else rest[:-1]
    return rest + "e" if _measure(rest) == 1 and _ends_cvc(rest) else rest


def _replace(word: str, endings: dict[str, str]) -> str:
    for suffix, other in endings.items():
        if word.endswith(suffix):
            rest = word[: -len(suffix)]
            return rest + other if _measure(rest) > 0 else word
    return word


def _shape(word: str) -> str:
    """v for each vowel and c for each consonant; y is a vowel after a consonant."""
    shape = ""
    for letter in word:
        vowel = letter in "aeiou" or letter == "y" and shape[-1:] == "c"
        shape += "v" if vowel else "c"
    return shape


def _measure(word: str) -> int:
    """Porter's m: how often a consonant follows a vowel."""
    return _shape(word).count("vc")


def _ends_cvc(word: str) -> bool:
    return _shape(word).endswith("cvc") and word[-1] not in "wxy"
