"""What WebShop and MiniShop share: a Gymnasium environment over a session, and its experts."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from prosegym.envs.core import CONTROL, Expert, Outcome, Task, TextEnv
from prosegym.envs.english import terms
from prosegym.envs.errors import UnknownName
from prosegym.envs.webshop.catalogue import Catalogue, Goal, Product
from prosegym.envs.webshop.engine import LABEL, OBSERVATIONS, PER_PAGE, Session, public
from prosegym.envs.webshop.nouns import tagger as find_tagger
from prosegym.envs.webshop.reward import same_option


class Shop(TextEnv):
    """A web shop. A family supplies task lists and, for each task, a catalogue and a goal."""

    instruction = (
        "You are shopping on a web site. You are told what to buy; find the product that fits best, choose "
        "its options, and buy it.\n"
        "Actions:\n"
        "search[KEYWORDS]: search the shop; on the search page, and from any other page too\n"
        "click[TEXT]: click a button, a product id or an option that the page shows, by its text\n"
        "click[buy now] on a product's page ends the episode. An action that the page does not offer changes "
        "nothing."
    )
    experts = {"oracle": True, "shopper": False}
    max_steps = 15
    observations: ClassVar[tuple[str, ...]] = tuple(OBSERVATIONS)

    def __init__(self, *, observation: str = "text", tagger: str = "auto", **base: Any) -> None:
        """Make the environment; nothing is loaded before the first reset.

        Args:
            observation: "text" (visible texts joined by [SEP]), "text_rich" (buttons, and what has been
                clicked, are marked) or "structured" (the page as JSON).
            tagger: finds the nouns of titles for the reward: "spacy", "substitute", or "auto", which is spaCy
                where it and its model are installed; `conditions()` says which it is.
            base: the arguments of every text environment.
        """
        super().__init__(**base)
        if observation not in OBSERVATIONS:
            raise UnknownName("observation", observation, OBSERVATIONS)
        self.observation = observation
        self._show = OBSERVATIONS[observation]
        self._tagger = find_tagger(tagger)
        self._session: Session | None = None

    @abstractmethod
    def _goal(self, task: Task) -> tuple[Catalogue, Goal, str]:
        """The catalogue and goal of a task, and the name of its session."""

    def conditions(self) -> Mapping[str, Any]:
        """Which tagger scores titles."""
        return {"tagger": self._tagger.name}

    @property
    def session(self) -> Session:
        """The session of the present episode."""
        assert self._session is not None
        return self._session

    def _begin(self, task: Task) -> Outcome:
        self._session = Session(*self._goal(task), self._tagger)
        return Outcome(self._show(self._session))

    def _answer(self, action: str) -> Outcome:
        # What never reaches the shop is answered as the shop answers what it cannot read: by the same page.
        outcome = super()._answer(action)
        return outcome._replace(observation=self._show(self.session)) if outcome.invalid else outcome

    def _play(self, action: str) -> Outcome:
        session = self.session
        if not session.do(action):
            return self._last._replace(invalid=True)
        bought = session.state.page == "done"
        worth = session.state.reward if bought else session.reward()
        return Outcome(self._show(session), worth if bought else 0.0, worth, bought and worth == 1.0, bought)

    def _admissible(self) -> list[str]:
        session = self.session
        if session.state.page == "search":
            return [f"search[{query_of(session.goal.instruction)}]"]
        return [f"click[{name}]" for name in session.view.clickable if _can_be_clicked(name)]

    def _expert(self, name: str) -> Expert:
        return Oracle(self.session) if name == "oracle" else Shopper(self.session)

    def _save(self) -> Any:
        return self.session.state

    def _load(self, state: Any) -> None:
        assert self._task is not None
        catalogue, goal, name = self._goal(self._task)
        if self._session is None or self._session.goal != goal:
            self._session = Session(catalogue, goal, name, self._tagger)
        self._session.state = state

    def close(self) -> None:
        """Leave the shop."""
        self._session = None
        super().close()


def query_of(text: str) -> str:
    """A text as it can stand in a search action: without brackets and line breaks."""
    return " ".join(re.sub(r"[\[\]]", " ", text).split()) or "?"


def _can_be_clicked(name: str) -> bool:
    """Whether a click action can say that name, and its text comes back from lower-casing as it went."""
    said = bool(name) and not re.search(r"[\[\n]", name) and not CONTROL.search(name)
    return said and name.lower() == name and name != "search"


class Oracle:
    """Knows the goal's product: finds it by the best query, chooses the goal's options, and buys it."""

    privileged = True

    def __init__(self, session: Session) -> None:
        """An oracle for the session, in whatever state it is."""
        self._session = session
        self._plan: tuple[str, int] | None = None

    def act(self, observation: str, info: Mapping[str, Any]) -> str | None:
        """The next action from the present state."""
        state = self._session.state
        if state.page == "done":
            return None
        if self._plan is None:
            self._plan = self._choose()
        query, target = self._plan
        if state.page == "search":
            return f"search[{query}]"
        if state.page == "results":
            shown = {product.asin for product in self._session.shown()}
            asin = self._session.catalogue.product(target).asin
            if asin in shown:
                return f"click[{asin.lower()}]"
            if " ".join(state.keywords) == query.lower() and shown:
                return "click[next >]"
            return f"search[{query}]"
        if state.item != target or state.page != "item":
            return "click[< prev]"
        for name, value in wanted_options(self._session.product, self._session.goal):
            kind, option = self._session.view.clickable[value]
            if kind == LABEL and option == name and dict(state.chosen).get(name) != value:
                return f"click[{value}]"
        return "click[buy now]"

    def _choose(self) -> tuple[str, int]:
        """The query that shows the goal's product earliest; failing that, the best product of those found."""
        session, goal = self._session, self._session.goal
        queries = [
            goal.name,
            goal.instruction,
            f"{goal.name} {goal.query}",
            f"{goal.query} {goal.name} {goal.asin}",
        ]
        target = session.catalogue.number(goal.asin)
        places, others = [], []
        for query in dict.fromkeys(map(query_of, queries)):
            found = session.catalogue.search(query.lower())
            if target in found:
                places.append((found.index(target) // PER_PAGE, query))
            others += [(number, query) for number in found]
        if places and target is not None:
            return min(places)[1], target
        if not others:
            return query_of(goal.query), -1

        def worth(pair: tuple[int, str]) -> float:
            return session.product_reward(pair[0])

        number, query = max(others, key=worth)
        return query, number


def wanted_options(product: Product, goal: Goal) -> list[tuple[str, str]]:
    """(option name, value) of a product for each option of a goal: that value, else one that counts as it."""
    offered = [(name, v) for name, values in product.options.items() for v in values if _can_be_clicked(v)]
    if isinstance(goal.options, dict):
        return [pair for pair in goal.options.items() if pair in offered]
    wanted: dict[str, str] = {}
    for value in goal.options:
        free = [(n, v) for n, v in offered if n not in wanted and (v == value or same_option(v, value))]
        if free:
            name, chosen = min(free, key=lambda pair: pair[1] != value)
            wanted[name] = chosen
    return list(wanted.items())


class Shopper:
    """Searches with the instruction, looks at the likeliest products, and buys the one that fits best.

    It goes by what the pages say: a product fits by the instruction's words in its name, by options that the
    instruction names, and by its price.
    """

    privileged = False
    looks = 3
    """Products it looks at, unless one fits in every way."""

    def __init__(self, session: Session) -> None:
        """A shopper who has just entered."""
        self._session = session
        told = session.goal.instruction.lower()
        limit = re.search(r", and price lower than ([\d.]+) dollars$", told)
        self._limit = float(limit[1]) if limit else float("inf")
        self._told = told[: limit.start()] if limit else told
        self._words = set(terms(self._told)) - _CHATTER
        self._queue: list[str] | None = None
        self._fits: dict[str, float] = {}
        self._options: dict[str, list[tuple[str, str]]] = {}

    def act(self, observation: str, info: Mapping[str, Any]) -> str | None:
        """The next action; it reads the page as the structured observation shows it."""
        page = public(self._session)
        kind = page["page"]
        if kind == "done":
            return None
        if kind == "search":
            return f"search[{query_of(self._told)}]"
        if kind == "results":
            if self._queue is None:
                self._queue = self._likeliest(page["products"])
            if not self._queue and not self._fits:
                return "click[back to search]"
            return f"click[{self._queue[0] if self._queue else self._best()}]"
        if kind != "item":
            return "click[< prev]"
        name = page["id"].lower()
        if name not in self._fits:
            self._judge(name, page)
            if self._queue and name in self._queue:
                self._queue.remove(name)
        if self._fits[name] >= _PERFECT:
            self._queue = []
        if self._queue or name != self._best():
            return "click[< prev]"
        for option, value in self._options[name]:
            if page["chosen"].get(option) != value:
                return f"click[{value}]"
        return "click[buy now]"

    def _best(self) -> str:
        return max(self._fits, key=self._fits.__getitem__)

    def _likeliest(self, products: list[dict[str, str]]) -> list[str]:
        """Ids of the products to look at, in order."""
        scored = []
        for place, product in enumerate(products):
            affordable = _lowest(product["price"]) <= self._limit
            scored.append((affordable, self._share(product["name"]) - 0.03 * place, product["id"].lower()))
        scored.sort(key=lambda found: (-found[0], -found[1]))
        return [name for _, _, name in scored[: self.looks]]

    def _share(self, text: str) -> float:
        """Share of the instruction's words that a text has."""
        return len(self._words & set(terms(text))) / max(len(self._words), 1)

    def _judge(self, name: str, page: dict[str, Any]) -> None:
        chosen, named, covered = [], 0, set(terms(page["name"]))
        for option, values in page["options"].items():
            value, sure = self._value_for(option, values)
            if value is not None:
                chosen.append((option.lower(), value))
                covered |= set(terms(f"{option} {value}"))
                named += sure
        asked = len(re.findall(r"(?:with|and) [\w ]+: ", self._told))
        fit = len(self._words & covered) / max(len(self._words), 1) + 0.5 * named
        if asked and named >= asked:
            fit += _PERFECT
        if _lowest(page["price"]) > self._limit:
            fit -= 0.3
        self._fits[name], self._options[name] = fit, chosen

    def _value_for(self, option: str, values: list[str]) -> tuple[str | None, bool]:
        """The value of an option that the instruction asks for, and whether it says so word for word."""
        values = [value for value in values if _can_be_clicked(value)]
        literal = [v for v in values if re.search(rf"{re.escape(f'{option}: {v}')}(?:, and |$)", self._told)]
        if literal:
            return max(literal, key=len), True
        inside = [v for v in values if re.search(rf"(?<!\w){re.escape(v)}(?!\w)", self._told)]
        if inside:
            return max(inside, key=len), False
        shares = [(len(words & self._words) / len(words), v) for v in values if (words := set(terms(v)))]
        share, value = max(shares, default=(0.0, ""), key=lambda found: found[0])
        return (value, False) if share >= 0.5 else (None, False)


_PERFECT = 10.0
_CHATTER = set(
    terms("find me i am looking for need want would like buy with and price lower than dollars that is in")
)


def _lowest(price: str) -> float:
    """The lowest price of a price text."""
    found = re.search(r"\d+(?:\.\d+)?", price)
    return float(found[0]) if found else 0.0
