"""WebShop's pages and actions: what `WebAgentTextEnv` (princeton-nlp/WebShop, MIT) shows, without its HTML.

A page is the list of its visible texts and what can be clicked. Oddities are kept where they can be seen in
an episode; each is named where it happens.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from prosegym.envs.webshop.catalogue import Catalogue, Goal, Product
from prosegym.envs.webshop.nouns import Tagger
from prosegym.envs.webshop.reward import Reward, product_reward, with_options

BASE = "http://127.0.0.1:3000"
PER_PAGE = 10
SUB_PAGES = {name.lower(): name for name in ("Description", "Features", "Reviews", "Attributes")}
PAGE_NAMES = ("search_results", "item_page", "item_sub_page", "done")

TEXT, BUTTON, LABEL, LINK = range(4)

_HTML_SPACE = " \n\t\f\r"


class State(NamedTuple):
    """Where a session stands; never changed, only replaced."""

    page: str
    """search, results, item, done, or the name of a sub-page."""
    url: str
    keywords: tuple[str, ...] = ()
    number: int = 0
    """Which page of the results, from 1; an oddity can make it 0."""
    item: int | None = None
    """The product looked at."""
    chosen: tuple[tuple[str, str], ...] = ()
    """(option name, value), in the order of first choice."""
    seen: frozenset[str] = frozenset()
    """Ids of the products looked at since the last visit to the search page."""
    reward: float = 0.0


class View(NamedTuple):
    """What a state shows."""

    texts: list[tuple[int, str]]
    """Kind and text of everything visible, from top to bottom."""
    clickable: dict[str, tuple[int, str]]
    """What can be clicked: its lower-case text, its kind, and for an option the option's name."""


class Session:
    """One customer with one goal."""

    def __init__(self, catalogue: Catalogue, goal: Goal, name: str, tagger: Tagger) -> None:
        """Enter the shop.

        Args:
            catalogue: what it sells.
            goal: what is to be bought.
            name: the session's id, part of every url.
            tagger: finds the nouns of titles, for the reward.
        """
        self.catalogue, self.goal, self._name, self._tagger = catalogue, goal, name, tagger
        self._found: dict[tuple[str, ...], list[int]] = {}
        self._rewards: dict[int, Reward] = {}
        self.state = State("search", f"{BASE}/{name}")
        self._viewed: tuple[State, View] | None = None

    @property
    def view(self) -> View:
        """What the present state shows."""
        if self._viewed is None or self._viewed[0] is not self.state:
            self._viewed = self.state, self._view(self.state)
        return self._viewed[1]

    @property
    def product(self) -> Product:
        """The product looked at."""
        assert self.state.item is not None
        return self.catalogue.product(self.state.item)

    def reward(self) -> float:
        """What buying the product looked at, with the options chosen, earns; 0 where none is looked at."""
        if self.state.item is None:
            return 0.0
        base = self._reward_of(self.state.item)
        return with_options(base, self.goal, (value for _, value in self.state.chosen)).total

    def product_reward(self, number: int) -> float:
        """What buying a product, without options, would earn."""
        return self._reward_of(number).total

    def _reward_of(self, number: int) -> Reward:
        if number not in self._rewards:
            self._rewards[number] = product_reward(self.catalogue.product(number), self.goal, self._tagger)
        return self._rewards[number]

    def do(self, action: str) -> bool:
        """Do `search[...]` or `click[...]`; False, and nothing changed, where it means nothing here."""
        verb, argument = parts_of(action)
        if verb == "search":
            return self._search(tuple(argument.split(" ")), 1)
        if verb == "click" and argument != "search" and argument in self.view.clickable:
            return self._click(argument, *self.view.clickable[argument])
        return False

    def _search(self, keywords: tuple[str, ...], number: int) -> bool:
        """Show a page of results; it forgets the product and the options."""
        if self._results(keywords) is None:
            return False
        url = f"{BASE}/search_results/{self._name}/{'+'.join(keywords)}/{number}"
        self.state = State("results", url, keywords, number, seen=self.state.seen)
        return True

    def _results(self, keywords: tuple[str, ...]) -> list[int] | None:
        """Numbers of the products that are found; None where WebShop's server would fail."""
        if keywords not in self._found:
            found = self._look_up(keywords)
            if found is None:
                return None
            if len(self._found) >= 8:
                self._found.clear()
            self._found[keywords] = found
        return self._found[keywords]

    def _look_up(self, keywords: tuple[str, ...]) -> list[int] | None:
        first, rest = keywords[0], " ".join(keywords[1:]).strip()
        if first == "<r>":  # any 50 products; WebShop draws them anew each time, here they are the goal's own
            count = len(self.catalogue)
            return random.Random(self.goal.instruction).sample(range(count), 50) if count >= 50 else None
        if first == "<a>":
            return None
        if first == "<c>":
            return self.catalogue.having("category", keywords[1].strip()) if len(keywords) > 1 else None
        if first == "<q>":
            return self.catalogue.having("query", rest)
        return self.catalogue.search(" ".join(keywords))

    def _click(self, name: str, kind: int, option: str) -> bool:
        state = self.state
        # Oddity: the page is told from the url, in which a search for "item_page" stands, too.
        page = next((page for page in PAGE_NAMES if page in state.url), "")
        if name == "buy now":
            reward = self.reward()
            url = f"{BASE}/done/{self._name}/{self.product.asin}/{dict(state.chosen)}"
            self.state = state._replace(page="done", url=url, reward=reward)
        elif name == "back to search":
            self.state = State("search", f"{BASE}/{self._name}")
        elif name == "next >" and page == "search_results":
            return self._search(state.keywords, state.number + 1)
        elif name == "< prev" and page == "search_results":
            return self._search(state.keywords, state.number - 1)
        elif name == "< prev" and page == "item_page":
            return self._search(state.keywords, state.number)
        elif name == "< prev" and page == "item_sub_page":
            self._show_item(state)
        elif name in SUB_PAGES:  # also where an option has that value
            url = (
                f"{BASE}/item_sub_page/{self._name}/{self.product.asin}/{'+'.join(state.keywords)}/"
                f"{state.number}/{SUB_PAGES[name]}/{dict(state.chosen)}"
            )
            self.state = state._replace(page=name, url=url)
        elif kind == LINK:
            number = self.catalogue.number(name.upper())
            self._show_item(state._replace(item=number, seen=state.seen | {name.upper()}))
        elif kind == LABEL:
            self._show_item(
                state._replace(chosen=tuple((dict(state.chosen) | {option.lower(): name}).items()))
            )
        else:
            self._show_item(state)
        return True

    def _show_item(self, state: State) -> None:
        assert state.item is not None
        asin = self.catalogue.product(state.item).asin
        chosen = json.dumps(dict(state.chosen))
        url = f"{BASE}/item_page/{self._name}/{asin}/{'+'.join(state.keywords)}/{state.number}/{chosen}"
        self.state = state._replace(page="item", url=url)

    def shown(self) -> list[Product]:
        """The products on the page of results."""
        found, number = self._results(self.state.keywords) or [], self.state.number
        numbers = found[(number - 1) * PER_PAGE : number * PER_PAGE]
        return [self.catalogue.product(n) for n in numbers]

    def total(self) -> int:
        """How many products the search has found."""
        return len(self._results(self.state.keywords) or [])

    # What the pages show.

    def _view(self, state: State) -> View:
        if state.page == "search":
            told = [
                (TEXT, "WebShop"),
                (TEXT, "Instruction: "),
                (TEXT, self.goal.instruction),
                (BUTTON, "Search"),
            ]
            return View(_visible(told), {"search": (BUTTON, "")})
        if state.page == "done":
            return View(_visible(self._receipt()), {})
        texts = [(TEXT, "Instruction:"), (TEXT, self.goal.instruction), (BUTTON, "Back to Search")]
        if state.page == "results":
            texts.append((TEXT, f"Page {state.number} (Total results: {self.total()})"))
            texts += [(BUTTON, "< Prev")] * (state.number > 1)
            texts.append((BUTTON, "Next >"))
            for product in self.shown():
                texts += [(LINK, product.asin), (TEXT, product.name), (TEXT, product.price_text)]
        else:
            texts.append((BUTTON, "< Prev"))
            texts += self._item() if state.page == "item" else self._sub_page(state.page)
        clickable = {text.lower(): (kind, "") for kind, text in texts if kind == BUTTON}
        clickable |= {text.lower(): (kind, "") for kind, text in texts if kind == LINK and self._leads(text)}
        if state.page == "item":  # oddity: where two options have the same value, the last one is clicked
            clickable |= {v: (LABEL, name) for name, values in self.product.options.items() for v in values}
        return View(_visible(texts), clickable)

    def _leads(self, asin: str) -> bool:
        """Whether the link to a product leads somewhere: the original looks its id up in capitals."""
        capitals = asin.upper()
        return asin == capitals or self.catalogue.number(capitals) is not None

    def _item(self) -> list[tuple[int, str]]:
        product = self.product
        texts = []
        for name, values in product.options.items():
            texts.append((TEXT, name))
            texts += [(LABEL, value) for value in values]
        texts += [(TEXT, product.name), (TEXT, f"Price: {product.price_text}"), (TEXT, "Rating: N.A.")]
        return texts + [(BUTTON, name) for name in ("Description", "Features", "Reviews", "Buy Now")]

    def _sub_page(self, page: str) -> list[tuple[int, str]]:
        product = self.product
        if page == "description":
            return [(TEXT, product.description)]
        if page == "features":
            return [(TEXT, f" {bullet}") for bullet in product.bullets]
        if page == "attributes":  # reached only through an option of that value
            told = [
                *(f" {a}" for a in product.attributes),
                product.category,
                product.query,
                product.product_category,
            ]
            return [(TEXT, text) for text in told]
        return []  # WebShop ships no reviews

    def _receipt(self) -> list[tuple[int, str]]:
        chosen = json.dumps(dict(self.state.chosen), sort_keys=True)
        for character in "<>&'":
            chosen = chosen.replace(character, f"\\u{ord(character):04x}")
        texts = [
            "Thank you for shopping with us!", "Your code: ", "None", " (Paste it in your MTurk interface.)",
            "Purchased", "asin", self.product.asin, "options", chosen, "attrs", "None", "category", "None",
            "query", "None", "product category", "None", "Target", "asin", "options", "attrs", "price upper",
            "instuction text", "category", "product category", "query", "Goal ", "None", "Reward",
            "Your score (min 0.0, max 1.0)", str(self.state.reward), "Reward Details ", "None",
        ]  # fmt: skip
        return [(TEXT, text) for text in texts]


def parts_of(action: str) -> tuple[str, str]:
    """An action's verb and its argument, in lower case; two empty texts where it has no such parts."""
    # As the original's re.match(r"(.+)\[(.+)\]", action), whose time is quadratic in the action's length.
    line = action.partition("\n")[0]  # oddity: what follows the last bracket is ignored
    close = line.rfind("]")
    start = line.rfind("[", 1, max(close - 1, 0))
    return (line[:start], line[start + 1 : close].lower()) if start > 0 else ("", "")


def _visible(texts: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """What is left of the texts by an HTML parser: of mere space, nothing or one space."""
    kept = []
    for kind, text in texts:
        if text.strip(_HTML_SPACE):
            kept.append((kind, text))
        elif text and "\n" not in text:
            kept.append((kind, " "))
    return kept


# Observation modes.


def as_text(session: Session) -> str:
    """The visible texts, one after the other (WebShop's mode `text`)."""
    return " [SEP] ".join(text.strip() for _, text in session.view.texts)


def as_rich_text(session: Session) -> str:
    """The visible texts with their buttons, and what has been clicked (WebShop's mode `text_rich`)."""
    url, seen = session.state.url, session.state.seen
    clicked, lines = "", []
    for kind, text in session.view.texts:
        if kind == BUTTON:
            lines.append(f"[button] {text} [button_]\n")
        elif kind == LABEL:
            # Oddities: looked for in the url as JSON, where quotes and non-ASCII letters are escaped, and
            # where an option's name or a quoted word of the query counts, too.
            if f'"{text}"' in url:
                lines.append(f"  [clicked button] {text} [clicked button_]\n")
                clicked = f"You have clicked {text}.\n{clicked}"
            else:
                lines.append(f"  [button] {text} [button_]\n")
        elif kind == LINK:
            lines.append(
                f"\n[{'clicked ' * (text in seen)}button] {text} [{'clicked ' * (text in seen)}button_]\n"
            )
        else:
            lines.append(f"{text}\n")
    return clicked + "".join(lines)


def public(session: Session) -> dict[str, Any]:
    """What the page says, as data."""
    state = session.state
    page: dict[str, Any] = {"page": state.page}
    if state.page != "done":
        page["instruction"] = session.goal.instruction
    if state.page == "results":
        page["number"], page["total"] = state.number, session.total()
        page["products"] = [{"id": p.asin, "name": p.name, "price": p.price_text} for p in session.shown()]
    elif state.page == "item":
        product = session.product
        page |= {"id": product.asin, "name": product.name, "price": product.price_text}
        page |= {"options": product.options, "chosen": dict(state.chosen)}
    elif state.page == "done":
        page |= {"id": session.product.asin, "chosen": dict(state.chosen), "reward": state.reward}
    elif state.page != "search":
        page["id"] = session.product.asin
        page["texts"] = [text.strip() for _, text in session.view.texts[4:]]
    page["buttons"] = [text for kind, text in session.view.texts if kind == BUTTON]
    return page


def as_data(session: Session) -> str:
    """What the page says, as JSON."""
    return json.dumps(public(session), ensure_ascii=False)


OBSERVATIONS: dict[str, Callable[[Session], str]] = {
    "text": as_text,
    "text_rich": as_rich_text,
    "structured": as_data,
}
"""Observation modes."""
