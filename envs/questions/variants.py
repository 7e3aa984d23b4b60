"""The three ways in which published agents met the same questions, each with its own words.

`react`: WikiEnv of ReAct (Yao et al., ICLR 2023; ysymyth/ReAct). `reflexion`: QAEnv of Reflexion (Shinn et
al., NeurIPS 2023; noahshinn/reflexion), also Retroformer's, and ExpeL's but for its 7 steps, over langchain's
DocstoreExplorer.
`retroact`: RetroAct (Feng et al., NAACL 2025; XueyangFeng/RetroAct), which has no look-up and always finds.

They differ in the actions' spelling, in what a search shows, in whether a miss closes the open page, in
what a look-up goes through, and in the number of steps. Left out: Wikipedia's own guessing of titles, which
both live originals went through before they called something a miss (docs/envs/questions.md).
"""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import Any, NamedTuple, Protocol

from prosegym.envs.questions.corpus import Corpus, Page

MAX_ECHO = 4096
"""Characters of an action that an observation repeats at most."""


class Reply(NamedTuple):
    """What an action led to."""

    observation: str = ""
    opened: Page | None = None
    answer: str | None = None
    """The answer given, where the action was to finish; the observation is then the verdict."""
    invalid: bool = False


class Variant(Protocol):
    """The actions of one published environment, and what is open at the moment."""

    name: str
    steps: int
    """Steps after which an episode is cut off."""
    metric: str
    """The reward of the original: "em" or "f1"."""
    actions: str
    """What actions there are, for an agent that has never seen them."""
    refusal: str
    """What is said to an action that cannot even be read."""

    @abstractmethod
    def play(self, action: str, corpus: Corpus) -> Reply:
        """Do one action."""

    @abstractmethod
    def verdict(self, right: bool, score: float) -> str:
        """What is said to an answer."""

    @abstractmethod
    def search(self, title: str) -> str:
        """The action that searches for that title."""

    @abstractmethod
    def look_up(self, keyword: str) -> str | None:
        """The action that looks a keyword up on the open page; None where there is no such action."""

    @abstractmethod
    def finish(self, answer: str) -> str:
        """The action that gives that answer."""

    @abstractmethod
    def save(self) -> Any:
        """What is open, as something that later plays do not change."""

    @abstractmethod
    def load(self, state: Any) -> None:
        """Go back to what `save` returned."""


def echo(text: str) -> str:
    """The part of an action that is repeated."""
    return text if len(text) <= MAX_ECHO else text[:MAX_ECHO] + "..."


class ReAct:
    """WikiEnv: the page's first five sentences; look-up by sentence; a miss leaves the open page open."""

    name = "react"
    steps = 7
    metric = "em"
    actions = (
        "search[entity] opens the page of that title and shows its first sentences, or names similar titles; "
        "lookup[keyword] shows the next sentence of the open page that holds the keyword; "
        "finish[answer] gives the answer and ends the episode. Actions are in lower case."
    )
    refusal = "Invalid action: it cannot be read."

    SIMILAR = 5
    SENTENCES = 5

    def __init__(self) -> None:
        self._sentences: list[str] = []
        self._keyword: str | None = None
        self._found: list[str] = []
        self._next = 0

    def play(self, action: str, corpus: Corpus) -> Reply:
        """Do one action; spaces around it do not count."""
        action = action.strip()
        if action.endswith("]"):
            if action.startswith("search["):
                return self._search(action[len("search[") : -1], corpus)
            if action.startswith("lookup["):
                return Reply(self._lookup(action[len("lookup[") : -1]))
            if action.startswith("finish["):
                return Reply(answer=action[len("finish[") : -1])
            if action.startswith("think["):
                return Reply("Nice thought.")
        return Reply(f"Invalid action: {echo(action)}", invalid=True)

    def _search(self, entity: str, corpus: Corpus) -> Reply:
        page = corpus.page(entity)
        if page is None or any("may refer to:" in text for text in page.paragraphs):
            # Of a disambiguation, WikiEnv searches for "[entity]", which is the title of nothing.
            shown = f"[{entity}]" if page else entity
            return Reply(f"Could not find {echo(shown)}. Similar: {corpus.similar(entity, self.SIMILAR)}.")
        self._sentences = sentences(_HEADING.sub("", "\n".join(page.paragraphs)))
        self._keyword = None
        return Reply(" ".join(self._sentences[: self.SENTENCES]), page)

    def _lookup(self, keyword: str) -> str:
        if keyword != self._keyword:
            self._keyword, self._next = keyword, 0
            lower = keyword.lower()
            self._found = [sentence for sentence in self._sentences if lower in sentence.lower()]
        if self._next >= len(self._found):
            return "No more results.\n"
        self._next += 1
        return f"(Result {self._next} / {len(self._found)}) {self._found[self._next - 1]}"

    def verdict(self, right: bool, score: float) -> str:
        """The reward, as WikiEnv's wrapper prints it."""
        return f"Episode finished, reward = {score:.4g}\n"

    def search(self, title: str) -> str:
        """`search[title]`."""
        return f"search[{title}]"

    def look_up(self, keyword: str) -> str:
        """`lookup[keyword]`."""
        return f"lookup[{keyword}]"

    def finish(self, answer: str) -> str:
        """`finish[answer]`."""
        return f"finish[{answer}]"

    def save(self) -> Any:
        """The open page and how far its look-up is."""
        return self._sentences, self._keyword, self._found, self._next

    def load(self, state: Any) -> None:
        """Go back to it. The lists are never changed in place, so they may be shared."""
        self._sentences, self._keyword, self._found, self._next = state


_HEADING = re.compile(r"^==.*==$", re.M)  # of a live page: WikiEnv reads a page's <p> and <ul> alone


def sentences(page: str) -> list[str]:
    """WikiEnv's sentences: each line cut at ". ", and a full stop put to every piece.

    The last sentence of a line keeps its own full stop, and so ends in two.
    """
    return [
        piece.strip() + "."
        for line in page.split("\n")
        if line.strip()
        for piece in line.strip().split(". ")
        if piece.strip()
    ]


_CALL = re.compile(r"^(\w+)\[(.+)\]$")  # `.` admits no line break, `$` one at the very end


class Reflexion:
    """QAEnv: the page's first paragraph; look-up by paragraph; a miss closes the open page."""

    name = "reflexion"
    steps = 6
    metric = "em"
    actions = (
        "Search[entity] opens the page of that title and shows its first paragraph, or names similar titles; "
        "Lookup[keyword] shows the next paragraph of the open page that holds the keyword; "
        "Finish[answer] gives the answer and ends the episode. Actions begin with a capital."
    )
    refusal = "Invalid Action. Valid Actions are Lookup[<topic>] Search[<topic>] and Finish[<answer>]."

    SIMILAR = 10
    NO_PAGE = (
        "The last page Searched was not found, so you cannot Lookup a keyword in it. "
        "Please try one of the similar pages given."
    )

    def __init__(self) -> None:
        self._page: Page | None = None
        self._term = ""
        self._index = 0

    def play(self, action: str, corpus: Corpus) -> Reply:
        """Do one action; it must be spelled exactly."""
        call = _CALL.match(action)
        kind, argument = call.groups() if call else ("", "")
        if kind == "Search":
            return self._search(argument, corpus)
        if kind == "Lookup":
            return Reply(self._lookup(argument).strip())
        if kind == "Finish":
            return Reply(answer=argument)
        return Reply(self.refusal, invalid=True)

    def _search(self, term: str, corpus: Corpus) -> Reply:
        page = corpus.page(term)
        if page is None or page.ambiguous:  # of which langchain's docstore says the same
            self._page = None
            return Reply(f"Could not find [{echo(term)}]. Similar: {corpus.similar(term, self.SIMILAR)}")
        self._page = page
        return Reply(page.paragraphs[0].strip(), page)

    def _lookup(self, term: str) -> str:
        """DocstoreExplorer.lookup: its count belongs to the term and outlives a search for another page."""
        if self._page is None:
            return self.NO_PAGE
        lower = term.lower()
        self._index = self._index + 1 if lower == self._term else 0
        self._term = lower
        found = [paragraph for paragraph in self._page.paragraphs if lower in paragraph.lower()]
        if not found:
            return "No Results"
        if self._index >= len(found):
            return "No More Results"
        return f"(Result {self._index + 1}/{len(found)}) {found[self._index]}"

    def verdict(self, right: bool, score: float) -> str:
        """Whether it was right."""
        return f"Answer is {'CORRECT' if right else 'INCORRECT'}"

    def search(self, title: str) -> str:
        """`Search[title]`."""
        return f"Search[{title}]"

    def look_up(self, keyword: str) -> str:
        """`Lookup[keyword]`."""
        return f"Lookup[{keyword}]"

    def finish(self, answer: str) -> str:
        """`Finish[answer]`."""
        return f"Finish[{' '.join(answer.split())}]"

    def save(self) -> Any:
        """The open page and how far its look-up is."""
        return self._page, self._term, self._index

    def load(self, state: Any) -> None:
        """Go back to it."""
        self._page, self._term, self._index = state


class RetroAct:
    """RetroAct's searcher: the nearest paragraph, always; no look-up.

    The original ranks titles with a SimCSE encoder; here a title that does not match is ranked by BM25.
    """

    name = "retroact"
    steps = 5
    metric = "f1"
    actions = (
        "Search[entity] shows the paragraphs of the page nearest to the entity; "
        "Finish[answer] gives the answer and ends the episode."
    )
    refusal = "Invalid Action. Valid Actions are Search[<entity>] and Finish[<answer>]."

    def play(self, action: str, corpus: Corpus) -> Reply:
        """Do one action, in any case."""
        call = _CALL.match(action)
        kind, argument = (call[1].lower(), call[2]) if call else ("", "")
        if kind == "finish":
            return Reply(answer=argument)
        if kind != "search":
            return Reply(self.refusal, invalid=True)
        page = corpus.nearest(argument)
        if page is None:
            return Reply("No paragraph was found.")
        return Reply(" ".join(" ".join(page.paragraphs).split()), page)

    def verdict(self, right: bool, score: float) -> str:
        """Whether it was right."""
        return f"Answer is {'CORRECT' if right else 'INCORRECT'}"

    def search(self, title: str) -> str:
        """`Search[title]`."""
        return f"Search[{title}]"

    def look_up(self, keyword: str) -> None:
        """RetroAct's agents have none."""

    def finish(self, answer: str) -> str:
        """`Finish[answer]`."""
        return f"Finish[{' '.join(answer.split())}]"

    def save(self) -> Any:
        """Nothing is ever open."""
        return None

    def load(self, state: Any) -> None:
        """Nothing to go back to."""


VARIANTS: dict[str, type[Variant]] = {"react": ReAct, "reflexion": Reflexion, "retroact": RetroAct}
"""Every variant by its name."""
