"""Which words of a product's title are nouns: spaCy where it is installed, else a stated substitute."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
import re
from typing import Any, Protocol

from prosegym.envs.errors import ProsegymError, UnknownName

MODEL = "en_core_web_sm"
"""The spaCy model that WebShop's code loads."""

TAGGERS = ("auto", "spacy", "substitute")


class Tagger(Protocol):
    """Finds the nouns of a title."""

    name: str
    """What a run records."""

    def nouns(self, title: str) -> list[str]:
        """The nouns and proper nouns, lower-case, in order, repeats included."""
        ...


class Substitute:
    """Every word that begins with a letter is a noun, but for function words and a list of adjectives.

    Product titles are strings of capitalised words, nearly all of which spaCy calls nouns or proper nouns.
    """

    name = "substitute"

    @functools.lru_cache(1 << 14)  # noqa: B019  (there is one instance)
    def nouns(self, title: str) -> list[str]:  # noqa: D102
        return [word for word in _tokens(title.lower()) if word not in _NOT_NOUNS]


class SpaCy:
    """spaCy's part-of-speech tags NOUN and PROPN, as WebShop's code reads them."""

    def __init__(self) -> None:
        """Load the model.

        Raises:
            ProsegymError: spaCy or its model is not installed.
        """
        try:
            import spacy

            self._model: Any = spacy.load(MODEL)
        except (ImportError, OSError) as error:
            raise ProsegymError(
                f"tagger='spacy' needs spaCy and its model; run `pip install spacy` and "
                f"`python -m spacy download {MODEL}`, or use tagger='substitute' ({error})"
            ) from error
        version = importlib.metadata.version("spacy")
        self.name = f"spacy {version} {MODEL} {self._model.meta['version']}"
        self.nouns = functools.lru_cache(1 << 14)(self._nouns)

    def _nouns(self, title: str) -> list[str]:
        return [word.text.lower() for word in self._model(title) if word.pos_ in ("NOUN", "PROPN")]


@functools.cache
def tagger(name: str) -> Tagger:
    """The tagger of that name; "auto" is spaCy where it and its model are installed, else the substitute.

    Raises:
        UnknownName: not one of `TAGGERS`.
        ProsegymError: spaCy was asked for and is not installed.
    """
    if name not in TAGGERS:
        raise UnknownName("tagger", name, TAGGERS)
    if name == "auto":
        if importlib.util.find_spec("spacy") and importlib.util.find_spec(MODEL):
            return tagger("spacy")
        logging.getLogger("prosegym").warning(
            "WebShop's title reward uses the substitute tagger: spaCy's %s is not installed "
            "(give tagger='substitute' to say that this is meant)",
            MODEL,
        )
        return tagger("substitute")
    return SpaCy() if name == "spacy" else Substitute()


_tokens = re.compile(r"\b[^\W\d_]\w*").findall  # what begins with a letter; hyphens and apostrophes divide

_NOT_NOUNS = frozenset(
    # function words
    "a an the this that these those my your his her its our their some any each every all both no not "
    "and or but nor so if as than of in on at by for from to with without into onto over under up down "
    "out off about above across after against along among around before behind below beneath beside "
    "between beyond during except inside like near outside per since through throughout toward until "
    "upon via within i you he she it we they me him us them who which what when where how why there "
    "here is are was were be been being am do does did have has had can could will would shall should "
    "may might must very more most less least too also only just even still ever never always now then "
    "s t d ll re ve "
    # adjectives that titles are full of
    "new old big small large great good best better nice cute pretty beautiful perfect ideal easy quick "
    "fast slow high low long short wide narrow thick thin heavy light soft hard warm cool cold hot dry "
    "wet clean fresh natural organic free full empty double single adjustable removable portable "
    "foldable reusable washable breathable comfortable stretchy stretchable waterproof durable elegant "
    "casual formal classic vintage modern sexy funny loose slim tight deep round square flat straight "
    "left right black white red blue green yellow pink purple grey gray brown beige compatible "
    "available different various many much several such same other own extra mini multiple professional "
    "personal electric wireless automatic "
    .split()
)  # fmt: skip
